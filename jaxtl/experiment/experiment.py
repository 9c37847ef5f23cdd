"""The before/after experiment: steps that read files and write files, so that a stopped run goes on.

Each step's outputs appear whole or not at all, and a step whose outputs are there is not done again. Steps
that do not need each other are done at the same time, as many as there are cores.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain, product
from types import MappingProxyType
from typing import Any

from jaxtl.costs.forecast import Forecast, forecast
from jaxtl.errors import JaxtlError
from jaxtl.experiment import checks, scores, sources
from jaxtl.experiment.analysis import embedding_step
from jaxtl.experiment.embeddings import Embedder, EmbeddingOptions
from jaxtl.experiment.schedule import Schedule, Step
from jaxtl.experiment.shared import Shared
from jaxtl.experiment.standing import Inputs, Standing
from jaxtl.experiment.steps import Work
from jaxtl.experiment.timings import Timings
from jaxtl.machine import signals
from jaxtl.machine.child import Pool
from jaxtl.machine.cores import one_blas_thread
from jaxtl.machine.devices import moved
from jaxtl.machine.engines import default_engine
from jaxtl.machine.host import cpu_count
from jaxtl.machine.log import logged
from jaxtl.machine.surroundings import usual_jax
from jaxtl.progress import Observer, Progress, counted
from jaxtl.records.tables import Score
from jaxtl.runs.figures import Drawer
from jaxtl.runs.folder import RunFile, RunFolder
from jaxtl.runs.manifest import State
from jaxtl.settings import STAGES, RunConfig

# Asked to be done again, all steps that draw.
FIGURES = "figures"
# What the manifest calls the files that are there before any step.
_START = "start"


class Experiment:
    """One run folder and the work still to be done in it.

    Args:
        shared: what runs that differ in their seed alone have in common; by default this run's own.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        observer: Observer,
        options: EmbeddingOptions,
        shared: Shared | None = None,
    ) -> None:
        self.config, self.folder, self._options = config, folder, options
        self.observer = logged(observer, folder.log)
        signals.tell(lambda: f"; {folder.go_on}" if folder.started.is_there else "")
        self.shared = shared or Shared(config, scratch=folder.path)
        self._timings = Timings(folder.timings)
        self._told: set[str] = set()
        # The folder, as long as this works in it.
        self.held: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()

    def let_go(self) -> None:
        """Leave the folder, in which nothing is under way, to another process."""
        with self.held:
            pass

    @cached_property
    def embedder(self) -> Embedder:
        config, reducers = self.config, self.shared.reducers
        return Embedder(config.methods, self._options, self._points, config.align, self._made_by, reducers)

    @property
    def _made_by(self) -> dict[str, str]:
        """By method, the library that made an embedding which is there already."""
        names = product(reversed(STAGES), self.config.methods)
        files = ((method, self.folder.embeddings[stage, method]) for stage, method in names)
        return {method: file.read().backend for method, file in files if file.is_intact}

    @cached_property
    def work(self) -> Work:
        """What the steps do, with the processes that they do it in."""
        elsewhere = Pool((scores.__name__, "sklearn.neighbors", "scipy.linalg"))
        return Work(
            self.config,
            self.folder,
            self.shared,
            self.embedder,
            Drawer(self.folder),
            elsewhere,
            self.observer.notify,
        )

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All steps of the run, in the order of a machine with one core."""
        return tuple(self.work.table())

    @cached_property
    def standing(self) -> Standing:
        """Which steps are done."""
        return Standing(self.folder, self.steps, self.given)

    @property
    def given(self) -> Mapping[str, Sequence[RunFile[Any]]]:
        """Files that no step makes, by the name that steps need them by."""
        return {}

    def take_stock(self) -> None:
        """Begin the manifest where the folder has none, with what is there; let go of what is of no step."""
        if not self.folder.manifest.is_there and (count := self.standing.adopt(_START, self._first_files)):
            files = counted(count, "file")
            self.observer.notify(f"{self.folder}: has no manifest; {files} are taken as they stand")
            if self.folder.timings.is_there:
                self._timings.adopt()
        names = [file.name for file in self._first_files]
        if any(file.is_there and not file.is_intact for file in self._first_files):
            self.folder.manifest.record(_START, names, {})
        self.folder.manifest.begin(sources.digests(self.folder))
        self.standing.remove_stray()
        if self._timings.repair():
            self.observer.notify(f"{self.folder.timings.name}: begun anew, as it was not what the run wrote")

    @property
    def _first_files(self) -> list[RunFile[Any]]:
        return [self.folder.started, self.folder.dataset, self.folder.images]

    @property
    def embeddings_left(self) -> dict[str, int]:
        """How many embeddings are still to be made, by each method that has some."""
        made = {embedding_step(m, stage): m for m in self.config.methods for stage in STAGES}
        steps = [step for step in self.steps if step.name in made and self.standing.fault(step) is not None]
        left = Counter(made[step.name] for step in steps)
        return {method: left[method] for method in self.config.methods if left[method]}

    def check_memory(self, left: Mapping[str, int], resumed: bool = False) -> None:
        """Raises JaxtlError where so many embeddings by each method would not fit."""
        self.embedder.check_memory(left, self.observer.notify, resumed)

    def forecast(self, left: Sequence[Step] | None = None) -> Forecast:
        """What steps will take; by default those that are left."""
        names = [step.name for step in (self._left() if left is None else left)]
        network, maps, machine = self._expected()
        table = [step.name for step in self.steps]
        return forecast(machine, self._points, names, table, network, maps)

    @cached_property
    def _points(self) -> int:
        return sources.count_points(self.folder, self.shared, self.config.samples)

    def _expected(self) -> tuple[dict[str, float | None], list[tuple[str, float | None]], str]:
        learns, embeddings = self.work.learns, self.embeddings_left
        return checks.expected(self.config, self.shared, self.embedder, embeddings, learns)

    def run(self) -> list[Score]:
        """Do what is left to do. Returns the scores.

        Raises JaxtlError where a step is refused; those that do not need it are done first.
        """
        self._work_off()
        return self.folder.scores.read()

    def run_some(self, wanted: Callable[[Step], bool]) -> None:
        """Do what is left of the steps that are wanted; what they need of others is made, and not kept."""
        self._work_off(wanted=wanted)

    def redo(self, *names: str) -> list[Score]:
        """Do steps of a finished run again, and nothing else. Raises JaxtlError where it is not finished.

        What the first of them made before stays until there is better; then the others, which show it, go.

        Args:
            names: of steps; "figures" means all that draw.
        """
        asked = [step for step in self.steps if step.name in names or (step.draws and FIGURES in names)]
        first, *others = asked
        rest = [step for step in self.steps if step not in asked]
        self.folder.check_there(file for step in rest for file in step.outputs)
        for step in rest:
            self._check_done(step)
        again = {step.name: replace(step, needs=(*step.needs, first.name)) for step in others}
        again[first.name] = replace(first, work=partial(_replace, first.work, others))
        # What was kept is of the files as they were; and what is refused leaves nothing that was not there.
        self.standing.remove_kept()
        try:
            self._work_off(again)
        finally:
            self.standing.remove_kept()
        return self.folder.scores.read()

    def _check_done(self, step: Step) -> None:
        """Raises JaxtlError where a step of a finished run is to be done again."""
        for file in step.outputs:
            file.check_intact()
        if step.outputs and (fault := self.standing.fault(step)):
            raise JaxtlError(
                f"{self.folder}: {step.title} is to be made again, as {fault}; {self.folder.go_on}"
            )

    def _left(self, again: Mapping[str, Step] = MappingProxyType({})) -> list[Step]:
        """Steps to be done, or done again, now. Steps may leave themselves out (`Step.useless`)."""
        return [step for step in self.standing.left(again) if not step.useless()]

    def _work_off(
        self,
        again: Mapping[str, Step] = MappingProxyType({}),
        wanted: Callable[[Step], bool] = lambda step: True,
    ) -> None:
        """Do what is left of the steps that are wanted, until what is made again has changed nothing more."""
        self._timings.begin()
        left = list(filter(wanted, self._left(again)))
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.held)
            if left:
                stack.enter_context(self.observer.opened())
            stack.enter_context(usual_jax())
            stack.enter_context(contextlib.closing(self.work))
            if left and default_engine() == "cpu":
                # For all of it, so that no library's own limit begins without this one and ends within it.
                stack.enter_context(one_blas_thread())
            heard = stack.enter_context(self.observer.interruptible())
            begun = self.folder.environment
            # One that is not what the run wrote is made again.
            if left and begun.is_there and begun.is_intact:
                self._tell_moved(begun.read(), left)
            self._tell(left, again)
            while any(step.name not in self._told for step in left if step.outputs):
                self._work_off_together(left, heard)
                left = list(filter(wanted, self._left()))
                self._tell(left, {})

    def _tell_moved(self, then: Mapping[str, Any], left: Sequence[Step]) -> None:
        now = self.work.here(None if any(step.of_images for step in left) else then)
        if note := moved(then, now):
            self.observer.notify(note)

    def _work_off_together(self, left: Sequence[Step], heard: Callable[[], None]) -> None:
        """Do steps, each as soon as what it needs is done."""
        names = {step.name for step in left}
        self._told |= names
        self.work.under_way = names
        methods = self.config.methods
        self.embedder.get_ready(m for m in methods if any(embedding_step(m, s) in names for s in STAGES))
        self._compile_ahead(left)
        if default_engine() == "jax":
            self.work.elsewhere.get_ready(sum(step.beside_training for step in left))
        do = partial(self._do, figures=sum(step.draws for step in left))
        Schedule(left, cpu_count(), do, self.work.close, heard).run()

    def _tell(self, left: Sequence[Step], again: Mapping[str, Step]) -> None:
        """What the work will take, why steps are done again, and what of it is done."""
        names, faults = {step.name for step in left}, self.standing.faults(again)
        if left and (expected := self.forecast(left).line()):
            self.observer.notify(expected)
        for step in self.steps:
            if step.name in names:
                if fault := faults.get(step.name):
                    self.observer.notify(f"{step.title}: made again, as {fault}")
            elif step.name in faults:
                continue
            elif step.outputs and step.name not in self._told and not self.standing.before(step) & names:
                self._told.add(step.name)
                self.observer.notify(f"{step.title}: done already")

    def _compile_ahead(self, left: Sequence[Step]) -> None:
        names = {step.name for step in left}

        def trace() -> None:
            # Who needs a program that cannot be made is told why.
            with contextlib.suppress(Exception):
                self.work.compile_ahead(names)

        if any(step.of_images for step in left):
            # No daemon: JAX cannot be left in the middle of its work where the process ends.
            threading.Thread(target=trace, name="trace").start()

    def _do(self, step: Step, check: Callable[[], None], figures: int) -> None:
        """Work a step off; `figures` are left to be drawn in all."""
        with self._timings.timed(step.name), self.observer.step(step.title) as progress:

            def tell(fraction: float) -> None:
                check()
                progress(fraction)

            check()
            inputs = self._begin(step)
            if step.is_drawn:
                # Not before, as these processes take the first steps' cores.
                self.work.drawer.get_ready(figures)
            step.work(tell)
            self.standing.record(step, inputs)

    def _begin(self, step: Step) -> Inputs:
        """What a step will be made of. Raises JaxtlError where that is not what is recorded."""
        self.standing.check_inputs(step)
        for file in self.standing.clear(step):
            self.observer.notify(f"{step.title}: begun anew, as {file.name} {State.CHANGED.value}")
        return self.standing.inputs(step)


def _replace(work: Callable[[Progress], None], shown_by: Sequence[Step], progress: Progress) -> None:
    """Make something again; what shows it as it was goes."""
    work(progress)
    for file in chain(*(step.outputs for step in shown_by)):
        file.remove()
