"""Embeddings to figures that a paper can print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import allow_rasterization
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.patheffects import withStroke
from matplotlib.transforms import IdentityTransform

from jaxtl.errors import JaxtlError
from jaxtl.evaluation import catalogue
from jaxtl.methods import METHODS, method_label
from jaxtl.plots.style import (
    LEGEND_UP_TO,
    Picture,
    add_legend,
    class_colours,
    legend_height,
    numbered,
    square_limits,
    styled,
)
from jaxtl.records.arrays import Embedding
from jaxtl.settings import STAGES

RASTERISED_ABOVE = 5000
_COLUMN_INCHES, _MAP_INCHES = 2.4, 2.15  # a row of maps: the share of each, and what its labels leave of it


@styled
def embedding_figure(embedding: Embedding, accuracy: float | None = None, title: str | None = None) -> Figure:
    """One map, 4 inches wide. `accuracy` is its 10-NN accuracy, leave one out, 0 to 1."""
    names = _class_names([embedding])
    height = 4.55 + 0.2 * bool(title) + legend_height(names, 4.0)
    figure = Picture(figsize=(4.0, height), layout="constrained")
    _draw_map(figure.add_subplot(), embedding, names, accuracy, inches=3.6)
    if title:
        figure.suptitle(title, parse_math=False)
    add_legend(figure, names, width=4.0)
    return figure


@styled
def stage_figure(
    embeddings: Sequence[Embedding],
    stage: str,
    accuracies: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Figure:
    """The maps of one stage side by side, 2.4 inches each.

    Args:
        embeddings: at least one, of the same images.
        stage: heads the figure, such as "before".
        accuracies: 10-NN accuracy, leave one out, by method, 0 to 1.
        title: heads the figure instead of the stage.
    """
    _check_some(embeddings)
    names, width = _class_names(embeddings), _COLUMN_INCHES * len(embeddings)
    figure = Picture(figsize=(width, 3.05 + legend_height(names, width)), layout="constrained")
    axes = figure.subplots(1, len(embeddings), squeeze=False)
    _draw_row(axes[0], embeddings, names, accuracies or {})
    figure.suptitle(title or stage_title(stage), parse_math=False)
    add_legend(figure, names, width)
    return figure


@styled
def comparison_figure(
    before: Sequence[Embedding],
    after: Sequence[Embedding],
    accuracies: Mapping[str, Mapping[str, float]] | None = None,
    titles: Mapping[str, str] | None = None,
) -> Figure:
    """Two rows of maps, "before" over "after", one column per method.

    Args:
        before: the maps of the first stage.
        after: the maps of the second stage, of the same methods in the same order.
        accuracies: 10-NN accuracy, leave one out, by stage ("before", "after") and method, 0 to 1.
        titles: by stage, head the rows.
    """
    _check_some(before)
    methods = [[embedding.method for embedding in row] for row in (before, after)]
    if methods[0] != methods[1]:
        raise JaxtlError(
            f"comparison figure: methods before are {', '.join(methods[0])}, after {', '.join(methods[1])}; "
            "give the same ones in the same order"
        )
    names, width = _class_names([*before, *after]), _COLUMN_INCHES * len(before)
    figure = Picture(figsize=(width, 5.95 + legend_height(names, width)), layout="constrained")
    rows = figure.subfigures(2, 1)
    for row, stage, embeddings in zip(rows, STAGES, (before, after), strict=True):
        axes = row.subplots(1, len(embeddings), squeeze=False)
        _draw_row(axes[0], embeddings, names, (accuracies or {}).get(stage, {}))
        row.suptitle((titles or {}).get(stage) or stage_title(stage), parse_math=False)
    add_legend(figure, names, width)
    return figure


def _check_some(embeddings: Sequence[Embedding]) -> None:
    if not embeddings:
        raise JaxtlError("figure: needs at least one embedding")


def stage_title(stage: str) -> str:
    """What heads a stage of a run."""
    return f"{stage.capitalize()} fine-tuning" if stage in STAGES else stage


def _class_names(embeddings: Sequence[Embedding]) -> tuple[str, ...]:
    # Without names in the record they are counted from the labels, of which one map may lack the last.
    return max((embedding.class_names for embedding in embeddings), key=len)


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
    embedding.check_plane("a figure")
    coords, labels = embedding.coords, embedding.labels
    n, known = len(coords), labels is not None
    if labels is None:
        labels = np.zeros(n, np.int32)
    colours = class_colours(max(1, len(names)))
    order = _mixed(labels, len(colours))
    area = float(np.clip(4.0 * (2000 / n) ** 0.7, 0.25, 16.0))
    points = _Points(coords[order], area, colours[labels[order]], axes)
    points.set_rasterized(n > RASTERISED_ABOVE)
    axes.add_collection(points, autolim=False)
    square_limits(axes, coords)
    _label_axes(axes, embedding)
    axes.set_title(_map_title(embedding, accuracy))
    if known:
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


def _label_axes(axes: Axes, embedding: Embedding) -> None:
    # Only distances along principal components have the features' unit; elsewhere ticks mean nothing.
    axes.spines[["top", "right"]].set_visible(True)
    axes.set_xticks([])
    axes.set_yticks([])
    method = METHODS.get(embedding.method)
    name = (method and method.axis) or method_label(embedding.method)
    shares = embedding.diagnostics.get("explained_variance_ratio")
    shares = [f" ({100 * share:.0f} % of variance)" for share in shares] if shares else ["", ""]
    axes.set_xlabel(f"{name} 1{shares[0]}")
    axes.set_ylabel(f"{name} 2{shares[1]}")


def _map_title(embedding: Embedding, accuracy: float | None) -> str:
    title = method_label(embedding.method)
    settings = METHODS[embedding.method].settings if embedding.method in METHODS else {}
    told = [
        text.format(embedding.params[name]) for name, text in settings.items() if name in embedding.params
    ]
    if told:
        title += f" ({', '.join(told)})"
    title += f", n = {len(embedding.coords):,}"
    # As many digits as the tables and the page show.
    return title if accuracy is None else f"{title}\n{catalogue.LEAVE_ONE_OUT.label}: {accuracy:.3f}"


def _write_class_names(
    axes: Axes, coords: np.ndarray, labels: np.ndarray, names: tuple[str, ...], inches: float
) -> None:
    """Each class's name at the median of its points, so that colour is not all that tells it.

    Names that would overlap are moved apart, and a line leads from each to its median.
    """
    size = 5 if len(names) > LEGEND_UP_TO else 7
    present = np.unique(labels)
    texts = [str(label) if numbered(names) else names[label] for label in present]
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
