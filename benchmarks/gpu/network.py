"""What the process of jaxtl's network does for the GPU benchmark, on whatever device JAX has there."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import jax
import numpy as np

from benchmarks import machine
from benchmarks.gpu.results import Result, at_least, differences, timing
from jaxtl.data import load
from jaxtl.machine import devices as runtime
from jaxtl.models.mobilenet_v2 import MobileNetV2, MobileNetV2Config
from jaxtl.models.weights import load_model
from jaxtl.network.extraction import extract
from jaxtl.network.finetuning import train_tail
from jaxtl.network.layers import run_layers
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.records.arrays import Dataset
from jaxtl.settings import FinetuneConfig, Images

IMAGES = Images()
FORMS = ("xla", "matmul", "mixed")


def describe(platform: str) -> Result:
    """The machine as a run records it; the check is that JAX computes where it should."""
    found = runtime.environment()
    right = jax.default_backend() == platform
    return {
        "checks": [at_least(f"JAX computes on the {platform.upper()}", right, 1)],
        "environment": found,
        "numbers": {
            "device": found["devices"][0],
            "device memory, GiB": runtime.device_memory() / 2**30,
        },
    }


def features(n: int) -> np.ndarray:
    """float32 [n, 1280] of the first test images, then the training images."""
    return extract(base_model(), digits(n)).values


def collect(n: int, path: str) -> Result:
    """Features in a file, for the maps."""
    found: list[Any] = []
    model, dataset = base_model(), digits(n)
    time = timing("features for the maps", lambda: found.append(extract(model, dataset)), 0, n)
    found[0].save(path)
    return {"times": [time], "numbers": machine.device_peak()}


def digest(n: int, deterministic: bool) -> str:
    """SHA-256 of the features' bytes."""
    runtime.configure(deterministic=deterministic)
    return hashlib.sha256(features(n).tobytes()).hexdigest()


def history(train: int, test: int, precision: str = "highest") -> dict[str, float]:
    """The row of a first epoch's fine-tuning."""
    data = [load("mnist", "train").take(train), load("mnist", "test").take(test)]
    config = FinetuneConfig(epochs=1)
    trunk = Trunk(base_model(), trainable_boundary(base_model().config, config.trainable), IMAGES, precision)
    sources = [trunk.source(each.images, True) for each in data]
    return train_tail(trunk, data[0], sources[0], data[1], sources[1], config)[1][0]


def forms(n: int) -> Result:
    """The convolutions' forms against each other."""
    found = {form: _run(form, "highest", None, n) for form in FORMS}
    checks = [
        check
        for form in FORMS[1:]
        for check in differences(f"features, {form} against {FORMS[0]}", found[form], found[FORMS[0]])
    ]
    return {"checks": checks}


def variant(form: str, precision: str, batch_size: int, n: int, repeats: int) -> Result:
    """The same work in a chosen form, precision and batch size; compiled anew."""
    jax.clear_caches()
    digits(n)  # read before the clock runs
    what = f"{form}, {precision}, batch {batch_size}"
    return {"times": [timing(what, lambda: _run(form, precision, batch_size, n), repeats, n)]}


def least_bytes(config: MobileNetV2Config, image_size: int, batch: int, width: int) -> int:
    """Bytes that the forward pass moves where each convolution reads and writes its maps and weights once.

    Normalisation, ReLU6 and padding cost nothing, joined to the convolutions; an addition reads one more map,
    the pooling one; `width` is the bytes of an activation. Weights are float32.
    """
    total, size = 0, image_size
    for layer in config.layers[: config.pooled]:
        before = size
        if layer.kind in ("conv", "depthwise"):
            size = -(-size // layer.stride)
            maps = before**2 * layer.channels_in + size**2 * layer.channels
            weights = sum(int(np.prod(shape)) for shape in layer.parameters.values())
            total += batch * maps * width + weights * 4
        elif layer.kind in ("add", "pool"):
            total += batch * size**2 * layer.channels * width
    return total


def _run(form: str, precision: str, batch_size: int | None, n: int) -> np.ndarray:
    model = base_model()
    return run_layers(
        model, 0, model.config.pooled, digits(n).images, IMAGES, batch_size, form=form, precision=precision
    ).x


@cache
def digits(n: int) -> Dataset:
    """The first n of MNIST's test images and, after those, its training images."""
    test, train = load("mnist", "test"), load("mnist", "train")
    if n <= len(test):
        return test.take(n)
    rest = train.take(n - len(test))
    return Dataset(
        np.concatenate([test.images, rest.images]), np.concatenate([test.labels, rest.labels]),
        test.class_names, "test and train", test.name,
    )  # fmt: skip


@cache
def base_model() -> MobileNetV2:
    """With ImageNet's weights, without a head."""
    return load_model()
