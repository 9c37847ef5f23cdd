"""Labelled images of one split: the record that data sets are read into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxtl.errors import JaxtlError
from jaxtl.records import given, summaries
from jaxtl.records.checks import check_ids, check_labels
from jaxtl.records.names import as_ids
from jaxtl.records.rows import first_rows


@dataclass(frozen=True, repr=False)
class Dataset(summaries.Told):
    """Labelled images of one split.

    Attributes:
        images: uint8 [n, height, width, channels], channels 1 or 3, values 0 to 255; an array, or what is
            indexed like one and makes or reads images when they are asked for (`jaxtl.data.infinite.Digits`,
            `jaxtl.data.files.ImageFiles`).
        labels: int32 [n], each in range(len(class_names)).
        class_names: the name of each class, in label order.
        split: "train" or "test".
        name: as given to `jaxtl.load`, such as "mnist".
        index: int32 [n], the row that each image has in the whole split; 0..n-1 unless it is a selection.
        ids: text [n], what each image is called in its source, such as its file's name; None where the source
            has no names.
        origin: how the images were found: by what rule splits were made, what was left out, and `notes`,
            lines that are worth telling.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    class_names: tuple[str, ...]
    split: str
    name: str
    index: NDArray[np.int32] = None  # type: ignore[assignment]
    ids: NDArray[np.str_] | None = None
    origin: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.index is None:
            object.__setattr__(self, "index", np.arange(len(self.images), dtype=np.int32))
        where = f"dataset {self.name} ({self.split})"
        object.__setattr__(self, "labels", given.as_int32(self.labels))
        if self.images.ndim != 4 or self.images.dtype != np.uint8 or self.images.shape[3] not in (1, 3):
            raise JaxtlError(
                f"{where}: images must be uint8 [n, height, width, 1 or 3], got {self.images.dtype} "
                f"{list(self.images.shape)}"
            )
        if not all(self.images.shape[1:3]):
            raise JaxtlError(f"{where}: images are {list(self.images.shape)}, which have no pixels")
        if len(self.images) == 0:
            raise JaxtlError(f"{where}: holds no images")
        check_labels(where, self.labels, len(self.images))
        if self.labels.max() >= len(self.class_names):
            raise JaxtlError(
                f"{where}: label {self.labels.max()} is out of range for {len(self.class_names)} classes"
            )
        check_ids(where, self.ids, len(self.images))

    def __len__(self) -> int:
        return len(self.images)

    def summary(self) -> summaries.Summary:
        """What is shown of it instead of its arrays."""
        height, width, channels = self.images.shape[1:]
        rows = [
            ("images", f"{len(self):,} of {height} x {width} x {channels}"),
            ("split", self.split),
            *summaries.of_rows(self.class_names, self.ids),
        ]
        return summaries.Summary(f"Dataset {self.name!r}", rows)

    def take(self, n: int) -> Dataset:
        """The first n images. Raises JaxtlError unless 1 <= n <= len(self)."""
        if not 1 <= n <= len(self):
            where = f"dataset {self.name} ({self.split})"
            raise JaxtlError(f"{where}: has {len(self)} images, asked for {n}; take fewer, or all")
        images = first_rows(self.images, n)
        ids = None if self.ids is None else self.ids[:n]
        return replace(self, images=images, labels=self.labels[:n], index=self.index[:n], ids=ids)

    def up_to(self, n: int | None) -> Dataset:
        """The first n images, or all: where there are fewer, or n is None. Raises JaxtlError if n < 1."""
        return self if n is None or n >= len(self) else self.take(n)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth telling of how the images were found, in lines."""
        notes = self.origin.get("notes", ())
        return tuple(notes) if isinstance(notes, list | tuple) else ()

    @classmethod
    def from_arrays(
        cls,
        images: ArrayLike | Sequence[object],
        labels: ArrayLike,
        class_names: Sequence[str] | None = None,
        *,
        split: str = "test",
        name: str = "arrays",
        ids: ArrayLike | None = None,
    ) -> Dataset:
        """Images that you have in memory.

        Args:
            images: uint8 [n, h, w], [n, h, w, 1], [n, h, w, 3] or [n, h, w, 4] (opaque or not, the fourth
                channel is dropped), values 0 to 255; whole numbers of other types within that range are taken
                as well, and a list of Pillow's images of one size.
            labels: [n] or [n, 1]: whole numbers, or names of classes. Numbers may have gaps: 200, 201 and 202
                are three classes.
            class_names: by number, `class_names[label]`, or one for each number that occurs, in order; where
                labels are names, all names in the order that you want. By default numbers or names, sorted.
            split: "train" or "test".
            name: what the set is called.
            ids: [n] texts or numbers, what each image is called.

        Raises:
            JaxtlError: arrays of other shapes, values or lengths; names that do not fit the labels.
        """
        where = f"dataset {name} ({split})"
        pixels = given.pixels(where, given.pictures(where, images))
        numbers, names = given.classes(where, given.as_array(where, "labels", labels), class_names)
        called = None if ids is None else as_ids(given.as_array(where, "ids", ids))
        return cls(pixels, numbers, names, split, name, ids=called)
