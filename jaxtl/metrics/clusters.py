"""How well classes stand apart as clusters of a space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.cores import one_blas_thread, share
from jaxtl.machine.engines import engine_for
from jaxtl.machine.warned import ignoring
from jaxtl.metrics import distances
from jaxtl.metrics.checks import check_count, check_draws, check_labels, check_values
from jaxtl.metrics.estimates import (
    Estimate,
    class_means,
    half_estimate,
    half_samples,
    jackknife_estimate,
    one_hot,
)
from jaxtl.neighbors.middle import about_middle, needs_differences, steady

# Points, and of each class, by whose silhouettes it is seen what a point does to the others'. Their scatter
# adds a part in so many to the squared error.
_STANDING, _LEAST_STANDING = 256, 16
# Halves that are clustered: k-means takes longer than what is counted elsewhere.
_HALVES = 10
# Of these and the whole, since each holds copies of its rows: the halves then take no longer than the whole.
_AT_A_TIME = 3


@dataclass(frozen=True)
class Silhouette:
    """How much nearer points are to their own class than to the next; higher is better.

    Attributes:
        mean: of `scores`, -1 to 1.
        per_class: the mean among the points of each of `classes`.
        classes: int [C], ascending.
        scores: float64 [n]; 0 for the only one of its class.
    """

    mean: Estimate
    per_class: tuple[Estimate, ...]
    classes: np.ndarray
    scores: np.ndarray


class KMeansAgreement(NamedTuple):
    """Agreement of k-means clusters with classes; higher is better.

    Attributes:
        nmi: normalised mutual information, by the mean of the entropies, 0 to 1.
        ari: adjusted Rand index, at most 1; 0 by chance.
        clusters: int32 [n].
    """

    nmi: Estimate
    ari: Estimate
    clusters: np.ndarray


def silhouette(values: np.ndarray, labels: np.ndarray, *, engine: str = "auto", seed: int = 0) -> Silhouette:
    """Silhouettes by Euclidean distance between all points (Rousseeuw 1987, J. Comput. Appl. Math. 20:53).

    `sklearn.metrics.silhouette_samples` without its n x n distances: each block of pairs is measured once.

    Args:
        values: [n, d], finite: features or an embedding.
        labels: int [n].
        engine: "cpu"; "jax" for JAX's default device; "auto", which is "jax" where that is a GPU.
        seed: of the points that stand for all where it is asked what a point does to the others' silhouettes:
            the interval is the infinitesimal jackknife's.

    Raises:
        JaxtlError: fewer than two classes, as many classes as points, or values that are not finite.
    """
    check_draws("silhouette", seed)
    values, classes, members = _checked("silhouette", values, labels)
    # A device has products about the mean alone.
    if engine_for(engine, len(values) ** 2, 16 * values.size) == "cpu" or needs_differences(values):
        sums = distances.class_distances(values, members, len(classes))
    else:
        from jaxtl.metrics import device

        sums = device.class_distances(values, members, len(classes))
    scores, slopes = _silhouettes(sums, members)
    brought = _silhouette_influences(values, members, len(classes), scores, slopes, seed)
    per_class = tuple(
        jackknife_estimate(scores[members == c].mean(), influences, -1.0, 1.0)
        for c, influences in enumerate(brought.T[:-1])
    )
    mean = jackknife_estimate(scores.mean(), brought[:, -1], -1.0, 1.0)
    return Silhouette(mean, per_class, classes, scores)


def calinski_harabasz(values: np.ndarray, labels: np.ndarray) -> Estimate:
    """Scatter between classes over scatter within, each by its degrees of freedom; higher is better.

    From 0 upwards (Calinski & Harabasz 1974, Comm. Statist. 3:1); scikit-learn's
    `calinski_harabasz_score`. The interval is the infinitesimal jackknife's: class means minimise the scatter
    within, so that a point's weight acts, to first order, through its own squared distances only.

    Raises:
        JaxtlError: as `silhouette`; or classes that are single points each.
    """
    where = "Calinski-Harabasz index"
    values, classes, members = _checked(where, values, labels)
    centred = _centred(values)
    means, _ = class_means(centred, members, len(classes))
    within = _squares(centred - means[members])
    between = _squares(centred) - within
    spread = _positive(where, within.sum())
    factor = (len(values) - len(classes)) / (len(classes) - 1) / spread
    value = factor * between.sum()
    return jackknife_estimate(value, factor * between - value / spread * within, least=0.0)


def davies_bouldin(values: np.ndarray, labels: np.ndarray) -> Estimate:
    """Mean over classes of the worst (spread + spread) / distance of means; lower is better.

    From 0 upwards (Davies & Bouldin 1979, IEEE TPAMI 1:224); scikit-learn's `davies_bouldin_score`. The
    interval is the infinitesimal jackknife's, with each class's worst partner kept.

    Raises:
        JaxtlError: as `silhouette`; or two classes with one and the same mean.
    """
    where = "Davies-Bouldin index"
    values, classes, members = _checked(where, values, labels)
    centred = _centred(values)
    means, counts = class_means(centred, members, len(classes))
    from_mean = centred - means[members]
    radii = np.sqrt(_squares(from_mean))
    spreads = np.bincount(members, radii) / counts
    apart = np.sqrt(np.stack([_squares(means - mean) for mean in means]))
    np.fill_diagonal(apart, np.inf)
    _positive(where, apart.min())
    ratios = (spreads[:, None] + spreads) / apart
    worst = ratios.argmax(axis=1)
    return jackknife_estimate(
        ratios.max(axis=1).mean(),
        _davies_bouldin_influences(from_mean, radii, members, means, counts, apart, ratios, worst),
        least=0.0,
    )


def kmeans_agreement(
    values: np.ndarray, labels: np.ndarray, *, n_init: int = 4, halves: int = _HALVES, seed: int = 0
) -> KMeansAgreement:
    """Agreement of the classes with as many clusters found by k-means (scikit-learn's, k-means++ starts).

    NMI and ARI are scikit-learn's (Strehl & Ghosh 2002; Hubert & Arabie 1985). For the interval halves of the
    points are clustered anew, since a resample's points come twice and fall into one cluster and one class.

    Args:
        n_init: starts, of which the best is taken.
        halves: of the points, clustered from one start each.
        seed: of k-means and of the halves.

    Raises:
        JaxtlError: as `silhouette`.
    """
    where = "k-means agreement"
    check_count(where, "n_init", n_init, 1)
    check_draws(where, seed, halves=halves)
    values, classes, members = _checked(where, values, labels)

    def agree(rows: np.ndarray | slice, n_init: int) -> tuple[float, float, np.ndarray]:
        clusters = _kmeans(values[rows], len(classes), n_init, seed)
        places = members[rows] * len(classes) + clusters
        table = np.bincount(places, minlength=len(classes) ** 2).reshape(1, len(classes), len(classes))
        return float(_mutual_information(table)[0]), float(_adjusted_rand(table)[0]), clusters

    wholly: list[tuple[slice | np.ndarray, int]] = [(slice(None), n_init)]
    if len(values) // 2 < len(classes):
        nmi, ari, clusters = agree(*wholly[0])
        return KMeansAgreement(Estimate(nmi, 0.0, 1.0), Estimate(ari, -0.5, 1.0), clusters)
    in_halves = [(rows, 1) for rows in half_samples(len(values), halves, seed)]
    (nmi, ari, clusters), *of_halves = share(lambda part: agree(*part), [*wholly, *in_halves], _AT_A_TIME)
    found = np.array([of_half[:2] for of_half in of_halves])
    return KMeansAgreement(
        half_estimate(nmi, found[:, 0], 0, 1), half_estimate(ari, found[:, 1], -0.5, 1), clusters
    )


def _kmeans(values: np.ndarray, n_clusters: int, n_init: int, seed: int) -> np.ndarray:
    """The cluster of each row, int32 [n]."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    steadied = steady(values)
    # scikit-learn's own is a part of the variance, which points far away make as large as all the others.
    tolerance = 1e-4 if steadied is values else 0.0
    # In one thread, since the sums of several, and so at times the clusters, depend on how many there are.
    # The warning is of fewer different points than classes: then fewer clusters are the answer.
    with ignoring(category=ConvergenceWarning), one_blas_thread():
        # Elkan's bounds save a third of the distances, and give Lloyd's clusters.
        means = KMeans(n_clusters, n_init=n_init, random_state=seed, algorithm="elkan", tol=tolerance)
        return means.fit_predict(steadied)


def _checked(where: str, values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = check_values(where, values)
    classes, members = check_labels(where, labels, len(values))
    if len(classes) == len(values):
        raise JaxtlError(f"{where}: each of the {len(values)} rows is a class of its own; give more images")
    return values, classes, members


def _centred(values: np.ndarray) -> np.ndarray:
    """Rows about their mean in float64; where some lie far away, of rows about the middle of the others."""
    middle = about_middle(values)
    if middle.spread:
        values = middle.rows
    return values - values.mean(axis=0, dtype=np.float64)


def _positive(where: str, size: float) -> float:
    if not size > 0:
        raise JaxtlError(f"{where}: not defined, since all points of a class or two class means coincide")
    return float(size)


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", rows, rows)


class _Slopes(NamedTuple):
    """How silhouettes change with the mean distances that they compare; [n] each.

    Attributes:
        next_class: int, the nearest other class.
        inside, outside: mean distances to the own and to that class.
        by_inside, by_outside: derivatives of the silhouette by both.
    """

    next_class: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    by_inside: np.ndarray
    by_outside: np.ndarray


def _silhouettes(sums: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, _Slopes]:
    rows, counts = np.arange(len(members)), np.bincount(members)
    own = counts[members]
    inside = sums[rows, members] / np.maximum(own - 1, 1)
    others = sums / counts
    others[rows, members] = np.inf
    next_class = others.argmin(axis=1)
    outside = others[rows, next_class]
    largest = np.maximum(inside, outside)
    # Where all distances are 0, and for the only one of its class, the silhouette is 0 by convention.
    defined = (own > 1) & (largest > 0)
    largest = np.where(defined, largest, 1)
    scores = np.where(defined, (outside - inside) / largest, 0.0)
    apart = outside > inside
    by_inside = np.where(defined, np.where(apart, -1, -outside / largest) / largest, 0)
    by_outside = np.where(defined, np.where(apart, inside / largest, 1) / largest, 0)
    return scores, _Slopes(next_class, inside, outside, by_inside, by_outside)


def _silhouette_influences(
    values: np.ndarray, members: np.ndarray, n_classes: int, scores: np.ndarray, slopes: _Slopes, seed: int
) -> np.ndarray:
    """Of each point, on the mean silhouette of each class and, last, of all: float64 [n, C + 1].

    A point's own silhouette, and what the others' change by with its weight, as some of the others show.
    """
    counts = np.bincount(members).astype(np.float64)
    means = np.bincount(members, scores) / counts
    brought = one_hot(members, n_classes) * (scores - means[members])[:, None]
    points = distances.Points(values)
    for c in range(n_classes):
        rows = _some_of(np.flatnonzero(members == c), len(members), seed)
        apart = np.sqrt(points.squared(rows, slice(None)))
        near = (members == c) * (apart - slopes.inside[rows, None]) * slopes.by_inside[rows, None]
        near /= max(counts[c] - 1, 1)
        following = members == slopes.next_class[rows, None]
        far = following * (apart - slopes.outside[rows, None]) * slopes.by_outside[rows, None]
        far /= counts[slopes.next_class[rows], None]
        near[np.arange(len(rows)), rows] = 0
        brought[:, c] += (near + far).mean(axis=0) * counts[c]
    whole = brought.sum(axis=1) + means[members]
    return np.column_stack([brought / counts, whole / len(members)])


def _some_of(rows: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Rows of one class that stand for all of it: its share of `_STANDING` of all n, or `_LEAST_STANDING`."""
    count = max(_LEAST_STANDING, round(_STANDING * len(rows) / n))
    if count >= len(rows):
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


def _davies_bouldin_influences(
    from_mean: np.ndarray,
    radii: np.ndarray,
    members: np.ndarray,
    means: np.ndarray,
    counts: np.ndarray,
    apart: np.ndarray,
    ratios: np.ndarray,
    worst: np.ndarray,
) -> np.ndarray:
    n_classes, rows = len(means), np.arange(len(means))
    distance, ratio = apart[rows, worst], ratios[rows, worst]
    # What the index changes by with each class's spread, and with its mean.
    by_spread = (1 / distance + np.bincount(worst, 1 / distance, n_classes)) / n_classes
    pull = (means - means[worst]) * (ratio / distance**2)[:, None] / n_classes
    by_mean = -pull
    np.add.at(by_mean, worst, pull)
    # The spread itself changes with the mean, by the mean direction towards it.
    directions = from_mean / np.where(radii > 0, radii, 1)[:, None]
    by_mean -= by_spread[:, None] * class_means(directions, members, n_classes)[0]
    spreads = np.bincount(members, radii) / counts
    change = by_spread[members] * (radii - spreads[members])
    change += np.einsum("nd,nd->n", from_mean, by_mean[members])
    return change / counts[members]


def _mutual_information(tables: np.ndarray) -> np.ndarray:
    shares = tables / tables.sum(axis=(1, 2), keepdims=True)
    rows, columns = _entropy(shares.sum(axis=2)), _entropy(shares.sum(axis=1))
    information = rows + columns - _entropy(shares.reshape(len(shares), -1))
    mean = (rows + columns) / 2
    # Two groupings into one group each are the same grouping.
    return np.where(mean > 0, information.clip(0) / np.where(mean > 0, mean, 1), 1.0)


def _entropy(shares: np.ndarray) -> np.ndarray:
    return -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=1)


def _adjusted_rand(tables: np.ndarray) -> np.ndarray:
    n = tables.sum(axis=(1, 2)).astype(np.float64)
    pairs = n * (n - 1) / 2
    together = np.sum(tables * (tables - 1.0) / 2, axis=(1, 2))
    rows, columns = (np.sum(s * (s - 1.0) / 2, axis=1) for s in (tables.sum(axis=2), tables.sum(axis=1)))
    expected, most = rows * columns / pairs, (rows + columns) / 2
    same = most == expected
    return np.where(same, 1.0, (together - expected) / np.where(same, 1, most - expected))
