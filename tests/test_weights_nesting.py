"""A checkpoint that nests without end, or is a small file of a huge thing, is refused in one line."""

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from tests.test_weights_torch import number, text, torch_zip
from weights_convert import nesting
from weights_convert.torch import convert

DEEP = 300_000
# Tuples as a dictionary's key, which Python hashes by recursion in C.
NESTED = {
    "tuples": b")" + b"\x85" * DEEP,
    "key": b"})" + b"\x85" * DEEP + b"K\x01s",
    "lists": b"]" * DEEP + b"a" * (DEEP - 1),
    "dictionaries": b"}K\x01" * DEEP + b"}" + b"s" * DEEP,
    "itself": b"]q\x00h\x00a",
}


@pytest.mark.parametrize("kind", NESTED)
def test_deep_nesting_is_refused(kind, tmp_path):
    (tmp_path / "in.pth").write_bytes(torch_zip({}, b"\x80\x02" + NESTED[kind] + b"."))
    with pytest.raises(JaxtlError, match=r"in.pth: nested too deep for a checkpoint; save its state_dict"):
        convert(tmp_path / "in.pth", tmp_path / "out.safetensors")


def twice(begin, join, levels):
    """Values that each hold the one before twice: 2 to the power of `levels` parts of a few bytes."""
    parts = (b"h%c" % k for k in range(levels))
    return begin + b"q\0" + b"".join(join(part) + b"q%c" % (k + 1) for k, part in enumerate(parts))


STORAGE = text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(4)
TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n(("
    + STORAGE
    + b"tQK\0K\4\x85K\1\x85\x89ccollections\nOrderedDict\n)RtR"
)
# What a pickle does, and what is said of it; none may take memory or time for what it says.
EXCESSIVE = {
    "pairs of pairs": (twice(b")", lambda part: part + part + b"\x86", 60), "more than 20,000 parts"),
    "such a pair as a key": (
        b"}" + twice(b")", lambda part: b"0" + part + part + b"\x86", 60) + b"K\1s",
        "more than 20,000 parts",
    ),
    # They are remembered while they are empty, as pickles do it.
    "lists of lists": (
        b"]q\0" + b"".join(b"]q%c(h%ch%ce" % (k + 1, k, k) for k in range(60)),
        "a list without tensors",
    ),
    "opcodes": (b"}" * 20_002, "more than 20,000 parts"),
    "classes": (b"".join(b"ca\n%d\n0" % k for k in range(1100)) + b"}", "names more than 1,000 classes"),
    "dictionaries at many places": (
        b"".join(
            b"}q%c(" % k
            + b"".join(text(f"{n}") + (b"h%c" % (k - 1) if k else b"}") for n in range(300))
            + b"u"
            for k in range(3)
        ),
        "thousands of dictionaries",
    ),
    # BUILD gives an object attributes, and a class too.
    "a tensor with another shape": (
        b"}" + text("a") + TENSOR + b"}" + text("shape") + text("evil") + b"sbs",
        "holds no MobileNetV2 or ResNet",
    ),
    "torch's function changed": (
        b"}" + text("a") + b"ctorch._utils\n_rebuild_tensor_v2\nN}" + text("shape") + b"K\5s\x86bs",
        "without tensors",
    ),
}


@pytest.mark.parametrize("kind", EXCESSIVE)
def test_a_small_file_of_a_huge_thing_is_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(nesting, "MOST_PARTS", 20_000)
    pickle, words = EXCESSIVE[kind]
    (tmp_path / "in.pth").write_bytes(torch_zip({"a": np.ones(4, "f4")}, b"\x80\2" + pickle + b"."))
    with pytest.raises(JaxtlError, match=words):
        convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
