"""What stands in a file's place and is none: it is refused or made again, and nobody waits for it."""

from __future__ import annotations

import os
from pathlib import Path


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
