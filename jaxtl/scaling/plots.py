"""A study's curves to matplotlib figures: the cost and the quality of embeddings, and their maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from jaxtl.costs.power_law import PowerLaw
from jaxtl.evaluation.catalogue import (
    KL_DIVERGENCE,
    LEAVE_ONE_OUT,
    RECONSTRUCTION_ERROR,
    TRUSTWORTHINESS,
    Metric,
)
from jaxtl.methods import library_label, method_label
from jaxtl.plots.key import add_key, key_height
from jaxtl.plots.palette import TEN_COLOURS, class_colours
from jaxtl.plots.points import RASTERISED_ABOVE
from jaxtl.plots.style import square_limits, styled
from jaxtl.reduction.turning import rotation_onto
from jaxtl.scaling.curves import Curve, most_at_a_time
from jaxtl.scaling.quality import Quality
from jaxtl.scaling.trials import DONE, NOT_TRIED, OVER_MEMORY, OVER_TIME, Trial

_MARKERS = "osD^vPX*hp"
_FEATURES_COLOUR = "#555555"
# Below, an axis has numbers within decades too.
_FEW_DECADES = 500
_CELL = 1.3
# Points of a map that are drawn at most: more only cover one another.
_DRAWN = 20_000

Coords = Callable[[Trial], tuple[np.ndarray, np.ndarray]]


def label(method: str, backend: str) -> str:
    """Such as "t-SNE, openTSNE" and "t-SNE with 5,000 landmarks, openTSNE"."""
    base, _, landmarks = method.partition("@")
    some = f" with {int(landmarks):,} landmarks" if landmarks else ""
    return f"{method_label(base)}{some}, {library_label(backend)}"


@styled
def seconds_figure(curves: Sequence[Curve]) -> Figure:
    """Seconds of each embedding over the number of images, with the fitted power laws."""
    figure = Figure(figsize=(5.4, 3.6 + 0.16 * len(curves)), layout="constrained")
    axes = figure.subplots()
    for number, curve in enumerate(curves):
        over = [(p.n, p.limits["seconds"]) for p in curve.trials if p.status == OVER_TIME]
        points = [(p.n, p.typical_seconds) for p in curve.done]
        _draw_curve(axes, number, curve, points, over, curve.seconds)
    several = f", up to {most} at a time" if (most := most_at_a_time(curves)) > 1 else ""
    _cost_axes(axes, f"seconds of one map{several}", _seconds_text)
    _legend_below(figure, axes)
    return figure


@styled
def memory_figure(curves: Sequence[Curve]) -> Figure:
    """Memory that each embedding takes beyond the process it is made in, with the fitted power laws."""
    figure = Figure(figsize=(5.4, 3.6 + 0.16 * len(curves)), layout="constrained")
    axes = figure.subplots()
    for number, curve in enumerate(curves):
        over = [(p.n, p.limits["memory"] / 2**30) for p in curve.trials if p.status == OVER_MEMORY]
        points = [(p.n, p.memory / 2**30) for p in curve.done if p.memory]
        _draw_curve(axes, number, curve, points, over, curve.memory, 2**-30)
    _cost_axes(axes, "GiB of memory, features included", _plain)
    _legend_below(figure, axes)
    return figure


@styled
def quality_figure(curves: Sequence[Curve], features: dict[int, Quality]) -> Figure:
    """10-NN accuracy, trustworthiness, KL divergence and reconstruction error over the number of images."""
    figure = Figure(figsize=(6.8, 5.2 + 0.16 * len(curves)), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    shown = LEAVE_ONE_OUT, TRUSTWORTHINESS, KL_DIVERGENCE, RECONSTRUCTION_ERROR
    for axes, metric in zip(panels, shown, strict=True):
        for number, curve in enumerate(curves):
            rows = [(p.n, *p.quality[metric]) for p in curve.done if metric in (p.quality or {})]
            name = label(curve.method, curve.backend)
            _draw_quality(axes, rows, TEN_COLOURS[number % 10], _MARKERS[number % 10], name)
        rows = [(n, *scores[metric]) for n, scores in features.items() if metric in scores]
        _draw_quality(axes, rows, _FEATURES_COLOUR, "", "the features themselves")
        _quality_axes(axes, metric)
    handles = {
        text: handle
        for axes in panels
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    return figure


@styled
def maps_figure(curves: Sequence[Curve], coords: Coords, class_names: tuple[str, ...]) -> Figure:
    """Every map in one strip: a row for each curve, a column for each size, coloured by class.

    Maps are turned (PCA, whose axes mean something: mirrored) to lie on that of the next smaller size, which
    nested samples allow; no axis has a scale.
    """
    sizes = sorted({trial.n for curve in curves for trial in curve.trials})
    width = max(_CELL * len(sizes) + 0.4, 4.0)
    height = (_CELL + 0.12) * len(curves) + 0.35 + key_height(class_names, width)
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(len(curves), len(sizes), squeeze=False)
    for row, curve in zip(grid, curves, strict=True):
        _draw_strip(row, curve, sizes, coords, class_names)
        row[0].set_ylabel(
            label(curve.method, curve.backend).replace(", ", "\n").replace(" with ", "\n"), fontsize=7
        )
    for axes, n in zip(grid[0], sizes, strict=True):
        axes.set_title(f"n = {n:,}")
    add_key(figure, class_names, width)
    return figure


def _draw_curve(
    axes: Axes,
    number: int,
    curve: Curve,
    points: list[tuple[int, float]],
    over: list[tuple[int, float]],
    law: PowerLaw | None,
    unit: float = 1.0,
) -> None:
    colour, marker = TEN_COLOURS[number % 10], _MARKERS[number % 10]
    text = label(curve.method, curve.backend)
    if law is not None:
        text += f": n^{law.exponent:.2f} [{law.low:.2f}, {law.high:.2f}]"
        n = np.geomspace(law.smallest, law.largest, 2)
        axes.plot(n, unit * law.coefficient * n**law.exponent, color=colour, linewidth=1.0)
    if points:
        axes.plot(*zip(*points, strict=True), marker, color=colour, markersize=4, label=text)
    for n, limit in over:
        # What is known of it is that it takes more.
        axes.plot(n, limit, marker, color="white", markeredgecolor=colour, markersize=4)
        axes.annotate(
            "over the limit", (n, limit), (0, 4), textcoords="offset points", ha="center", fontsize=6
        )


def _cost_axes(axes: Axes, unit: str, text: Callable[[float, int], str]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    _size_axis(axes)
    axes.set_ylabel(unit)
    low, high = axes.get_ylim()
    if high < _FEW_DECADES * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(text))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)


def _size_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(_count))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("images")


def _count(n: float, _: int) -> str:
    if n >= 1e6:
        return f"{n / 1e6:g}M"
    return f"{n / 1e3:g}k" if n >= 1e3 else f"{n:g}"


def _plain(value: float, _: int) -> str:
    return f"{value:g}"


def _seconds_text(value: float, _: int) -> str:
    return f"{value:g} s" if value < 100 else f"{value:,.0f} s"


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, texts = axes.get_legend_handles_labels()
    title = "fitted exponents with 95 % intervals"
    figure.legend(handles, texts, loc="outside lower left", title=title, title_fontsize=7, alignment="left")


def _draw_quality(axes: Axes, rows: list[tuple], colour: str, marker: str, name: str) -> None:
    if not rows:
        return
    n, value, low, high = (np.array(column, float) for column in zip(*rows, strict=True))
    style = {"marker": marker, "markersize": 3.5} if marker else {"linestyle": "--"}
    axes.plot(n, value, color=colour, label=name, **style)
    axes.fill_between(n, low, high, color=colour, alpha=0.15, linewidth=0)


def _quality_axes(axes: Axes, metric: Metric) -> None:
    axes.set_xscale("log")
    if metric == RECONSTRUCTION_ERROR and axes.lines:
        axes.set_yscale("log")
    _size_axis(axes)
    axes.set_title(metric.label)
    axes.grid(color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_strip(
    row: Sequence[Axes], curve: Curve, sizes: Sequence[int], coords: Coords, class_names: tuple[str, ...]
) -> None:
    known, before = {trial.n: trial for trial in curve.trials}, None
    for axes, n in zip(row, sizes, strict=True):
        axes.set_xticks([])
        axes.set_yticks([])
        trial = known.get(n)
        if trial is None or trial.status != DONE:
            _draw_missing(axes, trial)
            continue
        places, labels = coords(trial)
        before = places = turned_onto(places, before, free=not curve.method.startswith("pca"))
        _draw_points(axes, places, labels, len(class_names))
        if accuracy := (trial.quality or {}).get(LEAVE_ONE_OUT):
            axes.set_xlabel(f"{LEAVE_ONE_OUT.short} {accuracy[0]:.3f}", labelpad=2, fontsize=6)


def _draw_missing(axes: Axes, trial: Trial | None) -> None:
    text = "" if trial is None else trial.status
    for spine in axes.spines.values():
        spine.set_visible(False)
    colour = "#999999" if trial is None or trial.status == NOT_TRIED else "#bd1f01"
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=7, color=colour, transform=axes.transAxes)


def _draw_points(axes: Axes, coords: np.ndarray, labels: np.ndarray, classes: int) -> None:
    axes.spines[["top", "right"]].set_visible(True)
    # The first ones are a random sample, in random order: no class hides the others.
    shown = min(len(coords), _DRAWN)
    axes.scatter(
        *coords[:shown].T,
        s=float(np.clip(1.2 * (2000 / shown) ** 0.6, 0.15, 4.0)),
        c=class_colours(classes)[labels[:shown]],
        linewidths=0,
        rasterized=shown * 4 > RASTERISED_ABOVE,
    )
    square_limits(axes, coords)


def turned_onto(coords: np.ndarray, before: np.ndarray | None, free: bool) -> np.ndarray:
    """Coordinates laid on the first points' own: turned where free, or mirrored along each axis."""
    if before is None:
        return coords
    some, target = (places - places.mean(axis=0) for places in (coords[: len(before)], before))
    if not free:
        return coords * np.where((some * target).sum(axis=0) < 0, -1.0, 1.0).astype(coords.dtype)
    return coords @ rotation_onto(some, target)[0].astype(coords.dtype)
