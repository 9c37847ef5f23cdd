"""How all figures look, and how they are written. `save` writes them; nothing else touches files.

Matplotlib's global state stays as it is: figures are made without pyplot, under a style of their own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import ParamSpec

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxtl.errors import JaxtlError
from jaxtl.records.files import replacing

_Arguments = ParamSpec("_Arguments")
# Of pictures in notebooks.
_NOTEBOOK_DPI = 120

# Petroff's ten colours (2021, arXiv:2107.02270), their cyan made stronger, since it was only 16 from white
# under protanopia and is now 25. Smallest CIELAB distance (CIE76) between two of them: 19.3 as they are,
# 18.5, 17.6 and 17.3 under protanopia, deuteranopia and tritanopia as Machado, Oliveira & Fernandes (2009)
# simulate them. Smallest of the four for the other candidates: Tol's muted nine with black 15.6,
# Okabe-Ito's eight with two more 7.1, matplotlib's tab10 4.6.
# Ordered so that the first few differ most, and so do the digits that networks confuse (3 5 8, 4 7 9).
TEN_COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#832db6",
    "#94a4a2",
    "#68d2ea",
    "#717581",
    "#e76300",
    "#b9ac70",
    "#a96b59",
)
SUFFIXES = (".png", ".svg", ".pdf")

# Classes that a legend holds; with more their numbers stand in the maps alone.
LEGEND_UP_TO = 40
_NAME_LENGTH, _LEGEND_NAME_LENGTH = 10, 28
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


class Picture(Figure):
    """A figure that notebooks show by itself: others need pyplot, whose backend it may be that draws them."""

    def _repr_png_(self) -> bytes:
        written = BytesIO()
        with _style():
            self.savefig(written, format="png", dpi=_NOTEBOOK_DPI)
        return written.getvalue()


def _style() -> contextlib.AbstractContextManager[None]:
    """Matplotlib's defaults with ours on top, whatever the user's settings are."""
    return matplotlib.style.context(["default", _STYLE])


def styled(draw: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """Draw under the style, then lay the figure out once for all.

    Laid out anew at each saving, it would come out a little different each time.
    """

    @wraps(draw)
    def drawn(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Figure:
        with _style():
            figure = draw(*args, **kwargs)
            figure.get_layout_engine().execute(figure)
            # Not "none": its placeholder makes matplotlib draw each file twice.
            figure.set_layout_engine(None)
        return figure

    return drawn


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write PNG (200 dpi), SVG or PDF by the suffix; the same figure gives the same bytes.

    The file is either whole or absent. Raises JaxtlError for another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        kind = suffix or "a file without suffix"
        raise JaxtlError(f"{path}: cannot write a figure as {kind}; use {', '.join(SUFFIXES)}")
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


def square_limits(axes: Axes, coords: np.ndarray) -> None:
    """A square around all points with a margin of 4 %, so that both axes share one scale."""
    low, high = coords.min(axis=0).astype(float), coords.max(axis=0).astype(float)
    half = 0.54 * (max(high - low) or 1.0)
    centre = (low + high) / 2
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)
    axes.set_aspect("equal", adjustable="box")


def legend_height(names: tuple[str, ...], width: float) -> float:
    """Inches that `add_legend` takes."""
    if not names:
        return 0.0
    rows = 1 if len(names) > LEGEND_UP_TO else -(-len(names) // _legend_columns(names, width))
    return 0.145 * rows


def add_legend(figure: Figure, names: tuple[str, ...], width: float) -> None:
    """Below the maps; with more classes than a legend can hold, a note instead; nothing without classes."""
    if not names:
        return
    if len(names) > LEGEND_UP_TO:
        ends = (
            f"{k}" if names[k] == str(k) else f"{k} ({_shortened(names[k])})" for k in (0, len(names) - 1)
        )
        note = (
            f"{len(names)} classes, coloured in their order from {' to '.join(ends)}; numbers stand at class "
            "medians"
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
        text.set_text(f"{k}  {_shortened(name)}" if numbered(names) else name)


def numbered(names: tuple[str, ...]) -> bool:
    """Whether the maps show class numbers, for want of room for names."""
    return len(names) > len(TEN_COLOURS) or max(map(len, names)) > _NAME_LENGTH


def _shortened(name: str) -> str:
    return name if len(name) <= _LEGEND_NAME_LENGTH else name[: _LEGEND_NAME_LENGTH - 1] + "…"


def _legend_columns(names: tuple[str, ...], width: float) -> int:
    # Inches that a column takes at 7 points: the marker, its gaps, the number, and 0.06 a letter.
    column = 0.3 + 0.15 * numbered(names) + 0.06 * max(len(_shortened(name)) for name in names)
    return int(np.clip(width / column, 1, len(names)))
