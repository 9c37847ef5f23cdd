"""What a run's images were read as, as its folder records it, and whether they are the same now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.data.files import ImageFiles
from jaxtl.data.resize import resize_image
from jaxtl.errors import JaxtlError
from jaxtl.machine import cores
from jaxtl.records.dataset import Dataset
from jaxtl.records.rows import StoredRows

_CONTENTS, _SHOWN = "contents", "shown"
# Images that are hashed at a time.
_PIECE = 256
# Images of an array whose pixels are looked at.
_LOOKED_AT = 16
# Bytes of images given in Python that a run keeps at their own size, and the side to which larger ones
# shrink.
_KEPT, _SMALL = 2**28, 64


def recorded(train: Dataset, test: Dataset, sample: Dataset) -> dict[str, Any]:
    """The record of both splits: how many images, classes and names, by what rule, and what was left out.

    `sample`: the test images that are embedded.
    """
    shown = {"images": len(sample), _CONTENTS: contents(sample)}
    return {"class_names": list(test.class_names), "train": _of(train), "test": _of(test), _SHOWN: shown}


def _of(dataset: Dataset) -> dict[str, Any]:
    known = {"digest": digest(dataset), _CONTENTS: contents(dataset)}
    return {"images": len(dataset), **dataset.origin, **known}


def contents(dataset: Dataset) -> str:
    """SHA-256 over all that a run reads of a split: labels, names of classes and images, and the images in
    their order: pixels of arrays; of what is encoded, the bytes of every file.

    Images that are made when they are asked for follow from the set's name, and a few of them are looked at.
    """
    total = hashlib.sha256(digest(dataset).encode())
    images = dataset.images
    if isinstance(images, ImageFiles):
        rows = [range(start, min(start + _PIECE, len(images))) for start in range(0, len(images), _PIECE)]
        for piece in cores.share(lambda some: _of_files([images.paths[row] for row in some]), rows):
            total.update(piece)
    elif isinstance(images, np.ndarray | StoredRows):
        total.update(repr(images.shape).encode())
        for start in range(0, len(images), _PIECE):
            total.update(np.ascontiguousarray(images[start : start + _PIECE]).data)
    else:
        total.update(images[_looked_at(dataset)].tobytes())
    return total.hexdigest()


def _of_files(sources: Sequence[Path | bytes]) -> bytes:
    """The SHA-256 of each, one behind the other."""
    # One at a time: together, encoded photos may be more than memory holds.
    return b"".join(
        hashlib.sha256(source if isinstance(source, bytes) else source.read_bytes()).digest()
        for source in sources
    )


def _looked_at(dataset: Dataset) -> np.ndarray:
    return np.linspace(0, len(dataset) - 1, _LOOKED_AT).astype(int)


def digest(dataset: Dataset) -> str:
    """What runs were told by before there was `contents`: labels, names, and of arrays some pixels."""
    total = hashlib.sha256(np.ascontiguousarray(dataset.labels, "<i4").tobytes())
    for names in (dataset.class_names, () if dataset.ids is None else dataset.ids.tolist()):
        total.update("\n".join((*names, "")).encode())
    if isinstance(dataset.images, np.ndarray):
        total.update(np.ascontiguousarray(dataset.images[_looked_at(dataset)]).tobytes())
    return total.hexdigest()


def soon_told(dataset: Dataset) -> str:
    """As `contents`, for many processes each of which would read all images: of those in files, or on disk,
    labels, names and sizes have to do.
    """
    if isinstance(dataset.images, np.ndarray):
        return contents(dataset)
    total = hashlib.sha256(digest(dataset).encode())
    for source in dataset.images.paths if isinstance(dataset.images, ImageFiles) else ():
        if not isinstance(source, Path):
            break  # in a table, which would be read as a whole
        total.update(source.stat().st_size.to_bytes(8))
    return total.hexdigest()


def check_same(record: Mapping[str, Any], dataset: Dataset) -> None:
    """Raises JaxtlError where a split is no longer what a run's record says that it was."""
    known = record.get(dataset.split)
    if not known or _is_same(known, dataset):
        return
    had, has = known.get("images"), len(dataset)
    what = (
        f"{has:,} {dataset.split} images where there were {had:,}"
        if had and has != had
        else "other images or names"
    )
    raise JaxtlError(
        f"dataset {dataset.name}: holds {what} when the run began; restore them, or start another run"
    )


def _is_same(known: Mapping[str, Any], dataset: Dataset) -> bool:
    if _CONTENTS in known:
        return bool(known[_CONTENTS] == contents(dataset))
    return bool(known.get("digest") == digest(dataset))


def are_shown(record: Mapping[str, Any], images: Dataset) -> bool:
    """Whether these are the images that a run embedded, as far as its record tells."""
    known = record.get(_SHOWN)
    return not known or _is_same(known, images)


def identities(record: Mapping[str, Any]) -> dict[str, str]:
    """Of each split that a record has, what tells its contents from any others."""
    known = {split: (record.get(split) or {}).get(_CONTENTS) for split in ("train", "test")}
    return {split: text for split, text in known.items() if isinstance(text, str)}


def expected(known: Mapping[str, str]) -> dict[str, Any]:
    """The record that follows from such identities, where the record itself is lost."""
    return {split: {_CONTENTS: text} for split, text in known.items()}


def points(record: Mapping[str, Any], samples: int | None) -> int | None:
    """How many images are embedded, of at most `samples`; None where the record does not tell."""
    count = (record.get("test") or {}).get("images")
    if not isinstance(count, int) or count < 1:
        return None
    return min(count, samples or count)


def kept(images: Any) -> np.ndarray:
    """Images for the page and the exports of a run, uint8: as they are, or smaller where they are many."""
    if images.nbytes <= _KEPT or max(images.shape[1:3]) <= _SMALL:
        return np.asarray(images)
    return np.stack([resize_image(image, _SMALL) for image in images])
