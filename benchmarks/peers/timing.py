"""What a call of a peer returns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from benchmarks.memory import watched

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
