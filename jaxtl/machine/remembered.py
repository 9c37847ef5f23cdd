"""What was last made of arrays that cannot change: for the same arrays it need not be made again."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import jax

T = TypeVar("T")


class Remembered(Generic[T]):
    """The last few values of a function of JAX's arrays; any number of threads may ask.

    Arrays are told by which they are, not by what they hold, so that asking costs next to nothing. It holds
    on to the values, not to the arrays that they are made of.

    Args:
        count: how many values.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._entries: deque[tuple[Hashable, list[weakref.ref], T]] = deque(maxlen=count)

    def of(self, key: Hashable, arrays: Sequence[Any], make: Callable[[], T]) -> T:
        """What `make` gave for an equal key and the very same arrays, or else what it gives now.

        NumPy's arrays, which may change, and those that are being traced are never remembered.
        """
        if not all(map(_stays, arrays)):
            return make()
        with self._lock:
            for entry in self._entries:
                if entry[0] == key and _are(entry[1], arrays):
                    return entry[2]
        value = make()
        with self._lock:
            self._entries.append((key, [weakref.ref(array) for array in arrays], value))
        return value


def _stays(array: Any) -> bool:
    return isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer)


def _are(references: list[weakref.ref], arrays: Sequence[Any]) -> bool:
    # Of an array that is gone, the reference gives None: another one in its place is not taken for it.
    return len(references) == len(arrays) and all(
        reference() is array for reference, array in zip(references, arrays, strict=True)
    )
