"""Records to figures of curves: training by epochs, and the network by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxtl.errors import JaxtlError, shown
from jaxtl.evaluation import catalogue
from jaxtl.plots.palette import TEN_COLOURS
from jaxtl.plots.size import inches
from jaxtl.plots.style import letter, styled
from jaxtl.settings import STAGES


@styled
def history_figure(history: Sequence[Mapping[str, Any]], width: str | float | None = None) -> Figure:
    """Loss and accuracy after each epoch.

    Args:
        history: one mapping per epoch with `epoch` and any of `loss`, `accuracy`, `test_loss` and
            `test_accuracy`; what is missing or None is not drawn.
        width: as of `jaxtl.plots.size.inches`; by default 5.6 inches.
    """
    if not history or any("epoch" not in row for row in history):
        raise JaxtlError("history figure: needs at least one row, each with its epoch")
    whole = 5.6 if width is None else inches(width)
    upright = whole < 4
    height = 2.1 * 2 if upright else 2.4
    figure = Figure(figsize=(whole, height), layout="constrained")
    epochs, panels = (
        [row["epoch"] for row in history],
        figure.subplots(2, 1) if upright else figure.subplots(1, 2),
    )
    for number, (axes, measure) in enumerate(zip(panels, ("loss", "accuracy"), strict=True)):
        axes.set_title(letter(number), loc="left", fontweight="bold")
        for key, name, colour, marker in (
            (measure, "training", TEN_COLOURS[0], "o"),
            (f"test_{measure}", "test", TEN_COLOURS[2], "s"),
        ):
            values = [np.nan if row.get(key) is None else float(row[key]) for row in history]
            if not np.isnan(values).all():
                axes.plot(epochs, values, color=colour, marker=marker, markersize=3.5, label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel("cross-entropy loss" if measure == "loss" else measure)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(y=0.08)
        if axes.lines:
            axes.legend()
    return figure


@styled
def layers_figure(rows: Sequence[Any], layers: Sequence[str], width: str | float | None = None) -> Figure:
    """A profile of the network by depth: where the classes come apart, and what fine-tuning moved.

    Args:
        rows: of `jaxtl.evaluation.depth`: stage, layer, metric, value, low, high.
        layers: in the network's order, the first one on the left.
        width: as of `jaxtl.plots.size.inches`; by default 6.6 inches.
    """
    whole = 6.6 if width is None else inches(width)
    figure = Figure(figsize=(whole, 5.2), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (2.2, 1, 1)})
    by_layer = {(row.stage, row.metric, row.layer): row for row in rows}

    def profile(stage: str, metric: str) -> list[Any]:
        return [by_layer[stage, metric, layer] for layer in layers]

    places = np.arange(len(layers))
    colours = dict(zip(STAGES, (TEN_COLOURS[4], TEN_COLOURS[0]), strict=True))
    measured = {row.metric for row in rows}
    for metric, marker in ((catalogue.LEAVE_ONE_OUT, "o"), (catalogue.RIDGE_PROBE_FOLDS, "s")):
        # Of small classes there is no probe in folds.
        for stage, colour in colours.items() if metric in measured else ():
            _draw_profile(axes[0], profile(stage, metric), colour, marker, f"{metric.label}, {stage}")
    rank, cka = catalogue.EFFECTIVE_RANK, catalogue.LINEAR_CKA
    for stage, colour in colours.items():
        _draw_profile(axes[1], profile(stage, rank), colour, "o", stage)
    _draw_profile(axes[2], profile("both", cka), TEN_COLOURS[2], "o", "before against after")
    for number, (panel, title) in enumerate(zip(axes, ("accuracy", rank.label, cka.label), strict=True)):
        panel.set_title(letter(number), loc="left", fontweight="bold")
        panel.set_ylabel(title)
        panel.legend(loc="best")
    axes[0].set_ylim(0, 1)
    axes[2].set_ylim(min(0.0, axes[2].get_ylim()[0]), 1.05)
    names = (name.removesuffix("_project_BN").removesuffix("_add").replace("block_", "") for name in layers)
    short = [shown(name) for name in names]
    axes[2].set_xticks(places, short, rotation=60, ha="right", rotation_mode="anchor")
    axes[2].set_xlabel("block; its pooled output")
    return figure


def _draw_profile(axes: Axes, rows: Sequence[Any], colour: str, marker: str, label: str) -> None:
    """Values of one metric by depth, in their intervals; before fine-tuning the line is broken."""
    places, values = np.arange(len(rows)), [row.value for row in rows]
    axes.fill_between(
        places, [row.low for row in rows], [row.high for row in rows], color=colour, alpha=0.15, lw=0
    )
    style = "--" if rows[0].stage == STAGES[0] else "-"
    axes.plot(places, values, style, color=colour, marker=marker, markersize=3, label=label)
