"""Keras's own MobileNetV2 with jaxtl's weights, on the backend that KERAS_BACKEND names.

Images are resized and scaled by layers of the model, so that `predict` and `fit` take uint8 as it comes.
Keras keeps no outputs of frozen layers: every step of `fit` goes through all of them.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import keras
import numpy as np
from safetensors.numpy import load_file

from benchmarks.peers import data, network
from benchmarks.peers.data import open_data as open_data
from benchmarks.peers.network import IMAGES
from benchmarks.peers.timing import Result, jax_clock, measured
from jaxtl.settings import FinetuneConfig

# What tells compilation apart; TensorFlow does not say.
_CLOCK = jax_clock() if keras.config.backend() == "jax" else None


def settings() -> dict[str, Any]:
    device = str(keras.distribution.list_devices()[0])
    return {"backend": keras.config.backend(), "dtype": keras.config.floatx(), "device": device}


def write_weights(path: str) -> None:
    """jaxtl's weights as a file that `keras.applications.MobileNetV2(weights=path)` loads."""
    _network()[1].save_weights(path)


def finetune(train: int, test: int, epochs: int, seed: int) -> Result:
    """`fit` of a fresh model's last layers and head, tested after every epoch."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = _classifier()
    learned, tested = data.images("train", train), data.images("test", test)
    tests = (tested.images, tested.labels)
    how = {"batch_size": FinetuneConfig.batch_size, "epochs": epochs, "verbose": 0}
    return measured(
        lambda: model.fit(learned.images, learned.labels, validation_data=tests, **how).history,
        lambda history: {"test_accuracy": history["val_accuracy"][-1], "loss": history["loss"][-1]},
        compiled=_CLOCK,
    )


def _features(images: np.ndarray, size: int) -> np.ndarray:
    return _extractor(size).predict(images, batch_size=size, verbose=0)


forward = partial(network.forward, _features, clock=_CLOCK)
extract = partial(network.extract, _features, clock=_CLOCK)


@cache
def _extractor(batch_size: int) -> keras.Model:
    # One for each batch size, so that each has a warm-up of its own.
    del batch_size
    return ending_at(None)


def ending_at(layer: str | None) -> keras.Model:
    """From uint8 to a layer's outputs, or to the pooled features."""
    pixels, base = _network()
    if layer:
        return keras.Model(pixels, keras.Model(base.input, base.get_layer(layer).output)(_enter(pixels)))
    return keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(base(_enter(pixels))))


def _classifier() -> keras.Model:
    pixels, base = _network()
    for layer in base.layers[: -int(FinetuneConfig.trainable)]:
        layer.trainable = False
    pooled = keras.layers.GlobalAveragePooling2D()(base(_enter(pixels)))
    model = keras.Model(pixels, keras.layers.Dense(10, activation="softmax")(pooled))
    optimizer = keras.optimizers.Adam(FinetuneConfig.learning_rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _network() -> tuple[keras.KerasTensor, keras.Model]:
    shape = (IMAGES.image_size, IMAGES.image_size, 3)
    base = keras.applications.MobileNetV2(input_shape=shape, include_top=False, weights=None)
    arrays = load_file(data.imagenet_file())
    for layer in base.layers:
        layer.set_weights([arrays.pop(_name(layer.name, variable.name)) for variable in layer.weights])
    if arrays:
        raise ValueError(f"Keras's MobileNetV2 has no {', '.join(arrays)}")
    return keras.Input((28, 28, 1), dtype="uint8"), base


def _name(layer: str, variable: str) -> str:
    depthwise = layer.endswith("depthwise") and variable == "kernel"
    return f"{layer}/{'depthwise_kernel' if depthwise else variable}"


def _enter(pixels: keras.KerasTensor) -> keras.KerasTensor:
    # Scaled first, since JAX would resize integers to integers.
    scaled = keras.layers.Rescaling(1 / 255)(pixels)
    resized = keras.layers.Resizing(IMAGES.image_size, IMAGES.image_size)(scaled)
    return keras.layers.Concatenate()([resized] * 3)
