"""What many processes divide of a training: the frozen layers' work, every batch, and the tests.

Each process has all rows to train on, in host memory or in a file, since a batch may have any of them; from
there each takes what its own devices are to have of every batch.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxtl.machine.exchange import exchanged
from jaxtl.machine.mesh import everywhere, place
from jaxtl.network.batches import Place, place_in
from jaxtl.network.trunk import Source, Trunk
from jaxtl.progress import Notify
from jaxtl.records.rows import put_rows, some_rows

# Bytes that processes tell each other at a time.
_PIECE = 2**26


class Batches(NamedTuple):
    """Batches of which every device has its share: arrays [devices, steps, rows, ...] of what is learnt from.

    Attributes:
        counted: float32 [devices, rows], 1 for rows of a batch and 0 for those that only fill it up, the same
            in every step; None where all are.
    """

    rows: Any
    labels: jax.Array
    counted: jax.Array | None = None

    @property
    def steps(self) -> int:
        return self.labels.shape[1]

    def batch(self, step: jax.Array) -> tuple[Any, jax.Array, jax.Array | None]:
        """In a function that is traced: rows, labels and `counted` of one batch, [devices * rows, ...]."""

        def of_step(shares: jax.Array) -> jax.Array:
            return _joined(jax.lax.dynamic_index_in_dim(shares, step, 1, keepdims=False))

        rows, labels = jax.tree.map(of_step, (self.rows, self.labels))
        return rows, labels, None if self.counted is None else _joined(self.counted)


def _joined(shares: jax.Array) -> jax.Array:
    return shares.reshape(-1, *shares.shape[2:])


class Common(NamedTuple):
    """Rows to train on that every process has."""

    rows: Source

    def batches(self, labels: np.ndarray, order: np.ndarray) -> Batches:
        """Batches of rows `order` [steps, size], of which only those for this process's devices are read."""
        over, (steps, size) = everywhere(), order.shape
        count = over.devices.size
        share = -(-size // count)
        filled = np.pad(order, ((0, 0), (0, share * count - size)), mode="edge")
        here = [device.process_index == jax.process_index() for device in over.devices.flat]
        mine = filled.reshape(steps, count, share).swapaxes(0, 1)[here]
        counted = (np.arange(share * count) < size).astype(np.float32).reshape(count, share)[here]

        def put(own: np.ndarray) -> jax.Array:
            return jax.make_array_from_process_local_data(place(over, rows=True), own)

        def taken(rows: Any) -> jax.Array:
            return put(np.asarray(rows[mine.ravel()]).reshape(*mine.shape, *rows.shape[1:]))

        is_filled = share * count > size
        return Batches(jax.tree.map(taken, self.rows), taken(labels), put(counted) if is_filled else None)


class Own(NamedTuple):
    """Of rows to test on those of this process, which are `numbers_of_own`."""

    rows: Source


def numbers_of_own(n: int) -> np.ndarray:
    """Numbers of the rows, of n, that this process computes; as many in each, some of the last ones twice."""
    share = -(-n // jax.process_count())
    first = jax.process_index() * share
    return np.minimum(np.arange(first, first + share), n - 1)


def of_all(own: np.ndarray, n: int) -> np.ndarray:
    """Values [n] of all rows, of which each process has those of its own."""
    return exchanged(own).reshape(-1, *own.shape[1:])[:n]


def divided_sources(trunk: Trunk, train: Any, test: Any, notify: Notify | None = None) -> tuple[Common, Own]:
    """What layers behind a trunk learn from and are tested on, from images: `Trunk.source` by many processes.

    Each passes its share of the images through the frozen layers, and reads no others for that.
    """
    keep = bool(exchanged(np.array([trunk.keeps(len(train), len(test))])).all())

    def own(images: Any) -> Source:
        return trunk.source(some_rows(images, numbers_of_own(len(images))), keep, notify=notify)

    if not keep:
        return Common(trunk.source(train, False)), Own(own(test))
    gather = partial(_gathered, n=len(train), put=place_in(trunk.scratch))
    return Common(jax.tree.map(gather, own(train))), Own(own(test))


def _gathered(own: Any, n: int, put: Place) -> Any:
    """Rows [n, ...] of all processes, in host memory or a file, from what each has; piece by piece."""
    own = np.asarray(own) if isinstance(own, jax.Array) else own
    rows, share = put((n, *own.shape[1:])), len(own)
    step = max(1, _PIECE * share // (own.nbytes * jax.process_count()))
    for start in range(0, share, step):
        for process, some in enumerate(exchanged(own[start : start + step])):
            at = process * share + start
            if at < n:
                put_rows(rows, at, some[: n - at])
    return rows
