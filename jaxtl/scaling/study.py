"""A scaling study: a folder, what is asked of it, and the work still to be done in it.

Every trial has files of its own, which appear whole or not at all; what is there is not done again. Tables
are written anew after every size, so that a study that is stopped has those of what it did.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
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
from jaxtl.records.documents import count
from jaxtl.records.files import check_writable, read_json_object, remove_leftovers, write_json
from jaxtl.runs.lock import Hold
from jaxtl.scaling import plan, plots, quality, source, trials, watch
from jaxtl.scaling.curves import Curve, curves, save_fits, save_table
from jaxtl.scaling.plan import CONFIG, DEFAULT_GRID, Grid
from jaxtl.scaling.settings import MEMORY_SHARE, Limits, Settings
from jaxtl.scaling.trials import DONE, HOPELESS, Trial, stem
from jaxtl.settings import TIME_LIMIT

TABLE, FITS, EXTRACTION = "scaling.csv", "fits.csv", "extraction.json"
FIGURES, SUFFIXES = "figures", ("png", "svg")
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
        JaxtlError: a setting that differs from the folder's, another folder's contents, sizes or methods that
            cannot work, or a disk too small for the features.
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
        self.trials = {(t.method, t.backend, t.n): t for t in trials.load_all(folder / trials.FOLDER)}

    def check(self) -> None:
        """Refuse before any work what would fail after some. Raises JaxtlError, OSError."""
        plan.check_sizes(self.sizes, self.methods, self.settings)
        self.source.check(self.sizes[-1])
        quality.check(self.source.labels(self.sizes[0]))
        for note in self.source.whole.notes:
            self.observer.notify(note)
        check_writable(self.folder / CONFIG)
        self._check_disk()

    def record(self) -> None:
        """Write down what is asked for now."""
        plan.write_config(self.folder, self.settings, plan.weights_digest(self.settings), self.grid._asdict())

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

    def run(self, measure_all: Callable[[Study], None] | None = None) -> list[Curve]:
        """Do what is left to do. Returns the curves through all trials of the folder.

        `measure_all`: has all trials measured and judged, where `Study.measure_all` is not to do it here.
        """
        with self.held:
            return self._run(measure_all or Study.measure_all)

    def _run(self, measure_all: Callable[[Study], None]) -> list[Curve]:
        self._extract()
        with at_signal(self._tabulate):
            try:
                measure_all(self)
            except KeyboardInterrupt:
                self._tabulate()
                raise
        return self._draw()

    def measure_all(self) -> None:
        """Measure and judge all trials that are left, size by size, in processes of this machine."""
        for n in self.sizes:
            for series in self.series:
                self.measure(series, n)
            self.judge(n)
            self._tabulate()

    def look_again(self) -> None:
        """See what other processes have left in the folder by now, and write the tables of it."""
        self.trials = {(t.method, t.backend, t.n): t for t in trials.load_all(self.folder / trials.FOLDER)}
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
        if rows <= source.stored(self.folder):
            return
        # The old file stays until the new one is whole.
        needed = 4 * rows * self._width + _SPARE_BYTES
        if needed > (free := shutil.disk_usage(self.folder).free):
            raise JaxtlError(
                f"{self.folder}: features of {rows:,} images need {needed / 2**30:.1f} GiB of disk, "
                f"{free / 2**30:.1f} GiB are free; free some space or take smaller sizes"
            )

    @cached_property
    def _width(self) -> int:
        from jaxtl.models.weights import load_model

        return load_model(self.settings.weights, self.settings.model).config.features

    def _extract(self) -> None:
        n, had = self.sizes[-1], source.stored(self.folder)
        if n <= had:
            return
        began = time.perf_counter()
        with self.observer.attempt(f"Features of {counted(n - had, 'image')}") as attempt:
            source.extract(self.folder, self.source, n, attempt.progress, self.observer.notify)
        taken = {"images": n - had, "seconds": round(time.perf_counter() - began, 3)}
        known = self.folder / EXTRACTION
        # The largest tells most: less of it is compilation.
        if not known.is_file() or _images_of(known) < n - had:
            write_json(
                known, {**taken, **asdict(self.settings.images), "cpu": cpu_name(), "cores": cpu_count()}
            )

    # Trials.

    def measure(self, series: plan.Series, n: int) -> None:
        """One trial, where the method has this size and nothing tells already what came of it."""
        if not self.is_left(series, n):
            return
        new = Trial(series.method.name, series.backend, n, limits=asdict(self.limits))
        if smaller := self._hopeless(series, n):
            self._keep(replace(new, note=f"{smaller.n:,} images were {smaller.status} already"))
            return
        with self.observer.attempt(f"{plots.label(new.method, new.backend)}, {n:,} images") as attempt:
            trial = watch.run(new, self._request(series, new), self.limits, attempt.progress)
            attempt.failure = "" if trial.status == DONE else f"{trial.status}: {trial.note}"
            self._keep(trial)

    def is_left(self, series: plan.Series, n: int) -> bool:
        """Whether a trial is still to be made."""
        known = self.trials.get((series.method.name, series.backend, n))
        is_settled = known is not None and known.settled(self.limits)
        is_there = is_settled and (known.status != DONE or self._path(known).is_file())
        return series.method.has(n) and not is_there

    def _hopeless(self, series: plan.Series, n: int) -> Trial | None:
        smaller = (self.trials.get((series.method.name, series.backend, size)) for size in self.sizes)
        return next((t for t in smaller if t and t.n < n and t.status in HOPELESS), None)

    def _request(self, series: plan.Series, trial: Trial) -> dict[str, Any]:
        out = self._path(trial)
        remove_leftovers(out)
        return {
            "features": str((self.folder / source.FEATURES).absolute()),
            "out": str(out.absolute()),
            "method": series.method.base,
            "backend": series.backend,
            "params": series.method.params(self.settings),
            "n": trial.n,
            "streamed": series.streamed,
            "on_gpu": series.on_gpu,
        }

    def _path(self, trial: Trial) -> Path:
        return self.folder / "maps" / f"{stem(trial.method, trial.backend, trial.n)}.npz"

    def _keep(self, trial: Trial) -> None:
        trials.save(self.folder / trials.FOLDER, trial)
        self.trials[trial.method, trial.backend, trial.n] = trial

    # The quality of embeddings.

    def judge(self, n: int) -> None:
        """The quality of a size's embeddings, and of the features themselves."""
        unjudged, known = self._unjudged(n), self._features_path(n)
        if not unjudged and known.is_file():
            return
        with self.observer.attempt(f"Quality of maps of {n:,} images") as attempt:
            space = quality.look(self.folder / source.FEATURES, self.source.labels(n), self.settings.seed)
            # What was found with more memory stays.
            if space.own or not known.is_file():
                write_json(known, space.own)
            for number, trial in enumerate(unjudged):
                attempt.progress((number + 1) / (len(unjudged) + 1))
                self._keep(trial.with_quality(space.quality(Embedding.load(self._path(trial)))))
        if space.note:
            self.observer.notify(space.note)

    def _unjudged(self, n: int) -> list[Trial]:
        """Trials without quality, and those without the part of it that memory allows by now."""
        done = [t for t in self.trials.values() if t.n == n and t.status == DONE]
        lacking = [t for t in done if TRUSTWORTHINESS not in (t.quality or {})]
        if any(t.quality for t in lacking) and quality.shortage(self.folder / source.FEATURES, n):
            return [t for t in lacking if t.quality is None]
        return lacking

    def _features_path(self, n: int) -> Path:
        return self.folder / trials.FOLDER / f"{trials.FEATURES}{n}.json"

    def _qualities(self) -> dict[int, quality.Quality]:
        """Of the features themselves, by size."""
        sizes = sorted({trial.n for trial in self.trials.values()})
        known = {n: self._features_path(n) for n in sizes}
        return {n: trials.load_quality(path) for n, path in known.items() if path.is_file()}

    # What is written of all trials.

    def _tabulate(self) -> None:
        shown = self.curves
        save_table(self.folder / TABLE, shown, self._qualities())
        save_fits(self.folder / FITS, shown)

    def _draw(self) -> list[Curve]:
        shown = self.curves
        with self.observer.attempt("Tables and pictures") as attempt:
            self._tabulate()
            figures = {
                "seconds": plots.seconds_figure(shown),
                "memory": plots.memory_figure(shown),
                "quality": plots.quality_figure(shown, self._qualities()),
                "maps": plots.maps_figure(shown, self._coords, self.source.whole.class_names),
            }
            for number, (name, figure) in enumerate(figures.items()):
                for suffix in SUFFIXES:
                    save_figure(figure, self.folder / FIGURES / f"{name}.{suffix}")
                attempt.progress((number + 1) / len(figures))
        return shown

    def _coords(self, trial: Trial) -> tuple[np.ndarray, np.ndarray]:
        embedding = Embedding.load(self._path(trial))
        return embedding.coords, embedding.labels


def _images_of(path: Path) -> int:
    """How many images an extraction was of. Raises JaxtlError where the file does not say it."""
    images = read_json_object(path).get("images")
    if count(images):
        raise JaxtlError(f"{path}: says of no number of images; delete it")
    return int(images)
