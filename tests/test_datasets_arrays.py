"""Data sets that are arrays: of Python, of an .npz, of IDX files; and what a set is called."""

import struct
import unicodedata

import numpy as np
import pytest
from PIL import Image

from jaxtl.data import arrays, load, short_name
from jaxtl.errors import JaxtlError
from jaxtl.records import members
from jaxtl.records.dataset import Dataset
from jaxtl.records.rows import StoredRows


def both(name):
    return load(str(name), "train"), load(str(name), "test")


def test_arrays_have_splits_or_are_divided(tmp_path):
    images = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((20, 5, 5), np.uint8)
    labels = np.array([200, 201] * 10)[:, None]
    np.savez(
        tmp_path / "medical.npz",
        train_images=images[:14],
        train_labels=labels[:14],
        val_images=images[14:],
        val_labels=labels[14:],
    )
    test = load(str(tmp_path / "medical.npz"))
    assert test.images.shape == (6, 5, 5, 1)
    assert test.class_names == ("200", "201")
    names = np.array(["x", "y"])
    ids = np.array([f"patient {k}" for k in range(20)])
    np.savez(tmp_path / "whole.npz", images=images, labels=labels, class_names=names, ids=ids)
    train, test = both(f"arrays:{tmp_path / 'whole.npz'}")
    assert (len(train), len(test)) == (16, 4)
    assert test.class_names == ("x", "y")
    assert test.ids.tolist() == [f"patient {value}" for value in test.images[:, 0, 0, 0]]
    np.savez(tmp_path / "other.npz", values=images)
    with pytest.raises(JaxtlError, match=r"has no arrays images and labels.*it has values"):
        load(str(tmp_path / "other.npz"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_larger_than_memory_should_hold_lie_on_disk(save, tmp_path, monkeypatch):
    """Read piece by piece: of these, two images at a time."""
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3)).astype(np.int32)
    labels = np.array(["b", "a", "b"] * 3)
    save(tmp_path / "set.npz", images=images, labels=labels, splits=np.array(["test", "train", "train"] * 3))
    save(tmp_path / "whole.npz", images=images, labels=labels)
    names = [str(tmp_path / "set.npz"), str(tmp_path / "whole.npz")]
    small = [load(name, split, samples=4) for name in names for split in ("train", "test")]
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    monkeypatch.setattr(members, "PIECE", 2 * images[0].nbytes)
    large = [load(name, split, samples=4) for name in names for split in ("train", "test")]
    for ours, theirs in zip(large, small, strict=True):
        assert isinstance(ours.images, StoredRows)
        np.testing.assert_array_equal(np.asarray(ours.images), theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(small[0].images, images[[1, 2, 4, 5]])


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"images": np.zeros((3, 4, 4), np.uint8), "labels": [0, 1]}, r"has 3 images, and labels is \[2\]"),
        (
            {"images": np.zeros((2, 4, 4), np.uint8), "labels": [0, 1], "ids": ["a"]},
            r"has 2 images, and ids is \[1\]",
        ),
        ({"images": np.zeros((2, 4, 4)), "labels": [0, 1]}, r"rint\(images \* 255\)"),
        ({"images": np.zeros((2, 3, 8, 8), np.uint8), "labels": [0, 1]}, r"\[2, 3, 8, 8\], channels first"),
        ({"images": np.full((2, 4, 4), 300), "labels": [0, 1]}, "must be 0 to 255, got 300 to 300"),
        ({"images": np.zeros((2, 0, 4), np.uint8), "labels": [0, 1]}, r"\[2, 0, 4\], which have no pixels"),
        ({"images": np.zeros((2, 4, 0, 3), np.uint8), "labels": [0, 1]}, "which have no pixels"),
        ({"images": np.array([{}, {}]), "labels": [0, 1]}, "images must be"),
    ],
)
def test_wrong_arrays_of_a_file_are_one_line(held, message, tmp_path):
    np.savez(tmp_path / "set.npz", **held)
    with pytest.raises(JaxtlError, match=message) as caught:
        load(str(tmp_path / "set.npz"), "train")
    assert str(caught.value).startswith(str(tmp_path / "set.npz"))


def test_a_cut_file_of_arrays_is_one_line(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, images=np.zeros((9, 40, 40), np.uint8), labels=np.arange(9))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(JaxtlError, match=r"set\.npz: not a readable \.npz file"):
        load(str(path))


def test_datasets_are_made_of_arrays():
    images = np.zeros((3, 4, 4), np.int64)
    numbers = Dataset.from_arrays(images, [202, 200, 201])
    assert numbers.class_names == ("200", "201", "202")
    assert numbers.labels.tolist() == [2, 0, 1]
    assert numbers.images.dtype == np.uint8
    named = Dataset.from_arrays(images, ["ärger", unicodedata.normalize("NFD", "ärger"), "a"], ids=[7, 8, 9])
    assert named.class_names == ("a", "ärger")
    assert named.ids.tolist() == ["7", "8", "9"]
    assert Dataset.from_arrays(images, [0, 0, 2], ["x", "y", "z"]).labels.tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        (np.zeros((2, 4, 4)), [0, 1], None, r"rint\(images\)"),
        (np.full((2, 4, 4), 300), [0, 1], None, "must be 0 to 255, got 300 to 300"),
        (np.zeros((2, 3, 8, 8), np.uint8), [0, 1], None, "channels first"),
        (np.zeros((2, 0, 8, 1), np.uint8), [0, 1], None, "which have no pixels"),
        ([Image.new("L", (0, 4))] * 2, [0, 1], None, "which have no pixels"),
        (np.zeros((2, 4, 4), np.uint8), [0.5, 1], None, "labels must be whole numbers or names"),
        (np.zeros((2, 4, 4), np.uint8), [5, 6], ["a"], "1 class_names for labels from 5 to 6"),
        (np.zeros((2, 4, 4), np.uint8), ["a", "b"], ["a"], "class_names lack b"),
        (np.zeros((2, 4, 4), np.uint8), [0], None, "labels must be int32"),
        (np.zeros((2, 4, 4), np.uint8), ["a", None], None, "1 labels are missing"),
        (np.zeros((2, 4, 4), np.uint8), np.array(["a", np.nan], object), None, "1 labels are missing"),
        (np.zeros((2, 4, 4), np.uint8), [[0, 1], [1, 0]], None, r"one-hot rows give labels\.argmax\(1\)"),
        ([np.zeros((4, 4)), np.zeros((5, 4))], [0, 1], None, "images cannot be read as an array"),
        ([Image.new("L", (4, 4)), Image.new("L", (4, 5))], [0, 1], None, "differ in size .4x4 and 5x4,"),
        ([Image.new("I;16", (4, 4))] * 2, [0, 1], None, "Pillow's mode I;16; give such with 8 bits"),
    ],
)
def test_wrong_arrays_are_one_line(images, labels, names, message):
    with pytest.raises(JaxtlError, match=message) as caught:
        Dataset.from_arrays(images, labels, names)
    assert "\n" not in str(caught.value)


def test_pictures_of_pillow_are_taken_by_their_colours():
    palette = Image.new("P", (5, 4), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    colours = Dataset.from_arrays([palette, Image.new("L", (5, 4), 7)], ["a", "b"])
    assert colours.images.shape == (2, 4, 5, 3)
    assert colours.images[:, 0, 0].tolist() == [[10, 200, 30], [7, 7, 7]]
    assert Dataset.from_arrays([Image.new("L", (5, 4), 7)] * 2, [0, 1]).images.shape == (2, 4, 5, 1)


# IDX, and names.


def write_idx(folder, labels, names=None):
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 0x803, len(labels), 2, 2) + bytes(4 * len(labels))
        )
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, len(labels)) + bytes(labels)
        )
    if names is not None:
        (folder / "classes.txt").write_text(names, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([200, 201, 202], None, ("200", "201", "202")),
        ([0, 1, 1], "T-shirt\nHose\n", ("T-shirt", "Hose")),
        ([0, 2, 2], "a\nb\nc\n", ("a", "c")),
        ([200, 201, 202], "x\ny\nz\n", ("x", "y", "z")),
    ],
)
def test_idx_classes_are_those_that_occur(tmp_path, labels, names, expected):
    data = load(str(write_idx(tmp_path, labels, names)))
    assert data.class_names == expected
    assert [data.class_names[label] for label in data.labels] == [
        expected[sorted(set(labels)).index(k)] for k in labels
    ]


def test_idx_names_must_fit(tmp_path):
    with pytest.raises(JaxtlError, match=r"classes\.txt: names 2 classes, the labels are 3 from 0 to 3"):
        load(str(write_idx(tmp_path, [0, 1, 3], "a\nb\n")))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("mnist", "mnist"),
        ("folder:/a/b c/", "b c"),
        ("csv:x/y.csv", "y"),
        ("../photos", "photos"),
        ("tfds:emnist/letters", "emnist/letters"),
    ],
)
def test_a_set_has_a_short_name(name, short):
    assert short_name(name) == short
