"""Every CSV table of a run: how it is written, and read again line by line.

A line that is missing, cut off or of another kind is one error that names the file and the line.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from jaxtl.errors import JaxtlError
from jaxtl.records.arrays import Pathlike
from jaxtl.records.documents import brief
from jaxtl.records.files import MAKE_AGAIN, write_text
from jaxtl.records.places import check_file

# How a cell begins that spreadsheets compute or obey, in either width of letters.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_WRITTEN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-](inf|nan)", re.ASCII | re.IGNORECASE)
# Digits of a number that is read, and of a whole one: as many as 64 bits take.
_LONGEST, _WHOLE_DIGITS = 400, 18
# What is read of a line: its cells by column.
_Cells = dict[str, Any]


@dataclass(frozen=True)
class Score:
    """One number: what was measured, of which stage, in which space.

    `stage` is "before", "after", "both" or "epoch N"; `space` is "features", "pca", "tsne", "lle" or "model";
    `low` and `high` bound the value where an interval is known.
    """

    stage: str
    space: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None


class LayerRow(NamedTuple):
    """A number at the end of a block; `stage` is "before", "after" or, of both compared, "both"."""

    stage: str
    layer: str
    metric: str
    value: float
    low: float | None
    high: float | None


SCORE_COLUMNS = ("stage", "space", "metric", "value", "low", "high")
CLASS_COLUMNS = ("stage", "space", "metric", "class", "value", "low", "high")
LAYER_COLUMNS = LayerRow._fields
# Of images.csv, in their order: whole numbers, texts that may be empty, and numbers that may be.
IMAGE_COLUMNS = (
    "index",
    "id",
    "class",
    "knn_before",
    "knn_after",
    "probe_before",
    "probe_after",
    "head",
    "confidence",
    "outcome_knn",
    "outcome_probe",
    "kept",
    "moved",
)
_IMAGE_NUMBERS = ("confidence", "kept", "moved")
# Of the columns that follow, one for each embedding that there is: all hold numbers.
_OF_EMBEDDINGS = ("kept_", "trust_")
HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "test_loss", "test_accuracy")


def save_scores(path: Pathlike, scores: Iterable[Score]) -> None:
    """Write scores as long-form CSV; values with 6 decimals, unknown bounds empty."""
    rows = ((s.stage, s.space, s.metric, *map(_decimals, (s.value, s.low, s.high))) for s in scores)
    write_table(path, SCORE_COLUMNS, rows)


def load_scores(path: Pathlike) -> list[Score]:
    """Read what `save_scores` wrote; errors as of `load_history`."""
    table = _Table(path, SCORE_COLUMNS, _long_form(*SCORE_COLUMNS[:3]))
    # A loss may be infinite where training went astray; no other number may.
    table.refuse(lambda row: row["space"] != "model" and not math.isfinite(row["value"]), "is not finite")
    table.check_grid(SCORE_COLUMNS[:3])
    return [Score(**row) for row in table.rows]


def save_class_scores(path: Pathlike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one CSV row for each number of each class, with the columns of CLASS_COLUMNS; 6 decimals."""
    texts, numbers = CLASS_COLUMNS[:4], CLASS_COLUMNS[4:]
    cells = ((*(row[name] for name in texts), *(_decimals(row[name]) for name in numbers)) for row in rows)
    write_table(path, CLASS_COLUMNS, cells)


def load_class_scores(path: Pathlike) -> list[dict[str, Any]]:
    """Read what `save_class_scores` wrote, `low` and `high` None where empty; errors as of `load_history`."""
    table = _Table(path, CLASS_COLUMNS, _long_form(*CLASS_COLUMNS[:4]))
    table.refuse(lambda row: not math.isfinite(row["value"]), "is not finite")
    table.check_grid(CLASS_COLUMNS[:3], ("class",))
    return table.rows


def save_images(path: Pathlike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one CSV row for each image, all with the columns of the first; numbers with 6 decimals.

    The columns are IMAGE_COLUMNS, then kept_METHOD and trust_STAGE_METHOD. What is not known is empty.
    """
    columns = list(rows[0])
    cells = ([_image_cell(row[name]) for name in columns] for row in rows)
    write_table(path, columns, cells)


def load_images(path: Pathlike) -> list[dict[str, Any]]:
    """Read what `save_images` wrote, numbers that are empty as None; errors as of `load_history`."""
    header = _header(path)
    more = [name for name in header if name.startswith(_OF_EMBEDDINGS)]
    kinds: dict[str, Callable[[str], Any]] = dict.fromkeys(IMAGE_COLUMNS, _as_it_was)
    kinds |= dict.fromkeys((*_IMAGE_NUMBERS, *more), _finite_or_none) | {"index": _whole}
    return _Table(path, (*IMAGE_COLUMNS, *more), kinds).rows


def save_layers(path: Pathlike, rows: Iterable[LayerRow]) -> None:
    """Write a depth profile as long-form CSV, values with 6 decimals."""
    write_table(path, LAYER_COLUMNS, ((*row[:3], *map(_decimals, row[3:])) for row in rows))


def load_layers(path: Pathlike) -> list[LayerRow]:
    """Read what `save_layers` wrote; errors as of `load_history`."""
    table = _Table(path, LAYER_COLUMNS, _long_form(*LAYER_COLUMNS[:3]))
    table.refuse(lambda row: not math.isfinite(row["value"]), "is not finite")
    table.check_grid(("stage", "metric"), ("layer",))
    return [LayerRow(**row) for row in table.rows]


def save_history(path: Pathlike, history: Iterable[Mapping[str, float]]) -> None:
    """Write one CSV row an epoch, with the columns of HISTORY_COLUMNS."""
    first, *others = HISTORY_COLUMNS
    rows = ((f"{row[first]:.0f}", *(_decimals(row[name]) for name in others)) for row in history)
    write_table(path, HISTORY_COLUMNS, rows)


def load_history(path: Pathlike) -> list[dict[str, float]]:
    """Read what `save_history` wrote.

    Raises JaxtlError where the file is absent, or names the first line that is no row of such a table, is
    cut off, stands there twice or follows one that is missing.
    """
    table = _Table(path, HISTORY_COLUMNS, dict.fromkeys(HISTORY_COLUMNS, _number))
    for number, (line, row) in enumerate(zip(table.lines, table.rows, strict=True), 1):
        if row["epoch"] != number:
            raise table.fault(f"line {line}: epoch {row['epoch']:g} stands where {number} belongs")
    return table.rows


def write_table(path: Pathlike, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write cells as they are, each row on a line; whole or not at all."""
    write_text(path, as_csv(columns, rows, "\n"))


def as_csv(columns: Iterable[str], rows: Iterable[Sequence[Any]], line_end: str) -> str:
    """Rows of cells under a head, as CSV. Texts are `harmless`; readers here give them back as they were."""
    # With another line end than RFC 4180's the writer leaves a "\r" within a cell unquoted.
    lines: list[str] = []
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([harmless(cell) for cell in row] for row in rows)
    return "".join(line.removesuffix("\r\n") + line_end for line in lines)


def harmless(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: a text that begins like one has "'" before it.

    So has one that begins with "'" and goes on like that: `_as_it_was` is the inverse. Numbers, written ones
    too, stay (https://owasp.org/www-community/attacks/CSV_Injection).
    """
    if not isinstance(cell, str) or not _begins_a_formula(cell) or _WRITTEN_NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def _as_it_was(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _begins_a_formula(cell) else cell


def _begins_a_formula(cell: str) -> bool:
    return cell.lstrip("'").startswith(_FORMULA)


def _decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _image_cell(value: Any) -> Any:
    return _decimals(value) if value is None or isinstance(value, float) else value


# What is read of a cell; ValueError says what it is not.


def _text(cell: str) -> str:
    if not cell:
        raise ValueError("is empty")
    return _as_it_was(cell)


def _number(cell: str) -> float:
    # Python takes more for numbers: 1_0, and the digits of any script.
    if len(cell) > _LONGEST or not (_WRITTEN_NUMBER.fullmatch(cell) or cell in ("nan", "inf")):
        raise ValueError(f"is {brief(cell)}, not a number" if cell else "is empty")
    return float(cell)


def _whole(cell: str) -> int:
    digits = cell.removeprefix("-")
    if not digits.isascii() or not digits.isdecimal() or len(digits) > _WHOLE_DIGITS:
        raise ValueError(f"is {brief(cell)}, not a whole number" if cell else "is empty")
    return int(cell)


def _finite_or_none(cell: str) -> float | None:
    number = _number_or_none(cell)
    if number is not None and not math.isfinite(number):
        raise ValueError("is not finite")
    return number


def _number_or_none(cell: str) -> float | None:
    return _number(cell) if cell else None


def _long_form(*texts: str) -> dict[str, Callable[[str], Any]]:
    """Columns of texts, a value and its bounds."""
    return dict.fromkeys(texts, _text) | {"value": _number, "low": _number_or_none, "high": _number_or_none}


class _Table:
    """A table that was read: `rows` by column, and the line where each ends."""

    def __init__(
        self, path: Pathlike, columns: Sequence[str], kinds: Mapping[str, Callable[[str], Any]]
    ) -> None:
        self._path, self._columns = path, columns
        self.rows: list[_Cells] = []
        self.lines: list[int] = []
        for line, cells in self._read():
            self.lines.append(line)
            self.rows.append({name: self._cell(line, name, cells[name], kinds[name]) for name in columns})
        if not self.rows:
            raise self.fault("it has no rows")

    def fault(self, what: str) -> JaxtlError:
        columns = ", ".join(self._columns)
        return JaxtlError(f"{self._path}: not a table with columns {columns} ({what}); {MAKE_AGAIN}")

    def refuse(self, wrong: Callable[[_Cells], bool], what: str) -> None:
        """Raises JaxtlError for the first row whose value is wrong."""
        for line, row in zip(self.lines, self.rows, strict=True):
            if wrong(row):
                raise self.fault(f"line {line}: value {what}")

    def check_grid(self, one: Sequence[str], other: Sequence[str] = ()) -> None:
        """Raises JaxtlError unless all that stands in `one` comes, once, with all that stands in `other`."""
        lines: dict[tuple[Any, ...], int] = {}
        groups, members = (
            [tuple(row[name] for name in names) for row in self.rows] for names in (one, other)
        )
        for line, *key in zip(self.lines, groups, members, strict=True):
            if tuple(key) in lines:
                raise self.fault(f"line {line} is of the same number as line {lines[tuple(key)]}")
            lines[tuple(key)] = line
        for group, member in product(dict.fromkeys(groups), dict.fromkeys(members)):
            if (group, member) not in lines:
                raise self.fault(f"the row of {', '.join((*group, *member))} is missing")

    def _read(self) -> Iterator[tuple[int, _Cells]]:
        text = self._content()
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            header = next(reader, None)
            if not header:
                raise self.fault("the file is empty")
            if len(set(header)) < len(header):
                raise self.fault("two columns have one name")
            if absent := [name for name in self._columns if name not in header]:
                raise self.fault(f"columns are missing: {', '.join(absent)}")
            for cells in reader:
                if len(cells) not in (0, len(header)):
                    raise self.fault(f"line {reader.line_num} has {len(cells)} cells of {len(header)}")
                if cells:
                    yield reader.line_num, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise self.fault(f"line {reader.line_num}: {error}") from None
        # What is cut within its last number would pass for another number.
        if not text.endswith("\n"):
            raise self.fault(f"line {reader.line_num} is cut off")

    def _content(self) -> str:
        check_file(self._path)
        try:
            return Path(self._path).read_bytes().decode("utf-8-sig")
        except FileNotFoundError:
            raise JaxtlError(f"{self._path}: no such file") from None
        except UnicodeDecodeError:
            raise self.fault("it is no text") from None

    def _cell(self, line: int, name: str, cell: str, kind: Callable[[str], Any]) -> Any:
        try:
            return kind(cell)
        except ValueError as error:
            raise self.fault(f"line {line}: {name} {error}") from None


def _header(path: Pathlike) -> list[str]:
    """The names in a table's first line, as far as they can be told; who reads the table finds its faults."""
    check_file(path)
    try:
        with Path(path).open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            return next(csv.reader(stream), [])
    except (FileNotFoundError, csv.Error):
        return []


def read_columns(path: Pathlike) -> dict[str, list[str]]:
    """A table that somebody else wrote, as text by column: UTF-8, with a header; commas, semicolons or tabs
    between.

    Spaces around cells are dropped, and empty lines.

    Raises:
        JaxtlError: no such file, one that is not such a table, or a row with more or fewer cells than the
            header.
    """
    check_file(path, "give a table")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise JaxtlError(f"{path}: is not UTF-8 text; save it as CSV in UTF-8") from None
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        # Where a quote was never closed, the rest of the file is one cell.
        limit = csv.field_size_limit()
        reason = f"a cell of more than {limit:,} letters" if "field limit" in str(error) else error
        raise JaxtlError(
            f"{path}: is not a readable CSV file ({reason}, line {reader.line_num}); mend its quotes or save "
            "it again"
        ) from None
    names, *lines = [[_as_it_was(cell.strip()) for cell in row] for row in rows] or [[]]
    if not any(names) or len(set(names)) < len(names):
        raise JaxtlError(
            f"{path}: its first line must name the columns, each once; it is {brief(header.strip())}"
        )
    for number, line in enumerate(lines, 2):
        if line and len(line) != len(names):
            raise JaxtlError(f"{path}: row {number} has {len(line)} cells, the header has {len(names)}")
    columns = zip(*filter(None, lines), strict=True)
    return dict(zip(names, map(list, columns), strict=True)) if any(lines) else {name: [] for name in names}
