"""What stands in a file's place and is none: it is refused or made again, and nobody waits for it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.faults.outcomes import Failed


def folder(path: Path, other: Path | None = None) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def pipe(path: Path, other: Path | None = None) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def loop(path: Path, other: Path | None = None) -> None:
    """A link to itself."""
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def endless(path: Path, other: Path | None = None) -> None:
    """A link to a device that never ends."""
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


SWAPS = {change.__name__: change for change in (folder, pipe, loop, endless)}


@contextlib.contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """Ends with Failed what waits for something; in the main thread, whose system calls a signal ends."""

    def stop(number: int, frame: object) -> None:
        raise Failed(f"still waiting after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
