"""The compiled training of a network's last layers: its state and its steps.

The optimiser is Keras's Adam. Trainable batch normalisations use the batch's statistics and move theirs,
unless `FinetuneConfig.batch_norm` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import Precision
from jaxtl.machine.mesh import everywhere, join_rows, split_batch, split_rows
from jaxtl.machine.programs import Program
from jaxtl.models import folding, ops
from jaxtl.models.network import Carry, Network
from jaxtl.models.weights import arrays_of, build
from jaxtl.network.adam import keras_adam
from jaxtl.network.batches import ahead, in_memory, rows
from jaxtl.network.checkpoint import Checkpoint
from jaxtl.network.division import Batches, Common
from jaxtl.network.layers import enter
from jaxtl.network.trunk import Trunk
from jaxtl.progress import Progress
from jaxtl.settings import FinetuneConfig, Images

# Compiled chunks of an epoch: enough for a bar that moves, few enough that dispatching costs nothing.
_CHUNKS_PER_EPOCH = 15
# Bytes of a chunk's rows, where they are read for it.
_PIECE = 2**26


class State(NamedTuple):
    """What training changes: trainable weights, moving statistics of trainable layers, Adam's moments."""

    weights: Any
    statistics: Any
    optimizer: Any


class Trainer:
    """The compiled training of one model's layers after a trunk."""

    def __init__(self, trunk: Trunk, model: Network, config: FinetuneConfig) -> None:
        self.config = config
        learning = {layer.name for layer in model.config.layers[trunk.boundary :]}

        def in_tail(kind: type) -> Callable[[tuple, Any], bool]:
            return lambda path, value: path[0] in learning and issubclass(value.type, kind)

        graph, weights, statistics, frozen = nnx.split(model, in_tail(nnx.Param), in_tail(nnx.BatchStat), ...)
        self._frozen, self._model_config = frozen, model.config
        self._initial = State(weights, statistics, keras_adam(config.learning_rate).init(weights))
        plan, self._arrays = folding.fold(model, 0, trunk.boundary)
        form = trunk.form or ops.default_form()
        self._tail = Tail(
            graph,
            plan,
            trunk.boundary,
            trunk.images,
            form,
            trunk.precision,
            config.learning_rate,
            config.batch_norm != "frozen",
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

        Of many processes, all call it with their part of the same `Batches` for a source.
        """
        if isinstance(source, Batches):
            return _train_together(self._tail, state, self._frozen, self._arrays, source)
        program = _train if np.ndim(order) == 2 else _train_seeds
        return program(self._tail, state, self._frozen, self._arrays, source, labels, order)

    def batch_statistics(self, state: State, source: Any, order: np.ndarray) -> Any:
        """The statistics of each batch of rows `order` [steps, size] alone, [steps, channels] each.

        `source` as of `steps`.
        """
        forgets = build(replace(self._model_config, bn_momentum=0.0), arrays_of(self.model(state)))
        tail = self._tail._replace(graph=nnx.split(forgets)[0])
        if isinstance(source, Batches):
            return _statistics_together(tail, state, self._frozen, self._arrays, source)
        return _batch_statistics(tail, state, self._frozen, self._arrays, source, order)

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

    def model(self, state: State) -> Network:
        """The model as it stands, on copies that later steps do not touch."""
        return nnx.merge(self._tail.graph, *_copied(state[:2]), self._frozen, copy=True)

    def run_epoch(
        self, state: State, source: Any, labels: jax.Array, epoch: int, progress: Progress
    ) -> tuple[State, float, float]:
        """One pass, in an order that seed and epoch decide; mean loss and accuracy. Takes `state` over."""
        state, means = run_epoch([self], state, source, labels, epoch, progress)
        return state, *means[0]

    def order(self, n: int, epoch: int) -> np.ndarray:
        """Rows in the order in which an epoch takes them."""
        return np.random.default_rng([self.config.seed, epoch]).permutation(n).astype(np.int32)


def run_epoch(
    trainers: Sequence[Trainer], state: State, source: Any, labels: jax.Array, epoch: int, progress: Progress
) -> tuple[State, list[tuple[float, float]]]:
    """`Trainer.run_epoch` of several seeds at once, each in its own order; mean loss and accuracy of each."""
    n, size = rows(source), trainers[0].config.batch_size
    orders = np.stack([trainer.order(n, epoch) for trainer in trainers])
    totals = np.zeros((len(trainers), 2))
    for first, chunk, some, its_labels in _pieces(source, labels, orders, size):
        state, sums = trainers[0].steps(state, some, its_labels, chunk if len(trainers) > 1 else chunk[0])
        totals += np.asarray(sums, np.float64)
        progress((first + chunk[0].size) / n)
    return state, [(float(loss), float(accuracy)) for loss, accuracy in totals / n]


def _pieces(
    source: Any, labels: Any, orders: np.ndarray, size: int
) -> Iterator[tuple[int, np.ndarray, Any, Any]]:
    """The chunks of epochs with their offsets, and the rows that they train on with their labels.

    What is not in memory is read a chunk ahead, and of a chunk only its own rows are there. So it is with
    what many processes train on: they have `Batches` of each chunk.
    """
    is_common = isinstance(source, Common)
    if in_memory(source) and not is_common:
        for first, chunk in _chunks(orders, size):
            yield first, chunk, source, labels
        return
    row = sum(leaf.nbytes for leaf in jax.tree.leaves(source)) // rows(source)

    def read(part: tuple[int, np.ndarray]) -> tuple[int, np.ndarray, Any, Any]:
        first, chunk = part
        if is_common:
            return first, chunk, source.batches(labels, chunk[0]), None
        wanted = chunk.ravel()
        order = np.arange(wanted.size, dtype=np.int32).reshape(chunk.shape)
        return first, order, jax.tree.map(lambda a: a[wanted], source), labels[wanted]

    yield from ahead(read, _chunks(orders, size, max(1, _PIECE // (row * size * len(orders)))))


def _copied(tree: Any) -> Any:
    # Through the host's memory, which needs no program for each shape.
    return jax.device_put(jax.tree.map(np.array, tree))


def _chunks(order: np.ndarray, size: int, most: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """The batches of epochs [..., n] as [..., steps, size], then the smaller last batch as [..., 1, rest].

    Yields each with its offset, `most` steps at a time.
    """
    n = order.shape[-1]
    steps = n // size
    whole = order[..., : steps * size].reshape(*order.shape[:-1], steps, size)
    length = max(1, -(-steps // _CHUNKS_PER_EPOCH))
    length = min(length, most or length)
    for start in range(0, steps, length):
        yield start * size, whole[..., start : start + length, :]
    if steps * size < n:
        yield steps * size, order[..., None, steps * size :]


class Tail(NamedTuple):
    """What is static of a training step: equal for all seeds of a network."""

    graph: nnx.GraphDef
    trunk_plan: folding.Plan
    boundary: int
    images: Images
    form: ops.Form
    precision: Precision
    learning_rate: float
    batch_statistics: bool = True


def train_chunk(tail: Tail, state: State, frozen, arrays, source, labels, order):
    """Train on batches of rows `order` [steps, size]; returns the state and summed loss and hits."""

    def step(state: State, index: jax.Array):
        index, counted = split_batch(index)
        batch = split_rows(jax.tree.map(lambda a: a[index], source))
        return join_rows(_learnt(tail, state, frozen, arrays, batch, labels[index], counted))

    state, sums = jax.lax.scan(step, state, order)
    return state, sums.sum(0)


def train_together(tail: Tail, state: State, frozen, arrays, batches: Batches):
    """`train_chunk` by the devices of all processes, on batches that they have divided already."""
    over = everywhere()

    def step(state: State, number: jax.Array):
        batch = split_rows(batches.batch(number), over)
        return join_rows(_learnt(tail, state, frozen, arrays, *batch), over)

    state, sums = jax.lax.scan(step, state, jnp.arange(batches.steps))
    return state, sums.sum(0)


def _learnt(tail: Tail, state: State, frozen, arrays, batch: Any, labels: jax.Array, counted) -> Any:
    """The state after a step on a batch, and (loss, hits) summed over it; `counted` as of `Network.run`."""
    optimizer, batch = keras_adam(tail.learning_rate), _entered(tail, arrays, batch)
    gradients, (statistics, sums) = loss_gradients(tail, state, frozen, batch, labels, counted)
    steps, moments = optimizer.update(gradients, state.optimizer)
    return State(optax.apply_updates(state.weights, steps), statistics, moments), sums


def _entered(tail: Tail, arrays, batch: Any) -> Carry:
    """What the frozen layers make of a batch, where it is not theirs already."""
    if isinstance(batch, Carry):
        return batch
    return folding.run(tail.trunk_plan, arrays, enter(tail.images, batch), tail.form, tail.precision)


def _train_chunks(tail: Tail, state: State, frozen, arrays, source, labels, order):
    """`train_chunk` of all seeds of a state, in orders [seeds, steps, size]."""
    seeds = jax.vmap(partial(train_chunk, tail), (0, None, None, None, None, 0))
    return seeds(state, frozen, arrays, source, labels, order)


_train = Program(train_chunk, static=1, donate=(1,))
_train_seeds = Program(_train_chunks, static=1, donate=(1,))
_train_together = Program(train_together, static=1, donate=(1,), rows=(4,), devices=everywhere)


def loss_gradients(tail: Tail, state: State, frozen, batch: Carry, labels: jax.Array, counted=None):
    """Gradients of a batch's mean loss; the moved statistics, and (loss, hits) summed over the batch.

    `counted` as of `Network.run`.
    """

    def loss_of(weights):
        # A copy, since a traced function may not write to variables made outside of it.
        model = nnx.merge(tail.graph, weights, state.statistics, frozen, copy=True)
        end = len(model.config.layers)
        how = {"form": tail.form, "precision": tail.precision}
        carry = model.run(batch, tail.boundary, end, train=tail.batch_statistics, counted=counted, **how)
        logits = carry.x
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        right = logits.argmax(1) == labels
        if counted is not None:
            losses, right = losses * counted, right & (counted > 0)
        moved = nnx.split(model, lambda path, value: path in paths, ...)[1]
        mean = losses.mean() if counted is None else losses.sum() / counted.sum()
        return mean, (moved, jnp.stack([losses.sum(), jnp.sum(right).astype(jnp.float32)]))

    paths = set(nnx.to_flat_state(state.statistics).paths)
    return jax.grad(loss_of, has_aux=True)(state.weights)


_gradients = Program(loss_gradients, static=1)


def batch_statistics(tail: Tail, state: State, frozen, arrays, source, order):
    """The statistics of each batch of rows `order` [steps, size] alone, [steps, ...] each; nothing learns.

    The model of `tail` forgets the statistics that it had: their decay is 0.
    """

    def step(_, index: jax.Array):
        index, counted = split_batch(index)
        batch = split_rows(jax.tree.map(lambda a: a[index], source))
        return None, join_rows(_seen(tail, state, frozen, arrays, batch, counted))

    return jax.lax.scan(step, None, order)[1]


def statistics_together(tail: Tail, state: State, frozen, arrays, batches: Batches):
    """`batch_statistics` by the devices of all processes, of batches that they have divided already."""
    over = everywhere()

    def step(_, number: jax.Array):
        batch, _, counted = split_rows(batches.batch(number), over)
        return None, join_rows(_seen(tail, state, frozen, arrays, batch, counted), over)

    return jax.lax.scan(step, None, jnp.arange(batches.steps))[1]


def _seen(tail: Tail, state: State, frozen, arrays, batch: Any, counted) -> Any:
    """The statistics that a model whose tail learns has after a batch; `counted` as of `Network.run`."""
    paths = set(nnx.to_flat_state(state.statistics).paths)
    batch = _entered(tail, arrays, batch)
    model = nnx.merge(tail.graph, state.weights, state.statistics, frozen, copy=True)
    how = {"form": tail.form, "precision": tail.precision, "counted": counted}
    model.run(batch, tail.boundary, model.config.pooled, train=True, **how)
    return nnx.split(model, lambda path, value: path in paths, ...)[1]


_batch_statistics = Program(batch_statistics, static=1)
_statistics_together = Program(statistics_together, static=1, rows=(4,), devices=everywhere)


def recalibrate(trainer: Trainer, state: State, source: Any, labels: Any) -> State:
    """A state whose moving statistics are those of all rows, at the weights as they are.

    Means and variances of the population, from those of shuffled batches (Wu & Johnson 2021, section 3).
    """
    if not jax.tree.leaves(state.statistics):
        return state
    n, size = rows(source), trainer.config.batch_size
    orders, totals = trainer.order(n, trainer.config.epochs)[None], None
    for _, order, some, _ in _pieces(source, labels, orders, size):
        seen = nnx.to_pure_dict(trainer.batch_statistics(state, some, order[0]))
        sums = {layer: _moments(statistics, order.shape[-1]) for layer, statistics in seen.items()}
        totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
    moved = jax.tree.map(np.array, state.statistics)
    nnx.replace_by_pure_dict(moved, {layer: _population(*sums, n) for layer, sums in totals.items()})
    return state._replace(statistics=moved)


def _moments(statistics: dict[str, np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of values and of their squares over all rows of batches [steps, channels] of so many rows."""
    mean, variance = (np.float64(statistics[f"moving_{name}"]) for name in ("mean", "variance"))
    return size * mean.sum(0), size * (variance + mean**2).sum(0)


def _population(values: np.ndarray, squares: np.ndarray, count: int) -> dict[str, np.ndarray]:
    mean = values / count
    variance = np.maximum(squares / count - mean**2, 0)
    return {"moving_mean": np.float32(mean), "moving_variance": np.float32(variance)}
