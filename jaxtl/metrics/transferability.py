"""What features promise for a task before anything is trained."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.metrics.checks import check_labels, check_values
from jaxtl.metrics.estimates import Estimate, class_means, jackknife_estimate, one_hot
from jaxtl.metrics.spectra import Spectrum, spectrum

_STEPS = 1000
# Relative change of the ratio of precisions at which the fixed point is reached.
_TOLERANCE = 1e-9


class HScore(NamedTuple):
    """Variance between classes as the features' covariance measures it; higher is better.

    Attributes:
        plain: Bao et al. 2019; 0 to C - 1, which any features reach that are as many as the points.
        shrunk: with the covariance shrunk towards a sphere (Ibrahim et al. 2022); for few points too.
        shrinkage: Ledoit and Wolf's share of the sphere, 0 to 1.
    """

    plain: Estimate
    shrunk: Estimate
    shrinkage: float


def log_me(features: np.ndarray, labels: np.ndarray, basis: Spectrum | None = None) -> Estimate:
    """Logarithm of maximum evidence (You et al. 2021, ICML; 2022, JMLR 23); higher is better, no bounds.

    Of Bayesian linear regression, without an intercept, of each class's indicator on the features: the mean
    over classes of the log evidence per point at its best prior and noise precisions, which MacKay's fixed
    point finds. Where there are fewer points than features, the directions without variance count too, which
    the authors' code leaves out of the determinant (thuml/LogME).

    The interval is the infinitesimal jackknife's: at the maximum a point's weight acts through its own
    residual and leverage alone.

    Args:
        features: [n, d], finite.
        labels: int [n].
        basis: `spectrum(features, centred=False)`, where it is at hand.

    Raises:
        JaxtlError: fewer than two classes, features that are all 0, or values that are not finite.
    """
    where = "LogME"
    features = check_values(where, features)
    classes, members = check_labels(where, labels, len(features))
    basis = spectrum(features, centred=False) if basis is None else basis
    _check_varied(where, basis)
    n = len(features)
    squares = n * basis.variances
    left = np.concatenate([rows for _, rows in basis.coordinates(features)]) / np.sqrt(squares)
    targets = one_hot(members, len(classes))
    values, shrunk, noise = (
        np.empty(len(classes)),
        np.empty((len(squares), len(classes))),
        np.empty(len(classes)),
    )
    projected = left.T @ targets
    for c, (target, own) in enumerate(zip(targets.T, projected.T, strict=True)):
        # As many directions as points leave nothing outside but rounding, which must not pass for noise.
        outside = target @ target - own @ own if n > len(squares) else 0.0
        alpha, beta = _precisions(squares, own**2, max(outside, 0.0), n)
        shrunk[:, c], noise[c] = beta * squares / (alpha + beta * squares), beta
        weight, residual = own * shrunk[:, c] / np.sqrt(squares), target - left @ (shrunk[:, c] * own)
        values[c] = _evidence(alpha, beta, squares, residual @ residual, weight @ weight, n) / n
    residuals = targets - left @ (shrunk * projected)
    evidence = np.log(noise) - noise * residuals**2 - np.square(left, out=left) @ shrunk
    return jackknife_estimate(values.mean(), 0.5 * evidence.mean(axis=1) / n)


def h_score(features: np.ndarray, labels: np.ndarray, basis: Spectrum | None = None) -> HScore:
    """tr(cov(f)^-1 cov(E[f | y])), plain and shrunk (Bao et al. 2019, ICIP; Ibrahim et al. 2022, ECML PKDD).

    The intervals are the infinitesimal jackknife's. They do not know of the bias: with n points and d
    features the plain score of unrelated features is about (C - 1) d / n.

    Args:
        features: [n, d], finite.
        labels: int [n].
        basis: `spectrum(features)`, where it is at hand.

    Raises:
        JaxtlError: fewer than two classes, features that are the same in all rows, or values that are not
            finite.
    """
    where = "H-score"
    features = check_values(where, features)
    classes, members = check_labels(where, labels, len(features))
    basis = spectrum(features) if basis is None else basis
    _check_varied(where, basis)
    means, counts = class_means(features, members, len(classes))
    means, shares = (means - basis.mean) @ basis.vectors, counts / counts.sum()
    norms, stretched = np.empty(len(features)), np.empty(len(features))
    for rows, coordinates in basis.coordinates(features):
        squares = coordinates**2
        norms[rows], stretched[rows] = squares.sum(axis=1), squares @ basis.variances
    shrinkage, shifts = _ledoit_wolf(norms, stretched, basis.variances, features.shape[1])
    grouped = members, shares, means
    return HScore(
        _h_estimate(features, basis, grouped, 0.0, norms, np.zeros_like(shifts)),
        _h_estimate(features, basis, grouped, shrinkage, norms, shifts),
        shrinkage,
    )


def _h_estimate(
    features: np.ndarray,
    basis: Spectrum,
    grouped: tuple[np.ndarray, np.ndarray, np.ndarray],
    alpha: float,
    norms: np.ndarray,
    shifts: np.ndarray,
) -> Estimate:
    """H-score with shrinkage alpha, whose own derivative by each point's share of the weight is `shifts`."""
    (members, shares, means), d = grouped, features.shape[1]
    # Class means have no part outside the space of the points: the sphere there adds nothing.
    level = basis.variances.sum() / d
    shrunk = (1 - alpha) * basis.variances + alpha * level
    directions = means / shrunk
    within = np.einsum("cr,cr->c", means, directions)
    value = (1 - alpha) * shares @ within
    pulling = basis.vectors @ directions.T
    pull = features @ pulling - basis.mean @ pulling
    slopes = 2 * pull[np.arange(len(pull)), members] - within[members] - (1 - alpha) * pull**2 @ shares
    sizes = shares @ directions**2
    slopes -= alpha / d * sizes.sum() * norms
    by_alpha = -shares @ within - (1 - alpha) * np.sum(sizes * (level - basis.variances))
    influences = ((1 - alpha) * slopes + by_alpha * shifts) / len(features)
    return jackknife_estimate(value, influences, 0.0, len(means) - 1.0)


def _check_varied(where: str, basis: Spectrum) -> None:
    if not len(basis.variances):
        raise JaxtlError(f"{where}: the features are the same in all rows; give features that vary")


def _precisions(squares: np.ndarray, projected: np.ndarray, outside: float, n: int) -> tuple[float, float]:
    """Prior and noise precisions of most evidence, from squared singular values and squared projections.

    Only their ratio is iterated; where it runs out of bounds (a class explained entirely, or not at all) the
    bound is as good.
    """
    ratio, tiny = squares.mean(), np.finfo(np.float64).tiny
    low, high = squares.max() * 1e-10, squares.max() * 1e10
    for _ in range(_STEPS):
        gamma = np.sum(squares / (squares + ratio))
        size = np.sum(squares * projected / (squares + ratio) ** 2)
        residual = np.sum(projected * (ratio / (squares + ratio)) ** 2) + outside
        rest = n - len(squares) + np.sum(ratio / (squares + ratio))  # n - gamma, without cancellation
        with np.errstate(over="ignore"):  # beyond what a number holds is beyond the bounds
            alpha, beta = gamma / max(size, tiny), rest / max(residual, tiny)
        new = min(max(alpha / beta, low), high)
        if abs(new - ratio) <= _TOLERANCE * ratio:
            break
        ratio = new
    # The noise that suits this ratio: at a fixed point nothing new, at a bound what is left to choose.
    beta = n / max(residual + ratio * size, tiny)
    return beta * ratio, beta


def _evidence(alpha: float, beta: float, squares: np.ndarray, residual: float, size: float, n: int) -> float:
    # log det(alpha + beta F'F) less d log alpha: directions without variance add nothing.
    determinant = np.sum(np.log1p(beta / alpha * squares))
    return 0.5 * (n * np.log(beta / (2 * np.pi)) - determinant - beta * residual - alpha * size)


def _ledoit_wolf(
    norms: np.ndarray, stretched: np.ndarray, variances: np.ndarray, d: int
) -> tuple[float, np.ndarray]:
    """Shrinkage of the covariance S (Ledoit & Wolf 2004), `sklearn.covariance.ledoit_wolf`'s.

    Args:
        norms, stretched: x'x and x'Sx of each centred row [n]; squares of all products add up to (x'x)^2.

    Returns:
        Also its derivative by each point's share of the weight [n], up to a constant.
    """
    n, total, frobenius = len(norms), variances.sum(), np.sum(variances**2)
    away = frobenius - total**2 / d
    noise = (np.mean(norms**2) - frobenius) / n
    if not 0 < noise < away:
        return (0.0 if noise <= 0 or away <= 0 else 1.0), np.zeros(n)
    shifts = (norms**2 - 2 * stretched) / n - noise / away * 2 * (stretched - total * norms / d)
    return float(noise / away), shifts / away
