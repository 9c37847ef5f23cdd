"""The figures of a run: drawn from its files, each in a process of its own beside the other steps."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT
from jaxtl.evaluation.overview import accuracies_of
from jaxtl.machine.child import Pool
from jaxtl.machine.host import cpu_count
from jaxtl.machine.process import Silence
from jaxtl.plots.size import DPI, inches
from jaxtl.progress import Progress
from jaxtl.ranges import RANGES
from jaxtl.records.arrays import Embedding, Pathlike
from jaxtl.records.files import remove_leftovers
from jaxtl.runs.folder import RunFolder, figure_names
from jaxtl.runs.lock import Hold
from jaxtl.settings import STAGES, ComparisonConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 5
# What draws and writes a figure; matplotlib would import all but the first when it writes.
_PRELOAD = (
    __name__,
    "jaxtl.plots.maps",
    "jaxtl.plots.curves",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.backends.backend_pdf",
    "fontTools.subset",
)


@dataclass(frozen=True)
class Print:
    """How figures are printed.

    Attributes:
        width: "one" or "two" columns of a journal, or millimetres; None is 61 mm for each map beside another.
        dpi: dots per inch.
        methods: those whose maps are shown, in this order; all of the run where there are none.

    Raises JaxtlError for a width or a resolution that cannot be.
    """

    width: str | float | None = None
    dpi: float = DPI
    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        RANGES["dpi"].checked("dpi", self.dpi)
        if self.width is not None:
            inches(self.width)


def draw(run: RunFolder, name: str, how: Print = Print()) -> Figure:
    """One of a run's `figure_names`, from only the files that it shows. Raises JaxtlError as they do."""
    from jaxtl.plots import curves, maps

    if name == "history":
        return curves.history_figure(run.history.read(), how.width)
    if name == "layers":
        rows = run.layers.read()
        return curves.layers_figure(rows, list(dict.fromkeys(row.layer for row in rows)), how.width)
    run.check()
    config = run.started.read().config
    methods = _shown(run, config.methods, how.methods)
    titles = {stage: maps.stage_title(stage) for stage in STAGES}
    accuracies: dict[str, dict[str, float]] = {stage: {} for stage in STAGES}
    if isinstance(config, ComparisonConfig):
        # Nobody knows what lies between its stages.
        titles = {stage: stage.capitalize() for stage in STAGES}
    if not isinstance(config, ComparisonConfig) or config.tells_classes:
        accuracies = _accuracies(run, methods)
    if name in STAGES:
        shown = _embeddings(run, name, methods)
        return maps.stage_figure(shown, name, accuracies[name], titles[name], how.width)
    rows = [_embeddings(run, stage, methods) for stage in STAGES]
    return maps.comparison_figure(rows[0], rows[1], accuracies, titles, how.width)


def _shown(run: RunFolder, made: tuple[str, ...], asked: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [method for method in asked if method not in made]
    if unknown:
        raise JaxtlError(f"{run}: has no maps by {', '.join(unknown)}; it has {', '.join(made)}")
    return tuple(dict.fromkeys(asked)) or made


def _embeddings(run: RunFolder, stage: str, methods: tuple[str, ...]) -> list[Embedding]:
    return [run.embeddings[stage, method].read() for method in methods]


def _accuracies(run: RunFolder, methods: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """The accuracy in every space, by stage."""
    accuracies = accuracies_of(run.scores.read())
    for stage in STAGES:
        for space in ("features", *methods):
            if space not in accuracies[stage]:
                fault = f"{run.scores}: the row of {stage}, {space}, {LEAVE_ONE_OUT} is missing"
                raise run.scores.mended(JaxtlError(fault))
    return accuracies


def save_figure(
    folder: Pathlike | RunFolder,
    name: str,
    out: Pathlike | None = None,
    progress: Progress = lambda fraction: None,
    how: Print = Print(),
) -> list[Path]:
    """Draw one of a run's `figure_names`, in every format, into a folder; by default the run's own."""
    from jaxtl.plots.style import save

    run = folder if isinstance(folder, RunFolder) else RunFolder(folder)
    written = []
    figure = draw(run, name, how)
    for file in run.figures[name]:
        written.append(file.path if out is None else Path(out, file.path.name))
        save(figure, written[-1], how.dpi)
        progress(len(written) / len(run.figures[name]))
    return written


def save_figures(folder: Path, out: Path | None = None, how: Print = Print()) -> list[Path]:
    """Draw a finished run's figures into a folder, by default its own, each in every format.

    Returns the files. Raises JaxtlError where a file that they show is absent or damaged, or for a width, a
    resolution or methods that cannot be.
    """
    run = RunFolder(folder)
    run.check()
    names = figure_names(run.started.read().config)
    if out is not None:
        with Hold(out):
            return [path for name in names for path in save_figure(run, name, out, how=how)]
    with Hold(run.path):
        written = [path for name in names for path in save_figure(run, name, how=how)]
        run.accept(file for name in names for file in run.figures[name])
    return written


class Drawer:
    """Draws the figures of a run's folder.

    Matplotlib is not made for several threads, and holds the interpreter's lock most of the time. So each
    figure is drawn by a process, of a few that are kept; on one core, which they would share, by this one.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._processes = min(_MOST, cpu_count())
        self._here, self._pool = threading.Lock(), Pool(_PRELOAD)

    def get_ready(self, figures: int) -> None:
        """Have as many processes as so many figures can use, while something else works."""
        self._pool.get_ready(min(figures, self._processes) if self._processes > 1 else 0)

    def draw(self, name: str, progress: Progress) -> None:
        """Draw one of `jaxtl.runs.folder.figure_names` to its files.

        Raises JaxtlError where a file that it shows is damaged, or the process died.
        """
        if self._processes == 1:
            with self._here:
                save_figure(self._run, name, progress=progress)
        else:
            self._draw_apart(name, progress)

    def close(self) -> None:
        """End all processes, in the middle of their work too."""
        self._pool.close()

    def _draw_apart(self, name: str, progress: Progress) -> None:
        files = [file.path for file in self._run.figures[name]]
        arguments = {"folder": str(self._run.path), "name": name}
        try:
            self._pool.call(f"{__name__}:{_draw_file.__name__}", arguments, progress)
        except BaseException as error:
            for path in files:
                remove_leftovers(path)
            if isinstance(error, Silence):
                where = files[0].with_suffix("")
                raise JaxtlError(f"{where}: {error}; {self._run.go_on}") from None
            raise


def _draw_file(folder: str, name: str, progress: Progress) -> None:
    """What the process does; its answer must be what JSON can hold."""
    # Whose step this is has compared what it shows.
    save_figure(RunFolder(folder, compares=False), name, progress=progress)
