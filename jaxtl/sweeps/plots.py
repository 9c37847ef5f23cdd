"""A sweep as a figure: accuracy, seconds and memory against how much of the network learns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from jaxtl.errors import JaxtlError, shown
from jaxtl.plots.palette import TEN_COLOURS
from jaxtl.plots.style import inches, letter, styled
from jaxtl.sweeps import choice
from jaxtl.sweeps.rows import SweepRow, weights_label

_MARKERS = "osD^vPX*hp"
_GRID = "#E4E4E4"
_BEST = "#16191d"
# Numbers of parameters that differ by less stand at one place, beside each other.
_SAME, _APART = 1.12, 0.022
# Letters of a label under the axis, and the least distance of two, as shares of its width.
_LETTERS, _ROOM = 18, 0.05


@styled
def sweep_figure(rows: Sequence[SweepRow], width: str | float | None = None) -> Figure:
    """Test accuracy with its interval against the number of parameters that learn, seconds and memory beside.

    A series for each image size and weights. The best combination has a ring, the cheapest that cannot be
    told from it a square.

    Args:
        rows: those that are not done are left out.
        width: as of `jaxtl.plots.style.inches`; by default 6.8 inches.

    Raises JaxtlError where none is done.
    """
    done = [row for row in rows if row.is_done and row.parameters and row.test_accuracy]
    if not done:
        raise JaxtlError("sweep figure: no combination is done")
    whole = 6.8 if width is None else inches(width)
    series = list(dict.fromkeys((row.weights, row.image_size) for row in done))
    upright = whole < 5
    height = (6.4 if upright else 4.3) + 0.16 * ((len(series) + 2) // 3)
    figure = Figure(figsize=(whole, height), layout="constrained")
    if upright:
        panels = list(figure.subplots(3, 1, gridspec_kw={"height_ratios": (2, 1, 1)}))
    else:
        grid = figure.add_gridspec(2, 2, width_ratios=(1.75, 1))
        panels = [figure.add_subplot(place) for place in (grid[:, 0], grid[0, 1], grid[1, 1])]
    places = _places(done)
    for number, one in enumerate(series):
        some = [row for row in done if (row.weights, row.image_size) == one]
        _draw_series(panels, some, places, number, _series_label(one, series))
    _mark(panels[0], done, places)
    titles = ("test accuracy", "seconds of one run", "GiB of memory at the peak")
    for number, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        axes.set_title(letter(number), loc="left", fontweight="bold")
        axes.set_ylabel(title)
        _parameter_axis(axes, done, places, labelled=number == 0)
    for axes in panels[1:]:
        axes.set_ylim(bottom=0)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _series_label(one: tuple[str | None, int], series: Sequence[tuple[str | None, int]]) -> str:
    weights, size = one
    several = len({other for other, _ in series}) > 1
    return shown(f"{size} px{f', {weights_label(weights)}' if several else ''}")


def _places(rows: Sequence[SweepRow]) -> dict[str, float]:
    """Where each row stands on the axis, log10 of parameters; those that are alike beside each other."""
    ordered = sorted(rows, key=lambda row: row.parameters or 0)
    span = max(np.log10((ordered[-1].parameters or 1) / (ordered[0].parameters or 1)), 0.5)
    groups: list[list[SweepRow]] = []
    for row in ordered:
        if groups and (row.parameters or 0) <= _SAME * (groups[-1][0].parameters or 0):
            groups[-1].append(row)
        else:
            groups.append([row])
    places = {}
    for group in groups:
        middle = float(np.mean([np.log10(row.parameters or 1) for row in group]))
        # Those of one series next to each other.
        group = sorted(group, key=lambda row: (row.trainable, str(row.weights), row.image_size))
        for number, row in enumerate(group):
            places[row.name] = middle + span * _APART * (number - (len(group) - 1) / 2)
    return places


def _draw_series(
    panels: Sequence[Axes], rows: Sequence[SweepRow], places: dict[str, float], number: int, label: str
) -> None:
    rows = sorted(rows, key=lambda row: places[row.name])
    x = [places[row.name] for row in rows]
    colour, marker = TEN_COLOURS[number % 10], _MARKERS[number % 10]
    how = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 0.9}
    accuracies = [row.test_accuracy for row in rows]
    values = [estimate.value for estimate in accuracies if estimate]
    panels[0].plot(x, values, label=label, **how)
    for place, estimate in zip(x, accuracies, strict=True):
        if estimate and estimate.low is not None:
            panels[0].plot([place, place], [estimate.low, estimate.high], color=colour, linewidth=0.9)
    for axes, value in ((panels[1], _seconds), (panels[2], _memory)):
        axes.plot(x, [value(row) for row in rows], **how)


def _seconds(row: SweepRow) -> float:
    return np.nan if row.seconds is None else row.seconds


def _memory(row: SweepRow) -> float:
    return np.nan if row.peak_memory_gib is None else row.peak_memory_gib


def _mark(axes: Axes, rows: Sequence[SweepRow], places: dict[str, float]) -> None:
    """What the answer is, in the picture."""
    if len(rows) < 2:
        return
    for row, marker, size, text in (
        (choice.best(rows), "o", 11, "best"),
        (choice.cheapest(rows), "s", 13, "cheapest not distinguishable from it"),
    ):
        if row is not None and row.test_accuracy is not None:
            axes.plot(
                places[row.name],
                row.test_accuracy.value,
                marker,
                markersize=size,
                markerfacecolor="none",
                markeredgecolor=_BEST,
                markeredgewidth=0.9,
                label=text,
            )


def _parameter_axis(axes: Axes, rows: Sequence[SweepRow], places: dict[str, float], labelled: bool) -> None:
    low, high = min(places.values()), max(places.values())
    margin = max(0.06 * (high - low), 0.12)
    axes.set_xlim(low - margin, high + margin)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_minor_locator(NullLocator())
    first, last = int(np.floor(low - margin)), int(np.ceil(high + margin))
    ticks = [tick for tick in _ticks(first, last) if low - margin <= tick <= high + margin]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: _count(10**tick)))
    axes.set_xlabel("trained parameters")
    if labelled:
        _name_places(axes, rows, places, high - low + 2 * margin)


def _ticks(first: int, last: int) -> list[float]:
    """Powers of ten; where there are few, 2 and 5 times as much too."""
    steps = (1,) if last - first > 3 else (1, 2, 5)
    return [float(power + np.log10(step)) for power in range(first, last + 1) for step in steps]


def _name_places(axes: Axes, rows: Sequence[SweepRow], places: dict[str, float], span: float) -> None:
    """What learns, on top of the panel: of places too close to each other one label for all."""
    named: list[tuple[float, list[str]]] = []
    for place, name in sorted({(places[row.name], row.trainable) for row in rows}):
        if named and place - named[-1][0] < _ROOM * span:
            if name not in named[-1][1]:
                named[-1][1].append(name)
        else:
            named.append((place, [name]))
    top = axes.secondary_xaxis("top")
    texts = [_shortened(", ".join(names)) for _, names in named]
    top.xaxis.set_major_locator(FixedLocator([place for place, _ in named]))
    top.xaxis.set_minor_formatter(NullFormatter())
    top.set_xticks([place for place, _ in named], texts, rotation=35, ha="left", rotation_mode="anchor")
    top.tick_params(length=2, pad=1, labelsize=6.5)
    top.spines["top"].set_visible(False)


def _shortened(text: str) -> str:
    text = shown(text)
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"


def _count(value: float) -> str:
    for unit, letters in ((1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g}{letters}"
    return f"{value:.3g}"
