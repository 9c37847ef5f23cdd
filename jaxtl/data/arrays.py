"""Images in an .npz file: arrays under the names that such files usually have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jaxtl.data import splits
from jaxtl.data.request import Loaded, Request
from jaxtl.errors import JaxtlError
from jaxtl.records import given
from jaxtl.records.members import Member, members
from jaxtl.records.names import as_ids, readable
from jaxtl.records.rows import IN_MEMORY, StoredRows

# Names of a split's images and labels: MedMNIST's, Keras's.
_TRIPLES = (("{}_images", "{}_labels", "{}_ids"), ("x_{}", "y_{}", "ids_{}"))
_IMAGES, _LABELS = ("images", "x", "X"), ("labels", "y", "Y")


@dataclass(frozen=True)
class _Part:
    """One split as the file has it: images still in the file, and which rows of them; labels and ids."""

    images: Member
    rows: np.ndarray
    labels: np.ndarray
    ids: np.ndarray | None

    def of(self, chosen: np.ndarray) -> _Part:
        """Some of its images, by their places in it."""
        ids = None if self.ids is None else self.ids[chosen]
        return replace(self, rows=self.rows[chosen], labels=self.labels[chosen], ids=ids)


def load(path: Path, request: Request) -> Loaded:
    """Read one split of an npz.

    Either `train_images`, `train_labels` and `test_images`, `test_labels` (or val, or x_train, y_train ...),
    or `images` and `labels`, which are divided unless `splits` [n] names the split of each; `class_names` and
    `ids` where there. Images and labels are as of `Dataset.from_arrays`. Images keep the order that the
    arrays have; where they are divided, classes are spread evenly. Only the images asked for are kept, in a
    file without a name where they take more than 1 GiB.

    Raises:
        JaxtlError: the file cannot be read, has no such arrays, or holds other things in them.
    """
    where, arrays = readable(path), members(path)
    request.refuse(f"arrays:{where}", "image_column", "label_column", "split_column")
    parts = _parts(where, arrays)
    whole = parts.get("")
    if whole:
        request.refuse(f"arrays:{where}", "train_split", "test_split")
    chosen = None if whole else splits.choose(where, list(parts), request.selection)
    notes = list(chosen.notes) if chosen else []
    if chosen and chosen.test:
        parts, names = _numbered(where, {"train": parts[chosen.train], "test": parts[chosen.test]}, arrays)
        part = parts[request.split]
        origin = {"rule": "splits", "train_split": chosen.train, "test_split": chosen.test}
    else:
        both, names = _numbered(where, {"": whole or parts[chosen.train if chosen else ""]}, arrays)
        part = both[""]
        keys = None if part.ids is None else part.ids.tolist()
        is_test = splits.divided(part.labels, keys, request.selection)
        rows = np.flatnonzero(is_test == (request.split == "test"))
        part = part.of(rows[splits.evenly(part.labels[rows])])
        origin = splits.rule_of(request.selection)
        notes.append(splits.told(request.selection))
    part = part.of(np.arange(len(part.rows))[: request.samples])
    images = _pixels(where, part.images, part.rows)
    return Loaded(images, part.labels, names, part.ids, {**origin, "notes": notes})


def _parts(where: str, arrays: Mapping[str, Member]) -> dict[str, _Part]:
    """Each split of the file by its name; under "" what is not divided."""
    parts = {}
    for split in ("train", "test", "val", "valid", "validation"):
        for triple in _TRIPLES:
            images, labels, ids = (name.format(split) for name in triple)
            if images in arrays and labels in arrays:
                parts[split] = _part(where, arrays, images, labels, ids)
    if parts:
        return parts
    images, labels = (next((name for name in names if name in arrays), None) for names in (_IMAGES, _LABELS))
    if images is None or labels is None:
        raise JaxtlError(
            f"{where}: has no arrays images and labels, nor train_images and train_labels; it has "
            f"{', '.join(arrays) or 'none'}"
        )
    whole = _part(where, arrays, images, labels, "ids")
    if "splits" not in arrays:
        return {"": whole}
    of_row = as_ids(_read(where, arrays["splits"], "iuUS"))
    if of_row.shape != whole.rows.shape:
        raise JaxtlError(f"{where}: splits must be texts [{len(whole.rows)}], got {list(of_row.shape)}")
    return {name: whole.of(np.flatnonzero(of_row == name)) for name in dict.fromkeys(of_row.tolist())}


def _part(where: str, arrays: Mapping[str, Member], images: str, labels: str, ids: str) -> _Part:
    pixels, numbers = arrays[images], _read(where, arrays[labels], "iufbUS")
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers[:, 0]
    given.check_pixels(where, pixels.shape, pixels.dtype)
    pixels.check()
    called = as_ids(_read(where, arrays[ids], "iuUS")) if ids in arrays else None
    for name, array in ((labels, numbers), (ids, called)):
        if array is not None and array.shape[:1] != pixels.shape[:1]:
            raise JaxtlError(
                f"{where}: {images} has {pixels.shape[0]:,} images, and {name} is {list(array.shape)}; "
                "give one for each image"
            )
    return _Part(pixels, np.arange(pixels.shape[0]), numbers, called)


def _read(where: str, member: Member, kinds: str) -> np.ndarray:
    """An array of texts, or of what may stand for them."""
    member.check()
    if member.dtype.kind not in kinds:
        raise JaxtlError(f"{where}: {member.name} must be texts, got {member.dtype} {list(member.shape)}")
    array = member.read()
    return np.char.decode(array, "utf-8", "backslashreplace") if array.dtype.kind == "S" else array


def _numbered(
    where: str, parts: Mapping[str, _Part], arrays: Mapping[str, Member]
) -> tuple[dict[str, _Part], tuple[str, ...]]:
    """Parts whose labels are int32 and mean the same classes in all, and the names of these."""
    names = None
    if "class_names" in arrays:
        names = _read(where, arrays["class_names"], "iufbUS").ravel().astype(str).tolist()
    together = np.concatenate([part.labels for part in parts.values()])
    numbers, known = given.classes(where, together, names)
    edges = np.cumsum([len(part.rows) for part in parts.values()])[:-1]
    pieces = zip(parts.items(), np.split(numbers, edges), strict=True)
    return {name: replace(part, labels=own) for (name, part), own in pieces}, known


def _pixels(where: str, images: Member, rows: np.ndarray) -> np.ndarray | StoredRows:
    """These rows of a file's images, in this order: uint8 [n, h, w, 1 or 3]."""
    example = given.pixels(where, np.empty((0, *images.shape[1:]), images.dtype))
    shape = (len(rows), *example.shape[1:])
    is_large = math.prod(shape) > IN_MEMORY
    chosen = StoredRows.empty(shape, np.uint8) if is_large else np.empty(shape, np.uint8)
    place = np.full(images.shape[0], -1)
    place[rows] = np.arange(len(rows))
    for start, piece in images.pieces():
        wanted = np.flatnonzero(place[start : start + len(piece)] >= 0)
        if len(wanted):
            _put(chosen, place[start + wanted], given.pixels(where, piece[wanted]))
    return chosen


def _put(chosen: np.ndarray | StoredRows, places: np.ndarray, pixels: np.ndarray) -> None:
    if isinstance(chosen, np.ndarray):
        chosen[places] = pixels
        return
    for place, image in zip(places, pixels, strict=True):
        chosen.write(int(place), image)
