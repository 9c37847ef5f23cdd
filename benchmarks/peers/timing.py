"""What a call of a peer returns: its time, and the most memory that it holds, of the process and its GPU."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from jaxtl.machine.memory import forget_peak, peak_memory, resident

Result = dict[str, Any]
T = TypeVar("T")


def measured(
    work: Callable[[], T],
    quality: Callable[[T], dict[str, float]],
    amount: dict[str, int] | None = None,
    compiled: Callable[[], float] | None = None,
) -> Result:
    """Time a piece of work and judge what it gives.

    Args:
        work: ends when its results are in host memory.
        quality: of what `work` returns; not timed.
        amount: of work, by `benchmarks.peers.work`.
        compiled: seconds that this process has spent on compilation so far.
    """
    before = compiled() if compiled else 0.0
    with watched() as memory:
        began = time.perf_counter()
        outcome = work()
        seconds = time.perf_counter() - began
    result: Result = {"seconds": seconds, "memory": memory}
    if compiled:
        result["compile_seconds"] = compiled() - before
    result["quality"] = {name: float(value) for name, value in quality(outcome).items()}
    return result | ({"work": amount} if amount else {})


@contextlib.contextmanager
def watched() -> Iterator[dict[str, int]]:
    """Yields a dictionary that is filled at the end.

    peak_bytes          the largest resident size of the process during the work
    resting_bytes       its size before: libraries, data, and what earlier calls left
    device_peak_bytes   on a GPU, by the library's own count where it has one; cuML's is seen by `jaxtl scale`

    Where the kernel does not let its mark be reset (macOS, some containers), `peak_bytes` is the largest size
    that the process ever had.
    """
    peaks: dict[str, int] = {}
    if resting := resident("VmRSS"):
        peaks["resting_bytes"] = resting
    forget_peak()
    torch = sys.modules.get("torch")
    if counted := torch and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    yield peaks
    peaks["peak_bytes"] = resident("VmHWM") or peak_memory()
    if device := torch.cuda.max_memory_allocated() if counted else _jax_peak():
        peaks["device_peak_bytes"] = device


def _jax_peak() -> int | None:
    """JAX's own count, of the process so far, since it cannot be reset; None on a CPU."""
    jax = sys.modules.get("jax")
    if not jax or jax.default_backend() != "gpu":
        return None
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def jax_clock() -> Callable[[], float]:
    """A clock of the seconds that JAX spends on compilation in this process, as it reports them itself."""
    import jax

    seconds: list[float] = []

    def listen(event: str, taken: float, **_: Any) -> None:
        # Tracing, lowering and XLA's own compilation; they follow each other.
        if event.startswith("/jax/core/compile/"):
            seconds.append(taken)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return lambda: sum(seconds, 0.0)
