"""How long a run will take in all: its steps by name, and their sum.

Network and maps come from a table of costs. What every run does besides (compilation, neighbours, depth
profile, scores, figures) was measured in whole runs on the machine of the reference costs, as each step's
share of the run's wall time: steps are done side by side, so that their own seconds add up to more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from jaxtl.costs.words import duration, spoken
from jaxtl.evaluation.depth import SAMPLES

# Seconds until the first batches run, the programs of fine-tuning included.
_COMPILATION = 16.0


class _Step(NamedTuple):
    """Steps of a kind: what they are called, how their names in a run's table begin, and their cost.

    Attributes:
        seconds: of all of them together, at 2000 images.
        exponent: of the number of images, up to 10,000; beyond, they grow in proportion at least.
        most: images that are looked at.
    """

    title: str
    begins: tuple[str, ...]
    seconds: float
    exponent: float
    most: float = float("inf")

    def at(self, n: int) -> float:
        n = min(n, self.most)
        measured = self.seconds * (min(n, _LARGEST) / _ANCHOR) ** self.exponent
        return measured * max(1, n / _LARGEST) ** max(1, self.exponent)


# Where runs were measured: 300, 2000 and 10,000 images of MNIST, JAX 0.10 on two cores.
_ANCHOR, _LARGEST = 2000, 10_000
_NEIGHBORS = _Step("neighbours", ("neighbors_",), 2.0, 1.25)
_OTHERS = (
    _Step("depth profile", ("layers",), 12.0, 0.3, SAMPLES),
    _Step("scores", ("scores", "training_features_"), 22.0, 0.5),
    _Step("figures and page", ("figure_", "report"), 5.0, 0.0),
)


class Forecast(NamedTuple):
    """What work is expected to take.

    Attributes:
        parts: name and seconds, in the order of the work; None where nothing is known.
        machine: whose seconds they are.
    """

    parts: tuple[tuple[str, float | None], ...]
    machine: str

    @property
    def seconds(self) -> float:
        """Of all that is known."""
        return sum(seconds or 0.0 for _, seconds in self.parts)

    @property
    def unknown(self) -> list[str]:
        return [name for name, seconds in self.parts if seconds is None]

    @property
    def total(self) -> str:
        """Such as "about 2.4 min" and "at least 50 s (fine-tuning is unknown)"."""
        if not self.unknown:
            return f"about {duration(self.seconds)}"
        verb = "is" if len(self.unknown) == 1 else "are"
        return f"at least {duration(self.seconds)} ({' and '.join(self.unknown)} {verb} unknown)"

    def line(self) -> str:
        """All of it; empty where nothing is left or known."""
        said = spoken(self.parts)
        return said and f"Expect {self.total} in all: {said} (as on {self.machine})"

    def times(self, count: int, shared: Collection[str]) -> Forecast:
        """Of so many runs that share some of the parts."""
        parts = ((name, taken and taken * (1 if name in shared else count)) for name, taken in self.parts)
        return self._replace(parts=tuple(parts))

    def as_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "parts": dict(self.parts), "machine": self.machine}


# What runs that differ in their seed alone do once.
SHARED = ("compilation", "features")


def forecast(
    machine: str,
    images: int,
    left: Iterable[str],
    table: Iterable[str],
    network: Mapping[str, float | None],
    maps: Iterable[tuple[str, float | None]],
) -> Forecast:
    """What steps of a run or comparison will take.

    Args:
        machine: that the costs of network and maps are of.
        images: that are embedded.
        left: names of the steps that are left to do, of those of the whole `table`.
        network: seconds of features and of fine-tuning where these are left; compilation is added.
        maps: by their names.
    """
    left, table = list(left), list(table)
    first = {"compilation": _COMPILATION, **network} if network else {}
    others = {step.title: _share(step, left, table) * step.at(images) for step in (_NEIGHBORS, *_OTHERS)}
    neighbors = others.pop(_NEIGHBORS.title)
    parts = [*first.items(), (_NEIGHBORS.title, neighbors), *maps, *others.items()]
    return Forecast(tuple((name, seconds) for name, seconds in parts if seconds != 0), machine)


def _share(step: _Step, left: list[str], table: list[str]) -> float:
    """Of a kind's steps, how many are left."""
    of_kind = [name for name in table if name.startswith(step.begins)]
    return sum(name in left for name in of_kind) / len(of_kind) if of_kind else 0.0
