"""What samples come to: ratios within rounds, shares of the machine's limit, quality that differs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.cases import BETTER

Record = dict[str, Any]
Row = dict[str, Any]
# Of the other's value: less is no difference in quality.
_QUALITY_TOLERANCE = 0.01


def paired_ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Ratios of samples of the same rounds, as many as both have."""
    return [a / b for a, b in zip(theirs, ours, strict=False)]


def limits(record: Record) -> dict[str, float]:
    """The most that the machine has reached in this run, FLOP/s and bytes/s; empty where not measured."""
    rates = sorted(item for ceilings in record["ceilings"] for item in ceilings.items())
    return dict(rates)  # of one name the last, which is the largest


def share_of_limit(row: Row, limit: dict[str, float], precision: str = "highest") -> tuple[float, str] | None:
    """How near a row comes to what the machine allows, and which limit that is.

    The least time is that of the work's operations at the rate of a matrix product of that precision, or of
    its bytes at that of a copy, whichever is longer (Williams et al. 2009, the roofline). None where no work
    is counted.
    """
    if not row["work"] or not limit or not row["seconds"]:
        return None
    rate = limit.get(f"flops {precision}", limit["flops"])
    times = {"arithmetic": row["work"]["flops"] / rate, "memory": row["work"]["bytes"] / limit["bytes"]}
    nearer = max(times, key=times.__getitem__)
    return times[nearer] / median(row["seconds"]), nearer


def judged(row: Row, other: Row | None) -> dict[str, str]:
    """Qualities of a row that are "better" or "worse" than another's, beyond 1 % and beyond their spread."""
    verdicts = {}
    for name, values in row["quality"].items():
        theirs = other["quality"].get(name) if other else None
        if theirs and (sign := BETTER.get(name.partition(" ")[0], 0)):
            apart = median(values) - median(theirs)
            spread = max(max(samples) - min(samples) for samples in (values, theirs))
            if abs(apart) > max(_QUALITY_TOLERANCE * abs(median(theirs)), spread):
                verdicts[name] = "better" if apart * sign > 0 else "worse"
    return verdicts


def spread(samples: Sequence[float], places: int = 2) -> str:
    """`median (min..max)`, or the one sample."""
    if len(samples) == 1:
        return f"{samples[0]:,.{places}f}"
    return f"{median(samples):,.{places}f} ({min(samples):,.{places}f}..{max(samples):,.{places}f})"


def duration(samples: Sequence[float]) -> str:
    """`median (min..max)` of seconds, in the unit that suits them, three digits of the median."""
    scale, unit = next(
        ((scale, unit) for scale, unit in ((1, "s"), (1e3, "ms")) if median(samples) * scale >= 1),
        (1e6, "µs"),
    )
    scaled = [sample * scale for sample in samples]
    places = max(0, 2 - len(str(int(median(scaled)))) + 1)
    return f"{spread(scaled, places)} {unit}"
