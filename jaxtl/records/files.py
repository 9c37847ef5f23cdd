"""Files that are either whole or absent, and the same bytes for the same contents."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError

# How an error about a damaged file ends, for who knows how that is done to say it instead.
MAKE_AGAIN = "make it again"
# What NumPy, zipfile and zlib raise at damaged npz files; found by flipping and cutting their bytes.
_DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


# Called with a file that is whole and flushed, before it takes its name.
_announce: ContextVar[Callable[[Path], None] | None] = ContextVar("announce", default=None)


@contextlib.contextmanager
def announced(announce: Callable[[Path], None]) -> Iterator[None]:
    """Inside, `announce` is called with each file that `replacing` has whole, before it takes its name.

    What is written down of it then is known whenever the process is killed.
    """
    token = _announce.set(announce)
    try:
        yield
    finally:
        _announce.reset(token)


def _tell(whole: Path) -> None:
    if announce := _announce.get():
        # Which writes a file itself.
        token = _announce.set(None)
        try:
            announce(whole)
        finally:
            _announce.reset(token)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    On any exception, Ctrl-C included, the temporary file is removed and an earlier `path` stays as it was.
    The temporary name keeps the suffix, since matplotlib and NumPy choose formats by it.
    """
    target = Path(path)
    with _blamed_on(target):
        temporary = _temporary(target)
        try:
            yield temporary
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.chmod(0o666 & ~_umask())
            _tell(temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises OSError, before any work, where `replacing(path)` would; makes the folder that is to hold it."""
    target = Path(path)
    with _blamed_on(target):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _temporary(target).unlink()


def leftovers(path: str | os.PathLike[str]) -> list[Path]:
    """The temporary files that `replacing(path)` left behind in processes that were killed."""
    target = Path(path)
    return list(target.parent.glob(f".{target.stem}-{'[a-z0-9_]' * 8}{target.suffix}"))


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    for leftover in leftovers(path):
        leftover.unlink()


def _temporary(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    return Path(name)


@contextlib.contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    # A full disk names no file, and other errors would name the temporary one, which tells a user nothing.
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _umask() -> int:
    # os has no way to read the mask without setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Raises JaxtlError where the file is absent or is not a JSON object."""
    try:
        return _object(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except ValueError as error:
        raise JaxtlError(f"{path}: not a JSON object ({error}); {MAKE_AGAIN}") from None


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"it is a {type(value).__name__}")
    return value


def write_npz(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]
) -> None:
    """Write arrays and a JSON record named `meta` to an uncompressed npz without pickles.

    Members carry a constant date, so equal contents give equal bytes.
    """
    record = np.array(json.dumps(dict(meta), sort_keys=True, ensure_ascii=False))
    # Not np.savez: NumPy 2.0's cannot be told to refuse pickles.
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in {**arrays, "meta": record}.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)


def read_npz(
    path: str | os.PathLike[str], required: tuple[str, ...], skipped: Collection[str] = ()
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read an npz and its `meta` record, a dictionary (empty where it has none); not the `skipped` arrays.

    Raises JaxtlError where the file is absent, is not an npz, is truncated, holds pickles or lacks a
    required array.
    """
    # Opened here, since NumPy leaves a file open that it cannot read.
    with readable_npz(path), Path(path).open("rb") as stream:
        archive = np.load(stream, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise JaxtlError(f"{path}: a single .npy array; expected an .npz with {', '.join(required)}")
        arrays = {name: archive[name] for name in archive.files if name not in skipped}
    missing = [name for name in required if name not in arrays]
    if missing:
        known = ", ".join(arrays) or "none"
        raise JaxtlError(f"{path}: has no array {', '.join(missing)} (it has {known}); {MAKE_AGAIN}")
    return arrays, _read_meta(path, arrays.pop("meta", np.array("{}")))


@contextlib.contextmanager
def readable_npz(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what NumPy, zipfile and zlib raise at an npz that is absent or damaged into a JaxtlError."""
    try:
        yield
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise JaxtlError(f"{path}: a folder; expected an .npz file") from None
    except JaxtlError:
        raise
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "contains pickled" in reason:  # what NumPy takes every unknown file for
            reason = "its contents are no arrays"
        raise JaxtlError(f"{path}: not a readable .npz file ({reason}); {MAKE_AGAIN}") from None


def _read_meta(path: str | os.PathLike[str], record: np.ndarray) -> dict[str, Any]:
    try:
        return _object(str(record))
    except ValueError as error:
        raise JaxtlError(f"{path}: its array meta is not a JSON object ({error}); {MAKE_AGAIN}") from None
