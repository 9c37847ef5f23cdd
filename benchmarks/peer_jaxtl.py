"""What the process of jaxtl does when asked; times are of blocked results, in seconds."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import flops
from benchmarks.machine import sgemm_jax as sgemm_jax
from jaxtl.data import load
from jaxtl.extraction import enter, extract
from jaxtl.finetuning import train_tail
from jaxtl.models import folding, ops
from jaxtl.models.mobilenet_v2 import MobileNetV2
from jaxtl.models.weights import imagenet_path, load_model
from jaxtl.records import Dataset
from jaxtl.runtime import environment as environment
from jaxtl.settings import FinetuneConfig, Images
from jaxtl.trunk import Trunk, trainable_boundary

IMAGES = Images()

_compile_seconds: list[float] = []


def _listen(event: str, seconds: float, **_: Any) -> None:
    if event.startswith("/jax/core/compile/"):
        _compile_seconds.append(seconds)


jax.monitoring.register_event_duration_secs_listener(_listen)


def assets() -> str:
    """The folder with the bundled weights and MNIST's four files."""
    return str(imagenet_path().parent)


def counts(trainable: str = FinetuneConfig().trainable) -> dict[str, int]:
    """Floating-point operations for one image."""
    config = _model().config
    boundary = trainable_boundary(config, trainable)
    return {
        "forward": flops.forward_flops(config, IMAGES.image_size, 0, config.pooled),
        "trunk": flops.forward_flops(config, IMAGES.image_size, 0, boundary),
        "training": flops.training_flops(config, IMAGES.image_size, boundary),
    }


def forward(n: int) -> dict[str, float]:
    """`jaxtl.extract` from the uint8 images to the features in host memory."""
    model, dataset = _model(), _first("test", n)
    return _timed(lambda: extract(model, dataset, IMAGES))[1]


def features(n: int) -> np.ndarray:
    return extract(_model(), _first("test", n), IMAGES).values


def batch_size(n: int) -> int:
    """What `extract` takes by itself, as its progress over n images shows."""
    fractions: list[float] = []
    extract(_model(), _first("test", n), IMAGES, progress=fractions.append)
    return round(fractions[0] * n)


def network(size: int, batches: int) -> dict[str, float]:
    """The compiled network alone, on one batch of images that is on the device already."""
    arrays, step = _network()
    images = jnp.asarray(_first("test", size).images)
    return _timed(lambda: [step(arrays, images).block_until_ready() for _ in range(batches)])[1]


def products(size: int, batches: int) -> dict[str, float]:
    """The network's matrix products alone, at a batch's shapes."""
    patches, matrices, step = _products(size)
    return _timed(lambda: [step(patches, matrices).block_until_ready() for _ in range(batches)])[1]


def finetune(train: int, test: int, epochs: int, seed: int) -> dict[str, Any]:
    """What `jaxtl.finetune` does, its parts timed; everything is compiled anew."""
    jax.clear_caches()
    config = FinetuneConfig(epochs=epochs, seed=seed)
    data = [_first("train", train), _first("test", test)]
    trunk = Trunk(_model(), trainable_boundary(_model().config, config.trainable), IMAGES)
    keep = trunk.keeps(train + test)
    sources, trunk_time = _timed(lambda: [trunk.source(each.images, keep) for each in data])

    def tail() -> tuple[list[dict[str, float]], _Laps]:
        clock = _EpochClock(epochs)
        _, history = train_tail(
            trunk, data[0], sources[0], data[1], sources[1], config,
            on_epoch=clock.tested, progress=clock.progress,
        )  # fmt: skip
        clock.tested()  # the last epoch's is not reported
        return history, clock.laps

    (history, laps), tail_time = _timed(tail)
    return {
        "seed": seed,
        "batch_size": config.batch_size,
        "seconds": trunk_time["seconds"] + tail_time["seconds"],
        "trunk_seconds": trunk_time["seconds"],
        "trunk_compile_seconds": trunk_time["compile_seconds"],
        **asdict(laps),
        "test_accuracy": [row["test_accuracy"] for row in history],
    }


@dataclass
class _Laps:
    """Of each epoch, compilation included and apart."""

    training_seconds: list[float] = field(default_factory=list)
    training_compile_seconds: list[float] = field(default_factory=list)
    testing_seconds: list[float] = field(default_factory=list)
    testing_compile_seconds: list[float] = field(default_factory=list)


class _EpochClock:
    """Takes the time where `train_tail` reports: after an epoch's training, and after its test."""

    def __init__(self, epochs: int) -> None:
        self.laps = _Laps()
        self._epochs, self._compiled, self._last = epochs, len(_compile_seconds), time.perf_counter()

    def progress(self, fraction: float) -> None:
        # Reported when a chunk's results are in host memory; an epoch ends with a whole multiple of 1/epochs.
        if fraction * self._epochs >= len(self.laps.training_seconds) + 1 - 1e-9:
            self._lap(self.laps.training_seconds, self.laps.training_compile_seconds)

    def tested(self, checkpoint: object = None) -> None:
        self._lap(self.laps.testing_seconds, self.laps.testing_compile_seconds)

    def _lap(self, seconds: list[float], compile_seconds: list[float]) -> None:
        now = time.perf_counter()
        seconds.append(now - self._last)
        compile_seconds.append(sum(_compile_seconds[self._compiled :]))
        self._last, self._compiled = now, len(_compile_seconds)


def _timed(work) -> tuple[Any, dict[str, float]]:
    compiled = len(_compile_seconds)
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    return result, {"seconds": seconds, "compile_seconds": sum(_compile_seconds[compiled:])}


@cache
def _model() -> MobileNetV2:
    return load_model()


@cache
def _dataset(split: str) -> Dataset:
    return load("mnist", split)


def _first(split: str, n: int) -> Dataset:
    return _dataset(split).take(n)


@cache
def _network():
    plan, arrays = folding.fold(_model(), 0, _model().config.pooled)

    @jax.jit
    def step(arrays, images):
        return folding.run(plan, arrays, enter(IMAGES, images), ops.default_form()).x

    return arrays, step


@cache
def _products(size: int):
    """The network without all that is no matrix product, so that each product still awaits the one before.

    Where a depthwise convolution would shrink the map, the first rows stand for it.
    """
    shapes = flops.matrix_products(_model().config, IMAGES.image_size)
    rng = np.random.default_rng(0)

    def normal(rows: int, columns: int, scale: float = 1.0):
        return jnp.asarray(rng.standard_normal((rows, columns), np.float32) * np.float32(scale))

    patches = normal(size * shapes[0][0], shapes[0][1])
    matrices = [normal(terms, channels, terms**-0.5) for _, terms, channels in shapes]

    @jax.jit
    def step(x, matrices):
        for (pixels, _, _), matrix in zip(shapes, matrices, strict=True):
            x = jnp.matmul(x[: size * pixels], matrix, precision=ops.PRECISION)
        return x

    return patches, matrices, step
