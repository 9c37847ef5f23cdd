"""Colours and marks of classes: the same for a class in every figure, and on the page."""

from __future__ import annotations

import numpy as np

# Found by simulated annealing in CIELAB, so that two of them differ by at least 42 (CIE76), under protanopia,
# deuteranopia and tritanopia as Machado, Oliveira & Fernandes (2009) simulate them by 18, and that all have a
# contrast of at least 3 to 1 with white, as they are, and with the page's dark background, lighter by _LIFT
# (W3C's WCAG 2.2, 1.4.11). Petroff's ten (2021, arXiv:2107.02270) differ by 19 and 17, five of them with a
# contrast below 3; matplotlib's tab10 by 5 under deuteranopia.
# Ordered so that the first few differ most, and so do the digits that networks confuse (3 5 8, 4 7 9).
TEN_COLOURS = (
    "#0c6fbd",
    "#cc8413",
    "#a11f03",
    "#930086",
    "#a2927b",
    "#00a3b6",
    "#105137",
    "#1737b7",
    "#6ca24e",
    "#784769",
)
# Marks of the first ten classes, of the next ten, and so on: discs, squares, triangles, ...
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_WHITE = np.array([0.95047, 1.0, 1.08883])
_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
# CIELAB's lightness, of 100: what the page's dark background adds, and what classes beyond ten lose at most.
_LIFT, _SHADE = 25.0, 0.37


def class_colours(classes: int, dark: bool = False) -> np.ndarray:
    """RGB of each class, float [classes, 3] from 0 to 1: the same for a class in every figure.

    Ten colours that are told apart under each of the three colour blindnesses; the next ten classes have
    them in another shade and with another mark (`class_marks`), and so on, so that classes that follow each
    other are told apart however many there are.

    Args:
        dark: for a dark background: as much lighter as the page is darker, of the same hue.
    """
    ten = np.array([[int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)] for colour in TEN_COLOURS])
    colours = _lab(ten[np.arange(classes) % len(ten)])
    rounds = np.arange(classes) // len(TEN_COLOURS)
    # Towards black, as far as the contrast with a dark background allows.
    colours *= (1 - _SHADE * rounds / max(3, rounds.max(initial=0) + 1))[:, None]
    if dark:
        colours[:, 0] += _LIFT
    return _rgb(colours)


def class_marks(classes: int) -> list[str]:
    """Matplotlib's marker of each class."""
    return [_MARKS[k // len(TEN_COLOURS) % len(_MARKS)] for k in range(classes)]


def _lab(rgb: np.ndarray) -> np.ndarray:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def _rgb(lab: np.ndarray) -> np.ndarray:
    middle = (lab[:, 0] + 16) / 116
    f = np.stack([middle + lab[:, 1] / 500, middle, middle - lab[:, 2] / 200], axis=1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _WHITE
    linear = np.clip(xyz @ np.linalg.inv(_TO_XYZ).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
