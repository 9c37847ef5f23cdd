"""Distances and ranks on JAX's default device, float64: one program for all rows, a loop over blocks."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.machine import programs
from jaxtl.machine.devices import devices_used, leave_device_memory
from jaxtl.machine.engines import row_blocks
from jaxtl.machine.mesh import divided, rounded_up, whole
from jaxtl.metrics.distances import DIFFERENCES_UP_TO, rank_type

# Distances held at a time: 256 MiB of float64, and a few times as much to sort them.
BLOCK = 2**25
LARGEST_BLOCK = 4096
_EXACT = jax.lax.Precision.HIGHEST


def class_distances(values: np.ndarray, members: np.ndarray, n_classes: int) -> np.ndarray:
    """`jaxtl.metrics.distances.class_distances` on the device."""
    n = len(values)
    blocks = row_blocks(np.arange(n), _most(n), devices_used())
    leave_device_memory()
    with jax.enable_x64(True):
        return _rows(_class_distances(values, members.astype(np.int32), blocks, n_classes), n)


def anchor_ranks(values: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """`jaxtl.metrics.distances.anchor_ranks` on the device."""
    leave_device_memory()
    blocks = row_blocks(anchors, _most(len(values)), devices_used())
    with jax.enable_x64(True):
        points = whole(values)
        # Each device has a block at a time.
        together = blocks.reshape(-1, devices_used() * blocks.shape[1])
        ranks = [np.asarray(_places(_from_anchors(points, rows))) for rows in together]
    return np.concatenate(ranks)[: len(anchors)]


def agreement(
    outside: np.ndarray, inside: np.ndarray, k: int, sizes: np.ndarray, gains: np.ndarray
) -> tuple[np.ndarray, ...]:
    """What `jaxtl.metrics.neighborhoods` counts in ranks of the same points in two spaces, [m, n] each.

    Args:
        sizes: int [s], of neighbourhoods.
        gains: float64 [n], of a pair of each larger rank.

    Returns:
        Of each anchor: how far beyond k the space's ranks of the embedding's k nearest lie in all, and the
        embedding's of the space's, int64 [m]; the number of others in both neighbourhoods of each size,
        int64 [m, s]; and the sum of gains, float64 [m].
    """
    m = len(outside)
    blocks = row_blocks(np.arange(m), _most(outside.shape[1]), devices_used())
    with jax.enable_x64(True):
        counts = _agreement(outside, inside, blocks, k, sizes.astype(outside.dtype), gains)
        return tuple(_rows(count, m) for count in counts)


def products(values: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], ...]:
    """What multiplies rows [n, d] by [d, c], and their transpose by [n, c], as float32 does on a CPU."""
    leave_device_memory()
    (n, d), more = values.shape, rounded_up(len(values)) - len(values)
    # Rows of zeros fill up what cannot be divided, and add nothing.
    rows = divided(np.pad(values, ((0, more), (0, 0))) if more else values)

    def transposed(other: np.ndarray) -> np.ndarray:
        sums = np.asarray(_transposed_product(rows, np.pad(other, ((0, more), (0, 0))) if more else other))
        return sums if len(sums) == d else sums.reshape(-1, d, other.shape[1]).sum(axis=0)

    return lambda other: np.asarray(_product(rows, other))[:n], transposed


def _most(n: int) -> int:
    return min(LARGEST_BLOCK, max(1, BLOCK // n))


def _rows(blocks: jax.Array, count: int) -> np.ndarray:
    return np.asarray(blocks).reshape(-1, *blocks.shape[2:])[:count]


def _centred(values: jax.Array) -> jax.Array:
    rows = values.astype(jnp.float64)
    # Differences need no mean taken off, whose rounding would tell equal distances apart.
    return rows if rows.shape[1] <= DIFFERENCES_UP_TO else rows - rows.mean(axis=0)


def _squared(points: jax.Array, rows: jax.Array) -> jax.Array:
    asked = points[rows]
    if points.shape[1] <= DIFFERENCES_UP_TO:
        return sum((asked[:, k, None] - points[None, :, k]) ** 2 for k in range(points.shape[1]))
    norms = jnp.sum(points * points, axis=1)
    products = jnp.matmul(asked, points.T, precision=_EXACT)
    return jnp.maximum(norms[rows][:, None] + norms - 2 * products, 0)


@programs.jit(rows=("blocks",), static_argnames=("n_classes",))
def _class_distances(values: jax.Array, members: jax.Array, blocks: jax.Array, n_classes: int) -> jax.Array:
    points, labels = _centred(values), jax.nn.one_hot(members, n_classes, dtype=jnp.float64)

    def of_block(rows: jax.Array) -> jax.Array:
        apart = jnp.sqrt(_squared(points, rows))
        apart = apart.at[jnp.arange(len(rows)), rows].set(0)
        return jnp.matmul(apart, labels, precision=_EXACT)

    return jax.lax.map(of_block, blocks)


@programs.jit(rows=("rows",))
def _from_anchors(values: jax.Array, rows: jax.Array) -> jax.Array:
    apart = _squared(_centred(values), rows)
    return apart.at[jnp.arange(len(rows)), rows].set(-1)


@programs.jit(rows=("apart",), donate_argnums=0)
def _places(apart: jax.Array) -> jax.Array:
    """Of each entry among those of its row, ascending: one program for spaces of any dimensions."""
    order = jnp.argsort(apart, axis=1, stable=True)
    dtype = rank_type(apart.shape[1])
    places = jnp.broadcast_to(jnp.arange(apart.shape[1], dtype=dtype), order.shape)
    return jnp.zeros_like(places).at[jnp.arange(len(apart))[:, None], order].set(places)


@programs.jit(rows=("blocks",), static_argnames=("k",))
def _agreement(
    outside: jax.Array, inside: jax.Array, blocks: jax.Array, k: int, sizes: jax.Array, gains: jax.Array
) -> tuple[jax.Array, ...]:
    def beyond(there: jax.Array, here: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where((here <= k) & (there > k), there.astype(jnp.int64) - k, 0), axis=1)

    def of_block(rows: jax.Array) -> tuple[jax.Array, ...]:
        there, here = outside[rows], inside[rows]
        worse = jnp.maximum(there, here)
        # The anchor itself, of rank 0 in both, is in every neighbourhood.
        within = jnp.sum(worse[:, :, None] <= sizes, axis=1, dtype=jnp.int64) - 1
        return beyond(there, here), beyond(here, there), within, jnp.sum(gains[worse], axis=1)

    return jax.lax.map(of_block, blocks)


@programs.jit(rows=("rows",))
def _product(rows: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.matmul(rows, other, precision=_EXACT)


@programs.jit(rows=("rows", "other"))
def _transposed_product(rows: jax.Array, other: jax.Array) -> jax.Array:
    """Of each device's rows [d, c], one below the other."""
    return jnp.matmul(rows.T, other, precision=_EXACT)
