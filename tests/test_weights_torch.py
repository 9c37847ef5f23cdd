"""Checkpoints of PyTorch's libraries: what they compute is computed here, and other files are told apart.

The libraries' own outputs stand in `tests/data/torch_reference.npz`; `tests/torch_reference.py` makes it.
"""

import io
import json
import struct
import zipfile
from functools import partial

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from flax import nnx
from safetensors.numpy import save_file

from jaxtl.errors import JaxtlError
from jaxtl.models.weights import load_arrays, load_model
from tests import torch_reference as reference
from weights_convert.__main__ import main
from weights_convert.torch import convert

LIBRARIES = ("torchvision", "timm", "transformers")
DEFAULT = [("torchvision", 33), ("timm", 33)]
SLOW = [pytest.param(name, size, marks=pytest.mark.slow) for name in LIBRARIES for size in (32, 33)]


@pytest.fixture(scope="module")
def known():
    return np.load(reference.PATH)


@pytest.fixture(scope="module")
def states(known):
    return {name: reference.state_dict(json.loads(str(known[f"{name}/shapes"]))) for name in LIBRARIES}


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def pickled(arrays):
    """A state_dict as torch.save pickles it; arrays lie in storages 0, 1, ..."""
    out = b"\x80\x02}("
    for key, (name, array) in enumerate(arrays.items()):
        kind = {"f": "FloatStorage", "i": "LongStorage"}[array.dtype.kind]
        storage = (
            text("storage") + f"ctorch\n{kind}\n".encode() + text(str(key)) + text("cpu") + number(array.size)
        )
        strides = [step // array.itemsize for step in array.strides]
        shape, stride = (b"(" + b"".join(map(number, numbers)) + b"t" for numbers in (array.shape, strides))
        tensor = b"((" + storage + b"tQ" + number(0) + shape + stride + b"\x89ccollections\nOrderedDict\n)Rt"
        out += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n" + tensor + b"R"
    return out + b"u."


def torch_zip(arrays, pickle=None):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("m/data.pkl", pickle or pickled(arrays))
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"m/data/{key}", array.tobytes())
    return stream.getvalue()


def torch_legacy(arrays):
    """torch.save's form before 1.6: pickles one after the other, then the values."""
    keys = b"\x80\x02](" + b"".join(text(str(key)) for key in range(len(arrays))) + b"e."
    parts = [
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        b"\x80\x02M\xe9\x03.",
        b"\x80\x02}.",
        pickled(arrays),
        keys,
    ]
    return b"".join(parts) + b"".join(struct.pack("<q", a.size) + a.tobytes() for a in arrays.values())


def run(*arguments):
    return CliRunner().invoke(main, ["torch", *map(str, arguments)])


@partial(jax.jit, static_argnums=(0, 3))
def intermediates(graph, state, images, layers):
    return nnx.merge(graph, state).intermediates(images, layers)


def in_float64(model, images, layers):
    """Outputs of layers with all weights and products in float64; compiled once for a kind of network."""
    with jax.enable_x64(True):
        graph, state = nnx.split(model)
        return intermediates(graph, jax.tree.map(lambda a: np.asarray(a, np.float64), state), images, layers)


@pytest.mark.parametrize(("library", "size"), [*DEFAULT, *SLOW])
def test_every_block_is_the_librarys(library, size, known, states, tmp_path):
    save_file(states[library], tmp_path / "in.safetensors")
    done = convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    assert done.config.classes == reference.CLASSES
    model = load_model(tmp_path / "out.safetensors")
    ends = list(model.config.block_ends)
    images = reference.images(size).transpose(0, 2, 3, 1).astype(np.float64)
    outputs = in_float64(model, images, (*ends, "predictions"))
    for place, layer in enumerate(ends):
        ours, theirs = np.asarray(outputs[layer][0]), known[f"{library}/{size}/{place}"]
        ours = ours if size == reference.WHOLE[library] else ours.mean((0, 1))
        assert ours.shape == theirs.shape, layer
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max(), err_msg=layer)
    logits = known[f"{library}/{size}/logits"]
    np.testing.assert_allclose(outputs["predictions"][0], logits, rtol=0, atol=1e-6 * np.abs(logits).max())


@pytest.mark.parametrize("form", [torch_zip, torch_legacy])
def test_torchs_own_forms_are_read_without_torch(form, states, tmp_path):
    (tmp_path / "in.pth").write_bytes(form(states["torchvision"]))
    save_file(states["torchvision"], tmp_path / "in.safetensors")
    digests = {
        convert(tmp_path / name, tmp_path / "out.safetensors").digest for name in ("in.pth", "in.safetensors")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_saves_is_read(legacy, states, tmp_path):
    torch = pytest.importorskip("torch")
    import argparse

    tensors = {f"module.{k}": torch.from_numpy(v) for k, v in states["timm"].items()}
    saved = {"epoch": 3, "args": argparse.Namespace(a=1), "state_dict": tensors, "state_dict_ema": tensors}
    torch.save(saved, tmp_path / "in.pth", _use_new_zipfile_serialization=not legacy)
    done = convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
    save_file(states["timm"], tmp_path / "in.safetensors")
    assert done.digest == convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors").digest
    assert any("state_dict_ema" in note for note in done.notes)


def changed(states, library="torchvision", **changes):
    """A library's state with tensors added, replaced, or left out where they are None."""
    arrays = states[library] | {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in arrays.items() if value is not None}


def converted(arrays, folder, *options):
    save_file(arrays, folder / "in.safetensors")
    return run(folder / "in.safetensors", folder / "out.safetensors", *options)


def test_the_head_is_kept_or_left_out_and_that_is_said(states, tmp_path):
    out = tmp_path / "out.safetensors"
    kept = converted(states["torchvision"], tmp_path)
    assert "the head of 3 classes was kept: classifier.1" in kept.output
    assert load_arrays(out)[0].classes == 3
    dropped = converted(states["torchvision"], tmp_path, "--no-head")
    assert "the head was left out" in dropped.output
    assert load_arrays(out)[0].classes is None
    own = {"fc__weight": np.ones((5, 1280), "f4"), "fc__bias": np.ones(5, "f4")}
    bare = {"classifier__1__weight": None, "classifier__1__bias": None}
    assert "the head of 5 classes was kept: fc" in converted(changed(states, **bare, **own), tmp_path).output
    two = converted(changed(states, **own), tmp_path)
    assert (
        "not one linear layer on the pooled features (classifier.1.bias, classifier.1.weight, fc"
        in two.output
    )
    refused = converted(changed(states, **own), tmp_path, "--head")
    assert refused.exit_code == 2
    assert "--head: the head was left out: it is not one linear layer" in refused.output


def test_files_beside_it_decide_padding_epsilon_and_preprocessing(states, tmp_path):
    save_file(states["transformers"], tmp_path / "in.safetensors")
    config = {"tf_padding": False, "layer_norm_eps": 1e-4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    processor = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    config = convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors").config
    assert (config.padding, config.bn_epsilon, config.preprocessing) == ("symmetric", 1e-4, "imagenet")
    (tmp_path / "config.json").write_text(json.dumps({"hidden_act": "relu"}))
    with pytest.raises(JaxtlError, match="hidden_act 'relu'"):
        convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors")


WRONG = {
    "web page": (b"<!doctype html><html>", "a web page"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "GGUF": (b"GGUF\x03\0\0\0", "a GGUF file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "weights_convert keras"),
    "TFLite": (b"\x1c\0\0\0TFL3" + bytes(99), "a TFLite model"),
    "ONNX": (b"\x08\x08\x12\x07pytorch onnx" + bytes(99), "an ONNX model"),
    "tar": (bytes(257) + b"ustar" + bytes(99), "a tar archive"),
    "gzip": (b"\x1f\x8b" + bytes(99), "compressed by gzip"),
    "JSON": (b'{"weight_map": {}}', "JSON text"),
    "other pickle": (b"\x80\x04K\x01.", "a Python pickle, but not of torch.save"),
    "torch, cut": (torch_zip({"a": np.ones(9, "f4")})[:-9], "a broken zip archive"),
    "safetensors, cut": (
        struct.pack("<Q", 40) + b'{"a":{"dtype":"F32","shape":[9],"data_o' + bytes(9),
        "broken",
    ),
    "module": (torch_zip({}, b"\x80\x02cmodels\nNet\n)\x81."), "a whole pickled module (models.Net)"),
    "optimizer": (
        torch_zip({}, b"\x80\x02}(" + text("state") + b"}" + text("param_groups") + b"]u."),
        "optimizer",
    ),
    "system call": (
        torch_zip({}, b"\x80\x02cos\nsystem\n(" + text("touch pwned") + b"tR."),
        "a whole pickled module (os.system)",
    ),
    "foreign opcode": (torch_zip({}, b"\x80\x02(" + text("x") + b"ios\nsystem\n."), "opcode INST"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_told_what_they_are(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, words = WRONG[case]
    (tmp_path / "in.pth").write_bytes(data)
    result = run("in.pth", "out.safetensors")
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.pth"]


def test_unfit_tensors_are_named(states, tmp_path):
    resnet = converted({"layer1.0.conv1.weight": np.ones((8, 8, 3, 3), "f4")}, tmp_path)
    assert "it looks like a part or a relative of ResNet" in resnet.output
    missing = converted(changed(states, features__0__1__bias=None), tmp_path)
    assert "missing bn_Conv1/beta [8]" in missing.output
    extra = converted(changed(states, features__19__0__weight=np.ones(3, "f4")), tmp_path)
    assert "unexpected features.19.0.weight [3]" in extra.output
    whole = converted(changed(states, features__0__0__weight=np.ones((8, 3, 3, 3), np.int8)), tmp_path)
    assert "features.0.0.weight is int8, needs a float" in whole.output
    nan = converted(changed(states, features__0__1__bias=np.full(8, np.nan, "f4")), tmp_path)
    assert "bn_Conv1/beta holds NaN" in nan.output
    both = {f"{name}.{key}": a for name in ("a", "b") for key, a in states["timm"].items()}
    assert "holds 2 backbones: a." in converted(both, tmp_path).output
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert "give the file" in run(tmp_path, tmp_path / "out.safetensors").output


def test_half_precision_is_read(states, tmp_path):
    halves = {name: a.astype(np.float16) if a.dtype.kind == "f" else a for name, a in states["timm"].items()}
    assert converted(halves, tmp_path).exit_code == 0
    arrays = load_arrays(tmp_path / "out.safetensors")[1]
    wanted = halves["conv_stem.weight"].astype(np.float32).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(arrays["Conv1/kernel"], wanted)
