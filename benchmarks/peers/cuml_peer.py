"""RAPIDS cuML on an NVIDIA GPU.

Everything starts from arrays in host memory and ends there, in float32. `tsne` is asked for jaxtl's problem,
but cuML counts a row among its own neighbours, and its second phase has a learning rate of n / 6: see
`jaxtl.reduction.cuml`, which settles the former. cuML has no LLE.
"""

from __future__ import annotations

import os
from typing import Any

import cuml
import cupy
import numpy as np
from cuml.cluster import KMeans
from cuml.decomposition import PCA
from cuml.manifold import TSNE
from cuml.metrics import trustworthiness as trustworthiness_of
from cuml.metrics.cluster import silhouette_score
from cuml.neighbors import NearestNeighbors

from benchmarks.peers import data, metrics, quality, work
from benchmarks.peers.data import open_data as open_data
from benchmarks.peers.timing import Result, measured

_SEED = 1  # 0 is a time of day to cuML's t-SNE


def versions() -> dict[str, str]:
    # The names of their distributions depend on CUDA's version.
    return {"cuml": cuml.__version__, "cupy": cupy.__version__} | data.installed("numpy", "scikit-learn")


def settings() -> dict[str, Any]:
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"]
    return {"device": name.decode() if isinstance(name, bytes) else str(name), "dtype": "float32"}


def pca(n: int) -> Result:
    """Eigenvectors of the covariance."""
    values, model = data.features(n), PCA(n_components=2, svd_solver="full", output_type="numpy")
    return measured(
        lambda: model.fit_transform(values),
        lambda coords: quality.of_pca(coords, np.asarray(model.explained_variance_ratio_)),
        work.principal(*values.shape),
    )


def tsne(n: int) -> Result:
    """250 iterations at exaggeration 12, 500 without; by interpolation, or what BENCHMARK_TSNE names."""
    values = data.features(n)
    method = os.environ.get("BENCHMARK_TSNE", "fft")
    # The gradient of "exact" has a factor of 4 that the others' has not.
    rate = n / 48 if method == "exact" else n / 12
    model = TSNE(
        n_components=2,
        perplexity=quality.PERPLEXITY,
        n_neighbors=int(3 * quality.PERPLEXITY) + 1,
        method=method,
        init="pca",
        learning_rate_method="none",
        learning_rate=rate,
        early_exaggeration=12.0,
        late_exaggeration=1.0,
        exaggeration_iter=250,
        max_iter=750,
        pre_momentum=0.8,
        post_momentum=0.8,
        min_grad_norm=0.0,
        square_distances=True,
        random_state=_SEED,
        output_type="numpy",
    )
    return measured(lambda: model.fit_transform(values), quality.of_tsne)


def neighbors(n: int, k: int, space: str = "features") -> Result:
    """Brute force; the row itself is asked for too and left out."""
    values = np.ascontiguousarray(data.space(space, n), np.float32)
    return measured(
        lambda: _neighbors(values, k),
        lambda indices: quality.of_neighbors(indices, values),
        work.distances(*values.shape, out=8 * n * k),
    )


def metric(name: str, n: int, space: str = "features") -> Result:
    return metrics.measure(_FUNCTIONS, name, n, space)


def _kmeans_agreement(values: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """As many clusters as classes, 4 starts; NMI and ARI by scikit-learn, of two label arrays."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    model = KMeans(n_clusters=len(np.unique(labels)), n_init=4, random_state=_SEED, output_type="numpy")
    clusters = model.fit_predict(values.astype(np.float32))
    return normalized_mutual_info_score(labels, clusters), adjusted_rand_score(labels, clusters)


def _trustworthiness(values: np.ndarray, coords: np.ndarray) -> float:
    """For 10 neighbours, from all points."""
    return float(trustworthiness_of(values, coords.astype(np.float32), n_neighbors=10))


def _neighbors(values: np.ndarray, k: int) -> np.ndarray:
    model = NearestNeighbors(n_neighbors=k + 1, algorithm="brute", metric="euclidean", output_type="numpy")
    return data.without_own(model.fit(values).kneighbors(values, return_distance=False))


_FUNCTIONS = {
    "silhouette": lambda values, labels: float(silhouette_score(values.astype(np.float32), labels)),
    "kmeans_agreement": _kmeans_agreement,
    "trustworthiness": _trustworthiness,
}
