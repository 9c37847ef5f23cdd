"""jaxtl's embeddings, neighbours and metrics, by the backends that it takes by itself on this machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.peers import data, jax_clock, metrics, quality, work
from benchmarks.peers.timing import Result, measured
from jaxtl import metrics as ours
from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Embedding, Features
from jaxtl.reduction import reduce
from jaxtl.reduction.choice import choose


def pca(n: int) -> Result:
    """Exact, in float64."""

    def judge(embedding: Embedding) -> dict[str, float]:
        return quality.of_pca(embedding.coords, embedding.diagnostics["explained_variance_ratio"])

    return measured(_reduction(n, "pca"), judge, work.principal(*data.features(n).shape))


def tsne(n: int) -> Result:
    """Exact neighbours, 250 iterations at exaggeration 12 and 500 without."""
    descend = _reduction(n, "tsne", perplexity=quality.PERPLEXITY)
    return measured(descend, lambda embedding: quality.of_tsne(embedding.coords))


def lle(n: int, method: str = "standard") -> Result:
    """12 neighbours; `method` is "standard" or "modified"."""

    def judge(embedding: Embedding) -> dict[str, float]:
        return quality.of_lle(embedding.coords, embedding.diagnostics["reconstruction_error"])

    embed = _reduction(n, "lle", n_neighbors=quality.LLE_NEIGHBORS, variant=method)
    return measured(embed, judge, compiled=jax_clock.compiled)


def neighbors(n: int, k: int, space: str = "features") -> Result:
    """Exact, proven in float64."""
    values = data.space(space, n)
    return measured(
        lambda: exact_neighbors(values, k, engine=_engine()),
        lambda neighbors: quality.of_neighbors(neighbors.indices, values),
        work.distances(*values.shape, out=8 * n * k),
        jax_clock.compiled,
    )


def metric(name: str, n: int, space: str = "features") -> Result:
    """As `jaxtl.metrics` offers it: with its neighbours and its 95 % interval."""
    return metrics.measure(_FUNCTIONS, name, n, space, jax_clock.compiled)


def _engine() -> str:
    """Of jaxtl's own methods: JAX's GPU where there is one, as for LLE."""
    return "jax" if choose("lle").on_gpu else "cpu"


def _reduction(n: int, method: str, **given: object) -> Callable[[], Embedding]:
    features = Features(data.features(n), data.labels(n), np.arange(n, dtype=np.int32))
    return lambda: reduce(features, method, seed=0, **given)


def _leave_one_out_knn(values: np.ndarray, labels: np.ndarray) -> float:
    """10 neighbours, searched anew. Of equally many votes the nearest neighbour decides."""
    return ours.leave_one_out_knn(exact_neighbors(values, 10, engine=_engine()), labels).accuracy.value


def _kmeans_agreement(values: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """As many clusters as classes, 4 starts, one thread: the clusters must not depend on the machine."""
    agreement = ours.kmeans_agreement(values, labels, n_init=4, seed=0)
    return agreement.nmi.value, agreement.ari.value


def _trustworthiness(values: np.ndarray, coords: np.ndarray) -> float:
    """For 10 neighbours, from 2,000 anchors; with continuity, Shepard's and Q_NX."""
    return ours.faithfulness(values, coords, 10, engine=_engine()).trustworthiness.value


_FUNCTIONS = {
    "knn_accuracy": lambda values, labels: ours.knn_accuracy(values, labels)[0],
    "leave_one_out_knn": _leave_one_out_knn,
    "silhouette": lambda values, labels: ours.silhouette(values, labels, engine=_engine()).mean.value,
    "davies_bouldin": lambda values, labels: ours.davies_bouldin(values, labels).value,
    "calinski_harabasz": lambda values, labels: ours.calinski_harabasz(values, labels).value,
    "kmeans_agreement": _kmeans_agreement,
    "trustworthiness": _trustworthiness,
    # Ten penalties by exact leave-one-out.
    "ridge_probe": lambda *arrays: ours.ridge_probe(*arrays).accuracy.value,
    # C of four by a held-out fifth of at most 4,000 rows.
    "logistic_probe": lambda *arrays: ours.logistic_probe(*arrays).accuracy.value,
}
