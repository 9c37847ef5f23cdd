"""Networks of random numbers that are exported, and the features that jaxtl gives for some images."""

import functools
import importlib.util
from unittest import mock

import jax
import numpy as np

from jaxtl.data.preprocess import preprocess
from jaxtl.exports.forms import export_network
from jaxtl.exports.network import ExportedNetwork
from jaxtl.models.network import Carry
from jaxtl.models.weights import build
from tests.torch_reference import drawn

SIZE = 33  # odd, so that its maps are odd and even


@functools.cache
def network(config, size=SIZE):
    """A network with random weights and statistics; each array is drawn as PyTorch's of that kind."""
    kinds = {"gamma": "weight", "moving_variance": "weight", "beta": "bias", "moving_mean": "bias"}
    arrays = {}
    for layer in config.layers:
        for key, shape in layer.parameters.items():
            # The scale follows from fan-in, by PyTorch's form: channels out, channels in, height, width.
            order = {"conv": (3, 2, 0, 1), "depthwise": (2, 3, 0, 1), "dense": (1, 0)}.get(layer.kind)
            order = order if len(shape) > 1 else (0,)
            values = drawn(f"{layer.name}.{kinds.get(key, key)}", tuple(shape[k] for k in order))
            arrays[f"{layer.name}/{key}"] = values.transpose(np.argsort(order))
    names = ("a", "b", "ü") if config.classes else ()
    return ExportedNetwork(config, arrays, size, config.preprocessing or "unit", names, "a test")


def images(size=SIZE):
    return np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)


@functools.cache
def expected(config):
    """jaxtl's own features of the images under `network(config)`, by convolutions that compile fast."""
    net = network(config)
    model = build(config, net.arrays)

    def features(pixels):
        x = preprocess(pixels, net.image_size, net.preprocessing)
        return model.run(Carry(x), 0, config.pooled, form="xla").x

    return np.asarray(jax.jit(features)(images(net.image_size)))


def assert_close(features, wanted):
    """To 1e-4 of their scale."""
    # The images differ, and so must their features, or nothing was compared.
    assert np.abs(wanted - wanted[0]).max() > 0.02 * np.abs(wanted).max()
    np.testing.assert_allclose(features, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def with_onnx_runtime(config, folder):
    """Features and probabilities by ONNX Runtime, and the file."""
    import onnxruntime

    (path,) = export_network(network(config), "onnx", folder / "n.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    pixels = images().transpose(0, 3, 1, 2).astype(np.float32)
    return dict(zip(outputs, session.run(outputs, {"pixels": pixels}), strict=True)), path


def with_keras(config, folder):
    """Pooled features by Keras, and its model."""
    import keras

    (path,) = export_network(network(config), "keras", folder / "n.keras")
    # What layers are given before they are given the file's weights takes a program for every shape.
    drawing = keras.initializers.GlorotUniform
    with mock.patch.object(drawing, "__call__", lambda _, shape, **__: np.zeros(shape)):
        model = keras.saving.load_model(path)
    pooled = keras.Model(model.inputs, model.get_layer(config.pooling).output)
    # One program for all layers, where a plain call would compile each.
    return pooled.predict(images().astype(np.float32), verbose=0), model


def with_torch(config, folder):
    """Features by torchvision's class, and the module that loads it."""
    _, module = export_network(network(config), "torch", folder / "n.safetensors")
    spec = importlib.util.spec_from_file_location("exported", module)
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    return loader.features(loader.load(), images()).numpy(), loader
