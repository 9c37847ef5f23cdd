"""t-SNE on a CPU by oneDAL, the library behind Intel's extension for scikit-learn.

The extension's own class takes one learning rate for both phases and forms affinities of its own. So its
kernel is called here as that class calls it (scikit-learn-intelex 2025.0 to 2026.2), with the affinities,
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
_THETA = 0.25
# oneDAL's gradient has the definition's factor of 4, which openTSNE's learning rates are to make good.
_FACTOR = 4
# Iterations in one call, which keeps the interpreter's lock. Each begins with no momentum and small gains.
_TOGETHER = 50
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
    return coords, params, {"kl_divergence": _divergence(coords, begun.affinities)}


def _descend(begun: Begun, progress: Progress | None) -> np.ndarray:
    coords = np.array(begun.start, np.float64, order="C")
    total, done = sum(phase["n_iter"] for phase in begun.phases), 0
    with _one_thread() as onedal:
        for phase in begun.phases:
            attraction = (begun.affinities.P * phase["exaggeration"]).tocsr()
            for count in _pieces(phase["n_iter"]):
                _move(onedal, coords, attraction, count, phase["learning_rate"] / _FACTOR)
                coords -= coords.mean(axis=0)
                done += count
                if progress:
                    progress(done / total)
    return coords


def _pieces(count: int) -> Iterator[int]:
    for begun in range(0, count, _TOGETHER):
        yield min(_TOGETHER, count - begun)


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


def _move(onedal: Any, coords: np.ndarray, attraction: Any, count: int, learning_rate: float) -> None:
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
    except (MemoryError, RuntimeError) as error:
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
