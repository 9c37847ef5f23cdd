"""TFDS sets whose splits are spelled by the user, or that have none to test with."""

import numpy as np
import pytest
from test_data_tfds import picture, write_tfds

from jaxtl.data import load
from jaxtl.errors import JaxtlError

# Preparing a set imports TensorFlow.
pytestmark = pytest.mark.slow


def text():
    import tensorflow_datasets as tfds

    return tfds.features.Text()


@pytest.fixture(scope="module")
def tiny(once):
    """A folder with a set of 20 training images, named, and no others."""
    features = {
        "image": lambda kinds: kinds["image"](4, 4, 3),
        "label": lambda kinds: kinds["label"]("ant", "bee"),
        "species": lambda kinds: kinds["label"]("a", "b", "c"),
        "file_name": lambda kinds: text(),
    }
    examples = [
        {
            "image": np.full_like(picture(4, 4), k),
            "label": k % 2,
            "species": k % 3,
            "file_name": f"é {k}.png",
        }
        for k in range(20)
    ]
    return once("tfds", lambda folder: write_tfds(folder, features, {"train": examples}))


def numbers(data):
    return [int(name.removeprefix("é ").removesuffix(".png")) for name in data.ids]


def test_a_set_with_a_train_split_alone_is_divided(tiny):
    train, test = (load("tfds:tiny", split, data_dir=tiny) for split in ("train", "test"))
    assert [np.bincount(side.labels).tolist() for side in (train, test)] == [[8, 8], [2, 2]]
    assert sorted(numbers(train) + numbers(test)) == list(range(20))
    for side in (train, test):
        assert side.images[:, 0, 0, 0].tolist() == numbers(side)
        assert side.labels.tolist() == [k % 2 for k in numbers(side)]


def test_splits_and_labels_are_named_as_tfds_spells_them(tiny):
    asked = {"train_split": "train[:60%]", "test_split": "train[60%:]", "label_column": "species"}
    train, test = (load("tfds:tiny", split, data_dir=tiny, **asked) for split in ("train", "test"))
    assert numbers(train) == list(range(12))
    assert numbers(test) == list(range(12, 20))
    assert test.class_names == ("a", "b", "c")
    assert test.labels.tolist() == [k % 3 for k in range(12, 20)]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"test_split": "train[60%:]"}, "name the training images too"),
        ({"train_split": "train[:x%]", "test_split": "train[60%:]"}, r"cannot read the split train\[:x%\]"),
        ({"label_column": "kind"}, "not an image classification set.*it has .*file_name"),
        ({"split_column": "kind"}, "takes no --split-column"),
    ],
)
def test_what_is_asked_for_and_not_there_is_one_line(tiny, asked, message):
    with pytest.raises(JaxtlError, match=message) as caught:
        load("tfds:tiny", "train", data_dir=tiny, **asked)
    assert "\n" not in str(caught.value)
