"""What became of each point between two spaces: neighbours kept, places lost, classes put right or wrong.

All of it is free of scale: a space that is shifted, rotated, mirrored or stretched as a whole has changed
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.cores import share
from jaxtl.metrics.checks import check_count, check_draws, check_labels, check_neighbors, check_pair
from jaxtl.metrics.distances import BLOCK, Points
from jaxtl.metrics.estimates import HALVES, NORMAL, SPARE, Estimate, half_estimate, half_samples
from jaxtl.records.arrays import Neighbors
from jaxtl.records.given import as_array

# What became of a point whose class a classifier names before and after, by number.
OUTCOMES = ("right", "fixed", "broken", "wrong")
# Others that stand for all of them: then the error of a share is below 0.005, whatever the share.
OTHERS = 10_000
# Of others that may have come between, up to which they are looked at one by one.
_FEW = 0.05


class Kept(NamedTuple):
    """How many nearest neighbours are the same in two spaces.

    Attributes:
        mean: of `scores`, 0 to 1.
        chance: what unrelated spaces give, k / (n - 1).
        scores: float64 [n], share of each point's k nearest in one space that are so in the other.
        classes: int [c], the labels that occur; none where none were given.
        per_class: the mean of each of them.
    """

    mean: Estimate
    chance: float
    scores: np.ndarray
    classes: np.ndarray
    per_class: tuple[Estimate, ...]


class Moved(NamedTuple):
    """How far points went from those that were nearest.

    Attributes:
        mean: of `scores`.
        scores: float64 [n]; 0 where the former neighbours are the nearest still, 0.5 by chance, 1 where they
            are the farthest.
        classes, per_class: as of `Kept`.
    """

    mean: Estimate
    scores: np.ndarray
    classes: np.ndarray
    per_class: tuple[Estimate, ...]


class Paired(NamedTuple):
    """The same points, classified before and after.

    Attributes:
        outcomes: uint8 [n], places in OUTCOMES.
        right, fixed, broken, wrong: shares of the points, which add up to 1.
        gained: difference of the accuracies, the share fixed less the share broken; -1 to 1.
        p_value: of McNemar's exact test that a change fixes and breaks with one probability.
    """

    outcomes: np.ndarray
    right: Estimate
    fixed: Estimate
    broken: Estimate
    wrong: Estimate
    gained: Estimate
    p_value: float


def neighbors_kept(
    before: Neighbors,
    after: Neighbors,
    n_neighbors: int = 10,
    labels: np.ndarray | None = None,
    *,
    halves: int = HALVES,
    seed: int = 0,
) -> Kept:
    """Share of each point's k nearest in one space that are among its k nearest in the other.

    Its mean is Q_NX(k) of Lee & Verleysen 2009 between the two spaces. Embedding Comparator (Boggust et al.
    2022) and Emblaze (Sivaraman et al. 2022) show what is shared of neighbourhoods in the same way.

    Points bear on each other's scores, as neighbours. Intervals therefore come from random halves of the
    points, in which neighbours are those of the half: as many as k, or a third of those that are known.

    Args:
        before, after: neighbours of the same n points, at least k of each.
        n_neighbors: k, 1 to n - 2: of n - 1 all would be kept whatever happened.
        labels: int [n], classes of the points.
        halves, seed: of the intervals; `halves` is even.

    Raises:
        JaxtlError: k out of range, or other numbers of points.
    """
    where = "neighbours kept"
    check_draws(where, seed, halves=halves)
    check_neighbors(where, before), check_neighbors(where, after)
    n, k = len(before.indices), n_neighbors
    if len(after.indices) != n:
        raise JaxtlError(
            f"{where}: {n} points against {len(after.indices)}; give the same ones, in one order"
        )
    known = min(before.indices.shape[1], after.indices.shape[1])
    _check_size(where, k, n, known)
    scores = _shared(before.indices[:, :k], after.indices[:, :k])
    # In a half, `asked` neighbours of each point are nearly always among those that are known.
    asked = max(1, min(k, known // SPARE))
    lists = [near.indices[:, : SPARE * asked] for near in (before, after)]
    in_half = partial(_shared_within, lists, _partners(*lists), asked)
    mean, classes, per_class = _by_halves(where, scores, in_half, labels, halves, seed)
    return Kept(mean, k / (n - 1), scores, classes, per_class)


def _partners(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where entries of rows [n, v] stand in the same rows of others [n, w], else w: int32 [n, v].

    Entries are places of n points, in each row different ones.
    """
    n, width = other.shape
    partners, size = np.empty(one.shape, np.int32), max(1, min(n, BLOCK // n))
    # Of some rows at a time, where each point stands.
    places = np.full(size * n, width, np.int32)
    for start in range(0, n, size):
        rows = slice(start, start + size)
        first = n * np.arange(len(one[rows]))[:, None]
        known = first + other[rows]
        places.put(known, np.arange(width))
        partners[rows] = places.take(first + one[rows])
        places.put(known, width)
    return partners


def _shared_within(lists: Sequence[np.ndarray], partners: np.ndarray, k: int, rows: np.ndarray) -> np.ndarray:
    """`_shared` of the k nearest that each of these rows has among them, by lists [n, w] of each space.

    A row that has fewer than k has so many less in common; `partners` are those of the lists.
    """
    one, other = (_nearest_within(known, rows, k) for known in lists)
    # Of an entry that has no partner: one that is never among the nearest.
    other = np.pad(other, ((0, 0), (0, 1)))
    # By places in the flat array, which takes half the time of take_along_axis.
    starts = other.shape[1] * np.arange(len(rows))
    one &= other.ravel().take(partners.take(rows, axis=0) + starts[:, None])
    return np.count_nonzero(one, axis=1) / k


def _nearest_within(known: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Which of the neighbours [n, w] of some rows are their k nearest among these rows: bool [h, w]."""
    inside = np.zeros(len(known), bool)
    inside[rows] = True
    asked = inside.take(known.take(rows, axis=0))
    asked &= asked.cumsum(axis=1, dtype=np.int32) <= k
    return asked


def moved_from_neighbors(
    before: Neighbors,
    after: np.ndarray,
    n_neighbors: int = 10,
    labels: np.ndarray | None = None,
    *,
    halves: int = HALVES,
    seed: int = 0,
) -> Moved:
    """How many others have come between a point and those that were its k nearest.

    Of each point: the chance that another one, which was not among its k nearest before, is nearer to it
    after than one that was; ties count by half. That is the statistic of Mann & Whitney 1947 over its
    largest value, of the ranks that continuity (Venna & Kaski 2001) looks at beyond k. Only the order of
    distances plays a part. With more than 10,000 points the others are a random 10,000 of them. Intervals
    come from random halves of the points, in which a point has those former neighbours that are in its half.

    Args:
        before: neighbours of n points, at least k of each.
        after: [n, d], finite, the space in which the points lie now.
        n_neighbors: k, 1 to n - 2.
        labels, halves: as of `neighbors_kept`.
        seed: of the halves, and of the others where they are drawn.

    Raises:
        JaxtlError: k out of range, other numbers of points, or values that are not finite.
    """
    where = "movement"
    check_draws(where, seed, halves=halves)
    n, known = check_neighbors(where, before).indices.shape
    after = check_pair(where, before.distances, after, 3)[1]
    _check_size(where, n_neighbors, n, known)
    rng = np.random.default_rng(seed)
    others = np.arange(n) if n <= OTHERS else np.sort(rng.choice(n, OTHERS, replace=False))
    nearest = before.indices[:, :n_neighbors]
    shares = _between(nearest, after, others)
    scores = shares.mean(axis=1)
    within = partial(_mean_within, shares, nearest)
    mean, classes, per_class = _by_halves(where, scores, within, labels, halves, seed)
    return Moved(mean, scores, classes, per_class)


def paired_outcomes(before: np.ndarray, after: np.ndarray) -> Paired:
    """What two classifiers, or one before and after a change, make of the same points.

    Intervals of the shares are Wilson's (1927), that of their difference is Bonett & Price's (2012): both
    hold where nothing was fixed or broken, of which a bootstrap says that nothing ever will be.

    Args:
        before, after: bool [n], whether each point's class was named rightly; n at least 1.

    Raises JaxtlError where there are none, or not as many of both.
    """
    before, after = (_outcomes_of(side) for side in (before, after))
    if before.shape != after.shape or before.ndim != 1 or not len(before):
        raise JaxtlError(
            f"outcomes: needs as many points before as after, got {list(before.shape)} and "
            f"{list(after.shape)}"
        )
    outcomes = (2 * ~after + 1 * ~before).astype(np.uint8)
    counts = [int(count) for count in np.bincount(outcomes, minlength=len(OUTCOMES))]
    n, (_, fixed, broken, _) = len(before), counts
    shares = [wilson(count, n) for count in counts]
    return Paired(outcomes, *shares, difference(fixed, broken, n), mcnemar(fixed, broken))


def _outcomes_of(side: np.ndarray) -> np.ndarray:
    side = as_array("outcomes", "whether classes are right", side)
    if side.dtype.kind != "b" and not (side.dtype.kind in "iu" and np.isin(side, (0, 1)).all()):
        raise JaxtlError(f"outcomes: must be bool [n], whether each point is right, got {side.dtype}")
    return side.astype(bool)


def mcnemar(fixed: int, broken: int) -> float:
    """p of McNemar's test (1947) in its exact, two-sided form, which no number of changes is too small for.

    The chance that at least as uneven a split of `fixed + broken` changes comes of a fair coin; 1 where
    nothing changed.
    """
    from scipy.stats import binomtest

    check_count("McNemar's test", "fixed", fixed, 0)
    check_count("McNemar's test", "broken", broken, 0)
    changed = fixed + broken
    return float(binomtest(fixed, changed).pvalue) if changed else 1.0


def wilson(count: int, n: int) -> Estimate:
    """A share of n points with Wilson's score interval (1927), which is never of no width."""
    value, spread = count / n, NORMAL**2 / n
    middle = value + spread / 2
    half = np.sqrt(spread * (value * (1 - value) + spread / 4))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return Estimate(value, float(min(value, max(0.0, low))), float(max(value, min(1.0, high))))


def difference(fixed: int, broken: int, n: int) -> Estimate:
    """Gain of accuracy on the same n points, with the adjusted Wald interval of Bonett & Price 2012.

    Fagerland, Lydersen & Laake 2014 recommend it, for all sizes, of those that are computed by hand.
    """
    value = (fixed - broken) / n
    more, less = (fixed + 1) / (n + 2), (broken + 1) / (n + 2)
    half = NORMAL * np.sqrt((more + less - (more - less) ** 2) / (n + 2))
    low, high = more - less - half, more - less + half
    return Estimate(value, float(min(value, max(-1.0, low))), float(max(value, min(1.0, high))))


def _check_size(where: str, k: int, n: int, known: int) -> None:
    check_count(where, "n_neighbors", k, 1)
    if not 1 <= k <= n - 2:
        raise JaxtlError(f"{where}: n_neighbors must be 1 to {n - 2} for {n} points, got {k}")
    if k > known:
        raise JaxtlError(f"{where}: n_neighbors must be at most {known}, as many as are known, got {k}")


def _by_halves(
    where: str,
    scores: np.ndarray,
    in_half: Callable[[np.ndarray], np.ndarray],
    labels: np.ndarray | None,
    halves: int,
    seed: int,
) -> tuple[Estimate, np.ndarray, tuple[Estimate, ...]]:
    """Mean of scores [n] of 0 to 1, the classes that occur, and the mean of each.

    `in_half` gives the scores that some rows have among themselves; NaN where one has none.
    """
    known = np.zeros(len(scores), int) if labels is None else labels
    classes, members = check_labels(where, known, len(scores), least=1)
    whole = _means(scores, members, len(classes))
    parts = [
        _means(in_half(rows), members[rows], len(classes)) for rows in half_samples(len(scores), halves, seed)
    ]
    by_part = np.reshape(parts, (-1, len(whole))).T
    mean, *own = (half_estimate(*pair, 0, 1) for pair in zip(whole, by_part, strict=True))
    return (mean, classes[:0], ()) if labels is None else (mean, classes, tuple(own))


def _means(scores: np.ndarray, members: np.ndarray, classes: int) -> np.ndarray:
    """Of all scores that there are, and of each class; NaN of one that has none: float64 [1 + classes]."""
    there = np.isfinite(scores)
    scores, members = scores[there], members[there]
    with np.errstate(invalid="ignore"):
        own = np.bincount(members, scores, classes) / np.bincount(members, minlength=classes)
    return np.array([scores.mean() if len(scores) else np.nan, *own])


def _mean_within(shares: np.ndarray, nearest: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean of each row's shares [n, k] over those of its neighbours that are among the rows."""
    inside = np.zeros(len(nearest), bool)
    inside[rows] = True
    asked = inside[nearest[rows]]
    with np.errstate(invalid="ignore"):
        return np.einsum("nk,nk->n", shares[rows], asked) / asked.sum(axis=1)


def _shared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share of each row of [n, k] that stands in the same row of the other, too."""
    return (_partners(one, other) < other.shape[1]).mean(axis=1)


def _between(nearest: np.ndarray, values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of the `others` that lie nearer than each of a point's own `nearest`; float64 [n, k]."""
    (n, k), d = nearest.shape, values.shape[1]
    points = Points(values)
    column = np.full(n, -1)
    column[others] = np.arange(len(others))
    size = max(1, min(256, BLOCK // max(len(others), k * d)))
    shares = np.empty((n, k))

    def fill(start: int) -> None:
        rows = np.arange(start, min(start + size, n))
        apart = points.squared(rows, others)
        known = column[np.column_stack([rows, nearest[rows]])]
        own, place = np.nonzero(known >= 0)
        passed = own, known[own, place]
        # Neither the point itself nor a former neighbour has come between.
        apart[passed] = np.inf
        counted = len(others) - np.bincount(own, minlength=len(rows))
        steps = values[nearest[rows]].astype(np.float64)
        steps -= values[rows, None]
        limits = np.einsum("rkd,rkd->rk", steps, steps)
        close = apart <= limits.max(axis=1, keepdims=True) + points.most_rounding(rows)
        if np.count_nonzero(close) > _FEW * close.size:
            rounding = points.rounding(rows[:, None], others, apart)
            rounding[passed] = 0
            nearer = _counted(apart, rounding, limits)
        else:
            # As a rule few others have come between: only they are looked at.
            line, place = np.nonzero(close)
            near = apart[line, place]
            nearer = _counted_of(line, near, points.rounding(rows[line], others[place], near), limits)
        shares[rows] = nearer / (2 * counted[:, None])

    share(fill, range(0, n, size))
    return shares


def _counted(apart: np.ndarray, rounding: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """How many of squared distances [m, n] are below each limit [m, k] of their row, twice; equal ones once.

    Those that differ by less than their rounding are equal.
    """
    counts = np.empty(limits.shape, int)
    for k, limit in enumerate(limits.T):
        counts[:, k] = np.count_nonzero(apart < limit[:, None] - rounding, axis=1)
        counts[:, k] += np.count_nonzero(apart <= limit[:, None] + rounding, axis=1)
    return counts


def _counted_of(line: np.ndarray, near: np.ndarray, rounding: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """`_counted` of some distances, each of a row `line`."""
    counts = np.empty(limits.shape, int)
    for k, limit in enumerate(limits.T):
        own = limit[line]
        counts[:, k] = np.bincount(line[near < own - rounding], minlength=len(limits))
        counts[:, k] += np.bincount(line[near <= own + rounding], minlength=len(limits))
    return counts
