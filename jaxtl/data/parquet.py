"""Parquet of whoever wrote it, by PyArrow: what a file declares is looked at before it is read, what was read
is checked before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtl.errors import JaxtlError, install
from jaxtl.records.headers import check_memory
from jaxtl.records.names import readable

if TYPE_CHECKING:
    import pyarrow as pa

# Bytes that a cell takes at least where all cells of a column are alike and the file has one of them.
_CELL = 8


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
    if path.is_dir():
        raise JaxtlError(f"{readable(path)}: a folder; give a file .parquet")
    try:
        with parquet.ParquetFile(path, memory_map=memory_map) as file:
            declared = file.metadata
            groups = (declared.row_group(number) for number in range(declared.num_row_groups))
            cells = declared.num_rows * declared.num_columns * _CELL
            check_memory(max(cells, sum(group.total_byte_size for group in groups)))
            table = file.read()
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
