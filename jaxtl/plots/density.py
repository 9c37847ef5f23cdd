"""Where points are so many that they hide each other: lines around where each class is densest."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke

# From so many points on, and up to so many classes: more lines than that hide more than they show.
_DENSE_FROM, _LINES_UP_TO = 5000, 24
# Of each class, the share of its points that its line encloses.
SHARE = 0.5
_CELLS = 160
# Cells: finer than groups of points, and coarser than the gaps between them.
_SMOOTH = 3.0


def has_lines(n: int, classes: int) -> bool:
    """Whether a map of n points has such lines."""
    return n >= _DENSE_FROM and classes <= _LINES_UP_TO


def draw_lines(axes: Axes, coords: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> None:
    """A line around the densest half of each class's points, in its colour, edged with white.

    Args:
        axes: whose limits hold all points.
        coords: [n, 2]. labels: int [n]. colours: RGB of each class, [classes, 3].
    """
    limits = [axes.get_xlim(), axes.get_ylim()]
    for label in np.unique(labels):
        places, density, level = densest(coords[labels == label], limits)
        if level > 0:
            lines = axes.contour(*places, density, [level], colors=[tuple(colours[label])], linewidths=0.9)
            lines.set_path_effects([Stroke(linewidth=2.2, foreground="white"), Normal()])


def densest(
    points: np.ndarray, limits: list[tuple[float, float]]
) -> tuple[list[np.ndarray], np.ndarray, float]:
    """The middles of cells along both axes, the smoothed share of points in each, float [rows, columns], and
    the level above which lies SHARE of the points.
    """
    # Here, as few maps have such lines, and it takes as long to import as all the rest.
    from scipy.ndimage import gaussian_filter

    counts, *edges = np.histogram2d(*points.T, bins=_CELLS, range=limits)
    density = gaussian_filter(counts / len(points), _SMOOTH, mode="constant")
    falling = np.sort(density, axis=None)[::-1]
    level = falling[min(np.searchsorted(falling.cumsum(), SHARE), falling.size - 1)]
    return [(edge[1:] + edge[:-1]) / 2 for edge in edges], density.T, float(level)
