"""A scaling study: a folder, what is asked of it, and the work still to be done in it.

Every trial has files of its own, which appear whole or not at all; what is there is not done again. Tables
are written anew after every size, so that a study that is stopped has those of what it did.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import TRUSTWORTHINESS
from jaxtl.machine.host import cpu_count, cpu_name
from jaxtl.machine.identity import differing, machine, spoken
from jaxtl.machine.memory import available_memory
from jaxtl.machine.signals import at_signal
from jaxtl.methods import METHODS
from jaxtl.plots.style import save as save_figure
from jaxtl.progress import Observer, Silent, counted
from jaxtl.records.arrays import Embedding
from jaxtl.records.files import check_writable, remove_leftovers, write_json
from jaxtl.runs.dataset import contents
from jaxtl.runs.lock import Hold
from jaxtl.scaling import plan, plots, quality, source, trials, watch
from jaxtl.scaling.curves import Curve, curves, save_fits, save_table
from jaxtl.scaling.folder import (
    CONFIG,
    EXTRACTION,
    FEATURES,
    FIGURES,
    FITS,
    ROWS,
    SUFFIXES,
    TABLE,
    StudyFolder,
    map_name,
    quality_name,
    trial_name,
)
from jaxtl.scaling.plan import DEFAULT_GRID, Grid
from jaxtl.scaling.settings import MEMORY_SHARE, Limits, Settings
from jaxtl.scaling.trials import DONE, HOPELESS, Trial
from jaxtl.settings import TIME_LIMIT

# Under this name the manifest says what the images were.
_IMAGES = "images"
# Left free on the disk when features are written: for maps, tables and pictures.
_SPARE_BYTES = 2**28


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
) -> Study:
    """A study in a new or empty folder, or one that goes on; nothing is computed yet.

    Args:
        given: settings that the caller insists on, by the names of `Settings`.
        grid: sizes, methods and backends.
        limits: of every trial; those of `default_limits` by default.

    Raises:
        JaxtlError: a setting or images that differ from the folder's, another folder's contents, trials that
            are not what the study wrote, sizes or methods that cannot work, or a disk too small.
    """
    if not folder.is_dir():
        # Which refuses what cannot be a study's folder.
        plan.settings_of(folder, given or {})
    held = Hold(folder)
    try:
        study = _prepared(folder, given or {}, grid, limits, observer or Silent())
    except BaseException:
        held.let_go()
        raise
    study.held = held
    return study


def _prepared(
    folder: Path, given: dict[str, Any], grid: Grid, limits: Limits | None, observer: Observer
) -> Study:
    remove_leftovers(folder / CONFIG)
    settings, before = plan.settings_of(folder, given)
    wanted = Grid(*(new or old or usual for new, old, usual in zip(grid, before, DEFAULT_GRID, strict=True)))
    study = Study(folder, settings, wanted, limits or default_limits(), observer)
    study.check()
    study.record()
    study.compare()
    return study


class Study:
    """A study's folder, what is wanted of it now, and the trials that it has.

    Raises JaxtlError where sizes, methods or backends are unknown, or a library cannot work.
    """

    def __init__(
        self, folder: Path, settings: Settings, grid: Grid, limits: Limits, observer: Observer
    ) -> None:
        self.folder, self.settings, self.limits, self.observer = folder, settings, limits, observer
        self.grid = grid
        # The folder, as long as this works in it.
        self.held: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        self.sizes = plan.parse_sizes(grid.sizes)
        self.methods = plan.parse_methods(grid.methods)
        self.series = plan.series_of(self.methods, grid.backends)
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
        self._check_disk()

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
        """Tell where a curve asked for has trials of another machine, or of other versions, than now."""
        mixed: dict[str, list[Any]] = {}
        for series in self.series:
            name = series.method.name, series.backend
            made = [
                t.machine for t in self.trials.values() if (t.method, t.backend) == name and t.status == DONE
            ]
            for key, values in differing([*made, machine(series.on_gpu)]).items():
                mixed[key] = list(dict.fromkeys([*mixed.get(key, []), *values]))
        if mixed:
            self.observer.notify(f"Curves mix machines or versions: {spoken(mixed)}")

    def run(self) -> list[Curve]:
        """Do what is left to do. Returns the curves through all trials of the folder."""
        with self.held:
            return self._run()

    def _run(self) -> list[Curve]:
        self._extract()
        with at_signal(self._tabulate):
            try:
                self._measure_all()
            except KeyboardInterrupt:
                self._tabulate()
                raise
        return self._draw()

    def _measure_all(self) -> None:
        for n in self.sizes:
            for series in self.series:
                if series.method.has(n):
                    self._measure(series, n)
            self._judge(n)
            self._tabulate()

    @property
    def curves(self) -> list[Curve]:
        """Of all trials, those asked for now first."""
        asked = list(dict.fromkeys((series.method.name, series.backend) for series in self.series))

        def place(trial: Trial) -> tuple[int, bool, int, int]:
            name, (base, _, landmarks) = (trial.method, trial.backend), trial.method.partition("@")
            number = asked.index(name) if name in asked else len(asked)
            return number, bool(landmarks), list(METHODS).index(base), int(landmarks or 0)

        return curves(sorted(self.trials.values(), key=place))

    # Features.

    def _check_disk(self) -> None:
        rows = self.sizes[-1]
        if rows <= self._stored():
            return
        # The old file stays until the new one is whole.
        needed = 4 * rows * self._width + _SPARE_BYTES
        if needed > (free := shutil.disk_usage(self.folder).free):
            raise JaxtlError(
                f"{self.folder}: features of {rows:,} images need {needed / 2**30:.1f} GiB of disk, "
                f"{free / 2**30:.1f} GiB are free; free some space or take smaller sizes"
            )

    def _stored(self) -> int:
        """Rows of features that are there, as the study wrote them."""
        return 0 if self.files.fault(FEATURES, ROWS) else source.stored(self.folder)

    @cached_property
    def _width(self) -> int:
        from jaxtl.models.weights import load_model

        return load_model(self.settings.weights, self.settings.model).config.features

    def _extract(self) -> None:
        n, had = self.sizes[-1], self._stored()
        if n <= had:
            return
        if fault := self.files.fault(FEATURES, ROWS):
            self.observer.notify(f"Features: made again, as {fault}")
        known = self.files.extraction()
        began = time.perf_counter()
        title = f"Features of {counted(n - had, 'image')}"
        with self.observer.attempt(title) as attempt, self.files.recorded(FEATURES, ROWS):
            source.extract(self.folder, self.source, had, n, attempt.progress, self.observer.notify)
        taken = {"images": n - had, "seconds": round(time.perf_counter() - began, 3)}
        # The largest tells most: less of it is compilation.
        if known is None or known["images"] < n - had:
            here = {"cpu": cpu_name(), "cores": cpu_count()}
            with self.files.recorded(EXTRACTION):
                write_json(self.folder / EXTRACTION, {**taken, **asdict(self.settings.images), **here})

    # Trials.

    def _measure(self, series: plan.Series, n: int) -> None:
        known = self.trials.get((series.method.name, series.backend, n))
        new = Trial(series.method.name, series.backend, n, limits=asdict(self.limits))
        title = f"{plots.label(new.method, new.backend)}, {n:,} images"
        if known and known.settled(self.limits):
            if known.status != DONE or self.files.is_intact(map_name(known)):
                return
            if fault := self.files.fault(map_name(known)):
                self.observer.notify(f"{title}: made again, as {fault}")
        if smaller := self._hopeless(series, n):
            self._keep(replace(new, note=f"{smaller.n:,} images were {smaller.status} already"))
            return
        with self.observer.attempt(title) as attempt:
            trial = watch.run(new, self._request(series, new), self.limits, attempt.progress)
            attempt.failure = "" if trial.status == DONE else f"{trial.status}: {trial.note}"
            self.files.record(map_name(trial))
            self._keep(trial)

    def _hopeless(self, series: plan.Series, n: int) -> Trial | None:
        smaller = (self.trials.get((series.method.name, series.backend, size)) for size in self.sizes)
        return next((t for t in smaller if t and t.n < n and t.status in HOPELESS), None)

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

    def _judge(self, n: int) -> None:
        unjudged, own = self._unjudged(n), quality_name(n)
        if not unjudged and self.files.is_intact(own):
            return
        if fault := self.files.fault(own):
            self.observer.notify(f"Quality of {n:,} images: made again, as {fault}")
        with self.observer.attempt(f"Quality of maps of {n:,} images") as attempt:
            space = quality.look(self.folder / FEATURES, self.source.labels(n), self.settings.seed)
            # What was found with more memory stays.
            if space.own or not self.files.is_intact(own):
                with self.files.recorded(own):
                    write_json(self.folder / own, space.own)
            for number, trial in enumerate(unjudged):
                attempt.progress((number + 1) / (len(unjudged) + 1))
                self._keep(trial.with_quality(space.quality(Embedding.load(self._path(trial)))))
        if space.note:
            self.observer.notify(space.note)

    def _unjudged(self, n: int) -> list[Trial]:
        """Trials without quality, and those without the part of it that memory allows by now."""
        done = [t for t in self.trials.values() if t.n == n and self._has_map(t)]
        lacking = [t for t in done if TRUSTWORTHINESS not in (t.quality or {})]
        if any(t.quality for t in lacking) and quality.shortage(self.folder / FEATURES, n):
            return [t for t in lacking if t.quality is None]
        return lacking

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
