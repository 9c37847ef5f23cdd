"""Two runs of a suite: pyperf says which times differ; what got better or worse is told before it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measures import judged, limits, paired_ratios
from benchmarks.tables import table
from jaxtl.errors import JaxtlError
from jaxtl.machine.process import run_command

Record = dict[str, Any]
Row = dict[str, Any]
# pyperf calls any difference of two single values significant.
_LEAST_ROUNDS = 2


def compare(before: Record, after: Record, threshold: float, against: str | None = None) -> None:
    """Print what the machine did, the qualities that changed, and pyperf's table of the times.

    Args:
        before, after: records of suites.
        threshold: a change of the mean time below this share is none.
        against: a peer. Times then count as they would be had this peer been as quick in every round as it
            was in the median of `before`, which takes out what the machine did differently.

    Raises:
        JaxtlError: no row in common, or none of `against`.
    """
    pairs = _pairs(before, after)
    if not pairs:
        raise JaxtlError("compare: the two results have no row in common; run the same suite twice")
    for line in [*_machine(before, after), *_qualities(pairs)]:
        print(line)
    times = _times(pairs, against)
    if times:
        _compare_times(times, threshold)


def _pairs(before: Record, after: Record) -> list[tuple[Row, Row]]:
    """Rows of one case, size, peer and arguments, of both."""
    second = {_key(row): row for row in after["rows"] if row["seconds"]}
    return [(row, second[_key(row)]) for row in before["rows"] if row["seconds"] and _key(row) in second]


def _key(row: Row) -> tuple[Any, ...]:
    return row["case"], row["size"], row["peer"], tuple(sorted(row["arguments"].items()))


def _machine(before: Record, after: Record) -> Iterator[str]:
    for name in ("cpu", "cores"):
        if before["machine"][name] != after["machine"][name]:
            yield f"Another machine: {name} {before['machine'][name]}, then {after['machine'][name]}."
    first, second = limits(before), limits(after)
    named = {"flops": "matrix product", "bytes": "bandwidth"}
    rates = [
        f"{named[key]} {second[key] / first[key]:.2f}" for key in named if key in first and key in second
    ]
    if rates:
        yield f"The machine itself, after / before: {', '.join(rates)}."


def _qualities(pairs: list[tuple[Row, Row]]) -> list[str]:
    rows = [
        [_name(old), name, f"{median(old['quality'][name]):.4g}", f"{median(new['quality'][name]):.4g}", word]
        for old, new in pairs
        for name, word in judged(new, old).items()
    ]
    return ["", *table(["", "quality", "before", "after", ""], rows), ""] if rows else []


def _name(row: Row) -> str:
    return ", ".join([row["case"], *([] if row["size"] is None else [f"{row['size']:,}"]), row["peer"]])


def _times(pairs: list[tuple[Row, Row]], against: str | None) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds before and after, by the row's name."""
    yardsticks = {_key(old)[:2]: (old, new) for old, new in pairs if old["peer"] == against}
    if against and not yardsticks:
        peers = ", ".join(sorted({old["peer"] for old, _ in pairs}))
        raise JaxtlError(f"--against: no shared row of {against!r}; there are {peers}")
    if against:
        pairs = [pair for pair in pairs if pair[0]["peer"] != against and _key(pair[0])[:2] in yardsticks]
    times = {_name(old): _seconds((old, new), yardsticks.get(_key(old)[:2])) for old, new in pairs}
    return {name: pair for name, pair in times.items() if min(map(len, pair)) >= _LEAST_ROUNDS}


def _seconds(pair: tuple[Row, Row], yardstick: tuple[Row, Row] | None) -> tuple[list[float], list[float]]:
    if yardstick is None:
        return pair[0]["seconds"], pair[1]["seconds"]
    usual = median(yardstick[0]["seconds"])
    both = zip(pair, yardstick, strict=True)
    ratios = [paired_ratios(row["seconds"], other["seconds"]) for row, other in both]
    return tuple([usual * ratio for ratio in samples] for samples in ratios)


def _compare_times(times: dict[str, tuple[list[float], list[float]]], threshold: float) -> None:
    """`pyperf compare_to`, of files of its own kind."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("before", "after")]
        for number, path in enumerate(paths):
            _suite({name: seconds[number] for name, seconds in times.items()}).dump(str(path))
        options = ["--table", "--table-format", "md", "--min-speed", str(100 * threshold)]
        ended = run_command([sys.executable, "-m", "pyperf", "compare_to", *options, *map(str, paths)])
    print(ended.output, end="")
    if ended.code:
        raise JaxtlError(f"compare: pyperf failed: {ended.errors.strip()[-300:]}")


def _suite(times: dict[str, list[float]]) -> Any:
    import pyperf

    def benchmark(name: str, seconds: list[float]) -> pyperf.Benchmark:
        own = {"metadata": {"name": name}, "collect_metadata": False}
        return pyperf.Benchmark([pyperf.Run([value], **own) for value in seconds])

    return pyperf.BenchmarkSuite([benchmark(*item) for item in times.items()])
