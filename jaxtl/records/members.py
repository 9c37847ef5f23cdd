"""Arrays of an .npz, each known by its header and read when it is asked for, in pieces where it is large."""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxtl.errors import MAKE_AGAIN, JaxtlError
from jaxtl.records.headers import Header, fill, read_elements, read_header
from jaxtl.records.places import check_file

# Bytes that are read at a time.
PIECE = 2**26
_SUFFIX = ".npy"
# Of how NumPy packs members; other ways may ask for gigabytes before the first byte.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# No archive of arrays has more.
_MOST = 20_000
# What is measured does not shrink so far: an array that does is a bomb where it is large.
_LARGE, _SHRUNK = 2**28, 200
# What zipfile and zlib raise at damaged archives; found by flipping and cutting their bytes.
DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    IndexError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
_ZIP_MAGIC, _NPY_MAGIC = b"PK", b"\x93NUMPY"


@dataclass(frozen=True)
class Member:
    """An array of an .npz that is still in its file.

    Attributes:
        path: of the file.
        name: of the array.
        header: what is said of it; None where that cannot be read.
        fault: why it cannot be read; empty where it can.
    """

    path: Path
    name: str
    header: Header | None
    fault: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return self._known.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._known.dtype

    @property
    def nbytes(self) -> int:
        return self._known.nbytes

    @property
    def holds_objects(self) -> bool:
        """Whether it holds Python objects, which are never read."""
        return self.header is not None and self.header.dtype.hasobject

    @property
    def in_rows(self) -> bool:
        """Whether its first axis is the outermost, so that rows can be read one after another."""
        return not self._known.is_fortran and len(self.shape) > 0

    @property
    def _known(self) -> Header:
        if self.header is None:
            raise _unreadable(self.path, f"array {self.name}: {self.fault}")
        return self.header

    def check(self) -> None:
        """Raises JaxtlError where it cannot be read."""
        if self.fault:
            raise _unreadable(self.path, f"array {self.name}: {self.fault}")

    def read(self) -> np.ndarray:
        """All of it. Raises JaxtlError where the file is damaged, or holds Python objects."""
        self.check()
        with readable_npz(self.path), self._opened() as stream:
            return read_elements(stream, self._known)

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """Its rows, some at a time: the number of the first, and an array [some, ...]; errors as `read`."""
        self.check()
        if not self.in_rows:
            yield 0, self.read()
            return
        row = self.nbytes // max(1, self.shape[0])
        step = max(1, PIECE // max(1, row))
        with readable_npz(self.path), self._opened() as stream:
            for start in range(0, self.shape[0], step):
                rows = np.empty((min(step, self.shape[0] - start), *self.shape[1:]), self.dtype)
                fill(stream, rows)
                yield start, rows

    def _opened(self) -> IO[bytes]:
        """At its first element. The archive is closed with its last member."""
        with zipfile.ZipFile(self.path) as archive:
            stream = archive.open(f"{self.name}{_SUFFIX}")
            read_header(stream)
            return stream


def members(path: str | os.PathLike[str]) -> dict[str, Member]:
    """The arrays of an .npz by name. Nothing but their headers is read.

    A member's size is what its header asks for, or it has a fault; so has one of Python objects, and one
    whose name stands there twice.

    Raises JaxtlError where the file is absent, damaged, or no .npz.
    """
    path = Path(path)
    check_file(path, "expected an .npz file")
    with readable_npz(path):
        _check_kind(path)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST:
                raise ValueError(f"it holds {len(entries):,} members")
            times = Counter(entry.filename for entry in entries)
            arrays = [entry for entry in entries if entry.filename.endswith(_SUFFIX)]
            known = (_member(path, archive, entry, times) for entry in arrays)
            return {member.name: member for member in known}


def _check_kind(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(len(_NPY_MAGIC))
    if start == _NPY_MAGIC:
        raise JaxtlError(f"{path}: a single .npy array; expected an .npz")
    if start[:2] != _ZIP_MAGIC:
        raise ValueError("its contents are no arrays" if start else "it is empty")


def _member(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, times: Mapping[str, int]) -> Member:
    name, header = entry.filename.removesuffix(_SUFFIX), None
    try:
        if times[entry.filename] > 1:
            raise ValueError("it stands there twice")
        if entry.compress_type not in PACKED:
            raise ValueError("it is packed in a way that NumPy does not use")
        with archive.open(entry) as stream:
            header = read_header(stream)
        header.check(entry.file_size)
        if entry.file_size > max(_LARGE, _SHRUNK * entry.compress_size):
            raise ValueError(
                f"its {entry.compress_size:,} bytes would become {entry.file_size:,}: no measured array's do"
            )
    except DAMAGED as error:
        return Member(path, name, header, _reason(error))
    return Member(path, name, header)


@contextlib.contextmanager
def readable_npz(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what zipfile and zlib raise at an npz that is absent or damaged into a JaxtlError."""
    try:
        yield
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except JaxtlError:
        raise
    except DAMAGED as error:
        raise _unreadable(path, _reason(error)) from None


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _unreadable(path: str | os.PathLike[str], reason: str) -> JaxtlError:
    return JaxtlError(f"{path}: not a readable .npz file ({reason}); {MAKE_AGAIN}")
