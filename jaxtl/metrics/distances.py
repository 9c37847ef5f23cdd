"""Distances of a few points to all, on a CPU: float64, block by block, one thread per block.

In few dimensions they are measured from differences, else by a product of rows about their middle, where
rounding is least: 1e-16 of the squared norms, too little to change a rank except between equal distances.
Where a distance is so small beside the norms that rounding would show, it is measured from differences, too.
"""

from __future__ import annotations

import numpy as np

from jaxtl.machine.cores import in_order, share
from jaxtl.metrics.estimates import one_hot
from jaxtl.neighbors.middle import about_middle

# Up to here differences are as fast as a product, and exact for coordinates that are float32.
DIFFERENCES_UP_TO = 3
# Distances that one thread holds: 32 MiB.
BLOCK = 4_000_000
# Squared distances below this part of the squared norms have lost ten of a product's sixteen digits. Among
# images that are not copies of each other there are none.
_NEAR = 1e-6
# Doubles of rows measured again at a time: they stay in the cache.
_AGAIN = 250_000


class Points:
    """Rows ready to be measured from."""

    def __init__(self, values: np.ndarray) -> None:
        self._few = values.shape[1] <= DIFFERENCES_UP_TO
        self._values = values
        self._rows, self._norms, _, _ = about_middle(values)
        if self._few:
            self._rows = values.astype(np.float64)

    def squared(self, some: slice | np.ndarray, others: slice | np.ndarray) -> np.ndarray:
        """Squared distances float64 [len(some), len(others)], not negative."""
        asked, rows = self._rows[some], self._rows[others]
        if self._few:
            apart = asked[:, :1] - rows[:, 0]
            apart *= apart
            for k in range(1, rows.shape[1]):
                step = asked[:, k : k + 1] - rows[:, k]
                apart += np.square(step, out=step)
            return apart
        apart = asked @ rows.T
        apart *= -2
        apart += self._norms[some][:, None]
        apart += self._norms[others]
        np.maximum(apart, 0, out=apart)
        self._measure_near(apart, some, others)
        return apart

    def rounding(self, one: np.ndarray, other: np.ndarray, apart: np.ndarray) -> np.ndarray:
        """What squared distances `apart` of rows `one` from rows `other`, of one shape, may be off by."""
        if self._few:
            return self._unit * apart
        sizes = self._norms[one] + self._norms[other]
        return self._unit * np.where(apart < _NEAR * sizes, apart, sizes)

    def most_rounding(self, some: np.ndarray) -> np.ndarray:
        """No less than any `rounding` of some rows [m] from others that are as near as matters [m, 1]."""
        return 2 * self._unit * (self._norms[some] + self._norms.max(initial=0))[:, None]

    @property
    def _unit(self) -> float:
        return float(4 * self._values.shape[1] * np.finfo(np.float64).eps)

    def _measure_near(self, apart: np.ndarray, some: slice | np.ndarray, others: slice | np.ndarray) -> None:
        """Measure again what is small beside the norms, from differences of the rows as they came."""
        # One comparison with a number for all comes first: as a rule it leaves each point's own alone.
        line, column = np.nonzero(apart <= 2 * _NEAR * self._norms.max(initial=0))
        if not len(line):
            return
        sizes = self._norms[some][line] + self._norms[others][column]
        near = apart[line, column] <= _NEAR * sizes
        line, column = line[near], column[near]
        places = np.arange(len(self._values))
        left, right = places[some][line], places[others][column]
        step = max(1, _AGAIN // self._values.shape[1])
        for start in range(0, len(line), step):
            part = slice(start, start + step)
            steps = self._values[left[part]].astype(np.float64)
            steps -= self._values[right[part]]
            apart[line[part], column[part]] = np.einsum("pd,pd->p", steps, steps)


def class_distances(values: np.ndarray, members: np.ndarray, n_classes: int, block: int = 400) -> np.ndarray:
    """Sum of distances from each point to the points of each class, float64 [n, C].

    Each pair of blocks is measured once and serves both of them. `members` in range(n_classes).
    """
    n, points = len(values), Points(values)
    labels = one_hot(members, n_classes)

    def strip(start: int) -> np.ndarray:
        rows, sums = slice(start, start + block), np.zeros((n, n_classes))
        for other in range(start, n, block):
            columns = slice(other, other + block)
            apart = points.squared(rows, columns)
            np.sqrt(apart, out=apart)
            if other == start:
                np.fill_diagonal(apart, 0)
            else:
                sums[columns] = apart.T @ labels[rows]
            sums[rows] += apart @ labels[columns]
        return sums

    total = np.zeros((n, n_classes))
    for sums in in_order(strip, range(0, n, block)):
        total += sums
    return total


def anchor_ranks(values: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Place of every point among the others by its distance from each anchor, nearest 1; own place 0.

    Of equal distances the lower index comes first. uint16 [m, n], or uint32 beyond 65,536 points.
    """
    n, points = len(values), Points(values)
    ranks = np.empty((len(anchors), n), rank_type(n))
    places = np.arange(n, dtype=ranks.dtype)
    size = min(100, max(1, BLOCK // n))

    def fill(start: int) -> None:
        rows = slice(start, start + size)
        apart = points.squared(anchors[rows], slice(None))
        apart[np.arange(len(apart)), anchors[rows]] = -1
        order = _order(apart)
        np.put_along_axis(ranks[rows], order, np.broadcast_to(places, order.shape), axis=1)

    share(fill, range(0, len(anchors), size))
    return ranks


def _order(apart: np.ndarray) -> np.ndarray:
    """Stable argsort of each row: the quick one, twice as fast, wherever no two distances are equal."""
    order = np.argsort(apart, axis=1)
    ascending = np.take_along_axis(apart, order, axis=1)
    tied = (ascending[:, 1:] == ascending[:, :-1]).any(axis=1)
    if tied.any():
        order[tied] = np.argsort(apart[tied], axis=1, kind="stable")
    return order


def rank_type(n: int) -> type:
    return np.uint16 if n <= 2**16 else np.uint32
