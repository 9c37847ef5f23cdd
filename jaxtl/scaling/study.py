"""A scaling study: a folder, what is asked of it, and the work still to be done in it.

Every trial has files of its own, which appear whole or not at all; what is there is not done again. Tables
are written anew after every size, so that a study that is stopped has those of what it did.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.identity import differing, machine, spoken
from jaxtl.machine.memory import available_memory
from jaxtl.machine.signals import at_signal
from jaxtl.machine.tasks import Executor, InTurn, Task
from jaxtl.methods import METHODS
from jaxtl.plots.style import save as save_figure
from jaxtl.progress import Observer, Silent, counted
from jaxtl.records.arrays import Embedding
from jaxtl.records.files import check_writable, remove_leftovers, wait_until_seen, write_json
from jaxtl.runs.dataset import contents
from jaxtl.runs.lock import Hold
from jaxtl.scaling import extraction, plan, plots, quality, source, tasks, trials, work
from jaxtl.scaling.curves import Curve, curves, save_fits, save_table
from jaxtl.scaling.folder import (
    CONFIG,
    FEATURES,
    FIGURES,
    FITS,
    SUFFIXES,
    TABLE,
    StudyFolder,
    map_name,
    quality_name,
    trial_name,
)
from jaxtl.scaling.plan import DEFAULT_GRID, Grid
from jaxtl.scaling.settings import MEMORY_SHARE, Limits, Settings
from jaxtl.scaling.trials import DONE, NOT_TRIED, Trial
from jaxtl.settings import TIME_LIMIT

# Under this name the manifest says what the images were.
_IMAGES = "images"


def default_limits(seconds: float | None = None, gib: float | None = None) -> Limits:
    """Limits of a trial: 900 s, and most of the memory that is available now."""
    memory = available_memory() * MEMORY_SHARE if gib is None else gib * 2**30
    return Limits(TIME_LIMIT if seconds is None else seconds, int(memory))


def prepare(
    folder: Path,
    given: dict[str, Any] | None = None,
    grid: Grid = Grid(),
    limits: Limits | None = None,
    observer: Observer | None = None,
    executor: Executor | None = None,
    own_memory: bool = False,
) -> Study:
    """A study in a new or empty folder, or one that goes on; nothing is computed yet.

    Args:
        given: settings that the caller insists on, by the names of `Settings`.
        grid: sizes, methods and backends.
        limits: of every trial; those of `default_limits` by default.
        executor: who makes trials and judges maps; None for this process, one after another.
        own_memory: whether a trial may take most of the memory that is available to who makes it, in place of
            what the limits say.

    Raises:
        JaxtlError: a setting or images that differ from the folder's, another folder's contents, trials that
            are not what the study wrote, sizes or methods that cannot work, or a disk too small.
    """
    if not folder.is_dir():
        # Which refuses what cannot be a study's folder.
        plan.settings_of(folder, given or {})
    held = Hold(folder)
    try:
        settings, wanted = _wanted(folder, given or {}, grid)
        who = executor or InTurn(), own_memory
        study = Study(folder, settings, wanted, limits or default_limits(), observer or Silent(), *who)
        study.check()
        study.record()
        study.compare()
    except BaseException:
        held.let_go()
        raise
    study.held = held
    return study


def _wanted(folder: Path, given: dict[str, Any], grid: Grid) -> tuple[Settings, Grid]:
    """The settings of a folder, and what is wanted of it now."""
    remove_leftovers(folder / CONFIG)
    settings, before = plan.settings_of(folder, given)
    parts = (new or old or usual for new, old, usual in zip(grid, before, DEFAULT_GRID, strict=True))
    return settings, Grid(*parts)


class Study:
    """A study's folder, what is wanted of it now, and the trials that it has.

    Args:
        executor, own_memory: as of `prepare`.

    Raises JaxtlError where sizes, methods or backends are unknown, or a library cannot work.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        grid: Grid,
        limits: Limits,
        observer: Observer,
        executor: Executor = InTurn(),
        own_memory: bool = False,
    ) -> None:
        self.folder, self.settings, self.limits, self.observer = folder, settings, limits, observer
        self.grid, self._executor, self._own_memory = grid, executor, own_memory
        if own_memory:
            # By which it is seen what need not be tried again.
            self.limits = replace(limits, memory=max(1, limits.memory // executor.beside))
        # The folder, as long as this works in it.
        self.held: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        self.sizes = plan.parse_sizes(grid.sizes)
        self.methods = plan.parse_methods(grid.methods)
        self.series = plan.series_of(self.methods, grid.backends, self.sizes[-1])
        self.source = source.Source(settings)
        self.files = StudyFolder(folder)
        self.trials = {(t.method, t.backend, t.n): t for t in self.files.trials()}

    def check(self) -> None:
        """Refuse before any work what would fail after some. Raises JaxtlError, OSError."""
        plan.check_sizes(self.sizes, self.methods, self.settings)
        self.source.check(self.sizes[-1])
        quality.check(self.source.labels(self.sizes[0]))
        self._check_images()
        for note in self.source.whole.notes:
            self.observer.notify(note)
        check_writable(self.folder / CONFIG)
        extraction.check_disk(self.files, self.source, self.sizes[-1])

    def record(self) -> None:
        """Write down what is asked for now, and what the images are."""
        asked = self.settings, plan.weights_digest(self.settings), self.grid._asdict()
        if self.files.manifest.is_there:
            with self.files.recorded(CONFIG):
                plan.write_config(self.folder, *asked)
        else:
            # Which says what the folder is, before all else.
            plan.write_config(self.folder, *asked)
            self._adopt()
        self.files.manifest.begin({_IMAGES: self._images})

    def _adopt(self) -> None:
        """Begin the manifest with files as they stand."""
        # But for the manifest's own.
        before = len(self.files.files) - 1
        self.files = StudyFolder(self.folder)
        self.files.adopt()
        if before:
            files = counted(before, "file")
            self.observer.notify(f"{self.folder}: has no manifest; {files} are taken as they stand")

    @cached_property
    def _images(self) -> str:
        return contents(self.source.whole)

    def _check_images(self) -> None:
        known = self.files.manifest.sources.get(_IMAGES)
        if known and known != self._images:
            raise JaxtlError(
                f"dataset {self.settings.dataset}: holds other images or names than when {self.folder} was "
                "started; restore them, or start a new study with --out"
            )

    def compare(self) -> None:
        """Tell where a curve asked for has trials of several machines or versions, with those of now."""
        mixed: dict[str, list[Any]] = {}
        for series in self.series:
            trials_of = [t for t in self.trials.values() if (t.method, t.backend) == series.curve]
            made = [t.machine for t in trials_of if t.status == DONE]
            # What workers are, their trials will tell.
            now = [machine(series.on_gpu)] if self._is_here else []
            for key, values in differing([*made, *now]).items():
                mixed[key] = list(dict.fromkeys([*mixed.get(key, []), *values]))
        if mixed:
            self.observer.notify(f"Curves mix machines or versions: {spoken(mixed)}")

    @property
    def _is_here(self) -> bool:
        return isinstance(self._executor, InTurn)

    def run(self) -> list[Curve]:
        """Do what is left to do. Returns the curves through all trials of the folder."""
        with self.held:
            return self._run()

    def _run(self) -> list[Curve]:
        extraction.bring_to(self.sizes[-1], self.files, self.source, self.observer)
        self._say_whose_times()
        with at_signal(self._tabulate):
            try:
                self._measure_all()
            except KeyboardInterrupt:
                self._tabulate()
                raise
        if not self._is_here:
            self.compare()
        return self._draw()

    def _say_whose_times(self) -> None:
        if (beside := self._executor.beside) > 1:
            self.observer.notify(
                f"Up to {beside} trials at a time share a machine: their seconds are more than of one alone, "
                "and no measure of it; bytes and quality are"
            )
        elif self._executor.workers != 1:
            self.observer.notify("Seconds are those of each worker's machine, which its trials name")

    def _measure_all(self) -> None:
        """Have all done that is left to do, the smallest sizes first."""
        orders: list[tasks.Order] = []
        last: dict[tuple[str, str], Task] = {}
        for n in self.sizes:
            made: list[tasks.Order] = []
            for series in self.series:
                before = last.get(series.curve)
                if series.method.has(n) and (order := self._trial(series, n, before)):
                    made.append(order)
                    last[series.curve] = order.task
            orders += [*made, *self._judging(n, [order.task for order in made])]
        tasks.do(orders, self._executor, self.observer)

    @property
    def curves(self) -> list[Curve]:
        """Of all trials, those asked for now first."""
        asked = list(dict.fromkeys(series.curve for series in self.series))

        def place(trial: Trial) -> tuple[int, bool, int, int]:
            name, (base, _, landmarks) = (trial.method, trial.backend), trial.method.partition("@")
            number = asked.index(name) if name in asked else len(asked)
            return number, bool(landmarks), list(METHODS).index(base), int(landmarks or 0)

        return curves(sorted(self.trials.values(), key=place))

    # Trials.

    def _trial(self, series: plan.Series, n: int, before: Task | None) -> tasks.Order | None:
        """A trial to be made, after the one before it on its curve; None where there is none."""
        known = self.trials.get((*series.curve, n))
        new = Trial(*series.curve, n, limits=asdict(self.limits))
        title = f"{plots.label(new.method, new.backend)}, {n:,} images"
        if known and known.settled(self.limits):
            if known.status != DONE or self.files.is_intact(map_name(known)):
                return None
            if fault := self.files.fault(map_name(known)):
                self.observer.notify(f"{title}: made again, as {fault}")
        smaller = [replace(new, n=size) for size in self.sizes if size < n]
        there = (self.trials.get((*series.curve, trial.n)) for trial in smaller)
        # Those that are tried again are looked at when they have been.
        if over := work.hopeless(trial for trial in there if trial and trial.settled(self.limits)):
            self._keep(new.left_out(over))
            return None
        arguments = {
            "method": series.method.name,
            "request": self._request(series, new),
            "seconds": self.limits.seconds,
            "memory": None if self._own_memory else self.limits.memory,
            "smaller": [str((self.folder / trial_name(trial)).absolute()) for trial in smaller],
        }
        return tasks.Order(tasks.trial(title, arguments, [before] if before else []), self._take)

    def _take(self, record: dict[str, Any]) -> None:
        """A trial has been made, or left out."""
        trial = Trial.of_record(record)
        if trial.status == DONE:
            wait_until_seen(self._path(trial))
        if trial.status != NOT_TRIED:
            self.files.record(map_name(trial))
        self._keep(trial)

    def _request(self, series: plan.Series, trial: Trial) -> dict[str, Any]:
        out = self._path(trial)
        remove_leftovers(out)
        return {
            "features": str((self.folder / FEATURES).absolute()),
            "out": str(out.absolute()),
            "method": series.method.base,
            "backend": series.backend,
            "params": series.method.params(self.settings),
            "n": trial.n,
            "streamed": series.streamed,
            "on_gpu": series.on_gpu,
        }

    def _path(self, trial: Trial) -> Path:
        return self.folder / map_name(trial)

    def _keep(self, trial: Trial) -> None:
        with self.files.recorded(trial_name(trial)):
            trials.save(self.folder / trials.FOLDER, trial)
        self.trials[trial.method, trial.backend, trial.n] = trial

    # The quality of embeddings.

    def _judging(self, n: int, made: list[Task]) -> list[tasks.Order]:
        """The look at the maps of one size, where there is something to see, after those that are made."""
        own, there = quality_name(n), [t for t in self.trials.values() if t.n == n and self._has_map(t)]
        lacks = not self.files.is_intact(own)
        if not made and not lacks and not quality.lacking(self.folder / FEATURES, n, there):
            return []
        if fault := self.files.fault(own):
            self.observer.notify(f"Quality of {n:,} images: made again, as {fault}")
        coming = [
            trials.stem(task.arguments["method"], task.arguments["request"]["backend"], n) for task in made
        ]
        arguments = {
            "folder": str(self.folder.absolute()),
            "n": n,
            "seed": self.settings.seed,
            "names": list(dict.fromkeys([*(trial.name for trial in there), *coming])),
            "own": lacks,
        }
        task = tasks.judging(f"Quality of maps of {n:,} images", arguments, made)
        return [tasks.Order(task, partial(self._take_quality, n))]

    def _take_quality(self, n: int, found: dict[str, Any]) -> None:
        own, of_features = quality_name(n), found["own"]
        # What was found with more memory stays.
        if of_features or (of_features is not None and not self.files.is_intact(own)):
            with self.files.recorded(own):
                write_json(self.folder / own, of_features)
        for trial in [trial for trial in self.trials.values() if trial.name in found["maps"]]:
            self._keep(trial.with_quality(trials.scores_of(found["maps"][trial.name])))
        if found["note"]:
            self.observer.notify(found["note"])
        self._tabulate()

    def _qualities(self) -> dict[int, quality.Quality]:
        """Of the features themselves, by size."""
        sizes = sorted({trial.n for trial in self.trials.values()})
        known = {n: self.folder / quality_name(n) for n in sizes}
        return {n: trials.load_quality(path) for n, path in known.items() if path.is_file()}

    # What is written of all trials.

    def _tabulate(self) -> None:
        shown = self.curves
        with self.files.recorded(TABLE):
            save_table(self.folder / TABLE, shown, self._qualities())
        with self.files.recorded(FITS):
            save_fits(self.folder / FITS, shown)

    def _draw(self) -> list[Curve]:
        shown = self.curves
        names_of_classes = self.source.whole.class_names
        with self.observer.attempt("Tables and pictures") as attempt:
            self._tabulate()
            figures = {
                "seconds": plots.seconds_figure(shown),
                "memory": plots.memory_figure(shown),
                "quality": plots.quality_figure(shown, self._qualities()),
                "maps": plots.maps_figure(self._with_maps(shown), self._coords, names_of_classes),
            }
            for number, (name, figure) in enumerate(figures.items()):
                names = [f"{FIGURES}/{name}.{suffix}" for suffix in SUFFIXES]
                with self.files.recorded(*names):
                    for file in names:
                        save_figure(figure, self.folder / file)
                attempt.progress((number + 1) / len(figures))
        return shown

    def _has_map(self, trial: Trial) -> bool:
        return trial.status == DONE and self.files.is_intact(map_name(trial))

    def _with_maps(self, shown: list[Curve]) -> list[Curve]:
        """Curves as pictures of maps show them: where one that is not asked for now is lost, that is told."""

        def told(trial: Trial) -> Trial:
            lost = trial.status == DONE and not self._has_map(trial)
            return replace(trial, status="its map is lost") if lost else trial

        return [curve._replace(trials=tuple(map(told, curve.trials))) for curve in shown]

    def _coords(self, trial: Trial) -> tuple[np.ndarray, np.ndarray]:
        embedding = Embedding.load(self._path(trial))
        return embedding.coords, embedding.labels
