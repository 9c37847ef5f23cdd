"""The IDX reader: what it reads, and the one line it says of every kind of damage."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from jaxtl.data import idx, load
from jaxtl.errors import JaxtlError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 5, 7), dtype=np.uint8)


def encode(array, code=0x08):
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_set(folder, suffix="", compress=lambda data: data, train_labels=(0, 1, 2, 0, 1, 3)):
    parts = {
        "train-images-idx3-ubyte": IMAGES,
        "train-labels-idx1-ubyte": np.array(train_labels, np.uint8),
        "t10k-images-idx3-ubyte": IMAGES[:2],
        "t10k-labels-idx1-ubyte": np.array([1, 2], np.uint8),
    }
    for name, array in parts.items():
        (folder / (name + suffix)).write_bytes(compress(encode(array)))


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", bytes), (".gz", gzip.compress), ("", gzip.compress), (".gz", bytes)],
    ids=["plain", "gzip", "gzip without suffix", "plain with suffix"],
)
def test_a_folder_of_four_files_is_read(tmp_path, suffix, compress):
    write_set(tmp_path, suffix, compress)
    train, test = load(f"idx:{tmp_path}", "train"), load(f"idx:{tmp_path}", "test")
    np.testing.assert_array_equal(train.images, IMAGES[..., None])
    np.testing.assert_array_equal(test.images, IMAGES[:2, ..., None])
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 3]
    assert test.labels.tolist() == [1, 2]
    assert train.class_names == test.class_names == ("0", "1", "2", "3")


def test_the_array_can_be_written_to(tmp_path):
    write_set(tmp_path)
    images = load(f"idx:{tmp_path}").images
    images[0] = 0
    assert images[0].max() == 0


GOOD = encode(IMAGES)
ZIPPED = gzip.compress(GOOD)
DAMAGED = {
    "cut off": (GOOD[:-1], "ends after 209 of 210 declared bytes"),
    "trailing byte": (GOOD + b"\0", "goes on after the 210 bytes"),
    "empty": (b"", "ends inside its header"),
    "cut in the magic number": (GOOD[:3], "ends inside its header"),
    "cut in the header": (GOOD[:11], "ends inside its header"),
    "labels": (encode(np.zeros(6, np.uint8)), r"holds labels \(1-d\) where images \(3-d\) are expected"),
    "four dimensions": (encode(np.zeros((1, 2, 2, 3), np.uint8)), r"holds an array \(4-d\)"),
    "floats": (encode(np.zeros((1, 2, 2), ">f4"), 0x0D), "data type 0x0d; only uint8"),
    "HTML": (b"<!DOCTYPE html><html>404</html>", "an HTML or XML page"),
    "HTML after a newline": (b"\n<html>404</html>", "an HTML or XML page"),
    "zipped HTML": (gzip.compress(b"<html>404</html>"), "an HTML or XML page"),
    "PNG": (b"\x89PNG\r\n\x1a\n", "not an IDX file .it starts with 89 50 4e 47"),
    "no images": (encode(np.zeros((0, 28, 28), np.uint8)), "holds nothing"),
    "absurd size": (b"\0\0\x08\x03" + b"\xff" * 12, "the limit is 8,589,934,592"),
    "gzip cut off": (ZIPPED[:-20], "the gzip stream is cut off"),
    "gzip cut in its header": (ZIPPED[:5], "the gzip stream is cut off"),
    "gzip checksum": (
        ZIPPED[:-8] + b"\0\0\0\0" + ZIPPED[-4:],
        "the gzip stream is damaged .CRC check failed",
    ),
    "gzip body": (ZIPPED[:10] + b"\xff" * (len(ZIPPED) - 18) + ZIPPED[-8:], "the gzip stream is damaged"),
    "gzip trailing data": (gzip.compress(GOOD + b"\0"), "goes on after the 210 bytes"),
    "gzip too short": (gzip.compress(GOOD[:-1]), "ends after 209 of 210"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_one_line_that_names_the_file(tmp_path, kind):
    data, message = DAMAGED[kind]
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(JaxtlError, match=message) as caught:
        idx.read_idx(path, 3)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_images_where_labels_are_expected(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(GOOD)
    with pytest.raises(JaxtlError, match=r"holds images \(3-d\) where labels \(1-d\)"):
        idx.read_idx(path, 1)


def test_images_and_labels_must_be_as_many(tmp_path):
    write_set(tmp_path, train_labels=(0, 1, 2))
    with pytest.raises(JaxtlError, match="holds 6 images but the train labels are 3"):
        load(f"idx:{tmp_path}", "train")


@pytest.mark.parametrize("kind", ["labels", "images"])
def test_a_missing_file_is_named(tmp_path, kind):
    write_set(tmp_path)
    next(tmp_path.glob(f"train-{kind}*")).unlink()
    with pytest.raises(JaxtlError, match=rf"has neither train-{kind}-idx\d-ubyte nor"):
        load(f"idx:{tmp_path}", "train")


@pytest.mark.parametrize(
    "declared",
    [(6, 5, 7), (8, 2**15, 2**15)],
    ids=["bytes beyond the declared ones", "declared bytes that are not there"],
)
def test_a_small_file_does_not_fill_the_memory(tmp_path, declared):
    # 256 MiB of zeros in 256 KiB of gzip, behind a header that declares 210 bytes, or 8 GiB.
    zeros = bytes(2**20)
    path = tmp_path / "bomb"
    with gzip.open(path, "wb") as stream:
        stream.write(b"\0\0\x08\x03" + struct.pack(">3I", *declared))
        for _ in range(256 if declared == (6, 5, 7) else 8):
            stream.write(zeros)
    assert path.stat().st_size < 2**19
    tracemalloc.start()
    try:
        with pytest.raises(JaxtlError, match=r"goes on after|ends after"):
            idx.read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
