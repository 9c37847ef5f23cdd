"""Paths that are written, looked at before any work: that they can be, and that nothing is lost by it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from jaxtl.errors import JaxtlError
from jaxtl.machine.memory import available_memory, spoken_bytes
from jaxtl.records.files import check_writable
from jaxtl.records.places import expanded

# What a user calls a path, such as "--out", and the path.
Named = tuple[str, Path]


def same(one: Path, other: Path) -> bool:
    """Whether two paths are one file or folder, or would be: through links, and where case plays no part."""
    if one.exists() and other.exists():
        return one.samefile(other)
    # Where one is there and the other is not, they differ on this disk, whatever their case.
    if one.exists() or other.exists():
        return False
    # Not by Path.resolve, which fails at a link to itself.
    return os.path.realpath(one).casefold() == os.path.realpath(other).casefold()


def absolute_path(path: str | None) -> str | None:
    """A path, "~" at its beginning included, as it is found from any working directory."""
    return path and os.path.abspath(expanded(path))


def is_within(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or lies in it, through links."""
    whole = Path(os.path.realpath(path))
    return any(same(parent, folder) for parent in (whole, *whole.parents))


def check_outputs(outputs: Iterable[Named], inputs: Iterable[Named] = (), full: Iterable[Named] = ()) -> None:
    """Refuse before any work what would fail, or lose something, after it. Nothing is left of the trial.

    Args:
        outputs: files that will be written.
        inputs: files and folders that are read.
        full: folders all of whose contents are read, so that nothing may be written into them.

    Raises:
        JaxtlError: an output that is an input or another output, or lies in one of the full folders.
        OSError: an output that cannot be written.
    """
    outputs, inputs, full = list(outputs), list(inputs), list(full)
    for number, (name, path) in enumerate(outputs):
        for other, read in inputs:
            if same(path, read):
                raise JaxtlError(f"{name} {path}: is {other} too, which would be lost; give another path")
        for other, written in outputs[:number]:
            if same(path, written):
                raise JaxtlError(f"{name} {path}: is {other} too, and one would be lost; give another path")
        for other, folder in full:
            if is_within(path, folder):
                raise JaxtlError(
                    f"{name} {path}: lies in the folder of {other}, and would be taken for images; give "
                    "another path"
                )
    for _, path in outputs:
        check_can_be_written(path)


def check_can_be_written(path: Path) -> None:
    """Raises OSError where a file could not be written, or its folder not be made; leaves nothing."""
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        check_writable(path)
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_size(path: Path) -> None:
    """Raises JaxtlError for a file of arrays that would be read into memory, and is larger than what is free.

    A store of features (`jaxtl.records.store`) is read piece by piece, and may be.
    """
    if path.suffix == ".npy" or not path.is_file():
        return
    size, free = path.stat().st_size, available_memory()
    if size > free:
        there = f"holds {spoken_bytes(size)}, and {spoken_bytes(free)} of memory are free"
        raise JaxtlError(f"{path}: {there}; give fewer rows")
