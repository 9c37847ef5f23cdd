"""Nearest neighbours on JAX's device, by the same product and the same proof as on a CPU.

One program for all rows: a loop over blocks of them. In few dimensions distances are measured from
differences in float64, and nothing is left to prove.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.cores import share
from jaxtl.engines import row_blocks
from jaxtl.neighbors import host
from jaxtl.records import Neighbors
from jaxtl.runtime import leave_device_memory

# Distances held at a time: 256 MiB of float32, and as much again for their order.
_BLOCK = 2**26
_LARGEST_BLOCK = 4096
# Up to here differences cost no more than a product.
_DIFFERENCES_UP_TO = 3
# Rows that are searched again at a time by one of the CPU's threads.
_AGAIN = 64
_EXACT = jax.lax.Precision.HIGHEST


def search(values: np.ndarray, queries: np.ndarray | None, k: int) -> Neighbors:
    """k nearest rows of each query; without queries, of each row but itself."""
    leave_device_memory()
    own = queries is None
    queries = values if own else queries
    blocks = row_blocks(np.arange(len(queries)), min(_LARGEST_BLOCK, max(16, _BLOCK // len(values))))
    with jax.enable_x64(True):
        if values.shape[1] <= _DIFFERENCES_UP_TO:
            found = _by_differences(values, queries, blocks, k, own)
        else:
            found = _by_products(values, queries, blocks, k, own)
        near, distances, sure = (
            np.array(each.reshape(-1, *each.shape[2:])[: len(queries)]) for each in found
        )
    unsure = np.flatnonzero(~sure)
    if len(unsure):
        _search_again(values, queries, near, distances, unsure, own)
    with np.errstate(over="ignore"):  # infinite distances are refused by who called
        return Neighbors(near.astype(np.int32), distances.astype(np.float32))


def _rows(blocks: jax.Array, count: int) -> np.ndarray:
    return np.array(blocks).reshape(-1, *blocks.shape[2:])[:count]


def _search_again(
    values: np.ndarray,
    queries: np.ndarray,
    near: np.ndarray,
    distances: np.ndarray,
    rows: np.ndarray,
    own: bool,
) -> None:
    again = host.library(values, queries, near.shape[1], own)

    def fill(some: np.ndarray) -> None:
        near[some], distances[some] = again(some)

    share(fill, np.array_split(rows, -(-len(rows) // _AGAIN)))


def _by_differences(
    values: np.ndarray, queries: np.ndarray, blocks: np.ndarray, k: int, own: bool
) -> tuple[jax.Array, ...]:
    points = jnp.asarray(values)
    return _nearest(points, points if own else jnp.asarray(queries), blocks, k, own)


def _by_products(
    values: np.ndarray, queries: np.ndarray, blocks: np.ndarray, k: int, own: bool
) -> tuple[jax.Array, ...]:
    centred = host.centred(values, queries)
    points, about = jnp.asarray(values), jnp.asarray(centred[0])
    asked, asked_about = (points, about) if own else (jnp.asarray(queries), jnp.asarray(centred[1]))
    count = min(k + host.SPARE, len(values) - own)
    return _nearest_proven(points, about, asked, asked_about, blocks, k, count, own)


@partial(jax.jit, static_argnames=("k", "own"))
def _nearest(
    values: jax.Array, queries: jax.Array, blocks: jax.Array, k: int, own: bool
) -> tuple[jax.Array, ...]:
    points, asked = values.astype(jnp.float64).T, queries.astype(jnp.float64)

    def of_block(rows: jax.Array) -> tuple[jax.Array, ...]:
        far = sum((asked[rows, i, None] - points[i]) ** 2 for i in range(len(points)))
        # Of equal ones `top_k` takes those of lower index.
        closeness, near = jax.lax.top_k(-_apart_from_own(far, rows, own), k)
        return near, jnp.sqrt(-closeness), jnp.ones(len(rows), bool)

    return jax.lax.map(of_block, blocks)


@partial(jax.jit, static_argnames=("k", "count", "own"))
def _nearest_proven(
    values: jax.Array,
    points: jax.Array,
    queries: jax.Array,
    asked: jax.Array,
    blocks: jax.Array,
    k: int,
    count: int,
    own: bool,
) -> tuple[jax.Array, ...]:
    norms, own_norms = (jnp.sum(rows * rows, axis=1) for rows in (points, asked))
    margin = host.rounding(points.shape[1]) * (own_norms + norms.max() + host.UNDERFLOW)
    every = count == len(values) - own

    def of_block(rows: jax.Array) -> tuple[jax.Array, ...]:
        far = norms - 2 * jnp.matmul(asked[rows], points.T, precision=_EXACT)
        closeness, near = jax.lax.top_k(-_apart_from_own(far, rows, own), count)
        apart = values[near].astype(jnp.float64) - queries[rows][:, None].astype(jnp.float64)
        squared, near = jax.lax.sort((jnp.sum(apart * apart, axis=2), near), num_keys=2)
        squared, near = squared[:, :k], near[:, :k]
        # Written so that what is not a number is unsure too.
        sure = squared[:, -1] < own_norms[rows] - closeness[:, -1] - margin[rows]
        return near, jnp.sqrt(squared), sure | every

    return jax.lax.map(of_block, blocks)


def _apart_from_own(far: jax.Array, rows: jax.Array, own: bool) -> jax.Array:
    return far.at[jnp.arange(len(rows)), rows].set(jnp.inf) if own else far
