"""Clusters that a map shows by itself: nobody says how many there are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.cores import one_blas_thread
from jaxtl.machine.warned import ignoring
from jaxtl.metrics.checks import check_draws, check_labels, check_values
from jaxtl.metrics.estimates import Estimate, half_estimate, half_samples
from jaxtl.neighbors.middle import steady

# What is called a cluster: so many points in a hundred, or a quarter of a class where these are smaller, and
# never fewer than `_LEAST`.
_SHARE, _OF_A_CLASS, _LEAST = 0.01, 0.25, 5
# A point lies as dense as its distance to so many neighbours says, the point itself counted.
_NEIGHBORS = 10
# More points are sampled: the time grows with their square.
_MOST = 4000
_HALVES = 10


class DensityClusters(NamedTuple):
    """Clusters found by density, and the classes beside them.

    Attributes:
        count: how many clusters there are.
        matched: 2 x the pairs of a cluster and a class that share more than half of the points that either
            has, over clusters and classes; 0 to 1, 1 where each class is one cluster and each cluster one
            class.
        pairs: how many such pairs there are: classes that have a cluster of their own.
        classes: how many classes there are.
        clusters: int32 [n], -1 of points in none, -2 of those that were not sampled.
    """

    count: Estimate
    matched: Estimate
    pairs: int
    classes: int
    clusters: np.ndarray


def density_clusters(
    values: np.ndarray, labels: np.ndarray, *, halves: int = _HALVES, seed: int = 0
) -> DensityClusters:
    """Clusters of HDBSCAN (Campello et al. 2013; scikit-learn's) and how many of them are classes.

    A cluster has 1 % of the points or more; with more than 25 classes, a quarter of a class of mean size.
    Pairs are those of panoptic quality (Kirillov et al. 2019, CVPR): as they share more than half of their
    union, no class can have two clusters and no cluster two classes. Points that are in no cluster count as
    missed.

    Args:
        values: [n, d], finite, of few dimensions, as of a map. Of more than 4,000 points a random sample is
            clustered.
        labels: int [n].
        halves: of the points, clustered anew for the intervals.
        seed: of the sample and of the halves.

    Raises:
        JaxtlError: fewer than 20 points, fewer than two classes, or values that are not finite.
    """
    where = "clusters by density"
    check_draws(where, seed, halves=halves)
    values = check_values(where, values, 2 * _NEIGHBORS)
    classes, members = check_labels(where, labels, len(values))
    if len(classes) == len(values):
        raise JaxtlError(f"{where}: each of the {len(values)} rows is a class of its own; give more images")
    sample = np.arange(len(values))
    if len(values) > _MOST:
        sample = np.sort(np.random.default_rng(seed).choice(len(values), _MOST, replace=False))
    values, members = steady(values[sample]), members[sample]
    clusters = np.full(len(labels), -2, np.int32)
    clusters[sample] = found = _clusters(values, len(classes))
    count, pairs = _pairs(found, members)
    tried = [
        _matched(*_pairs(_clusters(values[rows], len(classes)), members[rows]), members[rows])
        for rows in half_samples(len(values), halves, seed)
    ]
    counts, shares = np.array(tried).T
    number = half_estimate(count, counts, 0.0)
    return DensityClusters(
        number._replace(low=float(np.floor(number.low)), high=float(np.ceil(number.high))),
        half_estimate(_matched(count, pairs, members)[1], shares, 0.0, 1.0),
        pairs,
        len(classes),
        clusters,
    )


def _clusters(values: np.ndarray, n_classes: int) -> np.ndarray:
    from sklearn.cluster import HDBSCAN

    n = len(values)
    least = max(_LEAST, round(min(_SHARE * n, _OF_A_CLASS * n / n_classes)))
    if n <= max(least, _NEIGHBORS):
        return np.full(n, -1)
    method = HDBSCAN(min_cluster_size=least, min_samples=_NEIGHBORS, copy=True, n_jobs=1)
    # The warning is of configuration that threads do not inherit; there is none.
    with ignoring(r".*sklearn\.utils\.parallel\.delayed.*"), one_blas_thread():
        return method.fit_predict(values.astype(np.float64))


def _pairs(clusters: np.ndarray, members: np.ndarray) -> tuple[int, int]:
    """How many clusters there are, and how many pairs of one and a class are mostly the same."""
    count, n_classes = int(clusters.max()) + 1, int(members.max()) + 1
    # In column 0 are the points of no cluster, which belong to their classes all the same.
    places = members * (count + 1) + clusters + 1
    table = np.bincount(places, minlength=n_classes * (count + 1)).reshape(n_classes, count + 1)
    shared = table[:, 1:]
    union = table.sum(axis=1)[:, None] + shared.sum(axis=0) - shared
    return count, int(np.sum(2 * shared > union))


def _matched(count: int, pairs: int, members: np.ndarray) -> tuple[int, float]:
    """The number of clusters, and the share of clusters and classes that are in a pair."""
    return count, 2 * pairs / (count + len(np.unique(members)))
