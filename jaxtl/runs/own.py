"""Files that belong to a run, and so are written by its steps alone."""

from __future__ import annotations

from pathlib import Path

from jaxtl.errors import JaxtlError
from jaxtl.records.paths import same
from jaxtl.runs.folder import RunFolder, SeedsFolder, holds_run, holds_seeds

# A run's own files lie in its folder, or in one within it.
_DEPTH = 2


def check_not_of_a_run(name: str, path: Path, but: Path | None = None) -> None:
    """Raises JaxtlError for an output that is one of a run's own files.

    Args:
        name: what a user calls it, such as "--out".
        but: a file of a run that the command makes again, as its page.
    """
    if but is not None and same(path, but):
        return
    for folder in list(path.absolute().parents)[:_DEPTH]:
        files = RunFolder(folder).files if holds_run(folder) else []
        files = SeedsFolder(folder).files if holds_seeds(folder) else files
        if any(same(path, file.path) for file in files):
            raise JaxtlError(f"{name} {path}: is a file of the run {folder}; give another path")
