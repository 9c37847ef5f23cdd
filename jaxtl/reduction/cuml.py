"""PCA and t-SNE on an NVIDIA GPU, by RAPIDS cuML.

Written against the sources of cuML 26.10; what they leave open is said where it matters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError, install
from jaxtl.lle.spectrum import signs
from jaxtl.progress import Progress
from jaxtl.reduction.divergence import measure_divergence
from jaxtl.reduction.parameters import check_choice, check_few_components, check_number, versions
from jaxtl.reduction.pca import check_number_of_components
from jaxtl.reduction.tsne import check_perplexity

# What `retried_after_nan` says, in words.
RETRIED = "made again with another seed, since the first one gave NaN"
# cuML lowers n_neighbors to this with a warning; the point itself counts among them.
MOST_NEIGHBORS = 1023
# In units of the farthest neighbour of all. To have an entropy of log(perplexity) over 3 * perplexity
# neighbours a row needs beta * d^2 of about 2 for its farthest one; exp(-2 * 100) is 0 in float32.
_OWN_DISTANCE = 10.0

_FIXED = {
    "n_components": 2,
    "method": "fft",
    # "adaptive", the default, replaces learning rate, exaggeration and n_neighbors by its own.
    "learning_rate_method": "none",
    "metric": "euclidean",
    "square_distances": True,
    "perplexity_max_iter": 100,
    # openTSNE's backend here has 0.8 throughout; cuML's default is 0.5 in the first phase.
    "pre_momentum": 0.8,
    "post_momentum": 0.8,
    # 0 never stops early.
    "min_grad_norm": 0.0,
}
_RECORDED = ("learning_rate_method", "metric", "square_distances", "perplexity_max_iter", "min_grad_norm")


def cuml_pca(
    values: np.ndarray,
    progress: Progress | None,
    *,
    svd_solver: str = "auto",
    n_components: int = 2,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """Scores on the first principal components, by cuML.

    float64 on the device. Each component's sign makes its largest loading positive, scikit-learn's rule.

    Args:
        values: [n, d].
        progress: unused, the work is one call.
        n_components: from 1 to the smaller of n and d.
        svd_solver: "full" (eigenvectors of the covariance), "jacobi" (the same by Jacobi rotations), or
            "auto", which is full.
        seed: unused; neither solver draws anything.

    Diagnostics: `explained_variance_ratio` of the components, each 0 to 1.

    Raises JaxtlError where cuML cannot be imported or the GPU fails.
    """
    check_choice("pca", "svd_solver", svd_solver, ("auto", "full", "jacobi"))
    check_number_of_components(n_components, values.shape)
    arguments = {
        "n_components": int(n_components),
        "svd_solver": "full" if svd_solver == "auto" else svd_solver,
        "tol": 1e-7,
        "iterated_power": 15,
        "whiten": False,
    }
    with _on_device("pca", "sklearn"):
        import cupy
        from cuml.decomposition import PCA

        # float64 for the reason in pca.py; in the order that cuML would else copy it to twice.
        data = cupy.asfortranarray(cupy.asarray(values).astype(cupy.float64))
        model = PCA(**arguments, output_type="cupy")
        coords = cupy.asnumpy(model.fit_transform(data))
        components = cupy.asnumpy(model.components_)
        ratio = cupy.asnumpy(model.explained_variance_ratio_)
    params = {**arguments, "dtype": "float64", "seed": int(seed), "versions": _versions("numpy")}
    return coords * signs(components.T), params, {"explained_variance_ratio": ratio.tolist()}


# Over 60 lines by what a user can set: each parameter stands in the signature and in the docstring.
def cuml_tsne(
    values: np.ndarray,
    progress: Progress | None,
    *,
    perplexity: float = 30.0,
    initialization: str = "pca",
    learning_rate: float | str = "auto",
    early_exaggeration: float = 12.0,
    early_exaggeration_iter: int = 250,
    exaggeration: float = 1.0,
    n_iter: int = 500,
    n_components: int = 2,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """t-SNE (van der Maaten & Hinton 2008) by cuML, with interpolation (Linderman et al. 2019).

    The same affinities, start, phases, momentum and gains as `opentsne`; it differs from it where cuML
    leaves no choice:

    - The second phase's learning rate is always twice the first's: n / 6 where openTSNE's is n. Imitated in
      openTSNE on 2,000 digits' features this ends at a divergence of 1.43 where n gives 1.40; with n_iter of
      1000 at 1.36.
    - float32, and updates are neither clipped nor centred.
    - A start by "pca" has no jitter: equal rows stay equal. "random" is uniform in +-1e-4, not normal.
    - It reports no progress.

    Args:
        values: [n, d].
        progress: unused.
        n_components: 2, as cuML has no other.
        perplexity: from 1 to (n - 1) / 3 and below 341, as 3 * perplexity neighbours are used, and cuML
            takes no more than MOST_NEIGHBORS with the point itself.
        initialization: "pca" (scaled to a standard deviation of 1e-4) or "random".
        learning_rate: > 0, of the first phase; "auto" is n / early_exaggeration (Belkina et al. 2019).
        early_exaggeration: >= 1, factor on the attraction in the first phase.
        early_exaggeration_iter: length of the first phase.
        exaggeration: >= 1, factor in the second phase.
        n_iter: length of the second phase; one of the two lengths must be above 0.
        seed: of the random start. An embedding with NaN is computed once more with seed + 1.

    Diagnostics: `kl_divergence` as `opentsne` has it, measured on the CPU; `retried_after_nan`.

    Raises JaxtlError where cuML cannot be imported, the GPU fails or both embeddings hold NaN.
    """
    n = len(values)
    check_few_components("tsne (cuml)", n_components, (2,), "; take --backend opentsne")
    _check(n, perplexity, initialization, early_exaggeration_iter, n_iter)
    check_number("tsne", "early_exaggeration", early_exaggeration, low=1)
    check_number("tsne", "exaggeration", exaggeration, low=1)
    rate = n / early_exaggeration if learning_rate == "auto" else learning_rate
    check_number("tsne", "learning_rate (unless auto)", rate, low=0, open_low=True)
    n_neighbors = int(3 * perplexity)
    arguments = {
        **_FIXED,
        "perplexity": float(perplexity),
        "n_neighbors": n_neighbors + 1,
        "init": initialization,
        "learning_rate": float(rate),
        "early_exaggeration": float(early_exaggeration),
        "exaggeration_iter": int(early_exaggeration_iter),
        "late_exaggeration": float(exaggeration),
        "max_iter": int(early_exaggeration_iter) + int(n_iter),
    }
    coords, indices, distances, retried = _embed(values, n_neighbors, arguments, seed)
    divergence = _divergence(coords, indices, distances, perplexity)
    params = _in_our_words(arguments, int(seed) + retried)
    return coords, params, {"kl_divergence": divergence, "retried_after_nan": retried}


def _in_our_words(arguments: dict[str, Any], seed: int) -> dict[str, Any]:
    """What cuML was given, by the names that `opentsne` has for it."""
    return {
        "n_components": 2,
        "perplexity": arguments["perplexity"],
        "initialization": arguments["init"],
        "early_exaggeration": arguments["early_exaggeration"],
        "early_exaggeration_iter": arguments["exaggeration_iter"],
        "early_learning_rate": arguments["learning_rate"],
        "exaggeration": arguments["late_exaggeration"],
        "n_iter": arguments["max_iter"] - arguments["exaggeration_iter"],
        "learning_rate": 2 * arguments["learning_rate"],
        "neighbors": "exact",
        "n_neighbors": arguments["n_neighbors"] - 1,
        "negative_gradient_method": "fft",
        "symmetrize": True,
        "momentum": _FIXED["post_momentum"],
        **{name: _FIXED[name] for name in _RECORDED},
        "dtype": "float32",
        "seed": seed,
        "versions": _versions("openTSNE", "numpy"),
    }


def _check(n: int, perplexity: float, initialization: str, early_iter: int, n_iter: int) -> None:
    check_perplexity(n, perplexity)
    check_most_neighbors(perplexity)
    check_choice("tsne", "initialization", initialization, ("pca", "random"))
    check_number("tsne", "iterations of early_exaggeration", early_iter, low=0, whole=True)
    check_number("tsne", "iterations of exaggeration", n_iter, low=0, whole=True)
    if early_iter + n_iter == 0:
        raise JaxtlError("tsne (cuml): n_iter and early_exaggeration_iter are both 0; cuML needs at least 1")


def check_most_neighbors(perplexity: float) -> None:
    """Raises JaxtlError where a perplexity needs more neighbours than cuML takes."""
    if int(3 * perplexity) + 1 > MOST_NEIGHBORS:
        raise JaxtlError(
            f"tsne (cuml): perplexity {perplexity:g} is too large for cuML's at most {MOST_NEIGHBORS} "
            f"neighbours; take perplexity of at most {(MOST_NEIGHBORS - 1) // 3} or --backend opentsne"
        )


def _embed(
    values: np.ndarray, n_neighbors: int, arguments: dict[str, Any], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Coordinates, neighbours and their distances, and whether it was computed a second time."""
    with _on_device("tsne", "opentsne"):
        import cupy

        data = cupy.asarray(values)
        indices, distances = _neighbors(data, n_neighbors)
        on_host = cupy.asnumpy(indices), cupy.asnumpy(distances)
        for attempt in (0, 1):
            coords = _fit(data, indices, distances, arguments, seed + attempt)
            if np.isfinite(coords).all():
                return coords, *on_host, attempt == 1
    raise JaxtlError(
        f"tsne (cuml): the map holds NaN with both seeds, {seed} and {seed + 1}; take another perplexity, a "
        "lower learning_rate or --backend opentsne"
    )


def _neighbors(data: Any, n_neighbors: int) -> tuple[Any, Any]:
    """Indices [n, k] and distances [n, k] on the device, the point itself left out by its index."""
    import cupy
    from cuml.neighbors import NearestNeighbors

    model = NearestNeighbors(
        n_neighbors=n_neighbors + 1, algorithm="brute", metric="euclidean", output_type="cupy"
    )
    distances, indices = model.fit(data).kneighbors(data)
    # Not always the first: its distance is rounded too, and a copy's is the same.
    own = indices == cupy.arange(len(data))[:, None]
    own[:, -1] |= ~own.any(axis=1)
    shape = len(data), n_neighbors
    return indices[~own].reshape(shape), distances[~own].reshape(shape)


def _fit(data: Any, indices: Any, distances: Any, arguments: dict[str, Any], seed: int) -> np.ndarray:
    import cupy
    from cuml.manifold import TSNE

    # cuML takes a time of day for the seed 0.
    model = TSNE(**arguments, random_state=seed % (2**32 - 1) + 1, output_type="cupy")
    coords = model.fit_transform(data, knn_graph=_graph(indices, distances))
    return cupy.asnumpy(coords)


def _graph(indices: Any, distances: Any) -> tuple[Any, Any]:
    """The neighbours as cuML wants them, every point its own first neighbour, yet without affinity to itself.

    cuML searches the perplexity over all columns and so counts the point itself, at distance 0, as the
    nearest neighbour. On 2,000 digits' features this gives 33 % of the affinities away and a perplexity of 65
    among the others where 30 was asked for: a divergence of 1.80 instead of 1.43, 10-NN accuracy of 0.665
    instead of 0.716. With its own distance far beyond all others its affinity rounds to 0, and the rest are
    openTSNE's.
    """
    import cupy

    n = len(indices)
    own_index = cupy.arange(n, dtype=indices.dtype)[:, None]
    # 1 where all rows are equal to their neighbours.
    farthest = distances.max()
    own_distance = cupy.full((n, 1), _OWN_DISTANCE, distances.dtype) * cupy.where(farthest > 0, farthest, 1)
    # New arrays for every fit: cuML squares and scales the distances in place.
    return (
        cupy.concatenate([own_index, indices], axis=1),
        cupy.concatenate([own_distance.astype(distances.dtype), distances], axis=1),
    )


def _divergence(coords: np.ndarray, indices: np.ndarray, distances: np.ndarray, perplexity: float) -> float:
    # cuML's own figure normalises over the stored pairs alone, and is of the last step but one.
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    index = PrecomputedNeighbors(indices, distances.astype(np.float64))
    affinities = PerplexityBasedNN(knn_index=index, perplexity=perplexity, n_jobs=-1)
    embedding = TSNEEmbedding(coords.astype(np.float64), affinities)
    measure_divergence(embedding)
    return float(embedding.kl_divergence)


def _versions(*distributions: str) -> dict[str, str]:
    # The names of their distributions depend on CUDA's version.
    import cuml
    import cupy

    return {"cuml": cuml.__version__, "cupy": cupy.__version__} | versions(*distributions)


@contextlib.contextmanager
def _on_device(method: str, fallback: str) -> Iterator[None]:
    """What CUDA, CuPy and cuML raise, as one line; `fallback` is the backend that needs no GPU."""
    try:
        yield
    except ImportError as error:
        raise JaxtlError(
            f"{method} (cuml): cannot be imported ({_line(error)}); {install('cuda13')}, or "
            f"cuda12, or take --backend {fallback}"
        ) from None
    except MemoryError as error:
        raise JaxtlError(
            f"{method} (cuml): the GPU's memory is used up ({_line(error)}); free some, take fewer images or "
            f"--backend {fallback}"
        ) from None
    # All that CUDA, cuBLAS, cuFFT and cuSOLVER report; CuPy's own classes derive from it.
    except RuntimeError as error:
        raise JaxtlError(
            f"{method} (cuml): the GPU failed ({_line(error)}); take fewer images or --backend {fallback}"
        ) from None


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
