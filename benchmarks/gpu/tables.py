"""The steps of the GPU benchmark as Markdown: checks, times, numbers, and what did not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from benchmarks.measures import spread
from benchmarks.tables import table

Record = dict[str, Any]


def render(record: Record) -> str:
    """Markdown of all steps so far; to come after the suite's."""
    lines: list[str] = []
    if record["sizes"]["quick"]:
        lines += ["", "**Small sizes: it shows that the benchmark works, not how fast anything is.**"]
    sections: dict[str, tuple[tuple[str, ...], Callable[[str, Record], Iterator[list[str]]]]] = {
        "Checks": (("case", "check", "value", "bound", "passed"), _checks),
        "Times of steps": (
            (
                "case",
                "what",
                "images or points",
                "first, s",
                "then, s: median (range)",
                "a second",
                "parts, s",
            ),
            _times,
        ),
        "t-SNE's variants": (
            ("variant", "points", "seconds", "of them descent", "divergence", "10-NN accuracy", "span"),
            _rows,
        ),
        "Steps of whole runs, seconds": (("step of the benchmark", "of the run", "seconds"), _timings),
        "Numbers": (("case", "what", "value"), _numbers),
        "Steps not done": (("case", "step", "state", "why"), _undone),
    }
    for title, (columns, rows_of) in sections.items():
        rows = [row for step in record["steps"] for row in rows_of(step["case"], step)]
        if rows:
            lines += ["", f"## {title}", "", *table(columns, rows)]
    return "\n".join(lines) + "\n"


def _checks(case: str, step: Record) -> Iterator[list[str]]:
    for check in step.get("checks", ()):
        passed = "yes" if check["passed"] else "**no**"
        yield [case, check["check"], f"{check['value']:.4g}", check["bound"], passed]


def _times(case: str, step: Record) -> Iterator[list[str]]:
    for time in step.get("times", ()):
        seconds = time["seconds"]
        typical = median(seconds) if seconds else time["first_seconds"]
        count = time["count"]
        parts = ", ".join(f"{name} {value:.3f}" for name, value in time.get("parts", {}).items())
        yield [
            case,
            time["what"],
            f"{count:,}" if count else "",
            "" if time["first_seconds"] is None else f"{time['first_seconds']:.3f}",
            spread(seconds, 3) if seconds else "",
            f"{count / typical:,.0f}" if count and typical else "",
            parts,
        ]


def _numbers(case: str, step: Record) -> Iterator[list[str]]:
    for name, value in step.get("numbers", {}).items():
        yield [case, name, _number(value)]


def _rows(case: str, step: Record) -> Iterator[list[str]]:
    for row in step.get("rows", ()):
        yield ["" if value is None else _number(value) for value in row.values()]


def _timings(case: str, step: Record) -> Iterator[list[str]]:
    for name, value in step.get("timings", {}).items():
        yield [step["step"], name, _number(value)]


def _number(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_number(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _undone(case: str, step: Record) -> Iterator[list[str]]:
    if step["state"] != "done":
        yield [case, step["step"], step["state"], step["reason"]]
