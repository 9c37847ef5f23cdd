"""The whole experiment several times, seed after seed, each in a run folder of its own."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.evaluation.seeds import claims_over_seeds, scores_over_seeds
from jaxtl.experiment import experiment
from jaxtl.experiment.experiment import EmbeddingOptions, Experiment
from jaxtl.experiment.shared import Shared
from jaxtl.machine.engines import default_engine
from jaxtl.progress import Observer, Silent
from jaxtl.records.files import read_json_object, write_json
from jaxtl.records.tables import Score, save_scores
from jaxtl.runs.folder import CONFIG, claims, write_report
from jaxtl.settings import RunConfig

RECORD = "seeds.json"
MOST = 1000


class Seeds:
    """Runs that differ in their seed alone, in DIR/seed-N, and what they say together in DIR."""

    def __init__(
        self,
        folder: Path,
        seeds: list[int],
        config: RunConfig | None,
        observer: Observer,
        options: EmbeddingOptions,
    ) -> None:
        self.folder, self.seeds, self._config = folder, seeds, config
        self._observer, self._options = observer, options
        # Data, model, and what the frozen layers make of an image are the same in all of them.
        self._shared = config and Shared(config, keep=True)

    def run(self) -> list[Score]:
        """Do what is left to do. Returns every number's mean over the seeds, with its interval."""
        runs = []
        for number, work in enumerate(self._together(self._works())):
            self._observer.notify(f"Run {number + 1} of {len(self.seeds)}, seed {work.config.seed}")
            try:
                runs.append(work.run())
            except JaxtlError as error:
                own, whole = shlex.quote(str(work.folder)), shlex.quote(str(self.folder))
                raise JaxtlError(str(error).replace(f"--resume {own}", f"--resume {whole}")) from None
        scores = scores_over_seeds(runs)
        decided = claims_over_seeds([claims(folder) for folder in self.folders])
        write_json(self.folder / "claims.json", {"claims": decided})
        with self._observer.step("Report over the seeds"):
            write_report(self.folders, self.folder / "report.html")
        save_scores(self.folder / "scores.csv", scores)
        return scores

    def _together(self, works: Iterator[Experiment]) -> Iterable[Experiment]:
        """The same; on a GPU, which one seed keeps waiting for launches, all are trained by the first."""
        if default_engine() == "cpu":
            return works
        first, *others = found = list(works)
        first.work.beside = [other.work for other in others]
        return found

    @property
    def folders(self) -> list[Path]:
        return [self.folder / f"seed-{seed}" for seed in self.seeds]

    def _works(self) -> Iterator[Experiment]:
        for seed, folder in zip(self.seeds, self.folders, strict=True):
            try:
                work = self._open(replace(self._config, seed=seed), folder)
            except JaxtlError as error:
                go_on = f"then go on with: jaxtl run --resume {shlex.quote(str(self.folder))}"
                raise JaxtlError(f"{error}; {go_on}") from None
            yield work

    def _open(self, config: RunConfig, folder: Path) -> Experiment:
        # Memory was checked when all began: what runs before it hold now is not to stop this one.
        how = {"observer": self._observer, "options": self._options, "check_memory": False}
        how["shared"] = self._shared
        if not (folder / CONFIG).is_file():
            return experiment.start(config, folder, **how)
        work = experiment.resume(folder, **how)
        if work.config != config:
            raise JaxtlError(
                f"{folder}: was made with other settings than the runs beside it; move it away to have it "
                "made again"
            )
        return work

    def go_on(self, first: Experiment) -> Seeds:
        """These, with the settings of the first run. Raises JaxtlError where maps left would not fit."""
        self._config, self._shared = first.config, first.shared
        self._shared.keep = True
        seeds = zip(self.seeds, self.folders, strict=True)
        works = [
            Experiment(replace(first.config, seed=seed), folder, Silent(), self._options, self._shared)
            for seed, folder in seeds
        ]
        left: dict[str, int] = {}
        for work in works:
            left |= {method: max(count, left.get(method, 0)) for method, count in work.unmapped.items()}
        first.check_memory(left, resumed=True)
        return self


def start(
    config: RunConfig,
    count: int,
    folder: Path,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
) -> Seeds:
    """`count` experiments with the seeds config.seed, config.seed + 1, ..., in a folder that is new or empty.

    Raises JaxtlError where the folder holds files, the number is not 2 to 1000, or as `experiment.start`.
    """
    if not 2 <= count <= MOST:
        raise JaxtlError(f"--seeds {count}: must be 2 to {MOST}; leave it out for one run")
    last = replace(config, seed=config.seed + count - 1)  # which refuses seeds that are too large
    seeds = list(range(config.seed, last.seed + 1))
    if folder.exists() and not folder.is_dir():
        raise JaxtlError(f"{folder}: is a file; give a new folder with --out")
    if folder.is_dir() and any(folder.iterdir()):
        raise JaxtlError(f"{folder}: holds files already; give a new folder with --out")
    runs = Seeds(folder, seeds, config, observer or Silent(), options)
    # The first folder's settings are checked, and written, before this says that there are several.
    experiment.start(config, runs.folders[0], observer or Silent(), options, shared=runs._shared)
    write_json(folder / RECORD, {"seeds": seeds})
    return runs


def holds_seeds(folder: Path) -> bool:
    return (folder / RECORD).is_file()


def folders_of(folder: Path) -> list[Path]:
    """The run folders of several seeds; of anything else, itself."""
    return (
        Seeds(folder, _seeds(folder), None, Silent(), EmbeddingOptions()).folders
        if holds_seeds(folder)
        else [folder]
    )


def _seeds(folder: Path) -> list[int]:
    path = folder / RECORD
    seeds = read_json_object(path).get("seeds")
    if not isinstance(seeds, list) or len(seeds) < 2 or not all(isinstance(seed, int) for seed in seeds):
        raise JaxtlError(f"{path}: holds no list of seeds; start again with --out")
    return seeds


def resume(
    folder: Path,
    given: dict[str, Any] | None = None,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
) -> Seeds:
    """Seeds that go on where their folder was left.

    Raises JaxtlError as `experiment.resume`, and where the folder's record is damaged.
    """
    runs = Seeds(folder, _seeds(folder), None, observer or Silent(), options)
    return runs.go_on(experiment.resume(runs.folders[0], given, observer, options, check_memory=False))
