"""Locally linear embedding: scikit-learn's results, on all cores of a CPU or on JAX's device."""

from jaxtl.methods import METHODS

# Beyond, a CPU takes dense fronts; up to here SuperLU's factors, whose results are kept to the last bit.
SPARSE_UP_TO = METHODS["lle"].changes["jaxtl"]
