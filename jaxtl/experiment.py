"""The before/after experiment: stages that read files and write files, so that a stopped run goes on.

Each stage's outputs appear whole or not at all, and a stage whose outputs are there is not done again.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from jaxtl import costs, cuda, depth
from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.extraction import Progress, extract_layers, features_of
from jaxtl.files import read_json_object, remove_leftovers, write_json, write_npz
from jaxtl.finetuning import Checkpoint, train_tail
from jaxtl.mapping import Job, Mapper, Means
from jaxtl.metrics import check_knn
from jaxtl.metrics.separability import KNN_CANDIDATES
from jaxtl.models.mobilenet_v2 import MobileNetV2
from jaxtl.models.weights import arrays_of, imagenet_path, load_arrays, load_model, save_weights
from jaxtl.neighbors import exact_neighbors
from jaxtl.records import (
    HISTORY_COLUMNS,
    Dataset,
    Embedding,
    Features,
    Neighbors,
    Score,
    load_history,
    load_scores,
    save_class_scores,
    save_history,
    save_scores,
)
from jaxtl.reduction.cuml import check_most_neighbors
from jaxtl.reduction.lle import check_neighbors
from jaxtl.reduction.tsne import check_perplexity
from jaxtl.runfolder import (
    CONFIG,
    STAGES,
    SUFFIXES,
    figure_names,
    read_config,
    save_figures,
    write_config,
    write_report,
)
from jaxtl.runtime import configure, environment, peak_memory
from jaxtl.scoring import measure
from jaxtl.settings import RunConfig
from jaxtl.trunk import Source, Trunk, trainable_boundary

# Training images against which test images are classified, the first ones: their features are kept, too.
REFERENCES = 10_000

# The first stage that a setting bears on, for the message when a resumed run is given another value.
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


class Report(Protocol):
    """Who is told how a run gets on."""

    def stage(self, title: str) -> AbstractContextManager[Progress]:
        """Entered while a stage works; takes fractions done."""

    def note(self, text: str) -> None:
        """One line worth knowing."""


class Silent:
    """A Report that tells nobody."""

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[Progress]:
        yield lambda fraction: None

    def note(self, text: str) -> None:
        pass


def start(
    config: RunConfig,
    folder: Path,
    report: Report | None = None,
    means: Means = Means(),
    *,
    check_memory: bool = True,
) -> Experiment:
    """A new experiment in a folder that is empty or does not exist yet.

    `check_memory`: whether maps that would not fit into memory are refused, too.

    Raises JaxtlError where the folder holds files, or a setting cannot work on the data or this machine.
    """
    remove_leftovers(folder / CONFIG)
    if folder.is_dir() and any(folder.iterdir()):
        hint = f"go on with --resume {folder}" if (folder / CONFIG).is_file() else "it is no run folder"
        raise JaxtlError(f"{folder}: holds files already ({hint}); give a new folder with --out")
    if folder.exists() and not folder.is_dir():
        raise JaxtlError(f"{folder}: is a file; give a new folder with --out")
    experiment = Experiment(config, folder, report or Silent(), means)
    experiment.check()
    if check_memory:
        experiment.check_memory()
    write_config(folder, config, experiment.weights_digest)
    return experiment


def resume(
    folder: Path,
    given: dict[str, Any] | None = None,
    report: Report | None = None,
    means: Means = Means(),
    *,
    check_memory: bool = True,
) -> Experiment:
    """An experiment that goes on where its folder was left.

    Args:
        given: settings that the caller insists on.
        check_memory: whether maps that would not fit into memory are refused, too.

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
    experiment = Experiment(config, folder, report or Silent(), means)
    if check_memory:
        experiment.check_memory(resumed=True)
    if experiment.weights_digest != weights_digest:
        raise JaxtlError(
            f"{config.weights or imagenet_path()}: not the weights that {folder} was started with; "
            "restore that file"
        )
    for name in (CONFIG, "timings.json", "checkpoint.npz", *chain(*experiment.outputs.values())):
        remove_leftovers(folder / name)
    return experiment


class Experiment:
    """One run folder and the work still to be done in it."""

    def __init__(self, config: RunConfig, folder: Path, report: Report, means: Means) -> None:
        configure(deterministic=config.deterministic)
        self.config, self.folder, self.report, self.means = config, folder, report, means
        self._shared = False
        # A stage that is done again, and those whose results hang on its.
        self._again: tuple[str, ...] = ()
        timings = folder / "timings.json"
        self.timings: dict[str, Any] = read_json_object(timings) if timings.is_file() else {}

    def sharing(self, other: Experiment | None) -> Experiment:
        """This one, to be run after another that differs in its seed alone, with what is the same in both."""
        self._shared = True
        if other is not None:
            names = ["model", "train", "test", "trunk", "_train_source", "_reference_source"]
            # A resumed run may have taken no more of the test images than it needed.
            leaves = jax.tree.leaves(other.__dict__.get("_test_source"))
            if leaves and len(leaves[0]) == len(other.test):
                names.append("_test_source")
            self.__dict__.update({name: other.__dict__[name] for name in names if name in other.__dict__})
        return self

    @property
    def outputs(self) -> dict[str, list[str]]:
        """The files of each stage, relative to the run folder."""
        maps = {
            f"{method}_{stage}": [f"embeddings/{stage}_{method}.npz"]
            for stage in STAGES
            for method in self.config.methods
        }
        return {
            "environment": ["environment.json"],
            "before": ["features/before.npz"],
            "references_before": ["features/train_before.npz"],
            "finetune": ["history.csv", "model.safetensors"],
            "after": ["features/after.npz"],
            "references_after": ["features/train_after.npz"],
            **{f"neighbors_{stage}": [f"neighbors/{stage}.npz"] for stage in STAGES},
            **maps,
            **({"layers": ["layers.csv"]} if self.config.layers else {}),
            "scores": ["scores.csv", "classes.csv", "claims.json", "measures.npz"],
            "figures": [
                f"figures/{name}.{suffix}" for name in figure_names(self.config) for suffix in SUFFIXES
            ],
            "report": ["report.html"],
        }

    def run(self) -> list[Score]:
        """Do what is left to do. Returns the scores."""
        with contextlib.closing(self.maps):
            return self._run()

    def _run(self) -> list[Score]:
        self.maps.get_ready(self.unmapped)
        if expected := self._expected():
            self.report.note(expected)
        if self._pending("environment"):
            write_json(self.folder / "environment.json", environment())
        self._do("before", "Features before", self._extract_before, "_test_source")
        title_of = "Features of training images {}"
        self._do("references_before", title_of.format("before"), self._refer_before, "_reference_source")
        title = f"Fine-tuning, {self.config.epochs} epochs"
        self._do("finetune", title, self._finetune, "_test_source", "_train_source")
        if not self._shared:
            self.__dict__.pop("_train_source", None)  # by far the largest array: free it
        self._checkpoint_path.unlink(missing_ok=True)
        self._do("after", "Features after", self._extract_after, "_test_source")
        self._do("references_after", title_of.format("after"), self._refer_after, "_reference_source")
        for stage in STAGES:
            self._do(f"neighbors_{stage}", f"Nearest neighbours {stage}", partial(self._find, stage))
        for method in self.config.methods:
            self._map(method)
        if self.config.layers:
            self._do("layers", "Depth profile", self._profile)
        self._do("scores", "Numbers and claims", self._score)
        self._do("figures", "Figures", self._draw)
        self._do("report", "Report", self._write_report)
        return self.scores()

    def redo(self, *stages: str) -> list[Score]:
        """Do stages of a finished run again, and nothing else. Raises JaxtlError where it is not finished.

        What the first of them made before stays until there is better; then the others, which show it, go.
        """
        unfinished = [stage for stage in self.outputs if self._pending(stage) and stage not in stages]
        if unfinished:
            raise JaxtlError(
                f"{self.folder}: is not finished ({unfinished[0]} is missing); go on with: jaxtl run "
                f"--resume {shlex.quote(str(self.folder))}"
            )
        self._again = stages
        return self.run()

    def check(self) -> None:
        """Refuse before any work what would fail after much of it. Raises JaxtlError."""
        trainable_boundary(self.model.config, self.config.trainable)
        _ = self.maps, self.train
        n = len(self.sample)
        check_knn(self.sample.labels[:, None], self.sample.labels)
        if "tsne" in self.config.methods:
            check_perplexity(n, self.config.perplexity)
            if self.maps.choices["tsne"].name == "cuml":
                check_most_neighbors(self.config.perplexity)
        if "lle" in self.config.methods:
            check_neighbors(n, self.config.n_neighbors)

    def check_memory(self, left: Mapping[str, int] | None = None, resumed: bool = False) -> None:
        """Refuse maps that would not fit: those still to be made, or so many by each method."""
        left = self.unmapped if left is None else left
        self.maps.check_memory(left, self.report.note, resumed)

    def scores(self) -> list[Score]:
        return load_scores(self.folder / "scores.csv")

    # What stages share, loaded when the first one needs it.

    @cached_property
    def model(self) -> MobileNetV2:
        return load_model(self.config.weights)

    @property
    def _tuned(self) -> MobileNetV2:
        return load_model(self.folder / "model.safetensors")

    @cached_property
    def weights_digest(self) -> str:
        return load_arrays(self.config.weights or imagenet_path())[2]["tensor_digest"]

    @cached_property
    def train(self) -> Dataset:
        return _first(self._load("train"), self.config.train_samples)

    @cached_property
    def test(self) -> Dataset:
        return self._load("test")

    @cached_property
    def sample(self) -> Dataset:
        return _first(self.test, self.config.samples)

    @cached_property
    def maps(self) -> Mapper:
        return Mapper(self.config.methods, self.means, len(self.sample))

    @cached_property
    def trunk(self) -> Trunk:
        boundary = trainable_boundary(self.model.config, self.config.trainable)
        return Trunk(self.model, boundary, self.config.images, self.config.precision)

    @cached_property
    def _keep(self) -> bool:
        return self.trunk.keeps(len(self.train) + len(self.test))

    @cached_property
    def _test_source(self) -> Source:
        # An image's output is the same however many there are: a resumed run takes no more than it needs.
        images = self.test.images if self._pending("finetune") else self.sample.images
        return self._trunk_outputs(images, "test")

    @cached_property
    def _train_source(self) -> Source:
        return self._trunk_outputs(self.train.images, "training")

    @cached_property
    def _reference_source(self) -> Source:
        count = min(REFERENCES, len(self.train))
        if self._pending("finetune"):
            # A copy, so that what fine-tuning needs can go after it.
            return jax.tree.map(lambda a: a[:count].copy(), self._train_source)
        return self._trunk_outputs(self.train.images[:count], "training")

    def _trunk_outputs(self, images: np.ndarray, what: str) -> Source:
        if not self._keep:
            return self.trunk.source(images, False)
        with self._timed(f"trunk_{what}", f"Frozen layers, {len(images):,} {what} images") as progress:
            return self.trunk.source(images, True, progress, self.report.note)

    # The stages.

    def _extract_before(self, progress: Progress) -> None:
        self._save_features("before", self.model, self.sample, self._test_source, progress)

    def _extract_after(self, progress: Progress) -> None:
        self._save_features("after", self._tuned, self.sample, self._test_source, progress)

    def _refer_before(self, progress: Progress) -> None:
        self._save_features("train_before", self.model, self.train, self._reference_source, progress)

    def _refer_after(self, progress: Progress) -> None:
        self._save_features("train_after", self._tuned, self.train, self._reference_source, progress)

    def _save_features(
        self, name: str, model: MobileNetV2, data: Dataset, source: Source, progress: Progress
    ) -> None:
        data = data.take(min(len(data), len(jax.tree.leaves(source)[0])))
        source = jax.tree.map(lambda a: a[: len(data)], source)
        values = self.trunk.then(model, model.config.pooled, source, progress, self.report.note)
        features = features_of(model, data, self.config.images, values, self.config.precision)
        features.save(self._features_path(name))

    def _find(self, stage: str, progress: Progress) -> None:
        # As many as any map or number needs, so that they are found once.
        wanted = [KNN_CANDIDATES, self.config.n_neighbors, int(3 * self.config.perplexity)]
        values = Features.load(self._features_path(stage)).values
        found = exact_neighbors(values, min(max(wanted), len(values) - 1))
        found.save(self._neighbors_path(stage))

    def _finetune(self, progress: Progress) -> None:
        model, history = train_tail(
            self.trunk,
            self.train,
            self._train_source,
            self.test,
            self._test_source,
            self.config.finetuning,
            start=Checkpoint.load(self._checkpoint_path) if self._checkpoint_path.is_file() else None,
            on_epoch=lambda checkpoint: checkpoint.save(self._checkpoint_path),
            progress=progress,
            notice=self.report.note,
        )
        save_history(self.folder / "history.csv", history)
        provenance = {"made_by": "jaxtl run", "started_from": self.weights_digest, "dataset": self.train.name}
        save_weights(self.folder / "model.safetensors", model.config, arrays_of(model), provenance)

    @property
    def unmapped(self) -> dict[str, int]:
        """How many maps are still to be made, by each method that has some."""
        left = {method: len(self._unmapped(method)) for method in self.config.methods}
        return {method: count for method, count in left.items() if count}

    def _expected(self) -> str:
        """What the main stages that are left will take, one line; nothing where nothing is left or known."""
        known, config = costs.reference(), self.config
        network: list[tuple[str, float | None]] = []
        # The costs are a CPU's.
        if self._pending("finetune") and cuda.jax_gpu_fault():
            images, taught = len(self.train) + len(self.test), config.epochs * len(self.train)
            taken = costs.network_seconds(known, images, taught, config.image_size, config.trainable)
            network = list(zip(("features", "fine-tuning"), taken, strict=True))
        stages = costs.spoken([*network, *self.maps.expected(self.unmapped, known)])
        return stages and f"Expect about: {stages} (as on {known.machine})"

    def _unmapped(self, method: str) -> list[str]:
        return [stage for stage in STAGES if self._pending(f"{method}_{stage}")]

    def _map(self, method: str) -> None:
        """Maps of what is left of both stages, side by side where that is quicker."""
        for stage in STAGES:
            if stage not in self._unmapped(method):
                self.report.note(f"{self.maps.title(method, [stage])}: done already")
        groups = [[stage] for stage in self._unmapped(method)]
        if self.maps.together(method):
            groups = [list(chain(*groups))] if groups else []
        for stages in groups:
            jobs = [self._job(method, stage) for stage in stages]
            title = self.maps.title(method, stages)
            with self._timed("_".join([method, *stages]), title) as progress:
                self._make(jobs, progress)

    def _make(self, jobs: list[Job], progress: Progress) -> None:
        try:
            self.maps.make(jobs, progress, self.report.note)
        except JaxtlError as error:
            go_on = f"go on with: jaxtl run --resume {shlex.quote(str(self.folder))}"
            raise JaxtlError(f"{error}; {go_on}") from None

    def _job(self, method: str, stage: str) -> Job:
        return Job(
            method, stage, self._features_path(stage), self._neighbors_path(stage),
            self._embedding_path(stage, method), self.config.reduction(method),
        )  # fmt: skip

    def _profile(self, progress: Progress) -> None:
        sample = self.sample.take(min(len(self.sample), depth.SAMPLES))
        models = (self.model, self._tuned)
        outputs = [
            extract_layers(
                model, sample, model.config.block_ends, self.config.images, precision=self.config.precision,
                notice=self.report.note,
            )
            for model in models
        ]  # fmt: skip
        rows = depth.profile(*outputs, sample.labels, seed=self.config.seed, progress=progress)
        depth.save(self.folder / "layers.csv", rows)

    def _score(self, progress: Progress) -> None:
        features = {stage: Features.load(self._features_path(stage)) for stage in STAGES}
        neighbors = {stage: Neighbors.load(self._neighbors_path(stage)) for stage in STAGES}
        references = {stage: Features.load(self._features_path(f"train_{stage}")) for stage in STAGES}
        for kind, some in (("", features), ("train_", references)):
            for stage, each in some.items():
                self._check_finite(self._features_path(kind + stage), each)
        maps = {
            stage: {method: self._embedding(stage, method) for method in self.config.methods}
            for stage in STAGES
        }
        arrays = load_arrays(self.folder / "model.safetensors")[1]
        head = arrays["predictions/kernel"], arrays["predictions/bias"]
        found = measure(
            features, maps, neighbors, references, head,
            seed=self.config.seed, progress=progress, notice=self.report.note,
        )  # fmt: skip
        scores = list(found.scores)
        for row in load_history(self.folder / "history.csv"):
            epoch = f"epoch {row['epoch']:.0f}"
            scores += [Score(epoch, "model", name, row[name]) for name in HISTORY_COLUMNS[1:]]
        # Last to come, and first to go: with it the stage is done.
        (self.folder / "scores.csv").unlink(missing_ok=True)
        save_class_scores(self.folder / "classes.csv", found.class_scores)
        write_json(self.folder / "claims.json", {"claims": [each.as_dict() for each in found.verdicts]})
        write_npz(self.folder / "measures.npz", found.arrays, {})
        save_scores(self.folder / "scores.csv", scores)

    def _check_finite(self, path: Path, features: Features) -> None:
        wrong = np.flatnonzero(~np.isfinite(features.values).all(axis=1))
        if len(wrong):
            raise JaxtlError(
                f"{path}: NaN or infinite features in {len(wrong)} of {len(features.values)} rows, the first "
                f"in row {wrong[0]}; delete it and go on with: jaxtl run --resume "
                f"{shlex.quote(str(self.folder))}"
            )

    def _write_report(self, progress: Progress) -> None:
        write_report([self.folder], self.folder / "report.html")

    def _draw(self, progress: Progress) -> None:
        save_figures(self.folder, self.folder / "figures", progress)

    # How stages are done.

    def _do(self, name: str, title: str, work: Callable[[Progress], None], *needs: str) -> None:
        if not self._pending(name):
            self.report.note(f"{title}: done already")
            return
        for need in needs:
            getattr(self, need)  # computed under a title of its own
        with self._timed(name, title) as progress:
            work(progress)
        if name in self._again[:1]:
            for output in chain(*(self.outputs[stage] for stage in self._again[1:])):
                (self.folder / output).unlink(missing_ok=True)
            self._again = ()

    @contextlib.contextmanager
    def _timed(self, name: str, title: str) -> Iterator[Progress]:
        began = time.perf_counter()
        with self.report.stage(title) as progress:
            yield progress
        self.timings[name] = round(time.perf_counter() - began, 3)
        peak = max(peak_memory() / 2**30, self.timings.get("peak_memory_gib", 0.0))
        self.timings["peak_memory_gib"] = round(peak, 2)
        write_json(self.folder / "timings.json", self.timings)

    def _pending(self, stage: str) -> bool:
        return stage in self._again[:1] or not all(
            (self.folder / output).is_file() for output in self.outputs[stage]
        )

    def _load(self, split: str) -> Dataset:
        return load(self.config.dataset, split, image_size=self.config.image_size)

    @property
    def _checkpoint_path(self) -> Path:
        return self.folder / "checkpoint.npz"

    def _features_path(self, stage: str) -> Path:
        return self.folder / "features" / f"{stage}.npz"

    def _neighbors_path(self, stage: str) -> Path:
        return self.folder / "neighbors" / f"{stage}.npz"

    def _embedding_path(self, stage: str, method: str) -> Path:
        return self.folder / "embeddings" / f"{stage}_{method}.npz"

    def _embedding(self, stage: str, method: str) -> Embedding:
        return Embedding.load(self._embedding_path(stage, method))


def _first(dataset: Dataset, n: int | None) -> Dataset:
    return dataset if n is None else dataset.take(n)
