"""Arrays of an .npz, each known by its header and read when it is asked for, in pieces where it is large."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxtl.records.files import readable_npz

# Bytes that are read at a time.
PIECE = 2**26


@dataclass(frozen=True)
class Member:
    """An array of an .npz that is still in its file.

    Attributes:
        path: of the file.
        name: of the array.
        shape, dtype: as its header says.
        in_rows: whether its first axis is the outermost, so that rows can be read one after another.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_rows: bool

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """All of it. Raises JaxtlError where the file is damaged, or holds Python objects."""
        with readable_npz(self.path), self._opened() as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """Its rows, some at a time: the number of the first, and an array [some, ...]; errors as `read`."""
        if not self.in_rows:
            yield 0, self.read()
            return
        row = self.nbytes // max(1, self.shape[0])
        step = max(1, PIECE // max(1, row))
        with readable_npz(self.path), self._opened() as stream:
            _header(stream)
            for start in range(0, self.shape[0], step):
                count = min(step, self.shape[0] - start)
                yield start, _rows(stream, count, self)

    def _opened(self) -> IO[bytes]:
        # The archive is closed with its last member.
        with zipfile.ZipFile(self.path) as archive:
            return archive.open(f"{self.name}.npy")


def members(path: Path) -> dict[str, Member]:
    """The arrays of an .npz by name.

    Raises JaxtlError where the file is absent, damaged, or no .npz.
    """
    known = {}
    with readable_npz(path), zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            if not entry.endswith(".npy"):
                continue
            with archive.open(entry) as stream:
                shape, is_fortran, dtype = _header(stream)
            name = entry.removesuffix(".npy")
            known[name] = Member(path, name, shape, dtype, not is_fortran and len(shape) > 0)
    return known


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def _rows(stream: IO[bytes], count: int, member: Member) -> np.ndarray:
    if member.dtype.hasobject:
        raise ValueError(f"array {member.name} contains pickled data")
    rows = np.empty((count, *member.shape[1:]), member.dtype)
    left = memoryview(rows).cast("B") if rows.size else memoryview(b"")
    while left:
        done = stream.readinto(left)  # type: ignore[attr-defined]
        if not done:
            raise EOFError(f"array {member.name} is cut off")
        left = left[done:]
    return rows
