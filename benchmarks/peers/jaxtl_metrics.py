"""jaxtl's metrics, as `jaxtl.metrics` offers them: each with its neighbours and its 95 % interval."""

from __future__ import annotations

import numpy as np

from benchmarks.peers import jax_clock, metrics
from benchmarks.peers.jaxtl_embeddings import engine
from benchmarks.peers.timing import Result
from jaxtl import metrics as ours
from jaxtl.neighbors import exact_neighbors

_SEED = 0


def metric(name: str, n: int, space: str = "features") -> Result:
    return metrics.measure(_FUNCTIONS, name, n, space, jax_clock.compiled)


def _leave_one_out_knn(values: np.ndarray, labels: np.ndarray) -> float:
    """10 neighbours, searched anew. Of equally many votes the nearest neighbour decides."""
    return ours.leave_one_out_knn(exact_neighbors(values, 10, engine=engine()), labels).accuracy.value


def _kmeans_agreement(values: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """As many clusters as classes, 4 starts, one thread: the clusters must not depend on the machine."""
    agreement = ours.kmeans_agreement(values, labels, n_init=4, seed=_SEED)
    return agreement.nmi.value, agreement.ari.value


def _trustworthiness(values: np.ndarray, coords: np.ndarray) -> float:
    """For 10 neighbours, from 2,000 anchors; with continuity, Shepard's and Q_NX."""
    return ours.faithfulness(values, coords, 10, engine=engine()).trustworthiness.value


_FUNCTIONS = {
    "knn_accuracy": lambda values, labels: ours.knn_accuracy(values, labels)[0],
    "leave_one_out_knn": _leave_one_out_knn,
    "silhouette": lambda values, labels: ours.silhouette(values, labels, engine=engine()).mean.value,
    "davies_bouldin": lambda values, labels: ours.davies_bouldin(values, labels).value,
    "calinski_harabasz": lambda values, labels: ours.calinski_harabasz(values, labels).value,
    "kmeans_agreement": _kmeans_agreement,
    "trustworthiness": _trustworthiness,
    # Ten penalties by exact leave-one-out.
    "ridge_probe": lambda *arrays: ours.ridge_probe(*arrays).accuracy.value,
    # C of four by a held-out fifth of at most 4,000 rows.
    "logistic_probe": lambda *arrays: ours.logistic_probe(*arrays).accuracy.value,
}
