"""Files of weights: strict loading, the same bits again, what is damaged or of another network."""

import io
import zipfile

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.weights import arrays_of, build, load_arrays, load_model, save_weights
from tests.random_weights import random_arrays, random_images


def altered(key, change):
    def alter(arrays):
        value = change(arrays.pop(key).copy())
        return arrays if value is None else {**arrays, key: value}

    return alter


def with_nan(array):
    array.flat[0] = np.nan
    return array


UNFIT = {
    "missing": (altered("Conv1/kernel", lambda a: None), r"missing Conv1/kernel \[3, 3, 3, 16\]"),
    "unexpected": (lambda arrays: {**arrays, "x/kernel": np.zeros(3)}, r"unexpected x/kernel \[3\]"),
    "misshapen": (altered("Conv1/kernel", lambda a: a[..., :8]), r"is \[3, 3, 3, 8\], needs \[3, 3, 3, 16\]"),
    "NaN": (altered("bn_Conv1/beta", with_nan), "bn_Conv1/beta holds NaN"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_loading_is_strict(case, tmp_path):
    alter, complaint = UNFIT[case]
    config = MobileNetV2Config(0.35)
    arrays = alter(random_arrays(config))
    with pytest.raises(JaxtlError, match=complaint):
        build(config, arrays)
    with pytest.raises(JaxtlError, match=complaint):
        save_weights(tmp_path / "x.safetensors", config, arrays, {})
    assert not (tmp_path / "x.safetensors").exists()


def test_all_complaints_come_together():
    config = MobileNetV2Config(0.35)
    arrays = random_arrays(config)
    del arrays["Conv1/kernel"], arrays["Conv_1/kernel"]
    with pytest.raises(JaxtlError, match=r"missing Conv1/kernel .*; missing Conv_1/kernel"):
        build(config, arrays)


def test_saved_weights_come_back_to_the_bit(tmp_path):
    config = MobileNetV2Config(0.35, classes=3, padding="symmetric", bn_epsilon=1e-5)
    arrays = random_arrays(config)
    for name in ("a", "b"):
        save_weights(tmp_path / name, config, arrays, {"licence": "MIT", "author": "né"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    model = load_model(tmp_path / "a")
    assert model.config == config
    loaded = arrays_of(model)
    assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays)
    assert load_arrays(tmp_path / "a")[2]["author"] == "né"


def flipped(data):
    return data[:-1] + bytes([data[-1] ^ 1])


DAMAGED = {
    "absent": (None, "no such file"),
    "empty": (lambda data: b"", "not a whole safetensors file"),
    "truncated": (lambda data: data[:-10], "not a whole safetensors file"),
    "altered": (flipped, "do not match its digest"),
    "another format": (
        lambda data: data.replace(b"jaxtl-mobilenet_v2-1", b"someone-elses-format"),
        "not one of",
    ),
    "config unreadable": (
        lambda data: data.replace(b"bn_epsilon", b"bn_epsilom"),
        "no readable network config",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_weights_are_refused(case, tmp_path):
    damage, complaint = DAMAGED[case]
    path = tmp_path / "x.safetensors"
    if damage:
        config = MobileNetV2Config(0.35)
        save_weights(path, config, random_arrays(config), {})
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(JaxtlError, match=complaint) as caught:
        load_arrays(path)
    assert "\n" not in str(caught.value)


def zipped(name):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, b"")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped("archive/data.pkl"), "a PyTorch checkpoint, .*: python -m weights_convert torch"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a Python pickle, .*: python -m weights_convert torch"),
        (zipped("model.weights.h5"), "a Keras archive, .*: python -m weights_convert keras"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file, .*: python -m weights_convert keras"),
        (zipped("x.npy"), "a NumPy archive"),
        (b"PK\x03\x04", "not a whole safetensors file"),
        ((0x80).to_bytes(8, "little") + b"{" + bytes(40), "not a whole safetensors file"),
    ],
    # Not the bytes, which hold the time: all processes have to name a test alike.
    ids=("PyTorch", "pickle", "Keras", "HDF5", "NumPy", "a zip's beginning", "a header's beginning"),
)
def test_weights_of_others_are_told_what_they_are_and_what_reads_them(data, words, tmp_path):
    path = tmp_path / "theirs.pth"
    path.write_bytes(data)
    with pytest.raises(JaxtlError, match=rf"theirs\.pth: {words}"):
        load_model(path)


@pytest.mark.parametrize("shape", [(2, 31, 48, 3), (2, 48, 48, 1), (48, 48, 3)])
def test_other_shapes_are_refused(shape, small_model):
    with pytest.raises(JaxtlError, match=r"takes images \[n, h, w, 3\]"):
        small_model[0](np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"width": 0}, "width must be"),
        ({"classes": 1}, "at least 2 classes"),
        ({"padding": "same"}, "padding must"),
    ],
)
def test_configs_are_checked(options, complaint):
    with pytest.raises(JaxtlError, match=complaint):
        MobileNetV2Config(**options)


def test_an_unknown_layer_is_named(small_model):
    with pytest.raises(JaxtlError, match="has no layer 'block_17_add'"):
        small_model[0].intermediates(random_images(32), ["block_17_add"])
