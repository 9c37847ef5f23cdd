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
from jaxtl.machine.cache import AUTO, NONE
from jaxtl.machine.process import Silence
from jaxtl.machine.tasks import Executor, InTurn, Outcomes, Task
from jaxtl.progress import Observer, Silent, counted
from jaxtl.records.files import wait_until_seen
from jaxtl.records.paths import absolute_path
from jaxtl.records.places import expanded
from jaxtl.runs.folder import SweepFolder
from jaxtl.runs.formats import Predictions
from jaxtl.settings import TIME_LIMIT
from jaxtl.sweeps import choice, tables, tasks
from jaxtl.sweeps.page import draw
from jaxtl.sweeps.rows import FAILED, REFUSED, SweepRow, begun, finished, is_whole
from jaxtl.sweeps.settings import Asked, Grid

_START, _FOUND = "start", "sweep"
_IN_GRID = ("trainable", "image_size", "weights")
# What a note of a task that failed is cut to.
_LONGEST = 600
# Libraries for the maps, seconds for one of them, and the compilation cache.
USUAL_SETTING = ("auto", TIME_LIMIT, AUTO)


class Sweep:
    """The folder of a sweep, and the work still to be done in it.

    Args:
        known: of every combination, as `jaxtl.sweeps.work.look` gives it.
        setting: of all tasks, as `jaxtl.sweeps.work.Setting`.
        executor: who does them.
    """

    def __init__(
        self,
        folder: SweepFolder,
        asked: Asked,
        known: Mapping[str, Any],
        setting: Sequence[Any],
        observer: Observer,
        executor: Executor,
    ) -> None:
        self.folder, self.asked, self._known = folder, asked, known
        self._setting, self._observer, self._executor = setting, observer, executor
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
        return tasks.tasks_of(self.asked, self._setting, self._known["stops"], left)

    def forecast(self) -> Forecast:
        """What the runs that were not begun will take, what they share counted once."""
        return tables.forecast(self._known, self.asked, SHARED)

    def run(self) -> list[SweepRow]:
        """Do what is left to do. Returns a row for each combination.

        Raises JaxtlError where no combination could be run.
        """
        with self.held:
            for one in self.asked.grid.combinations:
                if is_whole(self.folder, one.name):
                    self._take_in(one.name)
            self._say_what_to_expect()
            left = self.left
            names = [task.name for task in left]

            def tell(task: Task) -> None:
                self._observer.notify(f"{names.index(task.name) + 1} of {len(names)}: {task.name}")

            self._executor.run(left, self._observer, Outcomes(self._done, self._failed, tell))
            return self._conclude()

    def _say_what_to_expect(self) -> None:
        if expected := self.forecast().line():
            count = self._executor.workers
            self._observer.notify(f"{expected}; {count} workers share it" if count > 1 else expected)

    def _done(self, task: Task, result: Any) -> None:
        """A task has ended well: its combination's row says so from now on."""
        if task.name in self.rows:
            predictions = self.folder.predictions_of(task.name)
            wait_until_seen(predictions.path)
            self.folder.manifest.record(f"predictions-{task.name}", [predictions.name], {})
            self._take_in(task.name)
            self._tabulate()

    def _failed(self, task: Task, error: Exception) -> None:
        said = _brief(error).removeprefix(f"{task.name}: ")
        if task.name not in self.rows:
            self._observer.notify(f"{task.name}: each combination makes its own, as {said}")
            return
        refused = isinstance(error, JaxtlError) and not isinstance(error, Silence)
        status = REFUSED if refused else FAILED
        self.rows[task.name] = replace(self.rows[task.name], status=status, note=said)
        self._observer.notify(f"{task.name}: {status}: {said}")
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
    setting: Sequence[Any] = USUAL_SETTING,
    executor: Executor | None = None,
) -> Sweep:
    """A new sweep in a folder that is empty or does not exist yet; all that can be known is checked.

    Args:
        setting: libraries for the maps, seconds for one of them, and the compilation cache, as `jaxtl run`
            takes them.
        executor: who does all work; None for processes of this machine, one after another.

    Raises JaxtlError where the folder holds files, or what is asked for cannot work.
    """
    run, observer = SweepFolder(folder), observer or Silent()
    _check(asked)
    with run.newly_held() as held:
        sweep = _opened(run, _settled(asked), setting, observer, executor or InTurn())
        sweep.held = held
    return sweep


def planned(
    asked: Asked,
    folder: Path,
    observer: Observer | None = None,
    setting: Sequence[Any] = USUAL_SETTING,
) -> Sweep:
    """What `start` would begin, checked as there; nothing is written."""
    run, observer = SweepFolder(folder), observer or Silent()
    run.check_new()
    _check(asked)
    asked, setting, here = _settled(asked), _whole(run, setting), InTurn()
    return Sweep(run, asked, _look(asked, setting, observer, here), setting, observer, here)


def resume(
    folder: Path,
    insisted: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
    setting: Sequence[Any] = USUAL_SETTING,
    executor: Executor | None = None,
) -> Sweep:
    """A sweep that goes on where its folder was left.

    Args:
        insisted: settings that the caller insists on. Values of `trainable`, `image_size` and `weights` that
            the sweep does not have yet are added to it.
        setting, executor: as of `start`.

    Raises JaxtlError for a folder that is none of a sweep, and a setting that differs from its own.
    """
    run, observer = SweepFolder(folder), observer or Silent()
    run.check()
    with run.held() as held:
        asked = _with_more(run, _asked_of(run), dict(insisted or {}))
        run.remove_leftovers()
        sweep = _opened(run, asked, setting, observer, executor or InTurn())
        sweep.held = held
    return sweep


def _opened(
    run: SweepFolder, asked: Asked, setting: Sequence[Any], observer: Observer, executor: Executor
) -> Sweep:
    """The sweep of a folder, which holds from now on what is asked for."""
    setting = _whole(run, setting)
    known = _look(asked, setting, observer, executor)
    run.asked.write(asked.as_record())
    run.manifest.record(_START, [run.asked.name], {})
    return Sweep(run, asked, known, setting, observer, executor)


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
    """All of a setting, with paths that say the same in any working directory."""
    backend, time_limit, kept = setting
    kept = kept if kept in (None, AUTO, NONE) else os.path.abspath(kept)
    return [os.path.abspath(run.path), backend, time_limit, kept]


def _look(asked: Asked, setting: Sequence[Any], observer: Observer, executor: Executor) -> dict[str, Any]:
    """What is known of all combinations before any work. Raises JaxtlError where none can be run."""
    with observer.step(f"{len(asked.grid.combinations)} combinations checked"):
        known: dict[str, Any] = executor.run([tasks.look(asked, setting)], Silent())[0]
    for note in known["notes"]:
        observer.notify(note)
    for name, row in known["combinations"].items():
        if row["fault"]:
            observer.notify(f"{name}: {REFUSED}: {row['fault']}")
    return known


def _brief(error: BaseException) -> str:
    of_file = isinstance(error, OSError) and error.filename and error.strerror
    said = f"{error.filename}: {error.strerror}" if of_file else str(error)
    said = " ".join(said.split()) or type(error).__name__
    full = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in said
    said = f"out of memory ({said})" if full else said
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."
