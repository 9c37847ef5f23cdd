"""A run's folder: every file in it by name, and how each is read, written and, where it is damaged, mended.

To add a file of a run, give it one line in `RunFolder` (its name, how it is read, how it is written; see
`jaxtl/runs/formats.py` where it holds no record) and name it in the outputs of the step that writes it, in
`jaxtl/experiment/steps.py`. What a killed process left of it is then removed, a run that was stopped goes on
by it, and who reads it is told where it is damaged.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, Protocol, TypeVar

from jaxtl.errors import JaxtlError, shown
from jaxtl.evaluation.measures import StageMeasures
from jaxtl.methods import METHODS
from jaxtl.records.arrays import Embedding, Features, Neighbors, Pathlike
from jaxtl.records.files import (
    leftovers,
    read_json_object,
    remove_leftovers,
    write_json,
    write_text,
)
from jaxtl.records.names import is_text, readable
from jaxtl.records.places import check_folder
from jaxtl.records.tables import (
    load_class_scores,
    load_history,
    load_images,
    load_layers,
    save_class_scores,
    save_history,
    save_images,
    save_layers,
    save_scores,
)
from jaxtl.runs import formats
from jaxtl.runs.file import RunFile
from jaxtl.runs.formats import Predictions
from jaxtl.runs.lock import Hold, check_free, entries
from jaxtl.runs.manifest import Manifest, State, stamp
from jaxtl.settings import STAGES, ComparisonConfig, RunConfig

T = TypeVar("T")

# In which a stage's numbers are made: what needs no embeddings does not wait for them.
PARTS = ("features", "embeddings")
# Figures of a run; the last is there where the depth profile is.
FIGURES = (*STAGES, "comparison", "history", "layers")
_OF_FEATURES = FIGURES[:3]
SUFFIXES = ("png", "svg", "pdf")
# The files that say what a folder is, and the older name of the second.
_CONFIG, _SEEDS, _SEEDS_BEFORE = "config.json", "seeds.json", "repeats.json"
_MANIFEST = "manifest.json"
_SWEEP = "sweep.json"


def figure_names(config: RunConfig | ComparisonConfig) -> tuple[str, ...]:
    """The figures of a run or a comparison, without their suffixes."""
    if isinstance(config, ComparisonConfig):
        return _OF_FEATURES
    return FIGURES if config.layers else FIGURES[:-1]


class Folder:
    """A folder of such files.

    Args:
        compares: whether what is read is compared with the manifest; not by who works in the folder, and
            looks before each step.

    Attributes:
        files: all that it may hold.
        manifest: what is recorded of them.
    """

    def __init__(self, path: Pathlike, compares: bool = True) -> None:
        self.path, self.compares = Path(path), compares
        self.files: list[RunFile[Any]] = []
        # Of no step, and no result hangs on it.
        self.log = self.path / "log.txt"
        self.manifest = Manifest(self.path / _MANIFEST)
        self._file(_MANIFEST, read_json_object, write_json)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def go_on(self) -> str:
        """How its run goes on, for the end of an error's line."""
        return f"go on with: jaxtl run --resume {shlex.quote(str(self.path))}"

    def remedy(self, file: RunFile[Any], state: State) -> str:
        """What to do about a file that is not what the run wrote, for the end of an error's line."""
        if file.remedy:
            return file.remedy
        if state is State.MISSING:
            return self.go_on
        if not self.manifest.knows(file.name):
            return "it is no file of this run: move it away"
        accept = f"jaxtl check {shlex.quote(str(self.path))} --accept"
        return f"{self.go_on.removeprefix('go on with: ')} makes it again, or {accept} takes it as it is"

    @contextlib.contextmanager
    def held(self) -> Iterator[Hold]:
        """The folder for this process alone, from now on; let go of here only where an error ends it.

        Raises JaxtlError where another process works in it.
        """
        hold = Hold(self.path)
        try:
            yield hold
        except BaseException:
            hold.let_go()
            raise

    @contextlib.contextmanager
    def newly_held(self) -> Iterator[Hold]:
        """The same of a folder that is empty, or does not exist yet. Raises JaxtlError of any other."""
        if not self.path.is_dir():
            self.check_new()
        with self.held() as hold:
            self.check_new()
            yield hold

    def check_new(self) -> None:
        """Raises JaxtlError unless the folder is empty, or does not exist yet."""
        if not is_text(str(self.path)):
            raise JaxtlError(f"{readable(self.path)}: its name is not UTF-8; give another folder with --out")
        if self.path.exists() and not self.path.is_dir():
            raise JaxtlError(f"{self.path}: is a file; give a new folder with --out")
        if self.path.is_dir() and {*entries(self.path)} - {*self.leftovers()}:
            check_free(self.path)
            known = holds_run(self.path) or holds_seeds(self.path) or holds_sweep(self.path)
            other = study_goes_on(self.path) if holds_study(self.path) else "it is no run folder"
            hint = self.go_on if known else other
            raise JaxtlError(f"{self.path}: holds files already ({hint}); give a new folder with --out")

    def leftovers(self) -> list[Path]:
        """What processes that were killed left of files that they were writing."""
        return [path for file in self.files for path in leftovers(file.path)]

    def remove_leftovers(self) -> None:
        for file in self.files:
            remove_leftovers(file.path)

    def remove_kept(self) -> None:
        """Let go of what steps keep for others."""
        for file in self.files:
            if file.kept:
                file.remove()

    def digests_of(self, name: str) -> list[str]:
        """The SHA-256 of a file that lies in the folder but is another's; none where it is not there."""
        path = self.path / name
        return [stamp(path).sha256] if path.is_file() else []

    def accept(self, files: Iterable[RunFile[Any]]) -> None:
        """Take files as they stand for what the run wrote."""
        for file in files:
            if self.manifest.knows(file.name):
                file.accept()

    def check_there(self, needed: Iterable[RunFile[Any]]) -> None:
        """Raises JaxtlError where one of these files is missing."""
        for file in needed:
            if not file.is_there:
                raise JaxtlError(f"{self.path}: is not finished ({file.name} is missing); {self.go_on}")

    def mended(self, error: JaxtlError) -> JaxtlError:
        """An error that work on these files met, in whatever process, with how to go on."""
        for file in self.files:
            if str(error).startswith(shown(f"{file.path}:")):
                return file.mended(error)
        return JaxtlError(f"{error}; {self.go_on}")

    def _file(
        self,
        name: str,
        load: Callable[[Path], T],
        save: Callable[[Path, T], None],
        remedy: str | None = None,
        kept: bool = False,
    ) -> RunFile[T]:
        file = RunFile(self, name, load, save, remedy, kept)
        self.files.append(file)
        return file


class RunFolder(Folder):
    """The folder of one run."""

    def __init__(self, path: Pathlike, compares: bool = True) -> None:
        super().__init__(path, compares)
        file = self._file
        remedy = "restore it from a copy, or start a new run with --out"
        self.started = file(_CONFIG, formats.load_started, formats.save_started, remedy)
        # The same file, for who shows a run of whatever version.
        self.settings = RunFile(self, _CONFIG, formats.load_settings, write_json, remedy)
        self.dataset = file("dataset.json", formats.load_dataset, write_json)
        given = "give jaxtl.run the same images again, with this folder as out"
        self.images = file("images.npz", formats.load_images, formats.save_images, given)
        self.environment = file("environment.json", formats.load_environment, write_json)
        self.timings = file("timings.json", formats.load_timings, write_json)
        self.features = {
            stage: file(f"features/{stage}.npz", Features.load, _save_record) for stage in STAGES
        }
        self.training_features = {
            stage: file(f"features/train_{stage}.npz", Features.load, _save_record) for stage in STAGES
        }
        self.neighbors = {
            stage: file(f"neighbors/{stage}.npz", Neighbors.load, _save_record) for stage in STAGES
        }
        self.embeddings = {
            (stage, method): file(f"embeddings/{stage}_{method}.npz", Embedding.load, _save_record)
            for stage, method in product(STAGES, METHODS)
        }
        # What a method makes after where it does not begin with the embedding before, by method.
        self.free_embeddings = {
            method: file(f"embeddings/after_{method}_free.npz", Embedding.load, _save_record)
            for method in METHODS
        }
        self.model = file("model.safetensors", formats.load_weights, formats.save_weights)
        self.history = file("history.csv", load_history, save_history)
        self.scores = file("scores.csv", formats.load_scores, save_scores)
        self.class_scores = file("classes.csv", load_class_scores, save_class_scores)
        self.image_rows = file("images.csv", load_images, save_images)
        self.claims = file("claims.json", formats.load_claims, formats.save_claims)
        self.measures = file("measures.npz", formats.load_measures, formats.save_measures)
        self.layers = file("layers.csv", formats.load_layers, save_layers)
        self.figures = {
            name: tuple(
                file(f"figures/{name}.{suffix}", Path.read_bytes, _save_figure) for suffix in SUFFIXES
            )
            for name in FIGURES
        }
        self.report = file("report.html", Path.read_text, write_text)
        self.checkpoint = file("checkpoint.npz", formats.load_checkpoint, _save_record, kept=True)
        self.averages = {
            stage: file(f"averages_{stage}.npz", formats.load_averages, formats.save_averages, kept=True)
            for stage in STAGES
        }
        self.layers_before = file("layers_before.csv", load_layers, save_layers, kept=True)
        self.stage_scores = {
            (stage, part): file(f"scores_{part}_{stage}.npz", StageMeasures.load, _save_record, kept=True)
            for stage, part in product(STAGES, PARTS)
        }
        # A map of the features before with another seed: what it keeps of the first is chance's part.
        self.reseeded = file("reseeded_tsne.npz", Embedding.load, _save_record, kept=True)
        self.change_scores = file("scores_change.npz", StageMeasures.load, _save_record, kept=True)

    @property
    def go_on(self) -> str:
        # One of several seeds goes on with the others.
        whole = self.path.parent
        return SeedsFolder(whole).go_on if holds_seeds(whole) else super().go_on

    def check(self) -> None:
        """Raises JaxtlError where this is not the folder of a run."""
        if not self.started.is_there:
            check_folder(self.path)
            if holds_sweep(self.path):
                raise JaxtlError(
                    f"{self.path}: is a sweep, of many runs; {SweepFolder(self.path).go_on}, or give one of "
                    f"{SweepFolder(self.path).all_runs}"
                )
            raise JaxtlError(
                f"{self.path}: no run folder (it has no {_CONFIG}); start one with --out {self.path}, or "
                "give one that jaxtl run made"
            )
        if holds_study(self.path):
            raise JaxtlError(f"{self.path}: is a scaling study, no run; {study_goes_on(self.path)}")


class SeedsFolder(Folder):
    """The folder of runs that differ in their seed alone, each in a folder of its own within it."""

    def __init__(self, path: Pathlike) -> None:
        super().__init__(path)
        older = (self.path / _SEEDS_BEFORE).is_file() and not (self.path / _SEEDS).is_file()
        name = _SEEDS_BEFORE if older else _SEEDS
        remedy = "restore it from a copy, or start again with --out"
        self.seeds = self._file(name, formats.load_seeds, formats.save_seeds, remedy)
        self.scores = self._file("scores.csv", formats.load_scores, save_scores)
        self.claims = self._file("claims.json", formats.load_claims, formats.save_claims)
        self.report = self._file("report.html", Path.read_text, write_text)
        self.summary = self._file("summary.md", Path.read_text, write_text)

    def run_of(self, seed: int) -> RunFolder:
        return RunFolder(self.path / f"seed-{seed}")

    def runs(self) -> list[RunFolder]:
        """Those that are there."""
        return [RunFolder(path) for path in sorted(self.path.glob("seed-*/"))]


class SweepFolder(Folder):
    """The folder of a sweep: what it was asked for and found; the runs of each combination lie within it."""

    def __init__(self, path: Pathlike) -> None:
        super().__init__(path)
        remedy = "restore it from a copy, or start again with --out"
        self.asked = self._file(_SWEEP, formats.load_sweep, formats.save_sweep, remedy)
        self.rows = self._file("combinations.json", formats.load_rows, write_json)
        self.table = self._file("combinations.csv", Path.read_text, write_text)
        self.figures = tuple(
            self._file(f"figures/sweep.{suffix}", Path.read_bytes, _save_figure) for suffix in SUFFIXES
        )
        self.report = self._file("report.html", Path.read_text, write_text)
        # Its runs, and what these share while they are made.
        self.all_runs, self.shared = self.path / "runs", self.path / "shared"

    def check(self) -> None:
        """Raises JaxtlError where this is not the folder of a sweep."""
        if not self.asked.is_there:
            raise JaxtlError(f"{self.path}: no sweep (it has no {_SWEEP}); start one with --out {self.path}")

    @property
    def go_on(self) -> str:
        return f"go on with: jaxtl sweep --resume {shlex.quote(str(self.path))}"

    def run_of(self, name: str) -> RunFolder:
        """Of a combination; of several seeds it holds one for each."""
        return RunFolder(self.all_runs / name)

    @property
    def runs(self) -> list[RunFolder]:
        """Those that are begun; of several seeds their folder."""
        return [RunFolder(path) for path in sorted(self.all_runs.glob("*/"))]

    def predictions_of(self, name: str) -> RunFile[Predictions]:
        """The classes that a combination's networks name all test images by."""
        return self._file(f"predictions/{name}.npz", formats.load_predictions, formats.save_predictions)

    def shared_of(self, group: str, seed: int | None = None) -> RunFolder:
        """What combinations of a group share: of one seed, or of all."""
        return RunFolder(self.shared / group / ("stem" if seed is None else f"before-{seed}"))


def holds_run(path: Pathlike) -> bool:
    return (Path(path) / _CONFIG).is_file() and not holds_study(path)


def holds_study(path: Pathlike) -> bool:
    """Whether a folder is that of a scaling study, whose settings have a run's name."""
    try:
        return "asked" in read_json_object(Path(path) / _CONFIG)
    except (JaxtlError, OSError):
        return False


def study_goes_on(path: Pathlike) -> str:
    return f"go on with: jaxtl scale --out {shlex.quote(str(path))}"


def holds_seeds(path: Pathlike) -> bool:
    """Whether a folder is that of several seeds."""
    return any((Path(path) / name).is_file() for name in (_SEEDS, _SEEDS_BEFORE))


def holds_sweep(path: Pathlike) -> bool:
    return (Path(path) / _SWEEP).is_file()


def run_folders(path: Pathlike) -> list[RunFolder]:
    """The runs of several seeds; of anything else, itself."""
    if not holds_seeds(path):
        return [RunFolder(path)]
    several = SeedsFolder(path)
    return [several.run_of(seed) for seed in several.seeds.read()]


class _Record(Protocol):
    def save(self, path: Path) -> None: ...


def _save_record(path: Path, record: _Record) -> None:
    record.save(path)


def _save_figure(path: Path, figure: Any) -> None:
    from jaxtl.plots.style import save

    save(figure, path)
