"""Whether what stands in a folder is what its run wrote, and belongs together; told by the manifest alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxtl.errors import JaxtlError
from jaxtl.runs.file import RunFile
from jaxtl.runs.folder import Folder, RunFolder, SeedsFolder, SweepFolder, holds_seeds, holds_sweep
from jaxtl.runs.lock import entries
from jaxtl.runs.manifest import State

OK, STRANGE = "ok", "strange"
# What `Standing` may be, and what is said of each.
STATES = {
    OK: "as the run wrote it",
    "changed": State.CHANGED.value,
    "missing": State.MISSING.value,
    "stale": "was made of other files",
    "unrecorded": State.UNRECORDED.value,
    "unmade": State.UNMADE.value,
    STRANGE: "is no file of the run",
}
_OF_STATE = {
    State.OK: OK,
    State.CHANGED: "changed",
    State.MISSING: "missing",
    State.UNRECORDED: "unrecorded",
    State.UNMADE: "unmade",
}


class Standing(NamedTuple):
    """How a file stands.

    Attributes:
        name: relative to the folder that was asked for.
        state: a key of `STATES`.
        why: of one that is stale, which file it was made of is another one now.
    """

    name: str
    state: str
    why: str = ""

    @property
    def is_fine(self) -> bool:
        return self.state in (OK, STRANGE)


def look(path: Path, of: Folder | None = None) -> list[Standing]:
    """How every file of a run, a comparison or several seeds stands; or of another folder with a manifest.

    Raises JaxtlError for what is none of these, has no manifest, or one that is damaged.
    """
    return [
        standing._replace(name=(folder.path / standing.name).relative_to(path).as_posix())
        for folder in _folders(path, of)
        for standing in _of_folder(folder)
    ]


def accept(path: Path, of: Folder | None = None) -> list[str]:
    """Take files that differ as they stand for what the run wrote; what was made of them is then stale.

    Returns their names. Raises JaxtlError, and takes none, where one of them cannot be read, or settles what
    the run is.
    """
    taken: list[RunFile[object]] = []
    for folder in _folders(path, of):
        files = {file.name: file for file in folder.files}
        differing = {standing.name for standing in _of_folder(folder) if standing.state in _TAKEN}
        taken += [files[name] for name in sorted(differing & files.keys())]
    for file in taken:
        file.check_acceptable()
    for file in taken:
        file.accept()
    return [file.path.relative_to(path).as_posix() for file in taken]


_TAKEN = ("changed", "unrecorded")


def _folders(path: Path, of: Folder | None) -> Iterator[Folder]:
    if of is not None:
        yield _with_manifest(of)
        return
    if holds_sweep(path):
        sweep = SweepFolder(path)
        yield _with_manifest(sweep)
        for run in sweep.runs:
            yield from _folders(run.path, None)
        return
    if not holds_seeds(path):
        run = RunFolder(path)
        run.check()
        yield _with_manifest(run)
        return
    several = SeedsFolder(path)
    if several.manifest.is_there:
        yield several
    for seed in several.seeds.read():
        run = several.run_of(seed)
        run.check()
        yield _with_manifest(run)


def _with_manifest(folder: Folder) -> Folder:
    if not folder.manifest.is_there:
        raise JaxtlError(
            f"{folder}: has no manifest, so nobody knows what its files were; to take them as they stand, "
            f"{folder.go_on}"
        )
    return folder


def _of_folder(folder: Folder) -> Iterator[Standing]:
    known = [name for record in folder.manifest.steps.values() for name in record.files]
    stale = _stale(folder)
    for name in sorted(known):
        state = _OF_STATE[folder.manifest.state(name)]
        yield Standing(name, "stale", stale[name]) if state == OK and name in stale else Standing(name, state)
    for name in sorted(_names(folder) - {*known}):
        is_one = any(file.name == name for file in folder.files)
        yield Standing(name, "unrecorded" if is_one else STRANGE)


def _stale(folder: Folder) -> dict[str, str]:
    """Files that were made of others than are recorded now, each with one of these."""
    stale: dict[str, str] = {}
    for record in folder.manifest.steps.values():
        for name, digest in record.inputs.items():
            now = [known.sha256 for known in folder.manifest.stamps(name)] or folder.digests_of(name)
            if digest is not None and digest not in now:
                stale |= dict.fromkeys(record.files, name)
    return stale


def _names(folder: Folder) -> set[str]:
    """What lies in a folder, but for its manifest, log and lock, runs of its own, and what a kill left."""
    left = {*folder.leftovers(), folder.manifest.path, folder.log}
    own = {file.path.parent for file in folder.files}
    names = set()
    for top in entries(folder.path):
        if isinstance(folder, SeedsFolder) and top.is_dir():
            continue
        if isinstance(folder, SweepFolder) and top in (folder.all_runs, folder.shared):
            continue
        # A link to a folder where none belongs may lead anywhere.
        is_walked = top.is_dir() and (top in own or not top.is_symlink())
        for base, _, files in os.walk(top) if is_walked else [(top.parent, [], [top.name])]:
            names |= {Path(base, name) for name in files}
    return {path.relative_to(folder.path).as_posix() for path in names - left}
