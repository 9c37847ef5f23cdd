"""A stretch of a network, with fixed statistics, over all rows of a set."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from jaxtl.data.preprocess import preprocess
from jaxtl.machine.devices import Precision
from jaxtl.machine.mesh import whole
from jaxtl.machine.programs import Program
from jaxtl.models import folding, ops
from jaxtl.models.network import Carry, Network
from jaxtl.network.batches import Place, batch_of, batch_size_for, run_batches
from jaxtl.network.engine import hand_on, pass_of
from jaxtl.progress import Notify, Progress
from jaxtl.settings import Images


def run_layers(
    model: Network,
    start: int,
    stop: int,
    source: Any,
    prepare: Images | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
    *,
    precision: Precision = "highest",
    form: ops.Form | None = None,
    notify: Notify | None = None,
    on_device: bool = False,
    place: Place | None = None,
    engine: str = "jax",
) -> Carry:
    """Layers `start` to `stop` (exclusive) over all rows of `source`, batch by batch.

    Where the device's memory does not hold a batch, the batches are halved, down to one image, and the
    results so far are kept; on a CPU they are as large as its free memory allows from the start.

    Args:
        source: uint8 images where `prepare` is given, else the Carry that an earlier stretch of the network
            left.
        form: of the convolutions; None takes what is fastest on the platform.
        notify: called with one line when the batches are smaller than they should be.
        on_device: leave the result in the device's memory.
        place: as of `jaxtl.network.batches.collect`.
        engine: that computes layers from the images on, as of `jaxtl.network.engine.chosen_engine`; JAX
            computes the others.

    Returns:
        A Carry of float32 arrays with one row an image.
    """
    ops.check(precision, form)
    plan, arrays = folding.fold(model, start, stop)
    engine = engine if prepare else "jax"
    if engine == "jax":
        step = partial(_run_batch, plan, prepare, form or ops.default_form(), precision, whole(arrays))
    else:
        step = pass_of(engine, (plan,), (arrays,), prepare, precision, hand_on)
    how = {"progress": progress, "notify": notify, "on_device": on_device, "place": place}
    return run_batches(engine, step, source, prepare, batch_size, **how)


def prepare_layers(
    model: Network,
    start: int,
    stop: int,
    image: Any,
    prepare: Images | None = None,
    batch_size: int | None = None,
    *,
    precision: Precision = "highest",
    form: ops.Form | None = None,
    engine: str = "jax",
) -> None:
    """Have what `run_layers` needs compiled in a thread; other engines than JAX take no time worth it.

    Args:
        image: a row of its `source`, without the first axis, as `jax.ShapeDtypeStruct`s.
    """
    if prepare and engine != "jax":
        return
    plan, arrays = folding.fold(model, start, stop)
    batch = batch_of(image, batch_size_for(prepare, batch_size))
    _run_batch.prepare(plan, prepare, form or ops.default_form(), precision, arrays, batch)


@partial(Program, static=4, rows=(5,), gives_rows=True)
def _run_batch(
    plan: folding.Plan,
    prepare: Images | None,
    form: ops.Form,
    precision: Precision,
    arrays: folding.Arrays,
    batch: Any,
) -> Carry:
    carry = enter(prepare, batch) if prepare else batch
    return jax.tree.map(ops.widened, folding.run(plan, arrays, carry, form, precision))


def enter(images: Images, batch: jax.Array) -> Carry:
    """uint8 [n, h, w, 1 or 3] to the network's input, float32 [n, image_size, image_size, 3]."""
    # What was read from files has its size already.
    antialias = images.antialias == "on"
    return Carry(preprocess(batch, images.image_size, images.preprocessing, antialias, images.fit))
