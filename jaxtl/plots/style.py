"""How all figures look, and how they are written. `save` writes them; nothing else touches files.

Matplotlib's global state stays as it is: figures are made without pyplot, under a style of their own.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import ParamSpec

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtl.errors import JaxtlError
from jaxtl.plots.fonts import OURS, give_letters
from jaxtl.plots.palette import class_colours as class_colours
from jaxtl.plots.size import DPI
from jaxtl.ranges import RANGES
from jaxtl.records.files import replacing

_Arguments = ParamSpec("_Arguments")
# Of pictures in notebooks.
_NOTEBOOK_DPI = 120

SUFFIXES = (".png", ".svg", ".pdf")

# Puts the letters that are used into PDF files.
_SUBSETTER = "fontTools.subset"
_STYLE = {
    # By way of the generic name, which SVG files then have too, for who lacks ours.
    "font.family": "sans-serif",
    "font.sans-serif": [OURS],
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
    "text.parse_math": False,  # names of strangers may hold "$"
    "lines.linewidth": 1.2,
    "figure.titlesize": 9,
    "savefig.dpi": DPI,
    "svg.hashsalt": "jaxtl",
    "svg.fonttype": "none",  # texts stay texts, to be searched and edited
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
            give_letters(figure)
            figure.get_layout_engine().execute(figure)
            # Not "none": its placeholder makes matplotlib draw each file twice.
            figure.set_layout_engine(None)
        return figure

    return drawn


def save(figure: Figure, path: str | os.PathLike[str], dpi: float = DPI) -> None:
    """Write PNG, SVG or PDF by the suffix; the same figure gives the same bytes.

    The file is either whole or absent.

    Args:
        dpi: dots per inch, 30 to 2400, of PNG, and of what else holds as dots: points from 5,000 on.

    Raises JaxtlError for another suffix or resolution.
    """
    RANGES["dpi"].checked("dpi", dpi)
    check_picture(path)
    suffix = Path(path).suffix.lower()
    # Matplotlib would write its version and the date.
    metadata = {
        ".png": {"Software": None},
        ".svg": {"Date": None, "Creator": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }[suffix]
    # In memory: on a disk that is full, matplotlib's PDF fails at what it has not written, and says that.
    drawn = BytesIO()
    with _style(), _quiet(_SUBSETTER):
        figure.savefig(drawn, format=suffix[1:], metadata=metadata, dpi=dpi)
    with replacing(path) as temporary:
        temporary.write_bytes(drawn.getvalue())


def check_picture(path: str | os.PathLike[str]) -> None:
    """Raises JaxtlError for a suffix that no figure is written as."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        kind = suffix or "a file without suffix"
        raise JaxtlError(f"{path}: cannot write a figure as {kind}; use {', '.join(SUFFIXES)}")


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """What a library has to say of others' files is not for who draws."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def letter(number: int) -> str:
    """Of a figure's panels, in their order: "a" for 0."""
    return chr(ord("a") + number)


def square_limits(axes: Axes, coords: np.ndarray) -> None:
    """A square around all points with a margin of 4 %, so that both axes share one scale."""
    low, high = coords.min(axis=0).astype(float), coords.max(axis=0).astype(float)
    centre = (low + high) / 2
    # Points on each other need not lie near 0, where 1 would be lost to rounding.
    half = 0.54 * (max(high - low) or max(1.0, *np.abs(centre)))
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)
    axes.set_aspect("equal", adjustable="box")
