"""Records to matplotlib figures that a paper can print. `save` writes them; nothing else touches files.

Matplotlib's global state stays as it is: figures are made without pyplot, under a style of their own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.artist import allow_rasterization
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path as Outline
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import IdentityTransform

from jaxtl.errors import JaxtlError
from jaxtl.evaluation import catalogue
from jaxtl.records.arrays import Embedding
from jaxtl.records.files import replacing

# Petroff's ten colours (2021, arXiv:2107.02270), their cyan made stronger, since it was only 16 from white
# under protanopia and is now 25. Smallest CIELAB distance (CIE76) between two of them: 19.3 as they are,
# 18.5, 17.6 and 17.3 under protanopia, deuteranopia and tritanopia as Machado, Oliveira & Fernandes (2009)
# simulate them. Smallest of the four for the other candidates: Tol's muted nine with black 15.6,
# Okabe-Ito's eight with two more 7.1, matplotlib's tab10 4.6.
# Ordered so that the first few differ most, and so do the digits that networks confuse (3 5 8, 4 7 9).
TEN_COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#94a4a2", "#68d2ea", "#717581", "#e76300",
    "#b9ac70", "#a96b59",
)  # fmt: skip
NAMES = {"pca": "PCA", "tsne": "t-SNE", "lle": "LLE"}
SUFFIXES = (".png", ".svg", ".pdf")

_LEGEND_UP_TO = 40
RASTERISED_ABOVE = 5000
_NAME_LENGTH, _LEGEND_NAME_LENGTH = 10, 28
_COLUMN_INCHES, _MAP_INCHES = 2.4, 2.15  # a row of maps: the share of each, and what its labels leave of it
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that files do not depend on the machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "figure.titlesize": 9,
    "savefig.dpi": 200,
    "svg.hashsalt": "jaxtl",
    "pdf.fonttype": 42,  # TrueType, which journals ask for
}


def _style() -> contextlib.AbstractContextManager[None]:
    """Matplotlib's defaults with ours on top, whatever the user's settings are."""
    return matplotlib.style.context(["default", _STYLE])


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw under the style, then lay the figure out once for all.

    Laid out anew at each saving, it would come out a little different each time.
    """

    @wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with _style():
            figure = draw(*args, **kwargs)
            figure.get_layout_engine().execute(figure)
            # Not "none": its placeholder makes matplotlib draw each file twice.
            figure.set_layout_engine(None)
        return figure

    return drawn


@styled
def embedding_figure(embedding: Embedding, accuracy: float | None = None, title: str | None = None) -> Figure:
    """One map, 4 inches wide. `accuracy` is its 10-NN accuracy, leave one out, 0 to 1."""
    names = _class_names([embedding])
    height = 4.55 + 0.2 * bool(title) + legend_height(names, 4.0)
    figure = Figure(figsize=(4.0, height), layout="constrained")
    _draw_map(figure.add_subplot(), embedding, names, accuracy, inches=3.6)
    if title:
        figure.suptitle(title, parse_math=False)
    add_legend(figure, names, width=4.0)
    return figure


@styled
def stage_figure(
    embeddings: Sequence[Embedding], stage: str, accuracies: Mapping[str, float] | None = None
) -> Figure:
    """The maps of one stage side by side, 2.4 inches each.

    Args:
        embeddings: at least one, of the same images.
        stage: heads the figure, such as "before".
        accuracies: 10-NN accuracy, leave one out, by method, 0 to 1.
    """
    _check_some(embeddings)
    names, width = _class_names(embeddings), _COLUMN_INCHES * len(embeddings)
    figure = Figure(figsize=(width, 3.05 + legend_height(names, width)), layout="constrained")
    axes = figure.subplots(1, len(embeddings), squeeze=False)
    _draw_row(axes[0], embeddings, names, accuracies or {})
    figure.suptitle(_stage_title(stage), parse_math=False)
    add_legend(figure, names, width)
    return figure


@styled
def comparison_figure(
    before: Sequence[Embedding],
    after: Sequence[Embedding],
    accuracies: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Two rows of maps, "before" over "after", one column per method.

    Args:
        before: the maps of the first stage.
        after: the maps of the second stage, of the same methods in the same order.
        accuracies: 10-NN accuracy, leave one out, by stage ("before", "after") and method, 0 to 1.
    """
    _check_some(before)
    methods = [[each.method for each in row] for row in (before, after)]
    if methods[0] != methods[1]:
        raise JaxtlError(
            f"comparison figure: methods before are {', '.join(methods[0])}, after {', '.join(methods[1])}; "
            "give the same ones in the same order"
        )
    names, width = _class_names([*before, *after]), _COLUMN_INCHES * len(before)
    figure = Figure(figsize=(width, 5.95 + legend_height(names, width)), layout="constrained")
    rows = figure.subfigures(2, 1)
    for row, stage, embeddings in zip(rows, ("before", "after"), (before, after), strict=True):
        axes = row.subplots(1, len(embeddings), squeeze=False)
        _draw_row(axes[0], embeddings, names, (accuracies or {}).get(stage, {}))
        row.suptitle(_stage_title(stage), parse_math=False)
    add_legend(figure, names, width)
    return figure


@styled
def history_figure(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss and accuracy after each epoch.

    Args:
        history: one mapping per epoch with `epoch` and any of `loss`, `accuracy`, `test_loss` and
            `test_accuracy`; what is missing or None is not drawn.
    """
    if not history or any("epoch" not in row for row in history):
        raise JaxtlError("history figure: needs at least one row, each with its epoch")
    figure = Figure(figsize=(5.6, 2.4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
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
def layers_figure(rows: Sequence[Any], layers: Sequence[str]) -> Figure:
    """A profile of the network by depth: where the classes come apart, and what fine-tuning moved.

    Args:
        rows: of `jaxtl.evaluation.depth`: stage, layer, metric, value, low, high.
        layers: in the network's order, the first one on the left.
    """
    figure = Figure(figsize=(6.6, 5.2), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (2.2, 1, 1)})
    found = {(row.stage, row.metric, row.layer): row for row in rows}
    places = np.arange(len(layers))
    for metric, marker in ((catalogue.LEAVE_ONE_OUT, "o"), (catalogue.RIDGE_PROBE_FOLDS, "s")):
        for stage, colour in (("before", TEN_COLOURS[4]), ("after", TEN_COLOURS[0])):
            _draw_profile(axes[0], found, stage, metric, layers, colour, marker, f"{metric.label}, {stage}")
    rank, cka = catalogue.EFFECTIVE_RANK, catalogue.LINEAR_CKA
    for stage, colour in (("before", TEN_COLOURS[4]), ("after", TEN_COLOURS[0])):
        _draw_profile(axes[1], found, stage, rank, layers, colour, "o", stage)
    _draw_profile(axes[2], found, "both", cka, layers, TEN_COLOURS[2], "o", "before against after")
    for each, title in zip(axes, ("accuracy", rank.label, cka.label), strict=True):
        each.set_ylabel(title)
        each.legend(loc="best")
    axes[0].set_ylim(0, 1)
    axes[2].set_ylim(min(0.0, axes[2].get_ylim()[0]), 1.05)
    short = [name.removesuffix("_project_BN").removesuffix("_add").replace("block_", "") for name in layers]
    axes[2].set_xticks(places, short, rotation=60, ha="right", rotation_mode="anchor")
    axes[2].set_xlabel("block; its pooled output")
    return figure


def _draw_profile(
    axes: Axes, found: dict, stage: str, metric: str, layers: Sequence[str], colour: str, marker: str,
    label: str,
) -> None:  # fmt: skip
    rows = [found[stage, metric, layer] for layer in layers]
    places, values = np.arange(len(rows)), [row.value for row in rows]
    axes.fill_between(
        places, [row.low for row in rows], [row.high for row in rows], color=colour, alpha=0.15, lw=0
    )
    style = "--" if stage == "before" else "-"
    axes.plot(places, values, style, color=colour, marker=marker, markersize=3, label=label)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write PNG (200 dpi), SVG or PDF by the suffix; the same figure gives the same bytes.

    The file is either whole or absent. Raises JaxtlError for another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise JaxtlError(f"{path}: cannot write a figure as {suffix or 'a file without suffix'}; "
                         f"use {', '.join(SUFFIXES)}")  # fmt: skip
    # Matplotlib would write its version and the date.
    metadata = {
        ".png": {"Software": None},
        ".svg": {"Date": None, "Creator": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }[suffix]
    with _style(), replacing(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], metadata=metadata)


def class_colours(classes: int) -> np.ndarray:
    """RGB of each class, float [classes, 3]: the same for a class in every figure.

    Up to ten classes have colours told apart under colour blindness; more share a continuous map.
    """
    if classes <= len(TEN_COLOURS):
        return np.array([matplotlib.colors.to_rgb(colour) for colour in TEN_COLOURS[:classes]])
    return matplotlib.colormaps["turbo"](np.linspace(0, 1, classes))[:, :3]


def _check_some(embeddings: Sequence[Embedding]) -> None:
    if not embeddings:
        raise JaxtlError("figure: needs at least one embedding")


def _stage_title(stage: str) -> str:
    return f"{stage.capitalize()} fine-tuning" if stage in ("before", "after") else stage


def _class_names(embeddings: Sequence[Embedding]) -> tuple[str, ...]:
    # Without names in the record they are counted from the labels, of which one map may lack the last.
    return max((each.class_names for each in embeddings), key=len)


def _draw_row(
    row: Sequence[Axes],
    embeddings: Sequence[Embedding],
    names: tuple[str, ...],
    accuracies: Mapping[str, float | None],
) -> None:
    for axes, embedding in zip(row, embeddings, strict=True):
        _draw_map(axes, embedding, names, accuracies.get(embedding.method), _MAP_INCHES)


def _draw_map(
    axes: Axes, embedding: Embedding, names: tuple[str, ...], accuracy: float | None, inches: float
) -> None:
    coords, labels = embedding.coords, embedding.labels
    n = len(coords)
    order = _mixed(labels, len(names))
    area = float(np.clip(4.0 * (2000 / n) ** 0.7, 0.25, 16.0))
    points = _Points(coords[order], area, class_colours(len(names))[labels[order]], axes)
    points.set_rasterized(n > RASTERISED_ABOVE)
    axes.add_collection(points, autolim=False)
    square_limits(axes, coords)
    _label_axes(axes, embedding)
    axes.set_title(_map_title(embedding, accuracy))
    _write_class_names(axes, coords, labels, names, inches)


def _mixed(labels: np.ndarray, classes: int) -> np.ndarray:
    """An order in which to draw points: drawn class by class, the last class would hide the others.

    A fixed shuffle in rounds of about ten points a class, each round sorted by class, every other one
    backwards: so that one colour's points stand in runs, which vector files write as one path.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    rounds = np.arange(len(labels)) // (10 * classes)
    return order[np.lexsort((np.where(rounds % 2, -1, 1) * labels[order], rounds))]


class _Points(PathCollection):
    """Discs as `Axes.scatter` draws them, in their order. SVG and PDF take a fraction of the time and space.

    Args:
        xy: [n, 2] in the units of the data.
        area: in square points, with a diameter of its root, as in `Axes.scatter`.
        colours: RGB of each, [n, 3].
    """

    def __init__(self, xy: np.ndarray, area: float, colours: np.ndarray, axes: Axes) -> None:
        disc = Outline.circle(radius=0.5)
        super().__init__(
            [disc], [area], offsets=xy, offset_transform=axes.transData, facecolors=colours, linewidths=0
        )
        self.set_transform(IdentityTransform())
        starts = np.flatnonzero((colours[1:] != colours[:-1]).any(axis=1)) + 1
        self._runs = np.split(np.arange(len(xy)), starts)

    @allow_rasterization
    def draw(self, renderer: RendererBase) -> None:
        # Pixels are filled in compiled code. Files of discs are written disc by disc in Python.
        if self.get_rasterized() or isinstance(renderer, RendererAgg):
            super().draw(renderer)
        else:
            self._draw_strokes(renderer)

    def _draw_strokes(self, renderer: RendererBase) -> None:
        """One path for each run of one colour, of strokes of no length with round ends.

        Both formats define these as discs (SVG 2, section 13.5.4; ISO 32000-1, section 8.5.3.2), and a stroke
        of some length shows a seam in viewers that draw its two ends one by one.
        """
        renderer.open_group("points", self.get_gid())
        gc = renderer.new_gc()
        self._set_gc_clip(gc)
        gc.set_capstyle("round")
        gc.set_linewidth(renderer.points_to_pixels(self.get_sizes()[0] ** 0.5))
        # To a hundredth of a point, which nobody sees: half the file's size.
        places = np.round(self.get_offset_transform().transform(self.get_offsets()), 2)
        for run in self._runs:
            gc.set_foreground(tuple(self.get_facecolors()[run[0]]), isRGBA=True)
            codes = np.tile(np.uint8([Outline.MOVETO, Outline.LINETO]), len(run))
            renderer.draw_path(gc, Outline(np.repeat(places[run], 2, axis=0), codes), IdentityTransform())
        gc.restore()
        renderer.close_group("points")


def square_limits(axes: Axes, coords: np.ndarray) -> None:
    """A square around all points with a margin of 4 %, so that both axes share one scale."""
    low, high = coords.min(axis=0).astype(float), coords.max(axis=0).astype(float)
    half = 0.54 * (max(high - low) or 1.0)
    centre = (low + high) / 2
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)
    axes.set_aspect("equal", adjustable="box")


def _label_axes(axes: Axes, embedding: Embedding) -> None:
    # Only distances along principal components have the features' unit; elsewhere ticks mean nothing.
    axes.spines[["top", "right"]].set_visible(True)
    axes.set_xticks([])
    axes.set_yticks([])
    name = NAMES.get(embedding.method, embedding.method)
    labels = [f"{name} 1", f"{name} 2"]
    ratios = embedding.diagnostics.get("explained_variance_ratio")
    if embedding.method == "pca":
        labels = ["PC 1", "PC 2"]
        if ratios:
            labels = [f"{label} ({100 * ratio:.0f} % of variance)"
                      for label, ratio in zip(labels, ratios, strict=True)]  # fmt: skip
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])


def _map_title(embedding: Embedding, accuracy: float | None) -> str:
    title = NAMES.get(embedding.method, embedding.method)
    settings = {"tsne": ("perplexity", "perplexity {:g}"), "lle": ("n_neighbors", "k = {}")}
    key, text = settings.get(embedding.method, ("", ""))
    if key in embedding.params:
        title += f" ({text.format(embedding.params[key])})"
    title += f", n = {len(embedding.coords):,}"
    # As many digits as the tables and the page show.
    return title if accuracy is None else f"{title}\n{catalogue.LEAVE_ONE_OUT.label}: {accuracy:.3f}"


def _write_class_names(
    axes: Axes, coords: np.ndarray, labels: np.ndarray, names: tuple[str, ...], inches: float
) -> None:
    """Each class's name at the median of its points, so that colour is not all that tells it.

    Names that would overlap are moved apart, and a line leads from each to its median.
    """
    size = 5 if len(names) > _LEGEND_UP_TO else 7
    present = np.unique(labels)
    texts = [str(label) if _numbered(names) else names[label] for label in present]
    low, span = np.array([axes.get_xlim()[0], axes.get_ylim()[0]]), np.ptp(axes.get_xlim())
    medians = np.array([np.median(coords[labels == label], axis=0) for label in present])
    # A bold letter is about 0.75 of the font size wide.
    letter = size / 72 / inches
    sizes = np.array([(letter * (0.75 * len(text) + 0.3), 1.25 * letter) for text in texts])
    places = low + span * _moved_apart((medians - low) / span, sizes)
    for text, median, place in zip(texts, medians, places, strict=True):
        moved = np.abs(place - median).max() > 0.5 * letter * span
        name = axes.annotate(
            text,
            median,
            place,
            fontsize=size,
            fontweight="bold",
            ha="center",
            va="center",
            parse_math=False,
            path_effects=[withStroke(linewidth=2, foreground="white")],
            arrowprops={"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0} if moved else None,
        )
        name.set_in_layout(False)  # it stands within the map, so that nothing need make room for it


def _moved_apart(centres: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Centres [k, 2] of boxes of these sizes, moved within the unit square until none overlap.

    Overlapping pairs push each other along the axis that needs the smaller move. Where there is no room
    for all, overlaps stay.
    """
    centres, k = centres.copy(), len(centres)
    upper = np.triu(np.ones((k, k)), 1)
    # Boxes with one centre go apart in the order of their classes.
    order = (upper - upper.T)[..., None]
    apart = (sizes[:, None] + sizes[None]) / 2
    for _ in range(300):
        between = centres[None] - centres[:, None]
        overlap = apart - np.abs(between)
        hit = (overlap > 1e-6).all(axis=2) & ~np.eye(k, dtype=bool)
        if not hit.any():
            break
        along = overlap.argmin(axis=2)[..., None] == np.arange(2)
        direction = np.where(between == 0, order, np.sign(between))
        centres -= 0.3 * (overlap * along * direction * hit[..., None]).sum(axis=1)
        centres = np.clip(centres, sizes / 2, 1 - sizes / 2)
    return centres


def _numbered(names: tuple[str, ...]) -> bool:
    """Whether the maps show class numbers, for want of room for names."""
    return len(names) > len(TEN_COLOURS) or max(map(len, names)) > _NAME_LENGTH


def _shortened(name: str) -> str:
    return name if len(name) <= _LEGEND_NAME_LENGTH else name[: _LEGEND_NAME_LENGTH - 1] + "…"


def _legend_columns(names: tuple[str, ...], width: float) -> int:
    # Inches that a column takes at 7 points: the marker, its gaps, the number, and 0.06 a letter.
    column = 0.3 + 0.15 * _numbered(names) + 0.06 * max(len(_shortened(name)) for name in names)
    return int(np.clip(width / column, 1, len(names)))


def legend_height(names: tuple[str, ...], width: float) -> float:
    """Inches that `add_legend` takes."""
    rows = 1 if len(names) > _LEGEND_UP_TO else -(-len(names) // _legend_columns(names, width))
    return 0.145 * rows


def add_legend(figure: Figure, names: tuple[str, ...], width: float) -> None:
    """Below the maps; with more classes than a legend can hold, a note instead."""
    if len(names) > _LEGEND_UP_TO:
        note = (
            f"{len(names)} classes, coloured in their order from 0 ({_shortened(names[0])}) to "
            f"{len(names) - 1} ({_shortened(names[-1])}); numbers stand at class medians"
        )
        figure.supxlabel(note, fontsize=6, parse_math=False, wrap=True)
        return
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=5, color=colour)
        for colour in class_colours(len(names))
    ]
    legend = figure.legend(
        handles,
        [str(k) for k in range(len(names))],
        loc="outside lower center",
        ncols=_legend_columns(names, width),
        handletextpad=0.1,
        columnspacing=0.9,
    )
    # Set afterwards: matplotlib drops labels that begin with "_" and reads "$" as mathematics.
    for k, (text, name) in enumerate(zip(legend.get_texts(), names, strict=True)):
        text.set_parse_math(False)
        text.set_text(f"{k}  {_shortened(name)}" if _numbered(names) else name)
