"""Factors of a sparse matrix by dense products, in single or double precision, on all cores.

SuperLU, which SciPy has, works on one core, a few columns at a time. The graph of neighbours of real features
has no small separators: nearly all of the work lies in few large and dense fronts, where products of matrices
are many times as fast. Which thread computes what does not show in the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from jaxtl.lle.elimination import Front, plan
from jaxtl.machine.cores import one_blas_thread, share

# Unknowns that are eliminated at a time, and columns that a thread changes at a time.
PANEL, BLOCK = 384, 512

# Numbers of a child's rest, and of which unknowns.
_Left = tuple[np.ndarray, np.ndarray]


class _Panel(NamedTuple):
    """Of [[P, Q], [R, S]] with P that of unknowns from start up to stop: P^-1, P^-1 Q, and R."""

    start: int
    stop: int
    rows: np.ndarray
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
        self._order, fronts = plan(matrix)
        ordered = matrix[self._order][:, self._order].astype(dtype).tocsr()
        self._dtype = dtype
        with one_blas_thread():
            self._panels = _eliminate(ordered, fronts, dtype, workers)

    def solve(self, b: np.ndarray, trans: str = "N") -> np.ndarray:
        """Of b [n, p] or [n], by the matrix ("N") or its transpose ("T"); float64."""
        x = b[self._order].astype(self._dtype)
        x = x[:, None] if b.ndim == 1 else x
        (self._transposed if trans == "T" else self._straight)(x)
        solution = np.empty(x.shape)
        solution[self._order] = x
        return solution.reshape(b.shape)

    def _straight(self, x: np.ndarray) -> None:
        for start, stop, rows, inverse, _, below in self._panels:
            x[start:stop] = inverse @ x[start:stop]
            x[rows] -= below @ x[start:stop]
        for start, stop, rows, _, beside, _ in reversed(self._panels):
            x[start:stop] -= beside @ x[rows]

    def _transposed(self, x: np.ndarray) -> None:
        for start, stop, rows, _, beside, _ in self._panels:
            x[rows] -= beside.T @ x[start:stop]
        for start, stop, rows, inverse, _, below in reversed(self._panels):
            x[start:stop] = inverse.T @ (x[start:stop] - below.T @ x[rows])


def _eliminate(
    matrix: sparse.csr_array, fronts: list[Front], dtype: type, workers: int | None
) -> list[_Panel]:
    columns = matrix.tocsc()
    left: list[list[_Left]] = [[] for _ in fronts]
    place = np.empty(matrix.shape[0], np.intp)
    panels = []
    for front, given in zip(fronts, left, strict=True):
        count = front.stop - front.start
        place[front.start : front.stop] = np.arange(count)
        place[front.rows] = np.arange(count, count + len(front.rows))
        dense = _own_entries(matrix, columns, front, place, dtype)
        while given:
            rows, rest = given.pop()
            _add(dense, place[rows], rest, workers)
        panels += _panels(dense, front, workers)
        if len(front.rows):
            left[front.parent].append((front.rows, dense[count:, count:]))
    return panels


def _own_entries(
    matrix: sparse.csr_array, columns: sparse.csc_array, front: Front, place: np.ndarray, dtype: type
) -> np.ndarray:
    """The matrix's entries in the rows and columns of a front's unknowns, without those of fronts before."""
    count = front.stop - front.start
    size = count + len(front.rows)
    dense = np.zeros((size, size), dtype, order="F")
    for lines, target, first in ((matrix, dense, front.start), (columns, dense.T, front.stop)):
        span = slice(lines.indptr[front.start], lines.indptr[front.stop])
        other, entries = lines.indices[span], lines.data[span]
        line = np.repeat(np.arange(count), np.diff(lines.indptr[front.start : front.stop + 1]))
        kept = other >= first
        target[line[kept], place[other[kept]]] = entries[kept]
    return dense


def _add(dense: np.ndarray, where: np.ndarray, rest: np.ndarray, workers: int | None) -> None:
    """What a child left to its places in the front; both lie in memory column by column."""
    target, source = dense.T, rest.T

    def add(first: int) -> None:
        target[where[first : first + BLOCK, None], where] += source[first : first + BLOCK]

    _in_blocks(add, len(where), workers)


def _panels(dense: np.ndarray, front: Front, workers: int | None) -> list[_Panel]:
    """Eliminate a front's unknowns; in `dense` is left what remains of the others."""
    count = front.stop - front.start
    # Of the last front, which may be most of all, nothing remains: its panels stay where they are.
    keep = np.asfortranarray if len(front.rows) else np.asarray
    panels = []
    for start in range(0, count, PANEL):
        stop = min(start + PANEL, count)
        inverse = np.linalg.inv(dense[start:stop, start:stop])
        beside, below, rest = dense[start:stop, stop:], dense[stop:, start:stop], dense[stop:, stop:]

        def change(first: int, inverse=inverse, beside=beside, below=below, rest=rest) -> None:
            block = slice(first, first + BLOCK)
            beside[:, block] = inverse @ beside[:, block]
            rest[:, block] -= below @ beside[:, block]

        _in_blocks(change, len(rest), workers)
        rows = np.concatenate([np.arange(front.start + stop, front.stop), front.rows])
        panels.append(
            _Panel(front.start + start, front.start + stop, rows, inverse, keep(beside), keep(below))
        )
    return panels


def _in_blocks(work: Callable[[int], None], count: int, workers: int | None) -> None:
    if count <= BLOCK:
        work(0)
    else:
        share(work, range(0, count, BLOCK), workers)
