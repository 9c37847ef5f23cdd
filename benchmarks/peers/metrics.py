"""The metrics' cases: what each is given, what its values are called, and how much it computes.

A peer has a function for each metric of its library, of the arrays named here. The quality is the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers import data, work
from benchmarks.peers.timing import Result, measured

Arrays = tuple[np.ndarray, ...]


class Metric(NamedTuple):
    """What all peers have alike of one metric.

    Attributes:
        names: of its values, as they stand in a record.
        arrays: that a peer's function takes, by n and space.
        amount: of work, by the shape of the first of these.
    """

    names: tuple[str, ...]
    arrays: Callable[[int, str], Arrays]
    amount: Callable[[int, int], dict[str, int]] | None = None


def _labelled(n: int, space: str) -> Arrays:
    return data.space(space, n), data.labels(n)


METRICS = {
    "knn_accuracy": Metric(("accuracy",), _labelled, work.distances),
    "leave_one_out_knn": Metric(("accuracy",), _labelled, work.distances),
    "silhouette": Metric(("silhouette",), _labelled, work.distances),
    "davies_bouldin": Metric(("davies_bouldin",), _labelled, work.passes),
    "calinski_harabasz": Metric(("calinski_harabasz",), _labelled, work.passes),
    "kmeans_agreement": Metric(("nmi", "ari"), _labelled),
    "trustworthiness": Metric(
        ("trustworthiness",), lambda n, _: (data.features(n), data.space("map", n)), work.distances
    ),
    "ridge_probe": Metric(("accuracy",), lambda n, _: data.train_and_test(n)),
    "logistic_probe": Metric(("accuracy",), lambda n, _: data.train_and_test(n)),
}


def measure(
    functions: Mapping[str, Callable[..., Any]],
    name: str,
    n: int,
    space: str,
    compiled: Callable[[], float] | None = None,
) -> Result:
    """A peer's case: one of its functions, of n points in a space, "features" or "map"."""
    metric = METRICS[name]
    arrays = tuple(np.ascontiguousarray(array) for array in metric.arrays(n, space))
    return measured(
        lambda: functions[name](*arrays),
        lambda values: dict(zip(metric.names, np.atleast_1d(values), strict=True)),
        metric.amount and metric.amount(*arrays[0].shape),
        compiled,
    )
