"""How good results are, by one yardstick for all peers; nothing of this is timed."""

from __future__ import annotations

import tomllib
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import COMPARED_FEATURES
from benchmarks.peers import data
from jaxtl.errors import JaxtlError

# Asked of all peers alike.
PERPLEXITY = 30.0
LLE_NEIGHBORS = 12
# Anchors of the trustworthiness of embeddings: its standard error is then about 0.001.
_ANCHORS = 500
_COMPARED_OUTPUTS = 64
# Norm of the differences, of the norm of the values. Float32 alone makes 2e-5 of it (TensorFlow, against
# float64; JAX and others 7e-6), and of the worst of a thousand values 1e-4 of the largest.
_SAME = 1e-4
_SEARCHED_ROWS = 100
# Rows measured from at a time: in float64 100 MiB of features.
_BLOCK = 10_000
# Of the k-th distance: neighbours at one distance but for rounding are as good as each other.
_EQUAL = 1e-6


def tsne_settings(library: str) -> dict[str, Any]:
    """Keyword arguments by which a library is asked for what all are."""
    table = tomllib.loads(Path(__file__).with_name("tsne.toml").read_text(encoding="utf-8"))
    return {"perplexity": PERPLEXITY, **table[library]}


def of_map(coords: np.ndarray) -> dict[str, float]:
    """10-NN accuracy (5-fold) in an embedding of the first rows, and its trustworthiness (10 neighbours)."""
    from jaxtl.metrics import knn_accuracy, trustworthiness

    coords = np.asarray(coords, np.float64)
    n = len(coords)
    trusted = trustworthiness(_anchored(n), coords, 10, resamples=2)
    return {"knn_accuracy": knn_accuracy(coords, data.labels(n))[0], "trustworthiness": trusted.value}


def of_pca(coords: np.ndarray, explained: np.ndarray) -> dict[str, float]:
    """Also the variance's share, and the largest error, relative to an exact PCA's largest coordinate."""
    coords, exact = np.asarray(coords, np.float64), data.space("map", len(coords))
    signs = np.sign((coords * exact).sum(axis=0))
    error = np.abs(coords * signs - exact).max() / np.abs(exact).max()
    return of_map(coords) | {"explained_variance_ratio": float(np.sum(explained)), "largest_error": error}


def of_tsne(coords: np.ndarray) -> dict[str, float]:
    """Also the divergence, without exaggeration, from exact affinities of perplexity 30."""
    return of_map(coords) | {"kl_divergence": divergence(coords, _affinities(len(coords)))}


def divergence(coords: np.ndarray, affinities: Any) -> float:
    """Of a map from openTSNE's affinities, without exaggeration, within 2e-4."""
    from openTSNE import TSNEEmbedding

    from jaxtl.reduction.divergence import measure_divergence

    embedding = TSNEEmbedding(np.array(coords, np.float64), affinities)
    measure_divergence(embedding)
    return float(embedding.kl_divergence)


def of_lle(coords: np.ndarray, reconstruction_error: float) -> dict[str, float]:
    """Also the sum of the eigenvalues that were used, which LLE minimises."""
    return of_map(coords) | {"reconstruction_error": float(reconstruction_error)}


def of_neighbors(indices: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Share of the true neighbours found, over some rows of values [n, d].

    `indices`, int [n, k], hold no row itself; -1 is a neighbour that was not found.
    """
    rows = np.random.default_rng(0).choice(len(values), min(len(values), _SEARCHED_ROWS), replace=False)
    return {"recall": float(shares_found(indices, values, rows).mean())}


def shares_found(indices: np.ndarray, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of the true neighbours of some rows [m], each row's share [m]; the rest as of `of_neighbors`.

    By NumPy in float64 alone, so that no peer's search is its own judge.
    """
    k, shares = indices.shape[1], []
    for row, farthest in zip(rows, _farthest(values, rows, k), strict=True):
        own = np.unique(indices[row])
        apart = np.linalg.norm(values[own[own >= 0]] - values[row].astype(np.float64), axis=1)
        shares.append(np.sum(apart <= farthest * (1 + _EQUAL)) / k)
    return np.array(shares)


def _farthest(values: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """How far the k-th nearest other row of some rows is, over all rows."""
    asked = values[rows].astype(np.float64)
    near = np.full((len(rows), k), np.inf)
    for start in range(0, len(values), _BLOCK):
        piece = values[start : start + _BLOCK].astype(np.float64)
        squared = np.square(asked).sum(1)[:, None] + np.square(piece).sum(1) - 2 * asked @ piece.T
        squared[rows[:, None] == np.arange(start, start + len(piece))] = np.inf
        near = np.partition(np.concatenate([near, squared], axis=1), k - 1, axis=1)[:, :k]
    return np.sqrt(near.max(axis=1).clip(0))


def of_features(values: np.ndarray, exact: bool = True) -> dict[str, float]:
    """Mean feature of test images, and the largest difference to jaxtl's on a CPU, of some of them.

    Raises JaxtlError where `exact`, and they are not the same features: nothing else of the peer is timed.
    """
    told = {"mean": float(np.mean(values, dtype=np.float64))}
    if data.opened():
        told |= _compared(values, data.features(min(len(values), COMPARED_FEATURES)), exact)
    return told


def of_trunk(outputs: np.ndarray, exact: bool = True) -> dict[str, float]:
    """The same of what the frozen layers hand on for training images, [n, h, w, c]."""
    told = {"mean": float(np.mean(outputs, dtype=np.float64))}
    return told | _compared(outputs, _frozen_outputs()[: len(outputs)], exact)


def _compared(values: np.ndarray, ours: np.ndarray, exact: bool) -> dict[str, float]:
    differences = values[: len(ours)] - ours
    apart, largest = np.linalg.norm(differences) / np.linalg.norm(ours), float(np.abs(differences).max())
    # Written so that NaN is refused.
    if exact and not apart <= _SAME:
        raise JaxtlError(f"{apart:.2g} of their norm from jaxtl's; take the same network")
    return {"largest_difference": largest}


@cache
def _frozen_outputs() -> np.ndarray:
    from jaxtl.models.weights import load_model
    from jaxtl.network.trunk import Trunk, trainable_boundary
    from jaxtl.settings import FinetuneConfig, Images

    model = load_model()
    trunk = Trunk(model, trainable_boundary(model.config, FinetuneConfig.trainable), Images())
    return np.asarray(trunk.source(data.images("train", _COMPARED_OUTPUTS).images, keep=True).x)


@lru_cache(maxsize=1)
def _anchored(n: int) -> Any:
    from jaxtl.metrics import anchored

    return anchored(data.features(n), anchors=_ANCHORS, pairs=1000)


@lru_cache(maxsize=1)
def _affinities(n: int) -> Any:
    from openTSNE.affinity import PerplexityBasedNN

    return PerplexityBasedNN(data.features(n), perplexity=PERPLEXITY, method="exact", n_jobs=-1)
