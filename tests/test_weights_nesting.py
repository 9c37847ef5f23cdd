"""A checkpoint that nests without end is refused in one line, whatever it nests."""

import pytest

from jaxtl.errors import JaxtlError
from tests.test_weights_torch import torch_zip
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
