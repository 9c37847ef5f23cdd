"""Tensors of a safetensors file."""

from __future__ import annotations

import json

from safetensors import SafetensorError, deserialize

from jaxtl.errors import JaxtlError
from weights_convert.tensors import Tensor, contiguous

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_safetensors(data: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and the file's metadata. Raises JaxtlError for a file that is not whole."""
    try:
        # It gives them in the order of a randomly seeded hash map.
        entries = sorted(deserialize(data), key=lambda entry: entry[0])
    except SafetensorError as error:
        raise JaxtlError(f"{where}: a broken safetensors file ({error}); download or save it again") from None
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise JaxtlError(
                f"{where}: {name} is {entry['dtype']}, a type of values that is not read; save the weights "
                "as float32"
            )
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    tensors = {
        name: Tensor(
            _DTYPES[entry["dtype"]],
            tuple(entry["shape"]),
            contiguous(tuple(entry["shape"])),
            0,
            memoryview(entry["data"]),
        )
        for name, entry in entries
    }
    return tensors, header.get("__metadata__") or {}
