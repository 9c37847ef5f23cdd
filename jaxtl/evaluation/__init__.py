"""From features and embeddings to scores, claims and what changed."""
