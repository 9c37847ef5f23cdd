"""Unknowns that hardly any other depends on are eliminated first, many at a time, by sparse products.

A row of I - W has k + 1 entries, a column one and as many as the point is others' neighbour: at 20,000 points
three at most for a sixth of them, and up to 74. To eliminate an unknown changes as many entries as its column
has others, times those of its row. Orders by places taken as symmetric do not see that, and fill what stays
zero. Markowitz's product does (Markowitz 1957, Management Science 3:255; on the diagonal Amestoy, Li & Ng
2007, SIAM J. Matrix Anal. Appl. 29:228). Unknowns with no entry between them go together (Saad 1996, SIAM J.
Sci. Comput. 17:830, where levels are incomplete; these are not).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

# Of those that are left, the part with the least products is looked at in a level.
_PART = 0.15
# Entries that an unknown changes at most, on average of a level: with more, orders by fronts do better.
MOST = 100
# Least size of a pivot by the largest entry of its column.
_PIVOT = 0.01


class Level(NamedTuple):
    """Of [[D, B], [C, E]] with a diagonal D: which unknowns are of D, which of E; D, D^-1 B and C D^-1."""

    gone: np.ndarray
    kept: np.ndarray
    pivots: np.ndarray
    beside: sparse.csr_array
    below: sparse.csr_array

    @property
    def held(self) -> int:
        """Numbers in it."""
        return self.beside.nnz + self.below.nnz + len(self.pivots)

    def astype(self, dtype: type) -> Level:
        """With numbers of that kind."""
        pivots, beside, below = (part.astype(dtype) for part in self[2:])
        return self._replace(pivots=pivots, beside=beside, below=below)


def thin(matrix: sparse.csr_array) -> tuple[list[Level], sparse.csr_array]:
    """Levels of a square matrix, and what is left of it, such as E - C D^-1 B of the last."""
    random = np.random.default_rng(0)
    levels: list[Level] = []
    while matrix.shape[0] and (gone := _free(matrix, random)) is not None:
        kept = np.flatnonzero(~gone)
        gone = np.flatnonzero(gone)
        upper, lower = matrix[gone], matrix[kept]
        pivots = upper[:, gone].diagonal()
        beside = (sparse.diags_array(1 / pivots) @ upper[:, kept]).tocsr()
        changed = lower[:, gone]
        matrix = (lower[:, kept] - changed @ beside).tocsr()
        below = (changed @ sparse.diags_array(1 / pivots)).tocsr()
        levels.append(Level(gone, kept, pivots, beside, below))
    return levels, matrix


def _free(matrix: sparse.csr_array, random: np.random.Generator) -> np.ndarray | None:
    """Which unknowns go next, bool; None where that would cost more than dense products."""
    n = matrix.shape[0]
    counts = np.diff(matrix.indptr)
    row, column = np.repeat(np.arange(n), counts), matrix.indices
    products = (counts - 1.0) * (np.bincount(column, minlength=n) - 1.0)
    largest = np.zeros(n)
    np.maximum.at(largest, column, abs(matrix.data))
    fit = abs(matrix.diagonal()) > _PIVOT * largest
    if not fit.any():
        return None
    fit &= products <= np.quantile(products[fit], _PART)
    # Of two with an entry between them the one that changes more stays; chance decides among equals.
    rank = products + random.random(n)
    edge = fit[row] & fit[column] & (row != column)
    row, column = row[edge], column[edge]
    fit[np.where(rank[row] > rank[column], row, column)] = False
    return fit if products[fit].mean() <= MOST else None
