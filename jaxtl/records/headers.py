"""What stands before the numbers of a .npy array, read with distrust, and the array behind it.

NumPy's own reader takes any header that Python can parse: one of a few bytes may ask for all memory, ends the
process where its elements have no size, and unpacks objects. Here a header is text of one form, and what it
declares is what is there, to the byte. (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from jaxtl.records.places import kind_at

_MAGIC = b"\x93NUMPY"
# Bytes of the header's own length, by version.
_LENGTHS = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
# As in NumPy, where a longer one needs a word of trust.
_LONGEST = 10_000
_KIND = re.compile(
    rb"""['"]descr['"]\s*:\s*['"]([<>|=]?(?:[?bB]|[biufcSUOVMm]\d{1,9})(?:\[\w+\])?|\|?O)['"]"""
)
_FORTRAN = re.compile(rb"""['"]fortran_order['"]\s*:\s*(True|False)\b""")
# Python 2 wrote whole numbers as 10L.
_SHAPE = re.compile(rb"""['"]shape['"]\s*:\s*\(((?:\d{1,18}L?\s*,\s*)*(?:\d{1,18}L?)?)\s*\)""")
_AXES = 32
# Of more elements than these NumPy cannot count the bytes.
_ELEMENTS = 2**59
# Bytes that are read at a time.
_PIECE = 2**20
# Arrays of fewer bytes fit into any memory.
_SMALL = 2**26
_MEMORY_SHARE = 0.9
_LAST_LETTER, _SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)


@dataclass(frozen=True)
class Header:
    """What an array's header says.

    Attributes:
        shape, dtype: of the array.
        is_fortran: whether its first axis is the innermost.
        length: bytes before the first element.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    length: int

    @property
    def nbytes(self) -> int:
        """Of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    def check(self, size: int, in_memory: bool = True) -> None:
        """Raises ValueError unless `size` bytes, headed by this, are what it declares and fit memory."""
        if self.dtype.hasobject:
            raise ValueError("it holds Python objects, which are not read")
        if size - self.length != self.nbytes:
            raise ValueError(
                f"its header asks for {self.dtype} {list(self.shape)}, {self.nbytes:,} bytes, and "
                f"{size - self.length:,} are there"
            )
        if in_memory and self.nbytes > _SMALL:
            check_memory(self.nbytes)


def check_memory(nbytes: int) -> None:
    """Raises ValueError where so many bytes are more than memory has left."""
    from jaxtl.machine.memory import available_memory

    if nbytes > _MEMORY_SHARE * (free := available_memory()):
        raise ValueError(f"it takes {nbytes / 2**20:,.0f} MiB of memory, and {free / 2**20:,.0f} are free")


def read_header(stream: BinaryIO | Any) -> Header:
    """The header at a stream's place, which then stands at the first element. Raises ValueError."""
    start = stream.read(8)
    if start[:6] != _MAGIC:
        raise ValueError("its contents are no arrays")
    if start[6:] not in _LENGTHS:
        raise ValueError("it is of a version of NumPy's format that nobody knows")
    digits = stream.read(_LENGTHS[start[6:]])
    length = int.from_bytes(digits, "little")
    text = stream.read(length) if length <= _LONGEST else b""
    if not length or len(text) < length:
        raise ValueError("its header is cut off or damaged")
    shape, dtype, is_fortran = _parsed(text)
    return Header(shape, dtype, is_fortran, len(start) + len(digits) + length)


def _parsed(text: bytes) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    kind, fortran, sides = (pattern.search(text) for pattern in (_KIND, _FORTRAN, _SHAPE))
    if b"[(" in text or (not kind and b"descr" in text and fortran and sides):
        raise ValueError("its elements are of a kind that is not read, such as records")
    if not (kind and fortran and sides):
        _damaged()
    shape = tuple(int(side) for side in re.findall(rb"\d+", sides[1]))
    try:
        dtype = np.dtype(kind[1].decode("ascii"))
    except (TypeError, ValueError):
        _damaged()
    # No product of sides may be beyond what NumPy counts with, even where one is 0.
    elements = math.prod(max(1, side) for side in shape)
    if len(shape) > _AXES or not dtype.itemsize or elements * dtype.itemsize > _ELEMENTS:
        raise ValueError(f"its header asks for {dtype} {list(shape[:4])}, which no array has")
    return shape, dtype, fortran[1] == b"True"


def _damaged() -> NoReturn:
    raise ValueError("its header is damaged")


def read_elements(stream: BinaryIO | Any, header: Header) -> np.ndarray:
    """The array behind a checked header. Raises EOFError where it is cut off, ValueError for no text."""
    array = np.empty(header.shape[::-1] if header.is_fortran else header.shape, header.dtype)
    fill(stream, array)
    array = array.T if header.is_fortran else array
    if header.dtype.kind == "U":
        _check_letters(array)
    return array


def fill(stream: BinaryIO | Any, array: np.ndarray) -> None:
    """Read an array's elements into it, little by little. Raises EOFError where there are fewer."""
    if not array.nbytes:
        return
    left = memoryview(array.reshape(-1).view(np.uint8))
    while left:
        done = stream.readinto(left[:_PIECE])
        if not done:
            raise EOFError("it is cut off")
        left = left[done:]


def read_npy(path: Path) -> np.ndarray:
    """The array of a file .npy. Raises ValueError, EOFError or OSError where it is not a whole one."""
    if kind := kind_at(path):
        raise ValueError(f"it is {kind}")
    with path.open("rb") as stream:
        header = read_header(stream)
        header.check(path.stat().st_size)
        return read_elements(stream, header)


def _check_letters(array: np.ndarray) -> None:
    """What is beyond Unicode ends in an error wherever the text is looked at."""
    order = array.dtype.byteorder
    codes = np.ascontiguousarray(array).reshape(-1).view(f"{'>' if order == '>' else '<'}u4")
    if codes.size and codes.max() > _LAST_LETTER:
        raise ValueError("it holds what is no text")
