"""What folders are called where nobody says."""

from __future__ import annotations

from pathlib import Path

from jaxtl.data import short_name, spelled
from jaxtl.settings import RunConfig


def fresh_folder(name: str) -> Path:
    """The first of runs/NAME, runs/NAME-2, ... that is not there."""
    number, folder = 1, Path("runs") / name
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def run_name(config: RunConfig) -> str:
    """What a run's folder is called."""
    return f"{folder_name(config.dataset)}-{config.samples or 'all'}"


def folder_name(dataset: str) -> str:
    """A dataset as part of a folder's name: what sort of name it is, and of a path its last part."""
    kind, argument = spelled(dataset)
    return f"{kind}-{short_name(dataset)}".replace("/", "-").replace(":", "-") if argument else kind
