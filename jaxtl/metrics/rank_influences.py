"""What each point does to scores that compare ranks: its own score, and what it adds to those of others.

Without a point the next neighbour takes its place, and all ranks beyond it fall by one. The first is counted
at every anchor; the second is much the same for points at one distance, so that some anchors stand for all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxtl.metrics.estimates import SPARE, half_samples

# Anchors that show what falling ranks do; their scatter adds a part in so many to the squared error.
_STANDING = 256
# Ranks looked at together.
_BLOCK = 4_000_000


class Influences(NamedTuple):
    """Derivatives of three means over anchors by the weight of each point, up to a constant; [n]."""

    trustworthiness: np.ndarray
    continuity: np.ndarray
    area: np.ndarray


class Scores(NamedTuple):
    """The anchors' own, float64 [m] each."""

    trustworthiness: np.ndarray
    continuity: np.ndarray
    area: np.ndarray


def rank_influences(
    outside: np.ndarray,
    inside: np.ndarray,
    anchors: np.ndarray,
    scores: Scores,
    k: int,
    gains: np.ndarray,
    seed: int,
) -> Influences:
    """Of each of the n points on the anchors' mean scores.

    Args:
        outside, inside: ranks in the space and in the embedding, whole numbers [m, n], nearest 1, own 0.
        anchors: int [m], rows of the anchors.
        k: of trustworthiness and continuity.
        gains: float64 [n], what a pair whose larger rank is so much adds to an anchor's area.
        seed: of the anchors that stand for all.
    """
    m, n = outside.shape
    totals = np.zeros((len(Scores._fields), n))
    step = max(1, _BLOCK // n)
    for start in range(0, m, step):
        rows = slice(start, start + step)
        totals += _replaced(outside[rows], inside[rows], k, gains)
    some = np.sort(np.random.default_rng(seed).choice(m, min(m, _STANDING), replace=False))
    for rows in np.array_split(some, -(-len(some) * n // _BLOCK)):
        totals += _fallen(outside[rows], inside[rows], k, gains) * (m / len(some))
    scale = 2 / (k * (2 * n - 3 * k - 1))
    totals[:2] *= scale
    for total, own in zip(totals, scores, strict=True):
        total[anchors] += own - own.mean()
    return Influences(*(totals / m))


def _replaced(outside: np.ndarray, inside: np.ndarray, k: int, gains: np.ndarray) -> np.ndarray:
    """What anchors' scores would lose with each point, the next one in its place, [3, n]."""
    trust, continuity = _penalties(outside, inside, k), _penalties(inside, outside, k)
    # Less what falling ranks undo where both spaces are one: `_fallen`, of some anchors, then adds little.
    area = gains[np.maximum(outside, inside)].sum(axis=0) - _undone(outside, inside, gains)
    return np.stack([trust, continuity, area])


def _undone(outside: np.ndarray, inside: np.ndarray, gains: np.ndarray) -> np.ndarray:
    return (gains[outside].sum(axis=0) + gains[inside].sum(axis=0)) / 2


def _penalties(there: np.ndarray, here: np.ndarray, k: int) -> np.ndarray:
    """By how many ranks each point costs less than what would take its place among the k nearest: [n]."""
    rows, points, following = _nearest(here, k)
    own = there[rows, points].astype(np.int64)
    successor = there[np.arange(len(there)), following].astype(np.int64)[rows]
    # Without a point that is nearer the successor's rank falls by one, too.
    successor -= own < successor
    cheaper = np.maximum(successor - k, 0) - np.maximum(own - k, 0)
    return np.bincount(points, cheaper, there.shape[1])


def _nearest(ranks: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Anchors and points of all pairs of ranks 1 to k, and each anchor's point of rank k + 1."""
    rows, points = np.nonzero((ranks <= k) & (ranks > 0))
    return rows, points, (ranks == k + 1).argmax(axis=1)


def _fallen(outside: np.ndarray, inside: np.ndarray, k: int, gains: np.ndarray) -> np.ndarray:
    """What anchors' scores would lose with each point because ranks beyond it fall by one, [3, n]."""
    trust, continuity = (
        -_counted_beyond(there, (here <= k) & (there > k))
        for there, here in ((outside, inside), (inside, outside))
    )
    falls = np.zeros_like(gains)
    falls[2:] = gains[1:-1] - gains[2:]
    worse = falls[np.maximum(outside, inside)]
    # Where both ranks are equal both must fall: half is counted by each.
    area = _undone(outside, inside, gains)
    for there, here in ((outside, inside), (inside, outside)):
        larger = (there > here) + 0.5 * (there == here)
        area -= _counted_beyond(there, larger * worse)
    return np.stack([trust, continuity, area])


def _counted_beyond(ranks: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Of each point, the sum of amounts [m, n] at larger ranks than its own, by all anchors: [n]."""
    by_rank = np.zeros(ranks.shape)
    np.put_along_axis(by_rank, ranks.astype(np.int64), amounts.astype(np.float64), axis=1)
    beyond = by_rank[:, ::-1].cumsum(axis=1)[:, ::-1] - by_rank
    return np.take_along_axis(beyond, ranks.astype(np.int64), axis=1).sum(axis=0)


def kept_in_halves(
    outside: np.ndarray, inside: np.ndarray, anchors: np.ndarray, k: int, halves: int, seed: int
) -> np.ndarray:
    """Mean share of an anchor's k nearest of its half that are the same in both ranks: [halves]."""
    n = outside.shape[1]
    wide = min(SPARE * k, n - 1)
    lists = [_listed(ranks, wide) + n * np.arange(len(ranks))[:, None] for ranks in (outside, inside)]
    shares = np.full(halves, np.nan)
    for half, rows in enumerate(half_samples(n, halves, seed)):
        present = np.zeros(n, bool)
        present[rows] = True
        own = present[anchors]
        nearest = []
        for pairs in lists:
            asked = present[pairs[own] % n]
            asked &= asked.cumsum(axis=1, dtype=np.int32) <= k
            nearest.append(pairs[own][asked])
        if own.any():
            shares[half] = len(np.intersect1d(*nearest, assume_unique=True)) / (k * own.sum())
    return shares


def _listed(ranks: np.ndarray, count: int) -> np.ndarray:
    """Points of ranks 1 to `count`, in that order: int [m, count]."""
    nearest = np.empty((len(ranks), count), np.int64)
    rows, points = np.nonzero((ranks <= count) & (ranks > 0))
    nearest[rows, ranks[rows, points].astype(np.int64) - 1] = points
    return nearest
