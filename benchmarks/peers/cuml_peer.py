"""RAPIDS cuML on an NVIDIA GPU.

Everything starts from arrays in host memory and ends there, in float32. `tsne` is asked for jaxtl's problem,
but cuML counts a row among its own neighbours, and its second phase has a learning rate of n / 6: see
`jaxtl.reduction.cuml`, which settles the former. cuML has no LLE, no Davies-Bouldin and no
Calinski-Harabasz index.
"""

from __future__ import annotations

from typing import Any

import cuml
import cupy
import numpy as np
from cuml.cluster import KMeans
from cuml.decomposition import PCA
from cuml.linear_model import LogisticRegression
from cuml.manifold import TSNE, UMAP
from cuml.metrics import trustworthiness as trustworthiness_of
from cuml.metrics.cluster import silhouette_score
from cuml.neighbors import KNeighborsClassifier, NearestNeighbors

from benchmarks.peers import data, quality, work
from benchmarks.peers.data import open_data as open_data
from benchmarks.peers.timing import Result, measured

_SEED = 1  # 0 is a time of day to cuML's t-SNE
_FOLDS = 5
_LOGISTIC = (1e-3, 1e-2, 1e-1, 1.0)


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
    """Interpolation; 250 iterations at exaggeration 12, 500 without."""
    values = data.features(n)
    model = TSNE(
        n_components=2, perplexity=quality.PERPLEXITY, n_neighbors=int(3 * quality.PERPLEXITY) + 1,
        method="fft", init="pca", learning_rate_method="none", learning_rate=n / 12, early_exaggeration=12.0,
        late_exaggeration=1.0, exaggeration_iter=250, max_iter=750, pre_momentum=0.8, post_momentum=0.8,
        min_grad_norm=0.0, square_distances=True, random_state=_SEED, output_type="numpy",
    )  # fmt: skip
    return measured(lambda: model.fit_transform(values), quality.of_tsne)


def umap(n: int) -> Result:
    """15 neighbours and min_dist 0.1, without a seed, which costs it parallel work."""
    values, model = data.features(n), UMAP(n_neighbors=15, min_dist=0.1, output_type="numpy")
    return measured(lambda: model.fit_transform(values), quality.of_map)


def neighbors(n: int, k: int, space: str = "features") -> Result:
    """Brute force; the row itself is asked for too and left out."""
    values = np.ascontiguousarray(data.space(space, n), np.float32)
    return measured(
        lambda: _neighbors(values, k),
        lambda found: quality.of_neighbors(found, values),
        work.distances(*values.shape, out=8 * n * k),
    )


def knn_accuracy(n: int, space: str = "features") -> Result:
    """10 neighbours in scikit-learn's 5 stratified folds."""
    from sklearn.model_selection import StratifiedKFold

    values, labels = np.ascontiguousarray(data.space(space, n), np.float32), data.labels(n)

    def accuracy() -> float:
        model = KNeighborsClassifier(n_neighbors=10, output_type="numpy")
        folds = StratifiedKFold(_FOLDS).split(values, labels)
        found = [
            np.mean(model.fit(values[train], labels[train]).predict(values[test]) == labels[test])
            for train, test in folds
        ]
        return float(np.mean(found))

    return measured(accuracy, lambda found: {"accuracy": found}, work.distances(*values.shape))


def leave_one_out_knn(n: int, space: str = "features") -> Result:
    """The votes of 10 neighbours counted on the CPU. Of equally many votes the least label wins."""
    values, labels = np.ascontiguousarray(data.space(space, n), np.float32), data.labels(n)

    def accuracy() -> float:
        predicted = data.most_votes(labels[_neighbors(values, 10)])
        return float((predicted == labels).mean())

    return measured(accuracy, lambda found: {"accuracy": found}, work.distances(*values.shape))


def silhouette(n: int, space: str = "features") -> Result:
    values, labels = np.ascontiguousarray(data.space(space, n), np.float32), data.labels(n)
    return measured(
        lambda: float(silhouette_score(values, labels)),
        lambda found: {"silhouette": found},
        work.distances(*values.shape),
    )


def kmeans_agreement(n: int, space: str = "features") -> Result:
    """As many clusters as classes, 4 starts; NMI and ARI by scikit-learn, of two label arrays."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    values, labels = np.ascontiguousarray(data.space(space, n), np.float32), data.labels(n)
    model = KMeans(n_clusters=len(np.unique(labels)), n_init=4, random_state=_SEED, output_type="numpy")

    def scores() -> tuple[float, float]:
        clusters = model.fit_predict(values)
        return normalized_mutual_info_score(labels, clusters), adjusted_rand_score(labels, clusters)

    return measured(scores, lambda found: dict(zip(("nmi", "ari"), found, strict=True)))


def trustworthiness(n: int) -> Result:
    """Of an exact PCA's map, for 10 neighbours, from all points."""
    values, coords = data.features(n), np.ascontiguousarray(data.space("map", n), np.float32)
    return measured(
        lambda: float(trustworthiness_of(values, coords, n_neighbors=10)),
        lambda found: {"trustworthiness": found},
        work.distances(*values.shape),
    )


def logistic_probe(n: int) -> Result:
    """On standardised features; C of the same four by a held-out fifth of all rows, then a fit of all."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import train_test_split

    values, labels, test_values, test_labels = data.train_and_test(n)

    def fit(strength: float, rows: np.ndarray, classes: np.ndarray) -> Any:
        return LogisticRegression(C=strength, max_iter=300, output_type="numpy").fit(rows, classes)

    def accuracy() -> float:
        mean, scale = values.mean(axis=0), values.std(axis=0)
        scale[scale == 0] = 1
        rows, others = (values - mean) / scale, (test_values - mean) / scale
        some, held, classes, wanted = train_test_split(
            rows, labels, test_size=0.2, stratify=labels, random_state=_SEED
        )
        known = np.unique(labels)
        losses = [
            log_loss(wanted, fit(strength, some, classes).predict_proba(held), labels=known)
            for strength in _LOGISTIC
        ]
        model = fit(_LOGISTIC[int(np.argmin(losses))], rows, labels)
        return float((model.predict(others) == test_labels).mean())

    return measured(accuracy, lambda found: {"accuracy": found})


def _neighbors(values: np.ndarray, k: int) -> np.ndarray:
    model = NearestNeighbors(n_neighbors=k + 1, algorithm="brute", metric="euclidean", output_type="numpy")
    return data.without_own(model.fit(values).kneighbors(values, return_distance=False))
