"""How long, and how much memory: power laws through measured points, and what a machine has left.

Seconds and bytes of a method are close to c n^p over a range of sizes, a line in logarithms (least squares
with t-intervals; Draper & Smith 1998, ch. 3). Which range is for the caller to say: what is constant at small
n (imports, compilation, loops) flattens a curve there and makes forecasts from it too low.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.metrics.estimates import Estimate
from jaxtl.runtime import physical_memory

_FEWEST = 3
_UPPER_TAIL = 0.975
_ROOT = Path("/")


@dataclass(frozen=True)
class PowerLaw:
    """y = coefficient * n^exponent, fitted in logarithms.

    Attributes:
        coefficient: > 0.
        exponent: with its 95 % interval, `low` to `high`.
        smallest, largest: the range of n that it was fitted to.
        count: sizes fitted, repeated ones counted.
        spread: standard error of log y about the line.
        centre: mean of log n.
        width: sum of squares of log n about its mean.
    """

    coefficient: float
    exponent: float
    low: float
    high: float
    smallest: float
    largest: float
    count: int
    spread: float
    centre: float
    width: float

    def at(self, n: float) -> Estimate:
        """What to expect at n > 0, and the interval that one new measurement falls into in 95 %.

        It widens with the distance from the sizes fitted. Raises JaxtlError unless n is a positive number.
        """
        if not 0 < n < math.inf:
            raise JaxtlError(f"forecast: n must be a positive number, got {n}")
        value = self.coefficient * n**self.exponent
        apart = (math.log(n) - self.centre) ** 2 / self.width
        half = _t(self.count - 2) * self.spread * math.sqrt(1 + 1 / self.count + apart)
        # Three points that hardly lie on a line allow anything; an infinite bound says so.
        factor = math.exp(half) if half < 700 else math.inf
        return Estimate(value, value / factor, value * factor)

    def largest_within(self, y: float) -> float:
        """The n at which y is reached; infinite where the curve does not rise."""
        return (y / self.coefficient) ** (1 / self.exponent) if self.exponent > 0 else math.inf


def fit(n: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """The power law through measurements y (seconds, bytes; > 0) at sizes n (> 0).

    All given points are used: leave out sizes that are too small to be on the line.

    Raises:
        JaxtlError: fewer than three different sizes, or values that have no logarithm.
    """
    sizes, values = np.asarray(n, np.float64), np.asarray(y, np.float64)
    if sizes.shape != values.shape or sizes.ndim != 1:
        raise JaxtlError(
            f"forecast: needs one value a size, got {list(sizes.shape)} and {list(values.shape)}"
        )
    if len(np.unique(sizes)) < _FEWEST:
        raise JaxtlError(
            f"forecast: needs at least {_FEWEST} different sizes, got {len(np.unique(sizes))}; measure more"
        )
    if not (np.isfinite(sizes) & np.isfinite(values) & (sizes > 0) & (values > 0)).all():
        raise JaxtlError("forecast: sizes and values must be finite and above 0; leave out the others")
    x, z = np.log(sizes), np.log(values)
    centre, width = x.mean(), ((x - x.mean()) ** 2).sum()
    exponent = ((x - centre) @ z) / width
    rest = z - z.mean() - exponent * (x - centre)
    spread = math.sqrt(rest @ rest / (len(x) - 2))
    half = _t(len(x) - 2) * spread / math.sqrt(width)
    return PowerLaw(
        coefficient=math.exp(z.mean() - exponent * centre),
        exponent=float(exponent),
        low=float(exponent - half),
        high=float(exponent + half),
        smallest=float(sizes.min()),
        largest=float(sizes.max()),
        count=len(x),
        spread=spread,
        centre=float(centre),
        width=float(width),
    )


def _t(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, _UPPER_TAIL))


def available_memory() -> int:
    """Bytes that this process can still take without swapping or being killed.

    The least of what the system calls available and what each control group above this process leaves
    (version 1 and 2); cache of files counts as available, as the kernel gives it back. Where neither is
    known (macOS has `vm_stat`), all of the machine's memory.
    """
    known = [*_system(), *_unified_groups(), *_memory_groups()]
    return min([each for each in known if each >= 0] or [physical_memory()])


def _system() -> Iterator[int]:
    info = _read("proc/meminfo")
    for line in info.splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
    if not info and sys.platform == "darwin":
        yield _vm_stat(subprocess.run(["vm_stat"], capture_output=True, text=True, check=False).stdout)


def _vm_stat(text: str) -> int:
    """Bytes free, inactive and speculative, of macOS's report in pages; -1 where it is not one."""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        page = int(text.split("page size of ", 1)[1].split()[0])
        pages = (lines[f"Pages {kind}"] for kind in ("free", "inactive", "speculative"))
        return page * sum(int(count.strip(" .")) for count in pages)
    except (IndexError, KeyError, ValueError):
        return -1


def _unified_groups() -> Iterator[int]:
    """What each control group of version 2 above this process leaves."""
    path = next((line[3:] for line in _read("proc/self/cgroup").splitlines() if line.startswith("0::")), None)
    for group in _upward("sys/fs/cgroup", path):
        yield from _left(group, "memory.max", "memory.current", "inactive_file")


def _memory_groups() -> Iterator[int]:
    lines = (line.split(":", 2) for line in _read("proc/self/cgroup").splitlines())
    path = next((each[2] for each in lines if len(each) == 3 and "memory" in each[1].split(",")), None)
    for group in _upward("sys/fs/cgroup/memory", path):
        yield from _left(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _upward(root: str, path: str | None) -> Iterator[str]:
    # In a container the path is the host's and need not be there; its own group is then at the root.
    parts = [part for part in (path or "").split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield "/".join([root, *parts[:count]])


def _left(group: str, limit: str, usage: str, cache: str) -> Iterator[int]:
    most, used = _read(f"{group}/{limit}").strip(), _read(f"{group}/{usage}").strip()
    if most.isdigit() and used.isdigit():
        pairs = (line.split() for line in _read(f"{group}/memory.stat").splitlines())
        cached = next((int(pair[1]) for pair in pairs if pair[0] == cache), 0)
        yield max(0, int(most) - int(used) + cached)


def _read(path: str) -> str:
    try:
        return (_ROOT / path).read_text()
    except OSError:
        return ""
