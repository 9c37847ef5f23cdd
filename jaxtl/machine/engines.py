"""Where our own code computes: a CPU's cores, or JAX's GPU where there is one."""

from __future__ import annotations

import contextlib
import threading
from functools import cache

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine import cuda
from jaxtl.machine.devices import device_memory, leave_device_memory

ENGINES = ("auto", "cpu", "jax")
# A CPU has done less before a program for it is compiled.
_LITTLE_WORK = 500_000
# What one function may take of the device's memory beside what JAX and others hold there.
_MEMORY_PART = 0.6


# Who asks for the engine while another thread does waits for its answer.
_asking = threading.Lock()


def get_ready() -> None:
    """Have `default_engine` asked for by a thread: the driver and JAX's GPU take seconds, a CPU nothing.

    Call it when JAX is set up (`jaxtl.machine.devices.configure`), and before what takes time to import.
    """

    def ask() -> None:
        # Who needs it is told what is wrong.
        with contextlib.suppress(Exception):
            default_engine()

    threading.Thread(target=ask, name="engine", daemon=True).start()


def default_engine() -> str:
    """ "jax" where JAX's default device is a GPU, else "cpu".

    JAX is not even imported, which takes a second, where it could not compute on a GPU.
    """
    with _asking:
        return _default_engine()


@cache
def _default_engine() -> str:
    if cuda.jax_gpu_fault():
        return "cpu"
    import jax

    leave_device_memory()
    return "jax" if jax.default_backend() == "gpu" else "cpu"


def engine_for(engine: str, work: int, needed: int) -> str:
    """`engine`, "cpu" or "jax"; "auto" is the GPU where there is one and the work is worth it, and fits.

    Args:
        work: pairs of rows to be measured, or numbers to be multiplied.
        needed: bytes of the device's memory.

    Raises JaxtlError for any other name.
    """
    if engine not in ENGINES:
        raise JaxtlError(f"engine: must be one of {', '.join(ENGINES)}, got {engine!r}")
    if engine != "auto":
        return engine
    if work < _LITTLE_WORK or default_engine() == "cpu":
        return "cpu"
    return "jax" if needed <= _MEMORY_PART * device_memory() else "cpu"


def row_blocks(rows: np.ndarray, most: int, devices: int = 1) -> np.ndarray:
    """`rows` in blocks of one size, at most `most`, int32 [blocks, size]; the last row fills up the last.

    As many blocks for each of the devices.
    """
    count = -(-len(rows) // max(1, most))
    count = -(-count // devices) * devices
    size = -(-len(rows) // count)
    places = np.minimum(np.arange(count * size), len(rows) - 1)
    return rows[places].reshape(count, size).astype(np.int32)
