"""Exact nearest neighbours over the devices of many processes: blocks of rows go round, from one to the next.

Each device keeps its share of the rows as queries and lends them to the others as a block. At every turn it
measures its queries against the block that it has, keeps the k nearest so far, and passes the block on; after
as many turns as there are devices it has met all rows, of which it never held more than two blocks.
Candidates and their proof are those of `jaxtl.neighbors.device`, block by block: no row that was left out of
any block can be nearer than the k-th.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.mesh import by_rows, everywhere, passed_on, place, position
from jaxtl.neighbors import host
from jaxtl.records.arrays import Neighbors

# Distances, and doubles of candidates, that a device holds at a time.
_BLOCK, _CHUNK = 2**26, 2**24
# Rows by whose mean all are centred, which only rounding depends on.
_SAMPLE = 4096
# Rows that are read at a time where a query is measured against all of them.
_PIECE = 2**14
_EXACT = jax.lax.Precision.HIGHEST


class _Best(NamedTuple):
    """Of each query: squared distances and indices of the k nearest so far, and the least of any left out."""

    squared: jax.Array
    indices: jax.Array
    least: jax.Array


def search(values: np.ndarray, k: int) -> Neighbors:
    """The k nearest other rows of each row, float32 [n, d], such as a store's, of which no process reads all.

    Called by all processes with the same rows; all have the result.

    Raises JaxtlError for rows that are not finite.
    """
    over, n = everywhere(), len(values)
    count = over.devices.size
    share = -(-n // count)
    size = min(4096, max(16, min(_BLOCK // share, _CHUNK // ((k + host.SPARE) * values.shape[1]))))
    size = min(size, share)
    share = -(-share // size) * size
    with jax.enable_x64(True):
        shape = count * share, values.shape[1]
        read = partial(_read, values, shape[0])
        rows = jax.make_array_from_callback(shape, place(over, rows=True), read)
        middle = values[np.linspace(0, n - 1, min(n, _SAMPLE)).astype(int)].mean(0, dtype=np.float64)
        turn = partial(_go_round, middle=np.float32(middle), n=n, k=k, size=size, count=count)
        nearest = jax.jit(by_rows(turn, over, (True,)))(rows)
        squared, indices, sure = (_gathered(part)[:n] for part in nearest)
    for row in np.flatnonzero(~sure):
        squared[row], indices[row] = _measure_all(values, row, k)
    return Neighbors(indices.astype(np.int32), np.sqrt(squared).astype(np.float32))


def _read(values: np.ndarray, count: int, index: tuple[slice, ...]) -> np.ndarray:
    """Rows of one device, of so many in all; those beyond the last are zeros."""
    start, stop, _ = index[0].indices(count)
    rows = np.zeros((stop - start, values.shape[1]), np.float32)
    there = values[start:stop]
    if not np.isfinite(there).all():
        raise JaxtlError("neighbours: the features hold NaN or infinite values")
    rows[: len(there)] = there
    return rows


def _gathered(part: jax.Array) -> np.ndarray:
    from jax.experimental.multihost_utils import process_allgather

    return np.array(process_allgather(part, tiled=True))


def _go_round(
    rows: jax.Array, middle: np.ndarray, n: int, k: int, size: int, count: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of a device's rows: squared distances, indices, and whether they are proven."""
    me, share = position(), len(rows)
    queries = jax.tree.map(
        lambda a: a.reshape(-1, size, *a.shape[1:]), (rows, me * share + jnp.arange(share))
    )
    best = _Best(jnp.full((share, k), jnp.inf), jnp.full((share, k), n, jnp.int64), jnp.full(share, jnp.inf))
    best = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), best)

    def turn(state: Any, number: jax.Array) -> tuple[Any, None]:
        block, best = state
        numbers = (me + number) % count * share + jnp.arange(share)
        nearer = partial(_nearer, block=block, numbers=numbers, middle=middle, n=n)
        best = jax.lax.map(lambda some: nearer(*some), (*queries, best))
        # From the next one: after so many turns each has the block of who is so many places on.
        return (passed_on(block, count), best), None

    (_, best), _ = jax.lax.scan(turn, (rows, best), jnp.arange(count))
    squared, indices, least = jax.tree.map(lambda a: a.reshape(share, *a.shape[2:]), best)
    # Written so that what is not a number is unsure.
    return squared, indices, squared[:, -1] < least


def _nearer(
    asked: jax.Array,
    own: jax.Array,
    best: _Best,
    block: jax.Array,
    numbers: jax.Array,
    middle: np.ndarray,
    n: int,
) -> _Best:
    """The nearest of some queries, once a block of rows, of these numbers, has been looked at, too."""
    k = best.squared.shape[1]
    count = min(k + host.SPARE, len(block))
    points, about = block - middle, asked - middle
    norms, own_norms = (jnp.sum(rows * rows, axis=1) for rows in (points, about))
    far = norms - 2 * jnp.matmul(about, points.T, precision=_EXACT)
    far = jnp.where((numbers >= n) | (numbers == own[:, None]), jnp.inf, far)
    closeness, places = jax.lax.top_k(-far, count)
    apart = block[places].astype(jnp.float64) - asked[:, None].astype(jnp.float64)
    squared = jnp.where(jnp.isinf(closeness), jnp.inf, jnp.sum(apart * apart, axis=2))
    squared, indices = (
        jnp.concatenate(pair, 1) for pair in zip((squared, numbers[places]), best, strict=False)
    )
    squared, indices = jax.lax.sort((squared, indices), num_keys=2)
    margin = host.rounding(block.shape[1]) * (own_norms + norms.max() + host.UNDERFLOW)
    least = own_norms - closeness[:, -1] - margin if count < len(block) else jnp.full(len(asked), jnp.inf)
    return _Best(squared[:, :k], indices[:, :k], jnp.minimum(best.least, least))


def _measure_all(values: np.ndarray, row: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances and indices of the k nearest others of one row, each measured from differences."""
    near, numbers = np.empty(0), np.empty(0, np.int64)
    for start in range(0, len(values), _PIECE):
        apart = values[start : start + _PIECE].astype(np.float64) - values[row]
        near = np.append(near, np.einsum("nd,nd->n", apart, apart))
        numbers = np.append(numbers, np.arange(start, start + len(apart)))
        near[numbers == row] = np.inf
        order = np.lexsort((numbers, near))[:k]
        near, numbers = near[order], numbers[order]
    return near, numbers
