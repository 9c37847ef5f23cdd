"""Embeddings of more points than a method can carry: it embeds some, and the others are placed among these.

Whoever embedded the landmarks, placing needs their features and coordinates alone; rows are placed one by
one, whatever others there are, so that features may be read from their file piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxtl.neighbors import nearest_rows
from jaxtl.progress import Progress
from jaxtl.reduction.parameters import check_number

# Rows placed at a time: 20 MiB of 1280 features, and 40 of their differences from a mean.
PIECE = 4096
# openTSNE's defaults of `transform`, passed so that the record tells what ran.
_TSNE = {
    "perplexity": 5,
    "initialization": "median",
    "k": 25,
    "learning_rate": 0.1,
    "exaggeration": 1.5,
    "n_iter": 250,
    "final_momentum": 0.8,
    "max_grad_norm": 0.25,
}

# Of the largest sum of squared scores: below, another is rounding of float32 features.
_FLAT = np.finfo(np.float32).eps ** 2

Place = Callable[[np.ndarray], np.ndarray]


def choose_landmarks(n: int, landmarks: int, seed: int) -> np.ndarray:
    """Different rows of n, ascending int64 [landmarks], drawn evenly."""
    return np.sort(np.random.default_rng(seed).choice(n, landmarks, replace=False))


def check_landmarks(method: str, landmarks: Any) -> None:
    """Raises JaxtlError unless it is a whole number of at least 3."""
    check_number(method, "landmarks", landmarks, low=3, whole=True)


def place_others(
    values: np.ndarray,
    chosen: np.ndarray,
    coords: np.ndarray,
    place: Place,
    progress: Progress | None,
) -> np.ndarray:
    """Coordinates of all rows, float64 [n, k]: those of the landmarks as they are, the others placed."""
    placed, others = np.empty((len(values), coords.shape[1])), np.ones(len(values), bool)
    others[chosen], placed[chosen] = False, coords
    for start in range(0, len(values), PIECE):
        rows = start + np.flatnonzero(others[start : start + PIECE])
        if len(rows):
            placed[rows] = place(np.ascontiguousarray(values[rows]))
        if progress:
            progress(min(1.0, (start + PIECE) / len(values)))
    return placed


def placer(
    method: str, values: np.ndarray, coords: np.ndarray, used: dict[str, Any]
) -> tuple[Place, dict[str, Any]]:
    """A function that places rows among embedded ones, and what it is set to.

    Args:
        method: "pca", "tsne" or "lle".
        values, coords: of the landmarks, [m, d] and float64 [m, k].
        used: the parameters that the landmarks were embedded with.
    """
    return {"pca": _on_components, "tsne": _by_affinities, "lle": _by_weights}[method](values, coords, used)


def _on_components(
    values: np.ndarray, coords: np.ndarray, used: dict[str, Any]
) -> tuple[Place, dict[str, Any]]:
    """PCA: projection. Scores are U S and centred rows U S V', which gives V whoever found the scores."""
    mean = values.mean(axis=0, dtype=np.float64)
    squares = (coords**2).sum(axis=0)
    # Landmarks on a line have no second component, those in a point none: all lies at 0 there, as they do.
    squares = np.where(squares > _FLAT * squares.max(), squares, np.inf)
    components = (values - mean).T @ (coords / squares)
    return lambda rows: (rows - mean) @ components, {"by": "projection"}


def _by_affinities(
    values: np.ndarray, coords: np.ndarray, used: dict[str, Any]
) -> tuple[Place, dict[str, Any]]:
    """t-SNE: openTSNE's `transform` (Policar, Strazar & Zupan 2023, Mach. Learn. 112:721), exact neighbours.

    Barnes-Hut throughout, since interpolation's grid would depend on which rows are placed together.
    """
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import KNNIndex

    class Exact(KNNIndex):
        VALID_METRICS = ("euclidean",)

        def build(self) -> tuple[np.ndarray, np.ndarray]:
            # Affinities among the landmarks play no part in placing.
            return np.arange(self.n_samples)[:, None], np.ones((self.n_samples, 1))

        def query(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            neighbors = nearest_rows(self.data, query, k)
            return neighbors.indices, neighbors.distances.astype(np.float64)

    jobs = used.get("n_jobs", -1)
    settings = _TSNE | {"perplexity": min(_TSNE["perplexity"], used["perplexity"]), "k": min(25, len(values))}
    affinities = PerplexityBasedNN(knn_index=Exact(values, 1), perplexity=1, n_jobs=jobs)
    # It is centred, as openTSNE's own way of placing centres it, and moved back.
    shift = (coords.max(axis=0) + coords.min(axis=0)) / 2
    embedding = TSNEEmbedding(coords.copy(), affinities, negative_gradient_method="bh", n_jobs=jobs)

    def place(rows: np.ndarray) -> np.ndarray:
        return np.asarray(embedding.transform(rows, **settings)) + shift

    return place, {"by": "openTSNE", **settings, "negative_gradient_method": "bh"}


def _by_weights(values: np.ndarray, coords: np.ndarray, used: dict[str, Any]) -> tuple[Place, dict[str, Any]]:
    """LLE: by the weights that rebuild a row from its nearest landmarks, as `LocallyLinearEmbedding` does."""
    from jaxtl.lle.estimator import place_by_weights

    k, reg = used["n_neighbors"], used["reg"]
    return lambda rows: place_by_weights(values, coords, rows, k, reg), {"by": "weights"}
