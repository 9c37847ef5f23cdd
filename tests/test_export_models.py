"""A run's network in Keras, torchvision and ONNX Runtime gives the features that jaxtl gives."""

import importlib.util
import json
import os
from dataclasses import replace

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest

import jaxtl as package
from jaxtl.exports.forms import export_network
from jaxtl.exports.network import ExportedNetwork
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.weights import build, load_model
from jaxtl.records.arrays import Dataset, Features
from jaxtl.settings import Images, RunConfig
from tests.torch_reference import drawn

SIZE = 33  # odd, so that its maps are odd and even
KERAS = MobileNetV2Config(0.05, classes=3)
TORCH = replace(KERAS, padding="symmetric", bn_epsilon=1e-5, preprocessing="imagenet")


def network(config, size=SIZE):
    """A narrow network with random weights and statistics; each array is drawn as PyTorch's of that kind."""
    kinds = {"gamma": "weight", "moving_variance": "weight", "beta": "bias", "moving_mean": "bias"}
    arrays = {}
    for layer in config.layers:
        for key, shape in layer.parameters.items():
            # The scale follows from fan-in, by PyTorch's form: channels out, channels in, height, width.
            order = {"conv": (3, 2, 0, 1), "depthwise": (2, 3, 0, 1), "dense": (1, 0)}.get(layer.kind)
            order = order if len(shape) > 1 else (0,)
            values = drawn(f"{layer.name}.{kinds.get(key, key)}", tuple(shape[k] for k in order))
            arrays[f"{layer.name}/{key}"] = values.transpose(np.argsort(order))
    preprocessing = config.preprocessing or "unit"
    return ExportedNetwork(config, arrays, size, preprocessing, ("a", "b", "ü"), "a test")


def images(size=SIZE):
    return np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)


def expected(net):
    """jaxtl's own features of the images."""
    data = Dataset(images(net.image_size), np.zeros(4, np.int32), ("a",), "test", "x")
    model = build(net.config, net.arrays)
    return package.extract(model, data, Images(net.image_size, net.preprocessing)).values


def assert_close(features, wanted):
    # The images differ, and so must their features, or nothing was compared.
    assert np.abs(wanted - wanted[0]).max() > 0.1
    np.testing.assert_allclose(features, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


CONFIGS = [pytest.param(KERAS, id="keras"), pytest.param(TORCH, id="torch", marks=pytest.mark.slow)]


@pytest.mark.parametrize("config", CONFIGS)
def test_onnx_runtime_gives_the_same(config, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    net = network(config)
    (path,) = export_network(net, "onnx", tmp_path / "n.onnx")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = images().transpose(0, 3, 1, 2).astype(np.float32)
    features, probabilities = session.run(["features", "probabilities"], {"pixels": pixels})
    assert_close(features, expected(net))
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    before = path.read_bytes()
    assert export_network(net, "onnx", path)[0].read_bytes() == before


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The structure of `inputs`")
@pytest.mark.parametrize("config", CONFIGS)
def test_keras_opens_it_and_gives_the_same(config, tmp_path):
    import keras

    net = network(config)
    (path,) = export_network(net, "keras", tmp_path / "n.keras")
    model = keras.saving.load_model(path)
    names = [layer.name for layer in net.config.layers if layer.kind != "input"]
    assert [layer.name for layer in model.layers if layer.name in names] == names
    pooled = keras.Model(model.inputs, model.get_layer("global_average_pooling2d").output)
    # One program for all layers, where a plain call would compile each.
    assert_close(pooled.predict(images().astype(np.float32), verbose=0), expected(net))


def test_keras_files_come_back_with_their_preprocessing(tmp_path):
    from weights_convert.keras import convert

    net = network(replace(KERAS, preprocessing="imagenet"))
    (path,) = export_network(net, "keras", tmp_path / "n.keras")
    convert(path, tmp_path / "back.safetensors")
    back = load_model(tmp_path / "back.safetensors")
    assert back.config == net.config
    for name, array in net.arrays.items():
        layer, key = name.split("/")
        np.testing.assert_array_equal(getattr(getattr(back, layer), key)[...], array)


@pytest.mark.parametrize("config", CONFIGS)
def test_torchvision_gives_the_same(config, tmp_path):
    pytest.importorskip("torchvision")
    net = network(config)
    _, module = export_network(net, "torch", tmp_path / "n.safetensors")
    spec = importlib.util.spec_from_file_location("exported", module)
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    assert_close(loader.features(loader.load(), images()).numpy(), expected(net))
    assert loader.CLASS_NAMES == ("a", "b", "ü")


def test_torch_files_have_torchvisions_names(tmp_path):
    from safetensors.numpy import load_file

    known = np.load(os.path.join(os.path.dirname(__file__), "data", "torch_reference.npz"))
    shapes = json.loads(str(known["torchvision/shapes"]))
    path, module = export_network(network(KERAS), "torch", tmp_path / "n.safetensors")
    assert {name: list(array.shape) for name, array in load_file(path).items()} == shapes
    compile(module.read_text(), module, "exec")
    module.write_text("mine")
    with pytest.raises(package.JaxtlError, match="would be overwritten"):
        export_network(network(KERAS), "torch", path)


def test_a_runs_network_is_exported_by_the_command(few_run, tmp_path, jaxtl):
    for form, name in (("keras", "n.keras"), ("torch", "n.safetensors"), ("onnx", "n.onnx")):
        if form == "onnx":
            pytest.importorskip("onnx")
        code, out, _ = jaxtl("export", few_run, "--to", form, "--out", tmp_path / name)
        assert code == 0
        assert str(tmp_path / name) in out
    code, _, error = jaxtl("export", few_run, "--to", "onnx", "--stage", "both", "--out", tmp_path / "n.onnx")
    assert (code, "before or after for a network" in error) == (2, True)
    code, _, error = jaxtl("export", few_run, "--to", "keras", "--out", tmp_path / "n.onnx")
    assert (code, "must end in .keras" in error) == (2, True)


def test_weights_decide_the_preprocessing_and_it_is_recorded(few_digits, tmp_path, jaxtl):
    from jaxtl.models.weights import save_weights

    net = network(TORCH, 32)
    save_weights(tmp_path / "w.safetensors", TORCH, net.arrays, {})
    common = ("extract", "--dataset", few_digits, "--samples", 8, "--image-size", 32)
    own = (*common, "--weights", tmp_path / "w.safetensors", "--out")
    code, _, told = jaxtl(*own, tmp_path / "a.npz")
    assert code == 0
    assert "Preprocessing imagenet, which the weights want" in " ".join(told.split())
    features = Features.load(tmp_path / "a.npz")
    assert features.meta["preprocessing"] == "imagenet"
    jaxtl(*own, tmp_path / "c.npz", "--preprocessing", "unit")
    assert np.abs(Features.load(tmp_path / "c.npz").values - features.values).max() > 0.01


@pytest.mark.parametrize("text", ["caffe", "1,2/3,4", "0,0,0/1,1,0", "0,0,0/1,1,nan", "0,0,0", "/"])
def test_a_preprocessing_that_is_none_is_refused(text):
    with pytest.raises(package.JaxtlError, match="is not one of 'unit', 'keras', 'imagenet'"):
        RunConfig(preprocessing=text)
