"""One folder, one process: a lock on a folder, or a file, that lasts as long as the process that holds it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from jaxtl.errors import JaxtlError

_NAME = ".jaxtl-lock"
# What tells locks of files in one folder apart: names themselves may be as long as names can be.
_DIGITS = 16
# In what a lock says of who holds it, before the name of the machine.
_ON = " on "
_TRY_SECONDS = 0.5
# How long the lock of a process is waited for that died on another machine.
_LASTING_SECONDS = 120.0
# Where nobody may write there is nothing to be kept from, and some file systems know no locks.
_WITHOUT = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EINVAL,
}


class _Lock:
    """A lock, which this process holds so many times; without a descriptor, of none.

    Args:
        path: the file that is locked, in a folder that is made where it does not exist.
        what: "folder" or "file", which another process is refused.
        name: of it, as it was given.
    """

    def __init__(self, path: Path, what: str, name: Path) -> None:
        self.count = 1
        self._path = path
        self._made = _make(path.parent)
        try:
            self.descriptor = _locked(path, what, name)
        except BaseException:
            self._remove_made()
            raise

    def let_go(self) -> None:
        if self.descriptor is not None:
            # While it is held: who waits for nothing but the name begins with a file of its own.
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self.descriptor)
        self._remove_made()

    def _remove_made(self) -> None:
        """A folder that was made and never used goes."""
        with contextlib.suppress(OSError):
            for folder in self._made:
                folder.rmdir()


# By their folder, through links, and their name.
_held: dict[tuple[str, str], _Lock] = {}
_guard = threading.RLock()


class Hold(contextlib.AbstractContextManager["Hold"]):
    """A folder that is this process's as long as somebody in it holds it; made where it does not exist.

    A process may hold a folder several times. Used as a context it is taken again where it was let go of, and
    let go of at the end. The lock of a process that died is none.

    `what`: "file" for one that will be written, with what belongs to it beside it, instead of a folder.

    Raises JaxtlError where another process has it, OSError where the folder cannot be made.
    """

    def __init__(self, name: Path, what: Literal["folder", "file"] = "folder") -> None:
        self._path = Path(name) / _NAME if what == "folder" else _beside(Path(name))
        self._refused = what, name
        self._end: weakref.finalize | None = None
        self.take()

    def __enter__(self) -> Hold:
        self.take()
        return self

    def __exit__(self, *exception: object) -> None:
        self.let_go()

    def take(self) -> None:
        """Take it, unless this holds it already."""
        if self._end is None or not self._end.alive:
            key = os.path.realpath(self._path.parent), self._path.name
            _take(key, self._path, *self._refused)
            self._end = weakref.finalize(self, _let_go, key)

    def let_go(self) -> None:
        if self._end is not None:
            self._end()


def check_free(folder: Path) -> None:
    """Raises JaxtlError where another process works in a folder."""
    if (folder / _NAME).exists():
        Hold(folder).let_go()


def wait_until_free(folder: Path, seconds: float = _LASTING_SECONDS) -> None:
    """Wait, so long at most, where another process works in a folder.

    On the machine that a process died on its lock is none. On a network's file system that goes for others
    too, but after a while: NFS forgets the locks of a machine that went down after a minute and a half.

    Raises JaxtlError where it is still another's then.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            check_free(folder)
            return
        except JaxtlError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_TRY_SECONDS)


def entries(folder: Path) -> Iterator[Path]:
    """What a folder holds, but for its lock."""
    return (path for path in folder.iterdir() if path.name != _NAME)


def _beside(file: Path) -> Path:
    """The lock of a file: in its folder, since its own place is taken by another file when it is written."""
    digest = hashlib.sha256(os.fsencode(file.name)).hexdigest()
    return file.with_name(f"{_NAME}-{digest[:_DIGITS]}")


def _take(key: tuple[str, str], path: Path, what: str, name: Path) -> None:
    with _guard:
        if key in _held:
            _held[key].count += 1
        else:
            _held[key] = _Lock(path, what, name)


def _let_go(key: tuple[str, str]) -> None:
    with _guard:
        lock = _held.get(key)
        if lock is None:
            return
        lock.count -= 1
        if not lock.count:
            del _held[key]
            lock.let_go()


def _make(folder: Path) -> list[Path]:
    """Make a folder. Returns those that were made, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _locked(path: Path, what: str, name: Path) -> int | None:
    while True:
        try:
            # Python's descriptors do not go to processes that are started.
            # What a link leads to would be lost: it is emptied, and signed.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            if path.is_symlink():
                raise JaxtlError(f"{path}: is a link, which no jaxtl made; delete it") from None
            if error.errno in _WITHOUT:
                return None
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = _told(descriptor)
            os.close(descriptor)
            does = "works in it" if what == "folder" else "writes it"
            raise JaxtlError(
                f"{name}: another jaxtl {does}{who and f' ({who})'}; wait until it has ended, or give "
                f"another {what}{_if_it_is_down(who, path)}"
            ) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno in _WITHOUT:
                return None
            raise
        if _is_the_same(descriptor, path):
            _sign(descriptor)
            return descriptor
        # Who held it let go of it meanwhile, and its file is gone.
        os.close(descriptor)


def _is_the_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    # For who is refused; a full disk is no reason not to work.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}{_ON}{platform.node()}".encode(), 0)


def _told(descriptor: int) -> str:
    """Who holds a lock, where that is written."""
    text = os.pread(descriptor, 200, 0).decode("utf-8", "replace")
    return text if text.isprintable() else ""


def _if_it_is_down(who: str, path: Path) -> str:
    """What to do about a lock of another machine: where that is gone, not every file system lets go of it."""
    _, _, machine = who.partition(_ON)
    return "" if machine in ("", platform.node()) else f"; where {machine} is down, delete {path}"


def _forget() -> None:
    """What a forked process has of its parent's locks is not its own."""
    for lock in _held.values():
        if lock.descriptor is not None:
            os.close(lock.descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
