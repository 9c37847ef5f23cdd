"""What a source has found, image by image, and how one split of it is read: the same for files of every
kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.data import splits
from jaxtl.data.files import ImageFiles, Reading
from jaxtl.data.inspection import Inspected, inspect, refuse
from jaxtl.data.request import Loaded, Request
from jaxtl.errors import JaxtlError
from jaxtl.progress import counted
from jaxtl.records.names import in_order, numbered, readable


@dataclass(frozen=True)
class Listing:
    """Images of a set that are still encoded, in an order of their own.

    Attributes:
        where: the set, for messages.
        sources: a file, or the encoded image's bytes, of each; anything that is indexed and sliced.
        classes: the class of each, as text.
        ids: what each is called.
        splits: the name of the split of each; None where the set has no splits.
        class_names: all classes in their order, where the set declares one; else they are sorted.
        notes: what is worth telling of how they were found.
    """

    where: str
    sources: Sequence[Path | bytes]
    classes: Sequence[str]
    ids: Sequence[str]
    splits: Sequence[str] | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def read(self, request: Request) -> Loaded:
        """One split, its classes spread evenly, each class in its own order.

        Raises:
            JaxtlError: there are no images or no such split, test images have classes that training images
                lack, images cannot be read, or they differ in size where none is asked for.
        """
        if not len(self.classes):
            raise JaxtlError(f"{self.where}: holds no images")
        classes = np.array([readable(name) for name in self.classes], dtype=object)
        sides, origin = self._divided(classes, request)
        names = self._names(classes, sides)
        notes = [*self.notes, *origin.pop("notes"), *_lacking(classes, sides, names)]
        rows = sides[request.split]
        labels = numbered(classes[rows], names)
        order = splits.evenly(labels)
        rows, labels = rows[order], labels[order]
        inspected = inspect(Rows(self.sources, rows), request.samples, request.selection.skip_bad)
        if inspected.faults and not request.selection.skip_bad:
            self._refuse(rows, inspected, sides["test" if request.split == "train" else "train"])
        left_out = self._left_out(rows, inspected, request)
        if left_out:
            notes.append(_told(left_out, request.split))
        kept = rows[inspected.rows]
        ids = np.array([readable(self.ids[row]) for row in kept], dtype=str)
        origin |= {"left_out": left_out, "notes": notes}
        images = self._images(kept, inspected, request.reading)
        return Loaded(images, labels[inspected.rows], names, ids, origin)

    def _left_out(self, rows: np.ndarray, inspected: Inspected, request: Request) -> list[dict[str, str]]:
        """Images that cannot be read, each with the reason. Raises JaxtlError where all are such."""
        if not inspected.rows:
            row, reason = next(iter(inspected.faults.items()))
            first = f"{readable(self.ids[rows[row]])}: {reason}"
            raise JaxtlError(f"{self.where}: no {request.split} image can be read ({first}); replace them")
        faults = inspected.faults.items()
        return [{"id": readable(self.ids[rows[row]]), "reason": reason} for row, reason in faults]

    def _refuse(self, rows: np.ndarray, inspected: Inspected, others: np.ndarray) -> None:
        """Raises JaxtlError that names what cannot be read, in the other split too: all is found at once."""
        beside = inspect(Rows(self.sources, others), None, skip_bad=True)
        faults = [
            (self._called(some[row]), reason)
            for some, of_split in ((rows, inspected), (others, beside))
            for row, reason in of_split.faults.items()
        ]
        count = len(inspected.rows) + len(beside.rows) + len(faults)
        refuse(self.where, count, faults)

    def _divided(self, classes: np.ndarray, request: Request) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Rows of training and of test images, and how that was decided."""
        selection, known = request.selection, self.splits
        if known is None:
            request.refuse(self.where, "train_split", "test_split")
            chosen, rows = None, np.arange(len(classes))
        else:
            of_row = np.array(known, dtype=object)
            chosen = splits.choose(self.where, list(dict.fromkeys(known)), selection)
            rows = np.flatnonzero(of_row == chosen.train)
            if chosen.test:
                sides = {"train": rows, "test": np.flatnonzero(of_row == chosen.test)}
                rule = {
                    "rule": "splits",
                    "train_split": readable(chosen.train),
                    "test_split": readable(chosen.test),
                }
                return sides, {**rule, "notes": list(chosen.notes)}
        ids = [readable(self.ids[row]) for row in rows]
        is_test = splits.divided(numbered(classes[rows], in_order(classes[rows])), ids, selection)
        if not is_test.any():
            raise JaxtlError(
                f"{self.where}: every class has one image, so none can be set aside for testing; give more"
            )
        notes = [*(chosen.notes if chosen else ()), splits.told(selection)]
        return {"train": rows[~is_test], "test": rows[is_test]}, {**splits.rule_of(selection), "notes": notes}

    def _names(self, classes: np.ndarray, sides: dict[str, np.ndarray]) -> tuple[str, ...]:
        train, test = (set(classes[sides[split]]) for split in ("train", "test"))
        if test - train:
            only = [
                f"only the {split} images have {', '.join(in_order(names))}"
                for split, names in (("training", train - test), ("test", test - train))
                if names
            ]
            raise JaxtlError(f"{self.where}: the splits differ in their classes: {'; '.join(only)}")
        if self.class_names is None:
            return in_order(train)
        declared = [readable(name) for name in self.class_names]
        return tuple(name for name in declared if name in train)

    def _images(self, rows: np.ndarray, inspected: Inspected, reading: Reading) -> ImageFiles:
        if reading.image_size is None and inspected.size is None:
            (h, w, _), first = inspected.kinds[0], 0
            other = next(k for k, kind in enumerate(inspected.kinds) if kind[:2] != (h, w))
            height, width, _ = inspected.kinds[other]
            raise JaxtlError(
                f"{self.where}: images differ in size (height x width: {self._called(rows[first])} {h}x{w}, "
                f"{self._called(rows[other])} {height}x{width}); give image_size"
            )
        sources: Sequence[Path | bytes] = Rows(self.sources, rows)
        if isinstance(self.sources[0], Path):
            sources = tuple(sources)
        return ImageFiles(sources, replace(reading, channels=inspected.channels))

    def _called(self, row: int) -> str:
        """How an image is found by who is to mend it."""
        source = self.sources[row]
        return readable(source) if isinstance(source, Path) else readable(self.ids[row])


@dataclass(frozen=True)
class Rows(Sequence[Any]):
    """Some rows of a sequence, in an order, taken when they are asked for."""

    whole: Sequence[Any]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return Rows(self.whole, self.rows[key])
        return self.whole[int(self.rows[key])]


def _lacking(classes: np.ndarray, sides: dict[str, np.ndarray], names: tuple[str, ...]) -> list[str]:
    """A line for classes of which there is nothing to test with."""
    tested = set(classes[sides["test"]])
    lacking = [name for name in names if name not in tested]
    if not lacking:
        return []
    some = ", ".join(lacking[:5]) + (" ..." if len(lacking) > 5 else "")
    return [f"{len(lacking)} of {len(names)} classes have no test images: {some}"]


def _told(left_out: list[dict[str, str]], split: str) -> str:
    named = ", ".join(f"{image['id']} ({image['reason']})" for image in left_out[:3])
    more = f" and {len(left_out) - 3:,} more" if len(left_out) > 3 else ""
    return f"{counted(len(left_out), f'unreadable {split} image')} left out: {named}{more}"
