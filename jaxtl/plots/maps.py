"""Embeddings to figures that a paper can print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.patheffects import Stroke
from matplotlib.text import Annotation
from matplotlib.transforms import IdentityTransform

from jaxtl.errors import JaxtlError, shown
from jaxtl.evaluation import catalogue
from jaxtl.methods import METHODS, method_label
from jaxtl.plots.density import SHARE, draw_lines, has_lines
from jaxtl.plots.key import MANY, add_key, key_height, numbered
from jaxtl.plots.palette import class_colours, class_marks
from jaxtl.plots.points import draw_points
from jaxtl.plots.size import inches
from jaxtl.plots.style import Picture, letter, square_limits, styled
from jaxtl.records.arrays import Embedding
from jaxtl.settings import STAGES

# Of a row of maps: the share of each, what its labels leave of it, and what stands above and below it.
_COLUMN_INCHES, _MAP_INCHES, _LABEL_INCHES = 2.4, 2.15, 0.35
_ONE_INCHES, _LETTER_INCHES = 4.0, 0.17
# Maps narrower than this go below each other. Their texts shrink with them, down to 5 points, which journals
# take for the least.
_LEAST_COLUMN_INCHES, _LEAST_SCALE = 1.6, 0.72


@styled
def embedding_figure(
    embedding: Embedding,
    accuracy: float | None = None,
    title: str | None = None,
    width: str | float | None = None,
) -> Figure:
    """One map, 4 inches wide, or as `size.inches` says. `accuracy` is its 10-NN accuracy, leave one out."""
    names, note = _class_names([embedding]), _note([embedding])
    whole = _ONE_INCHES if width is None else inches(width)
    height = whole + 0.55 + 0.2 * bool(title) + key_height(names, whole, note)
    figure = Picture(figsize=(whole, height), layout="constrained")
    _draw_map(figure.add_subplot(), embedding, names, accuracy, whole - 0.4)
    if title:
        figure.suptitle(shown(title), parse_math=False)
    add_key(figure, names, whole, note)
    return figure


@styled
def stage_figure(
    embeddings: Sequence[Embedding],
    stage: str,
    accuracies: Mapping[str, float] | None = None,
    title: str | None = None,
    width: str | float | None = None,
) -> Figure:
    """The maps of one stage side by side, 2.4 inches each; of a width, as many beside each other as it holds.

    Args:
        embeddings: at least one, of the same images.
        stage: heads the figure, such as "before".
        accuracies: 10-NN accuracy, leave one out, by method, 0 to 1.
        title: heads the figure instead of the stage.
        width: as of `size.inches`.
    """
    _check_some(embeddings)
    names, note, count = _class_names(embeddings), _note(embeddings), len(embeddings)
    whole = _COLUMN_INCHES * count if width is None else inches(width)
    columns = min(count, max(1, int(whole / _LEAST_COLUMN_INCHES)))
    rows = -(-count // columns)
    share = whole / columns
    height = rows * (share + _LABEL_INCHES) + 0.3 + key_height(names, whole, note)
    figure = Picture(figsize=(whole, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for empty in axes[count:]:
        empty.remove()
    _draw_maps(axes[:count], embeddings, names, accuracies or {}, share, range(count))
    figure.suptitle(shown(title or stage_title(stage)), parse_math=False)
    add_key(figure, names, whole, note)
    return figure


@styled
def comparison_figure(
    before: Sequence[Embedding],
    after: Sequence[Embedding],
    accuracies: Mapping[str, Mapping[str, float]] | None = None,
    titles: Mapping[str, str] | None = None,
    width: str | float | None = None,
) -> Figure:
    """Two rows of maps, "before" over "after", one column per method; two columns where rows are too narrow.

    Args:
        before: the maps of the first stage.
        after: the maps of the second stage, of the same methods in the same order.
        accuracies: 10-NN accuracy, leave one out, by stage ("before", "after") and method, 0 to 1.
        titles: by stage, head the rows.
        width: as of `size.inches`.
    """
    _check_some(before)
    methods = [[embedding.method for embedding in row] for row in (before, after)]
    if methods[0] != methods[1]:
        raise JaxtlError(
            f"comparison figure: methods before are {', '.join(methods[0])}, after {', '.join(methods[1])}; "
            "give the same ones in the same order"
        )
    names, note, count = _class_names([*before, *after]), _note([*before, *after]), len(before)
    whole = _COLUMN_INCHES * count if width is None else inches(width)
    upright = whole / count < _LEAST_COLUMN_INCHES
    shape, grid = ((1, 2), (count, 1)) if upright else ((2, 1), (1, count))
    share = whole / (shape[1] * grid[1])
    height = shape[0] * (grid[0] * (share + _LABEL_INCHES) + 0.225) + key_height(names, whole, note)
    figure = Picture(figsize=(whole, height), layout="constrained")
    for number, (part, stage, embeddings) in enumerate(
        zip(figure.subfigures(*shape).flat, STAGES, (before, after), strict=True)
    ):
        # Letters run along the rows of the whole.
        letters = [2 * k + number if upright else number * count + k for k in range(count)]
        axes = part.subplots(*grid, squeeze=False).ravel()
        _draw_maps(axes, embeddings, names, (accuracies or {}).get(stage, {}), share, letters)
        part.suptitle(shown((titles or {}).get(stage) or stage_title(stage)), parse_math=False)
    add_key(figure, names, whole, note)
    return figure


def _check_some(embeddings: Sequence[Embedding]) -> None:
    if not embeddings:
        raise JaxtlError("figure: needs at least one embedding")


def stage_title(stage: str) -> str:
    """What heads a stage of a run."""
    return f"{stage.capitalize()} fine-tuning" if stage in STAGES else stage


def _class_names(embeddings: Sequence[Embedding]) -> tuple[str, ...]:
    # Without names in the record they are counted from the labels, of which one map may lack the last.
    names = max((embedding.class_names for embedding in embeddings), key=len)
    return tuple(map(shown, names))


def _note(embeddings: Sequence[Embedding]) -> str:
    """What the key must say of lines, where there are some."""
    classes = len(_class_names(embeddings))
    lines = any(has_lines(len(embedding.coords), classes) for embedding in embeddings)
    return f"Lines enclose the densest {100 * SHARE:.0f} % of each class" if lines else ""


def _draw_maps(
    panels: Sequence[Axes],
    embeddings: Sequence[Embedding],
    names: tuple[str, ...],
    accuracies: Mapping[str, float | None],
    share: float,
    letters: Sequence[int],
) -> None:
    """Maps in panels of a share of inches; one alone has no letter."""
    room = share - (_COLUMN_INCHES - _MAP_INCHES)
    for axes, embedding, number in zip(panels, embeddings, letters, strict=True):
        scale = float(np.clip(share / _COLUMN_INCHES, _LEAST_SCALE, 1))
        _draw_map(axes, embedding, names, accuracies.get(embedding.method), room, scale)
        if max(letters) > 0:
            # Left of the upper corner, where the axis's label leaves room.
            left = -_LETTER_INCHES / room
            axes.set_title(letter(number), loc="left", x=left, y=1, va="top", fontweight="bold")


def _draw_map(
    axes: Axes,
    embedding: Embedding,
    names: tuple[str, ...],
    accuracy: float | None,
    room: float,
    scale: float = 1.0,
) -> None:
    """A map as wide as some inches of room; its texts are set smaller by a scale."""
    embedding.check_plane("a figure")
    coords, labels = embedding.coords, embedding.labels
    n, classes = len(coords), max(1, len(names))
    drawn = np.zeros(n, np.int32) if labels is None else labels
    colours = class_colours(classes)
    # Of a map of 2.15 inches; a larger one has room for larger points.
    area = float(np.clip(4.0 * (2000 / n) ** 0.7, 0.25, 16.0)) * max(scale, 0.75)
    square_limits(axes, coords)
    draw_points(axes, coords, drawn, colours, class_marks(classes), area)
    if has_lines(n, classes):
        draw_lines(axes, coords, drawn, colours)
    _label_axes(axes, embedding, 7 * scale)
    axes.set_title(_map_title(embedding, accuracy), fontsize=8 * scale)
    if labels is not None:
        _write_class_names(axes, coords, labels, names, room)


def _label_axes(axes: Axes, embedding: Embedding, size: float) -> None:
    # Only distances along principal components have the features' unit; elsewhere ticks mean nothing.
    axes.spines[["top", "right"]].set_visible(True)
    axes.set_xticks([])
    axes.set_yticks([])
    method = METHODS.get(embedding.method)
    name = (method and method.axis) or method_label(embedding.method)
    shares = embedding.diagnostics.get("explained_variance_ratio")
    if shares and embedding.params.get("aligned"):
        # Its axes are turned within the plane of the two components.
        labels = f"plane of {name} 1 and 2 ({100 * sum(shares):.0f} % of variance)", ""
    elif shares:
        labels = tuple(f"{name} {k} ({100 * shares[k - 1]:.0f} % of variance)" for k in (1, 2))
    else:
        labels = f"{name} 1", f"{name} 2"
    axes.set_xlabel(labels[0], fontsize=size)
    axes.set_ylabel(labels[1], fontsize=size)


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
    axes: Axes, coords: np.ndarray, labels: np.ndarray, names: tuple[str, ...], room: float
) -> None:
    """Each class's name at the median of its points, so that colour is not all that tells it.

    Names that would overlap are moved apart, and a line leads from each to its median.
    """
    size = 5 if len(names) >= MANY else 7
    present = np.unique(labels)
    texts = [str(label) if numbered(names) else names[label] for label in present]
    low, span = np.array([axes.get_xlim()[0], axes.get_ylim()[0]]), np.ptp(axes.get_xlim())
    medians = np.array([np.median(coords[labels == label], axis=0) for label in present])
    # A bold letter is about 0.75 of the font size wide.
    letter_share = size / 72 / room
    sizes = np.array([(letter_share * (0.75 * len(text) + 0.3), 1.25 * letter_share) for text in texts])
    places = low + span * _moved_apart((medians - low) / span, sizes)
    for text, median, place in zip(texts, medians, places, strict=True):
        moved = np.abs(place - median).max() > 0.5 * letter_share * span
        name = _Name(
            text,
            median,
            place,
            fontsize=size,
            fontweight="bold",
            ha="center",
            va="center",
            parse_math=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0} if moved else None,
        )
        name.set_transform(IdentityTransform())
        axes.add_artist(name)
        name.set_in_layout(False)  # it stands within the map, so that nothing need make room for it


class _Name(Annotation):
    """A text on a white edge. In SVG files it stays a text, which one with path effects does not."""

    def draw(self, renderer: RendererBase) -> None:
        self.set_path_effects([Stroke(linewidth=2, foreground="white")])
        super().draw(renderer)
        self.set_path_effects([])
        super().draw(renderer)


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
