"""A sweep as tables: JSON, CSV, and on a terminal; and what it is expected to take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from jaxtl.costs.forecast import Forecast
from jaxtl.costs.words import duration
from jaxtl.errors import shown
from jaxtl.metrics.estimates import Estimate
from jaxtl.records.tables import as_csv
from jaxtl.sweeps import choice
from jaxtl.sweeps.rows import ESTIMATES, NEAREST, TESTED, SweepRow, label
from jaxtl.sweeps.settings import Asked


def as_record(rows: Sequence[SweepRow], images: int) -> dict[str, Any]:
    """All of it for files and programs."""
    top, low = choice.best(rows), choice.cheapest(rows)
    return {
        "rows": [row.as_record() for row in rows],
        "test_images": images,
        "best": top and top.name,
        "cheapest": low and low.name,
        "words": choice.words(rows, images),
    }


def as_text(rows: Sequence[SweepRow]) -> str:
    """The rows as CSV; an estimate has a column for itself, and two for its bounds."""
    flat = [_flat(row.as_record()) for row in rows]
    cells = [["" if cell is None else _cell(cell) for cell in row.values()] for row in flat]
    return as_csv(list(flat[0]), cells, "\n")


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if name in ESTIMATES:
            parts = value or (None, None, None)
            flat |= dict(zip((name, f"{name}_low", f"{name}_high"), parts, strict=True))
        else:
            flat[name] = value
    return flat


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def read_rows(record: Mapping[str, Any]) -> list[SweepRow]:
    return [SweepRow.of_record(row) for row in record["rows"]]


def rows_table(rows: Sequence[SweepRow]) -> Table:
    """One row a combination, or why it is missing."""
    table = Table(
        title=f"Combinations, with 95 % intervals of {TESTED}",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("trained", overflow="fold")
    heads = (TESTED, "behind\nthe best", "probe\nbefore, after", f"{NEAREST}\nbefore, after")
    for heading in (*heads, "trained\nparameters", "fine-\ntuning", "whole\nrun", "memory\nGiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(shown(label(row, rows)), *_cells(row, rows))
    return table


def _cells(row: SweepRow, rows: Sequence[SweepRow]) -> list[str | Text]:
    parameters = "" if row.parameters is None else f"{row.parameters:,}"
    if not row.is_done:
        return [Text(shown(row.status), style="red"), "", "", "", parameters, "", "", ""]
    return [
        choice.spoken(row.test_accuracy),
        standing(row, rows),
        _pair(row.probe_before, row.probe_after),
        _pair(row.knn_before, row.knn_after),
        parameters,
        "" if row.training_seconds is None else duration(row.training_seconds),
        "" if row.seconds is None else duration(row.seconds),
        "" if row.peak_memory_gib is None else f"{row.peak_memory_gib:.1f}",
    ]


def standing(row: SweepRow, rows: Sequence[SweepRow]) -> str:
    """How far a row is behind the best; "~" before what is not distinguishable from it."""
    top, low = choice.best(rows), choice.cheapest(rows)
    also = ", cheapest" if low is not None and row.name == low.name else ""
    if top is not None and row.name == top.name:
        return f"best{also}"
    if row.behind is None:
        return ""
    return f"{'~ ' if row.behind.low <= 0 else ''}{row.behind.value:.3f}{also}"


def faults(rows: Sequence[SweepRow]) -> list[str]:
    """Why combinations are missing, a line each."""
    return [f"{row.name}: {row.status}: {row.note}" for row in rows if not row.is_done and row.note]


def _pair(before: Estimate | None, after: Estimate | None) -> str:
    return "" if before is None or after is None else f"{before.value:.3f}, {after.value:.3f}"


def forecast(known: Mapping[str, Any], asked: Asked, shared: Collection[str]) -> Forecast:
    """Of the runs that are not begun; what combinations of a group share is counted once for each."""
    parts: dict[str, float | None] = {}
    seen: set[tuple[str, str]] = set()
    machine = ""
    for combination in asked.grid.combinations:
        row = known["combinations"][combination.name]
        machine = row["machine"] or machine
        for name, seconds in row["forecast"]:
            once = name in _ONCE and (combination.group, name) in seen
            seen.add((combination.group, name))
            if seconds is None or parts.get(name, 0.0) is None:
                parts[name] = None
            elif not once:
                parts[name] = (parts.get(name) or 0.0) + seconds * (1 if name in shared else asked.seeds)
    return Forecast(tuple(parts.items()), machine)


# What is shared by runs of the same images and weights.
_ONCE = ("features",)
