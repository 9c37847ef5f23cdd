"""The scaling study: what a map costs and what it is worth as the number of images grows."""
