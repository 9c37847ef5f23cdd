"""Records of suites as GitHub Markdown: a table for each family of cases, quality beside every time."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.cases import CASES, FAMILIES, OURS
from benchmarks.measures import duration, judged, limits, paired_ratios, share_of_limit, spread
from benchmarks.processes import spoken

Record = dict[str, Any]
Row = dict[str, Any]
_GIB = 2**30


def render(record: Record) -> str:
    """Markdown of the rows that a record holds, and of what it lacks."""
    lines = heading(record)
    for family, title in FAMILIES.items():
        rows = [row for row in record["rows"] if CASES[row["case"]].family == family]
        if any(row["seconds"] for row in rows):
            titles = [
                f"- `{name}`: {CASES[name].title}." for name in dict.fromkeys(row["case"] for row in rows)
            ]
            lines += ["", f"## {title}", "", *titles, "", *_family(rows, record), *_parts(rows)]
    lines += _legend(record)
    missing = [row for row in record["rows"] if row["state"] != "done"]
    if missing:
        lines += ["", "## Not measured", "", *_missing(missing)]
    return "\n".join(lines) + "\n"


def heading(record: Record) -> list[str]:
    host = record["machine"]
    threads = ", ".join(f"{name}={value}" for name, value in record["threads"].items())
    lines = [
        f"# Benchmark `{record['suite']}`",
        "",
        f"{record['date']}, jaxtl {host['jaxtl']} ({revision(record['git'])}), {host['cpu']}, "
        f"{host['cores']} cores, {host['memory_gib']} GiB; "
        f"{', '.join(record.get('devices', [])) or 'device unknown'}; Python {host['python']}, "
        f"{_versions(record)}. Threads: {threads or 'all cores, the default of each library'}. "
        f"Seed {record['manifest']['seed']}. Load average {record['load_average_before']} before and "
        f"{record.get('load_average_after', 'unknown')} after. {record['minutes']:.1f} minutes.",
    ]
    if limit := limits(record):
        lines += ["", f"The machine at its best in this run: {_machine(limit)}."]
    return lines


def revision(git: dict[str, Any]) -> str:
    return (git["revision"] or "unknown")[:12] + (" with changes" if git["modified"] else "")


def _versions(record: Record) -> str:
    versions: dict[str, str] = {}
    for peer in record["peers"].values():
        versions |= {name: version for name, version in peer["versions"].items() if name != "jaxtl"}
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "versions unknown"


def _machine(limit: dict[str, float]) -> str:
    products = {"flops": "float32", "flops tf32": "TF32", "flops bf16": "bfloat16"}
    rates = [
        f"{name} product {limit[key] / 1e9:,.0f} GFLOP/s" for key, name in products.items() if key in limit
    ]
    return ", ".join([*rates, f"copy {limit['bytes'] / 1e9:,.1f} GB/s"])


def _family(rows: Sequence[Row], record: Record) -> list[str]:
    ours = {(row["case"], row["size"]): row for row in rows if row["peer"] == OURS and row["seconds"]}
    cells = [_cells(row, ours.get((row["case"], row["size"])), record) for row in rows if row["seconds"]]
    # A column that says nothing about this family stays out.
    kept = [column for column in cells[0] if any(line[column] for line in cells)]
    return table(kept, [[line[column] for column in kept] for line in cells])


def _cells(row: Row, ours: Row | None, record: Record) -> dict[str, str]:
    """By the titles of their columns."""
    # Products of a lower precision have a limit of their own.
    settings = record["peers"].get(row["peer"], {}).get("settings", {})
    share = share_of_limit(row, limits(record), settings.get("precision", "highest"))
    units = CASES[row["case"]].units
    ratios = [] if ours is None or ours is row else paired_ratios(row["seconds"], ours["seconds"])
    return {
        "case": f"`{row['case']}`",
        "size": _size(row),
        "": f"**{row['peer']}**" if row["peer"] == OURS else row["peer"],
        "time: median (range)": duration(row["seconds"]),
        "a second": f"{row['count'] / median(row['seconds']):,.0f} {units}" if row["count"] else "",
        "time / jaxtl's (range)": spread(ratios) if ratios else "",
        "first call (compiling)": _first(row),
        "peak memory": _memory(row["memory"]),
        "of the limit": f"{share[0]:.1%} ({share[1]})" if share else "",
        "quality": _quality(row, ours),
    }


def _first(row: Row) -> str:
    compiling = row["compile_seconds"]
    told = f"({duration([compiling])})" if compiling else ""
    return " ".join(filter(None, [duration([row["first_seconds"]]) if row["first_seconds"] else "", told]))


def _memory(memory: dict[str, int]) -> str:
    gib = {name: count / _GIB for name, count in memory.items()}
    parts = [f"{gib['peak_bytes']:.2f} GiB"] if "peak_bytes" in gib else []
    parts += [f"{gib['peak_bytes'] - gib['resting_bytes']:.2f} above rest"] if "resting_bytes" in gib else []
    parts += [f"GPU {gib['device_peak_bytes']:.2f} GiB"] if "device_peak_bytes" in gib else []
    return ", ".join(parts)


def _quality(row: Row, ours: Row | None) -> str:
    verdicts = judged(row, ours if row is not ours else None)
    parts = []
    for name, values in row["quality"].items():
        value, verdict = median(values), verdicts.get(name)
        text = f"{name} {value:.4g}"
        parts.append(f"{text} (**{verdict}**)" if verdict else text)
    return ", ".join(parts)


def _parts(rows: Sequence[Row]) -> list[str]:
    """Where the time of whole processes goes, in their last round and their own words."""
    lines = []
    for row in rows:
        if parts := row.get("parts"):
            what = f"`{row['case']}` {_size(row)}, {row['peer']}"
            for when, seconds in (("first call", row.get("first_parts")), ("last round", parts)):
                if seconds:
                    lines += ["", f"- {what}, {when}, s: {spoken(seconds)}"]
    return lines


def _legend(record: Record) -> list[str]:
    lines = [
        "",
        "Times are wall-clock, from data in host memory to results there, after a first call that stands "
        "apart; the peers took turns, and a ratio is the median of the rounds' own. Peak memory is the "
        "process's while it worked, and how much that is above what it held before. *Of the limit*: the "
        "least time that the work's operations or bytes need at the rates above, over the time. "
        "*Better* and *worse* than jaxtl: by more than 1 % and more than the spread over rounds.",
        "",
    ]
    for name, peer in record["peers"].items():
        settings = peer.get("settings", {}).items()
        lines.append(f"- {name}: {', '.join(f'{key} {value}' for key, value in settings)}")
    return lines


def _missing(rows: Sequence[Row]) -> list[str]:
    cells = [[f"`{row['case']}`", _size(row), row["peer"], row["state"], row["reason"]] for row in rows]
    return table(["case", "size", "", "state", "why"], cells)


def _size(row: Row) -> str:
    return "" if row["size"] is None else f"{row['size']:,}"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Markdown, a line each."""
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]
