"""A scaling study: a folder, what is asked of it, and the work still to be done in it.

Every point has files of its own, which appear whole or not at all; what is there is not done again. Tables
are written anew after every size, so that a study that is stopped has those of what it did.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import TRUSTWORTHINESS
from jaxtl.machine.devices import cpu_count, cpu_name
from jaxtl.machine.identity import differing, machine, spoken
from jaxtl.machine.memory import available_memory
from jaxtl.models.weights import imagenet_path, load_arrays
from jaxtl.plots.maps import save as save_figure
from jaxtl.progress import Observer, Silent
from jaxtl.records.arrays import Embedding
from jaxtl.records.files import check_writable, read_json_object, remove_leftovers, write_json
from jaxtl.runs.folder import CONFIG
from jaxtl.scaling import plan, plots, points, quality, source, watch
from jaxtl.scaling.curves import Curve, curves, save_fits, save_table
from jaxtl.scaling.points import DONE, HOPELESS, NOT_TRIED, Point, stem
from jaxtl.scaling.settings import MEMORY_SHARE, SIZES, TIME_LIMIT, Limits, Settings
from jaxtl.settings import METHODS

TABLE, FITS, EXTRACTION = "scaling.csv", "fits.csv", "extraction.json"
SUFFIXES = ("png", "svg")
# Left free on the disk when features are written: for maps, tables and pictures.
_SPARE_BYTES = 2**28


class Grid(NamedTuple):
    """What is asked for, as users write it; None takes what was asked for last, else the default."""

    sizes: str | None = None
    methods: str | None = None
    backends: str | None = None


_DEFAULT = Grid(",".join(map(str, SIZES)), ",".join(METHODS), "auto")


def default_limits(seconds: float | None = None, gib: float | None = None) -> Limits:
    """Limits of a point: 900 s, and most of the memory that is available now."""
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
        limits: of every point; those of `default_limits` by default.

    Raises:
        JaxtlError: a setting that differs from the folder's, another folder's contents, sizes or methods that
            cannot work, or a disk too small for the features.
    """
    remove_leftovers(folder / CONFIG)
    settings, before = _settings(folder, given or {})
    wanted = Grid(*(new or old or usual for new, old, usual in zip(grid, before, _DEFAULT, strict=True)))
    study = Study(folder, settings, wanted, limits or default_limits(), observer or Silent())
    study.check()
    study.record()
    study.compare()
    return study


def _settings(folder: Path, given: dict[str, Any]) -> tuple[Settings, Grid]:
    """Settings of a folder, or for a new one, and what it was asked for last."""
    if not (folder / CONFIG).is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise JaxtlError(f"{folder}: holds something else than a study; give a new folder with --out")
        return Settings(**given), Grid()
    settings, digest, asked = plan.read_config(folder)
    for name, value in given.items():
        if (was := getattr(settings, name)) != value:
            raise JaxtlError(
                f"{folder}: was made with {name} {was}, not {value}, which all its points share: leave it "
                "out to go on, or give a new folder with --out"
            )
    if _weights_digest(settings) != digest:
        raise JaxtlError(
            f"{settings.weights or imagenet_path()}: not the weights that {folder} was started with; restore "
            "that file"
        )
    return settings, _asked(folder, asked)


def _asked(folder: Path, asked: Any) -> Grid:
    # Settings have a digest; this may be edited, if it is what could be asked for.
    known = isinstance(asked, dict) and set(asked) <= set(Grid._fields)
    if not known or not all(isinstance(each, str | None) for each in asked.values()):
        raise JaxtlError(
            f"{folder / CONFIG}: asked must have {', '.join(Grid._fields)}, each a text or null; undo that "
            "edit, or start a new study with --out"
        )
    return Grid(**asked)


def _weights_digest(settings: Settings) -> str:
    return load_arrays(settings.weights or imagenet_path())[2]["tensor_digest"]


class Study:
    """A study's folder, what is wanted of it now, and the points that it has.

    Raises JaxtlError where sizes, methods or backends are unknown, or a library cannot work.
    """

    def __init__(
        self, folder: Path, settings: Settings, grid: Grid, limits: Limits, observer: Observer
    ) -> None:
        self.folder, self.settings, self.limits, self.observer = folder, settings, limits, observer
        self.grid = grid
        self.sizes = plan.parse_sizes(grid.sizes)
        self.methods = plan.parse_methods(grid.methods)
        self.series = plan.series_of(self.methods, grid.backends)
        self.source = source.Source(settings)
        self.points = {(p.method, p.backend, p.n): p for p in points.load_all(folder / "points")}

    def check(self) -> None:
        """Refuse before any work what would fail after some. Raises JaxtlError, OSError."""
        plan.check_sizes(self.sizes, self.methods, self.settings)
        self.source.check(self.sizes[-1])
        quality.check(self.source.labels(self.sizes[0]))
        check_writable(self.folder / CONFIG)
        self._check_disk()

    def record(self) -> None:
        """Write down what is asked for now."""
        plan.write_config(self.folder, self.settings, _weights_digest(self.settings), self.grid._asdict())

    def compare(self) -> None:
        """Tell where a curve asked for has points of another machine, or of other versions, than now."""
        mixed: dict[str, list[Any]] = {}
        for series in self.series:
            name = series.method.name, series.backend
            made = [
                p.machine for p in self.points.values() if (p.method, p.backend) == name and p.status == DONE
            ]
            for key, values in differing([*made, machine(series.on_gpu)]).items():
                mixed[key] = list(dict.fromkeys([*mixed.get(key, []), *values]))
        if mixed:
            self.observer.notify(f"Curves mix machines or versions: {spoken(mixed)}")

    def run(self) -> list[Curve]:
        """Do what is left to do. Returns the curves through all points of the folder."""
        self._extract()
        try:
            for n in self.sizes:
                for series in self.series:
                    if series.method.has(n):
                        self._measure(series, n)
                self._judge(n)
                self._tabulate()
        except KeyboardInterrupt:
            self._tabulate()
            raise
        return self._draw()

    @property
    def curves(self) -> list[Curve]:
        """Of all points, those asked for now first."""
        asked = list(dict.fromkeys((each.method.name, each.backend) for each in self.series))

        def place(point: Point) -> tuple[int, bool, int, int]:
            name, (base, _, landmarks) = (point.method, point.backend), point.method.partition("@")
            number = asked.index(name) if name in asked else len(asked)
            return number, bool(landmarks), METHODS.index(base), int(landmarks or 0)

        return curves(sorted(self.points.values(), key=place))

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

        return load_model(self.settings.weights).config.features

    def _extract(self) -> None:
        n, had = self.sizes[-1], source.stored(self.folder)
        if n <= had:
            return
        began = time.perf_counter()
        with self.observer.attempt(f"Features of {n - had:,} images") as attempt:
            source.extract(self.folder, self.source, n, attempt.progress, self.observer.notify)
        taken = {"images": n - had, "seconds": round(time.perf_counter() - began, 3)}
        known = self.folder / EXTRACTION
        # The largest tells most: less of it is compilation.
        if not known.is_file() or read_json_object(known)["images"] < n - had:
            write_json(
                known, {**taken, **asdict(self.settings.images), "cpu": cpu_name(), "cores": cpu_count()}
            )

    # Points.

    def _measure(self, series: plan.Series, n: int) -> None:
        found = self.points.get((series.method.name, series.backend, n))
        if found and found.settled(self.limits) and (found.status != DONE or self._map(found).is_file()):
            return
        smaller = self._hopeless(series, n)
        if smaller:
            note = f"{smaller.n:,} images were {smaller.status} already"
            self._keep(
                Point(series.method.name, series.backend, n, NOT_TRIED, note, limits=asdict(self.limits))
            )
            return
        with self.observer.attempt(
            f"{plots.label(series.method.name, series.backend)}, {n:,} images"
        ) as attempt:
            outcome = watch.run(self._request(series, n), self.limits, attempt.progress)
            point = Point(
                series.method.name, series.backend, n, limits=asdict(self.limits),
                **{**outcome.__dict__, "machine": outcome.machine or {}},
            )  # fmt: skip
            attempt.failure = "" if point.status == DONE else f"{point.status}: {point.note}"
            self._keep(point)

    def _hopeless(self, series: plan.Series, n: int) -> Point | None:
        smaller = (self.points.get((series.method.name, series.backend, size)) for size in self.sizes)
        return next((p for p in smaller if p and p.n < n and p.status in HOPELESS), None)

    def _request(self, series: plan.Series, n: int) -> dict[str, Any]:
        out = self.folder / "maps" / f"{stem(series.method.name, series.backend, n)}.npz"
        remove_leftovers(out)
        return {
            "features": str((self.folder / source.FEATURES).absolute()),
            "out": str(out.absolute()),
            "method": series.method.base,
            "backend": series.backend,
            "params": series.method.params(self.settings),
            "n": n,
            "streamed": series.streamed,
            "on_gpu": series.on_gpu,
        }

    def _map(self, point: Point) -> Path:
        return self.folder / "maps" / f"{stem(point.method, point.backend, point.n)}.npz"

    def _keep(self, point: Point) -> None:
        points.save(self.folder / "points", point)
        self.points[point.method, point.backend, point.n] = point

    # What maps are worth.

    def _judge(self, n: int) -> None:
        unjudged, known = self._unjudged(n), self._features_path(n)
        if not unjudged and known.is_file():
            return
        with self.observer.attempt(f"Quality of maps of {n:,} images") as attempt:
            space = quality.look(self.folder / source.FEATURES, self.source.labels(n), self.settings.seed)
            # What was found with more memory stays.
            if space.own or not known.is_file():
                write_json(known, space.own)
            for number, point in enumerate(unjudged):
                attempt.progress((number + 1) / (len(unjudged) + 1))
                self._keep(point.with_quality(space.quality(Embedding.load(self._map(point)))))
        if space.note:
            self.observer.notify(space.note)

    def _unjudged(self, n: int) -> list[Point]:
        """Points without quality, and those without the part of it that memory allows by now."""
        done = [p for p in self.points.values() if p.n == n and p.status == DONE]
        lacking = [p for p in done if TRUSTWORTHINESS not in (p.quality or {})]
        if any(p.quality for p in lacking) and quality.shortage(self.folder / source.FEATURES, n):
            return [p for p in lacking if p.quality is None]
        return lacking

    def _features_path(self, n: int) -> Path:
        return self.folder / "points" / f"{points.FEATURES}{n}.json"

    def _qualities(self) -> dict[int, quality.Quality]:
        """Of the features themselves, by size."""
        sizes = sorted({point.n for point in self.points.values()})
        known = {n: self._features_path(n) for n in sizes}
        return {n: read_json_object(path) for n, path in known.items() if path.is_file()}

    # What is written of all points.

    def _tabulate(self) -> None:
        found = self.curves
        save_table(self.folder / TABLE, found, self._qualities())
        save_fits(self.folder / FITS, found)

    def _draw(self) -> list[Curve]:
        found = self.curves
        with self.observer.attempt("Tables and pictures") as attempt:
            self._tabulate()
            figures = {
                "seconds": plots.seconds_figure(found),
                "memory": plots.memory_figure(found),
                "quality": plots.quality_figure(found, self._qualities()),
                "maps": plots.maps_figure(found, self._coords, self.source.whole.class_names),
            }
            for number, (name, figure) in enumerate(figures.items()):
                for suffix in SUFFIXES:
                    save_figure(figure, self.folder / "figures" / f"{name}.{suffix}")
                attempt.progress((number + 1) / len(figures))
        return found

    def _coords(self, point: Point) -> tuple[np.ndarray, np.ndarray]:
        embedding = Embedding.load(self._map(point))
        return embedding.coords, embedding.labels


def read_curves(folder: Path) -> Sequence[Curve]:
    """The curves of a study's folder. Raises JaxtlError where it is none, or has no points."""
    plan.read_config(folder)
    found = curves(points.load_all(folder / "points"))
    if not found:
        raise JaxtlError(f"{folder}: the study has no points yet; go on with: jaxtl scale --out {folder}")
    return found
