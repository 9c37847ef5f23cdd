"""Locally linear embedding: scikit-learn's results, on all cores of a CPU or on JAX's device."""
