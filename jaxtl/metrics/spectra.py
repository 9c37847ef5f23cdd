"""The covariance of features and its eigenvectors, found once and shared by what is computed from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jaxtl.metrics.checks import check_values

# Doubles of rows converted and multiplied at a time.
BLOCK = 8_000_000


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the features' covariance (or second moment), above rounding only.

    Attributes:
        mean: float64 [d], what was subtracted from every row.
        variances: float64 [r], descending, all positive; divided by n.
        vectors: float64 [d, r], orthonormal.
    """

    mean: np.ndarray
    variances: np.ndarray
    vectors: np.ndarray

    def coordinates(self, values: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows [some, r] of the centred values in the basis of the eigenvectors, block by block."""
        for rows in row_blocks(values):
            yield rows, (values[rows] - self.mean) @ self.vectors


def spectrum(values: np.ndarray, *, centred: bool = True) -> Spectrum:
    """Eigendecomposition of the covariance; from n x n products where n < d.

    Args:
        values: [n, d], finite.
        centred: about the mean; otherwise of the second moment about 0.

    Raises:
        JaxtlError: values that are not finite.
    """
    from scipy.linalg import eigh, svd

    values = check_values("spectrum", values)
    n, d = values.shape
    mean = values.mean(axis=0, dtype=np.float64) if centred else np.zeros(d)
    if n < d:
        _, singular, vectors = svd(values - mean, full_matrices=False, check_finite=False)
        variances, floor = singular**2 / n, (np.finfo(np.float64).eps * d * singular[0]) ** 2 / n
        return _kept(mean, variances, vectors.T, floor)
    variances, vectors = eigh(second_moment(values, mean), check_finite=False, driver="evd")
    return _kept(mean, variances[::-1], vectors[:, ::-1], np.finfo(np.float64).eps * d * variances[-1])


def second_moment(values: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Mean of (x - mean)(x - mean)', float64 [d, d]."""
    total = np.zeros((values.shape[1],) * 2)
    for rows in row_blocks(values):
        centred = values[rows] - mean
        total += centred.T @ centred
    return total / len(values)


def row_blocks(values: np.ndarray) -> Iterator[slice]:
    step = max(1, BLOCK // values.shape[1])
    for start in range(0, len(values), step):
        yield slice(start, start + step)


def _kept(mean: np.ndarray, variances: np.ndarray, vectors: np.ndarray, floor: float) -> Spectrum:
    kept = variances > floor
    return Spectrum(mean, np.ascontiguousarray(variances[kept]), np.ascontiguousarray(vectors[:, kept]))
