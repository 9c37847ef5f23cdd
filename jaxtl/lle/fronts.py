"""Factors of a sparse matrix by dense products, in single or double precision, on all cores.

SuperLU, which SciPy has, works on one core, a few columns at a time. The graph of neighbours of real features
has no small separators: nearly all of the work lies in few large and dense fronts, where products of matrices
are many times as fast. Which thread computes what does not show in the numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from jaxtl.lle.elimination import Front, plan
from jaxtl.lle.thinning import thin
from jaxtl.machine.cores import one_blas_thread, share

# Unknowns that are eliminated at a time, and the sides of tiles that are changed at a time: a tile and the
# product that it is changed by stay in a core's cache.
PANEL, ROWS, COLUMNS = 384, 1024, 256

# Numbers of a child's rest, and of which rows and columns.
_Left = tuple[np.ndarray, np.ndarray, np.ndarray]


class _Panel(NamedTuple):
    """Of [[P, Q], [R, S]] with P that of unknowns from start up to stop: P^-1, P^-1 Q and R, and where."""

    start: int
    stop: int
    rows: np.ndarray
    columns: np.ndarray
    inverse: np.ndarray
    beside: np.ndarray
    below: np.ndarray


class Factors:
    """Of a square matrix [n, n]. Pivots are looked for within a panel only, so who solves looks at residuals.

    Args:
        workers: threads; None takes all cores.

    Raises numpy.linalg.LinAlgError where a panel's own block is singular.
    """

    def __init__(
        self, matrix: sparse.csr_array, dtype: type = np.float64, workers: int | None = None
    ) -> None:
        self._dtype = dtype
        with one_blas_thread():
            levels, left = thin(matrix)
            self._levels = [level.astype(dtype) for level in levels]
            self._order, fronts = plan(left)
            ordered = left[self._order][:, self._order].astype(dtype).tocsr()
            self._panels = _eliminate(ordered, fronts, dtype, workers)

    @property
    def held(self) -> int:
        """Numbers in all factors."""
        panels = sum(p.inverse.size + p.beside.size + p.below.size for p in self._panels)
        return sum(level.held for level in self._levels) + panels

    def solve(self, b: np.ndarray, trans: str = "N") -> np.ndarray:
        """Of b [n, p] or [n], by the matrix ("N") or its transpose ("T"); float64."""
        x = b.astype(self._dtype)
        x = x[:, None] if b.ndim == 1 else x
        taken = []
        for level in self._levels:
            before = level.beside.T if trans == "T" else level.below
            gone = x[level.gone]
            taken.append(gone)
            x = x[level.kept] - before @ gone
        x = self._by_fronts(x, trans == "T")
        for level, gone in zip(reversed(self._levels), reversed(taken), strict=True):
            after = level.below.T if trans == "T" else level.beside
            kept, x = x, np.empty((len(x) + len(gone), x.shape[1]), self._dtype)
            x[level.gone], x[level.kept] = gone / level.pivots[:, None] - after @ kept, kept
        return x.astype(np.float64).reshape(b.shape)

    def _by_fronts(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        x = b[self._order]
        (self._transposed if transposed else self._straight)(x)
        solution = np.empty_like(x)
        solution[self._order] = x
        return solution

    def _straight(self, x: np.ndarray) -> None:
        for panel in self._panels:
            own = x[panel.start : panel.stop] = panel.inverse @ x[panel.start : panel.stop]
            x[panel.rows] -= panel.below @ own
        for panel in reversed(self._panels):
            x[panel.start : panel.stop] -= panel.beside @ x[panel.columns]

    def _transposed(self, x: np.ndarray) -> None:
        for panel in self._panels:
            x[panel.columns] -= panel.beside.T @ x[panel.start : panel.stop]
        for panel in reversed(self._panels):
            own = x[panel.start : panel.stop] - panel.below.T @ x[panel.rows]
            x[panel.start : panel.stop] = panel.inverse.T @ own


def _eliminate(
    matrix: sparse.csr_array, fronts: list[Front], dtype: type, workers: int | None
) -> list[_Panel]:
    columns = matrix.tocsc()
    left: list[list[_Left]] = [[] for _ in fronts]
    # Where in a front a row and a column of the whole stands.
    places = np.empty((2, matrix.shape[0]), np.intp)
    panels = []
    for front, given in zip(fronts, left, strict=True):
        count = front.stop - front.start
        for place, others in zip(places, (front.rows, front.columns), strict=True):
            place[front.start : front.stop] = np.arange(count)
            place[others] = np.arange(count, count + len(others))
        dense = _own_entries(matrix, columns, front, places, dtype)
        while given:
            down, across, rest = given.pop()
            _add(dense, places[0][down], places[1][across], rest, workers)
        panels += _panels(dense, front, workers)
        if front.parent >= 0:
            left[front.parent].append((front.rows, front.columns, dense[count:, count:]))
    return panels


def _own_entries(
    matrix: sparse.csr_array, columns: sparse.csc_array, front: Front, places: np.ndarray, dtype: type
) -> np.ndarray:
    """The matrix's entries in the rows and columns of a front's unknowns, without those of fronts before."""
    count = front.stop - front.start
    dense = np.zeros((count + len(front.rows), count + len(front.columns)), dtype, order="F")
    across = (matrix, dense, places[1], front.start)
    down = (columns, dense.T, places[0], front.stop)
    for lines, target, place, first in (across, down):
        span = slice(lines.indptr[front.start], lines.indptr[front.stop])
        other, entries = lines.indices[span], lines.data[span]
        line = np.repeat(np.arange(count), np.diff(lines.indptr[front.start : front.stop + 1]))
        kept = other >= first
        target[line[kept], place[other[kept]]] = entries[kept]
    return dense


def _add(
    dense: np.ndarray, down: np.ndarray, across: np.ndarray, rest: np.ndarray, workers: int | None
) -> None:
    """What a child left to its rows and columns in the front; both lie in memory column by column."""
    target, source = dense.T, rest.T

    def add(part: slice) -> None:
        target[across[part, None], down] += source[part]

    share(add, _slices(len(across), COLUMNS), workers)


def _panels(dense: np.ndarray, front: Front, workers: int | None) -> list[_Panel]:
    """Eliminate a front's unknowns; in `dense` is left what remains of the others."""
    count = front.stop - front.start
    # Of the last front, which may be most of all, nothing remains: its panels stay where they are.
    keep = np.asfortranarray if front.parent >= 0 else np.asarray
    panels = []
    for start in range(0, count, PANEL):
        stop = min(start + PANEL, count)
        inverse = np.linalg.inv(dense[start:stop, start:stop])
        beside, below = dense[start:stop, stop:], dense[stop:, start:stop]
        _change(dense[stop:, stop:], inverse, beside, below, workers)
        own = np.arange(front.start + stop, front.stop)
        rows, columns = np.concatenate([own, front.rows]), np.concatenate([own, front.columns])
        bounds = front.start + start, front.start + stop
        panels.append(_Panel(*bounds, rows, columns, inverse, keep(beside), keep(below)))
    return panels


def _change(
    rest: np.ndarray, inverse: np.ndarray, beside: np.ndarray, below: np.ndarray, workers: int | None
) -> None:
    """From [Q, R, S] to [P^-1 Q, R, S - R P^-1 Q]."""

    def change(part: slice) -> None:
        beside[:, part] = inverse @ beside[:, part]
        across = np.ascontiguousarray(beside[:, part])
        for rows in _slices(len(rest), ROWS):
            rest[rows, part] -= below[rows] @ across

    share(change, _slices(beside.shape[1], COLUMNS), workers)


def _slices(count: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]
