"""All rows of a set through a step of the network, in batches of one size.

The last batch is filled up and cut, so each row's result does not depend on how many there are, and each step
is compiled once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.machine.devices import devices_used
from jaxtl.machine.host import cpu_count
from jaxtl.machine.memory import available_memory, largest_count
from jaxtl.machine.mesh import rounded_up
from jaxtl.machine.programs import Program
from jaxtl.models.network import Carry
from jaxtl.progress import Notify, Progress
from jaxtl.ranges import RANGES
from jaxtl.records.rows import IN_MEMORY, StoredRows, is_in_memory, put_rows
from jaxtl.settings import Images

T = TypeVar("T")
# Makes a float32 array of a shape, or what stands for one.
Place = Callable[[tuple[int, ...]], Any]

# By measurement on CPUs, at 48 pixels: larger batches leave the cache, smaller ones waste the matrix product.
# At 224 pixels 2 images at a time were 1.7 times as fast as 64, so what counts is their area together.
_BATCH_SIZE = {"cpu": (64, 48), "litert": (32, 48), "openvino": (32, 48), "onnxruntime": (16, 48)}
# Up to these pixels a GPU of 16 GB has the memory for as many.
_ACCELERATOR_BATCH_SIZE = (1024, 224)
# Bytes that are read ahead of the device at a time, where images or rows are in files.
_PIECE = 2**25
# By measurement on two cores: 13 % more images a second than one after the other; three gain nothing more.
BATCHES_AT_A_TIME = 2
# Bytes for each pixel of an image that is on its way through the network: its largest outputs, at 224 pixels.
_PER_PIXEL = 230
# Of a CPU's free memory, what batches may take.
_FREE_SHARE = 0.5


def default_batch_size(images: Images | None = None, engine: str = "jax") -> int:
    """Images of a size that are fastest on the platform, together: fewer of larger ones, for their memory.

    By JAX as many for each device in use.
    """
    where, count = (jax.default_backend(), devices_used()) if engine == "jax" else (engine, 1)
    most, size = _BATCH_SIZE.get(where, _ACCELERATOR_BATCH_SIZE)
    pixels = (images or Images()).image_size
    return count * max(1, min(most, most * size**2 // pixels**2))


def batch_size_for(
    images: Images | None,
    asked: int | None,
    notify: Notify | None = None,
    engine: str = "jax",
    at_a_time: int = BATCHES_AT_A_TIME,
) -> int:
    """The size of batches that is asked for, or else the default; on a CPU what its free memory holds of it.

    It is rounded up to what the devices in use can divide among them. A GPU's batches are halved where they
    fail, but a CPU has no failure: whoever takes too much is killed.

    Args:
        notify: called with one line where batches are smaller than what was asked for.
        engine: that computes them, as of `jaxtl.network.engine.chosen_engine`.
        at_a_time: batches that are under way together.

    Raises JaxtlError for a size that is none.
    """
    size = default_batch_size(images, engine)
    if asked is not None:
        size = rounded_up(RANGES["batch_size"].checked("batch_size", asked))
    if jax.default_backend() != "cpu":
        return size
    share = int(_FREE_SHARE * available_memory())
    fits = largest_count(lambda batch: bytes_of_batches(images or Images(), batch, at_a_time), size, share)
    fits = _divisible(fits)
    if fits < size and notify is not None:
        notify(
            f"little memory is free: batches of {fits:,} images instead of {size:,}, which round otherwise"
        )
    return fits


def _divisible(size: int) -> int:
    """A batch, not larger than this if it can be, that is divided over the devices in use."""
    count = devices_used()
    return max(count, size // count * count)


def bytes_of_batches(images: Images, size: int, at_a_time: int = BATCHES_AT_A_TIME) -> int:
    """What images on their way through the network take on a CPU, of batches of a size."""
    return at_a_time * size * images.image_size**2 * _PER_PIXEL


def rows(source: Any) -> int:
    return len(jax.tree.leaves(source)[0])


def batches(source: Any, size: int, first: int = 0) -> Iterator[Any]:
    """Slices of `size` rows of every array, from row `first`; the last one is filled up with its last row.

    What is read or made where it is indexed is so a piece ahead, by a thread of its own.
    """
    n = rows(source)
    if not in_memory(source):
        yield from _batches_ahead(source, size, first)
        return
    on_device = isinstance(jax.tree.leaves(source)[0], jax.Array)
    for start in range(first, n, size):
        if on_device:
            yield _batch(size, source, np.int32(start))
        elif start + size <= n:
            yield jax.tree.map(lambda a: a[start : start + size], source)  # noqa: B023
        else:
            index = np.minimum(np.arange(start, start + size), n - 1)
            yield jax.tree.map(lambda a: a[index], source)  # noqa: B023


def _batches_ahead(source: Any, size: int, first: int) -> Iterator[Any]:
    n = rows(source)
    row = max(1, sum(leaf.nbytes for leaf in jax.tree.leaves(source)) // n)
    step = size * max(1, _PIECE // (size * row))

    def read(start: int) -> Any:
        return jax.tree.map(lambda a: a[start : min(start + step, n)], source)

    for piece in ahead(read, range(first, n, step)):
        yield from batches(piece, size)


def ahead(read: Callable[[T], Any], parts: Iterable[T]) -> Iterator[Any]:
    """`read` of every part, in order, the next one while the last is used."""
    pending = deque()
    with ThreadPoolExecutor(1) as reader:
        for part in parts:
            pending.append(reader.submit(read, part))
            if len(pending) > 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def in_memory(source: Any) -> bool:
    """Whether all arrays of a source are there as a whole, on the host or a device."""
    return all(map(is_in_memory, jax.tree.leaves(source)))


# Whole batches and the last one alike, where JAX's indexing compiles many.
@partial(Program, static=1, gives_rows=True)
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
    place: Place | None = None,
    at_a_time: int = BATCHES_AT_A_TIME,
) -> Any:
    """The step's outputs for all rows of `source`, in order, in host memory or on the device.

    `place` makes what the outputs are put into, where that is not to be in host memory.

    Where `first` is given, a step's output is a pair, and so is the result: its second part is of so many
    rows only, the first ones, and in host memory.

    A batch that the device's memory does not hold is tried again at half the size, as are those after it.
    """
    n, result, more, done = rows(source), None, None, 0
    keep = partial(_store, place or _aligned)
    store, fetch = (_store_on_device, jax.block_until_ready) if on_device else (keep, _to_host)
    while done < n:
        try:
            fetched = _outputs(lambda batch: fetch(step(batch)), batches(source, size, done), at_a_time)
            for output in fetched:
                output, extra = output if first else (output, None)
                if done < first:
                    more, _ = keep(more, done, min(first, n), _to_host(extra))
                result, done = store(result, done, n, output)
                advance(progress, done / n)
        except jax.errors.JaxRuntimeError as error:
            failed, size = size, _divisible(size // 2)
            if size == failed or not _is_out_of_memory(error):
                raise
            # What the error holds on to, a failed batch's arrays among it, is free after this block.
            if notify is not None:
                notify(
                    f"out of memory with batches of {failed:,}: goes on with {size:,}, which round otherwise"
                )
    return (result, more) if first else result


def run_batches(
    engine: str,
    step: Callable[[Any], Any],
    source: Any,
    images: Images | None,
    batch_size: int | None,
    *,
    progress: Progress | None = None,
    notify: Notify | None = None,
    **how: Any,
) -> Any:
    """`collect` in as many batches of the size that an engine takes; `how` is of `collect`.

    Args:
        engine: that the step computes with; others than JAX have a batch under way on every core.
        images: how images become input, of steps that take images.
        batch_size: asked for, the most images at a time; None takes what is fastest. A CPU takes more than
            that in pieces, which stay in its cache.
    """
    at_a_time = BATCHES_AT_A_TIME if engine == "jax" else cpu_count()
    size = batch_size_for(images, batch_size, notify, engine, at_a_time)
    if images:
        size = taken_at_once(size, default_batch_size(images, engine))
    return collect(step, source, size, progress, notify, at_a_time=at_a_time, **how)


def taken_at_once(asked: int | None, usual: int) -> int:
    """Images at a time of batches: a CPU takes no more than are usual, which stay in its cache."""
    if asked is None:
        return usual
    return min(asked, usual) if jax.default_backend() == "cpu" else asked


def _outputs(step: Callable[[Any], Carry], inputs: Iterator[Any], at_a_time: int) -> Iterator[Carry]:
    """The step's outputs in order.

    JAX has two batches under way at a time: while one is in a part of the network that keeps only one core
    (or the host) busy, the other uses the rest.
    """
    pending = deque()
    with ThreadPoolExecutor(at_a_time) as pool:
        for batch in inputs:
            pending.append(pool.submit(step, batch))
            if len(pending) > at_a_time:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _is_out_of_memory(error: Exception) -> bool:
    # XLA's own allocator says the one, CUDA and its libraries the other.
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def _to_host(output: Carry) -> Carry:
    return jax.tree.map(np.asarray, output)


def _store(place: Place, result: Carry | None, done: int, n: int, output: Carry) -> tuple[Carry, int]:
    if result is None:
        result = jax.tree.map(lambda a: place((n, *a.shape[1:])), output)
    count = min(rows(output), n - done)
    jax.tree.map(lambda to, a: put_rows(to, done, a[:count]), result, output)
    return result, done + count


def _store_on_device(result: Carry | None, done: int, n: int, output: Carry) -> tuple[Carry, int]:
    if result is None:
        result = _zeros(n, output)
    return _put(result, output, np.int32(done)), min(done + rows(output), n)


@partial(Program, static=1, rows=(1,))
def _zeros(n: int, output: Carry) -> Carry:
    return jax.tree.map(lambda a: jnp.zeros((n, *a.shape[1:]), a.dtype), output)


# In place: no second copy of the largest array.
@partial(Program, donate=(0,), rows=(1,))
def _put(result: Carry, output: Carry, start: jax.Array) -> Carry:
    # Rows beyond the last one, of a batch that was filled up, fall away.
    return jax.tree.map(lambda to, a: to.at[start + jnp.arange(len(a))].set(a, mode="drop"), result, output)


def place_in(folder: Path | None) -> Place:
    """What makes float32 arrays: in host memory, or in a file in a folder where they are large."""

    def place(shape: tuple[int, ...]) -> Any:
        if 4 * math.prod(shape) <= IN_MEMORY:
            return _aligned(shape)
        return StoredRows.empty(shape, np.float32, folder)

    return place


def prepare_device_rows(n: int, row: Any, size: int) -> None:
    """Have what keeps n rows of outputs on the device, and reads them in batches, compiled in threads."""
    output, start = batch_of(row, size), jax.ShapeDtypeStruct((), np.int32)
    result = jax.tree.map(lambda a: jax.ShapeDtypeStruct((n, *a.shape), a.dtype), row)
    _zeros.prepare(n, output)
    _put.prepare(result, output, start)
    _batch.prepare(size, result, start)


def batch_of(image: Any, size: int) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape), a.dtype), image)


def _aligned(shape: tuple[int, ...], boundary: int = 64) -> np.ndarray:
    # JAX on a CPU takes over a host array without a copy where it starts at a multiple of 64 bytes.
    size = int(np.prod(shape)) * 4
    buffer = np.empty(size + boundary, np.uint8)
    offset = -buffer.ctypes.data % boundary
    return buffer[offset : offset + size].view(np.float32).reshape(shape)


def advance(progress: Progress | None, fraction: float) -> None:
    if progress is not None:
        progress(fraction)
