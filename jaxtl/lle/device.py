"""Locally linear embedding on JAX's device: dense Cholesky factors, float64 where it matters.

On a GPU the sparse factors that serve a CPU are slow, while a dense factorisation runs at the card's matrix
rate. Where the memory allows, M is one matrix: one program factorises it and one solves with it; beyond, M is
kept as tiles. Everything here runs on a CPU too, only slower.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from scipy import sparse

from jaxtl.errors import JaxtlError
from jaxtl.lle import tiles
from jaxtl.lle.factors import SHIFT, Operator
from jaxtl.machine import programs
from jaxtl.machine.devices import device_memory, devices_used, leave_device_memory
from jaxtl.machine.engines import row_blocks

# What a factorisation may take of the device's memory; the rest is for the features and what JAX holds.
_MEMORY_PART = 0.7
# Matrices that the factorisation of a whole one holds at its height, as XLA compiles it for an H100.
COPIES = 3
# Rows solved at a time: few steps, and inverses of diagonal blocks that cost little.
PANEL = 512
# Right-hand sides are padded to a multiple of this, so that all solves are one program.
_WIDTH = 4
# Doubles in one chunk of gathered neighbours.
_CHUNK = 2**26
_EXACT = jax.lax.Precision.HIGHEST


def fits(n: int) -> bool:
    """Whether the factors of n points, 4 n^2 bytes and the padding of their tiles, fit into the device."""
    return tiles.held(n) <= _MEMORY_PART * device_memory()


def check_fits(n: int) -> None:
    """Raises JaxtlError unless `fits`, naming how many points would."""
    if not fits(n):
        largest = int((_MEMORY_PART * device_memory() / 4) ** 0.5)
        raise JaxtlError(
            f"lle: the factors of {n:,} points take {tiles.held(n) / 2**30:.1f} GiB, more than "
            f"{_MEMORY_PART:.0%} of the device's {device_memory() / 2**30:.1f} GiB; take about {largest:,} "
            "points and place the others by transform, or engine cpu"
        )


def barycenter_weights(
    values: np.ndarray, queries: np.ndarray, indices: np.ndarray, reg: float, workers: int
) -> np.ndarray:
    """`jaxtl.lle.alignment.barycenter_weights` on the device; `workers` plays no part."""
    m, k = indices.shape
    blocks = row_blocks(np.arange(m), _CHUNK // (k * values.shape[1]), devices_used())
    leave_device_memory()
    with jax.enable_x64(True):
        points = jnp.asarray(values)
        asked = points if queries is values else jnp.asarray(queries)
        return np.asarray(_weights(points, asked, indices, blocks, reg)).reshape(-1, k)[:m]


@programs.jit(rows=("blocks",))
def _weights(
    points: jax.Array, queries: jax.Array, indices: jax.Array, blocks: jax.Array, reg: jax.Array
) -> jax.Array:
    def of_block(rows: jax.Array) -> jax.Array:
        apart = points[indices[rows]].astype(jnp.float64) - queries[rows][:, None].astype(jnp.float64)
        gram = jnp.einsum("nid,njd->nij", apart, apart, precision=_EXACT)
        trace = jnp.trace(gram, axis1=1, axis2=2)[:, None, None]
        gram = gram + jnp.where(trace > 0, reg * trace, reg) * jnp.eye(gram.shape[1])
        weights = jnp.linalg.solve(gram, jnp.ones((*gram.shape[:2], 1)))[..., 0]
        return weights / weights.sum(axis=1, keepdims=True)

    return jax.lax.map(of_block, blocks)


def dense_solver(matrix: sparse.csr_array, most: int | None = None) -> Operator:
    """Solves with M [n, n] by Cholesky factors, float64.

    Args:
        most: entries of its lower triangle that any such M of n points could have: those of one run then
            share one program.

    Raises JaxtlError where M, which is semidefinite, has an eigenvalue below minus the shift.
    """
    leave_device_memory()
    n = matrix.shape[0]
    whole = COPIES * 8 * _padded(n) ** 2 <= _MEMORY_PART * device_memory()
    solve = _whole_solver(matrix, most) if whole else tiles.solver(matrix)
    if solve is None:
        raise JaxtlError("lle: the factorisation met a negative pivot; take a larger reg or engine cpu")
    return solve


def _whole_solver(matrix: sparse.csr_array, most: int | None) -> Operator | None:
    n = matrix.shape[0]
    # Rows beyond n stand alone: their one entry is on the diagonal.
    shifts = np.where(np.arange(_padded(n)) < n, SHIFT, 1.0)
    with jax.enable_x64(True):
        factor, inverses, sound = _factorise(*_lower_entries(matrix, most), shifts)
        if not bool(sound):
            return None

    def solve(b: np.ndarray) -> np.ndarray:
        padded = np.zeros((len(shifts), -(-b.shape[1] // _WIDTH) * _WIDTH))
        padded[:n, : b.shape[1]] = b
        with jax.enable_x64(True):
            return np.asarray(_solve(factor, inverses, padded))[:n, : b.shape[1]]

    return solve


def _lower_entries(matrix: sparse.csr_array, most: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Places int32 [2, entries] and entries of the lower triangle, as many of a run's every matrix."""
    lower = sparse.tril(matrix).tocoo()
    count = 1 << max(0, lower.nnz - 1).bit_length()
    if most is not None:
        count = max(lower.nnz, min(count, most))
    places, entries = np.full((2, count), matrix.shape[0] + PANEL, np.int32), np.zeros(count)
    places[:, : lower.nnz], entries[: lower.nnz] = (lower.row, lower.col), lower.data
    return places, entries


@programs.jit
def _factorise(
    places: jax.Array, entries: jax.Array, shifts: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """L [N, N] of M + shift, the inverses [t, p, p] of its diagonal blocks, and whether all is finite.

    Places beyond N are left out.
    """
    size, diagonal = len(shifts), jnp.arange(len(shifts))
    lower = jnp.zeros((size, size)).at[tuple(places)].add(entries, mode="drop")
    lower = lower.at[diagonal, diagonal].add(shifts)
    factor = jax.lax.linalg.cholesky(lower, symmetrize_input=False)
    panel = _panel(size)
    count = size // panel
    blocks = factor.reshape(count, panel, count, panel)[jnp.arange(count), :, jnp.arange(count)]
    unit = jnp.broadcast_to(jnp.eye(panel), blocks.shape)
    return factor, solve_triangular(blocks, unit, lower=True), jnp.isfinite(factor[-1]).all()


@programs.jit
def _solve(factor: jax.Array, inverses: jax.Array, b: jax.Array) -> jax.Array:
    """The solution of L L' x = b [N, p], panel by panel: products that read L once each way.

    A library's triangular solve is made for many right-hand sides, and slow for a few.
    """
    count, panel, _ = inverses.shape

    def forward(i: jax.Array, x: jax.Array) -> jax.Array:
        rows = jax.lax.dynamic_slice_in_dim(factor, i * panel, panel)
        rest = jax.lax.dynamic_slice_in_dim(b, i * panel, panel) - jnp.matmul(rows, x, precision=_EXACT)
        solved = jnp.matmul(inverses[i], rest, precision=_EXACT)
        return jax.lax.dynamic_update_slice_in_dim(x, solved, i * panel, 0)

    def backward(step: jax.Array, x: jax.Array) -> jax.Array:
        i = count - 1 - step
        columns = jax.lax.dynamic_slice_in_dim(factor, i * panel, panel, axis=1)
        rest = jax.lax.dynamic_slice_in_dim(half, i * panel, panel)
        rest = rest - jnp.matmul(columns.T, x, precision=_EXACT)
        solved = jnp.matmul(inverses[i].T, rest, precision=_EXACT)
        return jax.lax.dynamic_update_slice_in_dim(x, solved, i * panel, 0)

    # What is not solved yet is 0, and takes no part in the products.
    half = jax.lax.fori_loop(0, count, forward, jnp.zeros_like(b))
    return jax.lax.fori_loop(0, count, backward, jnp.zeros_like(b))


def _padded(n: int) -> int:
    return -(-n // _panel(n)) * _panel(n)


def _panel(n: int) -> int:
    return min(PANEL, n)
