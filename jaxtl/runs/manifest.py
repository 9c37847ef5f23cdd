"""The manifest of a run's folder: size and SHA-256 of every file that steps wrote, and what it was made of.

A step is done when its files are those recorded, and what it was made of is what is recorded now. Whoever
reads a file of the run compares it with its record, so that none is believed that was damaged, edited or
taken from another run.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jaxtl.errors import JaxtlError
from jaxtl.records.documents import digest_of
from jaxtl.records.files import read_json_object, write_json
from jaxtl.records.places import check_file

# A file that was written so shortly before it was looked at (seconds) may be written again within one tick of
# the file system's clock, and look the same: its digest is not remembered.
_RACY = 0.05
_known: dict[str, tuple[tuple[int, int, int], Stamp]] = {}
_known_lock = threading.Lock()


class Stamp(NamedTuple):
    """What tells a file's contents from any others."""

    sha256: str
    bytes: int


class State(enum.Enum):
    """How a file stands to its record; the value is said of it."""

    OK = "ok"
    CHANGED = "is not what the run wrote"
    MISSING = "is missing"
    # There, but of no step that was done: its step was stopped, or it was put there.
    UNRECORDED = "is not recorded"
    UNMADE = "is not made yet"


@dataclass
class Record:
    """What is recorded of a step.

    Attributes:
        files: by name, what may stand there: one, two while one takes the other's place; none where the file
            is still to be made.
        inputs: by name, the SHA-256 of files that it was made of; None where nobody knows.
    """

    files: dict[str, tuple[Stamp, ...]] = field(default_factory=dict)
    inputs: dict[str, str | None] = field(default_factory=dict)


def stamp(path: Path) -> Stamp:
    """Of a file as it stands; hashed once by a process as long as it is the same.

    Raises OSError, and JaxtlError for a pipe or a folder in its place, of which one would wait for ever.
    """
    check_file(path, "move it away")
    about = path.stat()
    name, key = os.path.abspath(path), (about.st_mtime_ns, about.st_size, about.st_ino)
    with _known_lock:
        known = _known.get(name)
    if known and known[0] == key:
        return known[1]
    looked = time.time()
    with path.open("rb") as stream:
        made = Stamp(hashlib.file_digest(stream, "sha256").hexdigest(), stream.tell())
    if made.bytes == about.st_size and looked - about.st_mtime > _RACY:
        with _known_lock:
            _known[name] = key, made
    return made


class Manifest:
    """The manifest of one folder, from any threads of the one process that works in it, or for who reads.

    Attributes:
        path: of its file.
        sources: digests by name of what the run was started with: settings, images, weights.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._root = path, path.parent
        self._lock = threading.RLock()
        self._read: tuple[int, int, int] | None = None
        self._steps: dict[str, Record] = {}
        self._sources: dict[str, str] = {}
        self._of: dict[str, str] = {}

    @property
    def is_there(self) -> bool:
        return self.path.is_file()

    @property
    def sources(self) -> Mapping[str, str]:
        with self._current():
            return dict(self._sources)

    @property
    def steps(self) -> Mapping[str, Record]:
        """What is recorded of each step, by name. Raises JaxtlError where the manifest is damaged."""
        with self._current():
            return dict(self._steps)

    def stamps(self, name: str) -> tuple[Stamp, ...]:
        """What may stand in a file: none where it was never made."""
        with self._current():
            record = self._steps.get(self._of.get(name, ""))
            return record.files.get(name, ()) if record else ()

    def knows(self, name: str) -> bool:
        """Whether a file is one of the run's, made or still to be made."""
        with self._current():
            return name in self._of

    def state(self, name: str) -> State:
        """How a file stands to its record; without a manifest what is there is as it should be.

        Raises JaxtlError where the manifest is damaged.
        """
        for _ in range(3):
            allowed, seen = self.stamps(name), self._read
            state = self._state(name, allowed)
            # A run under way may have written both since.
            if state is State.OK or _key(self.path) == seen:
                break
        return state

    def _state(self, name: str, allowed: tuple[Stamp, ...]) -> State:
        path = self._root / name
        if not path.is_file():
            return State.MISSING if allowed else State.UNMADE
        if not self.is_there:
            return State.OK
        if not allowed:
            return State.UNRECORDED
        if path.stat().st_size not in {known.bytes for known in allowed}:
            return State.CHANGED
        return State.OK if stamp(path) in allowed else State.CHANGED

    def adopt(self, steps: Mapping[str, tuple[Iterable[str], Iterable[str], Iterable[str]]]) -> None:
        """Begin with files as they stand: of each step those that are there, those that are still to be made,
        and the files that it is made of."""

        def known(name: str) -> str | None:
            path = self._root / name
            return stamp(path).sha256 if path.is_file() else None

        with self._current():
            for step, (files, unmade, made_of) in steps.items():
                there: dict[str, tuple[Stamp, ...]] = {name: (stamp(self._root / name),) for name in files}
                inputs = {name: known(name) for name in sorted(made_of)} if there else {}
                self._steps[step] = Record(there | dict.fromkeys(unmade, ()), inputs)
            self._write()

    def begin(self, sources: Mapping[str, str]) -> None:
        """Write down what the run is made from."""
        with self._current():
            if {**self._sources, **sources} != self._sources:
                self._sources |= sources
                self._write()

    def record(self, step: str, names: Iterable[str], inputs: Mapping[str, str | None]) -> None:
        """A step is done: its files, those that are there, and what they were made of."""
        there = {name: (stamp(self._root / name),) for name in names if (self._root / name).is_file()}
        with self._current():
            self._put(step, Record(there, dict(inputs)))

    def announce(self, step: str, name: str, coming: Stamp, inputs: Mapping[str, str | None]) -> None:
        """A file of a step that is not done takes another's place: until it does, both may stand there."""
        with self._current():
            record = self._steps.get(step, Record())
            path = self._root / name
            before = [s for s in record.files.get(name, ()) if path.is_file() and s == stamp(path)]
            unmade = dict.fromkeys((other for other in record.files if other != name), ())
            files = {**unmade, name: tuple(dict.fromkeys((coming, *before)))}
            self._put(step, Record(files, dict(inputs)))

    def forget(self, names: Iterable[str]) -> None:
        """These files are the run's no longer."""
        with self._current():
            gone = {name for name in names if name in self._of}
            for name in gone:
                step = self._of[name]
                del self._steps[step].files[name]
                if not self._steps[step].files:
                    del self._steps[step]
            if gone:
                self._write()

    def accept(self, name: str) -> None:
        """Take a file as it stands for what the run wrote; one that nobody knew is of no step."""
        with self._current():
            step = self._steps.setdefault(self._of.get(name, name), Record())
            step.files[name] = (stamp(self._root / name),)
            self._write()

    def _put(self, step: str, record: Record) -> None:
        if self._steps.get(step) != record or not self.is_there:
            self._steps[step] = record
            self._write()

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """Inside, no other thread reads or writes, and what is known is what the file holds."""
        with self._lock:
            if (key := _key(self.path)) != self._read:
                self._sources, self._steps = _load(self.path) if key else ({}, {})
                self._index(key)
            yield

    def _write(self) -> None:
        steps = {name: _as_json(record) for name, record in self._steps.items()}
        held = {"sources": self._sources, "steps": steps}
        write_json(self.path, {**held, "digest": digest_of(held)})
        self._index(_key(self.path))

    def _index(self, key: tuple[int, int, int] | None) -> None:
        self._read = key
        self._of = {name: step for step, record in self._steps.items() for name in record.files}


def _key(path: Path) -> tuple[int, int, int] | None:
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino


def _as_json(record: Record) -> dict[str, Any]:
    files: dict[str, Any] = {}
    for name, allowed in record.files.items():
        files[name] = [known._asdict() for known in allowed]
    return {"files": files, "inputs": record.inputs} if record.inputs else {"files": files}


def _load(path: Path) -> tuple[dict[str, str], dict[str, Record]]:
    """Raises JaxtlError where it is none, or was edited."""
    try:
        held = read_json_object(path)
        if held.pop("digest", None) != digest_of(held):
            raise JaxtlError(f"{path}: was edited")
        return _read_sources(held["sources"]), {
            _text(name): _read_record(step) for name, step in held["steps"].items()
        }
    except (JaxtlError, KeyError, TypeError, AttributeError, ValueError) as error:
        why = str(error).removeprefix(f"{path}: ").partition(";")[0]
        remedy = "restore it from a copy; or delete it, and jaxtl run --resume takes all files as they stand"
        raise JaxtlError(f"{path}: not the manifest that the run wrote ({why}); {remedy}") from None


def _read_sources(held: Any) -> dict[str, str]:
    return {_text(name): _text(digest) for name, digest in held.items()}


def _read_record(held: Any) -> Record:
    files = {_name(name): tuple(map(_read_stamp, allowed)) for name, allowed in held["files"].items()}
    inputs = held.get("inputs", {}).items()
    return Record(files, {_name(name): known if known is None else _text(known) for name, known in inputs})


def _read_stamp(held: Any) -> Stamp:
    size = held["bytes"]
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"bytes is {size!r}")
    return Stamp(_text(held["sha256"]), size)


def _name(value: Any) -> str:
    """Of a file within the folder: no other is looked at, whoever wrote the manifest."""
    if os.path.isabs(name := _text(value)) or ".." in name.split("/"):
        raise ValueError(f"{name!r} lies elsewhere")
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
