"""The before/after experiment: steps that read files and write files, so that a stopped run goes on.

Each step's outputs appear whole or not at all, and a step whose outputs are there is not done again. Steps
that do not need each other are done at the same time, as many as there are cores.
"""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from jaxtl.costs import table as costs
from jaxtl.costs.words import spoken
from jaxtl.errors import JaxtlError
from jaxtl.experiment import numbers
from jaxtl.experiment.embeddings import Embedder, EmbeddingOptions
from jaxtl.experiment.schedule import Schedule, Step
from jaxtl.experiment.shared import Shared
from jaxtl.experiment.steps import Work, figure_steps
from jaxtl.machine import cuda
from jaxtl.machine.child import Pool
from jaxtl.machine.cores import one_blas_thread
from jaxtl.machine.devices import configure
from jaxtl.machine.engines import default_engine
from jaxtl.machine.host import cpu_count
from jaxtl.machine.memory import peak_memory
from jaxtl.metrics import check_knn
from jaxtl.models.weights import imagenet_path
from jaxtl.network.trunk import trainable_boundary
from jaxtl.progress import Observer, Progress, Silent
from jaxtl.records.arrays import Score, load_scores
from jaxtl.records.files import read_json_object, remove_leftovers, write_json
from jaxtl.reduction.cuml import check_most_neighbors
from jaxtl.reduction.lle import check_neighbors
from jaxtl.reduction.tsne import check_perplexity
from jaxtl.runs.drawing import Drawer
from jaxtl.runs.folder import CONFIG, read_config, write_config
from jaxtl.settings import STAGES, RunConfig

# The first step that a setting bears on, for the message when a resumed run is given another value.
_BEARS_ON = {
    "train_samples": "finetune",
    "trainable": "finetune",
    "epochs": "finetune",
    "batch_size": "finetune",
    "learning_rate": "finetune",
    "methods": "the maps",
    "perplexity": "the t-SNE maps",
    "n_neighbors": "the LLE maps",
    "precision": "the features",
    "layers": "the depth profile",
    "seed": "finetune, the maps",
}
# Steps whose results are drawn: processes for that start with them, not before, as they take the first
# steps' cores.
_DRAWN = ("finetune", "layers", "scores")


# Steps that make numbers while the network trains.
_NUMBERS_BEFORE = ("layers_before", "numbers_features_before", "numbers_maps_before")


def start(
    config: RunConfig,
    folder: Path,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
    *,
    check_memory: bool = True,
    shared: Shared | None = None,
) -> Experiment:
    """A new experiment in a folder that is empty or does not exist yet.

    `check_memory`: whether maps that do not fit into memory are refused, too. `shared`: as of `Experiment`.

    Raises JaxtlError where the folder holds files, or a setting cannot work on the data or this machine.
    """
    remove_leftovers(folder / CONFIG)
    if folder.is_dir() and any(folder.iterdir()):
        hint = f"go on with --resume {folder}" if (folder / CONFIG).is_file() else "it is no run folder"
        raise JaxtlError(f"{folder}: holds files already ({hint}); give a new folder with --out")
    if folder.exists() and not folder.is_dir():
        raise JaxtlError(f"{folder}: is a file; give a new folder with --out")
    experiment = Experiment(config, folder, observer or Silent(), options, shared)
    experiment.check()
    if check_memory:
        experiment.check_memory()
    write_config(folder, config, experiment.shared.weights_digest)
    return experiment


def resume(
    folder: Path,
    given: dict[str, Any] | None = None,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
    *,
    check_memory: bool = True,
    shared: Shared | None = None,
) -> Experiment:
    """An experiment that goes on where its folder was left.

    Args:
        given: settings that the caller insists on.
        check_memory: whether maps that would not fit into memory are refused, too.
        shared: as of `Experiment`.

    Raises:
        JaxtlError: no run folder, settings that were edited, weights that were exchanged, or a given
            setting that differs from the folder's.
    """
    config, weights_digest = read_config(folder)
    for name, value in (given or {}).items():
        if (was := getattr(config, name)) != value:
            raise JaxtlError(
                f"{folder}: was made with {name} {was}, not {value}; that bears on "
                f"{_BEARS_ON.get(name, 'the features')} and all that follows: leave it out to go on, "
                "or give a new folder with --out"
            )
    experiment = Experiment(config, folder, observer or Silent(), options, shared)
    if check_memory:
        experiment.check_memory(resumed=True)
    if experiment.shared.weights_digest != weights_digest:
        raise JaxtlError(
            f"{config.weights or imagenet_path()}: not the weights that {folder} was started with; "
            "restore that file"
        )
    kept = ["timings.json", "checkpoint.npz", *numbers.kept_files()]
    for name in (CONFIG, *kept, *chain(*experiment.outputs.values())):
        remove_leftovers(folder / name)
    return experiment


class Experiment:
    """One run folder and the work still to be done in it.

    Args:
        shared: what runs that differ in their seed alone have in common; by default this run's own.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        observer: Observer,
        options: EmbeddingOptions,
        shared: Shared | None = None,
    ) -> None:
        configure(deterministic=config.deterministic)
        self.config, self.folder, self.observer, self.options = config, folder, observer, options
        self.shared = shared or Shared(config)
        # A step that is done again, and those whose results hang on its.
        self._again: tuple[str, ...] = ()
        self._writing, self._began = threading.Lock(), 0.0
        timings = folder / "timings.json"
        self.timings: dict[str, Any] = read_json_object(timings) if timings.is_file() else {}

    @cached_property
    def maps(self) -> Embedder:
        return Embedder(self.config.methods, self.options, len(self.shared.sample))

    @cached_property
    def drawer(self) -> Drawer:
        return Drawer(self.folder)

    @cached_property
    def work(self) -> Work:
        return Work(
            self.config,
            self.folder,
            self.shared,
            self.maps,
            self.drawer,
            self.elsewhere,
            self.observer.notify,
        )

    @cached_property
    def elsewhere(self) -> Pool:
        """Processes for numbers."""
        return Pool((numbers.__name__, "sklearn.neighbors", "scipy.linalg"))

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All steps of the run, in the order of a machine with one core."""
        return tuple(self.work.table())

    @property
    def outputs(self) -> dict[str, tuple[str, ...]]:
        """The files of each step that leaves some, relative to the run folder."""
        return {step.name: step.outputs for step in self.steps if step.outputs}

    def run(self) -> list[Score]:
        """Do what is left to do. Returns the scores.

        Raises JaxtlError where a step is refused; those that do not need it are done first.
        """
        self._began = time.perf_counter() - self.timings.get("run", 0.0)
        left = self._left()
        with contextlib.ExitStack() as stack:
            for processes in (self.maps, self.drawer, self.elsewhere):
                stack.enter_context(contextlib.closing(processes))
            self.maps.get_ready(self.unmapped)
            self._compile_ahead(left)
            if default_engine() == "jax":
                self.elsewhere.get_ready(sum(step.name in _NUMBERS_BEFORE for step in left))
            elif left:
                # For all of it, so that no library's own limit begins without this one and ends within it.
                stack.enter_context(one_blas_thread())
            if expected := self._expected():
                self.observer.notify(expected)
            for step in self.steps:
                if step.outputs and step not in left:
                    self.observer.notify(f"{step.title}: done already")
            ordered = [self._after_the_first(step) for step in left]
            with self.observer.interruptible() as heard:
                Schedule(ordered, cpu_count(), self._do, self._give_up, heard).run()
        return self.scores()

    def redo(self, *steps: str) -> list[Score]:
        """Do steps of a finished run again, and nothing else. Raises JaxtlError where it is not finished.

        What the first of them made before stays until there is better; then the others, which show it, go.

        Args:
            steps: their names; "figures" means all that draw.
        """
        drawing = figure_steps(self.config)
        steps = tuple(chain(*(drawing if name == "figures" else (name,) for name in steps)))
        unfinished = [name for name in self.outputs if self._pending(name) and name not in steps]
        if unfinished:
            raise JaxtlError(
                f"{self.folder}: is not finished ({unfinished[0]} is missing); go on with: jaxtl run "
                f"--resume {shlex.quote(str(self.folder))}"
            )
        self._again = steps
        # What was kept is of the files as they were; and what is refused leaves nothing that was not there.
        self._drop_kept()
        try:
            return self.run()
        finally:
            self._drop_kept()

    def _drop_kept(self) -> None:
        for name in numbers.kept_files():
            (self.folder / name).unlink(missing_ok=True)

    def check(self) -> None:
        """Refuse before any work what would fail after much of it. Raises JaxtlError."""
        trainable_boundary(self.shared.model.config, self.config.trainable)
        _ = self.maps, self.shared.train
        n = len(self.shared.sample)
        check_knn(self.shared.sample.labels[:, None], self.shared.sample.labels)
        if "tsne" in self.config.methods:
            check_perplexity(n, self.config.perplexity)
            if self.maps.choices["tsne"].name == "cuml":
                check_most_neighbors(self.config.perplexity)
        if "lle" in self.config.methods:
            check_neighbors(n, self.config.n_neighbors)

    def check_memory(self, left: Mapping[str, int] | None = None, resumed: bool = False) -> None:
        """Refuse maps that would not fit: those still to be made, or so many by each method."""
        left = self.unmapped if left is None else left
        self.maps.check_memory(left, self.observer.notify, resumed)

    def scores(self) -> list[Score]:
        return load_scores(self.folder / "scores.csv")

    @property
    def unmapped(self) -> dict[str, int]:
        """How many maps are still to be made, by each method that has some."""
        left = {
            method: sum(self._pending(f"{method}_{stage}") for stage in STAGES)
            for method in self.config.methods
        }
        return {method: count for method, count in left.items() if count}

    def _expected(self) -> str:
        """What the main steps that are left will take, one line; nothing where nothing is left or known."""
        known, config = costs.reference(), self.config
        network: list[tuple[str, float | None]] = []
        # The costs are a CPU's.
        if self._pending("finetune") and cuda.jax_gpu_fault():
            train, test = len(self.shared.train), len(self.shared.test)
            taken = costs.network_seconds(
                known, train + test, config.epochs * train, config.image_size, config.trainable
            )
            network = list(zip(("features", "fine-tuning"), taken, strict=True))
        forecast = spoken([*network, *self.maps.expected(self.unmapped, known)])
        return forecast and f"Expect about: {forecast} (as on {known.machine})"

    def _left(self) -> list[Step]:
        """Steps still to be done, those that leave something in memory only where it is asked for."""
        wanted: list[Step] = []
        for step in reversed(self.steps):
            asked_for = any(step.name in other.needs for other in wanted)
            if self._pending(step.name) if step.outputs else asked_for:
                wanted.insert(0, step)
        kept = [step for step in wanted if step.name.startswith("trunk_")]
        if kept and not self.shared.keeps_outputs:
            return [step for step in wanted if step not in kept]
        return wanted

    def _compile_ahead(self, left: list[Step]) -> None:
        names = {step.name for step in left}

        def trace() -> None:
            # Who needs a program that cannot be made is told why.
            with contextlib.suppress(Exception):
                self.work.compile_ahead(names)

        if any(step.lane for step in left):
            threading.Thread(target=trace, name="trace", daemon=True).start()

    def _after_the_first(self, step: Step) -> Step:
        """What is done again waits for the first of it, which may be refused."""
        first = self._again[:1] if step.name in self._again[1:] else ()
        return replace(step, needs=(*step.needs, *first))

    def _give_up(self) -> None:
        self.maps.close()
        self.drawer.close()
        self.elsewhere.close()

    def _do(self, step: Step, check: Callable[[], None]) -> None:
        with self._timed(step) as progress:

            def tell(fraction: float) -> None:
                check()
                progress(fraction)

            check()
            if step.name in _DRAWN:
                self.drawer.get_ready(sum(map(self._pending, figure_steps(self.config))))
            self._explained(step, tell)
        if step.name in self._again[:1]:
            for output in chain(*(self.outputs[name] for name in self._again[1:])):
                (self.folder / output).unlink(missing_ok=True)

    def _explained(self, step: Step, progress: Progress) -> None:
        """Work a step off; what is refused says how to go on."""
        try:
            step.work(progress)
        except JaxtlError as error:
            hint = f"go on with: jaxtl run --resume {shlex.quote(str(self.folder))}"
            # Damaged files are named, with what to do about them.
            if "go on with" in str(error) or not step.name.startswith(self.config.methods):
                raise
            raise JaxtlError(f"{error}; {hint}") from None

    @contextlib.contextmanager
    def _timed(self, step: Step) -> Iterator[Progress]:
        began = time.perf_counter()
        with self.observer.step(step.title) as progress:
            yield progress
        self._note_seconds(step.name, began)

    def _note_seconds(self, name: str, began: float) -> None:
        with self._writing:
            self.timings[name] = round(time.perf_counter() - began, 3)
            # Since the run's own beginning: what was done side by side can be seen.
            self.timings.setdefault("began", {})[name] = round(began - self._began, 3)
            # Of all of it, stops left out: less than its steps' together, since some are done side by side.
            self.timings["run"] = round(time.perf_counter() - self._began, 3)
            peak = max(peak_memory() / 2**30, self.timings.get("peak_memory_gib", 0.0))
            self.timings["peak_memory_gib"] = round(peak, 2)
            write_json(self.folder / "timings.json", self.timings)

    def _pending(self, name: str) -> bool:
        return name in self._again or not all(
            (self.folder / output).is_file() for output in self.outputs[name]
        )
