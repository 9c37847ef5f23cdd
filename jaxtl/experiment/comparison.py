"""A comparison of features that somebody else computed: a run's steps but for those of the network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxtl.costs import table as costs
from jaxtl.data.feature_files import Source, given_features, read_labels, with_labels
from jaxtl.data.pairs import Pair, paired, training_pair
from jaxtl.errors import JaxtlError
from jaxtl.experiment import scores
from jaxtl.experiment.analysis import Analysis
from jaxtl.experiment.checks import check_comparison_memory
from jaxtl.experiment.compared import Comparison
from jaxtl.experiment.embeddings import EmbeddingOptions
from jaxtl.experiment.experiment import Experiment
from jaxtl.experiment.schedule import Step
from jaxtl.machine.bars import watching
from jaxtl.machine.child import Pool
from jaxtl.machine.devices import configure
from jaxtl.progress import Notify, Observer, Silent
from jaxtl.ranges import text
from jaxtl.records.arrays import Features, Pathlike
from jaxtl.records.files import remove_leftovers
from jaxtl.records.tables import Score
from jaxtl.reduction import check_settings
from jaxtl.runs.figures import Drawer
from jaxtl.runs.folder import RunFile, RunFolder
from jaxtl.runs.formats import Started
from jaxtl.settings import STAGES, ComparisonConfig

# Settings of methods that ask for fewer rows than these: what they are then, by the number of rows.
_AT_MOST: dict[str, Callable[[int], Any]] = {
    "perplexity": lambda n: float(int(10 * (n - 1) / 3)) / 10,
    "n_neighbors": lambda n: n - 1,
}


class _Steps(Analysis):
    """What the steps of a comparison do. Its features are in its folder from the start."""

    def table(self) -> Iterator[Step]:
        """All steps, in the order of one core."""
        config = self._settings
        assert isinstance(config, ComparisonConfig)
        yield self.environment()
        for stage in STAGES:
            yield from self.neighbors_and_embeddings(stage)
            yield from self.scores_of(stage, config.training)
        yield from self.conclusions(tuned=False, classes=config.tells_classes)


class Compared(NamedTuple):
    """Features that are to be compared.

    Attributes:
        pair: of the images.
        training: of training images, by which the others are classified, or None.
        sources: what the two were read from.
        name: of what they are of; empty where nobody says.
    """

    pair: Pair
    training: Pair | None
    sources: tuple[str, str]
    name: str

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.pair.notes, *(self.training.notes if self.training else ()))


def read(
    before: Any,
    after: Any,
    training: tuple[Any, Any] | None = None,
    labels: Any = None,
    name: str = "",
    common: bool = False,
) -> Compared:
    """Features before and after, matched row by row, and those of training images.

    Args:
        before, after, training: each as `jaxtl.data.feature_files.given_features` takes it.
        labels: of the features before, instead of those that the files hold.
        name: of what the features are of.
        common: whether rows that only one has are left out, and not refused.

    Raises JaxtlError as `jaxtl.data.pairs.paired` and `training_pair`.
    """
    given = [given_features(source, stage) for source, stage in zip((before, after), STAGES, strict=True)]
    if labels is not None:
        given = [with_labels(given[0], labels), with_labels(given[1], None)]
    sources = given[0].where, given[1].where
    said = {str(of.meta["dataset"]) for of in given if of.meta.get("dataset")}
    name = name or (said.pop() if len(said) == 1 else "")
    pair, known = paired(given[0], given[1], name, common), None
    if training is not None:
        own = [
            given_features(source, f"training features {k}")
            for k, source in zip(STAGES, training, strict=True)
        ]
        pair, known = training_pair(own[0], own[1], pair, name, common)
        if pair.before.labels is None:
            pair = pair._replace(notes=(*pair.notes, "training features are of no use without labels"))
            known = None
    return Compared(pair, known, sources, name)


def settings(compared: Compared, insisted: Sequence[str], **given: Any) -> tuple[ComparisonConfig, list[str]]:
    """The settings of a comparison, and a line for each that is lower than it was, for want of rows.

    Args:
        insisted: names of settings that are refused where there are too few rows, and not lowered.
        given: as of `ComparisonConfig`.
    """
    pair, points, notes = compared.pair, len(compared.pair.before.values), []
    sources = (Path(source).name or source for source in compared.sources)
    trained = compared.training is not None
    config = ComparisonConfig(*sources, points, compared.name, pair.classes, trained, **given)
    for name, most in _AT_MOST.items():
        if name not in insisted and getattr(config, name) > most(points):
            config = replace(config, **{name: most(points)})
            notes.append(f"{name} is {most(points):g}, the most that {points} rows allow")
    return config, notes


def start(
    compared: Compared,
    config: ComparisonConfig,
    folder: Path,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
) -> ComparisonRun:
    """A new comparison in a folder that is empty or does not exist yet.

    Raises JaxtlError where the folder holds files, or a setting cannot work with these features or here.
    """
    run = RunFolder(folder, compares=False)
    with run.newly_held() as held:
        comparison = _begun(run, compared, config, observer or Silent(), options)
        comparison.held = held
    return comparison


def _begun(
    run: RunFolder,
    compared: Compared,
    config: ComparisonConfig,
    observer: Observer,
    options: EmbeddingOptions,
) -> ComparisonRun:
    remove_leftovers(run.started.path)
    configure()
    comparison = ComparisonRun(config, run, observer, options)
    for method in config.methods:
        check_settings(method, config.points, config, comparison.embedder.choices[method].name)
    comparison.check_memory(comparison.embeddings_left)
    check_comparison_memory(config, compared.pair, compared.training, comparison.embedder.choices)
    for note in comparison.embedder.notes:
        observer.notify(note)
    # The settings last: a folder that has some is complete enough to go on.
    for files, pair in ((run.features, compared.pair), (run.training_features, compared.training)):
        for stage, features in zip(STAGES, pair[:2] if pair else (), strict=False):
            files[stage].write(features)
    run.started.write(Started(config))
    comparison.take_stock()
    return comparison


def resume(
    folder: Path,
    given: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
) -> ComparisonRun:
    """A comparison that goes on where its folder was left; `given` are settings that the caller insists on.

    Raises JaxtlError for settings that were edited, or that differ from the folder's, and where the features
    are not there any more.
    """
    run = RunFolder(folder, compares=False)
    with run.held() as held:
        comparison = _resumed(run, given or {}, observer or Silent(), options)
        comparison.held = held
    return comparison


def _resumed(
    run: RunFolder, given: Mapping[str, Any], observer: Observer, options: EmbeddingOptions
) -> ComparisonRun:
    config = run.started.read().config
    run.started.check_intact()
    assert isinstance(config, ComparisonConfig)
    known = asdict(config)
    for name, value in given.items():
        if name not in known:
            raise JaxtlError(f"{run}: is a comparison of features, which has no {name}; leave it out")
        if known[name] != value:
            raise JaxtlError(
                f"{run}: was made with {name} {known[name]}, not {value}; leave it out to go on, or compare "
                "again into a new folder with --out"
            )
    _check_files(run, config)
    configure()
    comparison = ComparisonRun(config, run, observer, options)
    comparison.take_stock()
    comparison.check_memory(comparison.embeddings_left, resumed=True)
    run.remove_leftovers()
    return comparison


def _check_files(run: RunFolder, config: ComparisonConfig) -> None:
    files: list[RunFile[Features]] = [*run.features.values()]
    files += [*run.training_features.values()] if config.training else []
    for file in files:
        if not file.is_there:
            raise JaxtlError(
                f"{file}: is missing, and cannot be made again; compare {config.before} and {config.after} "
                "into a new folder"
            )
        # Which says where it cannot be read at all.
        file.read()
        file.check_intact()


class ComparisonRun(Experiment):
    """The folder of a comparison and the work still to be done in it."""

    config: ComparisonConfig

    @cached_property
    def work(self) -> _Steps:
        elsewhere = Pool((scores.__name__, "sklearn.neighbors", "scipy.linalg"))
        drawer, notify = Drawer(self.folder), self.observer.notify
        return _Steps(self.config, self.folder, self.embedder, drawer, elsewhere, notify)

    @property
    def given(self) -> Mapping[str, Sequence[RunFile[Features]]]:
        files = {stage: [file] for stage, file in self.folder.features.items()}
        if self.config.training:
            trained = self.folder.training_features.items()
            files |= {f"training_features_{stage}": [file] for stage, file in trained}
        return files

    @property
    def _first_files(self) -> list[RunFile[Any]]:
        return [self.folder.started, *(file for files in self.given.values() for file in files)]

    @property
    def _points(self) -> int:
        return self.config.points

    def _expected(self) -> tuple[dict[str, float | None], list[tuple[str, float | None]], str]:
        known = costs.reference()
        return {}, self.embedder.expected(self.embeddings_left, known), known.machine

    def measure(self) -> list[Score]:
        """Do what is left to do but for figures and page. Returns the scores."""
        self._work_off(wanted=lambda step: not step.draws and step.name != "report")
        return self.folder.scores.read()

    def _compile_ahead(self, left: Sequence[Step]) -> None:
        """No network, no programs."""


# Long by its docstring, since users call it.
def compare(
    before: Source,
    after: Source,
    *,
    training_features: tuple[Source, Source] | None = None,
    labels: NDArray[np.generic] | Sequence[int] | Sequence[str] | Pathlike | None = None,
    name: str = "",
    common: bool = False,
    out: Pathlike | None = None,
    methods: Sequence[str] | None = None,
    perplexity: float | None = None,
    n_neighbors: int | None = None,
    align: bool | None = None,
    seed: int | None = None,
    backend: str = "auto",
    progress: bool = False,
    observer: Observer | None = None,
) -> Comparison:
    """Numbers, claims and embeddings of any two sets of features of the same images, without a network.

    Args:
        before, after: each `Features`, an array [n, d], a mapping of arrays by name, a table of pandas,
            polars or PyArrow, or a file .npz, .npy, .parquet or .csv; of any two numbers of dimensions. Rows
            are matched by ids where both have some.
        training_features: the same two of training images, by which the others are classified.
        labels: whole numbers or texts [n], in the order of `before`, or a file of them, as of
            `jaxtl compare --labels`; by default what the two hold. Without any, what needs classes is left
            out.
        name: of what the features are of, for the page.
        common: whether rows that only one of the two has are left out, and not refused.
        out: a new folder for all files, the figures and the page `report.html`; by default none is kept.
        backend: of the embeddings, as of `jaxtl run --backend`.
        progress: whether bars show how it gets on, on a terminal or in a notebook.
        observer: told of the steps instead; by default nobody.
        methods, perplexity, n_neighbors, align, seed: as of `RunConfig`; where nothing is given the usual, or
            what few rows allow.

    Raises:
        JaxtlError: files that cannot be read, ids or labels that disagree, values that are not finite, too
            few rows, or settings that do not work with these.
    """
    asked = {
        "methods": methods,
        "perplexity": perplexity,
        "n_neighbors": n_neighbors,
        "align": align,
        "seed": seed,
    }
    insisted = {name: value for name, value in asked.items() if value is not None}
    folder, options = None if out is None else Path(text("out", out)), EmbeddingOptions(backend)
    own: Any = read_labels(labels) if isinstance(labels, str | Path) else labels
    compared = read(before, after, training_features, own, name, common)
    config, lowered = settings(compared, list(insisted), **insisted)
    watched = _Noting(watching(progress, observer) or Silent())
    for line in (*compared.notes, *lowered):
        watched.notify(line)
    if folder is not None:
        run = start(compared, config, folder, watched, options)
        run.run()
        return _result(run.folder, config, tuple(watched.notes), run.folder.path)
    with tempfile.TemporaryDirectory(prefix="jaxtl-") as temporary:
        run = start(compared, config, Path(temporary), watched, options)
        run.measure()
        return _result(run.folder, config, tuple(watched.notes), None)


class _Noting:
    """An observer that passes all on, and keeps what it was told."""

    def __init__(self, observer: Observer) -> None:
        self.notes: list[str] = []
        self.step, self.interruptible = observer.step, observer.interruptible
        self._pass_on: Notify = observer.notify

    def notify(self, text: str) -> None:
        self.notes.append(text)
        self._pass_on(text)


def _result(
    run: RunFolder, config: ComparisonConfig, notes: tuple[str, ...], folder: Path | None
) -> Comparison:
    return Comparison(
        {stage: run.features[stage].read() for stage in STAGES},
        {
            (stage, method): run.embeddings[stage, method].read()
            for stage in STAGES
            for method in config.methods
        },
        run.scores.read(),
        run.class_scores.read_or([]),
        run.claims.read(),
        notes,
        folder,
    )
