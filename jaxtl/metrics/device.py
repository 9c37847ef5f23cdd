"""Distances and ranks on JAX's default device: blocks of one shape, compiled once, float64."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.metrics.distances import DIFFERENCES_UP_TO, rank_type
from jaxtl.metrics.estimates import one_hot

# Distances held at a time: 512 MiB of float64, and a few times as much to sort them.
_BLOCK = 2**26
_LARGEST_BLOCK = 4096


def class_distances(values: np.ndarray, members: np.ndarray, n_classes: int) -> np.ndarray:
    """`jaxtl.metrics.distances.class_distances` on the device."""
    n, size = len(values), _size(len(values))
    with jax.enable_x64(True):
        points, labels = _centred(values), jnp.asarray(one_hot(members, n_classes))
        parts = []
        for start in range(0, n, size):
            rows = np.minimum(np.arange(start, start + size), n - 1)
            parts.append(np.asarray(_class_distances(points, labels, rows)))
        return np.concatenate(parts)[:n]


def anchor_ranks(values: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """`jaxtl.metrics.distances.anchor_ranks` on the device."""
    n, m = len(values), len(anchors)
    size = min(_size(n), m)
    ranks = np.empty((m, n), rank_type(n))
    with jax.enable_x64(True):
        points = _centred(values)
        for start in range(0, m, size):
            rows = anchors[np.minimum(np.arange(start, start + size), m - 1)]
            found = np.asarray(_ranks(points, rows, ranks.dtype))
            ranks[start : start + size] = found[: m - start]
    return ranks


def _size(n: int) -> int:
    return min(_LARGEST_BLOCK, max(1, _BLOCK // n), n)


def _centred(values: np.ndarray) -> jax.Array:
    rows = values.astype(np.float64)
    # Differences need no mean taken off, whose rounding would tell equal distances apart.
    return jnp.asarray(rows if rows.shape[1] <= DIFFERENCES_UP_TO else rows - rows.mean(axis=0))


def _squared(points: jax.Array, rows: jax.Array) -> jax.Array:
    asked = points[rows]
    if points.shape[1] <= DIFFERENCES_UP_TO:
        return sum((asked[:, k, None] - points[None, :, k]) ** 2 for k in range(points.shape[1]))
    norms = jnp.einsum("nd,nd->n", points, points, precision=jax.lax.Precision.HIGHEST)
    products = jnp.matmul(asked, points.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(norms[rows][:, None] + norms - 2 * products, 0)


@jax.jit
def _class_distances(points: jax.Array, labels: jax.Array, rows: jax.Array) -> jax.Array:
    apart = jnp.sqrt(_squared(points, rows))
    apart = apart.at[jnp.arange(len(rows)), rows].set(0)
    return jnp.matmul(apart, labels, precision=jax.lax.Precision.HIGHEST)


@partial(jax.jit, static_argnames="dtype")
def _ranks(points: jax.Array, rows: jax.Array, dtype: np.dtype) -> jax.Array:
    apart = _squared(points, rows).at[jnp.arange(len(rows)), rows].set(-1)
    order = jnp.argsort(apart, axis=1, stable=True)
    places = jnp.broadcast_to(jnp.arange(points.shape[0], dtype=dtype), order.shape)
    return jnp.zeros_like(places).at[jnp.arange(len(rows))[:, None], order].set(places)
