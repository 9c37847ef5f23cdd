"""Nearest neighbours on JAX's device, by the same product and the same proof as on a CPU.

One program for all rows: a loop over blocks of them. In few dimensions candidates are found by differences in
float64, rounded to float32, which a GPU sorts by a ready kernel; float64 would have one compiled.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.machine import programs
from jaxtl.machine.cores import share
from jaxtl.machine.devices import devices_used, leave_device_memory
from jaxtl.machine.engines import row_blocks
from jaxtl.neighbors import host
from jaxtl.records.arrays import Neighbors

# Distances held at a time: 256 MiB of float32, and as much again for their order.
_BLOCK = 2**26
LARGEST_BLOCK = 4096
# Up to here differences cost no more than a product.
_DIFFERENCES_UP_TO = 3
# Rows that are searched again at a time by one of the CPU's threads.
_AGAIN = 64
_EXACT = jax.lax.Precision.HIGHEST
# Of a number rounded to float32, relative.
_ROUNDING = float(np.finfo(np.float32).eps)

# What distances rows are chosen by, and the least squared distance of a row that was left out, of rows whose
# last chosen one has the given distance.
_Measure = tuple[Callable[[jax.Array], jax.Array], Callable[[jax.Array, jax.Array], jax.Array]]


def search(values: np.ndarray, queries: np.ndarray | None, k: int) -> Neighbors:
    """k nearest rows of each query; without queries, of each row but itself."""
    leave_device_memory()
    own = queries is None
    queries = values if own else queries
    most = min(LARGEST_BLOCK, max(16, _BLOCK // len(values)))
    blocks = row_blocks(np.arange(len(queries)), most, devices_used())
    with jax.enable_x64(True):
        nearest = _search(values, queries, blocks, k, own)
        indices, distances, sure = (
            np.array(blocked.reshape(-1, *blocked.shape[2:])[: len(queries)]) for blocked in nearest
        )
    unsure = np.flatnonzero(~sure)
    if len(unsure):
        _search_again(values, queries, indices, distances, unsure, own)
    with np.errstate(over="ignore"):  # infinite distances are refused by who called
        return Neighbors(indices.astype(np.int32), distances.astype(np.float32))


def _search_again(
    values: np.ndarray,
    queries: np.ndarray,
    indices: np.ndarray,
    distances: np.ndarray,
    rows: np.ndarray,
    own: bool,
) -> None:
    again = host.library(values, queries, indices.shape[1], own)

    def fill(some: np.ndarray) -> None:
        indices[some], distances[some] = again(some)

    share(fill, np.array_split(rows, -(-len(rows) // _AGAIN)))


def _search(
    values: np.ndarray, queries: np.ndarray, blocks: np.ndarray, k: int, own: bool
) -> tuple[jax.Array, ...]:
    """Indices, distances and whether they are proven, of each block of queries."""
    count = min(k + host.SPARE, len(values) - own)
    few = values.shape[1] <= _DIFFERENCES_UP_TO
    about = (values, queries) if few else host.centred(values, queries)
    # An array that is given twice is sent once.
    sent = {id(array): jnp.asarray(array) for array in (values, queries, *about)}
    given = [sent[id(array)] for array in (values, queries, *about)]
    return _nearest(*given, blocks, k, count, own)


@programs.jit(rows=("blocks",), static_argnames=("k", "count", "own"))
def _nearest(
    values: jax.Array,
    queries: jax.Array,
    points: jax.Array,
    asked: jax.Array,
    blocks: jax.Array,
    k: int,
    count: int,
    own: bool,
) -> tuple[jax.Array, ...]:
    measure = _by_differences if values.shape[1] <= _DIFFERENCES_UP_TO else _by_products
    distances, least = measure(points, asked)
    every = count == len(values) - own

    def of_block(rows: jax.Array) -> tuple[jax.Array, ...]:
        far = distances(rows)
        if own:
            far = far.at[jnp.arange(len(rows)), rows].set(jnp.inf)
        closeness, indices = jax.lax.top_k(-far, count)
        apart = values[indices].astype(jnp.float64) - queries[rows][:, None].astype(jnp.float64)
        squared, indices = jax.lax.sort((jnp.sum(apart * apart, axis=2), indices), num_keys=2)
        squared, indices = squared[:, :k], indices[:, :k]
        # Written so that what is not a number is unsure too.
        return indices, jnp.sqrt(squared), (squared[:, -1] < least(rows, -closeness[:, -1])) | every

    return jax.lax.map(of_block, blocks)


def _by_differences(points: jax.Array, asked: jax.Array) -> _Measure:
    """Squared distances, rounded to float32, by which rows are chosen."""
    points, asked = points.astype(jnp.float64).T, asked.astype(jnp.float64)

    def distances(rows: jax.Array) -> jax.Array:
        return sum((asked[rows, i, None] - points[i]) ** 2 for i in range(len(points))).astype(jnp.float32)

    def least(rows: jax.Array, limit: jax.Array) -> jax.Array:
        return jnp.where(jnp.isfinite(limit), limit.astype(jnp.float64) * (1 - _ROUNDING), 0)

    return distances, least


def _by_products(points: jax.Array, asked: jax.Array) -> _Measure:
    """Squared distances less the query's own norm, in float32."""
    norms, own_norms = (jnp.sum(rows * rows, axis=1) for rows in (points, asked))
    margin = host.rounding(points.shape[1]) * (own_norms + norms.max() + host.UNDERFLOW)

    def distances(rows: jax.Array) -> jax.Array:
        return norms - 2 * jnp.matmul(asked[rows], points.T, precision=_EXACT)

    def least(rows: jax.Array, limit: jax.Array) -> jax.Array:
        return own_norms[rows] + limit - margin[rows]

    return distances, least
