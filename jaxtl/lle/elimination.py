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

from jaxtl.lle import dissects

# Seconds of a front beyond its arithmetic, of an operation and of an entry that is passed on to the parent,
# on one core of 2026: what they are to each other decides which fronts are worth to be merged.
_CALLS, _OPERATION, _PASSED = 1e-4, 1e-11, 4e-9


class Front(NamedTuple):
    """Unknowns from `start` up to `stop`, and which beyond have an entry in their columns and in their rows.

    `rows` and `columns` ascend; where one is empty nothing is left of the front, and it has no `parent` (-1).
    """

    start: int
    stop: int
    rows: np.ndarray
    columns: np.ndarray
    parent: int


class Plan(NamedTuple):
    """`order`, int [n]: the unknown at each place; the fronts, children before their parents."""

    order: np.ndarray
    fronts: list[Front]

    @property
    def held(self) -> int:
        """Numbers in all factors."""
        return sum(
            (front.stop - front.start) * (front.stop - front.start + len(front.rows) + len(front.columns))
            for front in self.fronts
        )


def plan(matrix: sparse.csr_array) -> Plan:
    """Of a square matrix [n, n]: the order by its places taken as symmetric, the fronts by them as they are.

    So a front has other rows than columns (Amestoy & Puglisi 2002, SIAM J. Matrix Anal. Appl. 24:553).
    """
    if not matrix.shape[0]:
        return Plan(np.empty(0, np.intp), [])
    places = abs(matrix) + abs(matrix).T
    order = _dissection(places) if dissects() else _minimum_degree(places)
    below = sparse.tril(places.tocsr()[order][:, order], -1, format="csc")
    below.sort_indices()
    groups = sorted(_groups(below), key=lambda group: group[-1])
    order = order[np.concatenate(groups)]
    fronts = _fronts(matrix[order][:, order], np.cumsum([len(group) for group in groups]))
    return _merged(order, fronts)


def _dissection(places: Any) -> np.ndarray:
    """METIS's order by nested dissection (Karypis & Kumar 1998, SIAM J. Sci. Comput. 20:359).

    Of neighbours of 20,000 points its factors need half of the operations of minimum degree's.
    """
    import pymetis

    others = (places - sparse.diags_array(places.diagonal())).tocsr()
    others.eliminate_zeros()
    graph = pymetis.CSRAdjacency(others.indptr, others.indices)
    return np.asarray(pymetis.nested_dissection(graph)[0])


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


def _groups(below: sparse.csc_array) -> list[list[int]]:
    """Unknowns that can go together without one more entry.

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
    return groups


def _fronts(matrix: sparse.csr_array, stops: np.ndarray) -> list[Front]:
    """Of a matrix in the order of elimination, with what children leave them; `stops`: of each group."""
    by_row, by_column = matrix.tocsr(), matrix.tocsc()
    given: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in stops]
    fronts, start = [], 0
    for stop, (number, left) in zip(stops.tolist(), enumerate(given), strict=True):
        rows = _beyond(stop, by_column, start, [rows for rows, _ in left])
        columns = _beyond(stop, by_row, start, [columns for _, columns in left])
        given[number] = []
        parent = -1
        if len(rows) and len(columns):
            parent = int(np.searchsorted(stops, min(rows[0], columns[0]), side="right"))
            given[parent].append((rows, columns))
        fronts.append(Front(start, stop, rows, columns, parent))
        start = stop
    return fronts


def _beyond(stop: int, lines: sparse.csr_array, start: int, known: list[np.ndarray]) -> np.ndarray:
    """Places from `stop` on in the lines from `start` up to there, and of those that are known."""
    own = lines.indices[lines.indptr[start] : lines.indptr[stop]]
    places = np.unique(np.concatenate([own, *known]))
    return places[places.searchsorted(stop) :]


def _merged(order: np.ndarray, fronts: list[Front]) -> Plan:
    """With children in their parents where zeros cost less than one front more, from the leaves up."""
    children: list[list[int]] = [[] for _ in fronts]
    members = [[number] for number in range(len(fronts))]
    counts = [front.stop - front.start for front in fronts]
    for number, front in enumerate(fronts):
        ready, left = sorted(children[number], key=lambda child: len(fronts[child].rows)), []
        while ready:
            child = ready.pop()
            apart = _seconds(counts[child], fronts[child]) + _seconds(counts[number], front)
            if _seconds(counts[child] + counts[number], front) <= apart:
                members[number] = members[child] + members[number]
                counts[number] += counts[child]
                members[child] = []
                ready += children[child]
            else:
                left.append(child)
        children[number] = left
        if front.parent >= 0:
            children[front.parent].append(number)
    return _numbered(order, fronts, [numbers for numbers in members if numbers])


def _seconds(count: int, front: Front) -> float:
    """Of a front with the rows and columns of another, and `count` unknowns."""
    rows, columns = len(front.rows), len(front.columns)
    operations = count**3 * 2 / 3 + count**2 * (rows + columns) + 2 * count * rows * columns
    return _CALLS + _OPERATION * operations + _PASSED * rows * columns


def _numbered(order: np.ndarray, fronts: list[Front], members: list[list[int]]) -> Plan:
    """With the unknowns of a front next to each other; the last of its members has its rows and columns."""
    moved = np.concatenate(
        [np.arange(fronts[number].start, fronts[number].stop) for numbers in members for number in numbers]
    )
    place = np.empty_like(moved)
    place[moved] = np.arange(len(moved))
    counts = [sum(fronts[number].stop - fronts[number].start for number in numbers) for numbers in members]
    stops = np.cumsum(counts)
    numbered = []
    for stop, count, numbers in zip(stops.tolist(), counts, members, strict=True):
        rows, columns = np.sort(place[fronts[numbers[-1]].rows]), np.sort(place[fronts[numbers[-1]].columns])
        parent = -1
        if len(rows) and len(columns):
            parent = int(np.searchsorted(stops, min(rows[0], columns[0]), side="right"))
        numbered.append(Front(stop - count, stop, rows, columns, parent))
    return Plan(order[moved], numbered)
