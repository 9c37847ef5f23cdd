"""The figures of a run, each drawn in a process of its own beside the other steps."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path

from jaxtl.errors import JaxtlError
from jaxtl.machine.child import Pool, Silence
from jaxtl.machine.devices import cpu_count
from jaxtl.progress import Progress
from jaxtl.records.files import remove_leftovers
from jaxtl.runs.folder import FIGURES, figure_files, save_figure

_MOST = 5
# What draws and writes a figure; matplotlib would import all but the first when it writes.
_PRELOAD = (
    save_figure.__module__,
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.backends.backend_pdf",
    "fontTools.subset",
)


class Drawer:
    """Draws the figures of a run's folder.

    Matplotlib is not made for several threads, and holds the interpreter's lock most of the time. So each
    figure is drawn by a process, of a few that are kept; on one core, which they would share, by this one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
                save_figure(self._folder, name, progress=progress)
        else:
            self._draw_apart(name, progress)

    def close(self) -> None:
        """End all processes, in the middle of their work too."""
        self._pool.close()

    def _draw_apart(self, name: str, progress: Progress) -> None:
        files = [self._folder / FIGURES / file for file in figure_files(name)]
        arguments = {"folder": str(self._folder), "name": name}
        try:
            self._pool.call(f"{save_figure.__module__}:save_figure", arguments, progress)
        except BaseException as error:
            for file in files:
                remove_leftovers(file)
            if isinstance(error, Silence):
                raise JaxtlError(
                    f"{files[0].with_suffix('')}: {error}; go on with: jaxtl run --resume "
                    f"{shlex.quote(str(self._folder))}"
                ) from None
            raise
