"""RAPIDS cuML on an NVIDIA GPU.

Everything starts from arrays in host memory and ends there, in float32. `tsne` is asked for jaxtl's problem,
but cuML counts a row among its own neighbours, and its second phase has a learning rate of n / 6: see
`jaxtl.reduction.cuml`, which settles the former. cuML has no LLE.
"""

from __future__ import annotations

import os
from typing import Any

import cupy
import numpy as np
from cuml.cluster import KMeans
from cuml.decomposition import PCA
from cuml.manifold import TSNE
from cuml.metrics import trustworthiness as trustworthiness_of
from cuml.metrics.cluster import silhouette_score
from cuml.neighbors import NearestNeighbors

from benchmarks.peers import data, metrics, quality, sklearn_peer
from benchmarks.peers.data import open_data as open_data
from benchmarks.peers.timing import Result, measured

_SEED = 1


def settings() -> dict[str, Any]:
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"]
    return {"device": name.decode() if isinstance(name, bytes) else str(name), "dtype": "float32"}


def pca(n: int) -> Result:
    """Eigenvectors of the covariance."""
    return sklearn_peer.pca(n, PCA(n_components=2, svd_solver="full", output_type="numpy"))


def tsne(n: int) -> Result:
    """250 iterations at exaggeration 12, 500 without; by interpolation, or what BENCHMARK_TSNE names."""
    values = data.features(n)
    method = os.environ.get("BENCHMARK_TSNE", "fft")
    # The gradient of "exact" has a factor of 4 that the others' has not.
    rate = n / 48 if method == "exact" else n / 12
    settings = quality.tsne_settings("cuML") | {"method": method, "learning_rate": rate}
    model = TSNE(n_neighbors=int(3 * quality.PERPLEXITY) + 1, **settings)
    return measured(lambda: model.fit_transform(values), quality.of_tsne)


def neighbors(n: int, k: int, space: str = "features") -> Result:
    """Brute force; the row itself is asked for too and left out."""
    return sklearn_peer.neighbors(n, k, space, _neighbors)


def metric(name: str, n: int, space: str = "features") -> Result:
    return metrics.measure(_FUNCTIONS, name, n, space)


def _kmeans_agreement(values: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """As many clusters as classes, 4 starts."""
    model = KMeans(n_clusters=len(np.unique(labels)), n_init=4, random_state=_SEED, output_type="numpy")
    return sklearn_peer.agreement(model.fit_predict(values.astype(np.float32)), labels)


def _trustworthiness(values: np.ndarray, coords: np.ndarray) -> float:
    """For 10 neighbours, from all points."""
    return float(trustworthiness_of(values, coords.astype(np.float32), n_neighbors=10))


def _neighbors(values: np.ndarray, k: int) -> np.ndarray:
    model = NearestNeighbors(n_neighbors=k + 1, algorithm="brute", metric="euclidean", output_type="numpy")
    values = values.astype(np.float32)
    return data.without_own(model.fit(values).kneighbors(values, return_distance=False))


_FUNCTIONS = {
    "silhouette": lambda values, labels: float(silhouette_score(values.astype(np.float32), labels)),
    "kmeans_agreement": _kmeans_agreement,
    "trustworthiness": _trustworthiness,
}
