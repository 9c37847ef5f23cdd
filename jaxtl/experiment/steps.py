"""The table of a run's steps: what each makes, what it needs, and how."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

from jaxtl.evaluation import depth
from jaxtl.evaluation.outcome import below_probe, lagging
from jaxtl.experiment import scores
from jaxtl.experiment.analysis import Analysis
from jaxtl.experiment.embeddings import Embedder
from jaxtl.experiment.schedule import Step
from jaxtl.experiment.shared import TRAINING_FEATURES, Shared
from jaxtl.machine.child import Pool
from jaxtl.machine.surroundings import ANEW, FROZEN_OUTPUTS
from jaxtl.models.network import Network
from jaxtl.models.weights import arrays_of, build
from jaxtl.network import finetuning
from jaxtl.network.checkpoint import Checkpoint
from jaxtl.network.extraction import features_of
from jaxtl.network.finetuning import train_tails
from jaxtl.progress import Notify, Progress, counted
from jaxtl.records.arrays import Features
from jaxtl.records.dataset import Dataset
from jaxtl.runs.figures import Drawer
from jaxtl.runs.folder import RunFile, RunFolder
from jaxtl.runs.formats import Averages, Weights
from jaxtl.settings import RunConfig

# Steps that compute with the network: one at a time, as they share the device.
_NETWORK = "network"
_FINETUNE = "finetune"


class Work(Analysis):
    """What the steps of one run do. Each reads and writes files of the run folder.

    Attributes:
        beside: the same of runs with other seeds, whose networks are trained together with this one's.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunFolder,
        shared: Shared,
        embedder: Embedder,
        drawer: Drawer,
        elsewhere: Pool,
        notify: Notify,
    ) -> None:
        super().__init__(config, run, embedder, drawer, elsewhere, notify)
        self.config, self.shared = config, shared
        self.beside: list[Work] = []

    def table(self) -> Iterator[Step]:
        """All steps, in the order of one core."""
        run = self.run
        yield self.environment()
        yield self._frozen("trunk_test", "Frozen layers, test images", self._trunk_test)
        yield self._features("before", ("trunk_test",))
        yield self._frozen("trunk_training", "Frozen layers, training images", self._trunk_training)
        yield self._training_features("before", ("trunk_training",))
        yield Step(
            _FINETUNE,
            f"Fine-tuning, {counted(self.config.epochs, 'epoch')}",
            (run.history, run.model),
            ("trunk_test", "trunk_training"),
            self._finetune,
            _NETWORK,
            is_drawn=True,
            leaves=(run.checkpoint,),
            of_images=True,
        )
        yield from self._stage("before")
        if self.config.layers:
            yield Step(
                "layers_before",
                "Depth profile before",
                (),
                ("trunk_test", "before"),
                self._profile_before,
                beside_training=True,
                leaves=(run.averages["before"], run.layers_before),
                of_images=True,
            )
        yield self._features("after", ("trunk_test", "finetune"))
        # Nothing waits for the last ones but the end: what the embeddings wait for comes first.
        yield from self._stage("after")
        if self.config.layers:
            needs = ("layers_before", "finetune", "after")
            leaves = (run.averages["after"],)
            how = {"is_drawn": True, "leaves": leaves, "of_images": True}
            yield Step("layers", "Depth profile", (run.layers,), needs, self._profile, **how)
        yield from self.conclusions(tuned=True, classes=True)

    def here(self, then: Mapping[str, Any] | None = None) -> dict[str, Any]:
        about = super().here(then)
        if then is None:
            anew = self.shared.trunk.boundary > 1 and not self.shared.keeps_outputs
            own = {FROZEN_OUTPUTS: ANEW} if anew else {}
        else:
            own = {name: how for name, how in then.get("settings", {}).items() if name == FROZEN_OUTPUTS}
        return about | {"settings": about["settings"] | own}

    def _stage(self, stage: str) -> Iterator[Step]:
        """What is made of one stage's features."""
        yield from self.neighbors_and_embeddings(stage)
        if stage == "after":
            yield self._training_features(stage, ("trunk_training", "finetune"))
        yield from self.scores_of(stage, training=True)

    def _frozen(self, name: str, title: str, work: Callable[[Progress], None]) -> Step:
        """What the frozen layers make of a split's images, in memory, where that is kept there at all."""

        def useless() -> bool:
            return not self.shared.keeps_outputs

        return Step(name, title, (), (), work, _NETWORK, useless=useless, of_images=True)

    def _features(self, stage: str, needs: tuple[str, ...]) -> Step:
        work, file = partial(self._extract, stage), self.run.features[stage]
        return Step(stage, f"Features {stage}", (file,), needs, work, _NETWORK, of_images=True)

    def _training_features(self, stage: str, needs: tuple[str, ...]) -> Step:
        title, file = f"Features of training images {stage}", self.run.training_features[stage]
        work = partial(self._extract_training, stage)
        name = f"training_features_{stage}"
        return Step(name, title, (file,), needs, work, _NETWORK, of_images=True)

    def compile_ahead(self, left: Collection[str]) -> None:
        """Trace the network's programs, which follow from the settings, and have them compiled in threads.

        Args:
            left: names of the steps that are still to be done.
        """
        shared, trunk, model = self.shared, self.shared.trunk, self.shared.model
        keep, shape = shared.keeps_outputs, shared.test.images.shape[1:]
        counts = [len(shared.train), len(shared.test)]
        if shared.stem:
            trunk.prepare_continued(shared.stem.stop)
        if keep and "trunk_test" in left and not (shared.stem and not self.config.layers):
            trunk.prepare(shape, counts)
        if {"before", "after"} & set(left):
            trunk.prepare_then(model, model.config.pooled, shape, keep)
        if "finetune" in left:
            classes, seeds = len(shared.train.class_names), 1 + len(self.beside)
            streams = trunk.streams(shared.train.images, keep)
            finetuning.prepare(trunk, classes, counts[0], self.config.finetuning, shape, keep, seeds, streams)
        if "layers" in left:
            trunk.prepare_averages(shape, keep)

    def _score(self, tuned: bool, classes: bool, progress: Progress) -> None:
        super()._score(tuned, classes, progress)
        history, batch_norm = self.run.history.read(), self.config.batch_norm
        remarks = below_probe(self.run.scores.read(), history, batch_norm), lagging(history, batch_norm)
        self._tell_all([line for line in remarks if line])

    # The network.

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
        self._save_features(self.run.features[stage], stage, self.shared.sample, "test", progress)

    def _extract_training(self, stage: str, progress: Progress) -> None:
        some = self.shared.train.take(self._training_count)
        self._save_features(self.run.training_features[stage], stage, some, "train", progress)

    def _save_features(
        self, file: RunFile[Features], stage: str, data: Dataset, split: str, progress: Progress
    ) -> None:
        model, source = self._model(stage), self.shared.first(split, len(data))
        values = self.shared.trunk.then(model, model.config.pooled, source, progress, self.notify)
        how = self.config.precision, self.shared.trunk.engine
        file.write(features_of(model, data, self.config.images, values, *how))

    def _model(self, stage: str) -> Network:
        if stage == "before":
            return self.shared.model
        weights = self.run.model.read()
        return build(weights.config, weights.arrays, str(self.run.model))

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
            on_epoch=lambda k, checkpoint: works[k].keep(checkpoint),
            progress=progress,
            notify=self.notify,
        )
        for work, (model, history) in zip(works, trained, strict=True):
            work.save_tuned(model, history)
        self.shared.release_training()

    @property
    def learns(self) -> bool:
        """Whether fine-tuning is still to be done."""
        return not (self.run.model.is_intact and self.run.history.is_intact)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where fine-tuning was stopped, if it was."""
        file = self.run.checkpoint
        return file.read() if file.is_intact else None

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep what fine-tuning can go on from."""
        self.run.checkpoint.write_recorded(checkpoint, _FINETUNE, {})

    def save_tuned(self, model: Network, history: list[dict[str, float]]) -> None:
        """Write what fine-tuning gave; once that is recorded, its checkpoint goes."""
        self.run.history.write(history)
        provenance = {
            "made_by": "jaxtl run",
            "started_from": self.shared.weights_digest,
            "dataset": self.shared.train.name,
        }
        self.run.model.write(Weights(model.config, arrays_of(model), provenance))
        # Here, and not where the step ends, as it may be the step of another seed.
        self.run.manifest.record(_FINETUNE, [self.run.history.name, self.run.model.name], {})
        self.run.checkpoint.remove()

    # The depth profile.

    def _profile_before(self, progress: Progress) -> None:
        self._keep_averages("before")
        self._tell_all(self.call(scores.profile_before, {}, progress))

    def _profile(self, progress: Progress) -> None:
        self._keep_averages("after")
        self.call(scores.profile, {}, progress)

    def _keep_averages(self, stage: str) -> None:
        """Keep what the depth profile of a stage is made of; "after", what fine-tuning changed."""
        blocks = self.shared.blocks
        layers = self.shared.trunk.averages(self._model(stage), blocks, self.notify)
        if stage == "after":
            layers = {name: values for name, values in layers.items() if name not in blocks.averages}
        self.run.averages[stage].write(Averages(self.shared.sample.labels[: depth.SAMPLES], layers))
