"""The plan of a sparse elimination: which unknowns go together, and what is left of them to whom.

A multifrontal method (Duff & Reid 1983, ACM Trans. Math. Softw. 9:302; Liu 1992, SIAM Review 34:82) turns
the elimination of a sparse matrix into dense ones, its fronts, which form a tree. A front takes its own
entries and what its children left, eliminates its unknowns and leaves the rest to its parent. This is the
work that needs no numbers but those of the places.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spilu

# Seconds of a front beyond its arithmetic, of an operation and of an entry that is passed on to the parent,
# on one core of 2026: what they are to each other decides which fronts are worth to be merged.
_CALLS, _OPERATION, _PASSED = 1e-4, 1e-11, 4e-9


class Front(NamedTuple):
    """Unknowns from `start` up to `stop`; `rows`, ascending, those beyond that their elimination changes."""

    start: int
    stop: int
    rows: np.ndarray
    parent: int


class Plan(NamedTuple):
    """`order`, int [n]: the unknown at each place; the fronts, children before their parents."""

    order: np.ndarray
    fronts: list[Front]

    @property
    def held(self) -> int:
        """Numbers in all factors."""
        return sum(
            (front.stop - front.start) * (front.stop - front.start + 2 * len(front.rows))
            for front in self.fronts
        )


def plan(matrix: sparse.csr_array) -> Plan:
    """Of a square matrix [n, n], by the places of its entries, taken as symmetric."""
    places = abs(matrix) + abs(matrix).T
    order = _minimum_degree(places)
    below = sparse.tril(places.tocsr()[order][:, order], -1, format="csc")
    below.sort_indices()
    groups, rows = _groups(below)
    alive = _merge(groups, rows)
    return _numbered(order, [groups[group] for group in alive], [rows[group] for group in alive])


def _minimum_degree(places: Any) -> np.ndarray:
    """The order of SuperLU's multiple minimum degree, children before parents.

    SciPy gives it with factors only: here with incomplete ones, of which nothing but the diagonal is kept.
    """
    known = places.tocsc().astype(np.float64)
    known.data[:] = 1e-6
    known = known + sparse.eye_array(known.shape[0], format="csc")
    found = spilu(
        known, drop_tol=0.5, fill_factor=1, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}
    )
    return np.argsort(found.perm_c)


def _groups(below: sparse.csc_array) -> tuple[list[list[int]], list[np.ndarray]]:
    """Unknowns that can go together without one more entry, and what each group changes beyond itself.

    Args:
        below: the places under the diagonal, those of a column ascending.
    """
    groups: list[list[int]] = []
    rows: list[np.ndarray] = []
    children: list[list[int]] = [[] for _ in range(below.shape[0])]
    starts = below.indptr.tolist()
    for j, ready in enumerate(children):
        more = below.indices[starts[j] : starts[j + 1]]
        group = max(ready, key=lambda child: len(rows[child]), default=None)
        known = more[:0] if group is None else rows[group][1:]
        others = [rows[child][1:] for child in ready if child != group]
        if others:
            more = np.unique(np.concatenate([more, *others]))
        where = known.searchsorted(more)
        new = more if not len(known) else more[known[np.minimum(where, len(known) - 1)] != more]
        if group is None or len(new):
            group = len(groups)
            groups.append([])
            rows.append(np.insert(known, known.searchsorted(new), new))
        else:
            rows[group] = known
        groups[group].append(j)
        if len(rows[group]):
            children[rows[group][0]].append(group)
    return groups, rows


def _merge(groups: list[list[int]], rows: list[np.ndarray]) -> list[int]:
    """Put children into their parents where zeros cost less than one front more; those that are left.

    From the leaves up, in the order of their last unknowns.
    """
    owner = {unknown: group for group, unknowns in enumerate(groups) for unknown in unknowns}
    children: list[list[int]] = [[] for _ in groups]
    counts = [len(unknowns) for unknowns in groups]
    alive = []
    for group in sorted(range(len(groups)), key=lambda number: groups[number][-1]):
        if len(rows[group]):
            children[owner[int(rows[group][0])]].append(group)
        size = len(rows[group])
        ready, left = sorted(children[group], key=lambda child: len(rows[child])), []
        while ready:
            child = ready.pop()
            apart = _seconds(counts[child], len(rows[child])) + _seconds(counts[group], size)
            if _seconds(counts[child] + counts[group], size) <= apart:
                groups[group] = groups[child] + groups[group]
                counts[group] += counts[child]
                groups[child] = []
                ready += children[child]
            else:
                left.append(child)
        children[group] = left
        alive.append(group)
    return [group for group in alive if groups[group]]


def _seconds(count: int, size: int) -> float:
    """Of a front with `count` unknowns that changes `size` more."""
    operations = count**3 * 2 / 3 + 2 * count * size * (count + size)
    return _CALLS + _OPERATION * operations + _PASSED * size**2


def _numbered(order: np.ndarray, groups: list[list[int]], rows: list[np.ndarray]) -> Plan:
    """With the unknowns of a front next to each other."""
    moved = np.concatenate([np.sort(group) for group in groups])
    place = np.empty_like(moved)
    place[moved] = np.arange(len(moved))
    stops = np.cumsum([len(group) for group in groups])
    fronts = []
    for stop, group, changed in zip(stops.tolist(), groups, rows, strict=True):
        changed = np.sort(place[changed])
        parent = int(np.searchsorted(stops, changed[0], side="right")) if len(changed) else -1
        fronts.append(Front(stop - len(group), stop, changed, parent))
    return Plan(order[moved], fronts)
