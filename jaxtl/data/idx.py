"""MNIST's IDX format (http://yann.lecun.com/exdb/mnist/), read with distrust."""

from __future__ import annotations

import gzip
import math
import zlib
from importlib.resources.abc import Traversable
from typing import BinaryIO

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.records.headers import check_memory
from jaxtl.records.names import readable

MAX_BYTES = 8 * 2**30

_PREFIXES = {"train": "train", "test": "t10k"}
_CONTENTS = {3: "images", 1: "labels"}  # by the number of dimensions
_CLASSES = "classes.txt"
_GZIP = b"\x1f\x8b"
_UINT8 = 0x08
_CHUNK = 2**20


def load(folder: Traversable, split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read one split from a folder with the four files.

    Returns:
        Images uint8 [n, h, w, 1], labels int32 [n], and class names: the lines of `classes.txt` where the
        folder has one, in the order of the labels' numbers; else those numbers. Classes are those that occur
        in either split: numbers may have gaps.

    Raises:
        JaxtlError: see `read_idx`; or a file is absent, images and labels differ in number, or `classes.txt`
            has another number of lines.
    """
    labels = {name: read_idx(_find(folder, f"{name}-labels-idx1-ubyte"), 1) for name in _PREFIXES.values()}
    path = _find(folder, f"{_PREFIXES[split]}-images-idx3-ubyte")
    images = read_idx(path, 3)
    mine = labels[_PREFIXES[split]]
    if len(images) != len(mine):
        raise JaxtlError(
            f"{path}: holds {len(images)} images but the {split} labels are {len(mine)}; "
            "the files belong to different sets"
        )
    occurring = np.unique(np.concatenate([np.unique(values) for values in labels.values()]))
    place = np.searchsorted(occurring, mine).astype(np.int32)
    return images[..., None], place, _class_names(folder, occurring)


def _class_names(folder: Traversable, occurring: np.ndarray) -> tuple[str, ...]:
    path = folder / _CLASSES
    if not path.is_file():
        return tuple(str(label) for label in occurring)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise JaxtlError(f"{path}: is not UTF-8 text; save it in UTF-8") from None
    names = [readable(line.strip()) for line in text.splitlines() if line.strip()]
    if len(set(names)) < len(names):
        raise JaxtlError(f"{path}: names a class twice; give every class a name of its own")
    if len(names) > occurring[-1]:
        return tuple(names[label] for label in occurring)
    if len(names) == len(occurring):
        return tuple(names)
    raise JaxtlError(
        f"{path}: names {len(names)} classes, the labels are {len(occurring)} from {occurring[0]} to "
        f"{occurring[-1]}; give a line for each number from 0, or for each that occurs"
    )


def read_idx(path: Traversable, dimensions: int) -> np.ndarray:
    """Read one IDX file of uint8 values, plain or gzipped (told by its content, not by its name).

    Never more than one byte beyond what the header declares is read, nor anything where that is above
    `MAX_BYTES`, so a small file cannot fill the memory.

    Args:
        path: the file.
        dimensions: 3 for images, 1 for labels.

    Raises:
        JaxtlError: the file cannot be read, is not IDX, holds the other kind, or is cut off, damaged or
            longer than its header says.
    """
    try:
        with path.open("rb") as raw:
            gzipped = raw.read(2) == _GZIP
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if gzipped else raw
            return _read_values(path, stream, _read_shape(path, stream, dimensions))
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except EOFError:
        raise JaxtlError(f"{path}: the gzip stream is cut off; download the file again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise JaxtlError(f"{path}: the gzip stream is damaged ({error}); download the file again") from None
    except OSError as error:
        raise JaxtlError(f"{path}: cannot be read ({error.strerror or error})") from None


def _find(folder: Traversable, name: str) -> Traversable:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise JaxtlError(
        f"{folder}: has neither {name} nor {name}.gz; it must hold the four files under MNIST's names"
    )


def _read_shape(path: Traversable, stream: BinaryIO, dimensions: int) -> tuple[int, ...]:
    magic = stream.read(4)
    if magic.lstrip().startswith(b"<"):
        raise JaxtlError(f"{path}: an HTML or XML page, not an IDX file; the download went wrong, repeat it")
    if len(magic) < 4:
        raise JaxtlError(f"{path}: ends inside its header; download the file again")
    if magic[:2] != b"\0\0" or magic[3] == 0:
        raise JaxtlError(f"{path}: not an IDX file (it starts with {magic.hex(' ')})")
    if magic[2] != _UINT8:
        raise JaxtlError(f"{path}: IDX data type 0x{magic[2]:02x}; only uint8 (0x08) is read")
    if magic[3] != dimensions:
        content = _CONTENTS.get(magic[3], "an array")
        raise JaxtlError(
            f"{path}: holds {content} ({magic[3]}-d) where {_CONTENTS[dimensions]} "
            f"({dimensions}-d) are expected; are files swapped?"
        )
    header = stream.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise JaxtlError(f"{path}: ends inside its header; download the file again")
    return tuple(np.frombuffer(header, ">u4").tolist())


def _read_values(path: Traversable, stream: BinaryIO, shape: tuple[int, ...]) -> np.ndarray:
    declared = math.prod(shape)
    if declared == 0:
        raise JaxtlError(f"{path}: declares the shape {list(shape)}, which holds nothing")
    if declared > MAX_BYTES:
        raise JaxtlError(
            f"{path}: declares the shape {list(shape)}, {declared:,} bytes; the limit is "
            f"{MAX_BYTES:,}, so the header is probably damaged"
        )
    try:
        check_memory(declared)
    except ValueError as error:
        raise JaxtlError(f"{path}: declares the shape {list(shape)}; {error}") from None
    values = bytearray()
    while len(values) <= declared:
        # One byte beyond the declared ones is asked for: it tells trailing bytes, and at its end gzip
        # compares its checksum.
        chunk = stream.read(min(_CHUNK, declared + 1 - len(values)))
        if not chunk:
            break
        values += chunk
    if len(values) < declared:
        raise JaxtlError(
            f"{path}: ends after {len(values):,} of {declared:,} declared bytes; download the file again"
        )
    if len(values) > declared:
        raise JaxtlError(f"{path}: goes on after the {declared:,} bytes that its header declares")
    return np.frombuffer(values, np.uint8).reshape(shape)
