"""Parquet of whoever wrote it, by PyArrow: what a file declares is looked at before it is read, what was read
is checked before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtl.errors import JaxtlError, install
from jaxtl.records.headers import check_memory
from jaxtl.records.names import readable
from jaxtl.records.places import check_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from pyarrow import parquet

# Bytes that a cell takes at least where all cells of a column are alike and the file has one of them.
_CELL = 8
# As of members of an .npz.
_LARGE, _SHRUNK = 2**28, 200


def _batches(file: parquet.ParquetFile, path: Path) -> Iterator[pa.RecordBatch]:
    """All rows, some at a time. Raises ValueError where texts swell as no measured ones do.

    A text that stands once in a file may stand in every row of its table: a megabyte becomes a terabyte.
    """
    columns, most = file.metadata.num_columns, max(_LARGE, _SHRUNK * path.stat().st_size)
    swollen = 0
    for batch in file.iter_batches(max(64, min(1024, 2**20 // max(1, columns)))):
        # A text of a dictionary stands in every row as soon as it is text of Python's.
        whole = (c.dictionary_decode() if hasattr(c, "dictionary") else c for c in batch.columns)
        swollen += sum(column.nbytes for column in whole) - batch.num_rows * columns * _CELL
        if swollen > most:
            raise ValueError(f"its {path.stat().st_size:,} bytes would become more than {most:,}")
        yield batch


def read_parquet(path: Path, memory_map: bool = False) -> pa.Table:
    """A file's table.

    Raises JaxtlError where PyArrow is not installed, there is no such file, it is damaged or none, or its
    rows are more than memory holds.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise JaxtlError(f"Parquet is read by PyArrow; {install('parquet')}") from None
    check_file(path, "give a file .parquet")
    try:
        with parquet.ParquetFile(path, memory_map=memory_map) as file:
            declared = file.metadata
            groups = (declared.row_group(number) for number in range(declared.num_row_groups))
            cells = declared.num_rows * declared.num_columns * _CELL
            check_memory(max(cells, sum(group.total_byte_size for group in groups)))
            table = pa.Table.from_batches(_batches(file, path), file.schema_arrow)
        # A damaged file may hold offsets beyond its end: to follow them ends the process.
        table.validate(full=True)
        return table
    except FileNotFoundError:
        raise JaxtlError(f"{readable(path)}: no such file") from None
    except (OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError, pa.ArrowException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise JaxtlError(f"{readable(path)}: not a readable Parquet file ({reason}); save it again") from None


def as_table(where: str, frame: Any) -> pa.Table:
    """A table of pandas, polars or PyArrow as one of PyArrow's.

    Raises JaxtlError where PyArrow is not installed, or takes it for none.
    """
    try:
        import pyarrow as pa
    except ImportError:
        hint = f"{install('parquet')}, or give its numbers as an array"
        raise JaxtlError(f"{where}: a table is read by PyArrow; {hint}") from None
    try:
        return pa.table(frame)
    except (TypeError, ValueError, KeyError, pa.ArrowException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        fault = f"not a table that PyArrow reads ({reason})"
        raise JaxtlError(f"{where}: {fault}; give an array [n, d]") from None
