"""What the process of Keras (on TensorFlow) does when asked; times in seconds.

Its model and its images are those of the plain script.
"""

from __future__ import annotations

import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import keras
import numpy as np
from safetensors.numpy import load_file

from benchmarks import plain_keras


def versions() -> dict[str, str]:
    found = {}
    for name in ("keras", "tensorflow", "tensorflow-cpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def keras_model(safetensors: str) -> keras.Model:
    """Keras's MobileNetV2 without top, with the weights of a file of jaxtl set layer by layer."""
    size = plain_keras.SIZE
    model = keras.applications.MobileNetV2(input_shape=(size, size, 3), include_top=False, weights=None)
    arrays = load_file(safetensors)
    for layer in model.layers:
        names = [_name(variable) for variable in layer.weights]
        layer.set_weights([arrays.pop(f"{layer.name}/{name}") for name in names])
    if arrays:
        raise ValueError(f"{safetensors}: Keras's MobileNetV2 has no {', '.join(arrays)}")
    return model


def _name(variable: Any) -> str:
    depthwise = variable.path.split("/")[-2].endswith("depthwise")
    return "depthwise_kernel" if depthwise and variable.name == "kernel" else variable.name


def write_weights(safetensors: str, path: str) -> None:
    """The same weights as a file that `keras.applications.MobileNetV2(weights=path)` loads."""
    keras_model(safetensors).save_weights(path)


def prepare(folder: str, split: str, n: int) -> float:
    """Load and resize n images and keep them for what follows; returns the seconds that it took."""
    began = time.perf_counter()
    images, labels = plain_keras.load_mnist(folder, split)
    _data[split] = plain_keras.prepare(images[:n]), keras.utils.to_categorical(labels[:n], 10)
    return time.perf_counter() - began


_data: dict[str, tuple[np.ndarray, np.ndarray]] = {}


def forward(weights: str, batch_size: int) -> dict[str, float]:
    """`predict` of all prepared test images."""
    model, images = _extractor(weights, batch_size), _data["test"][0]
    began = time.perf_counter()
    model.predict(images, batch_size=batch_size, verbose=0)
    return {"seconds": time.perf_counter() - began}


def features(weights: str, n: int, batch_size: int) -> np.ndarray:
    return _extractor(weights, batch_size).predict(_data["test"][0][:n], batch_size=batch_size, verbose=0)


def finetune(weights: str, epochs: int, seed: int) -> dict[str, Any]:
    """`fit` on all prepared images, of a fresh model."""
    keras.utils.set_random_seed(seed)
    _, classifier = plain_keras.build(weights)
    clock = _EpochClock()
    began = time.perf_counter()
    history = classifier.fit(
        *_data["train"], batch_size=plain_keras.BATCH_SIZE, epochs=epochs,
        validation_data=_data["test"], callbacks=[clock], verbose=0,
    )  # fmt: skip
    return {
        "seed": seed,
        "batch_size": plain_keras.BATCH_SIZE,
        "seconds": time.perf_counter() - began,
        "training_seconds": clock.training_seconds,
        "testing_seconds": clock.testing_seconds,
        "test_accuracy": history.history["val_accuracy"],
    }


class _EpochClock(keras.callbacks.Callback):
    """Seconds of each epoch's training and testing, compilation of the first one included."""

    def __init__(self) -> None:
        super().__init__()
        self.training_seconds: list[float] = []
        self.testing_seconds: list[float] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self._last = time.perf_counter()

    def on_test_begin(self, logs: Any = None) -> None:
        self.training_seconds.append(self._lap())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.testing_seconds.append(self._lap())

    def _lap(self) -> float:
        before, self._last = self._last, time.perf_counter()
        return self._last - before


@cache
def _extractor(weights: str, batch_size: int) -> keras.Model:
    # One for each batch size, so that each has a warm-up of its own.
    return plain_keras.build(weights)[0]
