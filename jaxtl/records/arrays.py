"""Features, neighbours and embeddings: small frozen records, their checks, and their files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxtl.errors import JaxtlError
from jaxtl.methods import METHODS, library_label, method_label
from jaxtl.records import given, summaries
from jaxtl.records.checks import checked_rows, names_of, of_meta
from jaxtl.records.documents import anything, list_of, or_none, real, record_of, share
from jaxtl.records.files import MAKE_AGAIN, read_npz, write_npz

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pathlike = str | os.PathLike[str]
# Who made an embedding, where nobody says.
UNKNOWN = "unknown"
# Arrays of records' files that say something of each row, and the kinds of their elements.
OF_ROWS = {"labels": "iu", "index": "iu", "ids": "U"}
# What a library says of its result and pages compute with; it may say more.
_NUMBER, _SHARES = or_none(real), or_none(list_of(real))
_DIAGNOSTICS = record_of(
    {},
    {"kl_divergence": _NUMBER, "reconstruction_error": _NUMBER, "explained_variance_ratio": _SHARES},
    anything,
)
_RECALL = or_none(share)
# What is shown of a record's meta.
_TOLD_OF_FEATURES = ("model", "layer", "dataset", "split", "image_size", "preprocessing")


@dataclass(frozen=True, init=False, repr=False)
class Features(summaries.Told):
    """What a network makes of images.

    Args:
        values: real numbers [n, d], an array of any library or lists; they become float32.
        labels: whole numbers [n], not below 0, or names of classes, which are numbered in their order. So
            are numbers far apart (beyond 65,535, and more than there are rows) of classes without names.
        index: whole numbers [n]; by default 0 to n - 1.
        meta: what is known of them; with `class_names`, by number.
        ids: texts [n].

    Raises:
        JaxtlError: arrays of other shapes or kinds, labels beyond the class names.

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
    meta: dict[str, object]
    ids: NDArray[np.str_] | None

    def __init__(
        self,
        values: ArrayLike,
        labels: ArrayLike | None = None,
        index: ArrayLike | None = None,
        meta: Mapping[str, object] | None = None,
        ids: ArrayLike | None = None,
    ) -> None:
        points = given.as_float32("features", "values", values)
        if points.ndim != 2 or points.dtype != np.float32:
            raise JaxtlError(
                f"features: values must be float32 [n, d], got {points.dtype} {list(points.shape)}"
            )
        _set(self, values=points, **checked_rows("features", len(points), labels, index, meta, ids))

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order; those of numbers where the classes have no names, none without labels."""
        return names_of(self.meta, self.labels)

    def summary(self) -> summaries.Summary:
        """What is shown of it instead of its arrays."""
        n, d = self.values.shape
        told = [(name, str(self.meta[name])) for name in _TOLD_OF_FEATURES if self.meta.get(name)]
        rows = [("values", f"{n:,} x {d:,}"), *summaries.of_rows(self.class_names, self.ids), *told]
        return summaries.Summary("Features", rows)

    def save(self, path: Pathlike) -> None:
        arrays = {"values": self.values, **_if_there("labels", self.labels), "index": self.index}
        write_npz(path, arrays | _if_there("ids", self.ids), self.meta)

    @classmethod
    def load(cls, path: Pathlike) -> Features:
        """Read `values` (any real dtype) and, where there, `labels`, `index` (int) and `ids` from an npz."""
        arrays, meta = read_npz(path, ("values",), OF_ROWS.__contains__, {"values": "fiu"} | OF_ROWS)
        arrays.setdefault("index", np.arange(arrays["values"].shape[0] if arrays["values"].ndim else 0))
        with _located(path):
            return cls(
                given.reals(arrays, "values"),
                _labels(arrays),
                given.integers(arrays, "index"),
                meta,
                arrays.get("ids"),
            )


@dataclass(frozen=True, repr=False)
class Neighbors(summaries.Told):
    """The k nearest neighbours of every point, nearest first, the point itself left out by its index.

    Attributes:
        indices: int32 [n, k].
        distances: float32 [n, k], Euclidean.
        recall: of approximate ones the share of the true neighbours that they hold, 0 to 1, as measured on
            some points; None where they are exact.
    """

    indices: NDArray[np.int32]
    distances: NDArray[np.float32]
    recall: float | None = None

    def summary(self) -> summaries.Summary:
        """What is shown of it instead of its arrays."""
        n, k = self.indices.shape
        told = [] if self.recall is None else [("recall", f"{self.recall:.4f}")]
        return summaries.Summary("Neighbors", [("points", f"{n:,}"), ("neighbours of each", f"{k}"), *told])

    def save(self, path: Pathlike) -> None:
        meta = {} if self.recall is None else {"recall": self.recall}
        write_npz(path, {"indices": self.indices, "distances": self.distances}, meta)

    @classmethod
    def load(cls, path: Pathlike) -> Neighbors:
        """Read `indices` (int) and `distances` (any real dtype), both [n, k], from an npz."""
        kinds = {"indices": "iu", "distances": "fiu"}
        arrays, meta = read_npz(path, tuple(kinds), kinds.__contains__, kinds)
        with _located(path):
            indices, distances = given.integers(arrays, "indices"), given.reals(arrays, "distances")
            if indices.ndim != 2 or indices.shape != distances.shape:
                raise JaxtlError(
                    f"neighbours: indices and distances must be [n, k], got {list(indices.shape)} and "
                    f"{list(distances.shape)}"
                )
            if indices.size and not 0 <= indices.min() <= indices.max() < len(indices):
                raise JaxtlError(f"neighbours: indices must be 0 to {len(indices) - 1}")
            if fault := _RECALL(recall := meta.get("recall")):
                raise JaxtlError(f"recall in meta {fault}")
            return cls(indices, distances, recall)


@dataclass(frozen=True, init=False, repr=False)
class Embedding(summaries.Told):
    """Features in few dimensions, as a rule two: coordinates, and how they were made.

    Args:
        coords: real numbers [n, k], of your own too; others as of `Features` and below.

    Raises:
        JaxtlError: arrays of other shapes or kinds, coordinates that are not finite, labels beyond the class
            names.

    Attributes:
        coords: float32 [n, k], finite; figures and the page show those with k of 2.
        labels: int32 [n], or None, as of `Features`.
        index: int32 [n], row of each image in its dataset's split.
        method: "pca", "tsne", "lle", or what else made them.
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
    diagnostics: dict[str, object]
    meta: dict[str, object]
    ids: NDArray[np.str_] | None

    def __init__(
        self,
        coords: ArrayLike,
        labels: ArrayLike | None = None,
        index: ArrayLike | None = None,
        method: str = UNKNOWN,
        backend: str = UNKNOWN,
        params: Mapping[str, object] | None = None,
        diagnostics: Mapping[str, object] | None = None,
        meta: Mapping[str, object] | None = None,
        ids: ArrayLike | None = None,
    ) -> None:
        places = given.as_float32("embedding", "coords", coords)
        if places.ndim != 2 or not places.shape[1] or places.dtype != np.float32:
            raise JaxtlError(
                f"embedding: coords must be float32 [n, k], got {places.dtype} {list(places.shape)}"
            )
        if not np.isfinite(places).all():
            raise JaxtlError("embedding: coords hold NaN or infinite values")
        _set(self, coords=places, method=method, backend=backend)
        _set(self, params=dict(params or {}), diagnostics=dict(diagnostics or {}))
        _set(self, **checked_rows("embedding", len(places), labels, index, meta, ids))

    def check_plane(self, where: str) -> None:
        """Raises JaxtlError unless it has two dimensions, which all pictures need."""
        if self.coords.shape[1] != 2:
            raise JaxtlError(
                f"{where}: shows embeddings in 2 dimensions, this one has {self.coords.shape[1]}; make it "
                "with n_components=2"
            )

    def plot(
        self,
        title: str | None = None,
        accuracy: float | None = None,
        width: str | float | None = None,
    ) -> Figure:
        """A picture of it, which notebooks show where it is a cell's last line.

        It opens no window and leaves matplotlib's state; `.savefig("map.png", dpi=300)` writes it.

        Args:
            title: heads the figure.
            accuracy: 10-NN accuracy, leave one out, 0 to 1, to be told in the picture.
            width: as of `jaxtl.plot`.

        Raises:
            JaxtlError: an embedding in other than two dimensions, or a width that is none.
        """
        # Drawing is far above records, and matplotlib slow to import: it is asked for as users ask for it.
        import jaxtl

        return jaxtl.plot(self, title=title, accuracy=accuracy, width=width)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order; those of numbers where the classes have no names, none without labels."""
        return names_of(self.meta, self.labels)

    def summary(self) -> summaries.Summary:
        """What is shown of it instead of its arrays."""
        n, k = self.coords.shape
        method = METHODS.get(self.method)
        settings = [
            (name, self.params[name]) for name in (method.settings if method else ()) if name in self.params
        ]
        told = [(name, summaries.brief(value)) for name, value in (*settings, *self.diagnostics.items())]
        rows = [("coords", f"{n:,} x {k}"), *summaries.of_rows(self.class_names, self.ids), *told]
        made = "" if self.method == UNKNOWN else f" {method_label(self.method)}"
        made += "" if self.backend == UNKNOWN else f" by {library_label(self.backend)}"
        return summaries.Summary(f"Embedding{made}", rows)

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
        kinds = {"coords": "fiu"} | OF_ROWS
        arrays, meta = read_npz(path, ("coords", "index"), OF_ROWS.__contains__, kinds)
        with _located(path):
            if fault := _DIAGNOSTICS(meta.get("diagnostics", {})):
                raise JaxtlError(f"diagnostics in meta {fault}")
            return cls(
                given.reals(arrays, "coords"),
                _labels(arrays),
                given.integers(arrays, "index"),
                of_meta(meta, "method", UNKNOWN),
                of_meta(meta, "backend", UNKNOWN),
                of_meta(meta, "params", {}),
                of_meta(meta, "diagnostics", {}),
                of_meta(meta, "features", {}),
                arrays.get("ids"),
            )


def _if_there(name: str, array: np.ndarray | None) -> dict[str, np.ndarray]:
    return {} if array is None else {name: array}


def _labels(arrays: dict[str, np.ndarray]) -> np.ndarray | None:
    return given.integers(arrays, "labels") if "labels" in arrays else None


def _set(record: Features | Embedding, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(record, name, value)


@contextlib.contextmanager
def _located(path: Pathlike) -> Iterator[None]:
    try:
        yield
    except JaxtlError as error:
        raise JaxtlError(f"{path}: {error}; {MAKE_AGAIN}") from None
