"""Features on disk, larger than memory: `NAME.npy`, which is memory-mapped, and `NAME.rows.npz` beside it.

The values are a plain float32 [n, d] array that any NumPy opens; the other file holds labels, index, meta,
ids where there are, and a digest of the first row, so that labels are never taken for those of other
features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.progress import Notify
from jaxtl.records import given, shards
from jaxtl.records.arrays import OF_ROWS, Features, Pathlike
from jaxtl.records.files import read_npz, remove_leftovers, replacing, write_npz
from jaxtl.records.headers import read_header
from jaxtl.records.places import check_file

SUFFIX = ".npy"
# Bytes that are written, or read through, at a time.
_PIECE = 2**26
# Under this name the meta on disk says whose the labels are.
_FIRST_ROW = "first_row"


def rows_path(path: Pathlike) -> Path:
    """Where a store's labels, index and meta are."""
    return Path(path).with_suffix(".rows.npz")


def write(
    path: Pathlike,
    pieces: Iterable[np.ndarray],
    labels: np.ndarray,
    index: np.ndarray,
    meta: dict[str, Any],
    d: int,
    ids: np.ndarray | None = None,
) -> None:
    """Write a store, whole or not at all.

    Args:
        path: ends in ".npy".
        pieces: float32 [some, d], one after another, len(labels) rows together.
        labels, index, meta, ids: as of `Features`.

    Raises:
        OSError: it cannot be written, or the disk is full.
    """
    remove_leftovers(path)
    pieces = iter(pieces)
    first = next(pieces)
    # Before the features, so that no row of them ever lacks its label: until they are there, the digest tells
    # an older store's features from these.
    rows = {"labels": labels, "index": index} | ({} if ids is None else {"ids": ids})
    write_npz(rows_path(path), rows, meta | {_FIRST_ROW: _digest(first[0])})
    with replacing(path) as temporary, temporary.open("wb") as stream:
        # Written, not memory-mapped: a full disk is then an error, and not the end of the process.
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(labels), d)}
        np.lib.format.write_array_header_1_0(stream, header)
        for piece in chain([first], pieces):
            stream.write(np.ascontiguousarray(piece, "<f4").data)


def _digest(row: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(row, "<f4").tobytes()).hexdigest()


def mapped(path: Pathlike) -> np.ndarray:
    """A store's values, float32 [n, d], memory-mapped read-only: what is not looked at is not read.

    Raises JaxtlError where the file is absent or holds something else, OSError where it cannot be opened.
    """
    check_file(path)
    try:
        with Path(path).open("rb") as stream:
            header = read_header(stream)
        if len(header.shape) != 2 or header.dtype != np.float32 or not all(header.shape):
            told = f"not {header.dtype} {list(header.shape)}"
            raise JaxtlError(
                f"{path}: must hold float32 features [n, d], {told}; make it with jaxtl extract, or save "
                'yours by numpy.save(path, values.astype("float32"))'
            )
        header.check(Path(path).stat().st_size, in_memory=False)
        order = "F" if header.is_fortran else "C"
        return np.memmap(path, header.dtype, "r", header.length, header.shape, order)
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except JaxtlError:
        raise
    except ValueError as error:
        again = "delete it to extract the features again"
        raise JaxtlError(f"{path}: not a readable array ({error}); {again}") from None


def load(path: Pathlike, n: int | None = None) -> Features:
    """A store as Features whose values are memory-mapped; the first n rows, or all.

    Raises JaxtlError where one of the two files is absent or damaged, or they do not belong together, OSError
    where one cannot be opened.
    """
    values = mapped(path)
    arrays, meta = read_npz(rows_path(path), ("labels", "index"), OF_ROWS.__contains__, OF_ROWS)
    values = values[: len(values) if n is None else n]
    if any(array.ndim != 1 or len(array) < len(values) for array in arrays.values()):
        raise JaxtlError(f"{rows_path(path)}: has fewer rows than {path}; extract the features again")
    # By all rows, so that the first ones have the same classes however many are read.
    arrays["labels"], names = given.numbered("features", arrays["labels"], meta.get("class_names"))
    meta |= {"class_names": list(names)} if names else {}
    digest = meta.pop(_FIRST_ROW, None)  # which stores of earlier versions lack
    if digest and len(values) and digest != _digest(values[0]):
        raise JaxtlError(
            f"{path}: belongs to other labels than {rows_path(path)}; extract the features again"
        )
    labels, index, ids = (
        None if (rows := arrays.get(name)) is None else rows[: len(values)]
        for name in ("labels", "index", "ids")
    )
    return Features(values, labels, index, meta, ids)


def features_in(path: Pathlike, notify: Notify | None = None) -> Features:
    """Features of a file, or of a store of either kind, whose values are then memory-mapped.

    An array that somebody else saved has no labels beside it, nor has a store that lost them, which `notify`
    is told.

    Raises JaxtlError as those that read them.
    """
    if Path(path).suffix == SUFFIX and not rows_path(path).exists():
        values = mapped(path)
        if notify:
            notify(f"{path}: features without labels, as there is no {rows_path(path).name}")
        return Features(values)
    read = {SUFFIX: load, shards.SUFFIX: shards.load}.get(Path(path).suffix, Features.load)
    return read(path)


def named(path: Pathlike) -> list[tuple[str, Path]]:
    """All that `features_in` reads, with what a user calls it."""
    read = [("the features", Path(path))]
    return read + ([("the features' labels", rows_path(path))] if Path(path).suffix == SUFFIX else [])


def copied(values: np.ndarray, stop: int) -> Iterable[np.ndarray]:
    """The first rows of memory-mapped values, piece by piece."""
    step = max(1, _PIECE // (4 * values.shape[1]))
    for start in range(0, stop, step):
        yield values[start : min(start + step, stop)]
