"""MobileNetV2 against Keras's own, layer by layer, and the folded network against the plain one."""

import gzip
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
import pytest
from flax import nnx

from jaxtl.errors import JaxtlError
from jaxtl.models import folding
from jaxtl.models.mobilenet_v2 import Carry, MobileNetV2, MobileNetV2Config
from jaxtl.models.weights import arrays_of, build, imagenet_path, load_arrays, load_model, save_weights

WIDTHS = (0.35, 0.75, 1.0, 1.4)
SIZES = (32, 48, 50, 96, 224)
TOLERANCE = 1e-5


def random_arrays(config, seed=0):
    """Weights that keep activations of order one, and statistics that no layer may ignore."""
    rng = np.random.default_rng(seed)
    draw = {
        "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
        "beta": lambda shape: rng.normal(0, 0.3, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.3, shape),
        "moving_variance": lambda shape: rng.uniform(0.5, 2, shape),
        "bias": lambda shape: rng.normal(0, 0.3, shape),
        "kernel": lambda shape: rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape),
        "depthwise_kernel": lambda shape: rng.normal(0, 1 / 3, shape),
    }
    shapes = config.parameters
    return {name: draw[name.split("/")[1]](shapes[name]).astype(np.float32) for name in shapes}


def random_images(size, n=2, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (n, size, size, 3)).astype(np.float32)


def keras_twin(config, size, arrays):
    """Keras's model with the same weights; without top it ends in its own average pooling."""
    head = {"include_top": False, "pooling": "avg"}
    if config.classes:
        head = {"classes": config.classes, "classifier_activation": None}
    model = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), alpha=config.width, weights=None, **head
    )
    for name, array in arrays.items():
        layer, key = name.split("/")
        getattr(model.get_layer(layer), "kernel" if key == "depthwise_kernel" else key).assign(array)
    return model


def keras_outputs(model, images):
    """The outputs of every layer, in Keras's order."""
    every = keras.Model(model.input, [layer.output for layer in model.layers])
    variables = [[v.value for v in group] for group in (every.trainable_variables, every.non_trainable_variables)]
    forward = jax.jit(lambda trainable, fixed, x: every.stateless_call(trainable, fixed, x, training=False)[0])
    return forward(*variables, images)


def outputs(model, images):
    """The outputs of every layer by name."""
    graph, state = nnx.split(model)
    names = [layer.name for layer in model.config.layers]
    return jax.jit(lambda state, x: nnx.merge(graph, state).intermediates(x, names))(state, images)


def relative_error(value, reference):
    value, reference = np.asarray(value), np.asarray(reference)
    assert value.shape == reference.shape
    return float(np.abs(value - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize("classes", [10, None])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_layer_is_that_of_keras(width, size, classes):
    config = MobileNetV2Config(width, classes=classes)
    arrays, images = random_arrays(config), random_images(size)
    twin = keras_twin(config, size, arrays)
    expected = keras_outputs(twin, images)
    model = build(config, arrays)
    found = outputs(model, images)
    # Keras numbers its input and pooling layers anew in every model.
    own = {"input", "global_average_pooling2d"}
    ours = [layer.name for layer in config.layers]
    assert [n for n in ours if n not in own] == [
        layer.name for layer, name in zip(twin.layers, ours, strict=True) if name not in own
    ]
    errors = {name: relative_error(found[name], e) for name, e in zip(ours, expected, strict=True)}
    worst = max(errors, key=errors.get)
    assert errors[worst] <= TOLERANCE, (worst, errors[worst])
    assert twin.count_params() == sum(array.size for array in arrays.values())
if __name__ == "__main__":
    for w in WIDTHS:
        for s in SIZES:
            config = MobileNetV2Config(w, classes=10)
            arrays, images = random_arrays(config), random_images(s)
            expected = keras_outputs(keras_twin(config, s, arrays), images)
            found = outputs(build(config, arrays), images)
            e = {l.name: relative_error(found[l.name], x) for l, x in zip(config.layers, expected)}
            sc = {l.name: float(np.abs(np.asarray(x)).max()) for l, x in zip(config.layers, expected)}
            top = sorted(e, key=e.get)[-4:]
            print(w, s, [(n, f"{e[n]:.2e}", f"{sc[n]:.2g}") for n in top], flush=True)
