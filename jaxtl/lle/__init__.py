"""Locally linear embedding: scikit-learn's results, on all cores of a CPU or on JAX's device."""

from importlib.util import find_spec

from jaxtl.methods import METHODS

# Beyond, a CPU takes dense fronts; up to here SuperLU's factors, whose results are kept to the last bit.
SPARSE_UP_TO = METHODS["lle"].changes["jaxtl"]


def dissects() -> bool:
    """Whether METIS is installed, whose order of elimination leaves less to factorise."""
    return find_spec("pymetis") is not None
