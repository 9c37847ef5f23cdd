"""The sweep for who calls it in Python, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure

from jaxtl.data import GIVEN
from jaxtl.experiment.run import paired
from jaxtl.machine.bars import watching
from jaxtl.machine.tasks import InTurn
from jaxtl.progress import Observer
from jaxtl.ranges import text
from jaxtl.records import summaries
from jaxtl.records.arrays import Pathlike
from jaxtl.records.dataset import Dataset
from jaxtl.runs.folder import SweepFolder
from jaxtl.runs.lock import Hold
from jaxtl.runs.naming import fresh_folder, run_name
from jaxtl.settings import TIME_LIMIT, RunConfig
from jaxtl.sweeps import choice, tables
from jaxtl.sweeps import sweep as sweeping
from jaxtl.sweeps.page import draw
from jaxtl.sweeps.plots import sweep_figure
from jaxtl.sweeps.rows import TESTED, SweepRow, label
from jaxtl.sweeps.settings import SEEDS, TRAINABLE, USUAL, Asked, Grid

__all__ = ["SweepResult", "SweepRow", "sweep"]


@dataclass(frozen=True, repr=False)
class SweepResult(summaries.Told):
    """What `sweep` finds.

    Attributes:
        rows: one for each combination, those that could not be run among them.
        test_images: that each was tested on.
        path: the folder, with report.html; each combination's runs lie in `path / "runs" / row.name`.
    """

    rows: tuple[SweepRow, ...]
    test_images: int
    path: Path

    @property
    def best(self) -> SweepRow | None:
        """The combination with the highest test accuracy."""
        return choice.best(self.rows)

    @property
    def cheapest(self) -> SweepRow | None:
        """The one of least arithmetic whose test accuracy is not distinguishable from the best one's."""
        return choice.cheapest(self.rows)

    @property
    def words(self) -> str:
        """Which is best, and which is the cheapest that cannot be told from it, in sentences."""
        return " ".join(choice.words(self.rows, self.test_images))

    def plot(self, width: str | float | None = None) -> Figure:
        """Accuracy, seconds and memory against what learns; `width` as of `jaxtl.plot`."""
        return sweep_figure(self.rows, width)

    def summary(self) -> summaries.Summary:
        """What is shown of it in a notebook."""
        done = sum(row.is_done for row in self.rows)
        rows = [
            ("combinations", f"{done} of {len(self.rows)} done"),
            ("", self.words),
            ("folder", str(self.path)),
        ]
        head = ["", TESTED, "behind the best", "parameters"]
        cells = [
            [
                label(row, self.rows),
                choice.spoken(row.test_accuracy) or row.status,
                tables.standing(row, self.rows) if row.is_done else "",
                "" if row.parameters is None else f"{row.parameters:,}",
            ]
            for row in self.rows
        ]
        return summaries.Summary("Sweep", rows, summaries.Table("Combinations", head, cells))


def write_again(folder: Pathlike) -> Path:
    """Draw a sweep's picture and write its page again. Returns the page's path; errors as of `read_sweep`."""
    found, run = read_sweep(folder), SweepFolder(folder)
    with Hold(run.path):
        draw(run, found.rows, found.test_images)
        run.accept([*run.figures, run.report])
    return run.report.path


def read_sweep(folder: Pathlike) -> SweepResult:
    """What a sweep has found so far. Raises JaxtlError where there is none, or it is damaged."""
    run = SweepFolder(folder)
    run.check()
    run.check_there([run.rows])
    record = run.rows.read()
    return SweepResult(tuple(tables.read_rows(record)), int(record.get("test_images") or 0), run.path)


def sweep(
    config: RunConfig | None = None,
    dataset: str | Dataset | tuple[Dataset, Dataset] | None = None,
    *,
    trainable: Sequence[str | int] = TRAINABLE,
    image_size: Sequence[int] = Grid.image_size,
    weights: Sequence[Pathlike | None] = (None,),
    seeds: int = 1,
    out: Pathlike | None = None,
    backend: str = "auto",
    time_limit: float = TIME_LIMIT,
    progress: bool = False,
    observer: Observer | None = None,
) -> SweepResult:
    """What to freeze, at what size, with which weights: an experiment for each combination, compared.

    Called again with the same settings, images and folder it goes on where it was stopped; values of
    `trainable`, `image_size` and `weights` that are new are added.

    Args:
        config: settings that all share, the first seed among them; by default those of a run, but with PCA
        maps
            alone and without the depth profile.
        dataset: as of `run`. Images that are given in Python are worked on in this process; others by a
        process for
            each combination, so that one that needs too much memory costs the others nothing.
        trainable: which layers learn, each as of `RunConfig`.
        image_size: pixels, each 32 to 1024.
        weights: files to start from; None or "imagenet" takes those that come with jaxtl.
        seeds: runs of each combination, for intervals over seeds too.
        out: the folder; by default runs/sweep-NAME-SAMPLES, or with -2 where that is there.
        backend, time_limit, progress, observer: as of `run`.

    Returns:
        A row for each combination, the best, and the cheapest that is not distinguishable from it.

    Raises:
        JaxtlError: settings that cannot work, before any work; a folder that holds something else; or where
        no
            combination could be run.
    """
    config, observer, executor = config or USUAL, watching(progress, observer), InTurn()
    if isinstance(dataset, str):
        config = replace(config, dataset=dataset)
    elif dataset is not None:
        given = paired(dataset, config.selection)
        config = replace(config, dataset=f"{GIVEN}:{given[1].name.removeprefix(f'{GIVEN}:')}")
        executor = InTurn({"given": given})
    paths = tuple(None if path is None else str(path) for path in weights)
    grid = Grid(tuple(map(str, trainable)), tuple(image_size), paths)
    asked, setting = Asked(config, grid, SEEDS.checked("seeds", seeds)), (backend, time_limit, "auto")
    folder = fresh_folder(f"sweep-{run_name(config)}") if out is None else Path(text("out", out))
    if SweepFolder(folder).asked.is_there:
        insisted = {**asdict(config), **asdict(grid), "seeds": seeds}
        work = sweeping.resume(folder, insisted, observer, setting, executor)
    else:
        work = sweeping.start(asked, folder, observer, setting, executor)
    work.run()
    return read_sweep(folder)
