"""Arrays that somebody gives, or a file holds, brought into the form that records have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxtl.errors import JaxtlError
from jaxtl.records.names import as_ids, in_order, readable

_INT32 = np.iinfo(np.int32)
# Numbers of classes that have no names: with more than these, and than there are rows, most stand for no
# class, and a record of few rows would name millions of them.
_MOST_NUMBERS = 2**16


def pixels(where: str, images: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 1 or 3]. Raises JaxtlError for arrays that are no images."""
    check_pixels(where, images.shape, images.dtype)
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 and images.size and not 0 <= images.min() <= images.max() <= 255:
        raise JaxtlError(f"{where}: images must be 0 to 255, got {images.min()} to {images.max()}")
    images = images[..., :3] if images.shape[3] == 4 else images
    return np.ascontiguousarray(images.astype(np.uint8, copy=False))


def check_pixels(where: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raises JaxtlError unless it is whole numbers [n, h, w] or [n, h, w, 1, 3 or 4], h and w 1 or more."""
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3, 4):
        raise JaxtlError(
            f"{where}: images are {list(shape)}, channels first; give numpy.moveaxis(images, 1, 3)"
        )
    if len(shape) != 3 and (len(shape) != 4 or shape[3] not in (1, 3, 4)):
        raise JaxtlError(
            f"{where}: images must be [n, height, width] or [n, height, width, 1, 3 or 4], got {list(shape)}"
        )
    if not all(shape[1:3]):
        raise JaxtlError(
            f"{where}: images are {list(shape)}, which have no pixels; give some of at least 1x1"
        )
    if dtype.kind not in "iu":
        hint = (
            '; give numpy.rint(images).astype("uint8") of what lies in 0 to 255, '
            'numpy.rint(images * 255).astype("uint8") of what lies in 0 to 1'
        )
        hint = hint if dtype.kind == "f" else ""
        raise JaxtlError(f"{where}: images must be whole numbers 0 to 255 (uint8), got {dtype}{hint}")


def pictures(where: str, images: Any) -> np.ndarray:
    """Images of any library, or Pillow's, as an array; those of Pillow's become RGB, or gray where all are.

    Raises JaxtlError where they are of different sizes, or of pixels that are not of 8 bits.
    """
    if not isinstance(images, list | tuple) or not all(hasattr(image, "getbands") for image in images):
        return as_array(where, "images", images)
    if deep := {image.mode for image in images if image.mode[0] in "IF"}:
        raise JaxtlError(
            f"{where}: images of Pillow's mode {deep.pop()}; give such with 8 bits a channel, L or RGB"
        )
    sizes = list(dict.fromkeys(image.size for image in images))
    if len(sizes) > 1:
        told = " and ".join(f"{height}x{width}" for width, height in sizes[:2])
        raise JaxtlError(
            f"{where}: images differ in size ({told}, height x width); resize them, or give their folder"
        )
    mode = "L" if all(image.mode in ("1", "L", "LA") for image in images) else "RGB"
    return np.stack([np.asarray(image.convert(mode)) for image in images]) if images else np.empty(0)


def missing(labels: np.ndarray) -> int:
    """How many of labels that are Python's objects are None, NaN, or what pandas has in their place."""
    return sum(
        label is None or type(label).__name__ in ("NAType", "NaTType") or label != label
        for label in labels.ravel().tolist()
    )


def classes(
    where: str, labels: np.ndarray, class_names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels int32 [n] without gaps, and the names of the classes."""
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or labels.dtype.kind not in "iuUbOT":
        hint = "; of one-hot rows give labels.argmax(1)" if labels.ndim == 2 else ""
        told = f"{labels.dtype} {list(labels.shape)}{hint}"
        raise JaxtlError(f"{where}: labels must be whole numbers or names [n], got {told}")
    if labels.dtype.kind == "O" and (count := missing(labels)):
        raise JaxtlError(f"{where}: {count} labels are missing; fill them in, or leave these images out")
    if labels.dtype.kind in "UOT":
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


def as_array(where: str, name: str, values: ArrayLike) -> np.ndarray:
    """An array of whatever library, or lists, as NumPy's; one that is one already is not touched.

    Raises JaxtlError where it is none, such as rows of different lengths, a tensor on a GPU, a sparse matrix
    or an array with masked values.
    """
    if type(values) in (np.ndarray, np.memmap):
        return values
    if np.ma.is_masked(values):
        fault = f"{name} has masked values; give what they are, or drop their rows"
        raise JaxtlError(f"{where}: {fault}")
    try:
        # Of a subclass, such as a matrix, whose products are others, the plain array.
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        fault = f"{name} cannot be read as an array ({reason}); give a NumPy array"
        raise JaxtlError(f"{where}: {fault}") from None
    if array.ndim == 0 and array.dtype.kind in "OU":
        kind = type(values).__name__
        raise JaxtlError(f"{where}: {name} must be an array, got {kind}; give its values, or load the file")
    return array


def as_float32(where: str, name: str, values: ArrayLike) -> np.ndarray:
    """Real numbers of any kind as float32, others as they are, for the record to refuse."""
    array = as_array(where, name, values)
    # A kind that NumPy does not know; it is ml_dtypes', which JAX has.
    is_real = array.dtype.kind in "fiu" or array.dtype.name == "bfloat16"
    if array.dtype == np.float32 or not is_real:
        return array
    # What is beyond the range becomes infinite, for who uses it to find.
    with np.errstate(over="ignore"):
        return array.astype(np.float32, order="C")


def as_int32(values: ArrayLike) -> np.ndarray:
    """Whole numbers of any kind that fit as int32, others as they are, for the record to refuse."""
    array = as_array("records", "whole numbers", values)
    fits = not array.size or (
        array.dtype.kind in "iu" and _INT32.min <= array.min() and array.max() <= _INT32.max
    )
    return array.astype(np.int32, copy=False) if fits and array.dtype.kind in "iu" else array


def as_texts(ids: ArrayLike | None) -> np.ndarray | None:
    """Texts as NumPy has them, others as they are, for the record to refuse."""
    if ids is None:
        return None
    array = as_array("records", "ids", ids)
    if array.dtype.kind == "U" and isinstance(ids, np.ndarray):
        return array
    is_text = array.dtype.kind == "U" or all(isinstance(name, str) for name in array.ravel().tolist())
    return as_ids(array) if is_text else array


def numbered(where: str, labels: ArrayLike, class_names: object) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels by number, and the names of the classes where the labels were names; else, as a rule, no names.

    Numbers far apart, of classes that have no names, are numbered anew, and are then their classes' names.

    Raises JaxtlError for names that are not among the class names.
    """
    array = as_array(where, "labels", labels)
    texts = array.dtype.kind in "UT" or (
        array.dtype.kind == "O" and all(isinstance(label, str) for label in array.ravel().tolist())
    )
    if not texts or not array.size:
        numbers = as_int32(array)
        are_apart = not class_names and numbers.ndim == 1 and _are_far_apart(numbers)
        return classes(where, numbers, None) if are_apart else (numbers, ())
    names = class_names if isinstance(class_names, list | tuple) else None
    return classes(where, array.astype(str), names)


def _are_far_apart(labels: np.ndarray) -> bool:
    most = max(_MOST_NUMBERS, len(labels))
    return labels.dtype == np.int32 and labels.size > 0 and labels.min() >= 0 and bool(labels.max() >= most)


def reals(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Real numbers of a file as float32; those beyond its range become infinite, for users to find."""
    with np.errstate(over="ignore"):
        return arrays[name].astype(np.float32, order="C")


def integers(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Whole numbers of a file as int32. Raises JaxtlError for numbers that do not fit."""
    array = arrays[name]
    if array.size and (array.min() < _INT32.min or array.max() > _INT32.max):
        raise JaxtlError(f"array {name} holds values beyond 32 bits, from {array.min()} to {array.max()}")
    return array.astype(np.int32)
