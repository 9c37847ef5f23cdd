"""Images in an .npz file: arrays under the names that such files usually have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.data import splits
from jaxtl.data.request import Loaded, Request
from jaxtl.errors import JaxtlError
from jaxtl.records.dataset import Dataset
from jaxtl.records.files import read_npz
from jaxtl.records.names import readable

# Names of a split's images and labels: MedMNIST's, Keras's.
_PAIRS = (("{}_images", "{}_labels", "{}_ids"), ("x_{}", "y_{}", "ids_{}"))
_IMAGES, _LABELS = ("images", "x", "X"), ("labels", "y", "Y")


def load(path: Path, request: Request) -> Loaded:
    """Read one split of an npz.

    Either `train_images`, `train_labels` and `test_images`, `test_labels` (or val, or x_train, y_train ...),
    or `images` and `labels`, which are divided unless `splits` [n] names the split of each; `class_names` and
    `ids` where there. Images and labels are as of `Dataset.from_arrays`. Images keep the order that the
    arrays have; where they are divided, classes are spread evenly.

    Raises:
        JaxtlError: the file cannot be read, has no such arrays, or holds other things in them.
    """
    arrays, _ = read_npz(path, ())
    request.refuse(f"arrays:{readable(path)}", "image_column", "label_column", "split_column")
    parts, own = _parts(path, arrays)
    chosen = splits.choose(readable(path), list(parts), request.selection) if own else None
    if chosen and chosen.test:
        sides = {"train": parts[chosen.train], "test": parts[chosen.test]}
        origin = {"rule": "splits", "train_split": chosen.train, "test_split": chosen.test}
        notes = list(chosen.notes)
        data = _dataset(
            path, {k: np.concatenate([side[k] for side in sides.values()]) for k in _shared(sides)}, arrays
        )
        count = len(sides["train"]["labels"])
        rows = np.arange(count) if request.split == "train" else np.arange(count, len(data))
    else:
        if own is False:
            request.refuse(f"arrays:{readable(path)}", "train_split", "test_split")
        data = _dataset(path, parts[chosen.train if chosen else ""], arrays)
        is_test = splits.divided(data.labels, _keys(data), request.selection)
        rows = np.flatnonzero(is_test == (request.split == "test"))
        rows = rows[splits.evenly(data.labels[rows])]
        origin, notes = splits.rule_of(request.selection), [splits.told(request.selection)]
    rows = rows[: request.samples]
    ids = None if data.ids is None else data.ids[rows]
    return Loaded(data.images[rows], data.labels[rows], data.class_names, ids, {**origin, "notes": notes})


def _keys(data: Dataset) -> list[str] | None:
    return None if data.ids is None else data.ids.tolist()


def _parts(path: Path, arrays: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], bool]:
    """Arrays `images`, `labels` and, where there, `ids` of each split; and whether the file has splits at
    all."""
    parts: dict[str, dict[str, Any]] = {}
    for split in ("train", "test", "val", "valid", "validation"):
        for names in _PAIRS:
            images, labels, ids = (name.format(split) for name in names)
            if images in arrays and labels in arrays:
                parts[split] = _part(arrays, images, labels, ids)
    if parts:
        return parts, True
    images, labels = (next((name for name in names if name in arrays), None) for names in (_IMAGES, _LABELS))
    if images is None or labels is None:
        raise JaxtlError(
            f"{readable(path)}: has no arrays images and labels, nor train_images and train_labels; it has "
            f"{', '.join(arrays) or 'none'}"
        )
    whole = _part(arrays, images, labels, "ids")
    if "splits" not in arrays:
        return {"": whole}, False
    of_row = arrays["splits"].astype(str)
    if of_row.shape != (len(whole["labels"]),):
        raise JaxtlError(
            f"{readable(path)}: splits must be texts [{len(whole['labels'])}], got {list(of_row.shape)}"
        )
    names = dict.fromkeys(of_row.tolist())
    return {name: {k: array[of_row == name] for k, array in whole.items()} for name in names}, True


def _part(arrays: dict[str, Any], images: str, labels: str, ids: str) -> dict[str, Any]:
    part = {"images": arrays[images], "labels": arrays[labels]}
    return part | ({"ids": arrays[ids]} if ids in arrays else {})


def _shared(sides: dict[str, dict[str, Any]]) -> list[str]:
    train, test = sides["train"], sides["test"]
    return [name for name in train if name in test]


def _dataset(path: Path, part: dict[str, Any], arrays: dict[str, Any]) -> Dataset:
    names = arrays.get("class_names")
    try:
        return Dataset.from_arrays(
            part["images"],
            part["labels"],
            None if names is None else [str(name) for name in names.ravel()],
            ids=part.get("ids"),
            name=f"arrays:{readable(path)}",
        )
    except (JaxtlError, ValueError) as error:
        raise JaxtlError(f"{readable(path)}: {str(error).partition('): ')[2] or error}") from None
