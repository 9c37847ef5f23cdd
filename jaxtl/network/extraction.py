"""Images through a network with fixed statistics: pooled features, or what the frozen part hands on.

Everything runs in batches of one size (the last one is filled up and cut), so each image's result does not
depend on how many there are, and each stretch of the network is compiled once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.data.preprocess import preprocess
from jaxtl.machine.programs import Program
from jaxtl.models import folding, ops
from jaxtl.models.mobilenet_v2 import Carry, MobileNetV2
from jaxtl.models.weights import arrays_of, tensor_digest
from jaxtl.progress import Notify, Progress
from jaxtl.records import store
from jaxtl.records.arrays import Dataset, Features, Pathlike
from jaxtl.settings import Images

# By measurement on CPUs: larger batches leave the cache, smaller ones waste the matrix product.
_BATCH_SIZE = {"cpu": 64}
_ACCELERATOR_BATCH_SIZE = 1024
# By measurement on two cores: 13 % more images a second than one after the other; three gain nothing more.
_BATCHES_AT_A_TIME = 2
# Images at a time where features are streamed: whole batches for any platform, 80 MiB of features.
STREAMED = 16_384


def extract(
    model: MobileNetV2,
    dataset: Dataset,
    images: Images = Images(),
    *,
    batch_size: int | None = None,
    precision: ops.Precision = "highest",
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> Features:
    """Global-average-pooled features of every image.

    Args:
        model: with or without a head, which plays no part.
        dataset: n images of any size; they are resized bilinearly.
        images: input size and scaling.
        batch_size: images per step; None takes what is fastest on the platform. It does not change results
            beyond float32 rounding.
        precision: "highest" is float32; "tf32" and "bf16" are faster on GPUs and less exact: see
            `jaxtl.models.ops`.
        progress: called with the fraction done, 0 to 1.
        notify: called with one line when a batch did not fit into memory and smaller ones follow.

    Returns:
        Features with float32 values [n, model.config.features].

    Raises:
        JaxtlError: an unknown precision.
    """
    values = run_layers(
        model, 0, model.config.pooled, dataset.images, images, batch_size, progress,
        precision=precision, notify=notify,
    ).x  # fmt: skip
    return features_of(model, dataset, images, values, precision)


def stream(
    model: MobileNetV2,
    images_of: Callable[[int, int], np.ndarray],
    n: int,
    images: Images = Images(),
    *,
    first: int = 0,
    batch_size: int | None = None,
    precision: ops.Precision = "highest",
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> Iterator[np.ndarray]:
    """`extract` piece by piece, for features or images that do not fit into memory together.

    Args:
        images_of: uint8 images of the rows from a number to another, exclusive.
        n, first: rows `first` to n, exclusive.
        images, batch_size, precision, progress, notify: as of `extract`.

    Yields float32 [some, model.config.features], in order.
    """
    for start in range(first, n, STREAMED):
        stop = min(start + STREAMED, n)

        def tell(fraction: float, start: int = start, stop: int = stop) -> None:
            _report(progress, (start - first + (stop - start) * fraction) / (n - first))

        yield run_layers(
            model, 0, model.config.pooled, images_of(start, stop), images, batch_size, tell,
            precision=precision, notify=notify,
        ).x  # fmt: skip


def extract_to_store(
    path: Pathlike, model: MobileNetV2, dataset: Dataset, images: Images = Images(), **how: Any
) -> None:
    """`extract` to a store on disk (`jaxtl.records.store`), piece by piece: neither all images nor all
    features are ever in memory. Arguments as of `extract`; raises OSError where the store cannot be written.
    """
    d = model.config.features
    meta = features_of(
        model, dataset.take(1), images, np.zeros((1, d), np.float32), how.get("precision", "highest")
    ).meta
    pieces = stream(model, lambda start, stop: dataset.images[start:stop], len(dataset), images, **how)
    store.write(path, pieces, dataset.labels, dataset.index, meta, d)


def extract_layers(
    model: MobileNetV2,
    dataset: Dataset,
    layers: Sequence[str],
    images: Images = Images(),
    *,
    batch_size: int | None = None,
    precision: ops.Precision = "highest",
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> dict[str, np.ndarray]:
    """Global averages of several layers' outputs, all from one pass; arguments as of `extract`.

    Args:
        layers: names of layers of the backbone, such as "block_3_project_BN".

    Returns:
        For each layer, in the network's order, float32 [n, its channels].

    Raises:
        JaxtlError: an unknown layer or precision.
    """
    ops.check(precision, None)
    positions = {model.config.position(name) + 1 for name in layers}
    return average_layers(
        model, 0, positions, dataset.images, images, batch_size, progress, precision=precision, notify=notify
    )


def average_layers(
    model: MobileNetV2,
    start: int,
    ends: Collection[int],
    source: Any,
    prepare: Images | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
    *,
    precision: ops.Precision = "highest",
    form: ops.Form | None = None,
    notify: Notify | None = None,
) -> dict[str, np.ndarray]:
    """Global averages of outputs from layer `start` on; arguments as of `run_layers`.

    Args:
        ends: of the stretches whose last layer's output is averaged, each beyond `start`.

    Returns:
        For the last layer of each stretch, in the network's order, float32 [n, its channels].
    """
    if not ends:
        return {}
    plans, arrays = _stretches(model, start, sorted(ends))
    step = partial(_run_stretches, plans, prepare, form or ops.default_form(), precision, arrays)
    averages = collect(step, source, batch_size or default_batch_size(), progress, notify)
    return {model.config.layers[end - 1].name: each for end, each in zip(sorted(ends), averages, strict=True)}


def _stretches(
    model: MobileNetV2, start: int, ends: Sequence[int]
) -> tuple[tuple[folding.Plan, ...], tuple[folding.Arrays, ...]]:
    return tuple(zip(*(folding.fold(model, *each) for each in pairwise([start, *ends])), strict=True))


@partial(Program, static=4)
def _run_stretches(
    plans: tuple[folding.Plan, ...],
    prepare: Images | None,
    form: ops.Form,
    precision: ops.Precision,
    arrays: tuple[folding.Arrays, ...],
    batch: Any,
) -> list[jax.Array]:
    # An earlier program's outputs are widened; what they were is what this one goes on from.
    carry = enter(prepare, batch) if prepare else jax.tree.map(lambda a: ops.stored(a, precision), batch)
    averages = []
    for plan, weights in zip(plans, arrays, strict=True):
        carry = folding.run(plan, weights, carry, form, precision)
        averages.append(ops.widened(carry.x).mean((1, 2)))
    return averages


class Blocks(NamedTuple):
    """The first images of a set at the ends of a network's first blocks.

    `averages` by the name of a block's last layer, float32 [n, its channels]; `start` is the number of layers
    up to there, 0 where there is no such block, and `source` what the next layer takes: a Carry, or the
    images themselves.
    """

    averages: dict[str, np.ndarray]
    start: int
    source: Any


def run_blocks(
    model: MobileNetV2,
    stop: int,
    images: np.ndarray,
    prepare: Images,
    first: int,
    batch_size: int | None = None,
    progress: Progress | None = None,
    *,
    precision: ops.Precision = "highest",
    form: ops.Form | None = None,
    notify: Notify | None = None,
    on_device: bool = False,
) -> tuple[Carry, Blocks]:
    """`run_layers` from the images on; in the same pass, the first images at the ends of the blocks passed.

    The averages cost no time that could be measured. Arguments as of `run_layers`.
    """
    ops.check(precision, form)
    ends = block_ends(model, 0, stop)
    if not ends:
        how = {"precision": precision, "form": form, "notify": notify, "on_device": on_device}
        carry = run_layers(model, 0, stop, images, prepare, batch_size, progress, **how)
        return carry, Blocks({}, 0, images[:first])
    step = _blocks_step(model, stop, ends, prepare, form or ops.default_form(), precision)
    size = batch_size or default_batch_size()
    if not first:
        carry = collect(lambda batch: step(batch)[0], images, size, progress, notify, on_device)
        return carry, Blocks({}, 0, images[:0])
    carry, (averages, kept) = collect(step, images, size, progress, notify, on_device, first)
    names = (model.config.layers[end - 1].name for end in ends)
    return carry, Blocks(dict(zip(names, averages, strict=True)), ends[-1], kept)


def prepare_blocks(
    model: MobileNetV2,
    stop: int,
    image: Any,
    prepare: Images,
    *,
    precision: ops.Precision = "highest",
    form: ops.Form | None = None,
) -> None:
    """Have what `run_blocks` needs compiled in a thread; `image` as of `prepare_layers`."""
    if ends := block_ends(model, 0, stop):
        step = _blocks_step(model, stop, ends, prepare, form or ops.default_form(), precision)
        _run_blocks.prepare(*step.args, _batch_of(image))
    else:
        prepare_layers(model, 0, stop, image, prepare, precision=precision, form=form)


def prepare_averages(
    model: MobileNetV2,
    start: int,
    ends: Collection[int],
    image: Any,
    prepare: Images | None = None,
    *,
    precision: ops.Precision = "highest",
    form: ops.Form | None = None,
) -> None:
    """Have what `average_layers` needs compiled in a thread; `image` as of `prepare_layers`."""
    if ends:
        plans, arrays = _stretches(model, start, sorted(ends))
        form = form or ops.default_form()
        _run_stretches.prepare(plans, prepare, form, precision, arrays, _batch_of(image))


def block_ends(model: MobileNetV2, start: int, stop: int) -> list[int]:
    """The numbers of layers after which a block ends, beyond `start` and up to `stop`."""
    ends = (model.config.position(name) + 1 for name in model.config.block_ends)
    return [end for end in ends if start < end <= stop]


def _blocks_step(model, stop, ends, prepare, form, precision) -> partial:
    plans, arrays = _stretches(model, 0, sorted({*ends, stop}))
    return partial(_run_blocks, plans, len(ends), prepare, form, precision, arrays)


@partial(Program, static=5)
def _run_blocks(
    plans: tuple[folding.Plan, ...],
    blocks: int,
    prepare: Images,
    form: ops.Form,
    precision: ops.Precision,
    arrays: tuple[folding.Arrays, ...],
    batch: jax.Array,
) -> tuple[Carry, tuple[list[jax.Array], Carry]]:
    """The last output; averages at the ends of the first `blocks`, and what the last of them hands on."""
    carry, averages, kept = enter(prepare, batch), [], None
    for plan, weights in zip(plans, arrays, strict=True):
        carry = folding.run(plan, weights, carry, form, precision)
        if len(averages) < blocks:
            averages.append(ops.widened(carry.x).mean((1, 2)))
            kept = carry
    return jax.tree.map(ops.widened, (carry, (averages, kept)))


def features_of(
    model: MobileNetV2,
    dataset: Dataset,
    images: Images,
    values: np.ndarray,
    precision: ops.Precision = "highest",
) -> Features:
    """Pooled values with the record of where they come from."""
    meta = {
        "model": f"mobilenet_v2 width {model.config.width:g}",
        "layer": "global_average_pooling2d",
        "weights_digest": tensor_digest(arrays_of(model)),
        "dataset": dataset.name,
        "split": dataset.split,
        "class_names": list(dataset.class_names),
        "image_size": images.image_size,
        "preprocessing": images.preprocessing,
        "precision": precision,
    }
    return Features(values, dataset.labels, dataset.index, meta)


def run_layers(
    model: MobileNetV2,
    start: int,
    stop: int,
    source: Any,
    prepare: Images | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
    *,
    precision: ops.Precision = "highest",
    form: ops.Form | None = None,
    notify: Notify | None = None,
    on_device: bool = False,
) -> Carry:
    """Layers `start` to `stop` (exclusive) over all rows of `source`, batch by batch.

    Where the device's memory does not hold a batch, the batches are halved, down to one image, and the
    results so far are kept.

    Args:
        source: uint8 images where `prepare` is given, else the Carry that an earlier stretch of the network
            left.
        form: of the convolutions; None takes what is fastest on the platform.
        notify: called with one line when the batches are halved.
        on_device: leave the result in the device's memory.

    Returns:
        A Carry of float32 arrays with one row an image.
    """
    ops.check(precision, form)
    plan, arrays = folding.fold(model, start, stop)
    step = partial(_run_batch, plan, prepare, form or ops.default_form(), precision, arrays)
    return collect(step, source, batch_size or default_batch_size(), progress, notify, on_device)


def prepare_layers(
    model: MobileNetV2,
    start: int,
    stop: int,
    image: Any,
    prepare: Images | None = None,
    *,
    precision: ops.Precision = "highest",
    form: ops.Form | None = None,
) -> None:
    """Have what `run_layers` needs compiled in a thread.

    Args:
        image: a row of its `source`, without the first axis, as `jax.ShapeDtypeStruct`s.
    """
    plan, arrays = folding.fold(model, start, stop)
    _run_batch.prepare(plan, prepare, form or ops.default_form(), precision, arrays, _batch_of(image))


def prepare_device_rows(n: int, row: Any) -> None:
    """Have what keeps n rows of outputs on the device, and reads them in batches, compiled in threads."""
    output, start = _batch_of(row), jax.ShapeDtypeStruct((), np.int32)
    result = jax.tree.map(lambda a: jax.ShapeDtypeStruct((n, *a.shape), a.dtype), row)
    _zeros.prepare(n, output)
    _put.prepare(result, output, start)
    _batch.prepare(default_batch_size(), result, start)


def _batch_of(image: Any) -> Any:
    size = default_batch_size()
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape), a.dtype), image)


def default_batch_size() -> int:
    """Images at a time that are fastest on the platform."""
    return _BATCH_SIZE.get(jax.default_backend(), _ACCELERATOR_BATCH_SIZE)


@partial(Program, static=4)
def _run_batch(
    plan: folding.Plan,
    prepare: Images | None,
    form: ops.Form,
    precision: ops.Precision,
    arrays: folding.Arrays,
    batch: Any,
) -> Carry:
    carry = enter(prepare, batch) if prepare else batch
    return jax.tree.map(ops.widened, folding.run(plan, arrays, carry, form, precision))


def enter(images: Images, batch: jax.Array) -> Carry:
    """uint8 [n, h, w, 1 or 3] to the network's input, float32 [n, image_size, image_size, 3]."""
    return Carry(preprocess(batch, images.image_size, images.preprocessing))


def rows(source: Any) -> int:
    return len(jax.tree.leaves(source)[0])


def batches(source: Any, size: int, first: int = 0) -> Iterator[Any]:
    """Slices of `size` rows of every array, from row `first`; the last one is filled up with its last row."""
    n = rows(source)
    on_device = isinstance(jax.tree.leaves(source)[0], jax.Array)
    for start in range(first, n, size):
        if on_device:
            yield _batch(size, source, np.int32(start))
        elif start + size <= n:
            yield jax.tree.map(lambda a: a[start : start + size], source)  # noqa: B023
        else:
            index = np.minimum(np.arange(start, start + size), n - 1)
            yield jax.tree.map(lambda a: a[index], source)  # noqa: B023


@partial(Program, static=1)  # whole batches and the last one alike, where JAX's indexing compiles many
def _batch(size: int, source: Any, start: jax.Array) -> Any:
    return jax.tree.map(lambda a: a[jnp.minimum(start + jnp.arange(size), len(a) - 1)], source)


def collect(
    step: Callable[[Any], Any],
    source: Any,
    size: int,
    progress: Progress | None = None,
    notify: Notify | None = None,
    on_device: bool = False,
    first: int = 0,
) -> Any:
    """The step's outputs for all rows of `source`, in order, in host memory or on the device.

    Where `first` is given, a step's output is a pair, and so is the result: its second part is of so many
    rows only, the first ones, and in host memory.

    A batch that the device's memory does not hold is tried again at half the size, as are those after it.
    """
    n, result, more, done = rows(source), None, None, 0
    store, fetch = (_store_on_device, jax.block_until_ready) if on_device else (_store, _to_host)
    while done < n:
        try:
            for output in _outputs(lambda batch: fetch(step(batch)), batches(source, size, done)):
                output, extra = output if first else (output, None)
                if done < first:
                    more, _ = _store(more, done, min(first, n), _to_host(extra))
                result, done = store(result, done, n, output)
                _report(progress, done / n)
        except jax.errors.JaxRuntimeError as error:
            if size == 1 or not _is_out_of_memory(error):
                raise
            # What the error holds on to, a failed batch's arrays among it, is free after this block.
            size //= 2
            if notify is not None:
                notify(f"out of memory with batches of {2 * size:,}: goes on with {size:,}")
    return (result, more) if first else result


def _outputs(step: Callable[[Any], Carry], inputs: Iterator[Any]) -> Iterator[Carry]:
    """The step's outputs in order.

    Two batches are under way at a time: while one is in a part of the network that keeps only one core (or
    the host) busy, the other uses the rest.
    """
    pending = deque()
    with ThreadPoolExecutor(_BATCHES_AT_A_TIME) as pool:
        for each in inputs:
            pending.append(pool.submit(step, each))
            if len(pending) > _BATCHES_AT_A_TIME:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _is_out_of_memory(error: Exception) -> bool:
    # XLA's own allocator says the one, CUDA and its libraries the other.
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def _to_host(output: Carry) -> Carry:
    return jax.tree.map(np.asarray, output)


def _store(result: Carry | None, done: int, n: int, output: Carry) -> tuple[Carry, int]:
    if result is None:
        result = jax.tree.map(lambda a: _aligned((n, *a.shape[1:])), output)
    count = min(rows(output), n - done)
    jax.tree.map(lambda to, a: np.copyto(to[done : done + count], a[:count]), result, output)
    return result, done + count


def _store_on_device(result: Carry | None, done: int, n: int, output: Carry) -> tuple[Carry, int]:
    if result is None:
        result = _zeros(n, output)
    return _put(result, output, np.int32(done)), min(done + rows(output), n)


@partial(Program, static=1)
def _zeros(n: int, output: Carry) -> Carry:
    return jax.tree.map(lambda a: jnp.zeros((n, *a.shape[1:]), a.dtype), output)


@partial(Program, donate=(0,))  # in place: no second copy of the largest array
def _put(result: Carry, output: Carry, start: jax.Array) -> Carry:
    # Rows beyond the last one, of a batch that was filled up, fall away.
    return jax.tree.map(lambda to, a: to.at[start + jnp.arange(len(a))].set(a, mode="drop"), result, output)


def _aligned(shape: tuple[int, ...], boundary: int = 64) -> np.ndarray:
    # JAX on a CPU takes over a host array without a copy where it starts at a multiple of 64 bytes.
    size = int(np.prod(shape)) * 4
    buffer = np.empty(size + boundary, np.uint8)
    offset = -buffer.ctypes.data % boundary
    return buffer[offset : offset + size].view(np.float32).reshape(shape)


def _report(progress: Progress | None, fraction: float) -> None:
    if progress is not None:
        progress(fraction)
