"""Rows about their middle, where norms, and so the rounding of distances by products, are least."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# The mean is the middle unless the largest squared norm is so many times that of the nearest quarter: then a
# few points far away have moved it, or it lies between groups, and rounding of a product is as large as
# distances within them. Of features of images it is a hundred; at a million six of sixteen digits are lost.
_SPREAD = 1e6
# Rows by which it is seen where most of them are.
_SAMPLE = 255
# Doubles that stay in the cache.
_BLOCK = 100_000
# Magnitudes whose squares, and sums of them, float32 holds with all its digits.
_HELD = 1e15


class Centred(NamedTuple):
    """Rows about their middle.

    Attributes:
        rows: float64 [n, d].
        norms: squared, float64 [n].
        middle: float64 [d], the mean, or the median of some where the mean lies far from most rows.
        spread: whether it is the median.
    """

    rows: np.ndarray
    norms: np.ndarray
    middle: np.ndarray
    spread: bool

    @property
    def is_far(self) -> bool:
        """Whether most rows lie farther from 0 than from each other, by so much that products show it."""
        usual = float(np.median(self.norms))
        return self.spread or float(self.middle @ self.middle) > _SPREAD * usual > 0


def about_middle(values: np.ndarray) -> Centred:
    """Rows [n, d], finite, about what is in the middle of most of them."""
    rows = values.astype(np.float64)
    mean = rows.mean(axis=0)
    # Of an odd number of rows the median has coordinates of theirs: it is within a group, not between two.
    count = min(_SAMPLE, len(rows) - 1 + len(rows) % 2)
    median = np.median(rows[np.linspace(0, len(rows) - 1, count).astype(int)], axis=0)
    norms = _squares_about(rows, median)
    if spread := bool(norms.max() > _SPREAD * np.quantile(norms, 0.25)):
        rows -= median
        return Centred(rows, norms, median, spread)
    rows -= mean
    return Centred(rows, np.einsum("nd,nd->n", rows, rows), mean, spread)


def _squares_about(rows: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Squared norms of rows about something, float64 [n], without a copy of them all."""
    norms, size = np.empty(len(rows)), max(1, _BLOCK // rows.shape[1])
    for start in range(0, len(rows), size):
        near = rows[start : start + size] - middle
        norms[start : start + size] = np.einsum("nd,nd->n", near, near)
    return norms


def needs_differences(values: np.ndarray) -> bool:
    """Whether a product about the mean says nothing of most distances: some are far away, or all are one."""
    return bool((values == values[:1]).all()) or about_middle(values).spread


def steady(values: np.ndarray) -> np.ndarray:
    """The rows as they came, unless a library would lose them: in float32 by magnitude, else by their place.

    Libraries square float32, and subtract products of means from products of rows. Where magnitudes are
    beyond what float32's squares hold, or rows lie farther from 0, or from a few of them, than all else is
    wide, they are given float64 rows about the middle, of norms about 1: the same but for place and scale.
    """
    centred = about_middle(values)
    size = float(np.sqrt(np.median(centred.norms) or centred.norms.max()))
    held = values.dtype == np.float64 or not size or 1 / _HELD < size < _HELD
    if held and not centred.is_far:
        return values
    # By a power of two, which rounds nothing.
    return np.ldexp(centred.rows, -int(np.frexp(size)[1]))
