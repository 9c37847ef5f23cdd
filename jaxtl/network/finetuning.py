"""Fine-tuning as Keras means it: a frozen trunk, trainable last layers and a softmax head.

The loss is the categorical cross-entropy of a softmax head, computed from its logits as Keras on
TensorFlow does (Keras on JAX clips probabilities at 1e-7), the optimiser Keras's Adam. Trainable batch
normalisations use the batch's statistics and move theirs; frozen ones use their moving statistics and stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import device_memory
from jaxtl.machine.programs import Program
from jaxtl.models import folding, ops
from jaxtl.models.mobilenet_v2 import Carry, MobileNetV2
from jaxtl.models.weights import arrays_of, build
from jaxtl.network.extraction import enter, rows
from jaxtl.network.trunk import Source, Trunk, trainable_boundary
from jaxtl.progress import Notify, Progress
from jaxtl.records.arrays import Dataset, Pathlike
from jaxtl.records.files import MAKE_AGAIN, read_npz, write_npz
from jaxtl.settings import FinetuneConfig, Images

# Of the device's memory, for training images and all seeds that train together.
_MEMORY_SHARE = 0.6
# Weights, gradients, steps and two moments, some twice; outputs, their gradients, and operands of products.
_WEIGHT_COPIES, _ACTIVATION_COPIES = 6, 12
# Compiled chunks of an epoch: enough for a bar that moves, few enough that dispatching costs nothing.
_CHUNKS_PER_EPOCH = 15


class State(NamedTuple):
    """What training changes: trainable weights, moving statistics of trainable layers, Adam's moments."""

    weights: Any
    statistics: Any
    optimizer: Any


class Checkpoint(NamedTuple):
    """Training after some epochs: arrays of the State in tree order, and the history so far."""

    leaves: list[np.ndarray]
    history: list[dict[str, float]]

    def save(self, path: Pathlike) -> None:
        arrays = {f"leaf_{number:04d}": leaf for number, leaf in enumerate(self.leaves)}
        write_npz(path, arrays, {"history": self.history})

    @classmethod
    def load(cls, path: Pathlike) -> Checkpoint:
        arrays, meta = read_npz(path, ("leaf_0000",))
        history = meta.get("history")
        if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
            raise JaxtlError(f"{path}: not where a training stopped (it has no history); {MAKE_AGAIN}")
        return cls([arrays[name] for name in sorted(arrays)], history)


def finetune(
    model: MobileNetV2,
    train: Dataset,
    test: Dataset,
    config: FinetuneConfig = FinetuneConfig(),
    images: Images = Images(),
    *,
    precision: ops.Precision = "highest",
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> tuple[MobileNetV2, list[dict[str, float]]]:
    """Put a softmax head on a model and train it with the last layers.

    Args:
        model: its backbone is the start; a head it may have is replaced by a fresh one.
        train: images to learn from.
        test: images to report on after every epoch; they teach nothing.
        config: which layers, how long, how fast.
        images: input size and scaling.
        precision: of the frozen layers and of the training steps, as in `jaxtl.extract`. Weights, their
            gradients, Adam's moments and moving statistics are float32 at each.
        progress: called with the fraction done, 0 to 1.
        notify: called with one line when a batch of the frozen layers, or of the tests, did not fit into
            memory and smaller ones follow. Training never changes its batches.

    Returns:
        The tuned model, and one row an epoch: epoch, loss and accuracy over the epoch's batches while
        learning, test_loss and test_accuracy after it.

    Raises:
        JaxtlError: classes that differ between train and test, an unknown precision, or a loss that is no
            longer finite.
    """
    trunk = Trunk(model, trainable_boundary(model.config, config.trainable), images, precision)
    keep = trunk.keeps(len(train) + len(test))
    sources = [trunk.source(data.images, keep, notify=notify) for data in (train, test)]
    return train_tail(trunk, train, sources[0], test, sources[1], config, progress=progress, notify=notify)


def train_tail(
    trunk: Trunk,
    train: Dataset,
    train_source: Source,
    test: Dataset,
    test_source: Source,
    config: FinetuneConfig,
    *,
    start: Checkpoint | None = None,
    on_epoch: Callable[[Checkpoint], None] | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> tuple[MobileNetV2, list[dict[str, float]]]:
    """`finetune` from trunk outputs that are there already, resumable at any epoch.

    Args:
        start: where an earlier call was stopped, as `on_epoch` received it.
        on_epoch: called after every epoch but the last.
    """
    return train_tails(
        trunk, train, train_source, test, test_source, [config], starts=[start],
        on_epoch=on_epoch and (lambda _, checkpoint: on_epoch(checkpoint)), progress=progress, notify=notify,
    )[0]  # fmt: skip


def train_tails(
    trunk: Trunk,
    train: Dataset,
    train_source: Source,
    test: Dataset,
    test_source: Source,
    configs: Sequence[FinetuneConfig],
    *,
    starts: Sequence[Checkpoint | None] | None = None,
    on_epoch: Callable[[int, Checkpoint], None] | None = None,
    together: int | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> list[tuple[MobileNetV2, list[dict[str, float]]]]:
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
    data = _Data(*jax.device_put((train_source, train.labels)), test_source, test.labels)
    groups = _groups([len(start.history) if start else 0 for start in starts], together)
    results: dict[int, tuple[MobileNetV2, list[dict[str, float]]]] = {}
    for group in groups:
        some = [(configs[k], starts[k]) for k in group]
        tell = on_epoch and (lambda k, checkpoint, group=group: on_epoch(group[k], checkpoint))
        part = partial(_report_part, progress, len(results) / len(configs), len(group) / len(configs))
        trained = _train_group(trunk, data, some, len(train.class_names), tell, part, notify)
        results |= zip(group, trained, strict=True)
    return [results[k] for k in range(len(configs))]


class _Data(NamedTuple):
    """What trains and what tests; training's arrays are on the device."""

    source: Source
    labels: jax.Array
    test_source: Source
    test_labels: np.ndarray


def _groups(epochs: Sequence[int], most: int) -> list[list[int]]:
    """Numbers of seeds to train together: as many epochs behind them, as many in each group as can be."""
    groups = []
    for done in sorted(set(epochs)):
        alike = [k for k, each in enumerate(epochs) if each == done]
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
) -> list[tuple[MobileNetV2, list[dict[str, float]]]]:
    trainers = [Trainer(trunk, with_head(trunk.model, classes, config.seed), config) for config, _ in some]
    states, histories = zip(
        *(each.start(start) for each, (_, start) in zip(trainers, some, strict=True)), strict=True
    )
    state, epochs, tuned = _joined(states), some[0][0].epochs, []
    for epoch in range(len(histories[0]), epochs):
        report = partial(_report_part, progress, epoch / epochs, 1 / epochs)
        state, means = _run_epoch(trainers, state, data.source, data.labels, epoch, report)
        parts = _parts(state, len(trainers))
        tuned = [trainer.model(part) for trainer, part in zip(trainers, parts, strict=True)]
        for k, (loss, accuracy) in enumerate(means):
            _check_finite(loss, epoch, trainers[k].config)
            test_loss, test_accuracy = evaluate(trunk, tuned[k], data.test_source, data.test_labels, notify)
            histories[k].append(
                {"epoch": epoch + 1, "loss": loss, "accuracy": accuracy,
                 "test_loss": test_loss, "test_accuracy": test_accuracy}
            )  # fmt: skip
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
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(source))
    room = _MEMORY_SHARE * device_memory() - kept
    return max(1, int(room // _bytes_per_seed(trunk, classes, config, isinstance(source, Carry))))


def _bytes_per_seed(trunk: Trunk, classes: int, config: FinetuneConfig, keep: bool) -> int:
    """An upper bound, from the sizes of the weights that learn and of all layers' outputs of a batch."""
    model = trunk.model
    learning = replace(model.config, classes=classes).layers[trunk.boundary :]
    weights = sum(math.prod(shape) for layer in learning for shape in layer.parameters.values())
    layers = model.config.backbone_layers[trunk.boundary if keep else 0 :]
    image = jax.ShapeDtypeStruct((1, *[trunk.images.image_size] * 2, 3), np.float32)
    outputs = jax.eval_shape(lambda x: model.intermediates(x, [layer.name for layer in layers]), image)
    activations = sum(each.size for each in outputs.values())
    return 4 * (_WEIGHT_COPIES * weights + _ACTIVATION_COPIES * config.batch_size * activations)


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
) -> None:
    """Trace all that `train_tail` or `train_tails` will run, and have it compiled in threads.

    Args:
        n: number of training images.
        image_shape: of an image, [height, width, channels].
        keep: whether it will start from the trunk's outputs, rather than from images.
        seeds: how many train together.
    """
    model = with_head(trunk.model, classes, config.seed)
    labels = jax.ShapeDtypeStruct((n,), np.int32)
    Trainer(trunk, model, config).prepare(trunk.source_spec(n, image_shape, keep), labels, seeds)
    trunk.prepare_then(model, len(model.config.layers), image_shape, keep)


def with_head(model: MobileNetV2, classes: int, seed: int) -> MobileNetV2:
    """A copy of a model's backbone under a fresh softmax head (glorot-uniform, zero bias, as in Keras)."""
    config = replace(model.config, classes=classes)
    arrays = {name: a for name, a in arrays_of(model).items() if not name.startswith("predictions/")}
    shape = (config.features, classes)
    arrays["predictions/kernel"] = np.asarray(_glorot_uniform(shape, np.uint32(seed % 2**32)))
    arrays["predictions/bias"] = np.zeros(classes, np.float32)
    return build(config, arrays)


@partial(Program, static=1)
def _glorot_uniform(shape: tuple[int, int], seed: jax.Array) -> jax.Array:
    return nnx.initializers.glorot_uniform()(jax.random.key(seed), shape)


def evaluate(
    trunk: Trunk, model: MobileNetV2, source: Source, labels: np.ndarray, notify: Notify | None = None
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of a model with a head, at its moving statistics."""
    logits = trunk.then(model, len(model.config.layers), source, notify=notify).astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    log_likelihood = shifted[np.arange(len(labels)), labels] - np.log(np.exp(shifted).sum(1))
    return float(-log_likelihood.mean()), float((logits.argmax(1) == labels).mean())


def keras_adam(
    learning_rate: float, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7
) -> optax.GradientTransformation:
    """Adam as Keras computes it (Kingma & Ba 2015, end of section 2: "epsilon hat").

    Keras adds epsilon to the root of the uncorrected second moment and corrects both moments in the step
    size; `optax.adam` adds it to the corrected one, which differs while the bias correction is large.
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        # Zeros of the host's, since JAX would compile a program for every shape; two, to be donated each.
        mu, nu = (jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), params) for _ in range(2))
        return optax.ScaleByAdamState(np.zeros([], np.int32), mu, nu)

    def update(gradients: Any, state: optax.ScaleByAdamState, params: Any = None):
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: m + (g - m) * (1 - beta_1), state.mu, gradients)
        nu = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - beta_2), state.nu, gradients)
        rate = learning_rate * jnp.sqrt(1 - jnp.float32(beta_2) ** count) / (1 - jnp.float32(beta_1) ** count)
        steps = jax.tree.map(lambda m, v: -rate * m / (jnp.sqrt(v) + epsilon), mu, nu)
        return steps, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


class Trainer:
    """The compiled training of one model's layers after a trunk."""

    def __init__(self, trunk: Trunk, model: MobileNetV2, config: FinetuneConfig) -> None:
        self.config = config
        learning = {layer.name for layer in model.config.layers[trunk.boundary :]}

        def in_tail(kind: type) -> Callable[[tuple, Any], bool]:
            return lambda path, value: path[0] in learning and issubclass(value.type, kind)

        graph, weights, statistics, frozen = nnx.split(model, in_tail(nnx.Param), in_tail(nnx.BatchStat), ...)
        self._frozen = frozen
        self._initial = State(weights, statistics, keras_adam(config.learning_rate).init(weights))
        plan, self._arrays = folding.fold(model, 0, trunk.boundary)
        form = trunk.form or ops.default_form()
        self._tail = Tail(
            graph, plan, trunk.boundary, trunk.images, form, trunk.precision, config.learning_rate
        )

    def gradients(self, state: State, batch: Carry, labels: np.ndarray) -> tuple[Any, tuple[Any, jax.Array]]:
        """Gradients of one batch's mean loss; moved statistics; (loss, hits) summed over the batch."""
        return _gradients(self._tail, state, self._frozen, batch, labels)

    def start(self, checkpoint: Checkpoint | None) -> tuple[State, list[dict[str, float]]]:
        """The state and the history to go on from."""
        return self.restore(checkpoint) if checkpoint else (self.initial(), [])

    def initial(self) -> State:
        """The state before the first step."""
        return _copied(self._initial)

    def steps(
        self, state: State, source: Any, labels: jax.Array, order: np.ndarray
    ) -> tuple[State, jax.Array]:
        """Train on the batches of rows `order` [steps, size], one after the other.

        The state's buffers are taken over: it cannot be used again. Returns the new state, and (loss, hits)
        summed over all rows. An order [seeds, steps, size] trains a state of as many seeds.
        """
        program = _train if np.ndim(order) == 2 else _train_seeds
        return program(self._tail, state, self._frozen, self._arrays, source, labels, order)

    def prepare(self, source: Any, labels: Any, seeds: int = 1) -> None:
        """Have what an epoch of so many seeds needs compiled in threads; arrays as of `steps`, or shapes."""
        program, axes = (_train, ()) if seeds == 1 else (_train_seeds, (seeds,))
        state = jax.tree.map(lambda a: jax.ShapeDtypeStruct((*axes, *a.shape), a.dtype), self._initial)
        orders = np.empty((*axes, rows(source)), np.int32)
        for shape in dict.fromkeys(chunk.shape for _, chunk in _chunks(orders, self.config.batch_size)):
            order = jax.ShapeDtypeStruct(shape, np.int32)
            program.prepare(self._tail, state, self._frozen, self._arrays, source, labels, order)

    def restore(self, checkpoint: Checkpoint) -> tuple[State, list[dict[str, float]]]:
        leaves, structure = jax.tree.flatten(self._initial)
        if [a.shape for a in checkpoint.leaves] != [a.shape for a in leaves]:
            raise JaxtlError(
                "checkpoint: it belongs to another network or freezing boundary; start a new run"
            )
        return jax.device_put(jax.tree.unflatten(structure, checkpoint.leaves)), list(checkpoint.history)

    def model(self, state: State) -> MobileNetV2:
        """The model as it stands, on copies that later steps do not touch."""
        return nnx.merge(self._tail.graph, *_copied(state[:2]), self._frozen, copy=True)

    def run_epoch(
        self, state: State, source: Any, labels: jax.Array, epoch: int, report: Progress
    ) -> tuple[State, float, float]:
        """One pass, in an order that seed and epoch decide; mean loss and accuracy. Takes `state` over."""
        state, means = _run_epoch([self], state, source, labels, epoch, report)
        return state, *means[0]

    def order(self, n: int, epoch: int) -> np.ndarray:
        """Rows in the order in which an epoch takes them."""
        return np.random.default_rng([self.config.seed, epoch]).permutation(n).astype(np.int32)


def _run_epoch(
    trainers: Sequence[Trainer], state: State, source: Any, labels: jax.Array, epoch: int, report: Progress
) -> tuple[State, list[tuple[float, float]]]:
    """`Trainer.run_epoch` of several seeds at once, each in its own order; mean loss and accuracy of each."""
    n, size = rows(source), trainers[0].config.batch_size
    orders = np.stack([trainer.order(n, epoch) for trainer in trainers])
    totals = np.zeros((len(trainers), 2))
    for first, chunk in _chunks(orders, size):
        state, sums = trainers[0].steps(state, source, labels, chunk if len(trainers) > 1 else chunk[0])
        totals += np.asarray(sums, np.float64)
        report((first + chunk[0].size) / n)
    return state, [(float(loss), float(accuracy)) for loss, accuracy in totals / n]


def _copied(tree: Any) -> Any:
    # Through the host's memory, which needs no program for each shape.
    return jax.device_put(jax.tree.map(np.array, tree))


class Tail(NamedTuple):
    """What is static of a training step: equal for all seeds of a network."""

    graph: nnx.GraphDef
    trunk_plan: folding.Plan
    boundary: int
    images: Images
    form: ops.Form
    precision: ops.Precision
    learning_rate: float


def _chunks(order: np.ndarray, size: int):
    """The batches of epochs [..., n] as [..., steps, size], then the smaller last batch as [..., 1, rest].

    Yields each with its offset.
    """
    n = order.shape[-1]
    steps = n // size
    whole = order[..., : steps * size].reshape(*order.shape[:-1], steps, size)
    length = max(1, -(-steps // _CHUNKS_PER_EPOCH))
    for start in range(0, steps, length):
        yield start * size, whole[..., start : start + length, :]
    if steps * size < n:
        yield steps * size, order[..., None, steps * size :]


def train_chunk(tail: Tail, state: State, frozen, arrays, source, labels, order):
    """Train on batches of rows `order` [steps, size]; returns the state and summed loss and hits."""
    optimizer = keras_adam(tail.learning_rate)

    def step(state: State, index: jax.Array):
        batch = jax.tree.map(lambda a: a[index], source)
        if not isinstance(batch, Carry):
            batch = folding.run(tail.trunk_plan, arrays, enter(tail.images, batch), tail.form, tail.precision)
        gradients, (statistics, sums) = loss_gradients(tail, state, frozen, batch, labels[index])
        steps, moments = optimizer.update(gradients, state.optimizer)
        return State(optax.apply_updates(state.weights, steps), statistics, moments), sums

    state, sums = jax.lax.scan(step, state, order)
    return state, sums.sum(0)


def _train_chunks(tail: Tail, state: State, frozen, arrays, source, labels, order):
    """`train_chunk` of all seeds of a state, in orders [seeds, steps, size]."""
    seeds = jax.vmap(partial(train_chunk, tail), (0, None, None, None, None, 0))
    return seeds(state, frozen, arrays, source, labels, order)


_train = Program(train_chunk, static=1, donate=(1,))
_train_seeds = Program(_train_chunks, static=1, donate=(1,))


def loss_gradients(tail: Tail, state: State, frozen, batch: Carry, labels: jax.Array):
    """Gradients of a batch's mean loss; the moved statistics, and (loss, hits) summed over the batch."""

    def loss_of(weights):
        # A copy, since a traced function may not write to variables made outside of it.
        model = nnx.merge(tail.graph, weights, state.statistics, frozen, copy=True)
        end = len(model.config.layers)
        carry = model.run(batch, tail.boundary, end, train=True, form=tail.form, precision=tail.precision)
        logits = carry.x
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        hits = jnp.sum(logits.argmax(1) == labels)
        moved = nnx.split(model, lambda path, value: path in paths, ...)[1]
        return losses.mean(), (moved, jnp.stack([losses.sum(), hits.astype(jnp.float32)]))

    paths = set(nnx.to_flat_state(state.statistics).paths)
    return jax.grad(loss_of, has_aux=True)(state.weights)


_gradients = Program(loss_gradients, static=1)


def _check_classes(train: Dataset, test: Dataset) -> None:
    if train.class_names != test.class_names:
        raise JaxtlError(
            f"datasets {train.name} ({train.split}) and {test.name} ({test.split}) name different classes"
        )


def _report_part(progress: Progress | None, start: float, share: float, fraction: float) -> None:
    if progress is not None:
        progress(start + share * fraction)
