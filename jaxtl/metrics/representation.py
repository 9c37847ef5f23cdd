"""What a space is like by itself, and how much another representation of the same points differs."""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.cores import share
from jaxtl.metrics.checks import check_draws, check_neighbors, check_pair, check_values
from jaxtl.metrics.estimates import (
    HALVES,
    Estimate,
    half_estimate,
    half_samples,
    jackknife_estimate,
    mean_estimate,
    normal_estimate,
    percentiles,
    weights,
)
from jaxtl.metrics.spectra import Spectrum, row_blocks, spectrum
from jaxtl.records.arrays import Neighbors


class LinearCKA(NamedTuple):
    """Likeness of two representations; 1 where one is a rotation and scaling of the other.

    Attributes:
        debiased: about 0 for unrelated ones, however many dimensions they have; at most 1.
        plain: 0 to 1, and near 1 for anything with more dimensions than points.
    """

    debiased: Estimate
    plain: Estimate


class Dimensions(NamedTuple):
    """How many dimensions carry the features; each 1 to min(n - 1, d).

    Attributes:
        effective_rank: exp of the entropy of the singular values' shares (Roy & Vetterli 2007).
        participation_ratio: of the variances; large ones weigh more (Gao et al. 2017).
    """

    effective_rank: Estimate
    participation_ratio: Estimate


class Sparsity(NamedTuple):
    """How few of a point's features are active.

    Attributes:
        zeros: mean share of features within `eps` of 0; 0 to 1.
        hoyer: mean of Hoyer's measure, 0 where all are equally active, 1 where one alone is.
    """

    zeros: Estimate
    hoyer: Estimate


def linear_cka(x: np.ndarray, y: np.ndarray) -> LinearCKA:
    """Linear centred kernel alignment (Kornblith et al. 2019), debiased by Song et al. 2012, sec. 5.

    The debiased form (Nguyen et al. 2021) divides unbiased estimates of HSIC. Both are computed from products
    of features, without n x n kernels unless there are fewer points than features. Intervals are those of the
    exact delete-one jackknife (Tukey 1958): every point is left out in turn, in closed form. A bootstrap
    would repeat points, which are then as like each other as can be, and undo the debiasing.

    Args:
        x, y: [n, d] and [n, e], finite; row i of both is one point; n at least 5.

    Raises:
        JaxtlError: other numbers of rows, a representation that is the same for all points, or values that
            are not finite.
    """
    where = "CKA"
    alone = y is x  # what is compared with itself has one product, not three
    x, y = check_pair(where, x, y, 5)
    x, y = (_of_size_one(rows - rows.mean(axis=0, dtype=np.float64)) for rows in (x, y))
    _check_varied(where, x, y)
    pairs = [(x, x)] if alone else [(x, y), (x, x), (y, y)]
    products = share(lambda pair: _products(*pair), pairs) * (3 // len(pairs))
    return LinearCKA(
        _alignment([_unbiased_hsic(p) for p in products], least=-1.0),
        _alignment([_plain_hsic(p) for p in products], least=0.0),
    )


def procrustes(x: np.ndarray, y: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> Estimate:
    """What is left of the difference after shifting, scaling, rotating and reflecting; 0 same, to 1.

    1 less the squared nuclear norm of X'Y, both centred and of norm 1 (Schoenemann 1966); that of
    `scipy.spatial.procrustes`, and for other numbers of dimensions what zeros in the missing ones would give.
    The interval is a bootstrap over points of the sums that the rotation is scored by, the rotation kept: it
    is the best one, so that to first order its own change does not matter.

    Args, errors: as of `linear_cka`; n at least 2.
    """
    where = "Procrustes disparity"
    check_draws(where, seed, resamples)
    x, y = check_pair(where, x, y, 2)
    x, y = (rows - rows.mean(axis=0, dtype=np.float64) for rows in (x, y))
    _check_varied(where, x, y)
    left, nuclear, right = _polar(x, y)
    aligned = np.einsum("nd,nd->n", x @ left, y @ right)
    sums = np.stack([aligned, np.einsum("nd,nd->n", x, x), np.einsum("nd,nd->n", y, y)], axis=1)
    value = 1 - nuclear**2 / np.prod(sums[:, 1:].sum(axis=0))
    drawn = np.concatenate([block @ sums for block in weights(len(x), resamples, seed)])
    # A resample of copies of the mean, were there one, would have nothing to align.
    drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 2] > 0)]
    resampled = 1 - drawn[:, 0].clip(0) ** 2 / (drawn[:, 1] * drawn[:, 2])
    return percentiles(min(max(value, 0.0), 1.0), resampled.clip(0, 1))


def dimensions(values: np.ndarray, basis: Spectrum | None = None) -> Dimensions:
    """How many dimensions the centred features spread over, by their singular values and variances.

    The intervals are the infinitesimal jackknife's: eigenvalues of a covariance change with a point's weight
    by its squared coordinate along their vector, and a function that treats all alike is smooth even where
    some coincide. They do not know of the bias of few points in many dimensions.

    Args:
        values: [n, d], finite.
        basis: `spectrum(values)`, where it is at hand.

    Raises:
        JaxtlError: values that are not finite, or the same in all rows.
    """
    values = check_values("dimensions", values)
    basis = spectrum(values) if basis is None else basis
    if not len(basis.variances):
        raise JaxtlError("dimensions: the features are the same in all rows; give features that vary")
    singular = np.sqrt(basis.variances)
    shares = singular / singular.sum()
    entropy = -np.sum(shares * np.log(shares))
    rank = np.exp(entropy)
    total, squares = basis.variances.sum(), np.sum(basis.variances**2)
    ratio = total**2 / squares
    # Derivatives of both by each variance.
    by_variance = np.stack(
        [
            -rank * (np.log(shares) + entropy) / (2 * singular * singular.sum()),
            2 * (total - ratio * basis.variances) / squares,
        ],
        axis=1,
    )
    influences = np.empty((len(values), 2))
    for rows, coordinates in basis.coordinates(values):
        influences[rows] = np.square(coordinates, out=coordinates) @ by_variance
    influences /= len(values)
    return Dimensions(
        jackknife_estimate(rank, influences[:, 0], least=1.0),
        jackknife_estimate(ratio, influences[:, 1], least=1.0),
    )


def effective_rank(values: np.ndarray, basis: Spectrum | None = None) -> Estimate:
    """exp of the entropy of the singular values' shares (Roy & Vetterli 2007); 1 to min(n - 1, d).

    Args, errors: as of `dimensions`, which gives both at the price of one.
    """
    return dimensions(values, basis).effective_rank


def participation_ratio(values: np.ndarray, basis: Spectrum | None = None) -> Estimate:
    """(sum of variances)^2 / sum of squared variances along the principal axes; 1 to min(n - 1, d).

    How many axes carry the variance (Gao et al. 2017). Args, errors: as of `dimensions`.
    """
    return dimensions(values, basis).participation_ratio


def sparsity(values: np.ndarray, eps: float = 0.0, *, resamples: int = 1000, seed: int = 0) -> Sparsity:
    """Share of features at most `eps` from 0, and Hoyer's measure (Hoyer 2004, JMLR 5:1457), both by point.

    Args:
        values: [n, d], finite, d at least 2.
        eps: at least 0.

    Raises:
        JaxtlError: a negative eps, one feature only, no row with a feature that is not 0, or values that are
            not finite. Rows of zeros have no Hoyer measure and are left out of its mean.
    """
    where = "sparsity"
    check_draws(where, seed, resamples)
    values = check_values(where, values, squared=False)
    d = values.shape[1]
    if not (isinstance(eps, Real) and 0 <= eps < np.inf) or d < 2:
        raise JaxtlError(
            f"{where}: eps must be a number from 0, and features two or more; got {eps!r} and {d}"
        )
    zeros, hoyer = np.empty(len(values)), np.zeros(len(values))
    for rows in row_blocks(values):
        sizes = np.abs(values[rows].astype(np.float64))
        zeros[rows] = (sizes <= eps).mean(axis=1)
        largest = sizes.max(axis=1, keepdims=True)
        sizes /= np.where(largest > 0, largest, 1)  # against overflow of squares
        norms = np.sqrt(np.einsum("nd,nd->n", sizes, sizes))
        ratio = np.divide(sizes.sum(axis=1), norms, out=np.full(len(norms), np.nan), where=norms > 0)
        hoyer[rows] = (np.sqrt(d) - ratio) / (np.sqrt(d) - 1)
    hoyer = hoyer[~np.isnan(hoyer)].clip(0, 1)
    if not len(hoyer):
        raise JaxtlError(f"{where}: all features are 0; compute the features again")
    return Sparsity(mean_estimate(zeros, resamples, seed), mean_estimate(hoyer, resamples, seed))


def two_nn(neighbors: Neighbors, discard: float = 0.1, *, halves: int = HALVES, seed: int = 0) -> Estimate:
    """Intrinsic dimension from the ratio of the first two neighbours' distances (Facco et al. 2017).

    The slope through 0 of -log(1 - F) against log(r2 / r1), F being the ratio's distribution function,
    without the largest ratios. Copies of a point count once: r1 is the first distance above 0 and r2 the
    first above r1; points for which `neighbors` hold no two such distances are left out.

    Args:
        neighbors: of at least 2 each; more help where there are copies, and in the interval.
        discard: share of the points left out, those with the largest ratios; 0 to below 1.
        halves, seed: of the points, among which neighbours and slope are found anew for the interval.

    Raises:
        JaxtlError: fewer than 2 neighbours, too few points with two distances, or `discard` out of range.
    """
    where = "two-NN dimension"
    check_draws(where, seed, halves=halves)
    n, k = check_neighbors(where, neighbors).distances.shape
    if k < 2 or not (isinstance(discard, Real) and 0 <= discard < 1):
        raise JaxtlError(
            f"{where}: needs 2 neighbours and discard from 0 to below 1, got {k} and {discard!r}"
        )
    logs = np.sort(_log_ratios(neighbors.distances))
    if np.floor(len(logs) * (1 - discard)) < 2:
        raise JaxtlError(
            f"{where}: {len(logs)} of {n} points have two different distances; find more neighbours, or give "
            "more points"
        )
    slopes = np.full(halves, np.nan)
    for half, rows in enumerate(half_samples(n, halves, seed)):
        inside = np.zeros(n, bool)
        inside[rows] = True
        # A neighbour outside the half is passed over, as one at distance 0 is.
        own = np.sort(_log_ratios(neighbors.distances[rows] * inside[neighbors.indices[rows]]))
        slopes[half] = _slope(own, discard)
    return half_estimate(_slope(logs, discard), slopes, least=0.0)


def _of_size_one(rows: np.ndarray) -> np.ndarray:
    """Rows divided by a power of two, which rounds nothing, so that the largest is about 1: no overflow."""
    largest = max(rows.max(), -rows.min())
    return np.ldexp(rows, -int(np.frexp(largest)[1]), out=rows) if largest > 0 else rows


def _check_varied(where: str, *spaces: np.ndarray) -> None:
    for rows in spaces:
        if not rows.any():
            raise JaxtlError(f"{where}: a representation is the same for all points; give one that varies")


class _Products(NamedTuple):
    """What HSIC of centred rows x and y, with and without any one of them, is made of; float64 [n] each.

    With kernels k_ij = x_i'x_j and l_ij = y_i'y_j: `crossed` is the sum over j of k_ij l_ij, `k` and `l` are
    the diagonals, `k_by_l` the sum over j of k_ij l_jj, `l_by_k` that of l_ij k_jj.
    """

    crossed: np.ndarray
    k: np.ndarray
    l: np.ndarray  # noqa: E741
    k_by_l: np.ndarray
    l_by_k: np.ndarray


def _products(x: np.ndarray, y: np.ndarray) -> _Products:
    n = len(x)
    k, other = (np.einsum("nd,nd->n", rows, rows) for rows in (x, y))
    if n <= min(x.shape[1], y.shape[1]):
        crossed = np.einsum("ij,ij->i", x @ x.T, y @ y.T)
    else:
        between, crossed = x.T @ y, np.empty(n)
        for rows in row_blocks(x):
            crossed[rows] = np.einsum("nd,nd->n", x[rows] @ between, y[rows])
    return _Products(crossed, k, other, x @ (other @ x), y @ (k @ y))


def _plain_hsic(p: _Products) -> tuple[float, np.ndarray]:
    """|X'Y|^2 of all points, and of all but each, where the mean of the rest is taken off."""
    total, share = p.crossed.sum(), len(p.k) / (len(p.k) - 1)
    return total, total - 2 * share * p.crossed + share**2 * p.k * p.l


def _unbiased_hsic(p: _Products) -> tuple[float, np.ndarray]:
    """Song et al.'s HSIC_1 of all points, and of all but each.

    Rows of a centred kernel add up to 0, so without the diagonal to minus its entry, and without point i to
    k_ij less.
    """
    n, both, pairs = len(p.k), p.k * p.l, p.crossed - p.k * p.l
    rows = both.sum() + p.k_by_l + p.l_by_k - 3 * both + pairs
    return (
        _hsic(pairs.sum(), -p.k.sum(), -p.l.sum(), both.sum(), n),
        _hsic(pairs.sum() - 2 * pairs, 2 * p.k - p.k.sum(), 2 * p.l - p.l.sum(), rows, n - 1),
    )


def _hsic(trace: np.ndarray, k_sum: np.ndarray, l_sum: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    """From tr KL, 1'K1, 1'L1 and 1'KL1 of n points, K and L without their diagonals."""
    return (trace + k_sum * l_sum / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows) / (n * (n - 3))


def _alignment(hsics: list[tuple[float, np.ndarray]], least: float) -> Estimate:
    """HSIC of x and y over those of x and of y with themselves, and its delete-one jackknife."""
    (between, betweens), (x, xs), (y, ys) = hsics
    # An unbiased estimate may be negative where points are few; then there is no ratio to speak of.
    if min(x, y) <= 0 or min(xs.min(), ys.min()) <= 0:
        raise JaxtlError("CKA: too few different points for the features that vary; give more images")
    replicates = betweens / np.sqrt(xs * ys)
    n = len(replicates)
    error = np.sqrt((n - 1) / n * np.sum((replicates - replicates.mean()) ** 2))
    return normal_estimate(between / np.sqrt(x * y), error, least, 1.0)


def _polar(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Singular vectors [d, r], [e, r] of X'Y, and the sum of its singular values."""
    from scipy.linalg import qr, svd

    # With fewer points than features, all that matters is in the space of the points.
    bases = [qr(rows.T, mode="economic") if len(rows) < rows.shape[1] else (None, rows.T) for rows in (x, y)]
    (x_basis, x_rows), (y_basis, y_rows) = bases
    left, singular, right = svd(x_rows @ y_rows.T, full_matrices=False, check_finite=False)
    left, right = (
        vectors if basis is None else basis @ vectors
        for basis, vectors in ((x_basis, left), (y_basis, right.T))
    )
    return left, float(singular.sum()), right


def _log_ratios(distances: np.ndarray) -> np.ndarray:
    """log r2 / r1 of the points that have both."""
    rows = np.arange(len(distances))
    first = (distances > 0).argmax(axis=1)
    nearest = distances[rows, first].astype(np.float64)
    beyond = distances > nearest[:, None]
    second = beyond.argmax(axis=1)
    both = (nearest > 0) & beyond[rows, second]
    return np.log(distances[rows, second][both] / nearest[both])


def _slope(logs: np.ndarray, discard: float) -> float:
    """Facco's fit to sorted log ratios [n]; NaN where too few are kept."""
    n = len(logs)
    # The last ratio has F = 1, which has no logarithm; Facco's F of the i-th of n ratios is i / n.
    kept = logs[: max(min(int(np.floor(n * (1 - discard))), n - 1), 0)]
    run = float(kept @ kept)
    return float(-np.log1p(-np.arange(1, len(kept) + 1) / n) @ kept) / run if run > 0 else np.nan
