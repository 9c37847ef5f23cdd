"""Rows of numbers that somebody gives, as what computes with them needs them, and what is refused."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from jaxtl.errors import JaxtlError
from jaxtl.records.given import as_array

# Squares of squares of what lies between, and sums of many of them, are in float64's range.
LARGEST, SMALLEST = 1e60, 1e-60


def as_points(
    where: str, values: ArrayLike, least: int = 1, name: str = "values", *, squared: bool = True
) -> np.ndarray:
    """Real numbers as rows, float32 or float64 [n, d] in memory's order of rows.

    float32 and float64 arrays are not copied, whole numbers become float64, half precision float32.

    Raises JaxtlError for what is masked, sparse, complex, of other shapes or kinds or not finite, for fewer
    than `least` rows, and, where they are to be squared, for magnitudes that no squares can be taken of:
    beyond 1e60, or below 1e-60 throughout.
    """
    values = as_array(where, name, values)
    values = _floats(values)
    if values.ndim != 2 or values.dtype.kind != "f" or not values.shape[1]:
        raise JaxtlError(f"{where}: needs real numbers [n, d], got {values.dtype} {list(values.shape)}")
    if len(values) < least:
        raise JaxtlError(f"{where}: needs at least {least} rows, got {len(values)}; give more images")
    if not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
        raise JaxtlError(
            f"{where}: NaN or infinite values in {len(rows)} of {len(values)} rows, the first in row "
            f"{rows[0]}; drop these rows or compute the values again"
        )
    if squared and values.dtype == np.float64:
        _check_magnitude(where, values)
    return values


def _floats(values: np.ndarray) -> np.ndarray:
    """Real numbers of any kind as native float32 or float64, row by row in memory; others as they are."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    # A kind that NumPy does not know is ml_dtypes', which JAX has.
    half = (kind == "f" and size < 4) or values.dtype.name == "bfloat16"
    if half or (kind == "f" and size == 4):
        return np.ascontiguousarray(values, np.float32) if values.ndim else values
    if kind in "fiu":
        with np.errstate(over="ignore"):  # of extended precision: what is beyond the range is refused
            return np.ascontiguousarray(values, np.float64) if values.ndim else values
    return values


def _check_magnitude(where: str, values: np.ndarray) -> None:
    largest = float(max(-values.min(initial=0.0), values.max(initial=0.0)))
    if largest > LARGEST or 0 < largest < SMALLEST:
        raise JaxtlError(
            f"{where}: values up to {largest:.1e} are beyond what squares can be taken of, {SMALLEST:g} to "
            f"{LARGEST:g}; divide the values by a constant"
        )
