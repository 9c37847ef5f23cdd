"""What embeddings will take: by a scaling study's curves, or by the reference curves that come with jaxtl."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from jaxtl.costs.power_law import PowerLaw
from jaxtl.costs.words import gib
from jaxtl.errors import JaxtlError
from jaxtl.methods import METHODS
from jaxtl.metrics.estimates import Estimate
from jaxtl.records.files import read_json_object

REFERENCE = "reference.json"
# Landmarks that are advised: an embedding of so many takes any machine seconds.
_LANDMARKS = 5000
# Image size that seconds an image are for.
_SIZE = 48


@dataclass(frozen=True)
class Cost:
    """What embeddings of one method by one library take.

    Attributes:
        method: as users write it, such as "tsne" or "tsne@5000".
        backend: the library.
        seconds: of one embedding of n images.
        memory: bytes that it takes, the features included; None where they were too few to measure.
        baseline: bytes of its process before.
        smaller: of embeddings so small that the library computes them another way (`Method.changes`).
    """

    method: str
    backend: str
    seconds: PowerLaw
    memory: PowerLaw | None
    baseline: int
    smaller: Cost | None = None

    @property
    def base(self) -> str:
        """The method without its landmarks."""
        return self.method.partition("@")[0]

    @property
    def streamed(self) -> bool:
        """Whether features stay on disk, so that memory need not grow with n."""
        return "@" in self.method or self.backend in METHODS[self.method].streamed

    def seconds_at(self, n: float) -> Estimate:
        """Of one embedding of n images."""
        return self._of(n).seconds.cost(n)

    def _of(self, n: float) -> Cost:
        small = self.smaller is not None and n <= METHODS[self.base].changes[self.backend]
        return self.smaller if small else self

    def bytes_at(self, n: float) -> Estimate:
        """Memory of the whole process for n images."""
        memory = self._of(n).memory
        if memory is None:
            return Estimate(self.baseline, self.baseline, self.baseline)
        law = memory.at if self.streamed else memory.cost
        return Estimate(*(self.baseline + taken for taken in law(n)))

    def fits(self, n: float, available: int, maps: int = 1) -> bool | None:
        """Whether so many embeddings at a time of n images are expected to fit into so many bytes.

        None where it is unknown, as what they take besides the process's own was never measured.
        """
        if self.memory is None and maps * self.baseline <= available:
            return None
        return maps * self.bytes_at(n).value <= available

    def largest(self, available: int, maps: int = 1) -> int:
        """Images whose embedding fits, down to two digits; 0 where none do, a huge number where all do."""
        left = available / maps - self.baseline
        if left <= 0:
            return 0
        most = math.inf if self.memory is None else self.memory.largest_within(left)
        if self.memory is not None and not self.streamed and most > self.memory.largest:
            most = min(most, self.memory.largest * left / self.memory.at(self.memory.largest).value)
        if not most < 1e12:
            return 10**12
        if self.smaller is not None and most <= (change := METHODS[self.base].changes[self.backend]):
            return min(change, self.smaller.largest(available, maps))
        step = 10 ** max(0, int(math.log10(max(most, 1))) - 1)
        return int(most // step * step)


@dataclass(frozen=True)
class Costs:
    """Curves measured on one machine.

    Attributes:
        maps: of embeddings, one for each method and library; the name is that in the file.
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

    def remedies(self, cost: Cost, n: int, available: int, maps: int = 1) -> Remedies:
        """What would fit where n images by `cost` do not."""
        others = [c for c in self.maps if c.base == cost.base and c != cost and c.fits(n, available, maps)]
        apart = [c for c in others if "@" in c.method and c.method != cost.method]
        known = [int(c.method.partition("@")[2]) for c in apart]
        most = cost.largest(available, maps)
        # Where landmarks do not fit, no others are known to but those that were measured.
        usual = 0 if "@" in cost.method else min(most, _LANDMARKS)
        backends = tuple(c.backend for c in others if c.method == cost.method)
        return Remedies(cost.base, backends, most, max(known, default=usual))


class Remedies(NamedTuple):
    """Instead of an embedding that does not fit.

    Attributes:
        method: without landmarks.
        backends: libraries whose embeddings would fit.
        images: so many would, by the same library; 0 where none would.
        landmarks: so many could be embedded and the others placed; 0 where none could.
    """

    method: str
    backends: tuple[str, ...]
    images: int
    landmarks: int

    def in_study(self) -> str:
        """As one says it of a study or of Python."""
        ways = [f"backend {name}" for name in self.backends]
        ways += [f"landmarks ({self.method}@{self.landmarks})"] * bool(self.landmarks)
        ways += [f"at most {self.images:,} images"] * bool(self.images)
        return ", ".join(ways) or "a machine with more memory"

    def in_run(self) -> str:
        """As options of `jaxtl run`, which has no landmarks."""
        ways = [f"--backend {name}" for name in self.backends]
        ways += [f"--samples {self.images}"] * bool(self.images)
        ways += ["no " + self.method + " in --methods"]
        if self.landmarks:
            reduced = f"jaxtl reduce --method {self.method} --set landmarks={self.landmarks}"
            ways[-1] += f" and landmarks afterwards ({reduced})"
        return ", or ".join(ways)

    def in_resumed_run(self) -> str:
        """As options of `jaxtl run --resume`, which takes no other settings than the run began with."""
        ways = [f"--backend {name}" for name in self.backends]
        ways += ["more memory (end other programs)"]
        ways += [f"a new run with --out and --samples {self.images}"] * bool(self.images)
        return ", or ".join(ways)


def reference() -> Costs:
    """The curves that come with jaxtl, measured on the machine that they name."""
    return read(Path(str(resources.files("jaxtl") / "assets" / REFERENCE)))


def read(path: Path) -> Costs:
    """Raises JaxtlError where the file is absent or is none of `as_record`."""
    record = read_json_object(path)
    try:
        curves = tuple(map(_cost, record["maps"]))
        return Costs(curves, record["machine"], record["image_seconds"], record["training_seconds"])
    except (KeyError, TypeError) as error:
        raise JaxtlError(f"{path}: not a table of costs ({error}); make it again") from None


def _cost(record: dict[str, Any]) -> Cost:
    seconds, memory = (law and PowerLaw(**law) for law in (record["seconds"], record["memory"]))
    smaller = record.get("smaller") and _cost(record["smaller"])
    return Cost(record["method"], record["backend"], seconds, memory, record["baseline"], smaller)


def check_memory(
    costs: Costs, method: str, backend: str, n: int, available: int, maps: int = 1, resumed: bool = False
) -> str | None:
    """A line of warning where an embedding may not fit into memory, None where it will or nothing is known.

    Args:
        maps: embeddings that are made at the same time.
        resumed: whether the run has begun, so that its settings are as they are.

    Raises:
        JaxtlError: it is not expected to fit; the line says what would.
    """
    cost = costs.of(method, backend)
    if cost is None or cost.memory is None:
        return None
    needed = Estimate(*(maps * taken for taken in cost.bytes_at(n)))
    both = f"{maps} maps at a time of {n:,} images" if maps > 1 else f"a map of {n:,} images"
    if needed.value > available:
        remedies = costs.remedies(cost, n, available, maps)
        would = remedies.in_resumed_run() if resumed else remedies.in_run()
        raise JaxtlError(
            f"{method} by {backend}: {both} would take {gib(needed.value)} of memory, {gib(available)} are "
            f"available; what would fit: {would}"
        )
    # Beyond what was measured the interval may be wide; within it, what is expected is what comes.
    if n > cost.memory.largest and min(needed.high, 2 * needed.value) > available:
        return f"{method} by {backend}: {both} may need more than the {gib(available)} available"
    return None


def network_seconds(
    costs: Costs, images: int, training_images: int, image_size: int, trainable: str, work: float = 1.0
) -> tuple[float | None, float | None]:
    """Seconds for the features of some images, and for training on some (epochs counted), where known.

    The network's work grows with the area of the image; training is known for the last 10 layers alone of the
    network that was measured.

    Args:
        work: multiply-adds of the network for an image, divided by those of the one that was measured.
    """
    area = (image_size / _SIZE) ** 2
    features = costs.image_seconds and costs.image_seconds * area * work * images
    known = costs.training_seconds if trainable == "10" and work == 1 else None
    return features, known and known * area * training_images
