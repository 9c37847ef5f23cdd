"""What a run's images were read as, as its folder records it, and whether they are the same now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxtl.data.resize import resize_image
from jaxtl.errors import JaxtlError
from jaxtl.records.dataset import Dataset

# Images of an array whose pixels are looked at.
_LOOKED_AT = 16
# Bytes of images given in Python that a run keeps at their own size, and the side to which larger ones
# shrink.
_KEPT, _SMALL = 2**28, 64


def recorded(train: Dataset, test: Dataset) -> dict[str, Any]:
    """The record of both splits: how many images, classes and names, by what rule, and what was left out."""
    return {"class_names": list(test.class_names), "train": _of(train), "test": _of(test)}


def _of(dataset: Dataset) -> dict[str, Any]:
    return {"images": len(dataset), **dataset.origin, "digest": digest(dataset)}


def digest(dataset: Dataset) -> str:
    """What tells one set from another: labels, names, and of arrays some pixels."""
    total = hashlib.sha256(np.ascontiguousarray(dataset.labels, "<i4").tobytes())
    for names in (dataset.class_names, () if dataset.ids is None else dataset.ids.tolist()):
        total.update("\n".join((*names, "")).encode())
    if isinstance(dataset.images, np.ndarray):
        rows = np.linspace(0, len(dataset) - 1, _LOOKED_AT).astype(int)
        total.update(np.ascontiguousarray(dataset.images[rows]).tobytes())
    return total.hexdigest()


def check_same(record: Mapping[str, Any], dataset: Dataset) -> None:
    """Raises JaxtlError where a split is no longer what a run's record says that it was."""
    known = record.get(dataset.split)
    if not known or known.get("digest") == digest(dataset):
        return
    had, has = known.get("images"), len(dataset)
    what = (
        f"{has:,} {dataset.split} images where there were {had:,}" if has != had else "other images or names"
    )
    raise JaxtlError(
        f"dataset {dataset.name}: holds {what} when the run began; restore them, or start another run"
    )


def kept(images: Any) -> np.ndarray:
    """Images for the page and the exports of a run, uint8: as they are, or smaller where they are many."""
    if images.nbytes <= _KEPT or max(images.shape[1:3]) <= _SMALL:
        return np.asarray(images)
    return np.stack([resize_image(image, _SMALL) for image in images])
