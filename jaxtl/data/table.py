"""Images listed in a table: CSV, or Parquet, which may hold the images themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtl.data import columns
from jaxtl.data.listing import Listing
from jaxtl.data.parquet import read_parquet
from jaxtl.data.request import Loaded, Request
from jaxtl.data.splits import role_of
from jaxtl.errors import JaxtlError
from jaxtl.progress import counted
from jaxtl.records.documents import parsed
from jaxtl.records.names import readable
from jaxtl.records.tables import read_columns

if TYPE_CHECKING:
    import pyarrow as pa


def load_csv(path: Path, request: Request) -> Loaded:
    """Read one split of the images that a CSV file lists, one a row.

    It has a header, and commas, semicolons or tabs between. A column holds paths, relative to the file's
    folder or absolute; one holds classes, as text; and one may hold splits (train, test, ...).
    `request.selection` names them where they have other names than `jaxtl.data.columns` knows.

    Raises:
        JaxtlError: the file cannot be read, a column is missing, a row has no path or class; or as of
            `Listing.read`.
    """
    table = read_columns(path)
    return listed(path, table, None, request).read(request)


def load_parquet(path: Path, request: Request) -> Loaded:
    """Read one split of the images of a Parquet file, or of a folder of them.

    The column of images holds paths as in `load_csv`, the encoded images, or structs {bytes, path} as Hugging
    Face writes them, whose class names are taken from its metadata. In a folder, files whose names begin with
    a split's name (train-00000-of-00002.parquet) hold that split.

    Raises:
        JaxtlError: PyArrow is not installed; or as of `load_csv`.
    """
    table, of_file = _read_parquet(path, request)
    where = readable(path)
    image = columns.pick(where, table.column_names, request.selection.image_column, columns.IMAGE, "image")
    label = columns.pick(where, table.column_names, request.selection.label_column, columns.LABEL, "label")
    encoded = _encoded(where, image, table.column(image))
    _check_classes(where, label, table.column(label))
    names = _declared(table, label)
    others = {
        name: _texts(table.column(name), names if name == label else None)
        for name in table.column_names
        if encoded is None or name != image
    }
    if of_file is not None and request.selection.split_column is None:
        others.setdefault("split", of_file)
    if encoded is not None:
        others[image] = encoded.paths()
    return listed(path, others, encoded, request, tuple(names) if names else None).read(request)


def listed(
    path: Path,
    table: dict[str, list[str]],
    encoded: Sequence[bytes] | None,
    request: Request,
    class_names: tuple[str, ...] | None = None,
) -> Listing:
    """The images of a table's rows.

    Args:
        path: of the table, from whose folder paths lead.
        table: columns by name, as text.
        encoded: the images themselves, where the table holds them.
        class_names: where the table declares them.
    """
    where, wanted = readable(path), request.selection
    known = list(table)
    image = columns.pick(where, known, wanted.image_column, columns.IMAGE, "image")
    label = columns.pick(where, known, wanted.label_column, columns.LABEL, "label")
    split = columns.pick_or_none(where, known, wanted.split_column, columns.SPLIT, "split")
    for name in filter(None, (image if encoded is None else None, label, split)):
        empty = [row for row, text in enumerate(table[name], 1) if not text]
        if empty:
            rows = counted(len(empty), "row has", "rows have")
            raise JaxtlError(f"{where}: {rows} nothing in column {name}, the first is row {empty[0]}")
    ids = table[image]
    if encoded is not None and not all(ids):
        named = columns.pick_or_none(where, known, None, columns.ID, "id")
        ids = table[named] if named else [f"row {row}" for row in range(1, len(ids) + 1)]
    folder = path if path.is_dir() else path.parent
    sources = [_file(folder, text) for text in table[image]] if encoded is None else encoded
    notes = _known_splits(table[split]) if split else ()
    return Listing(where, sources, table[label], ids, table[split] if split else None, class_names, notes)


def _file(folder: Path, text: str) -> Path:
    """The file that a path names, which may be written as on Windows."""
    path = folder / text
    return folder / text.replace("\\", "/") if "\\" in text and not path.exists() else path


def _known_splits(values: Sequence[str]) -> tuple[str, ...]:
    others = sorted({value for value in values if role_of(value) is None})
    return (f"splits of other names: {', '.join(others[:5])}",) if others else ()


class _Encoded(Sequence[Any]):
    """Encoded images in a column of Arrow's, each taken out when it is asked for."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: Any) -> Any:
        value = self._column[row].as_py()
        if isinstance(value, dict):
            value = value.get("bytes")
        return value if value is not None else b""

    def paths(self) -> list[str]:
        import pyarrow as pa

        if not pa.types.is_struct(self._column.type) or self._column.type.get_field_index("path") < 0:
            return [""] * len(self)
        chunks = (chunk.field("path").to_pylist() for chunk in self._column.chunks)
        # Whatever a stranger's file calls its images by: a number is a name, too.
        return ["" if path is None else str(path) for chunk in chunks for path in chunk]


def _encoded(where: str, name: str, column: pa.ChunkedArray) -> _Encoded | None:
    """The images themselves, where a column holds some; None for paths. Raises JaxtlError for neither."""
    import pyarrow as pa

    kind = column.type
    has_bytes = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    encoded = kind.field("bytes").type if has_bytes else kind
    if pa.types.is_binary(encoded) or pa.types.is_large_binary(encoded):
        return _Encoded(column)
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(text) or pa.types.is_large_string(text) or pa.types.is_string_view(text)):
        raise JaxtlError(
            f"{where}: column {name} holds {kind}; give paths, or images as PNG, JPEG or the like"
        )
    return None


def _check_classes(where: str, name: str, column: pa.ChunkedArray) -> None:
    import pyarrow as pa

    if pa.types.is_nested(column.type):
        raise JaxtlError(f"{where}: column {name} holds {column.type}; give one class in each row")


def _texts(column: pa.ChunkedArray, names: list[str] | None) -> list[str]:
    values = column.to_pylist()
    if names:
        return [
            names[value] if isinstance(value, int) and 0 <= value < len(names) else "" for value in values
        ]
    return ["" if value is None else str(value) for value in values]


def _declared(table: pa.Table, label: str) -> list[str] | None:
    """Class names that Hugging Face's metadata give for a column of numbers."""
    try:
        features = parsed((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _read_parquet(path: Path, request: Request) -> tuple[pa.Table, list[str] | None]:
    """The whole table, and the split of each row where files are named by splits."""
    where = readable(path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise JaxtlError(f"{where}: holds no .parquet files")
    tables = [read_parquet(file, memory_map=True) for file in files]
    import pyarrow as pa  # which is there, since tables were read

    try:
        table = pa.concat_tables(tables)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise JaxtlError(f"{where}: its files have different columns ({reason})") from None
    splits = [file.name.partition("-")[0].partition(".")[0] for file in files]
    if not any(role_of(split) for split in splits):
        return table, None
    return table, [split for split, part in zip(splits, tables, strict=True) for _ in range(len(part))]
