"""What a file is, for the message to who gave it where something else belongs."""

from __future__ import annotations

import contextlib
from pathlib import Path

from jaxtl.errors import JaxtlError
from jaxtl.records.members import members

# By an array that a file .npz of the kind has.
_BY_ARRAY = {"coords": "an embedding", "values": "features", "features": "features", "images": "images"}
_BY_SUFFIX = {
    ".safetensors": "weights of a network",
    ".npy": "an array, such as features",
    ".html": "a page",
    ".csv": "a table",
    ".parquet": "a table",
}


def kind_of(path: Path) -> str:
    """Such as "an embedding"; by its name where it is no archive of arrays, and nothing in it is loaded."""
    if path.suffix == ".npz":
        with contextlib.suppress(JaxtlError, OSError):
            arrays = members(path)
            known = (kind for array, kind in _BY_ARRAY.items() if array in arrays)
            return next(known, "an archive of arrays")
    return _BY_SUFFIX.get(path.suffix, "a file of another kind")
