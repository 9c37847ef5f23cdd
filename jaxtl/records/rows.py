"""Rows of arrays, more than memory should hold: in a file without a name, read as they are asked for."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Rows of one array that together take more bytes than this lie on disk: those of the founding experiment stay
# in memory, and two splits of any size take less than 2 GiB.
IN_MEMORY = 2**30
# Of what a disk has left, what such rows may take.
_DISK_SHARE = 0.9


class _File:
    """A file, open as long as somebody holds this."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def without_name(cls, folder: Path | None) -> _File:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            return cls(os.dup(file.fileno()))

    def __del__(self) -> None:
        os.close(self.descriptor)


@dataclass(frozen=True, eq=False)
class StoredRows:
    """An array [n, ...] on disk, whose rows are read where it is indexed by a slice or an array of integers.

    The file of `empty` has no name: nothing is left of it when the process ends, however that happens. It is
    read, not memory-mapped: pages of a map would count as this process's memory.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    file: _File

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: Any, folder: Path | None = None) -> StoredRows:
        """For n rows that are still to be written. Raises OSError where the folder takes no files.

        `folder`: where the file lies; None takes the system's folder for temporary files.
        """
        return cls(tuple(shape), np.dtype(dtype), _File.without_name(folder))

    @classmethod
    def of_file(cls, path: Path, shape: tuple[int, ...], dtype: Any) -> StoredRows:
        """The rows of a file that others have, too; to be written where it has none yet. Raises OSError."""
        return cls(tuple(shape), np.dtype(dtype), _File(os.open(path, os.O_RDWR)))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return len(self) * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def first(self, n: int) -> StoredRows:
        """The first n rows, of the same file."""
        return StoredRows((min(n, len(self)), *self.shape[1:]), self.dtype, self.file)

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write rows from row `start` on. Raises OSError where the disk is full."""
        # Written by a call, and not to mapped memory, where a full disk ends the process.
        left = memoryview(np.ascontiguousarray(rows, self.dtype)).cast("B")
        offset = start * self._row_bytes
        while left:
            done = os.pwrite(self.file.descriptor, left, offset)
            left, offset = left[done:], offset + done

    def __getitem__(self, key: Any) -> np.ndarray:
        wanted = np.arange(len(self))[key]
        rows = np.empty((wanted.size, *self.shape[1:]), self.dtype)
        if wanted.size and self._row_bytes:
            edges = np.flatnonzero(np.diff(wanted.ravel()) != 1) + 1
            stretches = zip([0, *edges], [*edges, wanted.size], strict=True)
            for start, stop in stretches:
                self._read(int(wanted.flat[start]), rows[start:stop])
        return rows.reshape(*wanted.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows on disk have no array until they are read")
        return self[:].astype(dtype or self.dtype, copy=False)

    def _read(self, start: int, rows: np.ndarray) -> None:
        left, offset = memoryview(rows).cast("B"), start * self._row_bytes
        while left:
            done = os.preadv(self.file.descriptor, [left], offset)
            if not done:
                raise OSError(f"rows from {start} on are no longer on disk")
            left, offset = left[done:], offset + done


def disk_takes(nbytes: int, folder: Path | None = None) -> bool:
    """Whether rows of so many bytes fit on the disk of a folder, or of temporary files."""
    return not nbytes or nbytes <= _DISK_SHARE * free_disk(folder)


def free_disk(folder: Path | None = None) -> int:
    """Bytes that the disk of a folder, which need not be there yet, or of temporary files has left."""
    place = Path(folder or tempfile.gettempdir()).absolute()
    there = next(path for path in (place, *place.parents) if path.exists())
    return shutil.disk_usage(there).free


def first_rows(rows: Any, n: int) -> Any:
    """The first n rows of an array, or of what is read or made when it is indexed, which stays so."""
    first = getattr(rows, "first", None)
    return first(n) if first else rows[:n]


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some rows, by their numbers, of what is read or made where it is indexed; like that an array."""

    rows: Any
    numbers: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), *self.rows.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.rows.dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Of all of them, were they read."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.numbers)

    def first(self, n: int) -> Chosen:
        """The first n of them, none of which is read yet."""
        return Chosen(self.rows, self.numbers[:n])

    def __getitem__(self, key: Any) -> np.ndarray:
        return self.rows[self.numbers[key]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows have no array until they are read")
        return self[:].astype(dtype or self.dtype, copy=False)


def some_rows(rows: Any, numbers: np.ndarray) -> Any:
    """Rows by their numbers, of an array, or of what is read or made when it is indexed, which stays so."""
    return rows[numbers] if is_in_memory(rows) else Chosen(rows, numbers)


def put_rows(to: np.ndarray | StoredRows, start: int, rows: np.ndarray) -> None:
    """Write rows from row `start` on. Raises OSError where the disk is full."""
    if isinstance(to, StoredRows):
        to.write(start, rows)
    else:
        np.copyto(to[start : start + len(rows)], rows)


def is_in_memory(rows: Any) -> bool:
    """Whether an array is there as a whole, on the host or a device, not read or made where it is indexed."""
    return not hasattr(rows, "first")
