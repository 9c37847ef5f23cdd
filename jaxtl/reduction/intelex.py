"""t-SNE on a CPU by oneDAL, the library behind Intel's extension for scikit-learn.

The extension's own class takes one learning rate for both phases and forms affinities of its own. So its
kernel is called here as that class calls it (tried: scikit-learn-intelex 2026.2), with the affinities,
start and phases of openTSNE's backend. Nothing of scikit-learn is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.progress import Progress
from jaxtl.records.arrays import Neighbors
from jaxtl.reduction.divergence import measure_divergence
from jaxtl.reduction.parameters import check_few_components, versions
from jaxtl.reduction.tsne import FIXED_AFFINITY, Begun, begin

# oneDAL divides half a cell's width by the distance, where others take the whole: this is what they call 0.5.
# Above 0.35 a point could be pushed away by the middle of its own cell.
_THETA = 0.25
# oneDAL's gradient has the definition's factor of 4, which openTSNE's learning rates are to make good.
_FACTOR = 4
# Iterations in one call, which keeps the interpreter's lock. Each call begins without momentum, with small
# gains, and with the normaliser as it then is.
_TOGETHER = 125
# Pairs by which the normaliser is estimated, to half a percent or better, and rows at least.
_PAIRS, _ROWS = 1_000_000, 16
# oneDAL writes the top of its tree, up to 1365 nodes, into memory for 1024. Two more points, so many times as
# far away as the map is wide, keep the map in a few cells at the top; nothing draws them, and their push is
# less than rounding.
_FAR, _FAR_AT_LEAST = 1e3, 1e3
_PLACES = np.array([[-1.0, -1.0], [2.0, 2.0]])
# Of the learning rate that is usual: a map that explodes within a call would leave these two behind.
_FASTEST = 10.0
# What its 32-bit numbers hold.
_MOST_AFFINITIES = 2**31 - 1
# Of repulsion; where there is hardly any, points are too far apart to move.
_LEAST = 1e-3
# oneDAL's second phase, which is all that is asked of it, has a momentum of 0.8.
_FIXED_DESCENT = {"dof": 1, "theta": _THETA, "momentum": 0.8, "iterations_together": _TOGETHER}
_REMEDY = "take --backend opentsne"


# Over 60 lines by what a user can set: each parameter stands in the signature and in the docstring.
def intelex_tsne(
    values: np.ndarray,
    progress: Progress | None,
    known_neighbors: Neighbors | None = None,
    start: np.ndarray | None = None,
    *,
    perplexity: float = 30.0,
    initialization: str = "pca",
    learning_rate: float | str = "auto",
    early_exaggeration: float = 12.0,
    early_exaggeration_iter: int = 250,
    exaggeration: float = 1.0,
    n_iter: int = 500,
    neighbors: str = "auto",
    n_jobs: int = -1,
    n_components: int = 2,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """t-SNE (van der Maaten & Hinton 2008) by oneDAL, with Barnes-Hut trees (van der Maaten 2014).

    Arguments and diagnostics are those of `jaxtl.reduction.tsne.opentsne`, but for these:

    Args:
        n_components: 2, as oneDAL has no other.
        n_jobs: threads that look for neighbours and a start; -1 takes all cores. The descent has one, since
            oneDAL's result depends on their number.

    Raises JaxtlError where oneDAL cannot be imported, or gives up.
    """
    check_few_components("tsne (intelex)", n_components, (2,), f"; {_REMEDY}")
    begun = begin(
        values,
        known_neighbors,
        start,
        perplexity=perplexity,
        initialization=initialization,
        learning_rate=learning_rate,
        early_exaggeration=early_exaggeration,
        early_exaggeration_iter=early_exaggeration_iter,
        exaggeration=exaggeration,
        n_iter=n_iter,
        neighbors=neighbors,
        n_jobs=n_jobs,
        n_components=n_components,
        seed=seed,
    )
    _check(len(values), begun)
    coords = _descend(begun, progress)
    params = {
        **begun.used,
        "negative_gradient_method": "bh",
        **FIXED_AFFINITY,
        **_FIXED_DESCENT,
        "n_jobs": int(n_jobs),
        "dtype": "float64",
        "seed": int(seed),
        "versions": versions("scikit-learn-intelex", "openTSNE", "scikit-learn", "numpy"),
    }
    divergence = _divergence(coords, begun.affinities) if np.isfinite(coords).all() else np.nan
    return coords, params, {"kl_divergence": divergence}


def _check(n: int, begun: Begun) -> None:
    if begun.affinities.P.nnz > _MOST_AFFINITIES:
        raise JaxtlError(f"tsne (intelex): {n:,} rows have more neighbours than oneDAL can count; {_REMEDY}")
    for phase in begun.phases:
        most = _FASTEST * n / phase["exaggeration"]
        if phase["learning_rate"] > most:
            raise JaxtlError(f"tsne (intelex): learning_rate must be at most {most:g} here; {_REMEDY}")


def _descend(begun: Begun, progress: Progress | None) -> np.ndarray:
    coords = np.array(begun.start, np.float64)
    affinities = begun.affinities.P
    if not np.isfinite(affinities.data).all():
        return np.full_like(coords, np.nan)
    total, done = sum(phase["n_iter"] for phase in begun.phases), 0
    with _one_thread() as onedal:
        for phase in begun.phases:
            for count in _pieces(phase["n_iter"]):
                coords = _moved(onedal, coords, affinities, count, **phase)
                if not np.isfinite(coords).all():
                    return coords
                done += count
                if progress:
                    progress(done / total)
    return coords


def _pieces(count: int) -> Iterator[int]:
    for begun in range(0, count, _TOGETHER):
        yield min(_TOGETHER, count - begun)


def _moved(
    onedal: Any,
    coords: np.ndarray,
    affinities: Any,
    count: int,
    exaggeration: float,
    learning_rate: float,
    n_iter: int,
) -> np.ndarray:
    """Coordinates [n, 2] after so many iterations, about their mean."""
    from scipy.sparse import csr_matrix

    n, more = len(coords), len(_PLACES)
    # oneDAL counts each point as a neighbour of itself, so that repulsion is too weak by this.
    whole = _normaliser(coords)
    weak = max((whole - n) / (whole + more), _LEAST)
    far = max(_FAR * float(np.ptp(coords, axis=0).max()), _FAR_AT_LEAST)
    moving = np.concatenate([coords, far * _PLACES])
    rows = np.concatenate([affinities.indptr, np.repeat(affinities.indptr[-1:], more)])
    data = affinities.data * (exaggeration * weak)
    attraction = csr_matrix((data, affinities.indices, rows), shape=(n + more, n + more))
    _run(onedal, moving, attraction, count, learning_rate / (_FACTOR * weak))
    coords = moving[:n]
    return coords - coords.mean(axis=0)


def _normaliser(coords: np.ndarray) -> float:
    """The sum of 1 / (1 + d^2) over all pairs of coordinates [n, 2], each with itself too, by some rows."""
    n = len(coords)
    rows = np.linspace(0, n - 1, min(n, max(_ROWS, _PAIRS // n))).astype(int)
    total = 0.0
    for some in np.array_split(rows, -(-len(rows) * n // _PAIRS)):
        near = np.ones((len(some), n))
        for axis in coords.T:
            near += np.square(axis[some, None] - axis)
        total += float(np.reciprocal(near, out=near).sum())
    return total * n / len(rows)


@contextmanager
def _one_thread() -> Iterator[Any]:
    """oneDAL, which inside takes the thread that calls it."""
    try:
        import daal4py
    except (ImportError, OSError) as error:
        told = " ".join(str(error).split())[:200]
        raise JaxtlError(
            f"tsne (intelex): cannot be imported ({told}); install it again, or {_REMEDY}"
        ) from None
    threads = daal4py.num_threads()
    daal4py.daalinit(1)
    try:
        yield daal4py
    finally:
        daal4py.daalinit(threads)


def _run(onedal: Any, coords: np.ndarray, attraction: Any, count: int, learning_rate: float) -> None:
    """So many iterations on coordinates [n, 2], in place."""
    # Points, stored affinities, iterations without progress after which to stop (never), iterations, how many
    # of them with exaggeration, and after how many to look at progress.
    sizes = len(coords), attraction.nnz, count, count, 0, count + 1
    # Exaggeration, learning rate, norm of the gradient at which to stop (never), theta.
    rates = 1.0, learning_rate, -1.0, _THETA
    given = (np.array(numbers, np.float64)[:, None] for numbers in (sizes, rates))
    found = np.full((3, 1), -1.0)
    try:
        onedal.daal_tsne_gradient_descent(coords, attraction, *given, found, 0)
    except (MemoryError, RuntimeError, AttributeError, TypeError) as error:  # the latter of another version
        raise JaxtlError(
            f"tsne (intelex): oneDAL gave up ({error or type(error).__name__}); {_REMEDY}"
        ) from None
    # Other errors it does not tell; then it leaves this as it was.
    if found[0, 0] != count - 1:
        raise JaxtlError(f"tsne (intelex): oneDAL gave up, often for want of memory; {_REMEDY}")


def _divergence(coords: np.ndarray, affinities: Any) -> float:
    from openTSNE import TSNEEmbedding

    embedding = TSNEEmbedding(coords.copy(), affinities)
    measure_divergence(embedding)
    return float(embedding.kl_divergence)
