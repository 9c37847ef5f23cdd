"""The scaling study: the cost and the quality of embeddings as the number of images grows."""
