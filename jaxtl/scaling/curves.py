"""Trials to curves: the long table, and power laws through what was measured."""

from __future__ import annotations

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
from jaxtl.methods import METHODS
from jaxtl.records.tables import write_table
from jaxtl.scaling.folder import StudyFolder
from jaxtl.scaling.plan import read_config
from jaxtl.scaling.quality import Quality
from jaxtl.scaling.trials import DONE, OVER_MEMORY, OVER_TIME, Trial

COLUMNS = ("method", "backend", "n", "status", "metric", "value", "low", "high", "note")
FIT_COLUMNS = (
    "method",
    "backend",
    "metric",
    "coefficient",
    "exponent",
    "low",
    "high",
    "smallest",
    "largest",
    "sizes",
)
# Sizes that a power law goes through: within this factor of the largest, where what is constant has faded and
# libraries do not change their algorithm, but three at least.
FITTED_RANGE = 10
_FEWEST = 3
# Less cannot be told from what an allocator keeps.
_LEAST_BYTES = 2**20


class Curve(NamedTuple):
    """One method by one library: its trials by size, and the laws through them, None where there is none.

    `smaller` has those of time and memory for sizes that the library computes another way (`Method.changes`).
    """

    method: str
    backend: str
    trials: tuple[Trial, ...]
    seconds: PowerLaw | None
    memory: PowerLaw | None
    smaller: tuple[PowerLaw, PowerLaw | None] | None = None

    @property
    def done(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if trial.status == DONE)


def most_at_a_time(shown: Sequence[Curve]) -> int:
    """How many trials were made at a time on one machine, at most."""
    return max((trial.machine.get("beside", 1) for curve in shown for trial in curve.done), default=1)


def curves(trials: Sequence[Trial]) -> list[Curve]:
    """In the order in which methods and backends come first."""
    names = dict.fromkeys((trial.method, trial.backend) for trial in trials)
    return [_curve(*name, [t for t in trials if (t.method, t.backend) == name]) for name in names]


def read_curves(folder: Path) -> list[Curve]:
    """The curves of a study's folder. Raises JaxtlError where it is none, or has no trials."""
    read_config(folder)
    known = curves(StudyFolder(folder).trials())
    if not known:
        raise JaxtlError(f"{folder}: the study has no trials yet; go on with: jaxtl scale --out {folder}")
    return known


def _curve(method: str, backend: str, trials: list[Trial]) -> Curve:
    trials = sorted(trials, key=lambda trial: trial.n)
    done = [trial for trial in trials if trial.status == DONE]
    seconds = {trial.n: trial.typical_seconds for trial in done}
    memory = {trial.n: trial.memory for trial in done if (trial.memory or 0) >= _LEAST_BYTES}
    change = METHODS[method].changes.get(backend) if method in METHODS else None
    smaller = None
    if change is not None and sum(n > change for n in seconds) >= _FEWEST:
        below = [_law({n: value for n, value in of.items() if n <= change}) for of in (seconds, memory)]
        smaller = None if below[0] is None else tuple(below)
        seconds, memory = ({n: value for n, value in of.items() if n > change} for of in (seconds, memory))
    return Curve(method, backend, tuple(trials), _law(seconds), _law(memory), smaller)


def _law(values: dict[int, float]) -> PowerLaw | None:
    sizes = sorted(values)
    largest = [n for n in sizes if n * FITTED_RANGE >= sizes[-1]]
    chosen = largest if len(largest) >= _FEWEST else sizes[-_FEWEST:]
    try:
        return fit(chosen, [values[n] for n in chosen])
    except JaxtlError:
        return None


def save_table(path: Path, shown: Sequence[Curve], features: dict[int, Quality]) -> None:
    """Every number of a study, one in a row.

    A trial that is not done has one row: its limit in seconds or the bytes that it reached, or no value.
    Seconds are noted that were measured beside other trials, and where, if some were measured elsewhere.
    """
    done = [trial for curve in shown for trial in curve.done]
    several = len({trial.machine.get("host") for trial in done} - {None}) > 1
    rows = [row for curve in shown for trial in curve.trials for row in _rows(trial, several)]
    for n, quality in sorted(features.items()):
        rows += [("features", "", n, DONE, metric, *score, "") for metric, score in quality.items()]
    _write(path, COLUMNS, rows)


def _rows(trial: Trial, several: bool) -> Iterator[tuple]:
    name = (trial.method, trial.backend, trial.n, trial.status)
    if trial.status != DONE:
        over = {OVER_TIME: (SECONDS, trial.limits.get("seconds")), OVER_MEMORY: (MEMORY, trial.peak)}
        yield (*name, *over.get(trial.status, ("", None)), None, None, trial.note)
        return
    yield (
        *name,
        SECONDS,
        trial.typical_seconds,
        min(trial.seconds),
        max(trial.seconds),
        _circumstances(trial, several),
    )
    for metric, value in (
        (MEMORY, trial.memory),
        (MEMORY_BEFORE, trial.baseline),
        (MEMORY_PEAK, trial.peak),
        (RESIDENT_PEAK, trial.resident_peak),
        (DEVICE_PEAK, trial.device_peak),
    ):
        if value is not None:
            yield (*name, metric, value, None, None, "")
    for metric, (value, low, high) in (trial.quality or {}).items():
        yield (*name, metric, value, low, high, "")


def _circumstances(trial: Trial, several: bool) -> str:
    """Where a trial was made, if it may be one of several hosts, and what it shared that with."""
    host, beside = trial.machine.get("host"), trial.machine.get("beside", 1)
    where = f"on {host}" if several and host else ""
    return ", ".join(filter(None, [f"{beside} trials at a time" if beside > 1 else "", where]))


def save_fits(path: Path, shown: Sequence[Curve]) -> None:
    """Every power law, one in a row: coefficient * n^exponent, the exponent with its 95 % interval."""
    laws = [
        (curve.method, curve.backend, metric, law)
        for curve in shown
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
    write_table(path, columns, [["" if cell is None else _cell(cell) for cell in row] for row in rows])


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
