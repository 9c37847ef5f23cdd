"""What local linear embeddings minimise: x' M x with M = sum over points of a small matrix on its neighbours.

Standard LLE (Roweis & Saul 2000, Science 290:2323) and modified LLE (Zhang & Wang 2006, NIPS 19), with the
numbers of scikit-learn's implementations: the same regularisation, and the same rule for how many weight
vectors a point gets. All points are worked on at once, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from jaxtl.machine.cores import share

# Doubles in one chunk of gathered neighbours: it stays in the cache of a core.
_CHUNK = 262_144
# scikit-learn's regularisation of the weights in modified LLE, a constant there too.
_MODIFIED_REG = 1e-3


@dataclass(frozen=True)
class Alignment:
    """M, float64 [n, n] symmetric: by a square root A with M = A'A, or itself."""

    root: sparse.csr_array | None = None
    whole: sparse.csr_array | None = None

    @property
    def size(self) -> int:
        """n, without `matrix`, which not every solver needs."""
        return (self.whole if self.root is None else self.root).shape[0]

    @cached_property
    def matrix(self) -> sparse.csr_array:
        return self.whole if self.root is None else self._transposed @ self.root

    def multiply(self, vectors: np.ndarray) -> np.ndarray:
        """M times [n, p]; by the square root the small eigenvalues keep their digits."""
        return self.whole @ vectors if self.root is None else self._transposed @ (self.root @ vectors)

    @property
    def norm(self) -> float:
        """A bound of the largest eigenvalue."""
        matrix = self.whole if self.root is None else self.root
        columns, rows = abs(matrix).sum(axis=0).max(), abs(matrix).sum(axis=1).max()
        return float(rows if self.root is None else columns * rows)

    @cached_property
    def _transposed(self) -> sparse.csr_array:
        return self.root.T.tocsr()


def barycenter_weights(
    values: np.ndarray, queries: np.ndarray, indices: np.ndarray, reg: float, workers: int
) -> np.ndarray:
    """Weights that sum to one and rebuild each query from its neighbours with the least squared error.

    Args:
        values: [n, d].
        queries: [m, d].
        indices: [m, k], rows of `values`.
        reg: the local Gram matrix gains reg times its trace on its diagonal, or reg where that is zero.
        workers: threads.

    Returns:
        float64 [m, k].
    """
    return _map(
        lambda rows: _barycenter(local_gram(values, queries, indices, rows), reg), indices, values, workers
    )


def standard(indices: np.ndarray, weights: np.ndarray) -> Alignment:
    """Of I - W, which has k + 1 entries a row; indices and weights are [n, k]."""
    n = len(indices)
    columns = np.concatenate([np.arange(n)[:, None], indices], axis=1)
    entries = np.concatenate([np.ones((n, 1)), -weights], axis=1)
    return Alignment(root=_rows(entries, columns))


def modified(values: np.ndarray, indices: np.ndarray, n_components: int, workers: int) -> Alignment:
    """Of modified LLE; k is at least n_components."""
    n, k = indices.shape
    gram = _map(lambda rows: local_gram(values, values, indices, rows), indices, values, workers)
    eigenvalues, vectors = np.linalg.eigh(gram)
    eigenvalues, vectors = eigenvalues[:, ::-1].clip(0), vectors[:, :, ::-1]
    rank = min(values.shape[1], k)
    eigenvalues[:, rank:] = 0
    sums = vectors.sum(axis=1)
    damping = _MODIFIED_REG * eigenvalues.sum(axis=1, keepdims=True)
    damping[damping == 0] = _MODIFIED_REG
    weights = np.einsum("nij,nj->ni", vectors, sums / (eigenvalues + damping))
    weights /= weights.sum(axis=1, keepdims=True)
    small = np.arange(k) >= k - _almost_null(eigenvalues[:, :rank], n_components, k)[:, None]
    where = np.concatenate([np.arange(n)[:, None], indices], axis=1)
    rows, columns = np.repeat(where, k + 1, axis=1).ravel(), np.tile(where, k + 1).ravel()
    entries = _modified_blocks(vectors, sums, weights, small).ravel()
    return Alignment(whole=sparse.coo_array((entries, (rows, columns)), shape=(n, n)).tocsr())


def components(indices: np.ndarray) -> tuple[int, int]:
    """Connected components of the graph of neighbours [n, k], and groups with no neighbours outside.

    A component holds at least one such group: the points where a walk from neighbour to neighbour ends.
    """
    graph = _rows(np.ones(indices.shape), indices)
    count, group = connected_components(graph, connection="strong")
    leaves = group[np.repeat(np.arange(len(indices)), indices.shape[1])] != group[indices.ravel()]
    left = np.unique(np.repeat(group, indices.shape[1])[leaves])
    return connected_components(graph, connection="weak")[0], count - len(left)


def local_gram(values: np.ndarray, queries: np.ndarray, indices: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Inner products of the neighbours as seen from each query, float64 [len(rows), k, k]."""
    apart = values[indices[rows]].astype(np.float64)
    apart -= queries[rows, None]
    return apart @ apart.transpose(0, 2, 1)


def _barycenter(gram: np.ndarray, reg: float) -> np.ndarray:
    k = gram.shape[1]
    trace = np.trace(gram, axis1=1, axis2=2)
    gram[:, np.arange(k), np.arange(k)] += np.where(trace > 0, reg * trace, reg)[:, None]
    weights = np.linalg.solve(gram, np.ones((len(gram), k, 1)))[..., 0]
    return weights / weights.sum(axis=1, keepdims=True)


def _almost_null(eigenvalues: np.ndarray, n_components: int, k: int) -> np.ndarray:
    # How many trailing eigenvalues together stay below the median ratio of small to large ones, at least one.
    total = eigenvalues.cumsum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        eta = total[:, -1] / total[:, n_components - 1] - 1
        ratios = total[:, -1:] / total[:, :-1] - 1
    eta = np.median(eta[~np.isnan(eta)]) if total[:, -1].any() else 0.0
    return np.maximum((ratios < eta).sum(axis=1) + k - eigenvalues.shape[1], 1)


def _modified_blocks(
    vectors: np.ndarray, sums: np.ndarray, weights: np.ndarray, small: np.ndarray
) -> np.ndarray:
    """Each point's part of M on itself (first) and its neighbours, [n, k + 1, k + 1].

    With V the s almost null vectors, H the reflection that takes V'1 to alpha 1 and w the barycentric
    weights, the paper's weight vectors are the columns of U = V H + (1 - alpha) w 1'. Since H V'1 = alpha 1
    and H is symmetric and orthogonal, V H 1 = V V'1 / alpha: U U' and U 1 need neither H nor a loop.
    """
    n, k = weights.shape
    count = small.sum(axis=1)[:, None, None]
    null = np.where(small[:, None, :], vectors, 0)
    projector = null @ null.transpose(0, 2, 1)
    onto = np.einsum("nij,nj->ni", null, np.where(small, sums, 0))[:, :, None]
    alpha = np.sqrt((np.where(small, sums, 0) ** 2).sum(axis=1)[:, None, None] / count)
    w = weights[:, :, None]
    # Where no almost null vector sees the ones (alpha = 0), the cross terms have no direction of their own.
    cross = np.divide(1 - alpha, alpha, out=np.zeros_like(alpha), where=alpha > 1e-12) * onto
    cross = cross @ w.transpose(0, 2, 1)
    blocks = np.empty((n, k + 1, k + 1))
    blocks[:, 1:, 1:] = projector + cross + cross.transpose(0, 2, 1)
    blocks[:, 1:, 1:] += (1 - alpha) ** 2 * count * (w @ w.transpose(0, 2, 1))
    towards = np.divide(onto, alpha, out=np.zeros_like(onto), where=alpha > 1e-12) + (1 - alpha) * count * w
    blocks[:, 1:, :1] = -towards
    blocks[:, :1, 1:] = -towards.transpose(0, 2, 1)
    blocks[:, :1, :1] = count
    return blocks


def _rows(entries: np.ndarray, columns: np.ndarray) -> sparse.csr_array:
    n, count = columns.shape
    matrix = sparse.csr_array(
        (entries.ravel(), columns.ravel(), np.arange(0, n * count + 1, count)), shape=(n, n)
    )
    matrix.sort_indices()
    return matrix


def _map(
    work: Callable[[np.ndarray], np.ndarray], indices: np.ndarray, values: np.ndarray, workers: int
) -> np.ndarray:
    n, k = indices.shape
    size = max(1, _CHUNK // (k * values.shape[1]))
    chunks = [np.arange(start, min(start + size, n)) for start in range(0, n, size)]
    return np.concatenate(share(work, chunks, workers))
