"""Nearest neighbours on JAX's device, by the same product and the same proof as on a CPU."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.neighbors import host
from jaxtl.records import Neighbors
from jaxtl.runtime import leave_device_memory

# Distances held at a time: 1 GiB of float32, and as much again for their order.
_BLOCK = 2**28
_LARGEST_BLOCK = 4096


def search(values: np.ndarray, k: int) -> Neighbors:
    """k nearest rows of each row but itself."""
    leave_device_memory()
    n, d = values.shape
    count = min(k + host.SPARE, n - 1)
    size = min(_LARGEST_BLOCK, max(16, _BLOCK // n), n)
    with jax.enable_x64(True):
        rows_of, points = jnp.asarray(values), jnp.asarray(host.centred(values, values)[0])
        norms = jnp.einsum("nd,nd->n", points, points, precision=jax.lax.Precision.HIGHEST)
        margin = host.rounding(d) * (norms + norms.max() + host.UNDERFLOW)
        parts = []
        for start in range(0, n, size):
            rows = np.minimum(np.arange(start, start + size), n - 1)  # one shape, compiled once
            parts.append(_block(rows_of, points, norms, margin, rows, count, k))
        near, squared, sure = (np.concatenate([np.asarray(p[i]) for p in parts])[:n] for i in range(3))
    distances = np.sqrt(squared)
    unsure = np.flatnonzero(~sure)
    if len(unsure) and count < n - 1:
        near[unsure], distances[unsure] = host.library(values, values, k, own=True)(unsure)
    with np.errstate(over="ignore"):  # infinite distances are refused by who called
        return Neighbors(near.astype(np.int32), distances.astype(np.float32))


@partial(jax.jit, static_argnames=("count", "k"))
def _block(
    values: jax.Array,
    points: jax.Array,
    norms: jax.Array,
    margin: jax.Array,
    rows: jax.Array,
    count: int,
    k: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    far = norms - 2 * jnp.matmul(points[rows], points.T, precision=jax.lax.Precision.HIGHEST)
    far = far.at[jnp.arange(len(rows)), rows].set(jnp.inf)
    closeness, near = jax.lax.top_k(-far, count)
    apart = values[near].astype(jnp.float64) - values[rows][:, None].astype(jnp.float64)
    squared = jnp.einsum("rkd,rkd->rk", apart, apart, precision=jax.lax.Precision.HIGHEST)
    squared, near = (a[:, :k] for a in jax.lax.sort((squared, near), num_keys=2))
    return near, squared, squared[:, -1] < norms[rows] - closeness[:, -1] - margin[rows]
