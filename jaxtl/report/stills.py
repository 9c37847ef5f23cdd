"""Still pictures of the maps, for the first look, for paper, and for browsers that run no script.

The dots are a small PNG without a background, the names SVG: so that both fit a light page and a dark one.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from jaxtl.methods import method_label
from jaxtl.plots.palette import class_colours
from jaxtl.report.markup import Html
from jaxtl.report.payload import fitted
from jaxtl.runs.data import RunData

_SIDE = 360  # pixels of a picture, and units of its drawing
_SMOOTH = 3  # drawn so many times as large, then made small: round dots
_PALETTE = 96
_CELLS = 18  # a side of the grid in which a class's densest place is looked for
_NAMED_UP_TO = 40
_LETTER, _LINE = 8.2, 15.0  # of a name, in units of the drawing
# Luminance that differs threefold from white and from the dark page's paper (WCAG 2.2, 1.4.11).
_RIM = 0.2


def still(run: RunData, stage: str, method: str) -> Html:
    """A figure with the map of a stage and a method; "" where the run has none."""
    embedding = run.embeddings.get((stage, method))
    if embedding is None:
        return Html("")
    coords = fitted(embedding.coords)[0]
    title = f"{method_label(method)} {stage}"
    told = f"{title}: a map of {len(run):,} images"
    if run.labels is not None:
        told += ", coloured by class"
    return Html(
        f"<figure class='map still-map' data-picture='{escape(f'{stage} {method}')}'>"
        f"<figcaption>{escape(title)}</figcaption>"
        f"<svg viewBox='0 0 {_SIDE} {_SIDE}' role='img' aria-label='{escape(told)}'>"
        f"<image width='{_SIDE}' height='{_SIDE}' href='{_dots(run, coords)}'/>"
        f"{_names(run, coords)}</svg></figure>"
    )


def legend(run: RunData) -> str:
    """The classes with their colours, for the pictures; nothing where classes are not known."""
    if run.labels is None or len(run.class_names) > _NAMED_UP_TO:
        return ""
    numbered = _shown_names(run.class_names) != list(run.class_names)
    entries = "".join(
        f"<li><i style='background:{_css(colour)}'></i>{k if numbered else ''} {escape(name)}</li>"
        for k, (name, colour) in enumerate(zip(run.class_names, _colours(run), strict=True))
    )
    return f"<ul class='colours' aria-label='Colours of the classes'>{entries}</ul>"


def _colours(run: RunData) -> np.ndarray:
    """uint8 [classes, 3]."""
    return (class_colours(max(1, len(run.class_names))) * 255).round().astype(np.uint8)


def _css(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _dots(run: RunData, coords: np.ndarray) -> str:
    """A data URI of the points, [n, 2] in [-1, 1] where they are in view, in a fixed shuffle."""
    from PIL import Image, ImageDraw

    side = _SIDE * _SMOOTH
    n = len(coords)
    radius = _SMOOTH * float(np.clip(2.0 * (2000 / n) ** 0.3, 0.8, 3.5))
    picture = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(picture)
    fills = [tuple(map(int, colour)) for colour in _colours(run)]
    rims = [_rim(fill) for fill in fills]
    labels = np.zeros(n, int) if run.labels is None else run.labels
    places = (coords * (1, -1) + 1) * (side / 2)
    for row in np.random.default_rng(0).permutation(n):
        x, y = places[row]
        if -radius < x < side + radius and -radius < y < side + radius:
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(box, fill=fills[labels[row]], outline=rims[labels[row]], width=2)
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    held = io.BytesIO()
    small.quantize(_PALETTE, method=Image.Quantize.FASTOCTREE).save(held, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


def _rim(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """The colour made darker or lighter, so that it stands out from white and from black alike."""
    linear = (np.array(colour) / 255) ** 2.2
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    if luminance > _RIM:
        linear = linear * (_RIM / luminance)
    else:
        linear = 1 - (1 - linear) * ((1 - _RIM) / (1 - luminance))
    return tuple((255 * linear ** (1 / 2.2)).round().astype(int).tolist())


def _names(run: RunData, coords: np.ndarray) -> str:
    """Each class's name at a dense place of its own, so that colour is not all that tells it."""
    if run.labels is None or len(run.class_names) > _NAMED_UP_TO:
        return ""
    texts, taken, named = _shown_names(run.class_names), [], []
    for label in np.argsort(-np.bincount(run.labels, minlength=len(texts)), kind="stable"):
        own = coords[run.labels == label]
        own = own[(np.abs(own) < 0.96).all(axis=1)]
        if not len(own):
            continue
        half = np.array([_LETTER * len(texts[label]), _LINE]) / _SIDE
        densest = next(_dense_places(own))
        place = next((p for p in _dense_places(own) if _is_free(p, half, taken)), densest)
        taken.append((place, half))
        x, y = (place * (1, -1) + 1) * (_SIDE / 2)
        named.append(f"<text class='name' x='{x:.0f}' y='{y:.0f}'>{escape(texts[label])}</text>")
    return "".join(named)


def _shown_names(names: Sequence[str]) -> list[str]:
    """Names, or their numbers where names are long or many."""
    numbered = len(names) > 10 or max(map(len, names), default=0) > 10
    return [str(k) for k in range(len(names))] if numbered else list(names)


def _dense_places(own: np.ndarray) -> Iterator[np.ndarray]:
    """The middles of a class's points in and around each cell of a grid, the fullest surroundings first."""
    cells = np.clip(((own + 1) * (_CELLS / 2)).astype(int), 0, _CELLS - 1)
    counts = np.zeros((_CELLS + 2, _CELLS + 2), int)
    np.add.at(counts, tuple((cells + 1).T), 1)
    around = sum(np.roll(counts, (dx, dy), (0, 1)) for dx in (-1, 0, 1) for dy in (-1, 0, 1))[1:-1, 1:-1]
    for cell in np.argsort(-np.where(counts[1:-1, 1:-1], around, -1), axis=None, kind="stable"):
        at = np.array(divmod(int(cell), _CELLS))
        near = (np.abs(cells - at) <= 1).all(axis=1)
        if not near.any():
            return
        yield own[near].mean(axis=0)


def _is_free(place: np.ndarray, half: np.ndarray, taken: Sequence[tuple[np.ndarray, np.ndarray]]) -> bool:
    return all((np.abs(place - other) > half + room).any() for other, room in taken)
