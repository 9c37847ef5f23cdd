"""One file of a run's folder: how it is read, written, compared with the manifest and mended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from jaxtl.errors import JaxtlError
from jaxtl.records.files import MAKE_AGAIN, announced
from jaxtl.runs.manifest import Manifest, State, stamp

T = TypeVar("T")


class Place(Protocol):
    """What a file needs to know of its folder, which `jaxtl.runs.folder` describes."""

    path: Path
    manifest: Manifest
    compares: bool

    @property
    def go_on(self) -> str: ...

    def check_there(self, needed: Iterable[RunFile[Any]]) -> None: ...

    def remedy(self, file: RunFile[Any], state: State) -> str: ...


class RunFile(Generic[T]):
    """One file of a folder, which may be there or not.

    Attributes:
        name: relative to the folder, with slashes.
        path: the whole of it.
        kept: whether it is there until the step that it serves is done, and no longer.
        remedy: what to do where it is lost, if it cannot be made again.
    """

    def __init__(
        self,
        folder: Place,
        name: str,
        load: Callable[[Path], T],
        save: Callable[[Path, T], None],
        remedy: str | None = None,
        kept: bool = False,
    ) -> None:
        self.name, self.path, self.kept, self.remedy = name, folder.path / name, kept, remedy
        self._folder, self._load, self._save = folder, load, save

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_there(self) -> bool:
        return self.path.is_file()

    @property
    def is_expected(self) -> bool:
        """Whether it is there, or is missing though the run made it."""
        return self.is_there or (self._folder.compares and self.state is State.MISSING)

    @property
    def state(self) -> State:
        """How it stands to the folder's manifest. Raises JaxtlError where that is damaged."""
        return self._folder.manifest.state(self.name)

    @property
    def is_intact(self) -> bool:
        """Whether it is what the run wrote; of runs without a manifest, whether it is there."""
        return self.state is State.OK

    @property
    def sha256(self) -> str:
        """Of what it holds. Raises OSError where it is not there."""
        return stamp(self.path).sha256

    @property
    def is_lost(self) -> bool:
        """Whether the run recorded it, and it is there no longer as it was."""
        return bool(self._folder.manifest.stamps(self.name)) and not self.is_intact

    def read(self) -> T:
        """What it holds.

        Raises JaxtlError, which says how to go on, where it is absent, damaged or not what the run wrote.
        """
        if not self.is_there and self.is_expected:
            self._folder.check_there([self])
        try:
            value = self._load(self.path)
        except JaxtlError as error:
            raise self.mended(error) from None
        if self._folder.compares:
            self.check_intact()
        return value

    def read_or(self, otherwise: T) -> T:
        """What it holds, where it is there, or should be."""
        return self.read() if self.is_expected else otherwise

    def check_intact(self) -> None:
        """Raises JaxtlError where it is not what the run wrote."""
        if (state := self.state) is not State.OK:
            raise JaxtlError(f"{self.path}: {state.value}; {self._folder.remedy(self, state)}")

    def check_acceptable(self) -> None:
        """Raises JaxtlError where it cannot be read, or may not differ from what the run wrote."""
        if self.remedy:
            self.check_intact()
        try:
            self._load(self.path)
        except JaxtlError as error:
            raise self.mended(error) from None

    def accept(self) -> None:
        """Take it as it stands for what the run wrote."""
        self._folder.manifest.accept(self.name)

    def write(self, value: T) -> None:
        """Write it, whole or not at all. Raises OSError where that cannot be."""
        self._save(self.path, value)

    def write_recorded(self, value: T, step: str, inputs: Mapping[str, str | None]) -> None:
        """Write it so that the manifest knows it as a file of this step, whenever the process is killed."""
        manifest = self._folder.manifest
        with announced(lambda whole: manifest.announce(step, self.name, stamp(whole), inputs)):
            self._save(self.path, value)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def mended(self, error: JaxtlError) -> JaxtlError:
        """An error about this file, with what to do about it."""
        delete = "delete it and " if self.is_there else ""
        remedy = self.remedy or f"{delete}{self._folder.go_on}"
        return JaxtlError(f"{str(error).removesuffix(f'; {MAKE_AGAIN}')}; {remedy}")
