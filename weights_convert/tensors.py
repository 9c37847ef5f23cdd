"""A tensor of PyTorch's or of a safetensors file: known by shape and type before its values are read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from jaxtl.errors import JaxtlError
from weights_convert.sources import MAX_BYTES

# How each type of values lies in a file, little-endian; NumPy has no bfloat16.
BFLOAT16 = "bfloat16"
DTYPES = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    BFLOAT16: "<u2",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "<i1",
    "uint8": "<u1",
    "bool": "?",
}


@dataclass(frozen=True)
class Tensor:
    """Values that lie in `data` as `dtype`, a key of `DTYPES`, from the element `offset` on.

    `stride` counts elements.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    data: memoryview
    big_endian: bool = False

    @property
    def is_float(self) -> bool:
        return self.dtype in ("float64", "float32", "float16", BFLOAT16)

    def fault(self) -> str | None:
        """Why its values cannot be read: they lie outside of what the file holds, or are too many."""
        itemsize = np.dtype(DTYPES[self.dtype]).itemsize
        if len(self.shape) != len(self.stride) or min((0, self.offset, *self.shape, *self.stride)) < 0:
            return "has a broken shape"
        if math.prod(self.shape) * itemsize > MAX_BYTES:
            return f"declares more than {MAX_BYTES:,} bytes"
        last = self.offset + sum(
            (size - 1) * step for size, step in zip(self.shape, self.stride, strict=True)
        )
        if math.prod(self.shape) and (last + 1) * itemsize > len(self.data):
            return f"declares values up to byte {(last + 1) * itemsize:,} of {len(self.data):,}"
        return None

    def read(self) -> np.ndarray:
        """As float32, wider ones rounded. Raises JaxtlError for what `fault` tells of."""
        if fault := self.fault():
            raise JaxtlError(fault)
        kind = np.dtype(DTYPES[self.dtype])
        kind = kind.newbyteorder(">") if self.big_endian else kind
        count = len(self.data) // kind.itemsize
        flat = np.frombuffer(self.data, kind, count)[self.offset :]
        strides = tuple(step * kind.itemsize for step in self.stride)
        values = np.lib.stride_tricks.as_strided(flat, self.shape, strides, writeable=False)
        if self.dtype == BFLOAT16:
            return (values.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):  # what becomes infinite is refused by name
            return values.astype(np.float32)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of values in C order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
