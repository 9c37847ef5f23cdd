"""What maps will take: by the curves of a scaling study, or by reference curves that come with jaxtl."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.files import read_json_object
from jaxtl.forecast import PowerLaw
from jaxtl.metrics.estimates import Estimate

REFERENCE = "reference.json"
# Landmarks that are advised: a map of so many takes any machine seconds.
_LANDMARKS = 5000
# Image size that seconds an image are for.
_SIZE = 48


@dataclass(frozen=True)
class Cost:
    """What maps of one method by one library take.

    Attributes:
        method: as users write it, such as "tsne" or "tsne@5000".
        backend: the library.
        seconds: of one map of n images.
        memory: bytes that it takes, the features included; None where they were too few to measure.
        baseline: bytes of its process before.
    """

    method: str
    backend: str
    seconds: PowerLaw
    memory: PowerLaw | None
    baseline: int

    @property
    def base(self) -> str:
        """The method without its landmarks."""
        return self.method.partition("@")[0]

    def bytes_at(self, n: float) -> Estimate:
        """Memory of the whole process for n images."""
        if self.memory is None:
            return Estimate(self.baseline, self.baseline, self.baseline)
        return Estimate(*(self.baseline + each for each in self.memory.at(n)))

    def fits(self, n: float, available: int, maps: int = 1) -> bool:
        """Whether so many maps at a time of n images are expected to fit into so many bytes."""
        return maps * self.bytes_at(n).value <= available

    def largest(self, available: int, maps: int = 1) -> int:
        """Images whose map fits, down to two digits; 0 where none do, a huge number where all do."""
        left = available / maps - self.baseline
        if left <= 0:
            return 0
        most = math.inf if self.memory is None else self.memory.largest_within(left)
        if not most < 1e12:
            return 10**12
        step = 10 ** max(0, int(math.log10(max(most, 1))) - 1)
        return int(most // step * step)


@dataclass(frozen=True)
class Costs:
    """Curves measured on one machine.

    Attributes:
        maps: one for each method and library.
        machine: such as "AMD EPYC, 2 cores".
        image_seconds: of the features of one image at 48x48; None where unknown.
        training_seconds: of one training image in one epoch, at the default setting; None where unknown.
    """

    maps: tuple[Cost, ...]
    machine: str
    image_seconds: float | None = None
    training_seconds: float | None = None

    def of(self, method: str, backend: str) -> Cost | None:
        return next((c for c in self.maps if (c.method, c.backend) == (method, backend)), None)

    def remedies(self, cost: Cost, n: int, available: int, maps: int = 1) -> list[str]:
        """What would fit where n images by `cost` do not: libraries, landmarks, or fewer images."""
        others = [c for c in self.maps if c.base == cost.base and c != cost and c.fits(n, available, maps)]
        found = [f"backend {c.backend}" for c in others if "@" not in c.method]
        found += [f"{c.method}" for c in others if "@" in c.method]
        if most := cost.largest(available, maps):
            found.append(f"at most {most:,} images")
            if not any("@" in c.method for c in others):
                found.append(f"landmarks ({cost.base}@{min(most, _LANDMARKS)})")
        return found or ["a machine with more memory"]


def reference() -> Costs:
    """The curves that come with jaxtl, measured on the machine that they name."""
    return read(Path(str(resources.files("jaxtl") / "assets" / REFERENCE)))


def read(path: Path) -> Costs:
    """Raises JaxtlError where the file is absent or is none of `as_record`."""
    record = read_json_object(path)
    try:
        maps = tuple(map(_cost, record["maps"]))
        return Costs(maps, record["machine"], record["image_seconds"], record["training_seconds"])
    except (KeyError, TypeError) as error:
        raise JaxtlError(f"{path}: not a table of costs ({error}); make it again") from None


def _cost(record: dict[str, Any]) -> Cost:
    seconds, memory = (each and PowerLaw(**each) for each in (record["seconds"], record["memory"]))
    return Cost(record["method"], record["backend"], seconds, memory, record["baseline"])


def check_memory(
    costs: Costs, method: str, backend: str, n: int, available: int, maps: int = 1
) -> str | None:
    """A line of warning where a map may not fit into memory, None where it will or nothing is known.

    Args:
        maps: that are made at the same time.

    Raises:
        JaxtlError: it is not expected to fit; the line says what would.
    """
    cost = costs.of(method, backend)
    if cost is None or cost.memory is None:
        return None
    needed = Estimate(*(maps * each for each in cost.bytes_at(n)))
    both = f"{maps} maps at a time of {n:,} images" if maps > 1 else f"a map of {n:,} images"
    if needed.value > available:
        remedies = ", ".join(costs.remedies(cost, n, available, maps))
        raise JaxtlError(
            f"{method} by {backend}: {both} would take {gib(needed.value)} of memory, {gib(available)} are "
            f"available; what would fit: {remedies}; or leave {method} out of --methods"
        )
    # Beyond what was measured the interval may be wide; within it, what is expected is what comes.
    if n > cost.memory.largest and min(needed.high, 2 * needed.value) > available:
        return f"{method} by {backend}: {both} may need more than the {gib(available)} available"
    return None


def network_seconds(
    costs: Costs, images: int, training_images: int, image_size: int, trainable: str
) -> tuple[float | None, float | None]:
    """Seconds for the features of some images, and for training on some (epochs counted), where known.

    The network's work grows with the area of the image; training is known for the last 10 layers alone.
    """
    area = (image_size / _SIZE) ** 2
    features = costs.image_seconds and costs.image_seconds * area * images
    known = costs.training_seconds if trainable == "10" else None
    return features, known and known * area * training_images


def spoken(stages: Sequence[tuple[str, float | None]]) -> str:
    """Such as "features 20 s, fine-tuning 60 s"; what is unknown is left out."""
    return ", ".join(f"{name} {duration(value)}" for name, value in stages if value is not None)


def duration(value: float) -> str:
    """Such as "0.05 s", "12 s", "8 min" and "3.2 h"."""
    if value < 100:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 6000 else f"{value / 3600:,.3g} h"


def gib(value: float) -> str:
    """Such as "12 MiB" and "3.4 GiB"."""
    if value < 2**30:
        return f"{value / 2**20:.0f} MiB"
    return f"{value / 2**30:.3g} GiB" if value < 2**40 else f"{value / 2**40:,.3g} TiB"
