"""jaxtl's metrics, as `jaxtl.metrics` offers them: each with the neighbours it needs and its 95 % interval.

`space` is "features" or "map" throughout. The quality is the number itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers import data, jax_clock, work
from benchmarks.peers.jaxtl_maps import engine
from benchmarks.peers.timing import Result, measured
from jaxtl import metrics
from jaxtl.neighbors import exact_neighbors

_SEED = 0


def knn_accuracy(n: int, space: str = "features") -> Result:
    """10 neighbours in 5 stratified folds."""
    values, labels = _space(n, space)
    return _metric(
        lambda: metrics.knn_accuracy(values, labels)[0],
        lambda found: {"accuracy": found},
        work.distances(*values.shape),
    )


def leave_one_out_knn(n: int, space: str = "features") -> Result:
    """10 neighbours, searched anew. Of equally many votes the nearest neighbour decides."""
    values, labels = _space(n, space)
    return _metric(
        lambda: metrics.leave_one_out_knn(exact_neighbors(values, 10, engine=engine()), labels),
        lambda found: {"accuracy": found.accuracy.value},
        work.distances(*values.shape),
    )


def silhouette(n: int, space: str = "features") -> Result:
    values, labels = _space(n, space)
    return _metric(
        lambda: metrics.silhouette(values, labels, engine=engine()),
        lambda found: {"silhouette": found.mean.value},
        work.distances(*values.shape),
    )


def davies_bouldin(n: int, space: str = "features") -> Result:
    values, labels = _space(n, space)
    return _metric(
        lambda: metrics.davies_bouldin(values, labels),
        lambda found: {"davies_bouldin": found.value},
        work.passes(*values.shape),
    )


def calinski_harabasz(n: int, space: str = "features") -> Result:
    values, labels = _space(n, space)
    return _metric(
        lambda: metrics.calinski_harabasz(values, labels),
        lambda found: {"calinski_harabasz": found.value},
        work.passes(*values.shape),
    )


def kmeans_agreement(n: int, space: str = "features") -> Result:
    """As many clusters as classes, 4 starts, one thread: the clusters must not depend on the machine."""
    values, labels = _space(n, space)
    return _metric(
        lambda: metrics.kmeans_agreement(values, labels, n_init=4, seed=_SEED),
        lambda found: {"nmi": found.nmi.value, "ari": found.ari.value},
    )


def trustworthiness(n: int) -> Result:
    """Of an exact PCA's map, for 10 neighbours, from 2,000 anchors; with continuity, Shepard's and Q_NX."""
    values, coords = data.features(n), data.space("map", n)
    return _metric(
        lambda: metrics.faithfulness(values, coords, 10, engine=engine()),
        lambda found: {"trustworthiness": found.trustworthiness.value},
        work.distances(*values.shape),
    )


def ridge_probe(n: int) -> Result:
    """Trained on four fifths, tested on the last; ten penalties by exact leave-one-out."""
    given = data.train_and_test(n)
    return _metric(lambda: metrics.ridge_probe(*given), lambda found: {"accuracy": found.accuracy.value})


def logistic_probe(n: int) -> Result:
    """Trained on four fifths, tested on the last; C of four by a held-out fifth of at most 4,000 rows."""
    given = data.train_and_test(n)
    return _metric(lambda: metrics.logistic_probe(*given), lambda found: {"accuracy": found.accuracy.value})


def linear_cka(n: int) -> Result:
    """Of the two halves of the features, plain and debiased."""
    first, second = data.halves(n)
    return _metric(
        lambda: metrics.linear_cka(first, second),
        lambda found: {"debiased": found.debiased.value, "plain": found.plain.value},
    )


def procrustes(n: int) -> Result:
    """Of the two halves of the features."""
    first, second = data.halves(n)
    return _metric(lambda: metrics.procrustes(first, second), lambda found: {"disparity": found.value})


def two_nn(n: int, space: str = "features") -> Result:
    """With 10 neighbours, searched anew, so that copies of points do no harm."""
    values, _ = _space(n, space)
    return _metric(
        lambda: metrics.two_nn(exact_neighbors(values, 10, engine=engine())),
        lambda found: {"dimension": found.value},
        work.distances(*values.shape),
    )


def dimensions(n: int) -> Result:
    """Effective rank and participation ratio."""
    values = data.features(n)
    return _metric(
        lambda: metrics.dimensions(values),
        lambda found: {"effective_rank": found.effective_rank.value,
                       "participation_ratio": found.participation_ratio.value},
    )  # fmt: skip


def log_me(n: int) -> Result:
    values, labels = _space(n, "features")
    return _metric(lambda: metrics.log_me(values, labels), lambda found: {"log_me": found.value})


def h_score(n: int) -> Result:
    values, labels = _space(n, "features")
    return _metric(lambda: metrics.h_score(values, labels), lambda found: {"h_score": found.shrunk.value})


def _space(n: int, space: str) -> tuple[np.ndarray, np.ndarray]:
    return data.space(space, n), data.labels(n)


def _metric(
    work: Callable[[], Any], quality: Callable[[Any], dict[str, float]], amount: dict[str, int] | None = None
) -> Result:
    return measured(work, quality, amount, jax_clock.compiled)
