"""The key of a figure: which class has which colour and mark, below its maps."""

from __future__ import annotations

import unicodedata

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxtl.plots.fonts import can_write
from jaxtl.plots.palette import class_colours, class_marks

# Classes whose names stand in maps, and in a key; with more than these a note says how they are numbered.
_NAMES_UP_TO, KEY_UP_TO = 10, 200
# From so many classes on texts are smaller; those of the key by this part.
MANY, _SMALL = 41, 0.86
_NAME_LENGTH, _KEY_NAME_LENGTH = 10, 28
_NO_FONT = "(no font here has these letters)"
# Of a row at 7 points, and at the smaller size.
_ROW_INCHES, _SMALL_ROW_INCHES = 0.145, 0.138


def numbered(names: tuple[str, ...]) -> bool:
    """Whether the maps show class numbers: there is no room for names, or no font on this machine."""
    few = len(names) <= _NAMES_UP_TO and max(map(_letters, names)) <= _NAME_LENGTH
    return not (few and all(map(can_write, names)))


def key_height(names: tuple[str, ...], width: float, note: str = "") -> float:
    """Inches that `add_key` takes."""
    if not names:
        return 0.0
    rows = 1 if len(names) > KEY_UP_TO else -(-len(names) // _columns(names, width)) + bool(note)
    return rows * (_SMALL_ROW_INCHES if len(names) >= MANY else _ROW_INCHES)


def add_key(figure: Figure, names: tuple[str, ...], width: float, note: str = "") -> None:
    """Below the maps, headed by a note; with more classes than it can hold, how they are numbered instead.

    Nothing without classes.
    """
    if not names:
        return
    if len(names) > KEY_UP_TO:
        ends = (
            f"{k}" if names[k] == str(k) else f"{k} ({_shortened(names[k])})" for k in (0, len(names) - 1)
        )
        numbers = f"{len(names)} classes, numbered in their order from {' to '.join(ends)}, at their medians"
        figure.supxlabel(numbers, fontsize=6, parse_math=False, wrap=True)
        return
    scale = _scale(names)
    handles = [
        Line2D([], [], linestyle="", marker=mark, markersize=5 * scale, markeredgewidth=0, color=colour)
        for mark, colour in zip(class_marks(len(names)), class_colours(len(names)), strict=True)
    ]
    legend = figure.legend(
        handles,
        [str(k) for k in range(len(names))],
        loc="outside lower center",
        ncols=_columns(names, width),
        fontsize=7 * scale,
        handletextpad=0.1,
        columnspacing=0.9,
        title=note or None,
        title_fontsize=7 * scale,
    )
    # Set afterwards: matplotlib drops labels that begin with "_" and reads "$" as mathematics.
    for k, (text, name) in enumerate(zip(legend.get_texts(), names, strict=True)):
        text.set_parse_math(False)
        text.set_text(f"{k}  {_written(name)}" if numbered(names) else name)


def _written(name: str) -> str:
    return _shortened(name) if can_write(name) else _NO_FONT


def _shortened(name: str) -> str:
    return name if len(name) <= _KEY_NAME_LENGTH else name[: _KEY_NAME_LENGTH - 1] + "…"


def _letters(name: str) -> float:
    """How many Latin letters are as wide as a name: those of East Asia are twice as wide."""
    return len(name) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in name)


def _scale(names: tuple[str, ...]) -> float:
    return _SMALL if len(names) >= MANY else 1.0


def _columns(names: tuple[str, ...], width: float) -> int:
    # Inches that a column takes at 7 points: the marker, its gaps, the number, and 0.06 a letter.
    column = 0.3 + 0.15 * numbered(names) + 0.06 * max(_letters(_written(name)) for name in names)
    most = int(np.clip(width / (column * _scale(names)), 1, len(names)))
    rows = -(-len(names) // most)
    return -(-len(names) // rows)  # as many in each column, as far as that goes
