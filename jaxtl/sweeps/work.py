"""What the tasks of a sweep do (`jaxtl.machine.tasks`), in whatever process.

Each reads what it is made of from files and writes files, so that it can be done anywhere that sees the
folder. Of the sweep's own files they write what combinations share, and predictions, and record none: its
manifest and its tables are those of the process that the sweep is of.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.experiment import opening, seeds
from jaxtl.experiment.checks import settled
from jaxtl.experiment.embeddings import EmbeddingOptions
from jaxtl.experiment.experiment import Experiment
from jaxtl.experiment.shared import Shared
from jaxtl.experiment.taken import comes_before, take_over
from jaxtl.machine.devices import configure
from jaxtl.machine.engines import default_engine
from jaxtl.models.weights import build
from jaxtl.network.head import named
from jaxtl.network.stem import Stem, bytes_of_stem, make_stem, shared_stop
from jaxtl.network.trunk import trainable_boundary
from jaxtl.progress import Attempt, Observer, Progress, Silent
from jaxtl.records.dataset import Dataset
from jaxtl.records.rows import disk_takes
from jaxtl.runs.folder import RunFolder, SeedsFolder, SweepFolder, holds_seeds
from jaxtl.runs.formats import Predictions
from jaxtl.runs.lock import wait_until_free
from jaxtl.settings import RunConfig
from jaxtl.sweeps.settings import Asked, Combination

# Training and test images that were given in Python.
Given = tuple[Dataset, Dataset] | None


class Setting(NamedTuple):
    """Where and how all tasks of a sweep work.

    Attributes:
        folder: of the sweep.
        backend, time_limit: of `jaxtl.experiment.embeddings.EmbeddingOptions`.
        compilation_cache: as of `jaxtl run`.
    """

    folder: str
    backend: str
    time_limit: float
    compilation_cache: str | None = "auto"

    @property
    def options(self) -> EmbeddingOptions:
        return EmbeddingOptions(self.backend, self.time_limit)

    def configure(self, observer: Observer) -> SweepFolder:
        cache = self.compilation_cache
        configure(compilation_cache=None if cache is None else Path(cache), notify=observer.notify)
        return SweepFolder(self.folder)


def look(
    asked: dict[str, Any], setting: Sequence[Any], observer: Observer, given: Given = None
) -> dict[str, Any]:
    """Look at all combinations before any work, as `jaxtl run` looks at one.

    Returns:
        `combinations`, by name: `parameters` that learn, `multiply_adds` of a run, `fault` that keeps it from
        being run, or "", `is_unknown` for layers that are, the `forecast` of its runs (name and seconds of
        each part) and the `machine` that this is by; `stops`, by group, where the frozen layers that its
        combinations share end; `notes`, and `test_images`.

    Raises JaxtlError for what keeps every combination from being run.
    """
    sweep, notes = Asked.of_record(asked), _Notes()
    how = Setting(*setting)
    folder = how.configure(notes)
    found, groups = {}, {}
    for group, members in grouped(sweep.grid.combinations).items():
        looked = _Group(sweep, folder, how, given, notes)
        found |= {combination.name: looked.at(combination) for combination in members}
        groups[group] = looked.stop(found)
    _refuse(sweep, found)
    told = list(dict.fromkeys(notes.told))
    return {"combinations": found, "stops": groups, "notes": told, "test_images": looked.test_images}


def _refuse(sweep: Asked, found: Mapping[str, Any]) -> None:
    """Raises JaxtlError for layers that no network has, and where no combination can be run."""
    faults = [row["fault"] for row in found.values()]
    for trainable in sweep.grid.trainable:
        of_layers = [found[one.name] for one in sweep.grid.combinations if one.trainable == trainable]
        if all(row["is_unknown"] for row in of_layers):
            fault = of_layers[0]["fault"].removeprefix("trainable: ")
            raise JaxtlError(f"trainable {trainable}: {fault}")
    if all(faults):
        raise JaxtlError(faults[0])


def grouped(combinations: Iterable[Combination]) -> dict[str, list[Combination]]:
    """Those with the same images and weights together."""
    groups: dict[str, list[Combination]] = {}
    for combination in combinations:
        groups.setdefault(combination.group, []).append(combination)
    return groups


class _Notes(Silent):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def notify(self, text: str) -> None:
        self.told.append(text)


class _Group:
    """Combinations with the same images and weights, looked at one after another."""

    def __init__(
        self, asked: Asked, folder: SweepFolder, how: Setting, given: Given, observer: Observer
    ) -> None:
        self._asked, self._folder, self._how, self._given = asked, folder, how, given
        self._observer = observer
        self._shared: Shared | None = None
        self._boundaries: dict[str, int] = {}

    def at(self, combination: Combination) -> dict[str, Any]:
        """Raises JaxtlError for weights that are none."""
        config = settled(self._asked.config_of(combination), self._observer)
        shared = self._shared = (
            self._shared.beside(config) if self._shared else Shared(config, given=self._given)
        )
        row: dict[str, Any] = {
            "parameters": None,
            "multiply_adds": None,
            "fault": "",
            "forecast": [],
            "machine": "",
        }
        row["is_unknown"], model = False, shared.model.config
        try:
            boundary = trainable_boundary(model, config.trainable)
        except JaxtlError as error:
            return row | {"fault": str(error), "is_unknown": True}
        try:
            row |= {"parameters": learning(shared), "multiply_adds": arithmetic(shared)}
            run = self._folder.run_of(combination.name)
            if not run.path.exists():
                planned = opening.planned(config, run.path, self._observer, self._how.options, shared=shared)
                expected = planned.forecast()
                row |= {"forecast": expected.parts, "machine": expected.machine}
            self._tell_of_twin(combination.name, boundary)
            self._boundaries[combination.name] = boundary
        except JaxtlError as error:
            row["fault"] = str(error)
        return row

    def _tell_of_twin(self, name: str, boundary: int) -> None:
        twins = (other for other, known in self._boundaries.items() if known == boundary)
        if twin := next(twins, None):
            self._observer.notify(
                f"{name}: trains the same layers as {twin}; one of them is work for nothing"
            )

    @property
    def test_images(self) -> int:
        return len(self._shared.test) if self._shared else 0

    def stop(self, found: Mapping[str, Any]) -> int:
        """Where the layers end that the combinations without a fault share; 0 where it is not worth while."""
        shared = self._shared
        # A GPU computes them anew faster than a disk hands them on.
        if shared is None or default_engine() != "cpu":
            return 0
        images = len(shared.train) + len(shared.test)
        kept = [boundary for boundary in self._boundaries.values() if boundary > 1]
        stop = shared_stop(shared.model, kept, shared.config.image_size)
        needed = stop and images * bytes_of_stem(shared.model, stop, shared.config.image_size)
        return stop if disk_takes(needed, self._folder.path) else 0


def learning(shared: Shared) -> int:
    """How many numbers of a network are learned, those of its new head among them."""
    config = shared.model.config
    layers = config.layers[shared.trunk.boundary : config.pooled]
    shapes = [shape for layer in layers for name, shape in layer.parameters.items() if "moving" not in name]
    classes = len(shared.train.class_names)
    return sum(int(np.prod(shape)) for shape in shapes) + (config.features + 1) * classes


def arithmetic(shared: Shared) -> int:
    """Multiply-adds of a run's network, as if alone: frozen layers once, those that learn in every epoch.

    A step's gradients take twice what its outputs take.
    """
    config, boundary = shared.config, shared.trunk.boundary
    layers = list(shared.model.config.multiply_adds(config.image_size))
    frozen, learned = sum(layers[:boundary]), sum(layers[boundary:])
    learned += shared.model.config.features * len(shared.train.class_names)
    train, test = len(shared.train), len(shared.test)
    return frozen * (train + test) + config.epochs * learned * (3 * train + test)


def share(
    asked: dict[str, Any],
    setting: Sequence[Any],
    group: str,
    stop: int,
    observer: Observer,
    given: Given = None,
) -> None:
    """Make what the combinations of a group share: outputs of their first layers, and all before training.

    Args:
        stop: where those layers end; 0 for none.
    """
    sweep, observer = Asked.of_record(asked), _Brief(observer)
    how = Setting(*setting)
    folder = how.configure(observer)
    first = grouped(sweep.grid.combinations)[group][0]
    # The features before are those of the whole network, whatever learns later.
    config = settled(sweep.config_of(first._replace(trainable="none")), Silent())
    shared = Shared(config, keep=True, scratch=folder.shared, given=given)
    if stop:
        shared = Shared(config, True, folder.shared, given, _stem(shared, folder, group, stop, observer))
    with closing(shared):
        for seed in sweep.seed_numbers:
            run = folder.shared_of(group, seed)
            _begun(config, run, seed, observer, how, shared).run_some(comes_before)


def _stem(shared: Shared, folder: SweepFolder, group: str, stop: int, observer: Observer) -> Stem:
    path = folder.shared_of(group).path
    stem = Stem.load(path)
    if stem is not None and stem.stop == stop:
        return stem
    path.mkdir(parents=True, exist_ok=True)
    images = {"train": shared.train.images, "test": shared.test.images}
    with observer.step("Frozen layers that the runs share") as progress:
        return make_stem(shared.trunk, stop, images, path, progress, observer.notify)


class _Brief:
    """An observer of one among many runs: what each expects of itself, and need not do, is no news."""

    def __init__(self, observer: Observer) -> None:
        self._observer, self.interruptible = observer, observer.interruptible

    def step(self, title: str) -> AbstractContextManager[Progress]:
        return self._observer.step(title)

    def attempt(self, title: str) -> AbstractContextManager[Attempt]:
        return self._observer.attempt(title)

    def notify(self, text: str) -> None:
        if not text.startswith("Expect ") and not text.endswith(": done already"):
            self._observer.notify(text)


def _begun(
    config: RunConfig, run: RunFolder, seed: int, observer: Observer, how: Setting, shared: Shared
) -> Experiment:
    config = replace(config, seed=seed)
    wait_until_free(run.path)
    if run.started.is_there:
        return opening.resume(run.path, None, observer, how.options, shared=shared)
    return opening.start(config, run.path, observer, how.options, shared=shared)


def combine(
    asked: dict[str, Any], setting: Sequence[Any], name: str, observer: Observer, given: Given = None
) -> None:
    """Do the runs of a combination, or what is left of them, and name all test images by their networks."""
    sweep, observer = Asked.of_record(asked), _Brief(observer)
    how = Setting(*setting)
    folder = how.configure(observer)
    combination = next(one for one in sweep.grid.combinations if one.name == name)
    run = folder.run_of(name)
    stem = Stem.load(folder.shared_of(combination.group).path)
    config = settled(sweep.config_of(combination), observer)
    shared = Shared(config, keep=True, scratch=run.path, given=given, stem=stem)
    begun = partial(_take, folder, combination.group)
    with closing(shared):
        runs = _do(config, sweep.seeds, run, observer, how, shared, begun)
    with observer.step("Classes of all test images") as progress:
        folder.predictions_of(name).write(_named(shared, runs, progress, observer))


def _take(folder: SweepFolder, group: str, work: Experiment) -> None:
    take_over(work, folder.shared_of(group, work.config.seed))


def _do(
    config: RunConfig,
    count: int,
    run: RunFolder,
    observer: Observer,
    how: Setting,
    shared: Shared,
    begun: Callable[[Experiment], object],
) -> list[RunFolder]:
    if count == 1:
        work = _begun(config, run, config.seed, observer, how, shared)
        begun(work)
        work.run()
        return [run]
    for folder in (run, *SeedsFolder(run.path).runs()):
        wait_until_free(folder.path)
    resumed = holds_seeds(run.path)
    if not resumed:
        # Ended before it was known that there are several: there is nothing in it yet.
        shutil.rmtree(run.path, ignore_errors=True)
    more: dict[str, Any] = {"shared": shared, "begun": begun}
    several = (
        seeds.resume(run.path, None, observer, how.options, **more)
        if resumed
        else seeds.start(config, count, run.path, observer, how.options, **more)
    )
    several.run()
    return several.folders


def _named(
    shared: Shared, runs: Sequence[RunFolder], progress: Callable[[float], None], observer: Observer
) -> Predictions:
    rows = []
    for number, run in enumerate(runs):
        weights = run.model.read()
        model = build(weights.config, weights.arrays, str(run.model))
        source = shared.source("test", len(shared.test), notify=observer.notify)
        rows.append(named(shared.trunk, model, source, observer.notify))
        progress((number + 1) / len(runs))
    return Predictions(shared.test.labels, np.stack(rows))
