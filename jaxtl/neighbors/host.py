"""Nearest neighbours on a CPU: a tree in few dimensions, else a float32 matrix product and a proof.

The product finds k + 8 candidates of each row. They are measured again in float64, and the k-th nearest of
them must be nearer than rounding could have hidden another row; rows where that is not so are searched again
in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from jaxtl.machine.cores import share
from jaxtl.neighbors.middle import about_middle
from jaxtl.records.arrays import Neighbors

# Below as many dimensions a tree looks at a small part of the points only.
_TREE_BELOW = 16
# Candidates beyond k: with some, the bound settles nearly every row at the first attempt.
SPARE = 8
# Norms below which float32 loses digits of the squares, or a device all of them: in units of its rounding.
UNDERFLOW = float(np.finfo(np.float32).tiny / np.finfo(np.float32).eps)
# Measuring candidates again grows with k: at 90 it is half of the time for 10,000 rows of 1280, and the whole
# still takes 0.8 of the library's.
_PRODUCT_UP_TO = 128
# Distances held at a time by one thread, 16 MiB of float32: to all rows or, where these are many, to a tile
# of them after the other, since a product with few rows and many columns is half copying.
_BLOCK, _TILE = 4_000_000, 8192
# Doubles of rows measured again at a time: they stay in the cache.
_CHUNK = 250_000

Search = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def search(values: np.ndarray, queries: np.ndarray | None, k: int, n_jobs: int) -> Neighbors:
    """k nearest rows of each query; without queries, of each row but itself."""
    n, d = values.shape
    own = queries is None
    queries = values if own else queries
    indices, distances = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.float32)
    exact = d < _TREE_BELOW or k > _PRODUCT_UP_TO or overflows(values, queries)
    of_rows = library(values, queries, k, own) if exact else _product(values, queries, k, own)
    size = min(256, _BLOCK // n) if n <= 2 * _TILE else _BLOCK // _TILE

    def fill(start: int) -> None:
        rows = np.arange(start, min(start + size, len(queries)))
        with np.errstate(over="ignore"):  # infinite distances are refused by who called
            indices[rows], distances[rows] = of_rows(rows)

    # Threads over blocks of rows keep every core busy in the selection too, which a threaded BLAS does not.
    share(fill, range(0, len(queries), size), None if n_jobs == -1 else n_jobs)
    return Neighbors(indices, distances)


def overflows(values: np.ndarray, queries: np.ndarray) -> bool:
    """Whether float32 may not hold squared distances, of which then nothing can be said by a product."""
    largest = max(max(-rows.min(), rows.max()) for rows in (values, queries))
    return 8.0 * values.shape[1] * float(largest) ** 2 > float(np.finfo(np.float32).max)


def library(values: np.ndarray, queries: np.ndarray, k: int, own: bool) -> Search:
    """scikit-learn's search, in float64 whatever comes in."""
    from sklearn.neighbors import NearestNeighbors

    tree = values.shape[1] < _TREE_BELOW
    # "brute" subtracts norms, which about the middle are least.
    points, asked = (values, queries) if tree else _about(values, queries)
    # Some beyond k, so that of rows at one distance those of lower index are taken, as everywhere here.
    count = min(k + own + SPARE, len(values))
    model = NearestNeighbors(n_neighbors=count, algorithm="kd_tree" if tree else "brute")
    # It looks for what is not finite by the sum of all, which in float32 may be infinity less infinity.
    with np.errstate(invalid="ignore"):
        model.fit(points)

    def of_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(invalid="ignore"):
            near, candidates = model.kneighbors(asked[rows])
        if own:
            candidates = without_own(candidates, rows)
        indices, squared = nearest_of(values, queries, rows, candidates, k)
        if not tree and count < len(values):
            unsure = ~_proven(squared[:, -1], near[:, -1] ** 2, asked[rows])
            for row in np.flatnonzero(unsure):
                indices[row], squared[row] = _by_differences(values, queries, rows[row], k, own)
        return indices, np.sqrt(squared)

    return of_rows


def _about(values: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64 about the middle of `values`."""
    points = about_middle(values)
    return points.rows, points.rows if queries is values else queries - points.middle


def _proven(furthest: np.ndarray, limit: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Whether no row that was left out can be nearer than the k-th of each query, by squared distances.

    Args:
        furthest: of the k-th nearest, exact [m].
        limit: of the last candidate, by a product in float64 [m]: those left out are as far or farther by it.
        asked: the queries as the product had them [m, d].
    """
    # Who is as near as the k-th has no larger norm than this, and the product is off by so much at most.
    own = np.sqrt(np.einsum("nd,nd->n", asked, asked))
    largest = own**2 + (own + np.sqrt(furthest)) ** 2
    margin = 4 * (asked.shape[1] + 4) * np.finfo(np.float64).eps * largest
    # Among copies any are as near as others.
    return (furthest == 0) | (furthest + margin < limit)


def _by_differences(
    values: np.ndarray, queries: np.ndarray, row: int, k: int, own: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of one query and squared distances, each measured from differences."""
    everyone = np.arange(len(values))
    if own:
        everyone = np.delete(everyone, row)
    indices, squared = nearest_of(values, queries, np.array([row]), everyone[None], k)
    return indices[0], squared[0]


def nearest_of(
    values: np.ndarray, queries: np.ndarray, rows: np.ndarray, candidates: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of each row's candidates, and squared distances in float64; equal ones by index."""
    exact = measure(values, queries, rows, candidates)
    order = np.lexsort((candidates, exact), axis=1)[:, :k]
    return np.take_along_axis(candidates, order, 1), np.take_along_axis(exact, order, 1)


def measure(values: np.ndarray, queries: np.ndarray, rows: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Squared distances of each row's candidates, float64 [m, c], from differences."""
    exact = np.empty(candidates.shape)
    step = max(1, _CHUNK // (candidates.shape[1] * values.shape[1]))
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        apart = values[candidates[some]].astype(np.float64)
        apart -= queries[rows[some], None]
        exact[some] = np.einsum("rkd,rkd->rk", apart, apart)
    return exact


def rounding(d: int) -> float:
    """Bound of the error of |x|^2 + |y|^2 - 2 x'y in float32, d terms, relative to |x|^2 + |y|^2.

    d + 4 units of rounding for each sum and for the rows' own rounding (Higham 2002, sec. 3.1).
    """
    return float(4 * (d + 4) * np.finfo(np.float32).eps)


def centred(values: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 rows about the mean of `values`, where norms, and so rounding, are least."""
    mean = values.mean(axis=0, dtype=np.float64)
    # float32 rows less a float32 row are rounded once, and need no float64 copy of everything.
    mean = mean.astype(np.result_type(values, np.float32))
    with np.errstate(over="ignore", invalid="ignore"):
        points = (values - mean).astype(np.float32, copy=False)
        return points, points if queries is values else (queries - mean).astype(np.float32, copy=False)


def _product(values: np.ndarray, queries: np.ndarray, k: int, own: bool) -> Search:
    points, asked = centred(values, queries)
    with np.errstate(over="ignore", invalid="ignore"):
        norms, own_norms = (np.einsum("nd,nd->n", rows, rows) for rows in (points, asked))
    n, d = values.shape
    count = min(k + SPARE, n - own)
    again = cache(partial(library, values, queries, k, own))

    def of_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(over="ignore", invalid="ignore"):
            candidates, _, limit = _candidates(points, norms, -2 * asked[rows], rows if own else None, count)
            indices, squared = nearest_of(values, queries, rows, candidates, k)
            margin = rounding(d) * (own_norms[rows] + norms.max() + UNDERFLOW)
            # Written so that what is not a number is unsure too.
            unsure = ~(squared[:, -1] < limit + own_norms[rows] - margin)
        distances = np.sqrt(squared)
        if unsure.any() and count < n - own:
            indices[unsure], distances[unsure] = again()(rows[unsure])
        return indices, distances

    return of_rows


def _candidates(
    points: np.ndarray, norms: np.ndarray, doubled: np.ndarray, own: np.ndarray | None, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `count` nearest points by a product, in any order, values that differ from squared distances by the
    query's norm, and the largest of these, which no other point is below.

    Args:
        doubled: the queries [m, d] times -2.
        own: of each query the point that it is, and that is left out.
    """
    n = len(points)
    tile = n if n <= 2 * _TILE else _TILE
    found = None
    for first in range(0, n, tile):
        far = doubled @ points[first : first + tile].T
        far += norms[first : first + tile]
        if own is not None:
            inside = np.flatnonzero((own >= first) & (own < first + tile))
            far[inside, own[inside] - first] = np.inf
        found = _least(far, count) if found is None else _nearer(*found, far, first)
    return found


def _least(far: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of each row's least, their values, and the largest of these."""
    limit = np.partition(far, count - 1, axis=1)[:, count - 1]
    chosen = _up_to(far, limit, count)
    return chosen, np.take_along_axis(far, chosen, 1), limit


def _nearer(
    chosen: np.ndarray, near: np.ndarray, limit: np.ndarray, far: np.ndarray, first: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`_least` of what was found and of more columns, which begin at `first`."""
    m, count = chosen.shape
    row, column = np.nonzero(far < limit[:, None])
    rows = np.concatenate([np.repeat(np.arange(m), count), row])
    columns = np.concatenate([chosen.ravel(), column + first])
    values = np.concatenate([near.ravel(), far[row, column]])
    order = np.lexsort((values, rows))
    starts = np.arange(m) * count + row.searchsorted(np.arange(m))
    kept = order[starts[:, None] + np.arange(count)]
    return columns[kept], values[kept], values[kept[:, -1]]


def _up_to(far: np.ndarray, limit: np.ndarray, count: int) -> np.ndarray:
    """Columns of the `count` least values of each row, the largest of which is its limit.

    With NumPy's partition four times as fast as its argpartition, which has no vector instructions and serves
    only rows where several values are equal to the limit.
    """
    chosen = ~(far > limit[:, None])
    crowded = np.flatnonzero(np.count_nonzero(chosen, axis=1) > count)
    chosen[crowded] = False
    if len(crowded):
        nearest = np.argpartition(far[crowded], count - 1, axis=1)[:, :count]
        chosen[crowded[:, None], nearest] = True
    return np.nonzero(chosen)[1].reshape(len(far), count)


def without_own(candidates: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Candidates [m, c] of rows [m] that may be among them, without these: [m, c - 1]."""
    # Among many copies a row's own index may be missing; then the last one goes.
    own = candidates == rows[:, None]
    own[~own.any(axis=1), -1] = True
    return candidates[~own].reshape(len(rows), -1)
