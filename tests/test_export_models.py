"""A network of jaxtl's in Keras, torchvision and ONNX Runtime gives the features that jaxtl gives."""

import json
import os
from dataclasses import replace

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest

import jaxtl as package
from jaxtl.exports import torch_form
from jaxtl.exports.forms import export_network
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.resnet import ResNetConfig
from jaxtl.models.weights import load_model
from jaxtl.records.arrays import Features
from jaxtl.settings import RunConfig
from tests.exporting import assert_close, expected, network, with_keras, with_onnx_runtime, with_torch

KERAS = MobileNetV2Config(0.05, classes=3)
TORCH = replace(KERAS, padding="symmetric", bn_epsilon=1e-5, preprocessing="imagenet")
RESNET = ResNetConfig(width=1 / 16, classes=3, preprocessing="imagenet")
CIFAR = replace(RESNET, stem_kernel=3, stem_stride=1, stem_pool=False)
BOTTLENECKS = ResNetConfig(50, 1 / 16, padding="keras")
SLOW = pytest.mark.slow
CONFIGS = [
    pytest.param(KERAS, id="keras"),
    pytest.param(RESNET, id="resnet"),
    pytest.param(TORCH, id="torch", marks=SLOW),
    pytest.param(CIFAR, id="cifar", marks=SLOW),
    pytest.param(BOTTLENECKS, id="bottlenecks", marks=SLOW),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_onnx_runtime_gives_the_same(config, tmp_path):
    pytest.importorskip("onnxruntime")
    outputs, path = with_onnx_runtime(config, tmp_path)
    assert_close(outputs["features"], expected(config))
    if config.classes:
        np.testing.assert_allclose(outputs["probabilities"].sum(1), 1, atol=1e-5)
    before = path.read_bytes()
    assert export_network(network(config), "onnx", path)[0].read_bytes() == before


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The structure of `inputs`")
@pytest.mark.parametrize("config", CONFIGS)
def test_keras_opens_it_and_gives_the_same(config, tmp_path):
    features, model = with_keras(config, tmp_path)
    assert_close(features, expected(config))
    names = [layer.name for layer in config.layers if layer.kind != "input"]
    assert {layer.name for layer in model.layers} >= set(names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [KERAS, TORCH, *(replace(config, width=1) for config in (RESNET, CIFAR, BOTTLENECKS))],
    ids=lambda config: f"{config.name}-{config.padding}",
)
def test_torchvision_gives_the_same(config, tmp_path):
    pytest.importorskip("torchvision")
    features, loader = with_torch(config, tmp_path)
    assert_close(features, expected(config))
    assert network(config).class_names == loader.CLASS_NAMES


def test_torchvision_has_no_narrow_resnet(tmp_path):
    with pytest.raises(package.JaxtlError, match=r"torchvision has no ResNet of width 0\.0625"):
        export_network(network(RESNET), "torch", tmp_path / "n.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_family_that_torchvision_lacks_is_refused(tmp_path, monkeypatch):
    monkeypatch.delitem(torch_form._FORMS, "mobilenet_v2")
    with pytest.raises(package.JaxtlError, match="torchvision has no MobileNetV2; export it with --to"):
        export_network(network(KERAS), "torch", tmp_path / "n.safetensors")
    assert not list(tmp_path.iterdir())


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


def test_weights_decide_the_preprocessing_and_it_is_recorded(few_digits, tmp_path, jaxtl):
    from jaxtl.models.weights import save_weights

    save_weights(tmp_path / "w.safetensors", RESNET, network(RESNET).arrays, {})
    common = ("extract", "--dataset", few_digits, "--samples", 8, "--image-size", 32)
    own = (*common, "--weights", tmp_path / "w.safetensors", "--out")
    code, _, told = jaxtl(*own, tmp_path / "a.npz")
    assert code == 0
    assert "Preprocessing imagenet, which the weights want" in " ".join(told.split())
    assert Features.load(tmp_path / "a.npz").meta["preprocessing"] == "imagenet"


@pytest.mark.parametrize("text", ["caffe", "1,2/3,4", "0,0,0/1,1,0", "0,0,0/1,1,nan", "0,0,0", "/"])
def test_a_preprocessing_that_is_none_is_refused(text):
    with pytest.raises(package.JaxtlError, match="is not one of 'unit', 'keras', 'imagenet'"):
        RunConfig(preprocessing=text)
