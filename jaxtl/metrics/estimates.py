"""What every number here comes with: its 95 % interval.

Three ways lead to an interval. The mean of scores that points have each by themselves is bootstrapped over
the points (Efron 1979).

Smooth functions of all points (ratios, sums over eigenvalues, means of distances and ranks) have the
infinitesimal jackknife (Jaeckel 1972; Efron 1982, ch. 6): the derivative of the statistic with respect to
each point's weight gives its standard error, as deleting one point at a time would, and costs one more pass
over the points instead of n. Where a point has a score by its distances to others, it bears on the scores of
those, too; a bootstrap of the scores alone would be up to two times too narrow.

What is neither (votes, clusters, fits to sorted ratios) is computed again from random halves of the points. A
half and the rest are two independent samples, so that their difference has four times the variance of the
whole, however rough the statistic is (McCarthy 1969, Rev. Int. Statist. Inst. 37:239; Politis & Romano 1994,
Ann. Statist. 22:2031). A resample would hold points twice, which count as agreement or as distances of 0, and
lies to one side of the value.

Of few points that are nearly all right, resamples and halves are, too. The interval of a share of points is
therefore never narrower than Wilson's (1927, J. Am. Stat. Assoc. 22:209) of as many independent ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

_TAILS = (0.025, 0.975)
NORMAL = 1.959963984540054
# Scores with so few different values are resampled by how often each comes up.
_FEW = 64
# Draws of points made at a time.
_BLOCK = 1_000_000
# Random halves of the points. From so many the error is known to a sixth, for which Student's t makes up.
HALVES = 40
# Of so many times k neighbours, a half of the points holds k nearly always. No more are looked at where more
# are known: a number has one interval, whoever found its neighbours.
SPARE = 3


class Estimate(NamedTuple):
    """A number and its 95 % interval; of a curve, arrays of one shape.

    The interval is about other points drawn like these ones, which would have other neighbours, ranks and
    clusters.
    What they lie in it takes as given: the network, the embedding, and what training images taught.
    """

    value: Any
    low: Any
    high: Any


def mean_estimate(scores: np.ndarray, resamples: int = 1000, seed: int = 0) -> Estimate:
    """The mean of one score per point, with percentiles of the bootstrap over points.

    Args:
        scores: [n], or [n, m] for m means that share their resamples.

    Returns:
        Estimate of floats, or of float64 [m].
    """
    scores = np.asarray(scores, np.float64)
    means = np.concatenate(list(_resampled_means(scores, resamples, seed)))
    low, high = np.quantile(means, _TAILS, axis=0)
    mean = scores.mean(axis=0)
    # Percentiles of a few resamples may all lie on one side, by more than rounding.
    slack = 1e-9 * np.abs(mean)
    estimate = Estimate(
        mean, np.where(low > mean + slack, mean, low), np.where(high < mean - slack, mean, high)
    )
    return Estimate(*map(float, estimate)) if scores.ndim == 1 else estimate


def share_estimate(correct: np.ndarray, resamples: int = 1000, seed: int = 0) -> Estimate:
    """The share of points that are right; `correct` bool [n], others as of `mean_estimate`."""
    return independent(mean_estimate(correct, resamples, seed), len(correct))


def class_estimates(
    correct: np.ndarray, members: np.ndarray, n_classes: int, resamples: int, seed: int
) -> tuple[Estimate, ...]:
    """The share among the points of each class; `members` int [n] in range(n_classes), none of them empty."""
    return tuple(share_estimate(correct[members == c], resamples, seed) for c in range(n_classes))


def independent(share: Estimate, n: int) -> Estimate:
    """A share of n points with an interval no narrower than Wilson's of independent ones."""
    squared = NORMAL**2
    middle = (share.value + squared / (2 * n)) / (1 + squared / n)
    variance = share.value * (1 - share.value) / n + squared / (4 * n * n)
    half = NORMAL * np.sqrt(variance) / (1 + squared / n)
    low, high = max(0.0, float(middle - half)), min(1.0, float(middle + half))
    # Rounding alone would leave 1 out of the interval of points that are all right.
    low, high = min(low, share.value), max(high, share.value)
    return Estimate(share.value, min(share.low, low), max(share.high, high))


def table_estimates(tables: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Counts int [...] as bootstrapped over the points that they count: float64 [resamples, ...]."""
    total = int(tables.sum())
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(total, tables.ravel() / total, size=resamples)
    return drawn.reshape(resamples, *tables.shape).astype(np.float64)


def percentiles(value: float, resampled: np.ndarray) -> Estimate:
    low, high = np.quantile(resampled, _TAILS)
    return Estimate(float(value), float(min(low, value)), float(max(high, value)))


def jackknife_estimate(
    value: float, influences: np.ndarray, least: float = -np.inf, most: float = np.inf
) -> Estimate:
    """`value` with the infinitesimal jackknife's interval, kept within what it can be.

    Args:
        influences: [n], derivative of the value with respect to the weight of each point, weights being 1;
            its mean is taken off.
    """
    error = float(np.sqrt(np.sum((influences - influences.mean()) ** 2)))
    return normal_estimate(value, error, least, most)


def normal_estimate(value: float, error: float, least: float = -np.inf, most: float = np.inf) -> Estimate:
    """`value` with 1.96 standard errors either side, kept within what it can be."""
    value, half = float(value), NORMAL * float(error)
    return Estimate(value, min(value, max(least, value - half)), max(value, min(most, value + half)))


def half_samples(n: int, halves: int, seed: int) -> Iterator[np.ndarray]:
    """Rows int [about n / 2] of random halves of n points, in pairs: one half and the rest.

    Args:
        halves: an even number.
    """
    rng = np.random.default_rng(seed)
    for _ in range(halves // 2):
        order = rng.permutation(n)
        yield from (np.sort(order[: n // 2]), np.sort(order[n // 2 :]))


def half_estimate(value: float, halves: np.ndarray, least: float = -np.inf, most: float = np.inf) -> Estimate:
    """`value` with the interval that halves of the points give, kept within what it can be.

    The error is half the difference of a half and the rest, which is unbiased for rough statistics too. Of
    few points a half and the rest may say the same whatever they are, as where both classify two classes of
    one size: where that error is below half the scatter of the halves, it is the scatter.

    Args:
        halves: [r], the statistic of each of `half_samples`; NaN where a half has none. Where all are NaN,
            nothing is known but what it can be.
    """
    from scipy.special import stdtrit

    pairs = np.reshape(halves, (-1, 2))
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if not len(pairs):
        return Estimate(*(float(end) if np.isfinite(end) else float(value) for end in (value, least, most)))
    # A half has twice the variance of the whole, and the difference of two halves four times.
    error, scatter = float(np.sqrt(np.mean(np.diff(pairs, axis=1) ** 2))) / 2, float(pairs.std())
    error = scatter if error < scatter / 2 else error
    return normal_estimate(value, stdtrit(len(pairs), _TAILS[1]) / NORMAL * error, least, most)


def weights(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n points is drawn in each resample: float64 [some, n], block by block."""
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK // n)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def _resampled_means(scores: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    n = len(scores)
    if scores.ndim == 1:
        values, counts = np.unique(scores, return_counts=True)
        if len(values) <= _FEW:
            yield table_estimates(counts, resamples, seed) @ values / n
            return
    for block in weights(n, resamples, seed):
        yield block @ scores / n


def one_hot(members: np.ndarray, n_classes: int) -> np.ndarray:
    """float64 [n, C]."""
    return (members[:, None] == np.arange(n_classes)).astype(np.float64)


def class_means(values: np.ndarray, members: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each class [C, d] and its number of points [C], float64."""
    counts = np.bincount(members, minlength=n_classes).astype(np.float64)
    sums = np.stack([values[members == c].sum(axis=0, dtype=np.float64) for c in range(n_classes)])
    return sums / counts[:, None], counts
