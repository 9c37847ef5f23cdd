"""The data that flows through jaxtl: small frozen records, their checks, and their files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxtl.errors import JaxtlError
from jaxtl.records import given
from jaxtl.records.files import MAKE_AGAIN, read_npz, write_npz
from jaxtl.records.names import as_ids
from jaxtl.records.rows import first_rows

Pathlike = str | os.PathLike[str]


@dataclass(frozen=True)
class Dataset:
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
        if self.images.ndim != 4 or self.images.dtype != np.uint8 or self.images.shape[3] not in (1, 3):
            raise JaxtlError(
                f"{where}: images must be uint8 [n, height, width, 1 or 3], got {self.images.dtype} "
                f"{list(self.images.shape)}"
            )
        if len(self.images) == 0:
            raise JaxtlError(f"{where}: holds no images")
        _check_labels(where, self.labels, len(self.images))
        if self.labels.max() >= len(self.class_names):
            raise JaxtlError(
                f"{where}: label {self.labels.max()} is out of range for {len(self.class_names)} classes"
            )
        _check_ids(where, self.ids, len(self.images))

    def __len__(self) -> int:
        return len(self.images)

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
        images: ArrayLike,
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
                as well.
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
        pixels = given.pixels(where, np.asarray(images))
        numbers, names = given.classes(where, np.asarray(labels), class_names)
        called = None if ids is None else as_ids(np.asarray(ids))
        return cls(pixels, numbers, names, split, name, ids=called)


@dataclass(frozen=True)
class Features:
    """What a network makes of images.

    Attributes:
        values: float32 [n, d], finite or not: who uses them checks.
        labels: int32 [n]; None where nobody knows the classes, and then what needs them is left out.
        index: int32 [n], row of each image in its dataset's split.
        meta: model, layer, weights digest, dataset, split, class_names, preprocessing, image_size.
        ids: text [n], as of `Dataset`, or None.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int32] | None
    index: NDArray[np.int32]
    meta: dict[str, object] = field(default_factory=dict)
    ids: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            raise JaxtlError(
                f"features: values must be float32 [n, d], got {self.values.dtype} {list(self.values.shape)}"
            )
        _check_rows("features", self)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order; those of numbers where the classes have no names, none without labels."""
        return _class_names(self.meta, self.labels)

    def save(self, path: Pathlike) -> None:
        arrays = {"values": self.values, **_if_there("labels", self.labels), "index": self.index}
        write_npz(path, arrays | _if_there("ids", self.ids), self.meta)

    @classmethod
    def load(cls, path: Pathlike) -> Features:
        """Read `values` (any real dtype) and, where there, `labels`, `index` (int) and `ids` from an npz."""
        arrays, meta = read_npz(path, ("values",))
        arrays.setdefault("index", np.arange(arrays["values"].shape[0] if arrays["values"].ndim else 0))
        with _located(path):
            return cls(
                _reals(arrays, "values"),
                _labels(arrays),
                _integers(arrays, "index"),
                meta,
                arrays.get("ids"),
            )


@dataclass(frozen=True)
class Neighbors:
    """The k nearest neighbours of every point, nearest first, the point itself left out by its index.

    Attributes:
        indices: int32 [n, k].
        distances: float32 [n, k], Euclidean.
    """

    indices: NDArray[np.int32]
    distances: NDArray[np.float32]

    def save(self, path: Pathlike) -> None:
        write_npz(path, {"indices": self.indices, "distances": self.distances}, {})

    @classmethod
    def load(cls, path: Pathlike) -> Neighbors:
        """Read `indices` (int) and `distances` (any real dtype), both [n, k], from an npz."""
        arrays, _ = read_npz(path, ("indices", "distances"))
        with _located(path):
            indices, distances = _integers(arrays, "indices"), _reals(arrays, "distances")
            if indices.ndim != 2 or indices.shape != distances.shape:
                raise JaxtlError(
                    f"neighbours: indices and distances must be [n, k], got {list(indices.shape)} and "
                    f"{list(distances.shape)}"
                )
            if indices.size and not 0 <= indices.min() <= indices.max() < len(indices):
                raise JaxtlError(f"neighbours: indices must be 0 to {len(indices) - 1}")
            return cls(indices, distances)


@dataclass(frozen=True)
class Embedding:
    """Features in two dimensions: coordinates, and how they were made.

    Attributes:
        coords: float32 [n, 2], finite.
        labels: int32 [n], or None, as of `Features`.
        index: int32 [n], row of each image in its dataset's split.
        method: "pca", "tsne" or "lle".
        backend: the library that computed it, such as "sklearn".
        params: every parameter as the library used it.
        diagnostics: what the library says of the result, such as `kl_divergence`.
        meta: the features' own meta.
        ids: text [n], as of `Dataset`, or None.
    """

    coords: NDArray[np.float32]
    labels: NDArray[np.int32] | None
    index: NDArray[np.int32]
    method: str
    backend: str
    params: dict[str, object]
    diagnostics: dict[str, object] = field(default_factory=dict)
    meta: dict[str, object] = field(default_factory=dict)
    ids: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        if self.coords.ndim != 2 or self.coords.shape[1] != 2 or self.coords.dtype != np.float32:
            raise JaxtlError(
                f"embedding: coords must be float32 [n, 2], got {self.coords.dtype} {list(self.coords.shape)}"
            )
        if not np.isfinite(self.coords).all():
            raise JaxtlError("embedding: coords hold NaN or infinite values")
        _check_rows("embedding", self)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order; those of numbers where the classes have no names, none without labels."""
        return _class_names(self.meta, self.labels)

    def save(self, path: Pathlike) -> None:
        record = {
            "method": self.method,
            "backend": self.backend,
            "params": self.params,
            "diagnostics": self.diagnostics,
            "features": self.meta,
        }
        arrays = {"coords": self.coords, **_if_there("labels", self.labels), "index": self.index}
        write_npz(path, arrays | _if_there("ids", self.ids), record)

    @classmethod
    def load(cls, path: Pathlike) -> Embedding:
        arrays, meta = read_npz(path, ("coords", "index"))
        with _located(path):
            return cls(
                _reals(arrays, "coords"),
                _labels(arrays),
                _integers(arrays, "index"),
                _of_meta(meta, "method", "unknown"),
                _of_meta(meta, "backend", "unknown"),
                _of_meta(meta, "params", {}),
                _of_meta(meta, "diagnostics", {}),
                _of_meta(meta, "features", {}),
                arrays.get("ids"),
            )


def _check_labels(where: str, labels: np.ndarray, n: int) -> None:
    if labels.shape != (n,) or labels.dtype != np.int32:
        raise JaxtlError(f"{where}: labels must be int32 [{n}], got {labels.dtype} {list(labels.shape)}")
    if n and labels.min() < 0:
        raise JaxtlError(f"{where}: labels must not be negative, found {labels.min()}")


def _check_ids(where: str, ids: np.ndarray | None, n: int) -> None:
    if ids is not None and (ids.shape != (n,) or ids.dtype.kind != "U"):
        raise JaxtlError(f"{where}: ids must be texts [{n}], got {ids.dtype} {list(ids.shape)}")


def _if_there(name: str, array: np.ndarray | None) -> dict[str, np.ndarray]:
    return {} if array is None else {name: array}


def _labels(arrays: dict[str, np.ndarray]) -> np.ndarray | None:
    return _integers(arrays, "labels") if "labels" in arrays else None


def _check_rows(where: str, record: Features | Embedding) -> None:
    n = len(record.values if isinstance(record, Features) else record.coords)
    if n == 0:
        raise JaxtlError(f"{where}: holds no rows")
    if record.labels is not None:
        _check_labels(where, record.labels, n)
    _check_ids(where, record.ids, n)
    if record.index.shape != (n,) or record.index.dtype != np.int32:
        raise JaxtlError(
            f"{where}: index must be int32 [{n}], got {record.index.dtype} {list(record.index.shape)}"
        )
    if record.labels is not None and record.labels.max() >= len(record.class_names):
        raise JaxtlError(
            f"{where}: label {record.labels.max()} is out of range for {len(record.class_names)} class names"
        )


@contextlib.contextmanager
def _located(path: Pathlike) -> Iterator[None]:
    try:
        yield
    except JaxtlError as error:
        raise JaxtlError(f"{path}: {error}; {MAKE_AGAIN}") from None


def _reals(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """An array as float32; what is beyond its range becomes infinite, for who uses it to find."""
    if arrays[name].dtype.kind not in "fiu":
        raise JaxtlError(f"array {name} has dtype {arrays[name].dtype}, which is not a real number type")
    with np.errstate(over="ignore"):
        return arrays[name].astype(np.float32, order="C")


def _integers(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    array, limits = arrays[name], np.iinfo(np.int32)
    if array.dtype.kind not in "iu":
        raise JaxtlError(f"array {name} has dtype {array.dtype}, which is not an integer type")
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise JaxtlError(f"array {name} holds values beyond 32 bits, from {array.min()} to {array.max()}")
    return array.astype(np.int32)


def _of_meta(meta: dict[str, Any], name: str, otherwise: Any) -> Any:
    value = meta.get(name, otherwise)
    if not isinstance(value, type(otherwise)):
        raise JaxtlError(f"{name} in meta must be a {type(otherwise).__name__}, got {value!r}")
    return value


def _class_names(meta: dict[str, Any], labels: np.ndarray | None) -> tuple[str, ...]:
    if labels is None:
        return ()
    names = meta.get("class_names")
    if names is not None and not (
        isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    ):
        raise JaxtlError(f"class_names in meta must be texts, got {names!r}")
    return tuple(names) if names else tuple(str(k) for k in range(int(labels.max()) + 1))
