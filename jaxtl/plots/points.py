"""Points of a map: many marks, drawn mixed, in files that stay small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import allow_rasterization
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.collections import PathCollection
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline
from matplotlib.transforms import IdentityTransform

RASTERISED_ABOVE = 5000
_DISC = "o"


def draw_points(
    axes: Axes, coords: np.ndarray, labels: np.ndarray, colours: np.ndarray, marks: Sequence[str], area: float
) -> None:
    """All points of a map, classes mixed; as dots in files where they are many.

    Args:
        coords: [n, 2]. labels: int [n].
        colours, marks: of each class: RGB [classes, 3] and matplotlib's markers.
        area: of each in square points, as in `Axes.scatter`.
    """
    order = _mixed(labels, len(colours))
    points = _Points(coords[order], labels[order], colours, marks, area, axes)
    points.set_rasterized(len(coords) > RASTERISED_ABOVE)
    axes.add_collection(points, autolim=False)


class _Points(PathCollection):
    """Marks as `Axes.scatter` draws them, in their order. SVG and PDF take a fraction of the time and space.

    Args:
        xy: [n, 2] in the units of the data.
        labels, colours, marks, area: as of `draw_points`.
    """

    def __init__(
        self,
        xy: np.ndarray,
        labels: np.ndarray,
        colours: np.ndarray,
        marks: Sequence[str],
        area: float,
        axes: Axes,
    ) -> None:
        outlines = {mark: _outline(mark) for mark in set(marks)}
        paths = [outlines[marks[label]] for label in labels] if len(outlines) > 1 else [outlines[marks[0]]]
        how = {"offset_transform": axes.transData, "facecolors": colours[labels], "linewidths": 0}
        super().__init__(paths, [area], offsets=xy, **how)
        self.set_transform(IdentityTransform())
        starts = np.flatnonzero(labels[1:] != labels[:-1]) + 1
        self._runs = [
            (None if marks[labels[run[0]]] == _DISC else outlines[marks[labels[run[0]]]], run)
            for run in np.split(np.arange(len(xy)), starts)
        ]

    @allow_rasterization
    def draw(self, renderer: RendererBase) -> None:
        # Pixels are filled in compiled code. Files of discs are written disc by disc in Python.
        if self.get_rasterized() or isinstance(renderer, RendererAgg):
            super().draw(renderer)
        else:
            self._draw_strokes(renderer)

    def _draw_strokes(self, renderer: RendererBase) -> None:
        """One path for each run of one class: of discs, strokes of no length with round ends.

        Both formats define these as discs (SVG 2, section 13.5.4; ISO 32000-1, section 8.5.3.2), and a stroke
        of some length shows a seam in viewers that draw its two ends one by one.
        """
        renderer.open_group("points", self.get_gid())
        gc = renderer.new_gc()
        self._set_gc_clip(gc)
        gc.set_capstyle("round")
        size = renderer.points_to_pixels(self.get_sizes()[0] ** 0.5)
        # To a hundredth of a point, which nobody sees: half the file's size.
        places = np.round(self.get_offset_transform().transform(self.get_offsets()), 2)
        for outline, run in self._runs:
            colour = tuple(self.get_facecolors()[run[0]])
            if outline is None:
                gc.set_linewidth(size)
                gc.set_foreground(colour, isRGBA=True)
                codes = np.tile(np.uint8([Outline.MOVETO, Outline.LINETO]), len(run))
                drawn, filled = Outline(np.repeat(places[run], 2, axis=0), codes), None
            else:
                gc.set_linewidth(0)
                corners = places[run][:, None] + size * outline.vertices
                codes = np.tile(outline.codes, len(run))
                drawn, filled = Outline(np.round(corners.reshape(-1, 2), 2), codes), colour
            renderer.draw_path(gc, drawn, IdentityTransform(), filled)
        gc.restore()
        renderer.close_group("points")


def _outline(mark: str) -> Outline:
    """A marker's outline, of about the area of a disc of diameter 1 about 0."""
    if mark == _DISC:
        return Outline.circle(radius=0.5)
    style = MarkerStyle(mark)
    path = style.get_path().transformed(style.get_transform())
    # Markers fill a square of side 1; squares look larger than discs of that width.
    return Outline(0.89 * path.vertices, path.codes) if mark in "sD" else path


def _mixed(labels: np.ndarray, classes: int) -> np.ndarray:
    """An order in which to draw points: drawn class by class, the last class would hide the others.

    A fixed shuffle in rounds of about ten points a class, each round sorted by class, every other one
    backwards: so that one colour's points stand in runs, which vector files write as one path.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    rounds = np.arange(len(labels)) // (10 * classes)
    return order[np.lexsort((np.where(rounds % 2, -1, 1) * labels[order], rounds))]
