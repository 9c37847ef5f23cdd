"""Who gets which cores and which GPU, where several processes compute side by side on one machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtl.machine import cuda
from jaxtl.machine.host import cpu_count


@dataclass(frozen=True)
class Share:
    """What one of several processes on a machine computes with.

    Attributes:
        cores: numbers of its cores as the system counts them; empty where it cannot be held to some.
        gpu: as CUDA_VISIBLE_DEVICES names it; None for none.
        beside: processes on the machine that share its memory, at least 1.
    """

    cores: tuple[int, ...] = ()
    gpu: str | None = None
    beside: int = 1


def cores_here() -> list[int]:
    """Numbers of the cores that this process may use, ascending; as many as there are where none are told."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else list(range(cpu_count()))


def gpus_here() -> list[str]:
    """The GPUs that JAX could compute on in this process, as CUDA_VISIBLE_DEVICES names them."""
    driver = None if cuda.jax_gpu_fault() else cuda.driver()
    if driver is None:
        return []
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return [name for name in named if name] or [str(number) for number in range(len(driver.gpus))]


def divided(has: Mapping[str, Mapping[str, Any]]) -> dict[str, Share | None]:
    """The shares of processes on one machine: no core and no GPU is in two of them while there are enough.

    Args:
        has: by the name of each process, its `cores` (`cores_here`) and `gpus` (`gpus_here`), in the order in
            which they choose.

    Returns:
        None for a process that finds all GPUs taken, where there are some.
    """
    shares: dict[str, Share | None] = {}
    taken: set[str] = set()
    for name, own in has.items():
        alike = [other for other, its in has.items() if set(its["cores"]) == set(own["cores"])]
        cores = _part(sorted(own["cores"]), alike.index(name), len(alike))
        gpu = next((gpu for gpu in own["gpus"] if gpu not in taken), None)
        taken |= {gpu} - {None}
        shares[name] = None if own["gpus"] and gpu is None else Share(cores, gpu, len(has))
    return shares


def _part(cores: Sequence[int], number: int, parts: int) -> tuple[int, ...]:
    """Neighbouring cores, which share caches; where there are too few, one core serves several."""
    first, end = (place * len(cores) // parts for place in (number, number + 1))
    return tuple(cores[first:end]) or (cores[number % len(cores)],)


@contextlib.contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """Inside, processes that this thread starts have these cores alone, where the system can do that."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
