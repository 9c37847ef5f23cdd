"""Records of suites as figures: one for each family, a panel for each case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.cases import CASES, FAMILIES, OURS, peer_names
from benchmarks.tables import revision
from jaxtl.records.files import replacing

Record = dict[str, Any]
Row = dict[str, Any]
# Okabe and Ito's eight colours and black, told apart under colour blindness; markers say the same again.
_COLOURS = ("#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#7F7F7F", "#B8A800")
_MARKERS = "osD^vPX*h"
_COLUMNS = 3
_PANEL = (3.5, 2.5)
_STYLE = {
    "font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#E4E4E4", "grid.linewidth": 0.6, "axes.axisbelow": True,
    "legend.frameon": False, "savefig.dpi": 160, "svg.hashsalt": "jaxtl",
}  # fmt: skip


def draw(record: Record, out: Path) -> list[Path]:
    """Write SUITE-FAMILY.png and .svg for each family that has times; returns the paths.

    Raises:
        OSError: a folder that cannot be written to.
    """
    paths = []
    for family in FAMILIES:
        rows = [row for row in record["rows"] if CASES[row["case"]].family == family and row["seconds"]]
        if rows:
            with matplotlib.style.context(["default", _STYLE]):
                figure = family_figure(record, family, rows)
                for suffix in ("png", "svg"):
                    path = out / f"{record['suite']}-{family}.{suffix}"
                    with replacing(path) as temporary:
                        figure.savefig(temporary, metadata={"Date": None} if suffix == "svg" else None)
                    paths.append(path)
    return paths


def family_figure(record: Record, family: str, rows: Sequence[Row]) -> Figure:
    """Its cases: lines over size where there are several sizes, else bars."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    columns = min(_COLUMNS, len(cases))
    lines = -(-len(cases) // columns)
    size = (max(_PANEL[0] * columns, 6), _PANEL[1] * lines + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for panel, case in zip(panels, cases, strict=False):
        _panel(panel, case, [row for row in rows if row["case"] == case])
    for panel in list(panels)[len(cases) :]:
        panel.set_axis_off()
    for panel in figure.axes[len(cases) :]:
        panel.set_axis_off()
    figure.suptitle(
        f"{FAMILIES[family]}: {record['machine']['cpu']}, {record['machine']['cores']} cores, "
        f"{', '.join(record.get('devices', []))}; jaxtl {revision(record['git'])}", fontsize=8,
    )  # fmt: skip
    _legend(figure, rows)
    return figure


def _panel(axes: Axes, case: str, rows: Sequence[Row]) -> None:
    sizes = sorted({row["size"] for row in rows if row["size"] is not None})
    peers = [peer for peer in peer_names() if any(row["peer"] == peer for row in rows)]
    peers.sort(key=lambda peer: peer != OURS)
    if len(sizes) > 1:
        _lines(axes, case, rows, peers, sizes)
    else:
        _bars(axes, rows, peers)
    size = f", {sizes[0]:,} {CASES[case].unit}" if len(sizes) == 1 else ""
    axes.set_title(f"{case}{size}", loc="left", fontweight="bold")


def _lines(axes: Axes, case: str, rows: Sequence[Row], peers: Sequence[str], sizes: Sequence[int]) -> None:
    """Time over size; a forward pass, whose images differ with the batch, by its rate."""
    by_rate = CASES[case].unit == "batch"
    for peer in peers:
        own = sorted((row for row in rows if row["peer"] == peer), key=lambda row: row["size"])
        values = [[row["count"] / each if by_rate else each for each in row["seconds"]] for row in own]
        middle = [median(each) for each in values]
        errors = [
            [mid - min(each) for mid, each in zip(middle, values, strict=True)],
            [max(each) - mid for mid, each in zip(middle, values, strict=True)],
        ]
        axes.errorbar(
            [row["size"] for row in own], middle, yerr=errors, color=colour(peer), marker=_marker(peer),
            markersize=4, linewidth=1.8 if peer == OURS else 1.1, capsize=2, zorder=3 if peer == OURS else 2,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=CASES[case].unit, ylabel="images/s" if by_rate else "seconds")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(LogLocator(subs=()))
    _number_logs(axes)


def _number_logs(axes: Axes) -> None:
    """Plain numbers, and enough of them where the axis spans less than two decades."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _bars(axes: Axes, rows: Sequence[Row], peers: Sequence[str]) -> None:
    own = {row["peer"]: row for row in rows}
    for place, peer in enumerate(peers):
        samples = own[peer]["seconds"]
        middle = median(samples)
        reach = [[middle - min(samples)], [max(samples) - middle]]
        axes.barh(place, middle, color=colour(peer), height=0.62)
        axes.errorbar(middle, place, xerr=reach, color="#444444", capsize=2, linewidth=1)
        axes.annotate(
            f"{middle:.3g} s", (max(samples), place), (4, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(peers)), peers)
    axes.invert_yaxis()
    axes.margins(x=0.28)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds")
    axes.grid(axis="y", visible=False)


def colour(peer: str) -> str:
    return _COLOURS[peer_names().index(peer) % len(_COLOURS)]


def _marker(peer: str) -> str:
    return _MARKERS[peer_names().index(peer) % len(_MARKERS)]


def _legend(figure: Figure, rows: Sequence[Row]) -> None:
    """Of the peers that have lines; bars are named at their axis."""
    several = {row["case"] for row in rows if len({r["size"] for r in rows if r["case"] == row["case"]}) > 1}
    peers = [
        peer for peer in peer_names() if any(row["peer"] == peer and row["case"] in several for row in rows)
    ]
    if peers:
        handles = [
            Line2D([], [], color=colour(peer), marker=_marker(peer), markersize=4, label=peer)
            for peer in peers
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(peers)))
