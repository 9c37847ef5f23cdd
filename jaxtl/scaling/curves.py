"""Points to curves: the long table, and power laws through what was measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxtl.costs.power_law import PowerLaw, fit
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import (
    DEVICE_PEAK,
    MEMORY,
    MEMORY_BEFORE,
    MEMORY_PEAK,
    RESIDENT_PEAK,
    SECONDS,
)
from jaxtl.records.files import write_text
from jaxtl.scaling.points import DONE, OVER_MEMORY, OVER_TIME, Point
from jaxtl.scaling.quality import Quality

COLUMNS = ("method", "backend", "n", "status", "metric", "value", "low", "high", "note")
FIT_COLUMNS = ("method", "backend", "metric", "coefficient", "exponent", "low", "high", "smallest", "largest",
               "sizes")  # fmt: skip
# Sizes that a power law goes through: within this factor of the largest, where what is constant has faded and
# libraries do not change their algorithm, but three at least.
FITTED_RANGE = 10
_FEWEST = 3
# Less cannot be told from what an allocator keeps.
_LEAST_BYTES = 2**20


class Curve(NamedTuple):
    """One method by one library: its points by size, and the laws through them, None where there is none."""

    method: str
    backend: str
    points: tuple[Point, ...]
    seconds: PowerLaw | None
    memory: PowerLaw | None

    @property
    def done(self) -> tuple[Point, ...]:
        return tuple(point for point in self.points if point.status == DONE)


def curves(points: Sequence[Point]) -> list[Curve]:
    """In the order in which methods and backends come first."""
    names = dict.fromkeys((point.method, point.backend) for point in points)
    return [_curve(*name, [p for p in points if (p.method, p.backend) == name]) for name in names]


def _curve(method: str, backend: str, points: list[Point]) -> Curve:
    points = sorted(points, key=lambda point: point.n)
    done = [point for point in points if point.status == DONE]
    seconds = {point.n: point.typical_seconds for point in done}
    memory = {point.n: point.memory for point in done if (point.memory or 0) >= _LEAST_BYTES}
    return Curve(method, backend, tuple(points), _law(seconds), _law(memory))


def _law(values: dict[int, float]) -> PowerLaw | None:
    sizes = sorted(values)
    near = [n for n in sizes if n * FITTED_RANGE >= sizes[-1]]
    chosen = near if len(near) >= _FEWEST else sizes[-_FEWEST:]
    try:
        return fit(chosen, [values[n] for n in chosen])
    except JaxtlError:
        return None


def save_table(path: Path, found: Sequence[Curve], features: dict[int, Quality]) -> None:
    """Every number of a study, one in a row.

    A point that is not done has one row: its limit in seconds or the bytes that it reached, or no value.
    """
    rows = [row for curve in found for point in curve.points for row in _rows(point)]
    for n, quality in sorted(features.items()):
        rows += [("features", "", n, DONE, metric, *each, "") for metric, each in quality.items()]
    _write(path, COLUMNS, rows)


def _rows(point: Point) -> Iterator[tuple]:
    name = (point.method, point.backend, point.n, point.status)
    if point.status != DONE:
        over = {OVER_TIME: (SECONDS, point.limits.get("seconds")), OVER_MEMORY: (MEMORY, point.peak)}
        yield (*name, *over.get(point.status, ("", None)), None, None, point.note)
        return
    yield (*name, SECONDS, point.typical_seconds, min(point.seconds), max(point.seconds), "")
    for metric, value in (
        (MEMORY, point.memory),
        (MEMORY_BEFORE, point.baseline),
        (MEMORY_PEAK, point.peak),
        (RESIDENT_PEAK, point.resident_peak),
        (DEVICE_PEAK, point.device_peak),
    ):
        if value is not None:
            yield (*name, metric, value, None, None, "")
    for metric, (value, low, high) in (point.quality or {}).items():
        yield (*name, metric, value, low, high, "")


def save_fits(path: Path, found: Sequence[Curve]) -> None:
    """Every power law, one in a row: coefficient * n^exponent, the exponent with its 95 % interval."""
    laws = [
        (curve.method, curve.backend, metric, law)
        for curve in found
        for metric, law in ((SECONDS, curve.seconds), (MEMORY, curve.memory))
        if law is not None
    ]
    rows = [
        (
            *name,
            law.coefficient,
            law.exponent,
            law.low,
            law.high,
            int(law.smallest),
            int(law.largest),
            law.count,
        )
        for *name, law in laws
    ]
    _write(path, FIT_COLUMNS, rows)


def _write(path: Path, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if cell is None else _cell(cell) for cell in row])
    write_text(path, out.getvalue())


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
