"""Where a training was stopped, and what it goes on from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.records.arrays import Pathlike
from jaxtl.records.documents import brief, list_of, or_none, plain, real, record_of
from jaxtl.records.files import MAKE_AGAIN, read_npz, remove_leftovers, write_npz
from jaxtl.records.tables import HISTORY_COLUMNS

# Among the settings of a checkpoint, what tells a split's images from any others.
_OF_IMAGES = "{} images"
# A loss may be infinite where training went astray.
_ROW = dict.fromkeys(HISTORY_COLUMNS, real)
_META = record_of({"history": list_of(record_of(_ROW))}, {"settings": or_none(record_of({}, others=plain))})


class Checkpoint(NamedTuple):
    """Training after some epochs: arrays of its State in tree order, and the history so far.

    `settings`: with which it was begun, where no other file says so.
    """

    leaves: list[np.ndarray]
    history: list[dict[str, float]]
    settings: Mapping[str, Any] | None = None

    def save(self, path: Pathlike) -> None:
        arrays = {f"leaf_{number:04d}": leaf for number, leaf in enumerate(self.leaves)}
        settings = {} if self.settings is None else {"settings": dict(self.settings)}
        write_npz(path, arrays, {"history": self.history, **settings})

    @classmethod
    def load(cls, path: Pathlike) -> Checkpoint:
        arrays, meta = read_npz(path, ("leaf_0000",), lambda name: name.startswith("leaf_"))
        if fault := _META(meta):
            raise JaxtlError(f"{path}: not where a training stopped (it {fault}); {MAKE_AGAIN}")
        for name, leaf in arrays.items():
            if leaf.dtype.kind not in "fiu":
                raise JaxtlError(f"{path}: array {name} holds {leaf.dtype}, no numbers; {MAKE_AGAIN}")
        return cls([arrays[name] for name in sorted(arrays)], meta["history"], meta.get("settings"))

    def digest(self) -> str:
        """SHA-256 of the arrays."""
        total = hashlib.sha256()
        for leaf in self.leaves:
            total.update(np.ascontiguousarray(leaf).data)
        return total.hexdigest()


@dataclass(frozen=True)
class Unfinished:
    """A training that is gone on with where it was stopped, by a file beside the one that it will write.

    Attributes:
        path: of the file, which is there from the end of the first epoch to that of the last.
        settings: all that the training's result depends on but the images, by name; what JSON can hold.
        images: gives what tells each split's images from any others, by the split's name; called as late as
            can be, since it may take as long as reading all of them.
    """

    path: Path
    settings: Mapping[str, Any]
    images: Callable[[], Mapping[str, str]] = dict

    def checkpoint(self) -> Checkpoint | None:
        """Where it was stopped; None where it is to begin.

        Raises JaxtlError where the file is of a training with other settings, or is none of a training.
        """
        if not self.path.exists():
            return None
        remedy = "delete it, or give another --out"
        try:
            checkpoint = Checkpoint.load(self.path)
        except JaxtlError as error:
            raise JaxtlError(f"{str(error).removesuffix(MAKE_AGAIN)}{remedy}") from None
        begun = checkpoint.settings or {}
        for name, value in self.settings.items():
            if begun.get(name) != value:
                was = f"{brief(begun.get(name))}, not {brief(value)}"
                raise JaxtlError(f"{self.path}: its training was begun with {name} {was}; {remedy}")
        for split, told in self.images().items():
            if begun.get(_OF_IMAGES.format(split)) != told:
                raise JaxtlError(
                    f"{self.path}: the {split} images are others than when its training was begun; restore "
                    f"them, {remedy}"
                )
        return checkpoint

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write what training can go on from. Raises OSError where it cannot be written."""
        remove_leftovers(self.path)
        images = {_OF_IMAGES.format(split): told for split, told in self.images().items()}
        checkpoint._replace(settings={**self.settings, **images}).save(self.path)

    def remove(self) -> None:
        """Once the training's result is written."""
        self.path.unlink(missing_ok=True)
        remove_leftovers(self.path)


def path_beside(weights: Path) -> Path:
    """Where a training that is to write this file of weights keeps what it can go on from."""
    return weights.with_suffix(".checkpoint.npz")
