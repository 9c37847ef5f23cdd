"""The run: a table of steps, what they share, and the loop that does them."""
