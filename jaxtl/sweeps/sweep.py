"""A sweep: its folder, what is asked of it, the work still to be done in it, and what it found.

Every combination is a run folder like any other, or one of several seeds. What is done is not done again;
tables are written anew whenever a combination ends, so that a sweep that is stopped has those of what it did.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jaxtl.costs.forecast import SHARED, Forecast
from jaxtl.data import absolute
from jaxtl.errors import JaxtlError
from jaxtl.progress import Observer, Silent, counted
from jaxtl.records.paths import absolute_path
from jaxtl.records.places import expanded
from jaxtl.runs.folder import SweepFolder
from jaxtl.runs.formats import Predictions
from jaxtl.sweeps import choice, tables
from jaxtl.sweeps.page import draw
from jaxtl.sweeps.rows import FAILED, REFUSED, SweepRow, begun, finished, is_whole
from jaxtl.sweeps.settings import Asked, Grid
from jaxtl.sweeps.tasks import Ended, Executor, Task, call, in_this_process, one_after_the_other, tasks_of

_START, _FOUND = "start", "sweep"
_IN_GRID = ("trainable", "image_size", "weights")


class Sweep:
    """The folder of a sweep, and the work still to be done in it.

    Args:
        known: of every combination, as `jaxtl.sweeps.work.look` gives it.
        setting: of all tasks, as `jaxtl.sweeps.work.Setting`.
        given: training and test images that were given in Python.
    """

    def __init__(
        self,
        folder: SweepFolder,
        asked: Asked,
        known: Mapping[str, Any],
        setting: Sequence[Any],
        observer: Observer,
        given: Any = None,
    ) -> None:
        self.folder, self.asked, self._known = folder, asked, known
        self._setting, self._observer, self._given = setting, observer, given
        self._faults: dict[str, tuple[str, str]] = {}
        self._predictions: dict[str, Predictions] = {}
        # The folder, as long as this works in it.
        self.held: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        self.rows = {
            one.name: begun(one, asked.seeds, known["combinations"][one.name])
            for one in asked.grid.combinations
        }

    @property
    def left(self) -> list[Task]:
        """The tasks that are still to be done."""
        left = [
            one
            for one in self.asked.grid.combinations
            if not self._known["combinations"][one.name]["fault"] and not is_whole(self.folder, one.name)
        ]
        return tasks_of(self.asked, self._setting, self._known["stops"], left)

    def forecast(self) -> Forecast:
        """What the runs that were not begun will take, what they share counted once."""
        return tables.forecast(self._known, self.asked, SHARED)

    def run(self, executor: Executor | None = None) -> list[SweepRow]:
        """Do what is left to do. Returns a row for each combination.

        Raises JaxtlError where no combination could be run.
        """
        usual = one_after_the_other if self._given is None else in_this_process(self._given)
        with self.held:
            tasks = self.left
            for one in self.asked.grid.combinations:
                if is_whole(self.folder, one.name):
                    self._take_in(one.name)
            if expected := self.forecast().line():
                self._observer.notify(expected)
            (executor or usual)(tasks, self._observer, self._end)
            return self._conclude()

    def _end(self, ended: Ended) -> None:
        """A task has ended: its combination's row says so from now on."""
        name = ended.task.combination
        if not name:
            if ended.fault:
                self._observer.notify(f"{ended.task.title}: each makes its own, as {ended.fault}")
            return
        if not ended.fault:
            predictions = self.folder.predictions_of(name)
            self.folder.manifest.record(f"predictions-{name}", [predictions.name], {})
            self._take_in(name)
        else:
            status = REFUSED if ended.refused else FAILED
            self.rows[name] = replace(self.rows[name], status=status, note=ended.fault)
            self._observer.notify(f"{name}: {status}: {ended.fault}")
        self._tabulate()

    def _take_in(self, name: str) -> None:
        self.rows[name] = finished(self.rows[name], self.folder)
        self._predictions[name] = self.folder.predictions_of(name).read()

    @property
    def test_images(self) -> int:
        return next((len(known.labels) for known in self._predictions.values()), 0)

    def _tabulate(self) -> list[SweepRow]:
        rows = choice.compared(list(self.rows.values()), self._predictions)
        self.rows = {row.name: row for row in rows}
        images = self.test_images
        self.folder.rows.write(tables.as_record(rows, images))
        self.folder.table.write(tables.as_text(rows))
        self._record()
        return rows

    def _conclude(self) -> list[SweepRow]:
        rows = self._tabulate()
        if not any(row.is_done for row in rows):
            raise JaxtlError(f"{self.folder}: no combination could be run; the first: {rows[0].note}")
        with self._observer.step("Picture and page"):
            draw(self.folder, rows, self.test_images)
        self._record()
        if all(row.is_done for row in rows):
            shutil.rmtree(self.folder.shared, ignore_errors=True)
        return rows

    def _record(self) -> None:
        made = [self.folder.rows, self.folder.table, self.folder.report, *self.folder.figures]
        self.folder.manifest.record(_FOUND, [file.name for file in made if file.is_there], {})


def start(
    asked: Asked,
    folder: Path,
    observer: Observer | None = None,
    setting: Sequence[Any] = ("auto", 900.0, "auto"),
    given: Any = None,
) -> Sweep:
    """A new sweep in a folder that is empty or does not exist yet; all that can be known is checked.

    Args:
        setting: libraries for the maps, seconds for one of them, and the compilation cache, as `jaxtl run`
            takes them.
        given: training and test images, in place of `asked.config.dataset`.

    Raises JaxtlError where the folder holds files, or what is asked for cannot work.
    """
    run, observer = SweepFolder(folder), observer or Silent()
    _check(asked)
    with run.newly_held() as held:
        asked = _settled(asked)
        sweep = _opened(run, asked, setting, observer, given)
        sweep.held = held
    return sweep


def planned(
    asked: Asked,
    folder: Path,
    observer: Observer | None = None,
    setting: Sequence[Any] = ("auto", 900.0, "auto"),
) -> Sweep:
    """What `start` would begin, checked as there; nothing is written."""
    run, observer = SweepFolder(folder), observer or Silent()
    run.check_new()
    _check(asked)
    asked = _settled(asked)
    known = _look(run, asked, setting, observer, None)
    return Sweep(run, asked, known, _whole(run, setting), observer)


def resume(
    folder: Path,
    insisted: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
    setting: Sequence[Any] = ("auto", 900.0, "auto"),
    given: Any = None,
) -> Sweep:
    """A sweep that goes on where its folder was left.

    Args:
        insisted: settings that the caller insists on. Values of `trainable`, `image_size` and `weights` that
            the sweep does not have yet are added to it.

    Raises JaxtlError for a folder that is none of a sweep, and a setting that differs from its own.
    """
    run, observer = SweepFolder(folder), observer or Silent()
    if not run.asked.is_there:
        raise JaxtlError(f"{folder}: no sweep (it has no {run.asked.name}); start one with --out {folder}")
    with run.held() as held:
        asked = _asked_of(run)
        asked = _with_more(run, asked, dict(insisted or {}))
        run.remove_leftovers()
        sweep = _opened(run, asked, setting, observer, given)
        sweep.held = held
    return sweep


def _opened(run: SweepFolder, asked: Asked, setting: Sequence[Any], observer: Observer, given: Any) -> Sweep:
    """The sweep of a folder, which holds from now on what is asked for."""
    known = _look(run, asked, setting, observer, given)
    run.asked.write(asked.as_record())
    run.manifest.record(_START, [run.asked.name], {})
    return Sweep(run, asked, known, _whole(run, setting), observer, given)


def _asked_of(run: SweepFolder) -> Asked:
    try:
        return Asked.of_record(run.asked.read())
    except (TypeError, KeyError) as error:
        raise JaxtlError(f"{run.asked}: not what a sweep of this jaxtl is asked for ({error})") from None


def _with_more(run: SweepFolder, asked: Asked, insisted: dict[str, Any]) -> Asked:
    """What was asked for, and the values of the grid that are new. Raises JaxtlError for other settings."""
    more = {name: insisted.pop(name) for name in _IN_GRID if name in insisted}
    if insisted.pop("seeds", asked.seeds) != asked.seeds:
        raise JaxtlError(
            f"{run}: was begun with {counted(asked.seeds, 'seed')}; leave out --seeds, or start another with "
            "--out"
        )
    own = asdict(_settled(asked).config)
    wanted = asdict(_settled(asked._replace(config=replace(asked.config, **insisted))).config)
    for name, value in wanted.items():
        if own[name] != value:
            raise JaxtlError(
                f"{run}: was begun with {name} {own[name]}, not {value}; leave it out to go on, or start "
                "another with --out"
            )
    if not more:
        return asked
    new = _settled(asked._replace(grid=Grid(**more))).grid
    added = {name: tuple(dict.fromkeys((*getattr(asked.grid, name), *getattr(new, name)))) for name in more}
    return asked._replace(grid=replace(asked.grid, **added))


def _check(asked: Asked) -> None:
    """Raises JaxtlError for what is wrong whatever the images are."""
    for path in filter(None, asked.grid.weights):
        if not expanded(path).exists():
            raise JaxtlError(f"{path}: no such file")
    # Which refuses seeds that are too large.
    replace(asked.config, seed=asked.config.seed + asked.seeds - 1)


def _settled(asked: Asked) -> Asked:
    """With absolute paths, so that it goes on from any working directory."""
    weights = tuple(absolute_path(path) for path in asked.grid.weights)
    config = replace(asked.config, dataset=absolute(asked.config.dataset))
    return asked._replace(config=config, grid=replace(asked.grid, weights=weights))


def _whole(run: SweepFolder, setting: Sequence[Any]) -> list[Any]:
    return [os.path.abspath(run.path), *setting]


def _look(
    run: SweepFolder, asked: Asked, setting: Sequence[Any], observer: Observer, given: Any
) -> dict[str, Any]:
    """What is known of all combinations before any work. Raises JaxtlError where none can be run."""
    arguments = {"asked": asked.as_record(), "setting": _whole(run, setting)}
    task = Task("look", "Settings checked", "jaxtl.sweeps.work:look", arguments, run.path)
    with observer.step(f"{len(asked.grid.combinations)} combinations checked"):
        known: dict[str, Any] = call(task, Silent(), given)
    for note in known["notes"]:
        observer.notify(note)
    for name, row in known["combinations"].items():
        if row["fault"]:
            observer.notify(f"{name}: {REFUSED}: {row['fault']}")
    return known
