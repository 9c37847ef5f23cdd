"""Two runs of a suite: what got slower or worse, with the noise taken into account."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measures import judged, limits, paired_ratios
from benchmarks.tables import table
from jaxtl.errors import JaxtlError

Record = dict[str, Any]
Row = dict[str, Any]
Key = tuple[str, int | None, str]
_RESAMPLES = 10_000
# Three rounds a side lie wholly apart by chance once in ten times, and a bootstrap then sees no doubt;
# five do so once in 126.
LEAST_ROUNDS = 5


@dataclass(frozen=True)
class Change:
    """One row in two runs.

    Attributes:
        ratio: of the median times, second over first; with its interval `low`, `high`.
        verdict: "slower", "faster", "no difference", "too few rounds" or "other arguments".
        quality: names of what got worse or better, with that word.
    """

    case: str
    size: int | None
    peer: str
    ratio: float
    low: float
    high: float
    verdict: str
    quality: dict[str, str]

    @property
    def bad(self) -> bool:
        return self.verdict == "slower" or "worse" in self.quality.values()


def compare(
    before: Record, after: Record, level: float = 0.99, threshold: float = 0.05, against: str | None = None
) -> list[Change]:
    """Every row that both runs have.

    Args:
        before, after: records of suites.
        level: of the interval, a bootstrap of the two medians (Efron & Tibshirani 1993, percentile), 10,000
            resamples of the rounds of each run.
        threshold: a smaller change is no difference, whatever the interval.
        against: a peer. Each row's time then counts as a multiple of this peer's in the same round, which
            takes out what the machine did differently in the two runs.

    Raises:
        JaxtlError: no row in common, or `against` has no rows.
    """
    first, second = (
        {_key(row): row for row in record["rows"] if row["seconds"]} for record in (before, after)
    )
    shared = [key for key in first if key in second]
    if not shared:
        raise JaxtlError("compare: the two results have no row in common; run the same suite twice")
    if against and not any(key[2] == against for key in shared):
        peers = ", ".join(sorted({key[2] for key in shared}))
        raise JaxtlError(f"--against: no shared row of {against!r}; there are {peers}")
    changes = []
    for key in shared:
        if against is None:
            pair = first[key]["seconds"], second[key]["seconds"]
        else:
            other = (*key[:2], against)
            if key == other or other not in first or other not in second:
                continue
            pair = tuple(paired_ratios(run[key]["seconds"], run[other]["seconds"]) for run in (first, second))
        changes.append(_change(key, first[key], second[key], *pair, level, threshold))
    return changes


def _key(row: Row) -> Key:
    return row["case"], row["size"], row["peer"]


def _change(
    key: Key, old: Row, new: Row, before: list[float], after: list[float], level: float, threshold: float
) -> Change:
    low, high = interval(before, after, level)
    ratio = median(after) / median(before)
    verdict = "no difference"
    if old["arguments"] != new["arguments"]:
        verdict = "other arguments"
    elif min(len(before), len(after)) < LEAST_ROUNDS:
        verdict = "too few rounds"
    elif low > 1 and ratio > 1 + threshold:
        verdict = "slower"
    elif high < 1 and ratio < 1 / (1 + threshold):
        verdict = "faster"
    return Change(*key, ratio, low, high, verdict, judged(new, old))


def interval(before: list[float], after: list[float], level: float) -> tuple[float, float]:
    """Of the ratio of the medians, second over first; the same for the same samples."""
    rng = np.random.default_rng(0)
    medians = [
        np.median(rng.choice(np.asarray(samples), (_RESAMPLES, len(samples))), axis=1)
        for samples in (before, after)
    ]
    low, high = np.quantile(medians[1] / medians[0], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def render(before: Record, after: Record, changes: list[Change], level: float) -> str:
    """Markdown: what the machine did, then the rows, the worst first."""
    rows = [
        [f"`{each.case}`", "" if each.size is None else f"{each.size:,}", each.peer, f"{each.ratio:.2f}",
         f"{each.low:.2f}..{each.high:.2f}", f"**{each.verdict}**" if each.bad else each.verdict,
         ", ".join(f"{name} {word}" for name, word in each.quality.items())]
        for each in sorted(changes, key=lambda change: (not change.bad, -change.ratio))
    ]  # fmt: skip
    columns = ["case", "size", "", "time after / before", f"{level:.0%} interval", "", "quality"]
    return "\n".join([*_machine(before, after), "", *table(columns, rows)]) + "\n"


def _machine(before: Record, after: Record) -> list[str]:
    lines = []
    for name in ("cpu", "cores"):
        if before["machine"][name] != after["machine"][name]:
            lines.append(f"Another machine: {name} {before['machine'][name]}, then {after['machine'][name]}.")
    first, second = limits(before), limits(after)
    named = {"flops": "matrix product", "bytes": "bandwidth"}
    rates = [
        f"{named[key]} {second[key] / first[key]:.2f}" for key in named if key in first and key in second
    ]
    if rates:
        lines.append(f"The machine itself, after / before: {', '.join(rates)}.")
    return lines
