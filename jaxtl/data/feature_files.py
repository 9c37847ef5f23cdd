"""Features that somebody else computed, from npz, npy, Parquet and CSV, whatever their parts are called."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from jaxtl.data.cells import as_column, is_number, texts
from jaxtl.data.parquet import as_table, read_parquet
from jaxtl.errors import JaxtlError
from jaxtl.records import given, store
from jaxtl.records.arrays import Features, Pathlike
from jaxtl.records.documents import brief, parsed
from jaxtl.records.files import read_npz
from jaxtl.records.headers import read_npy
from jaxtl.records.members import Member, members
from jaxtl.records.places import check_file
from jaxtl.records.tables import read_columns

# What the parts of a file may be called, by what they are; the first that is there is taken.
NAMES = {
    "values": ("values", "features", "embeddings", "embedding", "vectors", "vector", "feature"),
    "labels": ("labels", "label", "class", "targets", "target", "y", "category", "class_name"),
    "ids": (
        *("ids", "id", "paths", "path", "filenames", "filename", "file_name", "files", "file"),
        *("image_id", "image_path", "file_path", "filepath", "uid"),
    ),
    "class_names": ("class_names", "classes", "label_names"),
    "index": ("index",),
}
# What pandas and R call the column of a table's rows, where nobody called it anything.
_UNNAMED = ("", "unnamed: 0", "__index_level_0__")


class Table(Protocol):
    """A table of pandas, polars or PyArrow, by what they have in common (Arrow's PyCapsule interface)."""

    @property
    def columns(self) -> Any: ...

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...


# In which features are given: a record, a file, arrays by name, an array [n, d] or lists of numbers, a table.
Source = (
    Features
    | Pathlike
    | Mapping[str, NDArray[np.generic]]
    | NDArray[np.generic]
    | Sequence[Sequence[float]]
    | Table
)
SUFFIXES = (".npz", ".npy", ".parquet", ".csv")


@dataclass(frozen=True)
class Given:
    """Features as they were given.

    Attributes:
        where: what they were read from, for messages.
        values: real [n, d].
        labels: whole numbers or text [n]; None where there are none.
        ids: text [n], or None.
        class_names: by number; empty where classes have no names, or are named by the labels.
        index: int [n], or None.
        meta: what else the file says of itself.
        notes: a line for what was taken for what, where that is not plain.
    """

    where: str
    values: np.ndarray
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    index: np.ndarray | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Labels(NamedTuple):
    """Labels [n] in a file of their own, and the ids of what they are of, where the file has some."""

    labels: np.ndarray
    ids: np.ndarray | None = None
    where: str = "labels"


def given_features(source: Given | Features | Pathlike | Any, where: str) -> Given:
    """Features from a record, an array [n, d], a mapping of arrays by name, a table, or a file.

    Raises JaxtlError for what is none of these, or a file that cannot be read as one.
    """
    if isinstance(source, Given):
        return source
    if isinstance(source, Features):
        names = source.meta.get("class_names") if source.labels is not None else None
        meta = {name: value for name, value in source.meta.items() if name != "class_names"}
        return Given(where, source.values, source.labels, source.ids, tuple(names or ()), source.index, meta)
    if isinstance(source, Mapping):
        return _of_arrays(where, {name: _as_given(where, name, part) for name, part in source.items()}, {})
    if isinstance(source, str | Path):
        return read_features(source)
    if hasattr(source, "columns") and not isinstance(source, np.ndarray):
        return _of_arrow(where, as_table(where, source))
    return Given(where, _as_given(where, "features", source))


def _as_given(where: str, name: str, values: Any) -> np.ndarray:
    """An array of any library, or lists; of numbers that NumPy does not know, such as bfloat16, float32."""
    if isinstance(values, str | bytes | int | float | None):
        return np.asarray(values)
    array = given.as_array(where, name, values)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def read_features(path: Pathlike) -> Given:
    """Features from a file .npz, .npy, .parquet or .csv. Raises JaxtlError as `given_features`."""
    path = Path(path)
    readers = {".npz": _read_npz, ".npy": _read_npy, ".parquet": _read_parquet, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise JaxtlError(f"{path}: features are read from {', '.join(SUFFIXES)}; save them as one of these")
    check_file(path, "give a file of features")
    return readers[path.suffix.lower()](path)


def read_labels(path: Pathlike) -> Labels:
    """Labels from a file of their own: .npy, text with one on a line, or .csv with a column of labels, and
    one of ids or none.

    Text may come through a shell's pipe. Raises JaxtlError for no such file or another kind.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return Labels(_array(path), None, str(path))
    check_file(path, "give a file of labels", pipes=True)
    if path.suffix.lower() == ".csv" and (table := _labels_by_name(path)):
        return table
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise JaxtlError(f"{path}: neither .npy nor UTF-8 text; give labels as one of these") from None
    return Labels(np.array([line.strip() for line in lines if line.strip()]), None, str(path))


def _labels_by_name(path: Path) -> Labels | None:
    """Those of a table; None for a list with one on a line, without a header."""
    columns = read_columns(path)
    label, name = _part(columns, "labels"), _part(columns, "ids")
    if label is None and len(columns) > 1:
        raise JaxtlError(f"{path}: no column is called label or class; it has {_few(columns)}: name it so")
    if label is None:
        return None
    return Labels(as_column(columns[label]), None if name is None else np.array(columns[name]), str(path))


def with_labels(features: Given, labels: Labels | Any) -> Given:
    """The same features with other labels, by ids where both have some, else in the same order.

    Raises JaxtlError where labels have ids, and some of the features' are not among them.
    """
    if labels is None:
        return replace(features, labels=None, class_names=())
    if not isinstance(labels, Labels):
        labels = Labels(given.as_array("compare", "labels", labels))
    values = labels.labels
    if labels.ids is not None and features.ids is not None:
        place = {name: row for row, name in enumerate(texts(labels.ids).tolist())}
        names = texts(features.ids).tolist()
        if len(place) < len(values):
            twice = len(values) - len(place)
            raise JaxtlError(f"{labels.where}: {twice:,} ids stand there more than once; give each one label")
        if lacking := [name for name in names if name not in place]:
            raise JaxtlError(
                f"{labels.where}: has no label for {len(lacking):,} of {len(names):,} ids of "
                f"{features.where}, such as {lacking[0]}; add them"
            )
        values = values[[place[name] for name in names]]
    if values.ndim == 1 and len(values) != len(features.values):
        n, rows = len(values), len(features.values)
        raise JaxtlError(f"{labels.where}: {n:,} labels for {rows:,} rows of {features.where}; give each one")
    return replace(features, labels=values, class_names=())


def _read_npz(path: Path) -> Given:
    known = members(path)
    wanted = [name for part in NAMES if (name := _part(known, part))]
    for name in wanted:
        if known[name].holds_objects:
            raise JaxtlError(
                f"{path}: array {name} holds Python objects, which are not read; save it as numbers, or as "
                "text with numpy.array(names, dtype=str)"
            )
    if _part(known, "values") is None:
        whole = {name: member for name, member in known.items() if not member.fault}
        wanted.append(_only_matrix(str(path), whole))
    arrays, meta = read_npz(path, (), wanted.__contains__)
    return _of_arrays(str(path), arrays, meta)


def _of_arrays(where: str, arrays: dict[str, np.ndarray], meta: Mapping[str, Any]) -> Given:
    names_of = {part: _part(arrays, part) for part in NAMES}
    notes: list[str] = []
    if names_of["values"] is None:
        names_of["values"] = _only_matrix(where, arrays)
        notes.append(f"{where}: array {names_of['values']} is taken as the features")
    taken = {part: arrays[name] for part, name in names_of.items() if name is not None}
    labels = taken.get("labels")
    if labels is not None and labels.ndim == 0:
        labels = None
    names = taken["class_names"] if "class_names" in taken else meta.get("class_names") or ()
    meta = {name: value for name, value in meta.items() if name != "class_names"}
    return Given(
        where,
        taken["values"],
        labels,
        taken.get("ids"),
        tuple(map(str, np.ravel(names).tolist())),
        taken.get("index"),
        meta,
        tuple(notes),
    )


def _part(names: Iterable[str], part: str) -> str | None:
    """The name under which a part is there, if it is."""
    lower = {name.lower(): name for name in names}
    return next((lower[name] for name in NAMES[part] if name in lower), None)


def _only_matrix(where: str, arrays: Mapping[str, np.ndarray | Member]) -> str:
    matrices = [name for name, array in arrays.items() if len(array.shape) == 2 and array.dtype.kind in "fiu"]
    if len(matrices) != 1:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "none"
        raise JaxtlError(
            f"{where}: no array values, features or embeddings [n, d] (it has {shapes}); name it so"
        )
    return matrices[0]


def _read_npy(path: Path) -> Given:
    if store.rows_path(path).is_file():
        return given_features(store.load(path), str(path))
    return Given(str(path), _array(path))


def _array(path: Path) -> np.ndarray:
    check_file(path)
    try:
        return read_npy(path)
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except (ValueError, EOFError) as error:
        if zipfile.is_zipfile(path):
            raise JaxtlError(f"{path}: an .npz archive; name it .npz") from None
        raise JaxtlError(f"{path}: not a readable .npy array ({error}); save it with numpy.save") from None


def _read_csv(path: Path) -> Given:
    columns = read_columns(path)
    if all(is_number(name) for name in columns):
        raise JaxtlError(
            f"{path}: its first line holds numbers; put a line above it that names the columns, such as "
            "label,f0,f1,f2"
        )
    # Ids are texts: 007 is not 7.
    ids = _part(columns, "ids")
    table = {name: np.array(c) if name == ids else as_column(c) for name, c in columns.items()}
    return _of_table(str(path), table)


def _read_parquet(path: Path) -> Given:
    return _of_arrow(str(path), read_parquet(path))


def _of_arrow(where: str, table: Any) -> Given:
    columns, others = {}, {}
    if len(set(table.column_names)) < table.num_columns:
        raise JaxtlError(f"{where}: two columns have one name; give each its own")
    for name, column in zip(table.column_names, table.columns, strict=True):
        array = _of_column(where, name, column.combine_chunks())
        if array is None:
            others[name] = brief(str(column.type))[1:-1]
        else:
            columns[name] = array
    if (rows := _counted_rows(table)) is not None:
        columns.setdefault("index", rows)
    return _of_table(where, columns, others)


def _counted_rows(table: Any) -> np.ndarray | None:
    """The rows' numbers where pandas noted no more of them than that they were counted."""
    try:
        (index,) = parsed((table.schema.metadata or {})[b"pandas"])["index_columns"]
        rows = range(*(int(index[end]) for end in ("start", "stop", "step")))
        return np.array(rows) if index["kind"] == "range" and len(rows) == table.num_rows else None
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _of_column(where: str, name: str, column: Any) -> np.ndarray | None:
    """Numbers [n] or [n, d], or text [n]; None for what is neither, such as pictures."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _of_column(where, name, column.dictionary_decode())
    if isinstance(kind, pa.BaseExtensionType):
        return _of_column(where, name, column.storage)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        values = column.flatten()
        if not len(column) or not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            return None
        lengths = np.unique(column.value_lengths()) if not pa.types.is_fixed_size_list(kind) else [0]
        if len(lengths) > 1 or column.null_count or values.null_count:
            raise JaxtlError(f"{where}: rows of column {name} differ in length; give vectors of one length")
        return values.to_numpy(zero_copy_only=False).reshape(len(column), -1)
    if pa.types.is_decimal(kind):
        return _of_column(where, name, column.cast(pa.float64()))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return np.array([text or "" for text in column.to_pylist()], dtype=str)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    return None


def _of_table(where: str, columns: dict[str, np.ndarray], others: Mapping[str, str] = {}) -> Given:
    """A column of vectors, or all columns of numbers that are nothing else, in their order.

    `others`: the kinds of columns that are neither numbers nor text, by name.
    """
    parts = {part: _part(columns, part) for part in ("labels", "ids", "index")}
    notes = _take_unnamed(where, columns, parts)
    vectors = [name for name, column in columns.items() if column.ndim == 2 and name not in parts.values()]
    unread = [f"{name} ({kind})" for name, kind in others.items()]
    if vectors:
        values_name = _part(vectors, "values") or vectors[0]
        values, told = columns[values_name], f"column {values_name}"
    else:
        names = [n for n, c in columns.items() if n not in parts.values() and c.dtype.kind in "fiu"]
        if not names:
            raise JaxtlError(
                f"{where}: no columns of numbers to take as features (it has "
                f"{_few([*columns, *unread]) or 'none'}); save these as numbers, or as lists of one length"
            )
        values = np.stack([columns[name] for name in names], axis=1, dtype=np.float64)
        told = f"{len(names)} columns of numbers ({_few(names)})"
    own = {part: columns[name] for part, name in parts.items() if name is not None}
    left = [name for name in columns if name not in parts.values() and name not in told.split()]
    passed = [name for name in left if columns[name].dtype.kind not in "fiu"] + unread
    notes.append(f"{where}: {told} {'holds' if vectors else 'are'} the features")
    notes += [f"{where}: not looked at: {_few(passed)}"] if passed else []
    return Given(where, values, own.get("labels"), own.get("ids"), (), own.get("index"), {}, tuple(notes))


def _take_unnamed(where: str, columns: Mapping[str, np.ndarray], parts: dict[str, str | None]) -> list[str]:
    """Take the column in which pandas and R keep what rows are called for that, and for no feature."""
    name = next((name for name in columns if name.lower() in _UNNAMED), None)
    if name is None:
        return []
    part, what = ("index", "row numbers") if columns[name].dtype.kind in "iu" else ("ids", "ids")
    if columns[name].dtype.kind == "f" or parts[part] is not None:
        part, what = "", "nothing"
    parts[part] = name
    return [f"{where}: the column without a name of its own is taken for {what}"]


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:3])} … {names[-1]}"
