"""The most memory that a piece of work holds, of the process and of its GPU."""

from __future__ import annotations

import contextlib
import re
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_SAMPLE_SECONDS = 0.005


@contextlib.contextmanager
def watched() -> Iterator[dict[str, int]]:
    """Yields a dictionary that is filled at the end.

    peak_bytes          the largest resident size of the process during the work
    resting_bytes       its size before: libraries, data, and what earlier calls left
    device_peak_bytes   on a GPU, by the library's own count where it has one

    Where the kernel does not let its mark be reset (macOS, some containers), `peak_bytes` is the largest size
    that the process ever had.
    """
    found: dict[str, int] = {}
    if resting := _status("VmRSS"):
        found["resting_bytes"] = resting
    reset = _reset()
    with _device_peak() as device:
        yield found
    found["peak_bytes"] = (_status("VmHWM") if reset else None) or _lifetime_peak()
    if device:
        found["device_peak_bytes"] = max(device)


def _reset() -> bool:
    try:
        _RESET.write_text("5")  # sets the high-water mark to the present size; see proc_pid_clear_refs(5)
    except OSError:
        return False
    return True


def _status(name: str) -> int | None:
    if not _STATUS.is_file():
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _lifetime_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextlib.contextmanager
def _device_peak() -> Iterator[list[int]]:
    """A list that holds a peak at the end, or nothing where no library of this process has a GPU."""
    found: list[int] = []
    if "cupy" in sys.modules:
        import cupy

        with _sampled(lambda: _taken(cupy.cuda.runtime.memGetInfo()), found):
            yield found
    elif "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        import torch

        torch.cuda.reset_peak_memory_stats()
        yield found
        found.append(torch.cuda.max_memory_allocated())
    else:
        yield found
        found += _jax_peak()


def _taken(free_and_total: tuple[int, int]) -> int:
    free, total = free_and_total
    return total - free


@contextlib.contextmanager
def _sampled(read: Callable[[], int], found: list[int]) -> Iterator[None]:
    """What cuML takes while it works: RMM does not count, so the card is asked again and again.

    Of the whole card, less what was taken before; a peak between two samples is missed.
    """
    before, done = read(), threading.Event()
    samples = [0]

    def sample() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            samples.append(read() - before)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        samples.append(read() - before)
        done.set()
        thread.join()
        found.append(max(samples))


def _jax_peak() -> list[int]:
    """JAX's own count, of the process so far, since it cannot be reset; nothing on a CPU."""
    if "jax" not in sys.modules:
        return []
    import jax

    if jax.default_backend() != "gpu":
        return []
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return [] if peak is None else [peak]
