"""Arrays that somebody gives, brought into the form that a `Dataset` has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.records.names import in_order, readable


def pixels(where: str, images: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 1 or 3]."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3, 4):
        raise JaxtlError(
            f"{where}: images are {list(images.shape)}, channels first; give numpy.moveaxis(images, 1, 3)"
        )
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4):
        raise JaxtlError(
            f"{where}: images must be [n, height, width] or [n, height, width, 1, 3 or 4], got "
            f"{list(images.shape)}"
        )
    if images.dtype.kind not in "iu":
        hint = "; multiply by 255 and round what lies in 0 to 1" if images.dtype.kind == "f" else ""
        raise JaxtlError(f"{where}: images must be whole numbers 0 to 255 (uint8), got {images.dtype}{hint}")
    if images.dtype != np.uint8 and images.size and not 0 <= images.min() <= images.max() <= 255:
        raise JaxtlError(f"{where}: images must be 0 to 255, got {images.min()} to {images.max()}")
    images = images[..., :3] if images.shape[3] == 4 else images
    return np.ascontiguousarray(images.astype(np.uint8, copy=False))


def classes(
    where: str, labels: np.ndarray, class_names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels int32 [n] without gaps, and the names of the classes."""
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or labels.dtype.kind not in "iuUbO":
        raise JaxtlError(
            f"{where}: labels must be whole numbers or names [n], got {labels.dtype} {list(labels.shape)}"
        )
    if labels.dtype.kind in "UO":
        return _named_classes(where, [readable(str(label)) for label in labels], class_names)
    different, numbers = np.unique(labels.astype(np.int64), return_inverse=True)
    numbers = numbers.astype(np.int32)
    if class_names is None:
        return numbers, tuple(str(label) for label in different)
    names = tuple(readable(str(name)) for name in class_names)
    if len(different) and different[0] >= 0 and different[-1] < len(names):
        return labels.astype(np.int32), names
    if len(names) != len(different):
        raise JaxtlError(
            f"{where}: {len(names)} class_names for labels from {different[0]} to {different[-1]}; give one "
            f"for each number up to the largest, or for each of the {len(different)} that occur"
        )
    return numbers, names


def _named_classes(
    where: str, labels: list[str], class_names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    names = in_order(labels) if class_names is None else tuple(readable(str(name)) for name in class_names)
    place = {name: k for k, name in enumerate(names)}
    unknown = sorted(set(labels) - set(place))
    if unknown:
        raise JaxtlError(f"{where}: class_names lack {', '.join(unknown[:5])}, which occur in the labels")
    return np.array([place[label] for label in labels], np.int32), names
