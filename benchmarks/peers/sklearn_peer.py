"""scikit-learn, as one calls it, on all cores where it takes that.

Where it is not jaxtl's question to the letter: `pca` leaves the solver to scikit-learn, which takes a
randomised one in float32; `tsne` has Barnes-Hut at any size, one learning rate, n / 48 in openTSNE's measure,
and may stop early; of equally many votes the least label wins; `trustworthiness` looks from all points.
With BENCHMARK_SKLEARN "intelex" Intel's extension for scikit-learn takes over what it accelerates.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

if os.environ.get("BENCHMARK_SKLEARN") == "intelex":
    from sklearnex import patch_sklearn

    patch_sklearn(verbose=False)  # what is imported below is its own, where it has that

import numpy as np
from joblib import cpu_count
from scipy.stats import mode
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV, RidgeClassifierCV
from sklearn.manifold import TSNE, LocallyLinearEmbedding
from sklearn.manifold import trustworthiness as trustworthiness_of
from sklearn.metrics import (
    adjusted_rand_score,
    calinski_harabasz_score,
    davies_bouldin_score,
    normalized_mutual_info_score,
    silhouette_score,
)
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.peers import data, metrics, quality, work
from benchmarks.peers.data import open_data as open_data
from benchmarks.peers.timing import Result, measured

_SEED = 0
# jaxtl's, relative to the mean variance of a feature, and its C.
_RIDGE = tuple(10.0 ** np.arange(-6, 4))
_LOGISTIC = (1e-3, 1e-2, 1e-1, 1.0)


def settings() -> dict[str, Any]:
    return {"device": "cpu", "threads": cpu_count(), "n_jobs": -1, "dtype": "float32 as given"}


def pca(n: int, model: Any = None) -> Result:
    """By another library's model of the same kind, where one is given; so `neighbors`."""
    values, model = data.features(n), model or PCA(n_components=2, random_state=_SEED)
    return measured(
        lambda: model.fit_transform(values),
        lambda coords: quality.of_pca(coords, np.asarray(model.explained_variance_ratio_)),
        work.principal(*values.shape),
    )


def tsne(n: int) -> Result:
    values, model = data.features(n), TSNE(**quality.tsne_settings("scikit-learn"))
    return measured(lambda: model.fit_transform(values), quality.of_tsne)


def lle(n: int, method: str = "standard") -> Result:
    """The neighbours by brute force, its fastest for so many dimensions."""
    values = data.features(n)
    model = LocallyLinearEmbedding(
        n_neighbors=quality.LLE_NEIGHBORS,
        method=method,
        neighbors_algorithm="brute",
        n_jobs=-1,
        random_state=_SEED,
    )
    return measured(
        lambda: model.fit_transform(values),
        lambda coords: quality.of_lle(coords, model.reconstruction_error_),
    )


def neighbors(n: int, k: int, space: str = "features", find: Any = None) -> Result:
    """`find` takes the values and k."""
    values = np.ascontiguousarray(data.space(space, n))
    return measured(
        lambda: (find or _neighbors)(values, k),
        lambda indices: quality.of_neighbors(indices, values),
        work.distances(*values.shape, out=8 * n * k),
    )


def metric(name: str, n: int, space: str = "features") -> Result:
    return metrics.measure(_FUNCTIONS, name, n, space)


def _knn_accuracy(values: np.ndarray, labels: np.ndarray) -> float:
    """10 neighbours in 5 stratified folds."""
    model = KNeighborsClassifier(10, n_jobs=-1)
    return cross_val_score(model, values, labels, cv=StratifiedKFold(5)).mean()


def _leave_one_out_knn(values: np.ndarray, labels: np.ndarray) -> float:
    """The votes of 10 neighbours counted by hand: a classifier would be fitted n times."""
    return float((mode(labels[_neighbors(values, 10)], axis=1).mode == labels).mean())


def _kmeans_agreement(values: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """As many clusters as classes, 4 starts, all cores; NMI and ARI."""
    return agreement(KMeans(len(np.unique(labels)), n_init=4, random_state=_SEED).fit_predict(values), labels)


def agreement(clusters: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    return normalized_mutual_info_score(labels, clusters), adjusted_rand_score(labels, clusters)


def _ridge_probe(values: np.ndarray, labels: np.ndarray, *test: np.ndarray) -> float:
    """`RidgeClassifierCV`, which also chooses by leave-one-out in closed form, among the same penalties."""
    unit = len(values) * values.var(axis=0, dtype=np.float64).mean()
    model = RidgeClassifierCV(alphas=[penalty * unit for penalty in _RIDGE])
    return model.fit(values, labels).score(*test)


def _logistic_probe(values: np.ndarray, labels: np.ndarray, *test: np.ndarray) -> float:
    """`LogisticRegressionCV` on standardised features; C of the same four by a held-out fifth of all rows."""
    folds = StratifiedShuffleSplit(1, test_size=0.2, random_state=_SEED)
    classifier = LogisticRegressionCV(Cs=_LOGISTIC, cv=folds, scoring="neg_log_loss", max_iter=300, n_jobs=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Of arguments to come; those that would end it are unknown to versions before.
        warnings.simplefilter("ignore", FutureWarning)
        model = make_pipeline(StandardScaler(), classifier).fit(values, labels)
    # Its own score is that of the choice, the log-loss.
    return float((model.predict(test[0]) == test[1]).mean())


def _neighbors(values: np.ndarray, k: int) -> np.ndarray:
    # Asked without rows, it leaves out each row itself.
    return NearestNeighbors(n_neighbors=k, n_jobs=-1).fit(values).kneighbors(return_distance=False)


_FUNCTIONS = {
    "knn_accuracy": _knn_accuracy,
    "leave_one_out_knn": _leave_one_out_knn,
    "silhouette": silhouette_score,
    "davies_bouldin": davies_bouldin_score,
    "calinski_harabasz": calinski_harabasz_score,
    "kmeans_agreement": _kmeans_agreement,
    # From all points; n x n distances at once.
    "trustworthiness": lambda values, coords: trustworthiness_of(values, coords, n_neighbors=10),
    "ridge_probe": _ridge_probe,
    "logistic_probe": _logistic_probe,
}
