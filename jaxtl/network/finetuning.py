"""Fine-tuning as Keras does it: a frozen trunk, trainable last layers and a softmax head.

The loss is the categorical cross-entropy of a softmax head, computed from its logits as Keras on
TensorFlow does (Keras on JAX clips probabilities at 1e-7). Frozen batch normalisations use their moving
statistics and stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.bars import with_bar
from jaxtl.machine.devices import Precision, device_memory
from jaxtl.machine.mesh import whole
from jaxtl.machine.together import Rank
from jaxtl.models.network import Carry, Network
from jaxtl.network.batches import in_memory
from jaxtl.network.checkpoint import Checkpoint
from jaxtl.network.division import Common, Own, divided_sources
from jaxtl.network.head import evaluate, with_head
from jaxtl.network.training import State, Trainer, recalibrate, run_epoch
from jaxtl.network.trunk import Source, Trunk, trainable_boundary
from jaxtl.progress import Notify, Progress
from jaxtl.records.dataset import Dataset
from jaxtl.records.rows import is_in_memory
from jaxtl.settings import FinetuneConfig, Images

# Of the device's memory, for training images and all seeds that train together.
_MEMORY_SHARE = 0.6
# Weights, gradients, steps and two moments, some twice; outputs, their gradients, and operands of products.
_WEIGHT_COPIES, _ACTIVATION_COPIES = 6, 12
# What a frozen layer reads and writes, padded, and its convolution's own memory; the next one takes it over.
_FROZEN_COPIES = 4


@with_bar("Fine-tuning")
def finetune(
    model: Network,
    train: Dataset,
    test: Dataset,
    config: FinetuneConfig = FinetuneConfig(),
    images: Images = Images(),
    *,
    precision: Precision = "highest",
    engine: str = "auto",
    progress: Progress | bool | None = None,
    notify: Notify | None = None,
) -> tuple[Network, list[dict[str, float]]]:
    """Put a softmax head on a model and train it with the last layers.

    Args:
        model: its backbone is the start; a head it may have is replaced by a fresh one.
        train: images to learn from.
        test: images to report on after every epoch; they teach nothing.
        config: which layers, how long, how fast.
        images: input size and scaling.
        precision: of the frozen layers and of the training steps, as in `jaxtl.extract`. Weights, their
            gradients, Adam's moments and moving statistics are float32 at each.
        engine: of the frozen layers, as in `jaxtl.extract`; JAX computes the others.
        progress: True shows a bar; or what is called with the fraction done, 0 to 1.
        notify: called with one line when a batch of the frozen layers, or of the tests, did not fit into
            memory and smaller ones follow. Training never changes its batches.

    Returns:
        The tuned model, and one row an epoch: epoch, loss and accuracy over the epoch's batches while
        learning, test_loss and test_accuracy after it.

    Raises:
        JaxtlError: classes that differ between train and test, an unknown precision, an engine that cannot
            compute it, or a loss that is no longer finite.
    """
    trunk = Trunk(model, trainable_boundary(model.config, config.trainable), images, precision, engine=engine)
    return tune(trunk, train, test, config, progress=progress or None, notify=notify)


def tune(
    trunk: Trunk,
    train: Dataset,
    test: Dataset,
    config: FinetuneConfig,
    *,
    rank: Rank = Rank(),
    start: Checkpoint | None = None,
    on_epoch: Callable[[Checkpoint], None] | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> tuple[Network, list[dict[str, float]]]:
    """`finetune` of the layers behind a trunk, resumable at any epoch, by one process or by many.

    Args:
        rank: which of how many processes this is. All call it with the same arguments; they divide the frozen
            layers' work, every batch and the tests among them, and all have the result.
        start, on_epoch: as of `train_tail`; `on_epoch` may be given to some of them alone.
    """
    if rank.count > 1:
        sources = divided_sources(trunk, train.images, test.images, notify)
    else:
        keep = trunk.keeps(len(train), len(test))
        sources = [trunk.source(data.images, keep, notify=notify) for data in (train, test)]
    how = {"start": start, "on_epoch": on_epoch, "progress": progress, "notify": notify}
    return train_tail(trunk, train, sources[0], test, sources[1], config, **how)


def train_tail(
    trunk: Trunk,
    train: Dataset,
    train_source: Source | Common,
    test: Dataset,
    test_source: Source | Own,
    config: FinetuneConfig,
    *,
    start: Checkpoint | None = None,
    on_epoch: Callable[[Checkpoint], None] | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> tuple[Network, list[dict[str, float]]]:
    """`finetune` from trunk outputs that are there already, resumable at any epoch.

    Args:
        start: where an earlier call was stopped, as `on_epoch` received it.
        on_epoch: called after every epoch but the last.
    """
    tell = on_epoch and (lambda _, checkpoint: on_epoch(checkpoint))
    how = {"starts": [start], "on_epoch": tell, "progress": progress, "notify": notify}
    return train_tails(trunk, train, train_source, test, test_source, [config], **how)[0]


def train_tails(
    trunk: Trunk,
    train: Dataset,
    train_source: Source | Common,
    test: Dataset,
    test_source: Source | Own,
    configs: Sequence[FinetuneConfig],
    *,
    starts: Sequence[Checkpoint | None] | None = None,
    on_epoch: Callable[[int, Checkpoint], None] | None = None,
    together: int | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> list[tuple[Network, list[dict[str, float]]]]:
    """`train_tail` under several seeds, all of which start from the same trunk outputs.

    Seeds that train together are one program, which differs from one after the other by float32 rounding.

    Args:
        configs: they differ in their seed alone.
        starts: for each where an earlier call was stopped; None where it is to begin.
        on_epoch: called with the number of a config and its checkpoint, after every epoch but the last.
        together: how many seeds train at a time; None takes what is faster and fits into memory.

    Raises:
        JaxtlError: as `finetune`, or configs that differ in more than the seed.
    """
    _check_classes(train, test)
    if len({replace(config, seed=0) for config in configs}) > 1:
        raise JaxtlError("train_tails: configs must differ in their seed alone; train others on their own")
    starts = starts or [None] * len(configs)
    together = together or seeds_at_a_time(trunk, len(train.class_names), configs[0], train_source)
    ready = (train_source, train.labels)
    if in_memory(train_source) and not isinstance(train_source, Common):
        ready = whole(ready)
    data = _Data(*ready, test_source, test.labels)
    groups = grouped_by_epochs([len(start.history) if start else 0 for start in starts], together)
    results: dict[int, tuple[Network, list[dict[str, float]]]] = {}
    for group in groups:
        some = [(configs[k], starts[k]) for k in group]
        tell = on_epoch and (lambda k, checkpoint, group=group: on_epoch(group[k], checkpoint))
        part = partial(_advance_part, progress, len(results) / len(configs), len(group) / len(configs))
        trained = _train_group(trunk, data, some, len(train.class_names), tell, part, notify)
        results |= zip(group, trained, strict=True)
    return [results[k] for k in range(len(configs))]


class _Data(NamedTuple):
    """What trains and what tests; training's arrays are on the device, or are read piece by piece."""

    source: Source | Common
    labels: jax.Array | np.ndarray
    test_source: Source | Own
    test_labels: np.ndarray


def grouped_by_epochs(epochs: Sequence[int], most: int) -> list[list[int]]:
    """Numbers of seeds to train together: as many epochs behind them, as many in each group as can be."""
    groups = []
    for done in sorted(set(epochs)):
        alike = [k for k, behind in enumerate(epochs) if behind == done]
        groups += [part.tolist() for part in np.array_split(alike, -(-len(alike) // most))]
    return groups


def _train_group(
    trunk: Trunk,
    data: _Data,
    some: Sequence[tuple[FinetuneConfig, Checkpoint | None]],
    classes: int,
    tell: Callable[[int, Checkpoint], None] | None,
    progress: Progress,
    notify: Notify | None,
) -> list[tuple[Network, list[dict[str, float]]]]:
    models = (with_head(trunk.model, classes, c.seed, trunk.images.preprocessing) for c, _ in some)
    trainers = [Trainer(trunk, model, config) for model, (config, _) in zip(models, some, strict=True)]
    begun = [trainer.start(start) for trainer, (_, start) in zip(trainers, some, strict=True)]
    states, histories = zip(*begun, strict=True)
    state, epochs, tuned = _joined(states), some[0][0].epochs, []
    for epoch in range(len(histories[0]), epochs):
        of_epoch = partial(_advance_part, progress, epoch / epochs, 1 / epochs)
        state, means = run_epoch(trainers, state, data.source, data.labels, epoch, of_epoch)
        parts = _parts(state, len(trainers))
        if some[0][0].batch_norm == "recalibrated" and epoch + 1 == epochs:
            parts = [
                recalibrate(trainer, part, data.source, data.labels)
                for trainer, part in zip(trainers, parts, strict=True)
            ]
        tuned = [trainer.model(part) for trainer, part in zip(trainers, parts, strict=True)]
        for k, (loss, accuracy) in enumerate(means):
            _check_finite(loss, epoch, trainers[k].config)
            test_loss, test_accuracy = evaluate(trunk, tuned[k], data.test_source, data.test_labels, notify)
            row = {
                "epoch": epoch + 1,
                "loss": loss,
                "accuracy": accuracy,
                "test_loss": test_loss,
                "test_accuracy": test_accuracy,
            }
            histories[k].append(row)
            if tell and epoch + 1 < epochs:
                tell(k, Checkpoint(jax.tree.leaves(parts[k]), list(histories[k])))
    return list(zip(tuned, histories, strict=True))


def _joined(states: Sequence[State]) -> State:
    """One State of all seeds, [seeds, ...] each array; that of a single seed stays as it is."""
    if len(states) == 1:
        return states[0]
    return jax.device_put(jax.tree.map(lambda *arrays: np.stack(arrays), *states))


def _parts(state: State, count: int) -> list[State]:
    """Each seed's State, as copies in host memory, which later steps do not touch."""
    host = jax.tree.map(np.array, state)
    return [host] if count == 1 else [jax.tree.map(lambda a, k=k: a[k], host) for k in range(count)]


def seeds_at_a_time(trunk: Trunk, classes: int, config: FinetuneConfig, source: Source) -> int:
    """How many seeds train in one program: on a CPU one, on a GPU as many as fit beside the training images.

    `source` is that of the training images.
    """
    if jax.default_backend() == "cpu":
        return 1
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(source) if is_in_memory(leaf))
    room = _MEMORY_SHARE * device_memory() - kept
    return max(1, int(room // bytes_per_seed(trunk, classes, config, isinstance(source, Carry))))


def bytes_per_seed(trunk: Trunk, classes: int, config: FinetuneConfig, keep: bool) -> int:
    """An upper bound, from the sizes of the weights that learn and of layers' outputs of a batch.

    The outputs of layers that learn are all kept for their gradients; those of frozen layers are not.
    """
    model = trunk.model
    learning = replace(model.config, classes=classes).layers[trunk.boundary :]
    weights = sum(math.prod(shape) for layer in learning for shape in layer.parameters.values())
    shapes = zip(model.config.backbone_layers, model.config.shapes(trunk.images.image_size), strict=False)
    sizes = [math.prod(skip if layer.on_skip else main) for layer, (main, skip) in shapes]
    activations = _ACTIVATION_COPIES * sum(sizes[trunk.boundary :])
    if not keep:
        activations += _FROZEN_COPIES * max(sizes[: trunk.boundary], default=0)
    return 4 * (_WEIGHT_COPIES * weights + config.batch_size * activations)


def _check_finite(loss: float, epoch: int, config: FinetuneConfig) -> None:
    if not np.isfinite(loss):
        raise JaxtlError(
            f"training: the loss is {loss} in epoch {epoch + 1}; "
            f"lower learning_rate (now {config.learning_rate:g})"
        )


def prepare(
    trunk: Trunk,
    classes: int,
    n: int,
    config: FinetuneConfig,
    image_shape: tuple[int, int, int],
    keep: bool = True,
    seeds: int = 1,
    streams: bool = False,
) -> None:
    """Trace all that `train_tail` or `train_tails` will run, and have it compiled in threads.

    Args:
        n: number of training images.
        image_shape: of an image, [height, width, channels].
        keep: whether it will start from the trunk's outputs, rather than from images.
        seeds: how many train together.
        streams: whether what it will start from is not in memory: how training takes it is then left open.
    """
    model = with_head(trunk.model, classes, config.seed, trunk.images.preprocessing)
    if not streams:
        labels = jax.ShapeDtypeStruct((n,), np.int32)
        Trainer(trunk, model, config).prepare(trunk.source_spec(n, image_shape, keep), labels, seeds)
    trunk.prepare_then(model, len(model.config.layers), image_shape, keep)


def _check_classes(train: Dataset, test: Dataset) -> None:
    if train.class_names != test.class_names:
        raise JaxtlError(
            f"datasets {train.name} ({train.split}) and {test.name} ({test.split}) name different classes"
        )


def _advance_part(progress: Progress | None, start: float, share: float, fraction: float) -> None:
    if progress is not None:
        progress(start + share * fraction)
