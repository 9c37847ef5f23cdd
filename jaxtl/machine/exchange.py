"""What processes that work together tell each other: each calls the same functions in the same order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxtl.errors import JaxtlError
from jaxtl.machine.mesh import first_of_each, place
from jaxtl.records.documents import brief


def exchanged(own: np.ndarray) -> np.ndarray:
    """What every process gives, [processes, ...] by their numbers; all give the same shape and kind."""
    over, own = first_of_each(), np.ascontiguousarray(own)
    # As bytes: JAX would make other numbers of 64 bits.
    told = own.reshape(-1).view(np.uint8)
    mine = jax.make_array_from_process_local_data(place(over, rows=True), told[None])
    return np.asarray(_gather(over)(mine)).view(own.dtype).reshape(-1, *own.shape)


@cache
def _gather(over: Mesh) -> Any:
    return jax.jit(lambda rows: rows, out_shardings=place(over, rows=False))


def check_alike(record: Mapping[str, Any]) -> None:
    """Refuse work that processes began with unlike settings, at which they would wait for each other.

    Args:
        record: by its name, what is to be the same in all; what JSON can hold.

    Raises JaxtlError, in every process, that names the first that differs.
    """
    own = json.dumps(record, sort_keys=True).encode()
    longest = exchanged(np.array([len(own)])).max()
    # JSON ends with any number of spaces.
    texts = exchanged(np.frombuffer(own.ljust(longest), np.uint8))
    first, *others = (json.loads(text.tobytes()) for text in texts)
    for number, other in enumerate(others, 1):
        for name in sorted({*first, *other}):
            if first.get(name) != other.get(name):
                has = f"{brief(other.get(name))}, process 0 {brief(first.get(name))}"
                raise JaxtlError(
                    f"{name}: process {number} has {has}; start all with the same options and files"
                )
