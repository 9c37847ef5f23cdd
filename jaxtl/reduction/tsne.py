"""Backends of t-distributed stochastic neighbour embedding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine import cores
from jaxtl.neighbors import exact_neighbors
from jaxtl.neighbors.middle import steady
from jaxtl.progress import Progress
from jaxtl.records.arrays import Neighbors
from jaxtl.reduction.divergence import measure_divergence
from jaxtl.reduction.parameters import (
    check_choice,
    check_few_components,
    check_jobs,
    check_number,
    versions,
)
from jaxtl.reduction.pca import exact_solver, principal_scores, streamed_pca

# Exact neighbours are the same bytes for any number of threads; Annoy's depend on it, since each thread
# grows its own trees. For 1280 features on two cores both take 41 s at n = 40,000, below that exact
# ones are faster (2.9 s against 5.9 s at 10,000). Its cost grows with n squared, but so far up as this
# it does not exceed the optimisation's by much.
EXACT_NEIGHBORS_UP_TO = 100_000
# openTSNE's own rule: Barnes-Hut trees below, interpolation with FFTs from here on.
FFT_FROM = 10_000

# openTSNE's defaults, passed explicitly so that the record tells what ran.
FIXED_AFFINITY = {"metric": "euclidean", "symmetrize": True}
_FIXED_DESCENT = {
    "dof": 1,
    "theta": 0.5,
    "n_interpolation_points": 3,
    "min_num_intervals": 50,
    "ints_in_interval": 1,
    "momentum": 0.8,
    "max_grad_norm": None,
    "max_step_norm": 5,
}
# What openTSNE's `initialization.rescale` and `jitter` have: larger starts hamper early exaggeration.
_START_DEVIATION, _START_JITTER = 1e-4, 0.01
# How a record tells that it began with coordinates that were given, or took approximate neighbours that were.
FROM_COORDS = GIVEN = "given"
_PROGRESS_EVERY = 10
# So few points are done before a second thread has woken; the result does not depend on it.
_ONE_THREAD_UP_TO = 250
# Distances of which openTSNE finds bandwidths in a few steps.
_USUAL = (1e-6, 1e6)


# Over 60 lines by what a user can set: each parameter stands in the signature and in the docstring.
def opentsne(
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
    negative_gradient_method: str = "auto",
    n_jobs: int = -1,
    n_components: int = 2,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """t-SNE (van der Maaten & Hinton 2008) by openTSNE (Policar et al. 2024, J. Stat. Softw. 109:3).

    Args:
        values: [n, d].
        progress: called with the fraction of iterations done.
        known_neighbors: 3 * perplexity or more of each, where they are known; approximate ones are taken
            where `neighbors` is "auto".
        start: coordinates [n, n_components] to begin with, instead of an initialization; they are scaled to
            a standard deviation of 1e-4 along the axis with the most, as openTSNE's `initialization.rescale`
            does, and jittered as its `jitter` does, since rows that coincide could not part.
        n_components: 2 or 3.
        perplexity: from 1 to (n - 1) / 3, as 3 * perplexity neighbours are used.
        initialization: "pca" (scaled to a standard deviation of 1e-4; Kobak & Berens 2019), "random"
            or "spectral".
        learning_rate: > 0, or "auto" for n / exaggeration of each phase (Belkina et al. 2019).
        early_exaggeration: >= 1, factor on the attraction in the first phase.
        early_exaggeration_iter: length of the first phase.
        exaggeration: >= 1, factor in the second phase.
        n_iter: length of the second phase.
        neighbors: "exact", "annoy" (approximate), or "auto": those that are known, else exact up to
            EXACT_NEIGHBORS_UP_TO rows.
        negative_gradient_method: "bh" (Barnes-Hut), "fft", in 2 dimensions alone, or "auto": there fft from
            FFT_FROM rows, else bh.
        n_jobs: threads; -1 takes all cores. It changes the result with "annoy" alone.
        seed: jitter of the initialisation, and Annoy's trees.

    Diagnostics: `kl_divergence` of the embedding without exaggeration, over the neighbours used, to
    about 2e-4, or exact where points lie on each other; not below 0.
    """
    n = len(values)
    check_choice("tsne", "negative_gradient_method", negative_gradient_method, ("auto", "bh", "fft"))
    _check_dimensions(n_components, negative_gradient_method)
    if negative_gradient_method == "auto":
        negative_gradient_method = "fft" if n >= FFT_FROM and n_components == 2 else "bh"
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
    embedding = _descend(begun, negative_gradient_method, progress)
    params = {
        **begun.used,
        "negative_gradient_method": negative_gradient_method,
        **FIXED_AFFINITY,
        **_FIXED_DESCENT,
        "n_jobs": int(n_jobs),
        "dtype": "float64",
        "seed": int(seed),
        "versions": versions("openTSNE", "scikit-learn", "numpy"),
    }
    return np.asarray(embedding), params, {"kl_divergence": float(embedding.kl_divergence)}


class Begun(NamedTuple):
    """A descent that is still to be made.

    Attributes:
        start: coordinates [n, n_components], float64.
        affinities: openTSNE's; their `P` is the joint distribution, sparse [n, n], whose sum is 1.
        phases: of each its `exaggeration`, `n_iter`, and the `learning_rate` by openTSNE's gradient, which
            is without the definition's factor of 4.
        threads: that it may take.
        used: the parameters so far, for the record.
    """

    start: np.ndarray
    affinities: Any
    phases: tuple[dict[str, float | int], ...]
    threads: int
    used: dict[str, Any]


def begin(
    values: np.ndarray,
    known_neighbors: Neighbors | None,
    start: np.ndarray | None,
    *,
    perplexity: float,
    initialization: str,
    learning_rate: float | str,
    early_exaggeration: float,
    early_exaggeration_iter: int,
    exaggeration: float,
    n_iter: int,
    neighbors: str,
    n_jobs: int,
    n_components: int,
    seed: int,
) -> Begun:
    """What comes before the descent, whoever makes it; arguments and errors as of `opentsne`."""
    n = len(values)
    _check(n, perplexity, learning_rate, initialization, neighbors)
    _check_start(n_components, values.shape[1], initialization)
    check_jobs("tsne", n_jobs)
    early = _phase(n, learning_rate, "early_exaggeration", early_exaggeration, early_exaggeration_iter)
    late = _phase(n, learning_rate, "exaggeration", exaggeration, n_iter)
    neighbors, known_neighbors = _who_finds(neighbors, known_neighbors, n, int(3 * perplexity))

    threads = cores.workers(n_jobs) if n > _ONE_THREAD_UP_TO else 1
    affinities = _affinities(values, known_neighbors, perplexity, neighbors, threads, seed)
    if start is None:
        first = _initial(values, affinities, initialization, int(n_components), seed)
    else:
        first, initialization = _scaled(start, seed), FROM_COORDS
    used = {
        "n_components": int(n_components),
        "perplexity": float(perplexity),
        "initialization": initialization,
        **_of_phases(early, late),
        "neighbors": neighbors,
        **({"recall": known_neighbors.recall} if neighbors == GIVEN else {}),
        "n_neighbors": int(3 * perplexity),
    }
    return Begun(first, affinities, (early, late), threads, used)


def _who_finds(neighbors: str, known: Neighbors | None, n: int, k: int) -> tuple[str, Neighbors | None]:
    """Whose neighbours are taken, and those that are known where it is theirs."""
    known = known if known is not None and known.indices.shape[1] >= k else None
    if neighbors == "auto" and known is not None:
        return ("exact" if known.recall is None else GIVEN), known
    if neighbors == "auto":
        return ("exact" if n <= EXACT_NEIGHBORS_UP_TO else "annoy"), None
    return neighbors, known if known is not None and known.recall is None else None


def _of_phases(early: dict[str, float | int], late: dict[str, float | int]) -> dict[str, float | int]:
    return {
        "early_exaggeration": early["exaggeration"],
        "early_exaggeration_iter": early["n_iter"],
        "early_learning_rate": early["learning_rate"],
        "exaggeration": late["exaggeration"],
        "n_iter": late["n_iter"],
        "learning_rate": late["learning_rate"],
    }


def largest_perplexity(n: int) -> float:
    """What n rows allow, to one decimal."""
    return float(np.floor((n - 1) / 3 * 10) / 10)


def check_perplexity(n: int, perplexity: float) -> None:
    """Raises JaxtlError where n rows are too few for a perplexity: it uses 3 times as many neighbours."""
    check_number("tsne", "perplexity", perplexity, low=1)
    if 3 * perplexity > n - 1:
        # openTSNE would lower the perplexity, or the neighbours that it uses, and go on.
        advice = (
            f"take perplexity of at most {largest_perplexity(n):g} or more images"
            if n >= 4
            else "take at least 4 images"
        )
        raise JaxtlError(
            f"tsne: perplexity {perplexity:g} needs {int(np.ceil(3 * perplexity)) + 1} rows, the features "
            f"have {n}; {advice}"
        )


def _check(
    n: int, perplexity: float, learning_rate: float | str, initialization: str, neighbors: str
) -> None:
    check_perplexity(n, perplexity)
    if learning_rate != "auto":
        check_number("tsne", "learning_rate (unless auto)", learning_rate, low=0, open_low=True)
    check_choice("tsne", "initialization", initialization, ("pca", "random", "spectral"))
    check_choice("tsne", "neighbors", neighbors, ("auto", "exact", "annoy"))


def _check_dimensions(n_components: Any, gradient: str) -> None:
    check_few_components("tsne", n_components, (2, 3))
    if n_components > 2 and gradient == "fft":
        raise JaxtlError(
            "tsne: negative_gradient_method fft has 2 dimensions only; take bh or n_components 2"
        )


def _check_start(n_components: int, d: int, initialization: str) -> None:
    if n_components > d and initialization == "pca":
        raise JaxtlError(
            f"tsne: features of {d} dimensions give no start in {n_components} by pca; take initialization "
            "random or n_components 2"
        )


def _phase(
    n: int, learning_rate: float | str, name: str, exaggeration: float, n_iter: int
) -> dict[str, float | int]:
    check_number("tsne", name, exaggeration, low=1)
    check_number("tsne", f"iterations of {name}", n_iter, low=0, whole=True)
    rate = n / exaggeration if learning_rate == "auto" else learning_rate
    return {"exaggeration": float(exaggeration), "n_iter": int(n_iter), "learning_rate": float(rate)}


def _affinities(
    values: np.ndarray,
    known_neighbors: Neighbors | None,
    perplexity: float,
    neighbors: str,
    n_jobs: int,
    seed: int,
) -> Any:
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    k = int(3 * perplexity)
    if neighbors != "annoy":
        if known_neighbors is None:
            known_neighbors = exact_neighbors(values, k, n_jobs=n_jobs)
        index = PrecomputedNeighbors(known_neighbors.indices[:, :k], _of_usual_size(known_neighbors, k))
        return PerplexityBasedNN(perplexity=perplexity, n_jobs=n_jobs, knn_index=index, symmetrize=True)
    return PerplexityBasedNN(
        values,
        perplexity=perplexity,
        k_neighbors=k,
        method=neighbors,
        n_jobs=n_jobs,
        random_state=seed,
        **FIXED_AFFINITY,
    )


def _of_usual_size(neighbors: Neighbors, k: int) -> np.ndarray:
    """Distances [n, k], or so many times them, which are as near, that openTSNE finds its bandwidths.

    It looks for these by doubling, from 1 on and 200 times at most.
    """
    distances = neighbors.distances[:, :k].astype(np.float64)
    usual = float(np.median(distances[distances > 0])) if distances.any() else 1.0
    if _USUAL[0] < usual < _USUAL[1]:
        return distances
    return np.ldexp(distances, -int(np.frexp(usual)[1]))


def _initial(
    values: np.ndarray, affinities: Any, initialization: str, n_components: int, seed: int
) -> np.ndarray:
    from openTSNE import initialization as schemes

    how = {"n_components": n_components, "random_state": seed}

    if initialization == "pca" and len(values) > EXACT_NEIGHBORS_UP_TO:
        return _scaled(streamed_pca(values, None, n_components=n_components)[0], seed)
    if initialization == "pca":
        # `schemes.pca`, whose jitter keeps duplicates apart. float64 and an exact solver for the reasons in
        # pca.py, which may know these scores already.
        rows, solver = steady(values).astype(np.float64), exact_solver(values.shape)
        scores, _ = principal_scores(rows, n_components, solver, seed)
        return np.ascontiguousarray(schemes.jitter(schemes.rescale(scores), random_state=seed))
    if initialization == "spectral":
        return np.ascontiguousarray(schemes.spectral(affinities.P, **how))
    return schemes.random(values, **how)


def _scaled(start: np.ndarray, seed: int) -> np.ndarray:
    # The axis with the larger spread gives the scale, as it does where PCA gives the start.
    spread = np.std(start, axis=0)
    small = np.asarray(start, np.float64) * (_START_DEVIATION / (spread.max() or 1.0))
    return small + np.random.default_rng(seed).normal(0, _START_JITTER * _START_DEVIATION, small.shape)


def _descend(begun: Begun, negative_gradient_method: str, progress: Progress | None) -> Any:
    from openTSNE import TSNEEmbedding

    embedding = TSNEEmbedding(begun.start, begun.affinities)
    total, done = sum(phase["n_iter"] for phase in begun.phases), 0
    for phase in begun.phases:
        callbacks = [_callback(progress, done, total)] if progress else None
        embedding.optimize(
            **phase,
            **_FIXED_DESCENT,
            negative_gradient_method=negative_gradient_method,
            n_jobs=begun.threads,
            inplace=True,
            propagate_exception=True,
            callbacks=callbacks,
            callbacks_every_iters=_PROGRESS_EVERY,
        )
        done += phase["n_iter"]
    measure_divergence(embedding, **_FIXED_DESCENT)
    return embedding


def _callback(progress: Progress, done: int, total: int) -> Callable[[int, float, Any], None]:
    def tell(iteration: int, error: float, embedding: Any) -> None:
        progress((done + iteration) / total)

    return tell
