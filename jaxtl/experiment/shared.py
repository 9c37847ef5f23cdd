"""What the steps of a run share in memory, and what runs share that differ in their seed alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import numpy as np

from jaxtl.data import load, reads_files
from jaxtl.evaluation import depth
from jaxtl.models.network import Network
from jaxtl.models.weights import load_model, load_start
from jaxtl.network.batches import rows
from jaxtl.network.blocks import Blocks
from jaxtl.network.stem import Stem
from jaxtl.network.trunk import Source, Trunk, trainable_boundary
from jaxtl.progress import Notify, Progress
from jaxtl.records.dataset import Dataset
from jaxtl.records.rows import first_rows, is_in_memory
from jaxtl.reduction.process import Reducers
from jaxtl.runs.dataset import check_same
from jaxtl.settings import RunConfig

T = TypeVar("T")

# Training images by which test images are classified, the first ones: their features are kept, too.
TRAINING_FEATURES = 10_000


class _Once(Generic[T]):
    """A property of `Shared` that is made when it is first asked for, and by one thread."""

    def __init__(self, make: Callable[[Shared], T]) -> None:
        self._make = make

    def __get__(self, shared: Shared, owner: type[Shared]) -> T:
        with shared.lock:
            if self not in shared.made:
                shared.made[self] = self._make(shared)
            return shared.made[self]


class Shared:
    """Data, model and outputs of the frozen layers, each made when it is first asked for.

    Args:
        config: whose seed plays no part here.
        keep: whether what only fine-tuning needs stays after it, for another seed, and the processes that
            make embeddings; then who made this closes it.
        scratch: the folder for what memory should not hold; None takes the system's for temporary files.
        given: training and test images that were given in Python; None loads `config.dataset`.
        stem: what the first layers make of all images, where that is known.
        reducers: processes that make embeddings, where some were begun; else this has its own.
    """

    def __init__(
        self,
        config: RunConfig,
        keep: bool = False,
        scratch: Path | None = None,
        given: tuple[Dataset, Dataset] | None = None,
        stem: Stem | None = None,
        reducers: Reducers | None = None,
    ) -> None:
        self.config, self.keep, self.scratch, self._given = config, keep, scratch, given
        self._stem = stem
        self._record: Mapping[str, Any] = {}
        # What `_Once` has made; one thing may ask for another.
        self.lock = threading.RLock()
        self.made: dict[Any, Any] = {}
        self._making = threading.RLock()
        self._sources: dict[str, Source] = {}
        self.reducers = reducers or Reducers(lasting=keep)
        self._blocks: Blocks | None = None

    @property
    def is_given(self) -> bool:
        """Whether the images were given in Python, and so cannot be loaded again."""
        return self._given is not None

    def expect(self, record: Mapping[str, Any]) -> None:
        """Raises JaxtlError, now or when they are loaded, for images that are not those of a run's record."""
        with self.lock:
            self._record = record
            for part in (Shared.__dict__["train"], Shared.__dict__["test"]):
                if part in self.made:
                    check_same(record, self.made[part])

    def close(self) -> None:
        """End the processes that make embeddings, when nobody needs them any longer."""
        self.reducers.close()

    def beside(self, config: RunConfig) -> Shared:
        """The same of settings that differ in what learns alone: what is loaded is not loaded again."""
        other = Shared(config, self.keep, self.scratch, self._given, self._stem)
        loaded = [Shared.__dict__[name] for name in ("model", "weights_digest", "train", "test", "sample")]
        with self.lock:
            other.made = {part: self.made[part] for part in loaded if part in self.made}
        return other

    @property
    def stem(self) -> Stem | None:
        """What the first layers make of all images, where outputs of frozen layers are made from that."""
        fits = self._stem and self.keeps_outputs and self.trunk.boundary >= self._stem.stop
        return self._stem if fits else None

    @_Once
    def model(self) -> Network:
        return load_model(self.config.weights, self.config.model)

    @_Once
    def weights_digest(self) -> str:
        return load_start(self.config.weights, self.config.model)[2]["tensor_digest"]

    @_Once
    def train(self) -> Dataset:
        return self._load("train", self.config.train_samples)

    @_Once
    def test(self) -> Dataset:
        # What is in files is read no further than is asked for.
        in_files = not self._given and reads_files(self.config.dataset)
        return self._load("test", self.config.samples if in_files else None)

    @_Once
    def sample(self) -> Dataset:
        return self.test.up_to(self.config.samples)

    @_Once
    def trunk(self) -> Trunk:
        boundary = trainable_boundary(self.model.config, self.config.trainable)
        how = {"precision": self.config.precision, "engine": self.config.engine, "scratch": self.scratch}
        return Trunk(self.model, boundary, self.config.images, **how)

    @_Once
    def keeps_outputs(self) -> bool:
        """Whether what the frozen layers hand on is kept for all images."""
        return self.trunk.keeps(len(self.train), len(self.test))

    def source(
        self, split: str, count: int, progress: Progress | None = None, notify: Notify | None = None
    ) -> Source:
        """What the layers that learn start from, of at least the first `count` images of a split."""
        with self._making:
            source = self._sources.get(split)
            if source is None or rows(source) < count:
                looked_at = self._looked_at if split == "test" else 0
                source, blocks = self._made(split, count, looked_at, progress, notify)
                self._sources[split] = source
                self._blocks = blocks if split == "test" else self._blocks
            return source

    def _made(
        self, split: str, count: int, looked_at: int, progress: Progress | None, notify: Notify | None
    ) -> tuple[Source, Blocks]:
        images = first_rows((self.train if split == "train" else self.test).images, count)
        # The depth profile looks at blocks within the stem, too.
        if self.stem and not looked_at:
            before = self.stem.first(split, count, self.model.config)
            made = self.trunk.continued(self.stem.stop, before, progress, notify)
            return made, Blocks({}, 0, first_rows(images, 0))
        return self.trunk.source_and_blocks(images, self.keeps_outputs, looked_at, progress, notify)

    @property
    def blocks(self) -> Blocks:
        """What the depth profile's images look like within the frozen layers, from their own pass."""
        self.source("test", self._looked_at)
        return self._blocks

    @property
    def _looked_at(self) -> int:
        return min(len(self.sample), depth.SAMPLES) if self.config.layers else 0

    def first(self, split: str, count: int) -> Source:
        """`source`, cut to its first `count` images."""
        return jax.tree.map(lambda a: first_rows(a, count), self.source(split, count))

    def release_training(self) -> None:
        """Let go of what only fine-tuning needs, by far the largest arrays."""
        with self._making:
            if self.keep or "train" not in self._sources:
                return
            # A copy, so that the rest can go.
            count = min(TRAINING_FEATURES, len(self.train))
            self._sources["train"] = jax.tree.map(partial(_cut, count), self._sources["train"])

    def _load(self, split: str, samples: int | None = None) -> Dataset:
        config = self.config
        if self._given:
            dataset = self._given[split == "test"].up_to(samples)
        else:
            pixels = {"image_size": config.image_size, **config.images.pixels}
            how = {**pixels, "samples": samples, **asdict(config.selection)}
            dataset = load(config.dataset, split, **how)
        check_same(self._record, dataset)
        return dataset


def _cut(count: int, rows: Any) -> Any:
    first = first_rows(rows, count)
    if not is_in_memory(rows):
        return first
    return np.array(first) if isinstance(rows, np.ndarray) else first.copy()
