"""Approximate nearest neighbours by faiss, with the share of the true ones that was found.

Rows lie in cells (an inverted file; Jegou, Douze & Schmid 2011, IEEE TPAMI 33:117) by their principal
components. The nearest rows of a few cells there are candidates, and those are measured as exact neighbours
are: in float64, from the features themselves. How many cells and candidates that takes is settled on rows
whose true neighbours are known; the recall that is told is measured on other rows, in the result itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError, install
from jaxtl.machine.cores import share, workers
from jaxtl.neighbors import check_numbers, host, nearest_rows
from jaxtl.progress import Progress
from jaxtl.ranges import SHARE
from jaxtl.records.arrays import Neighbors
from jaxtl.records.points import as_points

# Principal components by which candidates are found, and rows that they are made of.
_COMPONENTS, _SAMPLE = 64, 2**14
# Rows whose true neighbours are searched for: so many to settle on, and as many to measure by.
_ASKED = 1000
# Numbers of features that are looked at together: 64 MiB of float32, of which exact search may make some
# copies in float64.
_PIECE = 2**24
# Rows searched for, and rows measured again, at a time.
_SEARCHED, _MEASURED = 2**14, 128
# Candidates at most, for each neighbour.
_CANDIDATES = 4
# Rows of a cell that its middle is learnt from: fewer than 39 faiss warns of.
_LEAST, _MOST = 39, 64
# Relative, of float32 distances: rows so near each other are as good neighbours.
_EQUAL = 1e-6
# Standard errors by which the recall on the rows to settle on has to be above what is asked for.
_MARGIN = 2.0


def approximate_neighbors(
    values: np.ndarray, n_neighbors: int, recall: float = 0.95, progress: Progress | None = None
) -> Neighbors:
    """Near other rows of every row, most of them the nearest: at least a share of `recall`, as a rule.

    It needs the extra `faiss`. For 70,000 rows of 1280 it takes a seventh of what exact neighbours do,
    and grows less: with n, and n^1.5 in a part. The same values give the same neighbours on one machine.

    Args:
        values: real [n, d], finite, which may be memory-mapped.
        n_neighbors: k, 1 to n - 1.
        recall: the share of the k true neighbours to be found, above 0 and below 1.
        progress: called with the fraction of the rows done.

    Returns:
        indices, distances and `recall`, measured on up to 1,000 random rows. Distances are exact.

    Raises:
        JaxtlError: faiss is not installed, or does not reach the recall; else as `exact_neighbors`.
    """
    if recall not in SHARE:
        raise JaxtlError(f"neighbours: recall must be {SHARE}, got {recall!r}")
    faiss = _library()
    if getattr(values, "dtype", None) != np.float32 or values.ndim != 2:
        values = as_points("neighbours", values, 2)
    n = len(values)
    check_numbers(n_neighbors, n - 1)
    asked = np.random.default_rng(0).choice(n, min(n, 2 * _ASKED), replace=False)
    farthest = true_distances(values, asked, n_neighbors)
    points = _projected(values)
    index = _cells(faiss, points)
    half = (len(asked) + 1) // 2
    count = _settle(index, values, points, asked[:half], farthest[:half], n_neighbors, recall)
    indices, distances = np.empty((n, n_neighbors), np.int32), np.empty((n, n_neighbors), np.float32)
    for start in range(0, n, _SEARCHED):
        rows = np.arange(start, min(start + _SEARCHED, n))
        indices[rows], distances[rows] = _nearest(index, values, points, rows, count, n_neighbors)
        if progress:
            progress((rows[-1] + 1) / n)
    near = distances[asked[-half:]] <= farthest[-half:, None] * (1 + _EQUAL)
    return Neighbors(indices, distances, float(near.mean()))


def _library() -> Any:
    try:
        import faiss
    except ImportError:
        raise JaxtlError(f"neighbours: approximate ones are found by faiss: {install('faiss')}") from None
    faiss.omp_set_num_threads(workers())
    return faiss


def true_distances(values: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """How far the k-th nearest other row of some rows is, float32 [m]: exact, over all rows, piece by piece.

    Args:
        values: float32 [n, d], which may be memory-mapped.
        rows: which of them, int [m].
    """
    asked, near = np.ascontiguousarray(values[rows]), np.full((len(rows), k), np.inf, np.float32)
    step = max(k + 1, _PIECE // values.shape[1])
    for start in range(0, len(values), step):
        piece = values[start : start + step]
        if not np.isfinite(piece).all():
            as_points("neighbours", values)  # says which rows
        own = nearest_rows(piece, asked, min(k + 1, len(piece)))
        distances = np.where(own.indices + start == rows[:, None], np.inf, own.distances)
        near = np.sort(np.concatenate([near, distances], axis=1), axis=1)[:, :k]
    return near[:, -1]


def _projected(values: np.ndarray) -> np.ndarray:
    """Rows on the first principal components of some of them, float32 [n, c], the first of deviation 1."""
    from sklearn.utils.extmath import randomized_svd

    n, d = values.shape
    some = values[np.linspace(0, n - 1, min(n, _SAMPLE, max(2, _PIECE // d))).astype(int)]
    mean = some.mean(axis=0, dtype=np.float64)
    count = min(_COMPONENTS, *some.shape)
    _, lengths, components = randomized_svd(some - mean, count, random_state=0)
    scaled = components.T / (lengths[0] / np.sqrt(len(some)) or 1.0)
    points = np.empty((n, count), np.float32)
    step = max(1, _PIECE // (2 * d))
    for start in range(0, n, step):
        points[start : start + step] = (values[start : start + step] - mean) @ scaled
    return points


def _cells(faiss: Any, points: np.ndarray) -> Any:
    """An index of all points, in about 4 sqrt(n) cells, each with the points nearest to its middle."""
    n, d = points.shape
    count = max(1, min(int(4 * np.sqrt(n)), n // _LEAST))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(d), d, count)
    index.cp.max_points_per_centroid = _MOST
    index.train(points)
    index.add(points)
    return index


def _settle(
    index: Any,
    values: np.ndarray,
    points: np.ndarray,
    rows: np.ndarray,
    farthest: np.ndarray,
    k: int,
    recall: float,
) -> int:
    """Set how many cells are searched, and return how many candidates are measured, so that recall is met."""
    most = min(_CANDIDATES * k + host.SPARE, len(values) - 1)
    # As many cells as hold the candidates several times over, then more.
    cells, best = -(-_CANDIDATES * most * index.nlist // len(values)), 0.0
    while True:
        index.nprobe = min(cells, index.nlist)
        candidates = _candidates(index, points, rows, most)
        squared = host.measure(values, values, rows, candidates)
        near = np.sqrt(squared) <= farthest[:, None] * (1 + _EQUAL)
        shares = np.minimum(near.cumsum(axis=1), k) / k
        sure = shares.mean(axis=0) - _MARGIN * shares.std(axis=0) / np.sqrt(len(rows))
        if sure[-1] >= recall:
            return max(k, int(np.argmax(sure >= recall)) + 1)
        best = max(best, float(sure[-1]))
        if cells >= index.nlist:
            raise JaxtlError(
                f"neighbours: a recall of {recall:g} is not reached, {best:.3f} is; ask for less, or for "
                "exact neighbours"
            )
        cells *= 2


def _candidates(index: Any, points: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """The `count` rows that seem nearest to each of some rows, the nearest first; without itself."""
    candidates, cells = index.search(points[rows], count + 1)[1], index.nprobe
    # Of cells that hold too few: in all cells there are enough.
    while len(lacking := np.flatnonzero((candidates < 0).any(axis=1))):
        index.nprobe = min(4 * index.nprobe, index.nlist)
        candidates[lacking] = index.search(points[rows[lacking]], count + 1)[1]
    index.nprobe = cells
    return host.without_own(candidates, rows)


def _nearest(
    index: Any, values: np.ndarray, points: np.ndarray, rows: np.ndarray, count: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    candidates = _candidates(index, points, rows, count)

    def of_some(start: int) -> tuple[np.ndarray, np.ndarray]:
        some = slice(start, start + _MEASURED)
        indices, squared = host.nearest_of(values, values, rows[some], candidates[some], k)
        return indices, np.sqrt(squared)

    parts = share(of_some, range(0, len(rows), _MEASURED))
    indices, distances = (np.concatenate(part) for part in zip(*parts, strict=True))
    return indices, distances
