"""Arrays over all devices in use: rows divided among them, or whole on each. One device is as ever.

Divided rows are computed by each device alone: whatever runs beside them, such programs cannot wait for each
other. Only training makes devices speak to each other, and one program trains at a time; devices of other
processes take part in what is computed `everywhere`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import cache, partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxtl.machine.devices import devices_used

_AXIS = "devices"
_ROWS, _WHOLE = PartitionSpec(_AXIS), PartitionSpec()


def mesh() -> Mesh | None:
    """The devices in use, in JAX's order; None where there is one."""
    count = devices_used()
    return _mesh_of(tuple(jax.local_devices()[:count])) if count > 1 else None


@cache
def _mesh_of(devices: tuple[jax.Device, ...]) -> Mesh:
    # The compiler divides what training computes; how is not part of its arrays' types.
    return Mesh(np.array(devices), (_AXIS,), axis_types=(AxisType.Auto,))


def everywhere() -> Mesh:
    """The devices in use of all processes that work together, each process's side by side.

    All are to use as many (`jaxtl.machine.exchange.check_alike` says where they do not).
    """
    return _mesh_of(tuple(device for own in _of_each_process() for device in own[: devices_used()]))


def first_of_each() -> Mesh:
    """A device of every process, which can speak for it."""
    return _mesh_of(tuple(own[0] for own in _of_each_process()))


def _of_each_process() -> list[list[jax.Device]]:
    own: list[list[jax.Device]] = [[] for _ in range(jax.process_count())]
    for device in jax.devices():
        own[device.process_index].append(device)
    return own


def position() -> jax.Array:
    """In a function of `by_rows`: the place of the device that computes, from 0."""
    return jax.lax.axis_index(_AXIS)


def passed_on(rows: jax.Array, count: int) -> jax.Array:
    """In a function of `by_rows` over so many devices: what the next one has; the last one's is the first."""
    return jax.lax.ppermute(rows, _AXIS, [(number, (number - 1) % count) for number in range(count)])


def place(over: Mesh, rows: bool) -> NamedSharding:
    """Where an array lies whose rows are divided, or which is whole on each device."""
    return NamedSharding(over, _ROWS if rows else _WHOLE)


def rounded_up(count: int) -> int:
    """The least number of rows, not below `count`, that can be divided."""
    return -(-count // devices_used()) * devices_used()


def whole(tree: Any) -> Any:
    """Arrays on every device in use."""
    over = mesh()
    return jax.device_put(tree, None if over is None else place(over, rows=False))


def divided(tree: Any) -> Any:
    """Arrays whose rows, as many as `rounded_up` gives, are divided over the devices in use."""
    over = mesh()
    return jax.device_put(tree, None if over is None else place(over, rows=True))


def placed(arrays: tuple[Any, ...], places: tuple[NamedSharding, ...]) -> tuple[Any, ...]:
    """Arrays where a program takes them.

    Where devices of other processes have a part in it, whole arrays are the same in each of them, and divided
    ones must have been put there before.
    """
    if all(where.is_fully_addressable for where in places):
        return jax.device_put(arrays, places)
    pairs = zip(arrays, places, strict=True)
    return tuple(jax.tree.map(partial(_spread, where=where), tree) for tree, where in pairs)


def _spread(array: Any, where: NamedSharding) -> jax.Array:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return array
    # Not by device_put, which would have all processes compare what they have.
    own = np.asarray(array)
    return jax.make_array_from_callback(own.shape, where, lambda index: own[index])


def split_rows(tree: Any, over: Mesh | None = None) -> Any:
    """In a function that is traced: from here on the rows of these arrays are divided as by `divided`.

    `over`: the devices; None for those in use here.
    """
    over = over or mesh()
    return tree if over is None else jax.lax.with_sharding_constraint(tree, place(over, rows=True))


def join_rows(tree: Any, over: Mesh | None = None) -> Any:
    """In a function that is traced: from here on these arrays are whole on every device."""
    over = over or mesh()
    return tree if over is None else jax.lax.with_sharding_constraint(tree, place(over, rows=False))


def split_batch(index: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """In a function that is traced: numbers of a batch's rows, divided over the devices in use.

    Where they cannot be, they are filled up with the last one: then float32 ones come with them for rows that
    count, and zeros for others.
    """
    size, most = len(index), rounded_up(len(index))
    if most == size:
        return split_rows(index), None
    filled = jnp.pad(index, (0, most - size), mode="edge")
    return split_rows(filled), split_rows((jnp.arange(most) < size).astype(jnp.float32))


def by_rows(function: Callable, over: Mesh, rows: tuple[bool, ...]) -> Callable:
    """A function of as many arrays, of which each device computes the rows that it has of those so marked.

    Its results have rows, too, and are divided as those are.
    """
    specs = tuple(_ROWS if divided else _WHOLE for divided in rows)
    # What is checked otherwise are loops whose state begins alike everywhere: here no device sees another's.
    return jax.shard_map(function, mesh=over, in_specs=specs, out_specs=_ROWS, check_vma=False)


def named_by_rows(function: Callable, over: Mesh, rows: Collection[str], static: Collection[str]) -> Callable:
    """`by_rows` of a function whose arguments are told by their names; `static` ones are no arrays."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        given = signature.bind(*args, **named).arguments
        fixed = {name: value for name, value in given.items() if name in static}
        arrays = {name: value for name, value in given.items() if name not in static}

        def of_share(*values: Any) -> Any:
            return partial(function, **fixed)(**dict(zip(arrays, values, strict=True)))

        return by_rows(of_share, over, tuple(name in rows for name in arrays))(*arrays.values())

    return call
