"""The table of a run's steps: what each makes, what it needs, and how."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jaxtl.evaluation import depth
from jaxtl.experiment import numbers
from jaxtl.experiment.embeddings import Embedder, Job
from jaxtl.experiment.schedule import Step
from jaxtl.experiment.shared import TRAINING_FEATURES, Shared
from jaxtl.machine.child import Pool
from jaxtl.machine.devices import environment
from jaxtl.machine.engines import default_engine
from jaxtl.metrics.separability import KNN_CANDIDATES
from jaxtl.models.mobilenet_v2 import MobileNetV2
from jaxtl.models.weights import arrays_of, load_model, save_weights
from jaxtl.neighbors import exact_neighbors
from jaxtl.network import finetuning
from jaxtl.network.extraction import features_of
from jaxtl.network.finetuning import Checkpoint, train_tails
from jaxtl.progress import Notify, Progress
from jaxtl.records.arrays import (
    Dataset,
    Embedding,
    Features,
    save_history,
)
from jaxtl.records.files import write_json
from jaxtl.runs.drawing import Drawer
from jaxtl.runs.folder import FIGURES, STAGES, figure_files, figure_names, write_report
from jaxtl.settings import RunConfig

# Steps that compute with the network: one at a time, as they share the device.
_NETWORK = "network"


class Work:
    """What the steps of one run do. Each reads and writes files of the run folder.

    Args:
        pending: whether a step of this name, one with outputs, is still to be done.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        shared: Shared,
        maps: Embedder,
        drawer: Drawer,
        elsewhere: Pool,
        notify: Notify,
    ) -> None:
        self.config, self.folder, self.shared = config, folder, shared
        self.maps, self.drawer, self.elsewhere, self.notify = maps, drawer, elsewhere, notify
        # The same of runs with other seeds, whose networks are trained together with this one's.
        self.beside: list[Work] = []

    def table(self) -> Iterator[Step]:
        """All steps, in the order of one core."""
        maps = {stage: tuple(f"{method}_{stage}" for method in self.config.methods) for stage in STAGES}
        yield Step("environment", "Environment", self._environment, ("environment.json",))
        yield self._network("trunk_test", "Frozen layers, test images", self._trunk_test)
        yield self._features("before", ("trunk_test",))
        yield self._network("trunk_training", "Frozen layers, training images", self._trunk_training)
        yield self._training_features("before", ("trunk_training",))
        yield self._network(
            "finetune", f"Fine-tuning, {_counted(self.config.epochs, 'epoch')}", self._finetune,
            ("history.csv", "model.safetensors"), ("trunk_test", "trunk_training"),
        )  # fmt: skip
        yield from self._stage("before", maps["before"])
        if self.config.layers:
            needs = ("trunk_test", "before")
            yield Step("layers_before", "Depth profile before", self._profile_before, (), needs)
        yield self._features("after", ("trunk_test", "finetune"))
        # Nothing waits for the last ones but the end: what the maps wait for comes first.
        yield from self._stage("after", maps["after"])
        if self.config.layers:
            needs = ("layers_before", "finetune", "after")
            yield Step("layers", "Depth profile", self._profile, ("layers.csv",), needs)
        needs = (*STAGES, "finetune")
        yield Step("numbers_change", "Numbers of the change", self._compare, (), needs)
        parts = tuple(f"numbers_{part}_{stage}" for stage in STAGES for part in numbers.PARTS)
        outputs = ("scores.csv", "classes.csv", "claims.json", "measures.npz")
        yield Step("scores", "Claims", self._score, outputs, (*parts, "numbers_change"))
        yield from self._figures(maps)
        shown = ("scores", "layers") if self.config.layers else ("scores",)
        yield Step("report", "Report", self._write_report, ("report.html",), shown)

    def _stage(self, stage: str, maps: tuple[str, ...]) -> Iterator[Step]:
        """What is made of one stage's features."""
        neighbors = f"neighbors_{stage}"
        yield Step(
            neighbors, f"Nearest neighbours {stage}", partial(self._find, stage),
            (f"neighbors/{stage}.npz",), (stage,),
        )  # fmt: skip
        for method, name in zip(self.config.methods, maps, strict=True):
            target = f"embeddings/{stage}_{method}.npz"
            title = self.maps.title(method, stage)
            work, needs = partial(self._map, method, stage), (stage, neighbors)
            yield Step(name, title, work, (target,), needs, self.maps.lane(method))
        if stage == "after":
            yield self._training_features(stage, ("trunk_training", "finetune"))
        name, needs = f"numbers_features_{stage}", (stage, f"training_features_{stage}", neighbors)
        yield Step(name, f"Numbers of features {stage}", partial(self._measure, stage, "features"), (), needs)
        name, needs = f"numbers_maps_{stage}", (stage, *maps)
        yield Step(name, f"Numbers of maps {stage}", partial(self._measure, stage, "maps"), (), needs)

    def _figures(self, maps: dict[str, tuple[str, ...]]) -> Iterator[Step]:
        needs = {"history": ("finetune",), "layers": ("layers",)}
        needs |= {stage: ("scores", *maps[stage]) for stage in STAGES}
        needs["comparison"] = ("scores", *maps["before"], *maps["after"])
        for name, step in zip(figure_names(self.config), figure_steps(self.config), strict=True):
            files = tuple(f"{FIGURES}/{file}" for file in figure_files(name))
            yield Step(step, f"Figure {name}", partial(self.drawer.draw, name), files, needs[name])

    def _network(
        self,
        name: str,
        title: str,
        work: Callable[[Progress], None],
        outputs: tuple[str, ...] = (),
        needs: tuple[str, ...] = (),
    ) -> Step:
        return Step(name, title, work, outputs, needs, _NETWORK)

    def _features(self, stage: str, needs: tuple[str, ...]) -> Step:
        work = partial(self._extract, stage)
        return self._network(stage, f"Features {stage}", work, (f"features/{stage}.npz",), needs)

    def _training_features(self, stage: str, needs: tuple[str, ...]) -> Step:
        title, outputs = f"Features of training images {stage}", (f"features/train_{stage}.npz",)
        work = partial(self._extract_training, stage)
        return self._network(f"training_features_{stage}", title, work, outputs, needs)

    def compile_ahead(self, left: Collection[str]) -> None:
        """Trace the network's programs, which follow from the settings, and have them compiled in threads.

        Args:
            left: names of the steps that are still to be done.
        """
        shared, trunk, model = self.shared, self.shared.trunk, self.shared.model
        keep, shape = shared.keeps_outputs, shared.test.images.shape[1:]
        counts = [len(shared.train), len(shared.test)]
        if keep and "trunk_test" in left:
            trunk.prepare(shape, counts)
        if {"before", "after"} & set(left):
            trunk.prepare_then(model, model.config.pooled, shape, keep)
        if "finetune" in left:
            classes, seeds = len(shared.train.class_names), 1 + len(self.beside)
            finetuning.prepare(trunk, classes, counts[0], self.config.finetuning, shape, keep, seeds)
        if "layers" in left:
            trunk.prepare_averages(shape, keep)

    # The network.

    def _environment(self, progress: Progress) -> None:
        write_json(self.folder / "environment.json", environment())

    def _trunk_test(self, progress: Progress) -> None:
        # An image's output is the same however many there are: a resumed run takes no more than it needs.
        count = len(self.shared.test if self.learns else self.shared.sample)
        self.shared.source("test", count, progress, self.notify)

    def _trunk_training(self, progress: Progress) -> None:
        count = len(self.shared.train) if self.learns else self._training_count
        self.shared.source("train", count, progress, self.notify)

    @property
    def _training_count(self) -> int:
        return min(TRAINING_FEATURES, len(self.shared.train))

    def _extract(self, stage: str, progress: Progress) -> None:
        sample = self.shared.sample
        self._save_features(stage, stage, sample, "test", progress)

    def _extract_training(self, stage: str, progress: Progress) -> None:
        some = self.shared.train.take(self._training_count)
        self._save_features(f"train_{stage}", stage, some, "train", progress)

    def _save_features(self, name: str, stage: str, data: Dataset, split: str, progress: Progress) -> None:
        model, source = self._model(stage), self.shared.first(split, len(data))
        values = self.shared.trunk.then(model, model.config.pooled, source, progress, self.notify)
        features = features_of(model, data, self.config.images, values, self.config.precision)
        features.save(self._features_path(name))

    def _model(self, stage: str) -> MobileNetV2:
        return self.shared.model if stage == "before" else load_model(self.folder / "model.safetensors")

    def _finetune(self, progress: Progress) -> None:
        train, test = self.shared.train, self.shared.test
        works = [work for work in (self, *self.beside) if work.learns]
        if len(works) > 1:
            self.notify(f"{len(works)} seeds train together")
        trained = train_tails(
            self.shared.trunk,
            train,
            self.shared.source("train", len(train)),
            test,
            self.shared.source("test", len(test)),
            [work.config.finetuning for work in works],
            starts=[work.checkpoint for work in works],
            on_epoch=lambda k, checkpoint: checkpoint.save(works[k].checkpoint_path),
            progress=progress,
            notify=self.notify,
        )
        for work, (model, history) in zip(works, trained, strict=True):
            work.save_tuned(model, history)
        self.shared.release_training()

    @property
    def learns(self) -> bool:
        """Whether fine-tuning is still to be done."""
        return not all((self.folder / name).is_file() for name in ("model.safetensors", "history.csv"))

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / "checkpoint.npz"

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where fine-tuning was stopped, if it was."""
        return Checkpoint.load(self.checkpoint_path) if self.checkpoint_path.is_file() else None

    def save_tuned(self, model: MobileNetV2, history: list[dict[str, float]]) -> None:
        """Write what fine-tuning gave; its checkpoint goes."""
        save_history(self.folder / "history.csv", history)
        provenance = {
            "made_by": "jaxtl run",
            "started_from": self.shared.weights_digest,
            "dataset": self.shared.train.name,
        }
        save_weights(self.folder / "model.safetensors", model.config, arrays_of(model), provenance)
        self.checkpoint_path.unlink(missing_ok=True)

    # One stage's features.

    def _find(self, stage: str, progress: Progress) -> None:
        # As many as any map or number needs, so that they are found once.
        wanted = [KNN_CANDIDATES, self.config.n_neighbors, int(3 * self.config.perplexity)]
        values = Features.load(self._features_path(stage)).values
        found = exact_neighbors(values, min(max(wanted), len(values) - 1))
        found.save(self._neighbors_path(stage))

    def _map(self, method: str, stage: str, progress: Progress) -> None:
        job = Job(
            method, stage, self._features_path(stage), self._neighbors_path(stage),
            self._embedding_path(stage, method), self.config.reduction(method),
        )  # fmt: skip
        self.maps.make(job, progress, self.notify)

    def _profile_before(self, progress: Progress) -> None:
        if not numbers.has_averages(self.folder, "before"):
            self._keep_averages("before")
        self._call(numbers.profile_before, {}, progress)

    def _profile(self, progress: Progress) -> None:
        self._keep_averages("after")
        self._call(numbers.profile, {}, progress)

    def _keep_averages(self, stage: str) -> None:
        trunk, blocks = self.shared.trunk, self.shared.blocks
        averages = trunk.averages(self._model(stage), blocks, self.notify)
        if stage == "after":
            averages = {name: each for name, each in averages.items() if name not in blocks.averages}
        numbers.keep_averages(self.folder, stage, averages, self.shared.sample.labels[: depth.SAMPLES])

    # Numbers, and what shows them.

    def _measure(self, stage: str, part: str, progress: Progress) -> None:
        given = {"stage": stage, "part": part, "methods": list(self.config.methods)}
        self._tell_all(self._call(numbers.measure, given, progress))

    def _compare(self, progress: Progress) -> None:
        self._tell_all(self._call(numbers.compare, {}, progress))

    def _score(self, progress: Progress) -> None:
        numbers.score(self.folder)

    def _tell_all(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.notify(line)

    def _call(self, function: Callable[..., Any], given: dict[str, Any], progress: Progress) -> Any:
        """A function of `jaxtl.experiment.numbers`, in a process of its own where JAX computes on a GPU.

        There threads of this process would keep the one that feeds the device waiting for Python's lock.
        """
        arguments = {"folder": str(self.folder), "seed": self.config.seed, **given}
        if default_engine() == "cpu":
            return function(**arguments, progress=progress)
        return self.elsewhere.call(f"{numbers.__name__}:{function.__name__}", arguments, progress)

    def _write_report(self, progress: Progress) -> None:
        write_report([self.folder], self.folder / "report.html")

    def _features_path(self, name: str) -> Path:
        return self.folder / "features" / f"{name}.npz"

    def _neighbors_path(self, stage: str) -> Path:
        return self.folder / "neighbors" / f"{stage}.npz"

    def _embedding_path(self, stage: str, method: str) -> Path:
        return self.folder / "embeddings" / f"{stage}_{method}.npz"

    def _embedding(self, stage: str, method: str) -> Embedding:
        return Embedding.load(self._embedding_path(stage, method))


def figure_steps(config: RunConfig) -> tuple[str, ...]:
    """Names of the steps that draw, in the order of `figure_names`."""
    return tuple(f"figure_{name}" for name in figure_names(config))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
