"""Locally linear embedding on JAX's device: dense Cholesky factors in tiles, float64 where it matters.

On a GPU the sparse factors that serve a CPU are slow, while a dense factorisation runs at the card's matrix
rate. M is kept as tiles of its lower triangle, so 4 n^2 bytes hold it, and every step is one of four compiled
functions of fixed shape, however many points there are. Everything here runs on a CPU too, only slower.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from scipy import sparse

from jaxtl.errors import JaxtlError
from jaxtl.lle.factors import SHIFT, Operator
from jaxtl.runtime import device_memory, leave_device_memory

# Tiles a side: few launches, and little of the last tile wasted.
_TILES = 16
_SMALLEST_TILE, _LARGEST_TILE = 128, 4096
# What a factorisation may take of the device's memory; the rest is for the features and what JAX holds.
_MEMORY_PART = 0.7
# Doubles in one chunk of gathered neighbours.
_CHUNK = 2**26
_EXACT = jax.lax.Precision.HIGHEST


def is_gpu() -> bool:
    """Whether JAX's default device is a GPU."""
    leave_device_memory()
    return jax.default_backend() == "gpu"


def fits(n: int) -> bool:
    """Whether the factors of n points, 4 n^2 bytes and the padding of their tiles, fit into the device."""
    return _bytes(n) <= _MEMORY_PART * device_memory()


def check_fits(n: int) -> None:
    """Raises JaxtlError unless `fits`, naming how many points would."""
    if not fits(n):
        largest = int((_MEMORY_PART * device_memory() / 4) ** 0.5)
        raise JaxtlError(
            f"lle: the factors of {n:,} points take {_bytes(n) / 2**30:.1f} GiB, more than "
            f"{_MEMORY_PART:.0%} of the device's {device_memory() / 2**30:.1f} GiB; take about {largest:,} "
            "points and place the others by transform, or engine cpu"
        )


def barycenter_weights(
    values: np.ndarray, queries: np.ndarray, indices: np.ndarray, reg: float, workers: int
) -> np.ndarray:
    """`jaxtl.lle.alignment.barycenter_weights` on the device; `workers` plays no part."""
    m, k = indices.shape
    size = max(1, min(m, _CHUNK // (k * values.shape[1])))
    with jax.enable_x64(True):
        points = jnp.asarray(values)
        asked = points if queries is values else jnp.asarray(queries)
        parts = []
        for start in range(0, m, size):
            rows = np.minimum(np.arange(start, start + size), m - 1)  # one shape, compiled once
            parts.append(_weights(points, asked[rows], jnp.asarray(indices[rows]), reg))
        return np.concatenate([np.asarray(part) for part in parts])[:m]


@jax.jit
def _weights(points: jax.Array, queries: jax.Array, indices: jax.Array, reg: jax.Array) -> jax.Array:
    apart = points[indices].astype(jnp.float64) - queries[:, None].astype(jnp.float64)
    gram = jnp.einsum("nid,njd->nij", apart, apart, precision=_EXACT)
    trace = jnp.trace(gram, axis1=1, axis2=2)[:, None, None]
    gram = gram + jnp.where(trace > 0, reg * trace, reg) * jnp.eye(gram.shape[1])
    weights = jnp.linalg.solve(gram, jnp.ones((*gram.shape[:2], 1)))[..., 0]
    return weights / weights.sum(axis=1, keepdims=True)


def dense_solver(matrix: sparse.csr_array) -> Operator:
    """Solves with M [n, n] by tiles of Cholesky factors, float64.

    Raises JaxtlError where M, which is semidefinite, has an eigenvalue below minus the shift.
    """
    n = matrix.shape[0]
    size = _tile_size(n)
    with jax.enable_x64(True):
        tiles = _lower_tiles(matrix, size)
        inverses = _factorise(tiles)
        if not all(bool(jnp.isfinite(inverse).all()) for inverse in inverses):
            raise JaxtlError("lle: the factorisation met a negative pivot; take a larger reg or engine cpu")
    count = len(inverses)

    def solve(b: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            padded = np.zeros((count * size, b.shape[1]))
            padded[:n] = b
            parts = [jnp.asarray(part) for part in np.split(padded, count)]
            for i in range(count):
                for j in range(i):
                    parts[i] = _subtract(parts[i], tiles[i, j], parts[j])
                parts[i] = _apply(inverses[i], parts[i])
            for i in reversed(range(count)):
                for j in range(i + 1, count):
                    parts[i] = _subtract_transposed(parts[i], tiles[j, i], parts[j])
                parts[i] = _apply_transposed(inverses[i], parts[i])
            return np.concatenate([np.asarray(part) for part in parts])[:n]

    return solve


def _factorise(tiles: dict[tuple[int, int], jax.Array]) -> list[jax.Array]:
    """Turn the tiles of M + shift into those of L in place; returns the inverses of L's diagonal tiles.

    Column by column, each tile reduced by what lies left of it (Golub & Van Loan 2013, sec. 4.2.9). The
    calls are queued and run one after the other on the device; the old tile's memory is reused.
    """
    count = max(i for i, _ in tiles) + 1
    inverses = []
    for j in range(count):
        for i in range(j, count):
            for left in range(j):
                tiles[i, j] = _reduce(tiles[i, j], tiles[i, left], tiles[j, left])
        inverses.append(_invert_factor(tiles[j, j]))
        for i in range(j + 1, count):
            tiles[i, j] = _divide(tiles[i, j], inverses[j])
        del tiles[j, j]  # its inverse is all that is needed
    return inverses


def _lower_tiles(matrix: sparse.csr_array, size: int) -> dict[tuple[int, int], jax.Array]:
    lower = sparse.tril(matrix).tocoo()
    count = -(-matrix.shape[0] // size)
    where = (lower.row // size).astype(np.int64) * count + lower.col // size
    order = np.argsort(where, kind="stable")
    names, starts = np.unique(where[order], return_index=True)
    pieces = dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))
    longest = max(len(piece) for piece in pieces.values())
    tiles = {}
    for i in range(count):
        for j in range(i + 1):
            piece = pieces.get(i * count + j, order[:0])
            rows, columns, entries = np.zeros((3, longest))
            rows[: len(piece)], columns[: len(piece)] = lower.row[piece] % size, lower.col[piece] % size
            entries[: len(piece)] = lower.data[piece]
            tiles[i, j] = _scatter(rows.astype(np.int32), columns.astype(np.int32), entries, i == j, size)
    # Rows beyond n stand alone: their one entry is on the diagonal.
    last, extra = tiles[count - 1, count - 1], count * size - matrix.shape[0]
    beyond = np.arange(size - extra, size)
    tiles[count - 1, count - 1] = last.at[beyond, beyond].set(1.0)
    return tiles


@partial(jax.jit, static_argnames="size")
def _scatter(
    rows: jax.Array, columns: jax.Array, entries: jax.Array, diagonal: jax.Array, size: int
) -> jax.Array:
    tile = jnp.zeros((size, size)).at[rows, columns].add(entries)
    whole = tile + jnp.tril(tile, -1).T + SHIFT * jnp.eye(size)
    return jnp.where(diagonal, whole, tile)


@partial(jax.jit, donate_argnums=0)
def _reduce(tile: jax.Array, left: jax.Array, above: jax.Array) -> jax.Array:
    return tile - jnp.matmul(left, above.T, precision=_EXACT)


@jax.jit
def _invert_factor(tile: jax.Array) -> jax.Array:
    return solve_triangular(jnp.linalg.cholesky(tile), jnp.eye(len(tile)), lower=True)


@partial(jax.jit, donate_argnums=0)
def _divide(tile: jax.Array, inverse: jax.Array) -> jax.Array:
    return jnp.matmul(tile, inverse.T, precision=_EXACT)


@jax.jit
def _subtract(part: jax.Array, tile: jax.Array, other: jax.Array) -> jax.Array:
    return part - jnp.matmul(tile, other, precision=_EXACT)


@jax.jit
def _subtract_transposed(part: jax.Array, tile: jax.Array, other: jax.Array) -> jax.Array:
    return part - jnp.matmul(tile.T, other, precision=_EXACT)


@jax.jit
def _apply(inverse: jax.Array, part: jax.Array) -> jax.Array:
    return jnp.matmul(inverse, part, precision=_EXACT)


@jax.jit
def _apply_transposed(inverse: jax.Array, part: jax.Array) -> jax.Array:
    return jnp.matmul(inverse.T, part, precision=_EXACT)


def _tile_size(n: int) -> int:
    size = -(-n // _TILES)
    return min(_LARGEST_TILE, max(_SMALLEST_TILE, -(-size // _SMALLEST_TILE) * _SMALLEST_TILE))


def _bytes(n: int) -> int:
    size = _tile_size(n)
    count = -(-n // size)
    return 8 * size**2 * count * (count + 1) // 2
