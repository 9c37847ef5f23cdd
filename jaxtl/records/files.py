"""Files that are either whole or absent, and the same bytes for the same contents."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import secrets
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import MAKE_AGAIN, JaxtlError
from jaxtl.machine.signals import at_signal
from jaxtl.records.documents import LARGEST, parsed
from jaxtl.records.headers import check_memory
from jaxtl.records.members import Member, members, readable_npz
from jaxtl.records.places import check_file, check_target
from jaxtl.records.summaries import listed

# Letters of NumPy's kinds of elements, and what an error calls them.
_KINDS = {
    "iu": "an integer type",
    "fiu": "a real number type",
    "b": "true or false",
    "U": "text",
}
# Of random bytes in a temporary name, twice as many letters.
_TOKEN_BYTES = 4
# A network's file system may remember for a minute that a file was not there.
_SEEN_SECONDS = 70.0
_TRY_SECONDS = 0.5
# Bytes of a name that file systems take.
_LONGEST_NAME = 255
# Said of a folder, and not of the file that was to lie in it.
_NO_FOLDER = "No folder can be made here"

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
    temporary = _temporary(target)
    # A signal ends a process of the command line without an exception.
    with _blamed_on(target), at_signal(partial(temporary.unlink, missing_ok=True)):
        check_target(target)
        try:
            _create(temporary)
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
        check_target(target)
        temporary = _temporary(target)
        with at_signal(partial(temporary.unlink, missing_ok=True)):
            _create(temporary)
            temporary.unlink()


def wait_until_seen(path: str | os.PathLike[str], seconds: float = _SEEN_SECONDS) -> None:
    """Wait, so long at most, for a file that another machine has written to be seen on this one."""
    deadline = time.monotonic() + seconds
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(_TRY_SECONDS)


def leftovers(path: str | os.PathLike[str]) -> list[Path]:
    """The temporary files that `replacing(path)` left behind in processes that were killed."""
    target = Path(path)
    # A name may hold what is a pattern to others.
    beginning, suffix = glob.escape(_beginning(target)), glob.escape(target.suffix)
    return list(target.parent.glob(f"{beginning}{'[a-z0-9_]' * 2 * _TOKEN_BYTES}{suffix}"))


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    for leftover in leftovers(path):
        leftover.unlink()


def _temporary(target: Path) -> Path:
    # Not by tempfile: the name is to be known before there is a file.
    return target.with_name(f"{_beginning(target)}{secrets.token_hex(_TOKEN_BYTES)}{target.suffix}")


def _beginning(target: Path) -> str:
    """Of temporary names, which are no longer than file systems take where the name itself is not."""
    stem = os.fsencode(target.stem)
    room = _LONGEST_NAME - len(os.fsencode(target.suffix)) - 2 * _TOKEN_BYTES - 2
    return f".{target.stem if len(stem) <= room else stem[:room].decode(errors='ignore')}-"


def _create(temporary: Path) -> None:
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    except FileNotFoundError:  # as /proc says that it takes none
        raise FileNotFoundError(errno.ENOENT, _NO_FOLDER, str(temporary.parent)) from None
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


@contextlib.contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    # A full disk names no file, and other errors would name the temporary one, which tells a user nothing.
    try:
        yield
    except OSError as error:
        if error.strerror != _NO_FOLDER:
            error.filename = str(path)
        error.filename2 = None
        raise


def _umask() -> int:
    # os has no way to read the mask without setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with replacing(path) as temporary:
        # Names of files may be no text; in JSON this escape stands for the very name.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Raises JaxtlError where the file is absent or is not a JSON object, as `documents.parsed` reads it."""
    check_file(path)
    try:
        if os.path.getsize(path) > LARGEST:
            raise ValueError("it is larger than any record")
        return parsed(Path(path).read_bytes())
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except ValueError as error:
        raise JaxtlError(f"{path}: not a JSON object ({error}); {MAKE_AGAIN}") from None


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
    path: str | os.PathLike[str],
    required: tuple[str, ...],
    wanted: Callable[[str], bool] = lambda name: True,
    kinds: Mapping[str, str] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read an npz and its `meta` record, a dictionary (empty where it has none).

    Args:
        required: arrays that must be there.
        wanted: whether another array is read, by its name; nothing else is looked at but its header.
        kinds: by array, the kinds of elements (NumPy's letters) that it may have; any but pickles where it is
            not named.

    Raises JaxtlError where the file is absent, is not an npz, is truncated, or lacks a required array; or
    where one that is read holds pickles, another kind, or more or less than its header says.
    """
    known = members(path)
    read = {name: member for name, member in known.items() if name in required or wanted(name)}
    missing = [name for name in required if name not in read]
    if missing:
        there = listed(known) or "none"
        raise JaxtlError(f"{path}: has no array {', '.join(missing)} (it has {there}); {MAKE_AGAIN}")
    for name, member in read.items():
        member.check()
        if fault := fault_of_kind(name, member.dtype, (kinds or {}).get(name)):
            raise JaxtlError(f"{path}: {fault}; {MAKE_AGAIN}")
    record = read.pop("meta", known.get("meta"))
    # One after another they may each fit into memory, and together not.
    with readable_npz(path):
        check_memory(sum(member.nbytes for member in read.values()))
    return {name: member.read() for name, member in read.items()}, _read_meta(path, record)


def fault_of_kind(name: str, dtype: np.dtype[Any], kinds: str | None) -> str:
    """What is wrong with an array's elements, where they are none of these kinds; else nothing."""
    if kinds is None or dtype.kind in kinds:
        return ""
    wanted = next(word for letters, word in _KINDS.items() if set(kinds) <= set(letters))
    return f"array {name} has dtype {dtype}, which is not {wanted}"


def _read_meta(path: str | os.PathLike[str], record: Member | None) -> dict[str, Any]:
    if record is None:
        return {}
    try:
        record.check()
        if record.shape or record.dtype.kind != "U":
            raise ValueError(f"it is {record.dtype} {list(record.shape)}")
        return parsed(str(record.read()))
    except JaxtlError:
        raise
    except ValueError as error:
        raise JaxtlError(f"{path}: its array meta is not a JSON object ({error}); {MAKE_AGAIN}") from None
