"""Global averages of what a network hands on at the ends of its blocks, several from one pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxtl.machine.devices import Precision
from jaxtl.machine.mesh import whole
from jaxtl.machine.programs import Program
from jaxtl.models import folding, ops
from jaxtl.models.network import Carry, Network
from jaxtl.network.batches import Place, batch_of, batch_size_for, run_batches
from jaxtl.network.engine import average, average_blocks, pass_of
from jaxtl.network.layers import enter, prepare_layers, run_layers
from jaxtl.progress import Notify, Progress
from jaxtl.records.rows import first_rows
from jaxtl.settings import Images


class Blocks(NamedTuple):
    """The first images of a set at the ends of a network's first blocks.

    `averages` by the name of a block's last layer, float32 [n, its channels]; `start` is the number of layers
    up to there, 0 where there is no such block, and `source` what the next layer takes: a Carry, or the
    images themselves.
    """

    averages: dict[str, np.ndarray]
    start: int
    source: Any


def block_ends(model: Network, start: int, stop: int) -> list[int]:
    """The numbers of layers after which a block ends, beyond `start` and up to `stop`."""
    ends = (model.config.position(name) + 1 for name in model.config.block_ends)
    return [end for end in ends if start < end <= stop]


def average_layers(
    model: Network,
    start: int,
    ends: Collection[int],
    source: Any,
    prepare: Images | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
    *,
    precision: Precision = "highest",
    form: ops.Form | None = None,
    notify: Notify | None = None,
    engine: str = "jax",
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
    engine = engine if prepare else "jax"
    if engine == "jax":
        step = partial(_run_stretches, plans, prepare, form or ops.default_form(), precision, arrays)
    else:
        step = pass_of(engine, plans, arrays, prepare, precision, average)
    averages = run_batches(engine, step, source, prepare, batch_size, progress=progress, notify=notify)
    names = (model.config.layers[end - 1].name for end in sorted(ends))
    return dict(zip(names, averages, strict=True))


def prepare_averages(
    model: Network,
    start: int,
    ends: Collection[int],
    image: Any,
    prepare: Images | None = None,
    batch_size: int | None = None,
    *,
    precision: Precision = "highest",
    form: ops.Form | None = None,
    engine: str = "jax",
) -> None:
    """Have what `average_layers` needs compiled in a thread; `image` and `engine` as of `prepare_layers`."""
    if ends and not (prepare and engine != "jax"):
        plans, arrays = _stretches(model, start, sorted(ends))
        form = form or ops.default_form()
        batch = batch_of(image, batch_size_for(prepare, batch_size))
        _run_stretches.prepare(plans, prepare, form, precision, arrays, batch)


def _stretches(
    model: Network, start: int, ends: Sequence[int]
) -> tuple[tuple[folding.Plan, ...], tuple[folding.Arrays, ...]]:
    plans, arrays = zip(*folding.fold_stretches(model, [start, *ends]), strict=True)
    return plans, whole(arrays)


@partial(Program, static=4, rows=(5,), gives_rows=True)
def _run_stretches(
    plans: tuple[folding.Plan, ...],
    prepare: Images | None,
    form: ops.Form,
    precision: Precision,
    arrays: tuple[folding.Arrays, ...],
    batch: Any,
) -> list[jax.Array]:
    # An earlier program's outputs are widened; what they were is what this one goes on from.
    carry = enter(prepare, batch) if prepare else jax.tree.map(lambda a: ops.stored(a, precision), batch)
    averages = []
    for plan, weights in zip(plans, arrays, strict=True):
        carry = folding.run(plan, weights, carry, form, precision)
        output = carry.skip if plan.steps[-1].layer.on_skip else carry.x
        averages.append(ops.widened(output).mean((1, 2)))
    return averages


def run_blocks(
    model: Network,
    stop: int,
    images: np.ndarray,
    prepare: Images,
    first: int,
    batch_size: int | None = None,
    progress: Progress | None = None,
    *,
    precision: Precision = "highest",
    form: ops.Form | None = None,
    notify: Notify | None = None,
    on_device: bool = False,
    place: Place | None = None,
    engine: str = "jax",
) -> tuple[Carry, Blocks]:
    """`run_layers` from the images on; in the same pass, the first images at the ends of the blocks passed.

    The averages cost no time that could be measured. Arguments as of `run_layers`.
    """
    ops.check(precision, form)
    ends = block_ends(model, 0, stop)
    if not ends:
        how = {"precision": precision, "form": form, "notify": notify, "engine": engine}
        how |= {"on_device": on_device, "place": place}
        carry = run_layers(model, 0, stop, images, prepare, batch_size, progress, **how)
        return carry, Blocks({}, 0, first_rows(images, first))
    step = _blocks_step(model, stop, ends, prepare, form or ops.default_form(), precision, engine)
    how = {"progress": progress, "notify": notify, "on_device": on_device, "place": place}
    if not first:
        carry = run_batches(engine, lambda batch: step(batch)[0], images, prepare, batch_size, **how)
        return carry, Blocks({}, 0, first_rows(images, 0))
    both = run_batches(engine, step, images, prepare, batch_size, first=first, **how)
    carry, (averages, kept) = both
    names = (model.config.layers[end - 1].name for end in ends)
    return carry, Blocks(dict(zip(names, averages, strict=True)), ends[-1], kept)


def prepare_blocks(
    model: Network,
    stop: int,
    image: Any,
    prepare: Images,
    batch_size: int | None = None,
    *,
    precision: Precision = "highest",
    form: ops.Form | None = None,
    engine: str = "jax",
) -> None:
    """Have what `run_blocks` needs compiled in a thread; `image` and `engine` as of `prepare_layers`."""
    if engine != "jax":
        return
    if ends := block_ends(model, 0, stop):
        step = _blocks_step(model, stop, ends, prepare, form or ops.default_form(), precision)
        _run_blocks.prepare(*step.args, batch_of(image, batch_size_for(prepare, batch_size)))
    else:
        prepare_layers(model, 0, stop, image, prepare, batch_size, precision=precision, form=form)


def _blocks_step(
    model: Network,
    stop: int,
    ends: Sequence[int],
    prepare: Images,
    form: ops.Form,
    precision: Precision,
    engine: str = "jax",
) -> Callable[[Any], Any]:
    plans, arrays = _stretches(model, 0, sorted({*ends, stop}))
    if engine != "jax":
        return pass_of(engine, plans, arrays, prepare, precision, average_blocks, len(ends))
    return partial(_run_blocks, plans, len(ends), prepare, form, precision, arrays)


@partial(Program, static=5, rows=(6,), gives_rows=True)
def _run_blocks(
    plans: tuple[folding.Plan, ...],
    blocks: int,
    prepare: Images,
    form: ops.Form,
    precision: Precision,
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
