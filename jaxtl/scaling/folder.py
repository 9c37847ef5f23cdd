"""A study's folder: its files by name, and whether they are what the study wrote.

Its manifest has the size and SHA-256 of every file, each recorded by itself, and what the images were.
Measurements that differ are refused, as nobody can make the same again; what follows from images, weights and
settings is made again.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.records.arrays import Embedding
from jaxtl.records.documents import anything, positive, record_of, within
from jaxtl.records.files import announced, read_json_object, write_json
from jaxtl.runs.file import RunFile
from jaxtl.runs.folder import Folder, study_goes_on
from jaxtl.runs.manifest import State, stamp
from jaxtl.scaling import trials
from jaxtl.scaling.trials import Trial

CONFIG, TABLE, FITS, EXTRACTION = "config.json", "scaling.csv", "fits.csv", "extraction.json"
# Values, and what tells of their rows.
FEATURES, ROWS = "features.npy", "features.rows.npz"
FIGURES, SUFFIXES, MAPS = "figures", ("png", "svg"), "maps"
# Where files are, and how they are read.
_KINDS: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys((CONFIG, EXTRACTION), read_json_object),
    **dict.fromkeys((TABLE, FITS, FEATURES, ROWS), Path.exists),
    f"{trials.FOLDER}/*.json": read_json_object,
    f"{MAPS}/*.npz": Embedding.load,
    f"{FIGURES}/*.*": Path.exists,
}
_MOST = 2**53
_EXTRACTION = record_of(
    {"images": within(1, _MOST), "seconds": positive, "image_size": within(1, _MOST)}, others=anything
)


class StudyFolder(Folder):
    """The folder of one study. `files` are those that are there."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        for kind, load in _KINDS.items():
            for file in sorted(self.path.glob(kind)):
                if not file.name.startswith("."):
                    self._file(file.relative_to(self.path).as_posix(), load, write_json)

    @property
    def go_on(self) -> str:
        return study_goes_on(self.path)

    def remedy(self, file: RunFile[Any], state: State) -> str:
        if state is not State.CHANGED:
            return super().remedy(file, state)
        accept = f"jaxtl check {shlex.quote(str(self.path))} --accept"
        return f"restore it, or delete it to have it made again, or {accept} takes it as it is"

    def is_intact(self, name: str) -> bool:
        """Whether a file is what the study wrote; of studies without a manifest, whether it is there."""
        return self.manifest.state(name) is State.OK

    def fault(self, *names: str) -> str:
        """Which of these files the study has written, and is there no longer as it was; "" where none is."""
        states = {name: self.manifest.state(name) for name in names}
        wrong = (name for name, state in states.items() if state not in (State.OK, State.UNMADE))
        return next((f"{name} {states[name].value}" for name in wrong), "")

    @contextlib.contextmanager
    def recorded(self, *names: str) -> Iterator[None]:
        """Inside, these files are written, which differ in their suffix: the manifest knows each whenever the
        process is killed."""

        def announce(whole: Path) -> None:
            name = next(name for name in names if Path(name).suffix == whole.suffix)
            self.manifest.announce(name, name, stamp(whole), {})

        with announced(announce):
            yield
        self.record(*names)

    def record(self, *names: str) -> None:
        """Files are as the study wrote them."""
        for name in names:
            self.manifest.record(name, [name], {})

    def adopt(self) -> None:
        """Begin the manifest of a study that has none with files as they stand."""
        names = [file.name for file in self.files if file.path != self.manifest.path]
        self.manifest.adopt({name: ([name], [], []) for name in names})

    def trials(self) -> list[Trial]:
        """All that were measured, by method, backend and size.

        Raises JaxtlError where a file holds none, or is not what the study wrote.
        """
        known = trials.load_all(self.path / trials.FOLDER)
        for path in known:
            self.check_intact(path.relative_to(self.path).as_posix())
        return sorted(known.values(), key=lambda trial: (trial.method, trial.backend, trial.n))

    def extraction(self) -> dict[str, Any] | None:
        """Images, their size and seconds of an extraction; None where there was none.

        Raises JaxtlError where its file does not tell these, or is not what the study wrote.
        """
        path = self.path / EXTRACTION
        if not path.is_file():
            return None
        record = read_json_object(path)
        if fault := _EXTRACTION(record):
            raise JaxtlError(f"{path}: tells of no extraction (it {fault}); delete it")
        self.check_intact(EXTRACTION)
        return record

    def check_intact(self, name: str) -> None:
        """Raises JaxtlError where a file is not what the study wrote."""
        RunFile(self, name, Path.exists, write_json).check_intact()


def trial_name(trial: Trial) -> str:
    return f"{trials.FOLDER}/{trial.name}.json"


def map_name(trial: Trial) -> str:
    return f"{MAPS}/{trial.name}.npz"


def quality_name(n: int) -> str:
    """Of the file with scores of the features of n images."""
    return f"{trials.FOLDER}/{trials.FEATURES}{n}.json"
