"""Broken, hostile and unfit files end in one clear line, exit code 2 and an untouched output."""

import io
import struct
import sys
import zipfile

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save

from jaxtl.errors import JaxtlError
from jaxtl.exports.torchvision import state_dict
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.weights import load_arrays, save_weights, with_metadata
from weights_convert.__main__ import main
from weights_convert.conversion import PUBLISHED_WIDTHS
from weights_convert.keras import convert
from weights_convert.keras_inputs import find_preprocessing

WIDTH = 0.35
KERNEL, VARIANCE = "Conv1/Conv1/kernel:0", "bn_Conv1/bn_Conv1/moving_variance:0"


def tensors(config=MobileNetV2Config(WIDTH), dtype=np.float32, prefix=""):
    """A sound file's tensors in the layout that Keras publishes, or nested under `prefix`."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in config.parameters.items():
        layer = "" if prefix else name.split("/")[0] + "/"
        arrays[f"{prefix}{layer}{name}:0"] = rng.uniform(0.1, 1, shape).astype(dtype)
    return arrays


def hdf5(arrays, change=None):
    """Bytes of an HDF5 file; `change` does to it what no friend does."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for path, array in arrays.items():
            file[path] = array
        if change:
            change(file)
    return stream.getvalue()


def changed(**changes):
    """The sound tensors with some replaced, or left out where the new value is None."""
    arrays = tensors()
    for key, value in changes.items():
        path = {"kernel": KERNEL, "extra": "Conv1/Conv1/bias:0", "variance": VARIANCE}[key]
        arrays[path] = value(arrays[path]) if callable(value) else value
    return hdf5({path: array for path, array in arrays.items() if array is not None})


def holding(value):
    def put(array):
        array = array.copy()
        array[1, 1, 1, 1] = value
        return array

    return put


def relinked(link):
    def change(file):
        del file[KERNEL]
        file[KERNEL] = link

    return lambda: hdf5(tensors(), change)


def redeclared(**options):
    def change(file):
        del file[KERNEL]
        file.create_dataset(KERNEL, dtype="f4", **options)

    return lambda: hdf5(tensors(), change)


def virtual():
    def change(file):
        shape = file[KERNEL].shape
        del file[KERNEL]
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource("other.h5", "x", shape)
        file.create_virtual_dataset(KERNEL, layout)

    return hdf5(tensors(), change)


def loop(file):
    file["Conv1/again"] = file["Conv1"]


def deep(file):
    file["/".join("d" * 40)] = np.zeros(1, np.float32)


def named_type(file):
    file["type"] = np.dtype("f4")


def both(*prefixes):
    return lambda: hdf5(
        {path: array for prefix in prefixes for path, array in tensors(prefix=prefix).items()}
    )


def archive(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return stream.getvalue()


GOOD_MEMBERS = {"metadata_dot_json": "{}", "config_dot_json": "{}"}


def archive_declaring(size):
    """A Keras archive whose directory declares another size for the weights."""
    data = bytearray(archive(model_dot_weights_dot_h5=b"x", **GOOD_MEMBERS))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, size)
    return bytes(data)


def marked(data, place, value):
    """An archive with a number changed in every entry of its directory, `place` bytes from its beginning."""
    data, at = bytearray(data), 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        struct.pack_into("<H", data, at + place, value)
        at += 4
    return bytes(data)


def packed(how):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as file:
        for name in ("model.weights.h5", "config.json", "metadata.json"):
            file.writestr(name, b"{}")
    return stream.getvalue()


def safetensors(arrays, **metadata):
    return with_metadata(save(arrays), metadata)


RESNET = {"conv1_conv/conv1_conv/kernel:0": np.zeros((7, 7, 3, 64), np.float32)}

# What lies at IN, and what its error line must say. A None is a file that is not there.
REFUSED = {
    "missing": (lambda: None, "no such file"),
    "empty": (lambda: b"", "empty file"),
    "web page": (lambda: b"\n<!DOCTYPE html><html>404</html>", "a web page"),
    "torch zip": (lambda: archive(archive__data_dot_pkl=b"x"), "a PyTorch checkpoint"),
    "torch pickle": (lambda: b"\x80\x02\x8a\nl\xfc\x9cF\xf9", "a Python pickle"),
    "text": (lambda: b"weights", "neither HDF5 nor a Keras archive"),
    "truncated": (lambda: hdf5(tensors())[:-4000], "a broken HDF5 file (Unable to"),
    "truncated early": (lambda: hdf5(tensors())[:900], "a broken HDF5 file"),
    "external link": (relinked(h5py.ExternalLink("other.h5", "x")), f"{KERNEL} is an external link"),
    "soft link": (relinked(h5py.SoftLink("/bn_Conv1")), f"{KERNEL} is a soft link"),
    "hard link loop": (lambda: hdf5(tensors(), loop), "Conv1/again is a second link"),
    "deep groups": (lambda: hdf5(tensors(), deep), "too deep"),
    "named type": (lambda: hdf5(tensors(), named_type), "neither a group nor a data set"),
    "unprintable name": (lambda: hdf5({**tensors(), "a\nb": np.zeros(1)}), "not plain text"),
    "virtual": (virtual, f"{KERNEL} is virtual"),
    "external storage": (
        redeclared(shape=(3, 3, 3, 16), external=[("other.raw", 0, 1728)]),
        f"{KERNEL} has external storage",
    ),
    "compressed": (
        redeclared(data=np.zeros((3, 3, 3, 16)), compression="gzip", chunks=True),
        f"{KERNEL} is compressed",
    ),
    "shape over the limit": (redeclared(shape=(2**29,), chunks=(1024,)), "over the limit"),
    "chunk over the limit": (
        redeclared(shape=(8,), maxshape=(None,), chunks=(2**28 + 1,)),
        "over the limit",
    ),
    "all over the limit": (
        lambda: hdf5(tensors(), lambda f: [f.create_dataset(f"x{i}", (2**27,), "f8") for i in range(2)]),
        "its data sets declare",
    ),
    "declared, not held": (redeclared(shape=(3, 3, 3, 16), chunks=(3, 3, 3, 8)), "but holds 0"),
    "null": (lambda: hdf5(tensors(), lambda f: f.create_dataset("n", data=h5py.Empty("f4"))), "no values"),
    "NaN": (lambda: changed(kernel=holding(np.nan)), "Conv1/kernel holds NaN or infinite"),
    "infinite": (lambda: changed(kernel=holding(np.inf)), "Conv1/kernel holds NaN or infinite"),
    "integers": (lambda: changed(kernel=lambda a: a.astype("i4")), f"{KERNEL} is int32"),
    "variances below 0": (lambda: changed(variance=lambda a: -a), "moving_variance holds variances below 0"),
    "missing tensor": (lambda: changed(kernel=None), "missing Conv1/kernel [3, 3, 3, 16]"),
    "unexpected tensor": (lambda: changed(extra=np.zeros(16)), "unexpected Conv1/bias [16]"),
    "unexpected block": (
        lambda: hdf5({**tensors(), "block_17_expand/block_17_expand/kernel:0": np.zeros((1, 1, 8, 8))}),
        "unexpected block_17_expand/kernel",
    ),
    "unexpected in the backbone": (
        lambda: hdf5({**tensors(prefix="model_weights/net/"), "model_weights/net/se/kernel:0": np.zeros(3)}),
        "unexpected model_weights/net/se/kernel:0",
    ),
    "misshapen tensor": (
        lambda: changed(kernel=lambda a: a[..., :8]),
        "Conv1/kernel is [3, 3, 3, 8], needs [3, 3, 3, 16]",
    ),
    "two at once": (
        lambda: changed(kernel=None, extra=np.zeros(16)),
        "missing Conv1/kernel [3, 3, 3, 16]; unexpected Conv1/bias [16]",
    ),
    "two backbones": (both("a/", "b/"), "holds 2 backbones (a/, b/)"),
    "one parameter twice": (
        lambda: hdf5({**tensors(), "Conv1/kernel:0": np.zeros((3, 3, 3, 16))}),
        "several tensors for one parameter",
    ),
    "ResNet": (lambda: hdf5(RESNET), "holds no MobileNetV2; its tensors are conv1_conv"),
    "no tensors": (lambda: hdf5({}), "its tensors are none at all"),
    "zip of something else": (lambda: archive(readme=b"x"), "no member model.weights.h5"),
    "zip bomb": (
        lambda: archive(model_dot_weights_dot_h5=bytes(2**26 + 1), **GOOD_MEMBERS),
        "expands over 100-fold",
    ),
    "zip size over the limit": (lambda: archive_declaring(2**31), "over the limit"),
    "zip size untrue": (lambda: archive_declaring(2**20), "a broken HDF5 file"),
    "zip truncated": (
        lambda: archive(model_dot_weights_dot_h5=hdf5(tensors()), **GOOD_MEMBERS)[:-30],
        "a broken zip archive",
    ),
    "zip of LZMA": (lambda: packed(zipfile.ZIP_LZMA), "is packed in a way that weights are not"),
    "zip of a later version": (
        lambda: marked(packed(zipfile.ZIP_STORED), 6, 99),
        "a broken zip archive (zip file version",
    ),
    "zip with names of no script": (
        lambda: marked(packed(zipfile.ZIP_STORED), 8, 0x800).replace(b"config.json", b"conf\xff\xfe.json"),
        "a broken zip archive ('utf-8' codec",
    ),
    "cut safetensors": (
        lambda: safetensors({"a": np.zeros(9, np.float32)})[:40],
        "a safetensors file that ends within its header",
    ),
    "zip with bad metadata": (
        lambda: archive(
            model_dot_weights_dot_h5=hdf5(tensors()), metadata_dot_json="{", config_dot_json="{}"
        ),
        "metadata.json is not JSON",
    ),
}


def run(*arguments):
    return CliRunner().invoke(main, ["keras", *map(str, arguments)])


def assert_refused(result, complaint):
    lines = result.output.strip().splitlines()
    assert result.exit_code == 2, result.output
    assert len(lines) == 1, result.output
    assert lines[0].startswith("Error: ")
    assert complaint in lines[0]


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case, tmp_path):
    make, complaint = REFUSED[case]
    path, out = tmp_path / "in.h5", tmp_path / "out.safetensors"
    data = make()
    if data is not None:
        path.write_bytes(data)
    out.write_bytes(b"earlier")
    result = run(path, out)
    assert_refused(result, complaint)
    assert str(path) in result.output
    assert out.read_bytes() == b"earlier"
    assert {p.name for p in tmp_path.iterdir()} <= {"in.h5", out.name}


def test_options_and_places_are_checked(tmp_path):
    path = tmp_path / "in.h5"
    path.write_bytes(hdf5(tensors()))
    out = tmp_path / "out.safetensors"
    assert_refused(run(tmp_path, out), "a folder; give the .h5")
    assert_refused(run(path, tmp_path / "out.h5"), "ends in .safetensors")
    assert_refused(run(path, path / "out.safetensors"), "Not a directory; give another path")
    (tmp_path / "folder.safetensors").mkdir()
    assert_refused(run(path, tmp_path / "folder.safetensors"), "Is a directory; give another path")
    for width in ("wide", "nan"):
        result = run(path, out, "--width", width)
        assert result.exit_code == 2
        assert result.output.strip().endswith(f"'--width': '{width}' is not a number above 0 and up to 8")
    assert_refused(run(path, out, "--width", "1.0"), "width 1): Conv1/kernel is [3, 3, 3, 16], needs")
    assert_refused(run(path, out, "--head"), "--head needs one Dense")
    same = tmp_path / "same.safetensors"
    same.write_bytes(path.read_bytes())
    assert_refused(run(same, same), "input and output are the same file")
    assert not out.exists()


@pytest.mark.parametrize("width", [*PUBLISHED_WIDTHS, 0.6])
def test_width_is_told_from_the_shapes(width, tmp_path):
    path, out = tmp_path / "in.h5", tmp_path / "out.safetensors"
    path.write_bytes(hdf5(tensors(MobileNetV2Config(width, classes=2))))
    assert convert(path, out).config.parameters == MobileNetV2Config(width, classes=2).parameters
    assert convert(path, out, width=str(width)).config.width == width
    if width in PUBLISHED_WIDTHS:
        assert convert(path, out).config.width == width


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
def test_other_float_types_become_float32(dtype, tmp_path):
    path, out = tmp_path / "in.h5", tmp_path / "out.safetensors"
    arrays = tensors(dtype=dtype)
    path.write_bytes(hdf5(arrays))
    convert(path, out)
    _, loaded, _ = load_arrays(out)
    np.testing.assert_array_equal(loaded["Conv1/kernel"], arrays[KERNEL].astype(np.float32))


def test_only_the_members_needed_are_unpacked(tmp_path):
    path, out = tmp_path / "in.keras", tmp_path / "out.safetensors"
    evil = {"_dot__dot___evil_dot_txt": b"x", "assets__bomb": bytes(2**27)}
    path.write_bytes(archive(model_dot_weights_dot_h5=hdf5(tensors()), **GOOD_MEMBERS, **evil))
    assert run(path, out).exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.keras", "out.safetensors"]
    assert not (tmp_path.parent / "evil.txt").exists()


def test_without_h5py_the_line_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "in.h5").write_bytes(hdf5(tensors()))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(JaxtlError, match=r'run pip install "\.\[convert\]" in the checkout of jaxtl'):
        convert(tmp_path / "in.h5", tmp_path / "out.safetensors")


def test_a_version_that_is_none_is_not_copied(tmp_path):
    def boast(file):
        file.attrs["keras_version"] = "1" * 10_000

    (tmp_path / "in.h5").write_bytes(hdf5(tensors(), boast))
    convert(tmp_path / "in.h5", tmp_path / "out.safetensors")
    assert load_arrays(tmp_path / "out.safetensors")[2]["framework"] == "Keras unknown"


LAST = '{"class_name": "Conv2D", "config": {"name": "Conv1"}}'
# What stands for a model's layers before the backbone, in no form of Keras's or with no numbers to go by.
LAYERS = (
    '{"class_name": 5, "config": []}',
    '{"class_name": 5, "config": {}}',
    '{"class_name": "Rescaling", "config": "x"}',
    '{"class_name": "Rescaling", "config": {"scale": 1e308}}',
    '{"class_name": "Rescaling", "config": {"scale": 1%s}}' % ("0" * 400),
    '{"class_name": "Divide", "config": {}, "inbound_nodes": [{"args": [0.0]}]}',
)
DESCRIPTIONS = ("[]", '{"config": 5}', *(f'{{"config": {{"layers": [{one}, {LAST}]}}}}' for one in LAYERS))


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_a_description_of_another_form_says_nothing_of_pixels(description):
    wanted, _ = find_preprocessing(description, "Conv1", {})
    assert wanted is None


def test_variances_below_0_are_no_weights(tmp_path):
    config = MobileNetV2Config(WIDTH)
    arrays = {name: np.ones(shape, np.float32) for name, shape in config.parameters.items()}
    save_weights(tmp_path / "zero.safetensors", config, {**arrays, VARIANCE[9:-2]: np.zeros(16)}, {})
    with pytest.raises(JaxtlError, match=r"bn_Conv1/moving_variance holds variances below 0$"):
        save_weights(tmp_path / "x.safetensors", config, {**arrays, VARIANCE[9:-2]: np.full(16, -1e-9)}, {})


def test_names_of_a_stranger_are_one_line_each(tmp_path):
    path, evil = tmp_path / "in.safetensors", {f"aux.\n\x1b[31m{k}": np.zeros(1) for k in range(100)}
    config = MobileNetV2Config(WIDTH)
    arrays = {name: np.ones(shape, np.float32) for name, shape in config.parameters.items()}
    path.write_bytes(safetensors({**state_dict(config, arrays), **evil}))
    result = CliRunner().invoke(main, ["torch", str(path), str(tmp_path / "out.safetensors")])
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert "and 70 more" in result.output
    assert len(result.output.splitlines()) < 50


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model-00001-of-00002.safetensors", "part 1 of 2 of a checkpoint that is divided"),
        ("model.safetensors.index.json", "the list of files of a checkpoint that is divided"),
    ],
)
def test_parts_of_a_checkpoint_are_told(name, words, tmp_path):
    (tmp_path / name).write_bytes(b'{"weight_map": {}}')
    result = CliRunner().invoke(main, ["torch", str(tmp_path / name), str(tmp_path / "out.safetensors")])
    assert_refused(result, words)
    assert_refused(run(tmp_path, tmp_path / "out.safetensors"), "divided" if "index" in name else "a folder")


def test_weights_of_jaxtls_are_told(tmp_path):
    path, config = tmp_path / "in.safetensors", MobileNetV2Config(WIDTH)
    arrays = {name: np.ones(shape, np.float32) for name, shape in config.parameters.items()}
    save_weights(path, config, arrays, {})
    for kind in ("torch", "keras"):
        result = CliRunner().invoke(main, [kind, str(path), str(tmp_path / "out.safetensors")])
        assert_refused(result, "weights of jaxtl already")
