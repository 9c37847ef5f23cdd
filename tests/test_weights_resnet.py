"""Checkpoints of ResNets: what torchvision, timm and transformers name is read, relatives are refused."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from jaxtl.errors import JaxtlError
from jaxtl.exports.forms import export_network
from jaxtl.exports.network import ExportedNetwork
from jaxtl.exports.torchvision import resnet_modules, state_dict, torch_names
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.weights import load_arrays, tensor_digest
from tests.random_weights import random_arrays
from tests.resnet_reference import drawn
from weights_convert.__main__ import main
from weights_convert.torch import convert

NARROW = 1 / 8


def converted(tensors, folder, **options):
    """A checkpoint's conversion, and the arrays that came of it."""
    save_file(tensors, folder / "in.safetensors")
    done = convert(folder / "in.safetensors", folder / "out.safetensors", **options)
    return done, load_arrays(folder / "out.safetensors")[1]


def in_transformers(config, arrays):
    """The same tensors as transformers' ResNetForImageClassification names them."""
    words = {"conv": "convolution", "bn": "normalization"}

    def module(name):
        if name in ("conv1", "bn1"):
            return f"resnet.embedder.embedder.{words[name[:-1]]}"
        if name == "fc":
            return "classifier.1"
        stage, block, *rest = name.split(".")
        place = f"resnet.encoder.stages.{int(stage[-1]) - 1}.layers.{block}"
        if rest[0] == "downsample":
            return f"{place}.shortcut.{('convolution', 'normalization')[int(rest[1])]}"
        return f"{place}.layer.{int(rest[0][-1]) - 1}.{words[rest[0][:-1]]}"

    modules = {name: module(name) for name in resnet_modules(config)}
    names = torch_names(config.layers, modules)
    return {n: np.ascontiguousarray(arrays[ours].transpose(axes)) for ours, (n, axes) in names.items()}


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("form", [state_dict, in_transformers])
def test_tensors_of_each_library_become_ours(depth, form, tmp_path):
    config, arrays = drawn(depth, width=NARROW)
    done, again = converted(form(config, arrays), tmp_path)
    assert (done.config.name, done.config.width, done.config.classes) == (config.name, NARROW, 10)
    assert (done.config.padding, done.config.bn_epsilon) == ("symmetric", 1e-5)
    assert done.config.preprocessing == "imagenet"
    assert done.left_out == ()
    assert done.digest == tensor_digest(arrays)
    assert all(np.array_equal(again[name], arrays[name]) for name in arrays)
    bare, backbone = converted(form(config, arrays), tmp_path, head=False)
    assert bare.config.classes is None
    assert set(arrays) - set(backbone) == {"fc/kernel", "fc/bias"}


def test_a_network_within_another_and_another_head_are_known(tmp_path):
    config, arrays = drawn(18, width=NARROW)
    tensors = {f"model.backbone.{name}": a for name, a in state_dict(config, arrays).items()}
    assert converted(tensors, tmp_path)[0].config.classes == 10
    tensors["model.projector.weight"] = np.zeros(3, "f4")
    done, _ = converted(tensors, tmp_path)
    assert done.config.classes is None
    assert "the head was left out" in done.notes[-1]
    with pytest.raises(JaxtlError, match="--head: the head was left out"):
        converted(tensors, tmp_path, head=True)
    twice = {**tensors, **{f"teacher.{name}": array for name, array in tensors.items()}}
    with pytest.raises(JaxtlError, match="holds 2 backbones"):
        converted(twice, tmp_path)


def test_a_first_convolution_for_small_images_is_taken_for_that_and_said(tmp_path):
    config, arrays = drawn(18, width=NARROW)
    tensors = state_dict(config, arrays)
    tensors["conv1.weight"] = np.ascontiguousarray(tensors["conv1.weight"][:, :, 2:5, 2:5])
    done, _ = converted(tensors, tmp_path)
    assert (done.config.stem_kernel, done.config.stem_stride, done.config.stem_pool) == (3, 1, False)
    assert any("taken with stride 1 and no max pooling" in note for note in done.notes)
    done, _ = converted(tensors, tmp_path, stem="imagenet")
    assert (done.config.stem_stride, done.config.stem_pool) == (2, True)


def wide(tensors):
    tensors["layer1.0.conv1.weight"] = np.zeros((16, 8, 1, 1), "f4")
    tensors["layer1.0.conv2.weight"] = np.zeros((16, 16, 3, 3), "f4")


def grouped(tensors):
    tensors["layer1.0.conv2.weight"] = np.zeros((8, 2, 3, 3), "f4")


def attentive(tensors):
    tensors["layer1.0.se.fc1.weight"] = np.zeros((2, 8, 1, 1), "f4")


def deeper(tensors):
    extra = [name for name in tensors if name.startswith("layer1.1")]
    tensors.update({name.replace("layer1.1", "layer1.2"): tensors[name] for name in extra})


def three_stems(tensors):
    tensors["conv1.0.weight"] = tensors.pop("conv1.weight")


def damaged(tensors):
    del tensors["layer2.0.bn1.weight"]


RELATIVES = {
    wide: "a Wide ResNet",
    grouped: "a ResNeXt",
    attentive: "a ResNet with attention",
    deeper: r"a ResNet of 3 \+ 2 \+ 2 \+ 2 blocks of two convolutions",
    three_stems: "a ResNet whose first convolution is three",
    damaged: r"does not fit ResNet-18 .*missing layer2.0.bn1/gamma \[16\]",
}


@pytest.mark.parametrize("change", RELATIVES, ids=lambda change: change.__name__)
def test_relatives_are_refused_by_name(change, tmp_path):
    tensors = state_dict(*drawn(18, width=NARROW))
    change(tensors)
    with pytest.raises(JaxtlError, match=f"in.safetensors: {RELATIVES[change]}"):
        converted(tensors, tmp_path)


def test_what_jaxtl_tells_of_a_network_without_weights_works_as_written(jaxtl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, told = jaxtl("run", "--model", "resnet18")
    command = " ".join(told.split()).partition("python -m weights_convert ")[2].partition(",")[0].split()
    assert (code, command) == (2, ["torch", "resnet18.pth", "resnet18.safetensors"])
    config, arrays = drawn(18, width=NARROW)
    save_file(state_dict(config, arrays), "resnet18.pth")  # told apart by content
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "ResNet-18, width 0.125, 10 classes" in result.output
    code, out, _ = jaxtl(
        "export", "resnet18.safetensors", "--to", "onnx", "--image-size", 32, "--out", "n.onnx"
    )
    assert (code, out.split()) == (0, ["n.onnx"])


def test_a_torch_export_comes_back_with_its_settings(tmp_path):
    config = MobileNetV2Config(0.05, classes=3)
    network = ExportedNetwork(config, random_arrays(config), 33, "0.1,0.2,0.3/0.5,0.5,0.5")
    path, _ = export_network(network, "torch", tmp_path / "n.safetensors")
    done = convert(path, tmp_path / "back.safetensors")
    assert done.digest == tensor_digest(network.arrays)
    assert (done.config.padding, done.config.bn_epsilon, done.config.bn_momentum) == ("keras", 1e-3, 0.999)
    assert done.config.preprocessing == network.preprocessing
    assert any("by what jaxtl noted in it" in note for note in done.notes)
    assert convert(path, tmp_path / "back.safetensors", padding="symmetric").config.padding == "symmetric"
    damaged = {"made_by": "jaxtl export", "settings": json.dumps({"bn_epsilon": "a"})}
    save_file(load_file(path), tmp_path / "damaged.safetensors", metadata=damaged)
    with pytest.raises(JaxtlError, match=r"the settings in it .* are damaged"):
        convert(tmp_path / "damaged.safetensors", tmp_path / "back.safetensors")


def test_a_file_of_weights_is_exported_at_the_size_that_is_said(jaxtl, tmp_path):
    config, arrays = drawn(18, width=NARROW)
    done, _ = converted(state_dict(config, arrays), tmp_path)
    file = tmp_path / "out.safetensors"
    for options, words in (
        (("--out", tmp_path / "n.onnx"), "say --image-size"),
        (("--image-size", 8, "--out", tmp_path / "n.onnx"), "'8' is not a whole number from 32"),
        (("--image-size", 32, "--stage", "after", "--out", tmp_path / "n.onnx"), "leave out --stage"),
    ):
        code, _, told = jaxtl("export", file, "--to", "onnx", *options)
        assert (code, words in " ".join(told.split())) == (2, True), told
    code, _, told = jaxtl("export", file, "--to", "torch", "--image-size", 32, "--out", file)
    assert code == 2
    assert load_arrays(file)[0] == done.config
