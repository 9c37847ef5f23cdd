"""A sweep as a figure: accuracy, seconds and memory against how much of the network learns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtl.errors import JaxtlError, shown
from jaxtl.plots.palette import TEN_COLOURS
from jaxtl.plots.size import inches
from jaxtl.plots.style import letter, styled
from jaxtl.sweeps import choice
from jaxtl.sweeps.rows import TESTED, SweepRow, weights_label

_MARKERS = "osD^vPX*hp"
_GRID = "#E4E4E4"
_BEST = "#16191d"
# Of the room between two places on the axis, how far series stand apart, and what all of them take at most.
_APART, _MOST_APART = 0.12, 0.6
# Letters of a label under the axis, and labels that stand beside each other without touching.
_LETTERS, _UPRIGHT_FROM = 20, 4
# Labels of the large panel and of a small one, at most.
_MOST_NAMES, _FEWER_NAMES = 32, 16


@styled
def sweep_figure(rows: Sequence[SweepRow], width: str | float | None = None) -> Figure:
    """Test accuracy with its interval against the parameters that learn, in their order; seconds and memory.

    A series for each image size and weights. The best combination has a ring, the cheapest that cannot be
    told from it a square.

    Args:
        rows: those that are not done are left out.
        width: as of `jaxtl.plots.size.inches`; by default 6.8 inches.

    Raises JaxtlError where none is done.
    """
    done = [row for row in rows if row.is_done and row.parameters and row.test_accuracy]
    if not done:
        raise JaxtlError("sweep figure: no combination is done")
    whole = 6.8 if width is None else inches(width)
    series = list(dict.fromkeys((row.weights, row.image_size) for row in done))
    figure, panels = _panels(whole, len(series))
    places = _places(done, series)
    for number, one in enumerate(series):
        some = [row for row in done if (row.weights, row.image_size) == one]
        _draw_series(panels, some, places, number, _series_label(one, series))
    _mark(panels[0], done, places)
    titles = (TESTED, "seconds of a run", "peak memory, GiB")
    for number, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        axes.set_title(letter(number), loc="left", fontweight="bold")
        axes.set_ylabel(title)
        _name_places(axes, done, (_MOST_NAMES, 0, _FEWER_NAMES)[number])
    for axes in panels[1:]:
        axes.set_ylim(bottom=0, top=1.08 * axes.get_ylim()[1])
    columns = 3 if whole >= _WIDE else 2
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, markerscale=0.7
    )
    return figure


# Inches of a figure whose panels stand beside each other.
_WIDE = 5.0


def _panels(whole: float, series: int) -> tuple[Figure, list[Axes]]:
    height = (4.1 if whole >= _WIDE else 6.6) + 0.16 * ((series + 2) // 3)
    figure = Figure(figsize=(whole, height), layout="constrained")
    if whole < _WIDE:
        return figure, list(figure.subplots(3, 1, gridspec_kw={"height_ratios": (2, 1, 1)}))
    grid = figure.add_gridspec(2, 2, width_ratios=(1.6, 1))
    return figure, [figure.add_subplot(place) for place in (grid[:, 0], grid[0, 1], grid[1, 1])]


def _series_label(one: tuple[str | None, int], series: Sequence[tuple[str | None, int]]) -> str:
    weights, size = one
    several = len({other for other, _ in series}) > 1
    return shown(f"{size} px{f', {weights_label(weights)}' if several else ''}")


def _ordered(rows: Sequence[SweepRow]) -> list[tuple[int, str]]:
    """What learns, by the number of its parameters: one place on the axis each, ties as asked for."""
    return sorted(dict.fromkeys((row.parameters or 0, row.trainable) for row in rows), key=lambda one: one[0])


def _places(rows: Sequence[SweepRow], series: Sequence[tuple[str | None, int]]) -> dict[str, float]:
    """Where each row stands on the axis; series stand beside each other, so that none hides another."""
    order = {one: number for number, one in enumerate(_ordered(rows))}
    apart = min(_APART, _MOST_APART / len(series))
    return {
        row.name: order[row.parameters or 0, row.trainable]
        + apart * (series.index((row.weights, row.image_size)) - (len(series) - 1) / 2)
        for row in rows
    }


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
        (choice.best(rows), "o", 10, "best"),
        (choice.cheapest(rows), "s", 12, "cheapest that cannot be told from it"),
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


def _name_places(axes: Axes, rows: Sequence[SweepRow], most: int) -> None:
    """What learns, with its number of parameters, under the axis; of more than so many only some."""
    order = _ordered(rows)
    axes.set_xlim(-0.5, len(order) - 0.5)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    step = -(-len(order) // most) if most else 1
    if not most:
        axes.set_xticks(range(len(order)), [""] * len(order))
        return
    if len(order) < _UPRIGHT_FROM:
        texts = [f"{_shortened(name)}\n{_count(count)}" for count, name in order]
        axes.set_xticks(range(len(order)), texts)
    else:
        texts = [f"{_shortened(name)}, {_count(count)}" for count, name in order]
        texts = [text if number % step == 0 else "" for number, text in enumerate(texts)]
        axes.set_xticks(range(len(order)), texts, rotation=50, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", labelsize=6.5 if len(order) <= 12 else 5)
    axes.set_xlabel("what learns, and trained parameters")


def _shortened(text: str) -> str:
    text = shown(text)
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"


def _count(value: float) -> str:
    for unit, letters in ((1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g}{letters}"
    return f"{value:.3g}"
