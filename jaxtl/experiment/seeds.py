"""The whole experiment several times, seed after seed, each in a run folder of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import N_NEIGHBORS, SEEDS_CKA, SEEDS_KEPT, Metric
from jaxtl.evaluation.change import plane_neighbors
from jaxtl.evaluation.plan import FEATURES
from jaxtl.evaluation.seeds import claims_over_seeds, over_pairs, scores_over_seeds, summary
from jaxtl.experiment import opening, tasks
from jaxtl.experiment.checks import settled
from jaxtl.experiment.embeddings import EmbeddingOptions, begin
from jaxtl.experiment.experiment import Experiment
from jaxtl.experiment.shared import Shared
from jaxtl.machine.engines import default_engine
from jaxtl.machine.tasks import Executor
from jaxtl.metrics import Estimate, linear_cka, neighbors_kept
from jaxtl.progress import Observer, Silent
from jaxtl.records.arrays import Neighbors
from jaxtl.records.files import wait_until_seen
from jaxtl.records.tables import Score
from jaxtl.reduction.process import Reducers
from jaxtl.report.document import write_report
from jaxtl.runs.folder import RunFolder, SeedsFolder
from jaxtl.settings import MOST_SEEDS, STAGES, RunConfig


class Seeds:
    """Runs that differ in their seed alone, each in a folder of its own, and what they say together.

    Args:
        folder: of them all.
        seeds: at least two.
        config: of each, but for its seed.
        shared: data, model and what the frozen layers make of an image, which are the same in all.
        begun: called with each run before it works.
    """

    def __init__(
        self,
        folder: SeedsFolder,
        seeds: list[int],
        config: RunConfig,
        observer: Observer,
        options: EmbeddingOptions,
        shared: Shared,
        begun: Callable[[Experiment], object] = lambda work: None,
    ) -> None:
        self.folder, self.seeds, self._begun = folder, seeds, begun
        # The folder, as long as this works in it.
        self.held: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        self._config, self._observer, self._options, self._shared = config, observer, options, shared

    @property
    def folders(self) -> list[RunFolder]:
        return [self.folder.run_of(seed) for seed in self.seeds]

    def run(self, executor: Executor | None = None) -> list[Score]:
        """Do what is left to do. Returns every number's mean over the seeds, with its interval.

        `executor`: who does the runs, as tasks; None for this process, which shares what they have in common.
        """
        with self.held, contextlib.closing(self._shared):
            return self._run(executor)

    def _run(self, executor: Executor | None) -> list[Score]:
        runs = self._runs_by(executor) if executor else self._runs_here()
        scores = [*scores_over_seeds(runs), *self._between()]
        claims = claims_over_seeds([run.claims.read() for run in self.folders])
        self.folder.claims.write(claims)
        self.folder.summary.write(summary(runs, claims))
        with self._observer.step("Report over the seeds"):
            write_report(self.folders, self.folder.report.path)
        self.folder.scores.write(scores)
        self._record()
        return scores

    def _runs_here(self) -> list[list[Score]]:
        runs = []
        for number, work in enumerate(self._together(), 1):
            self._observer.notify(f"Run {number} of {len(self.seeds)}, seed {work.config.seed}")
            runs.append(work.run())
        return runs

    def _runs_by(self, executor: Executor) -> list[list[Score]]:
        # Others make the embeddings.
        self._shared.close()
        for work in self.experiments():
            work.let_go()
        executor.run(tasks.of(self.folders, self._options), self._observer)
        for run in self.folders:
            wait_until_seen(run.scores.path)
        return [run.scores.read() for run in self.folders]

    def _record(self) -> None:
        """Write down what was made over the seeds, and of what."""
        made_of = [file for run in self.folders for file in (run.scores, run.claims)]
        inputs: dict[str, str | None] = {
            str(file.path.relative_to(self.folder.path)): file.sha256 for file in made_of
        }
        made = (self.folder.scores, self.folder.claims, self.folder.summary, self.folder.report)
        self.folder.manifest.record("start", [self.folder.seeds.name], {})
        self.folder.manifest.record("seeds", [file.name for file in made], inputs)

    def _between(self) -> list[Score]:
        """What two seeds have in common: what differs between them, fine-tuning did by chance."""
        folders, scores = self.folders, []
        features = [run.features["after"] for run in folders]

        def alike(one: int, other: int) -> Estimate:
            return linear_cka(features[one].read().values, features[other].read().values).debiased

        with self._observer.step("Seeds compared"):
            scores += self._compared("after", FEATURES, SEEDS_CKA, alike)
            spaces = {("after", FEATURES): [run.neighbors["after"].read() for run in folders]}
            for place in product(STAGES, self._config.methods):
                spaces[place] = [plane_neighbors(run.embeddings[place].read()) for run in folders]
            for place, neighbors in spaces.items():
                kept = partial(_kept, neighbors, self._config.seed)
                scores += self._compared(*place, SEEDS_KEPT, kept)
        return scores

    def _compared(
        self, stage: str, space: str, metric: Metric, compare: Callable[[int, int], Estimate]
    ) -> list[Score]:
        try:
            return [Score(stage, space, metric, *over_pairs(len(self.seeds), compare))]
        except JaxtlError as error:
            self._observer.notify(f"{metric.label}, {space} {stage}: left out ({error})")
            return []

    def experiments(self) -> Iterator[Experiment]:
        """The runs, each begun or gone on with when it is asked for.

        Raises JaxtlError where a folder holds something else.
        """
        for seed, folder in zip(self.seeds, self.folders, strict=True):
            yield self._open(replace(self._config, seed=seed), folder)

    def check_memory(self) -> None:
        """Raises JaxtlError where embeddings that are left in some of the runs would not fit."""
        works = [
            Experiment(replace(self._config, seed=seed), folder, self._observer, self._options, self._shared)
            for seed, folder in zip(self.seeds, self.folders, strict=True)
        ]
        most: dict[str, int] = {}
        for work in works:
            left = work.embeddings_left
            most |= {method: max(count, most.get(method, 0)) for method, count in left.items()}
        works[0].check_memory(most, resumed=True)

    def _together(self) -> Iterable[Experiment]:
        """The runs; on a GPU, which one seed keeps waiting for launches, all are trained by the first."""
        if default_engine() == "cpu":
            return self.experiments()
        first, *others = works = list(self.experiments())
        first.work.beside = [other.work for other in others]
        return works

    def _open(self, config: RunConfig, folder: RunFolder) -> Experiment:
        work = self._opened(config, folder)
        self._begun(work)
        return work

    def _opened(self, config: RunConfig, folder: RunFolder) -> Experiment:
        # Memory was checked when all began: what runs before it hold now is not to stop this one.
        how = {"check_memory": False, "shared": self._shared}
        if folder.started.is_there:
            work = opening.resume(folder.path, None, self._observer, self._options, **how)
            if work.config == config:
                return work
            fault = f"{folder}: was made with other settings than the runs beside it; move it away"
            raise JaxtlError(f"{fault}, then {folder.go_on}")
        try:
            return opening.start(config, folder.path, self._observer, self._options, **how)
        except JaxtlError as error:
            raise JaxtlError(f"{error}; then {self.folder.go_on}") from None


def _kept(neighbors: Sequence[Neighbors], seed: int, one: int, other: int) -> Estimate:
    return neighbors_kept(neighbors[one], neighbors[other], N_NEIGHBORS, seed=seed).mean


def start(
    config: RunConfig,
    count: int,
    folder: Path,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
    *,
    shared: Shared | None = None,
    begun: Callable[[Experiment], object] = lambda work: None,
) -> Seeds:
    """`count` experiments with the seeds config.seed, config.seed + 1, ..., in a folder that is new or empty.

    `shared` and `begun`: as of `Seeds`.

    Raises JaxtlError where the folder holds files, the number is not 2 to 1000, or as `opening.start`.
    """
    if not 2 <= count <= MOST_SEEDS:
        raise JaxtlError(f"--seeds {count}: must be 2 to {MOST_SEEDS}; leave it out for one run")
    last = replace(config, seed=config.seed + count - 1)  # which refuses seeds that are too large
    several, seeds = SeedsFolder(folder), list(range(config.seed, last.seed + 1))
    told, reducers = observer or Silent(), shared.reducers if shared else Reducers(lasting=True)
    with contextlib.ExitStack() as failed, several.newly_held() as held:
        failed.callback(reducers.close)
        begin(config.methods, options, reducers)
        config = settled(config, told)
        shared = shared or Shared(config, keep=True, scratch=folder, reducers=reducers)
        # The first folder's settings are checked, and written, before this says that there are several.
        first = opening.start(config, several.run_of(config.seed).path, told, options, shared=shared)
        first.let_go()
        several.seeds.write(seeds)
        runs = Seeds(several, seeds, first.config, told, options, shared, begun)
        runs.held = held
        failed.pop_all()
    return runs


def resume(
    folder: Path,
    given: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
    *,
    shared: Shared | None = None,
    begun: Callable[[Experiment], object] = lambda work: None,
) -> Seeds:
    """Seeds that go on where their folder was left; `shared` and `begun` as of `Seeds`.

    Raises JaxtlError as `opening.resume`, and where the folder's record is damaged.
    """
    several = SeedsFolder(folder)
    with several.held() as held:
        seeds = several.seeds.read()
        first = several.run_of(seeds[0])
        first.check()
        config = first.started.read().config
        shared, told = shared or Shared(config, keep=True, scratch=folder), observer or Silent()
        opening.resume(first.path, given, told, options, check_memory=False, shared=shared)
        runs = Seeds(several, seeds, config, told, options, shared, begun)
        runs.check_memory()
        runs.held = held
    return runs
