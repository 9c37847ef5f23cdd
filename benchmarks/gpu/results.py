"""What a step of the GPU benchmark gives: checks, times and numbers, as JSON holds them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np

Result = dict[str, Any]

# Where a call takes longer, it is not repeated.
_LONG = 20.0


def at_most(check: str, value: float, bound: float) -> Result:
    """A check; NaN fails it."""
    return {
        "check": check,
        "value": float(value),
        "bound": f"at most {bound:g}",
        "passed": bool(value <= bound),
    }


def at_least(check: str, value: float, bound: float) -> Result:
    """A check; NaN fails it."""
    return {
        "check": check,
        "value": float(value),
        "bound": f"at least {bound:g}",
        "passed": bool(value >= bound),
    }


def differences(what: str, ours: np.ndarray, theirs: np.ndarray) -> list[Result]:
    """The network blows float32 rounding up: features of up to 6 differ by 3e-4 from a float64 run's."""
    apart = np.abs(ours.astype(np.float64) - theirs)
    return [
        at_most(f"{what}, largest difference", apart.max(), 5e-4),
        at_least(f"{what}, share within 1e-4", (apart <= 1e-4).mean(), 0.99),
    ]


def timing(what: str, work: Callable[[], Any], repeats: int, count: int | None = None) -> Result:
    """Seconds of the first call, which may compile, and of `repeats` more.

    Args:
        what: is done.
        work: ends when its results are in host memory, or blocks until the device has them.
        repeats: fewer where one of them takes more than 20 s.
        count: images or points that one call works on.
    """
    first, seconds = _seconds(work), []
    while len(seconds) < repeats and (not seconds or seconds[-1] <= _LONG):
        seconds.append(_seconds(work))
    return {"what": what, "count": count, "first_seconds": first, "seconds": seconds}


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextlib.contextmanager
def clocked(functions: dict[str, tuple[ModuleType, str]]) -> Iterator[dict[str, float]]:
    """Seconds within functions of modules, by the names given; they must not return before they are done."""
    parts = dict.fromkeys(functions, 0.0)

    def wrap(part: str, function: Callable) -> Callable:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                parts[part] += time.perf_counter() - began

        return timed

    with contextlib.ExitStack() as patches:
        for part, (module, name) in functions.items():
            patches.enter_context(patch.object(module, name, wrap(part, getattr(module, name))))
        yield parts


def headline(result: Result) -> str:
    """The main figures of what a step gave, one line."""
    if "headline" in result:
        return result["headline"]
    checks = result.get("checks", [])
    missed = [f"NOT PASSED {each['check']}: {each['value']:.4g}" for each in checks if not each["passed"]]
    found = missed or ([f"{len(checks)} checks passed"] if checks else [])
    for each in result.get("times", []):
        first = f"first {each['first_seconds']:.3f} s" if each["first_seconds"] is not None else ""
        then = f"then {np.median(each['seconds']):.3f} s" if each["seconds"] else ""
        found.append(", ".join(filter(None, (first, then))))
    if not found:
        found = [f"{name} {_short(value)}" for name, value in list(result.get("numbers", {}).items())[:6]]
    return "; ".join(found)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
