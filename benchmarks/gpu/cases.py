"""What a step of the GPU benchmark is, and how much is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.gpu.results import Result

# A hang must not take the time of all the rest.
STEP_SECONDS = 45.0


class Step(NamedTuple):
    """A piece of a case.

    Attributes:
        name: of its own within the case.
        work: does it.
        needs: "cuml", "torch", "gpu" or nothing.
        seconds: after which it is ended.
    """

    name: str
    work: Callable[[], Result]
    needs: str = ""
    seconds: float = STEP_SECONDS


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        run: options of `jaxtl run`.
        trunk: images through the frozen layers.
        trunk_batches: images a batch there; the first also of the whole network.
        kept: kept outputs of the frozen layers that training draws from.
        steps: training steps of one compiled chunk.
        combinations: of forms and options, the first ones.
        mapped: points of the maps that are timed.
        varied: points of t-SNE's variants.
        compared: points of the maps that CPU peers make too; the smallest also for scikit-learn's LLE.
        neighbors: k of the neighbours that are checked.
        checked: images whose features are compared.
        epoch: training images of the epoch whose loss is compared.
        test: test images of the epoch.
        effects: test images, training images and epochs of the precisions' effects.
        seeds: of a run of several.
        product, mebibytes: sizes of the ceilings' matrices and array.
        repeats: of every time, after the first.
    """

    run: tuple[str, ...] = ("--samples", "all")
    trunk: int = 70_000
    trunk_batches: tuple[int, ...] = (1024, 4096)
    kept: int = 60_000
    steps: int = 125
    combinations: int = 9
    mapped: tuple[int, ...] = (10_000, 70_000)
    varied: int = 10_000
    compared: tuple[int, ...] = (2000, 10_000)
    neighbors: int = 12
    checked: int = 256
    epoch: int = 1600
    test: int = 10_000
    effects: tuple[int, int, int] = (2000, 6000, 1)
    seeds: int = 5
    product: int = 8192
    mebibytes: int = 2048
    repeats: int = 3
    quick: bool = False


FULL = Sizes()
QUICK = Sizes(
    run=("--samples", "200", "--train-samples", "320", "--epochs", "1"), trunk=96, trunk_batches=(64, 32),
    kept=128, steps=2, combinations=2, mapped=(300,), varied=300, compared=(300, 500), checked=64, epoch=160,
    test=200, effects=(128, 320, 0), seeds=2, product=512, mebibytes=32, repeats=2, quick=True,
)  # fmt: skip
