"""M in tiles of its lower triangle on JAX's device, for more points than one matrix there would hold.

4 n^2 bytes hold it, and every step is one of a few compiled functions of fixed shape, however many points
there are.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from scipy import sparse

from jaxtl.lle.factors import SHIFT, Operator
from jaxtl.machine import programs

# Tiles a side: few launches, and little of the last tile wasted.
_TILES = 16
_SMALLEST_TILE, _LARGEST_TILE = 128, 4096
_EXACT = jax.lax.Precision.HIGHEST


def solver(matrix: sparse.csr_array) -> Operator | None:
    """Solves with M + shift [n, n], float64; None where a pivot is not positive."""
    n = matrix.shape[0]
    size = tile_size(n)
    with jax.enable_x64(True):
        tiles = _lower_tiles(matrix, size)
        inverses = _factorise(tiles)
        if not all(bool(jnp.isfinite(inverse).all()) for inverse in inverses):
            return None
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
    # A power of two, so that the matrices of one run have one shape, compiled once.
    longest = 1 << (max(len(piece) for piece in pieces.values()) - 1).bit_length()
    # Rows beyond n stand alone: their one entry is on the diagonal.
    shifts = np.where(np.arange(count * size) < matrix.shape[0], SHIFT, 1.0)
    tiles = {}
    for i in range(count):
        for j in range(i + 1):
            piece = pieces.get(i * count + j, order[:0])
            places, entries = np.full((2, longest), size, np.int32), np.zeros(longest)  # beyond: left out
            places[:, : len(piece)] = lower.row[piece] % size, lower.col[piece] % size
            entries[: len(piece)] = lower.data[piece]
            tiles[i, j] = _scatter(places, entries, shifts[i * size : (i + 1) * size] * (i == j))
    return tiles


@programs.jit
def _scatter(places: jax.Array, entries: jax.Array, shifts: jax.Array) -> jax.Array:
    tile = jnp.zeros((len(shifts), len(shifts))).at[tuple(places)].add(entries, mode="drop")
    return tile + jnp.diag(shifts)


@programs.jit(donate_argnums=0)
def _reduce(tile: jax.Array, left: jax.Array, above: jax.Array) -> jax.Array:
    return tile - jnp.matmul(left, above.T, precision=_EXACT)


@programs.jit
def _invert_factor(tile: jax.Array) -> jax.Array:
    factor = jax.lax.linalg.cholesky(tile, symmetrize_input=False)
    return solve_triangular(factor, jnp.eye(len(tile)), lower=True)


@programs.jit(donate_argnums=0)
def _divide(tile: jax.Array, inverse: jax.Array) -> jax.Array:
    return jnp.matmul(tile, inverse.T, precision=_EXACT)


@programs.jit
def _subtract(part: jax.Array, tile: jax.Array, other: jax.Array) -> jax.Array:
    return part - jnp.matmul(tile, other, precision=_EXACT)


@programs.jit
def _subtract_transposed(part: jax.Array, tile: jax.Array, other: jax.Array) -> jax.Array:
    return part - jnp.matmul(tile.T, other, precision=_EXACT)


@programs.jit
def _apply(inverse: jax.Array, part: jax.Array) -> jax.Array:
    return jnp.matmul(inverse, part, precision=_EXACT)


@programs.jit
def _apply_transposed(inverse: jax.Array, part: jax.Array) -> jax.Array:
    return jnp.matmul(inverse.T, part, precision=_EXACT)


def tile_size(n: int) -> int:
    size = -(-n // _TILES)
    return min(_LARGEST_TILE, max(_SMALLEST_TILE, -(-size // _SMALLEST_TILE) * _SMALLEST_TILE))


def held(n: int) -> int:
    """Bytes of all tiles of n points."""
    size = tile_size(n)
    count = -(-n // size)
    return 8 * size**2 * count * (count + 1) // 2
