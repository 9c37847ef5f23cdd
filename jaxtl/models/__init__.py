"""Networks as Flax NNX modules, and their weights."""
