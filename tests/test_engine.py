"""Layers from the images on give the same by LiteRT, ONNX Runtime and OpenVINO as by JAX, up to rounding."""

import functools
import json
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxtl as package
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.resnet import ResNetConfig
from jaxtl.models.weights import build
from jaxtl.network import engine as engines
from jaxtl.network.blocks import average_layers, run_blocks
from jaxtl.network.engine import chosen_engine
from jaxtl.network.extraction import extract
from jaxtl.network.layers import run_layers
from jaxtl.network.trunk import Trunk
from jaxtl.records.dataset import Dataset
from jaxtl.records.documents import digest_of
from jaxtl.runs.formats import Started, load_started, save_started
from jaxtl.settings import Images, RunConfig
from tests.exporting import network

MOBILE = MobileNetV2Config(0.05, classes=3)
RESNET = ResNetConfig(width=1 / 16, classes=3, preprocessing="imagenet")
# Of each the number of layers of a trunk, within a block whose input is kept.
BOUNDARIES = {MOBILE: "block_2_depthwise", RESNET: "layer2.1.conv1"}
SIZE = Images(image_size=33)
MODULES = {
    "litert": ("ai_edge_litert", "flatbuffers"),
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
}


@pytest.fixture(params=MODULES)
def engine(request):
    # Not by importing it: OpenVINO would then tell its makers, in a process that it forks.
    if not all(map(find_spec, MODULES[request.param])):
        pytest.skip(f"{request.param} is not installed")
    return request.param


@functools.cache
def model(config):
    return build(config, network(config).arrays)


def images(height=37, width=29, channels=3, n=5):
    return np.random.default_rng(1).integers(0, 256, (n, height, width, channels), np.uint8)


def settled(config, images=SIZE):
    return images.settled(config.preprocessing)


@functools.cache
def by_jax(config):
    stop = config.position(BOUNDARIES[config]) + 1
    return run_blocks(model(config), stop, images(), settled(config), 3, 2, form="xla")


def assert_alike(made, wanted):
    """The same tree, each array to 1e-5 of its scale."""
    assert jax.tree.structure(made) == jax.tree.structure(wanted)
    for array, other in zip(jax.tree.leaves(made), jax.tree.leaves(wanted), strict=True):
        assert np.shape(array) == np.shape(other)
        np.testing.assert_allclose(array, other, rtol=0, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("config", BOUNDARIES, ids=lambda config: config.name)
def test_a_trunk_and_its_blocks(config, engine):
    """Odd sizes, a last batch that is not full, what a block keeps, averages of the first images alone."""
    stop = config.position(BOUNDARIES[config]) + 1
    source, blocks = run_blocks(model(config), stop, images(), settled(config), 3, 2, engine=engine)
    wanted, wanted_blocks = by_jax(config)
    assert source.skip is not None
    assert_alike(source, wanted)
    assert list(blocks.averages) == list(wanted_blocks.averages)
    assert_alike(blocks.averages, wanted_blocks.averages)
    assert blocks.start == wanted_blocks.start
    assert_alike(blocks.source, wanted_blocks.source)
    again, _ = run_blocks(model(config), stop, images(), settled(config), 0, 4, engine=engine)
    assert_alike(again, wanted)


def test_features_logits_and_averages(engine):
    """Of gray images: each from the whole network."""
    net, pixels, prepare = model(RESNET), images(28, 28, 1), settled(RESNET)
    logits = run_layers(net, 0, len(RESNET.layers), pixels, prepare, engine=engine).x
    source = run_layers(net, 0, RESNET.pooled, pixels, prepare, form="xla")
    assert_alike(logits, run_layers(net, RESNET.pooled, len(RESNET.layers), source, form="xla").x)
    # A projection works on what a block keeps.
    ends = [RESNET.position(name) + 1 for name in ("layer2.0.downsample.1", "layer4.1.add")]
    averages = average_layers(net, 0, ends, pixels, prepare, form="xla")
    assert_alike(average_layers(net, 0, ends, pixels, prepare, engine=engine), averages)


@pytest.mark.parametrize(
    "how",
    [{"fit": "crop"}, {"fit": "pad"}, {"antialias": "on", "image_size": 32}, {"image_size": 37}],
    ids=str,
)
def test_pixels_are_resized_as_by_jax(how, engine):
    side = how.get("image_size", 33)
    pixels = images(48, 40) if side == 32 else images(37, 37 if side == 37 else 29)
    prepare = settled(MOBILE, Images(**{"image_size": 33, "preprocessing": "keras", **how}))
    wanted = run_layers(model(MOBILE), 0, 2, pixels, prepare, form="xla")
    assert_alike(run_layers(model(MOBILE), 0, 2, pixels, prepare, engine=engine), wanted)


def test_what_users_call_says_what_it_took(engine):
    data = Dataset(images(), np.arange(5, dtype=np.int32) % 2, ("a", "b"), "test", "few")
    features = extract(model(MOBILE), data, SIZE, engine=engine)
    assert features.meta["engine"].startswith(f"{engine} ")
    trunk = Trunk(model(MOBILE), MOBILE.pooled, SIZE, engine=engine)
    assert_alike(trunk.source(data.images, keep=True).x, features.values)
    assert_alike(trunk.then(trunk.model, MOBILE.pooled, data.images), features.values)


def test_a_large_batch_passes_in_pieces(engine, monkeypatch):
    sizes = []
    run = engines.Pass.__call__
    monkeypatch.setattr(
        engines.Pass, "__call__", lambda self, batch: sizes.append(len(batch)) or run(self, batch)
    )
    few = images(33, 33, n=100)
    run_layers(model(MOBILE), 0, 2, few, settled(MOBILE), 1024, engine=engine)
    assert set(sizes) < {16, 32}
    assert sum(sizes) < 100 + 32


def test_auto_is_the_fastest_that_is_there(monkeypatch):
    installed = {"ai_edge_litert", "flatbuffers", "openvino", "onnx"}
    specs = {name: SimpleNamespace(origin=f"{name}/__init__.py") for name in installed | {"onnxruntime"}}
    monkeypatch.setattr(engines, "find_spec", lambda name: specs[name] if name in installed else None)
    assert chosen_engine("auto", "highest") == "litert"
    installed -= {"ai_edge_litert"}
    assert chosen_engine("auto", "highest") == "openvino"
    assert chosen_engine("auto", "bf16") == "jax"
    assert chosen_engine("jax", "tf32") == "jax"
    with pytest.raises(
        package.JaxtlError, match=r"engine openvino: has precision highest and bf16, not tf32"
    ):
        chosen_engine("openvino", "tf32")
    for engine in ("litert", "onnxruntime"):
        with pytest.raises(package.JaxtlError, match=rf"{engine}: is not installed; .*\[{engine}\]"):
            chosen_engine(engine, "highest")
    # Nobody is given other numbers because of what other projects need.
    installed |= {"onnxruntime"}
    installed -= {"openvino"}
    assert chosen_engine("auto", "highest") == "jax"
    names = "auto, jax, litert, openvino, onnxruntime"
    with pytest.raises(package.JaxtlError, match=f"engine: must be one of {names}"):
        chosen_engine("torch", "highest")


def test_a_folder_of_the_same_name_is_no_engine(monkeypatch, tmp_path):
    for name in ("ai_edge_litert", "flatbuffers", "openvino", "onnx"):
        (tmp_path / name).mkdir()
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert chosen_engine("auto", "highest") == "jax"


@pytest.mark.parametrize("name", ["litert", "openvino", "onnxruntime"])
def test_an_engine_that_is_broken_is_told_in_one_line(name, monkeypatch, tmp_path):
    for module in MODULES[name]:
        (tmp_path / f"{module}.py").write_text("raise ImportError('libx.so:\\nno such file')")
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    told = rf"^engine {name}: is installed and does not work: libx.so:.*no such file.*; take engine jax"
    with pytest.raises(package.JaxtlError, match=told) as raised:
        run_layers(model(MOBILE), 0, 2, images(), settled(MOBILE), engine=name)
    assert "\n" not in str(raised.value)


def test_runs_before_there_were_engines_are_jaxs(tmp_path):
    save_started(tmp_path / "config.json", Started(RunConfig(engine="openvino"), "0" * 64))
    assert load_started(tmp_path / "config.json").config.engine == "openvino"
    record = json.loads((tmp_path / "config.json").read_text())
    assert record.pop("engine") == "openvino"
    assert record.pop("digest")
    (tmp_path / "config.json").write_text(json.dumps({**record, "digest": digest_of(record)}))
    assert load_started(tmp_path / "config.json").config.engine == "jax"
