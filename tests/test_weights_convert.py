"""Every layout in which Keras stores MobileNetV2, written by Keras itself, comes through to the bit."""

import os
import re
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras.src.legacy.saving import legacy_h5_format

from jaxtl.errors import JaxtlError
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.weights import imagenet_path, load_arrays, tensor_digest
from weights_convert.__main__ import main
from weights_convert.keras import convert

# Keras's own variables, under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")

ROOT = Path(__file__).parents[1]
WIDTH, SIZE = 0.35, 32
OWN_HEAD = ("sequential", "functional", "flat")
FORMATS = (".h5", ".weights.h5", ".keras")


@pytest.fixture(scope="module", autouse=True)
def quick_building():
    # Values are drawn below; compiling Keras's own random draws takes longer than all else.
    with pytest.MonkeyPatch.context() as patch:
        zeros = lambda _, shape, dtype=None: np.zeros(shape, dtype)  # noqa: E731
        patch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)
        yield


def values_of(model):
    """Parameters under jaxtl's names, read from Keras's layers by attribute."""
    attributes = ("kernel", "gamma", "beta", "moving_mean", "moving_variance", "bias")
    arrays = {}
    for layer in model.layers:
        for attribute in attributes:
            value = getattr(layer, attribute, None)
            if value is not None:
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                key = "depthwise_kernel" if depthwise else attribute
                arrays[f"{layer.name}/{key}"] = np.asarray(value)
    return arrays


@pytest.fixture(scope="module")
def models():
    shape = (SIZE, SIZE, 3)
    build = keras.applications.MobileNetV2
    bare = build(alpha=WIDTH, weights=None, include_top=False, input_shape=shape)
    top = build(alpha=WIDTH, weights=None, classes=7, input_shape=shape)
    layers = keras.layers
    sequential = keras.Sequential(
        [keras.Input(shape), bare, layers.GlobalAveragePooling2D(), layers.Dense(10, name="mine")]
    )
    sequential.compile("adam", "mse")
    sequential.optimizer.build(sequential.trainable_variables)
    x = keras.Input(shape)
    y = layers.RandomFlip()(layers.Rescaling(1 / 127.5, -1)(x))
    y = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(bare(y, training=False)))
    functional = keras.Model(x, layers.Dense(10, name="mine")(y))
    pooled = layers.GlobalAveragePooling2D()(bare.output)
    flat = keras.Model(bare.input, layers.Dense(5, name="mine")(pooled))
    made = {"bare": bare, "top": top, "sequential": sequential, "functional": functional, "flat": flat}
    for seed, model in enumerate(made.values()):
        randomise_floats(model, seed)
    return made


def randomise_floats(model, seed):
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "float" in str(weight.dtype):
            # Positive, since some of them are variances.
            weight.assign(rng.uniform(0.1, 1.0, weight.shape))


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """Path by (model, format); "weights-only" is the legacy layout that Keras publishes."""
    folder = tmp_path_factory.mktemp("keras")
    paths = {}
    for name, model in models.items():
        for suffix in FORMATS:
            paths[name, suffix] = folder / f"{name}{suffix}"
            save = model.save_weights if suffix == ".weights.h5" else model.save
            save(paths[name, suffix])
    for name in ("bare", "top"):
        paths[name, "weights-only"] = folder / f"{name}-weights-only.h5"
        with h5py.File(paths[name, "weights-only"], "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, models[name])
    return paths


def backbone_of(models, name):
    """A flat model shares the layers of the bare one, and the nested ones hold it."""
    return values_of(models["top" if name == "top" else "bare"])


def assert_same(arrays, expected):
    assert set(arrays) == set(expected)
    for name, value in expected.items():
        assert arrays[name].dtype == np.float32
        np.testing.assert_array_equal(arrays[name], value, err_msg=name)


LAYOUTS = [(name, suffix) for name in ("bare", "top", *OWN_HEAD) for suffix in FORMATS]
LAYOUTS += [("bare", "weights-only"), ("top", "weights-only")]


@pytest.mark.parametrize(("name", "suffix"), LAYOUTS)
def test_backbone_comes_through_to_the_bit(name, suffix, models, files, tmp_path):
    out = tmp_path / "out.safetensors"
    done = convert(files[name, suffix], out)
    config, arrays, metadata = load_arrays(out)
    # The functional model rescales pixels itself; weights alone do not tell.
    wanted = "keras" if name == "functional" and suffix != ".weights.h5" else None
    classes = 7 if name == "top" else None
    assert config == done.config == MobileNetV2Config(WIDTH, classes, preprocessing=wanted)
    assert_same(arrays, backbone_of(models, name))
    assert metadata["source_file"] == files[name, suffix].name
    # Keras notes no version in a `.weights.h5`.
    assert metadata["framework"] == f"Keras {'unknown' if suffix == '.weights.h5' else keras.__version__}"
    left = [path for path in done.left_out if "optimizer" not in path and "seed_generator" not in path]
    assert len(left) == (2 if name in OWN_HEAD else 0)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", OWN_HEAD)
def test_head_becomes_predictions(name, suffix, models, files, tmp_path):
    out = tmp_path / "out.safetensors"
    done = convert(files[name, suffix], out, head=True)
    config, arrays, _ = load_arrays(out)
    own = models[name].get_layer("mine")
    head = {"predictions/kernel": np.asarray(own.kernel), "predictions/bias": np.asarray(own.bias)}
    assert_same(arrays, {**backbone_of(models, name), **head})
    assert config.classes == own.units
    assert done.head.split("/")[-1] in ("mine", "vars")


def test_optimizer_state_is_left_out_by_name(files, tmp_path):
    done = convert(files["sequential", ".h5"], tmp_path / "out.safetensors")
    # Keras numbers the optimisers of a process.
    momentum = re.compile(r"optimizer_weights/adam(_\d+)?/Conv1_kernel_momentum")
    assert sum(momentum.fullmatch(name) is not None for name in done.left_out) == 1
    assert "model_weights/mine/sequential/mine/kernel" in done.left_out
    result = run(files["sequential", ".h5"], tmp_path / "out.safetensors")
    assert "model_weights/mine/sequential/mine/kernel" in result.output
    assert "of the optimizer's state" in result.output


def run(*arguments):
    return CliRunner().invoke(main, ["keras", *map(str, arguments)])


def rewritten(path, out, rename):
    """A copy of an HDF5 file with its data sets renamed, without attributes."""
    with h5py.File(path) as file, h5py.File(out, "w") as copy:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            copy[rename(name)] = file[name][()]
    return out


def as_keras_2(path):
    depthwise = path.endswith("_depthwise/kernel")
    return (path.removesuffix("kernel") + "depthwise_kernel" if depthwise else path) + ":0"


KEPT_LAYOUTS = {
    # Names as Keras 2 wrote them.
    "keras 2 weights": ("bare", "weights-only", as_keras_2),
    "keras 2 top": ("top", "weights-only", lambda p: as_keras_2(p).replace("predictions", "Logits")),
    "keras 2 whole": ("sequential", ".h5", as_keras_2),
    # Early Keras 3 notes no layer names beside its numbers.
    "keras 3 unnamed": ("bare", ".weights.h5", str),
    "keras 3 unnamed, nested": ("functional", ".weights.h5", str),
}


@pytest.mark.parametrize("layout", KEPT_LAYOUTS)
def test_older_names_come_through(layout, models, files, tmp_path):
    name, suffix, rename = KEPT_LAYOUTS[layout]
    path = rewritten(files[name, suffix], tmp_path / "old.h5", rename)
    convert(path, tmp_path / "out.safetensors")
    assert_same(load_arrays(tmp_path / "out.safetensors")[1], backbone_of(models, name))


def test_layers_before_the_backbone_do_not_shift_the_count(models, tmp_path):
    gray = keras.Input((SIZE, SIZE, 1))
    colour = keras.layers.Conv2D(3, 1, name="to_rgb")(gray)
    bare = keras.applications.MobileNetV2(alpha=WIDTH, weights=None, include_top=False, input_tensor=colour)
    randomise_floats(bare, 9)
    for suffix in FORMATS:
        path = tmp_path / f"gray{suffix}"
        (bare.save_weights if suffix == ".weights.h5" else bare.save)(path)
        done = convert(path, tmp_path / "out.safetensors")
        values = {k: v for k, v in values_of(bare).items() if not k.startswith("to_rgb")}
        assert_same(load_arrays(tmp_path / "out.safetensors")[1], values)
        assert len(done.left_out) == 2


REFUSED_HEADS = {
    "two Dense": (lambda y: keras.layers.Dense(4)(keras.layers.Dense(8)(pool("Average")(y))), "one Dense"),
    "no bias": (lambda y: keras.layers.Dense(4, use_bias=False)(pool("Average")(y)), "one Dense"),
    "other pooling": (lambda y: keras.layers.Dense(4)(pool("Max")(y)), "GlobalMaxPooling2D"),
    "no pooling": (lambda y: keras.layers.Dense(4)(keras.layers.Flatten()(y)), "no pooling"),
    "one unit": (lambda y: keras.layers.Dense(1)(pool("Average")(y)), "at least 2 classes"),
}


def pool(kind):
    return getattr(keras.layers, f"Global{kind}Pooling2D")()


# All are refused by the same reading; Keras takes a second to save each.
@pytest.mark.parametrize(
    "case",
    [pytest.param(name, marks=() if k < 2 else pytest.mark.slow) for k, name in enumerate(REFUSED_HEADS)],
)
def test_a_head_of_another_shape_is_refused(case, models, tmp_path):
    build, complaint = REFUSED_HEADS[case]
    model = keras.Model(models["bare"].input, build(models["bare"].output))
    model.save(tmp_path / "model.keras")
    with pytest.raises(JaxtlError, match=complaint):
        convert(tmp_path / "model.keras", tmp_path / "out.safetensors", head=True)
    assert convert(tmp_path / "model.keras", tmp_path / "out.safetensors").config.classes is None


@pytest.mark.parametrize(
    "suffix", [FORMATS[0], *(pytest.param(suffix, marks=pytest.mark.slow) for suffix in FORMATS[1:])]
)
@pytest.mark.parametrize(("network", "alpha"), [("MobileNet", 0.25), ("MobileNetV3Small", 0.75)])
def test_other_networks_of_keras_are_refused(network, alpha, suffix, tmp_path):
    build = getattr(keras.applications, network)
    model = build(alpha=alpha, weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    path = tmp_path / f"other{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    result = run(path, tmp_path / "out.safetensors")
    assert result.exit_code == 2
    assert "holds no MobileNetV2" in result.output
    assert not (tmp_path / "out.safetensors").exists()


def test_same_input_gives_the_same_bytes_from_any_folder(files, tmp_path):
    path = files["top", ".keras"]
    convert(path, tmp_path / "a.safetensors", licence="MIT", source="here")
    command = [sys.executable, "-m", "weights_convert", "keras", str(path), "b.safetensors"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [*command, "--licence", "MIT", "--source", "here"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    _, arrays, metadata = load_arrays(tmp_path / "b.safetensors")
    assert (metadata["licence"], metadata["source"]) == ("MIT", "here")
    assert tensor_digest(arrays) in done.stdout


def test_the_bundled_weights_are_the_known_ones():
    config, arrays, metadata = load_arrays(imagenet_path())
    assert config == MobileNetV2Config()
    assert sum(array.size for array in arrays.values()) == 2_257_984
    assert tensor_digest(arrays) == "d7b46b273d625a7841fdb697896dfa6f991a8dc922f4a5b8313798893608bafc"
    assert metadata["licence"] == "Apache-2.0"
    provenance = (imagenet_path().parent / "PROVENANCE.md").read_text()
    assert metadata["source_sha256"] in provenance
    assert metadata["tensor_digest"] in provenance
    assert metadata["source"] in provenance
