"""The memory that an embedding will take on a CPU, from the shape of its features and its parameters alone.

Terms are the arrays that are there at the peak, counted in the libraries' own code; the constants of sparse
factors are those of the reference curves (`jaxtl/assets/reference.json`), with a margin.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.lle import SPARSE_UP_TO, dissects
from jaxtl.machine.memory import available_memory, largest_count, spoken_bytes
from jaxtl.methods import METHODS
from jaxtl.ranges import LARGEST_WHOLE, Range
from jaxtl.reduction.landmarks import PIECE as PLACED
from jaxtl.reduction.pca import PIECE, exact_solver
from jaxtl.reduction.tsne import EXACT_NEIGHBORS_UP_TO, GIVEN

_ANY = Range(0, LARGEST_WHOLE)
# Parameters that every backend has.
_OF_ALL = {"n_components", "seed"}
_DOUBLE = 8
# Libraries, their threads' stacks, and blocks of rows that are looked at one after another.
_FIXED = 32 * 2**20
# Sides of a square matrix that LAPACK's divide and conquer takes beside the eigenvectors.
_EIGH, _EIGH_SOME, _SVD = 5, 2, 6
# Bytes by n^2 of dense fronts with the largest: of I - W in float32 by METIS's order (0.07 n^2 numbers
# at 20,000, and 0.06 at 40,000) and by minimum degree's (0.10), and at most of M in float64.
_FRONTS_DISSECTED, _FRONTS_ROOT, _FRONTS_WHOLE = 0.7, 1.5, 8
# Entries of LU factors of LLE's matrices by n^1.5: of I - W, of M as scikit-learn factorises it.
_LU_ROOT, _LU_WHOLE = 24, 42
# Bytes of a sparse entry: its number and its column.
_ENTRY = 12


def needed(method: str, backend: str, shape: tuple[int, int], params: Mapping[str, Any] = {}) -> int:
    """Bytes that an embedding of features [n, d] takes beside these.

    Args:
        params: of the method, as users give them; what is left out has its default.
    """
    n, d = shape
    landmarks = params.get("landmarks")
    if landmarks is not None and landmarks < n:
        some = {name: value for name, value in params.items() if name != "landmarks"}
        placing = 4 * PLACED * 3 * d + 2 * _DOUBLE * n * _components(params)
        return needed(method, backend, (landmarks, d), some) + 4 * landmarks * d + placing
    own = {
        ("pca", "sklearn"): _pca,
        ("pca", "jaxtl"): _streamed_pca,
        ("tsne", "opentsne"): _tsne,
        ("tsne", "intelex"): _tsne,
        ("lle", "jaxtl"): _own_lle,
        ("lle", "sklearn"): _sklearn_lle,
    }.get((method, backend))
    return _FIXED + (own(n, d, params) if own else 0) + _DOUBLE * n * _components(params)


def check(method: str, backend: str, shape: tuple[int, int], params: Mapping[str, Any] = {}) -> None:
    """Raises JaxtlError, with the rows that fit, where an embedding would take more memory than is free."""
    need, free = needed(method, backend, shape, params), available_memory()
    if need <= free:
        return
    n, d = shape
    fewer = largest_count(lambda rows: needed(method, backend, (rows, d), params), n, free)
    some = {name: value for name, value in params.items() if name != "landmarks"}
    landmarks = largest_count(lambda m: needed(method, backend, shape, {**some, "landmarks": m}), n - 1, free)
    ways = [f"take at most {fewer:,} rows"] * (fewer >= 3)
    if method == "tsne" and "perplexity" in params:
        least = partial(_with_perplexity, method, backend, shape, params)
        perplexity = largest_count(least, int(_number(params, "perplexity", 30)) - 1, free)
        ways = [f"take a perplexity of at most {perplexity:,}"] * (perplexity >= 1) or ways
    ways += [f"landmarks of at most {landmarks:,}"] * (landmarks >= 3)
    streamed = [name for name in METHODS[method].streamed if needed(method, name, shape) <= free]
    ways += [f"backend {name}, which reads them piece by piece" for name in streamed if name != backend]
    raise JaxtlError(
        f"{method} by {backend}: features [{n}, {d}] would take {spoken_bytes(need)} of memory beside "
        f"themselves, and {spoken_bytes(free)} are free; {' or '.join(ways) or 'take fewer columns'}"
    )


def fitting(method: str, backend: str, shape: tuple[int, int], params: Mapping[str, Any] = {}) -> str:
    """The backend, or one that reads features piece by piece, where they would not fit into memory by that.

    Args:
        params: as of `needed`; with those of one backend's own it is that one.
    """
    free = available_memory()
    if params.keys() - _OF_ALL or needed(method, backend, shape, params) <= free:
        return backend
    others = (name for name in METHODS[method].streamed if needed(method, name, shape, params) <= free)
    return next(others, backend)


def _with_perplexity(
    method: str, backend: str, shape: tuple[int, int], params: Mapping[str, Any], perplexity: int
) -> int:
    return needed(method, backend, shape, {**params, "perplexity": perplexity})


def _components(params: Mapping[str, Any]) -> int:
    return int(_number(params, "n_components", 2))


def _number(params: Mapping[str, Any], name: str, usual: float) -> float:
    # What is none, or out of all range, the method itself refuses.
    return params[name] if params.get(name) in _ANY else usual


def _pca(n: int, d: int, params: Mapping[str, Any]) -> int:
    solver = params.get("svd_solver", "auto")
    # Before it begins, while their middle is looked for, rows are there twice.
    return max(_DOUBLE * 2 * n * d, _decomposed(n, d, exact_solver((n, d)) if solver == "auto" else solver))


def _decomposed(n: int, d: int, solver: str) -> int:
    """Of scikit-learn's own work, in float64."""
    rows = n * d
    if solver == "covariance_eigh":
        return _DOUBLE * (rows + _EIGH * d * d)
    if solver == "full":
        # About the mean, singular vectors of either side and with their signs, and LAPACK's own copy.
        return _DOUBLE * (5 * rows + _SVD * min(n, d) ** 2)
    return _DOUBLE * 2 * rows


def _streamed_pca(n: int, d: int, params: Mapping[str, Any]) -> int:
    return _DOUBLE * (2 * PIECE + _EIGH_SOME * min(n, d) ** 2)


def _tsne(n: int, d: int, params: Mapping[str, Any]) -> int:
    k = int(3 * _number(params, "perplexity", 30))
    # Neighbours with distances, affinities, and what makes them symmetric: both ways, and the sum of these.
    graph = n * k * (2 * 8 + 2 * _ENTRY + 3 * 2 * _ENTRY)
    how = params.get("neighbors", "auto")
    annoy = how == "annoy" or (how == "auto" and n > EXACT_NEIGHBORS_UP_TO)
    # Rows about their mean; Annoy's own copies of them in its trees.
    search = 0 if how == GIVEN else 4 * n * d * (3 if annoy else 1)
    start = 0
    if params.get("initialization", "pca") == "pca":
        streamed = n > EXACT_NEIGHBORS_UP_TO
        start = _streamed_pca(n, d, params) if streamed else _decomposed(n, d, exact_solver((n, d)))
    # Of each point in a tree or a grid, and of the descent.
    return max(search + graph, start + graph) + 1000 * n


def _own_lle(n: int, d: int, params: Mapping[str, Any]) -> int:
    k, solver = int(_number(params, "n_neighbors", 12)), params.get("solver", "auto")
    rows, weights = 4 * n * d, n * k * (2 * _ENTRY + 16)
    fronts = _FRONTS_DISSECTED if dissects() else _FRONTS_ROOT
    if params.get("variant", "standard") == "modified":
        weights += n * k * k * _ENTRY * 2
        fronts = _FRONTS_WHOLE
    if solver == "dense":
        return rows + weights + _DOUBLE * n * n
    if solver == "eigh":
        # M, LAPACK's copy and all eigenvectors.
        return rows + weights + 3 * _DOUBLE * n * n
    if solver == "multifrontal" or (solver == "auto" and n > SPARSE_UP_TO):
        return rows + weights + int(fronts * n * n)
    return rows + weights + int(_LU_ROOT * n**1.5) * _ENTRY


def _sklearn_lle(n: int, d: int, params: Mapping[str, Any]) -> int:
    k, solver = int(_number(params, "n_neighbors", 12)), params.get("eigen_solver", "auto")
    # Weights, and their products.
    rows, weights = _DOUBLE * n * d, n * k * k * _ENTRY
    if solver == "dense" or (solver == "auto" and n <= 200):
        # M, which LAPACK works in.
        return rows + weights + _DOUBLE * n * n
    return rows + weights + int(_LU_WHOLE * n**1.5) * _ENTRY
