"""TensorFlow Datasets without a network: TFDS's own MNIST from the bundled files, and tiny sets."""

import json
import logging
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from jaxtl.data import load, tfds
from jaxtl.data.files import ImageFiles
from jaxtl.data.resize import resize_image
from jaxtl.errors import JaxtlError

ASSETS = Path(str(resources.files("jaxtl") / "assets"))
RNG = np.random.default_rng(0)


def put_originals(data_dir):
    manual = data_dir / "downloads" / "manual"
    manual.mkdir(parents=True)
    for path in ASSETS.glob("*-ubyte.gz"):
        shutil.copy(path, manual)
    return manual


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A TFDS folder in which jaxtl itself prepared MNIST from the original files."""
    data_dir = tmp_path_factory.mktemp("tfds")
    put_originals(data_dir)
    load("tfds:mnist", data_dir=data_dir)
    return data_dir


def as_sorted_rows(dataset):
    return sorted(
        image.tobytes() + bytes([label]) for image, label in zip(dataset.images, dataset.labels, strict=True)
    )


# TFDS takes most of a minute to prepare 70,000 images, and as long to decode them.
@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_tfds_mnist_holds_what_the_bundled_mnist_holds(prepared, split):
    ours, theirs = load("mnist", split), load("tfds:mnist", split, data_dir=prepared)
    assert theirs.images.shape == ours.images.shape
    assert theirs.class_names == ours.class_names
    assert as_sorted_rows(theirs) == as_sorted_rows(ours)


@pytest.mark.slow
def test_reading_is_silent_and_repeatable(prepared, capfd):
    first = load("tfds:mnist", data_dir=prepared)
    second = load("tfds:mnist:3.0.1", data_dir=prepared)
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_the_variable_of_tfds_points_at_its_folder(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert len(load("tfds:mnist")) == 10000


# A finder that cannot find TensorFlow, as where it was never installed.
WITHOUT_TENSORFLOW = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.split(".")[0] in ("tensorflow", "importlib_resources")
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path[:] = [Finder if finder is PathFinder else finder for finder in sys.meta_path]

import json
from jaxtl.data import load
from jaxtl.errors import JaxtlError

prepared, empty = sys.argv[1:]
images = load("tfds:mnist", data_dir=prepared).images
try:
    load("tfds:mnist", data_dir=empty)
except JaxtlError as error:
    message = str(error)
print(json.dumps({"shape": images.shape, "message": message, "tensorflow": "tensorflow" in sys.modules}))
"""


@pytest.mark.slow
def test_tensorflow_is_needed_to_prepare_but_not_to_read(prepared, tmp_path):
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(prepared), str(tmp_path)]
    out = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert out["shape"] == [10000, 28, 28, 1]
    assert out["tensorflow"] is False
    assert out["message"] == (
        f"tfds:mnist: is not prepared in {tmp_path}, and preparing needs tensorflow and "
        'importlib_resources: run pip install ".[tfds]" in the checkout of jaxtl'
    )


def test_preparing_announces_itself_and_says_in_one_line_why_it_failed(tmp_path, caplog, capfd):
    manual = put_originals(tmp_path)
    (manual / "train-labels-idx1-ubyte.gz").write_bytes(b"not the original")
    with caplog.at_level(logging.INFO), pytest.raises(JaxtlError, match="NonMatchingChecksumError") as caught:
        load("tfds:mnist", data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"files that you fetch yourself are taken from {manual}")
    assert caplog.messages == [f"tfds:mnist: downloading and preparing into {tmp_path}/mnist/3.0.1, once"]
    assert capfd.readouterr() == ("", "")


def write_tfds(data_dir, features, splits, file_format="array_record"):
    """Prepare a tiny set under a name that TFDS's catalogue does not have, as `tfds:tiny`."""
    import tensorflow_datasets as tfds

    kinds = {
        "image": lambda *shape, **options: tfds.features.Image(shape=shape, **options),
        "label": lambda *names: tfds.features.ClassLabel(names=names),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny",
        version="1.0.0",
        features=tfds.features.FeaturesDict({key: make(kinds) for key, make in features.items()}),
        split_datasets={name: list(enumerate(examples)) for name, examples in splits.items()},
        data_dir=data_dir,
        file_format=file_format,
        disable_shuffling=True,
    )


def picture(height, width, channels=3):
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


COLOUR = {
    "image": lambda kinds: kinds["image"](None, None, 3),
    "label": lambda kinds: kinds["label"]("ant", "bee"),
}


def test_images_of_many_sizes_are_resized_and_validation_stands_in_for_test(tmp_path, monkeypatch):
    pictures = [picture(9, 5), picture(6, 7)]
    train = [{"image": image, "label": label} for image, label in zip(pictures, ("bee", "ant"), strict=True)]
    write_tfds(tmp_path, COLOUR, {"train": train, "validation": train[:1]})
    with pytest.raises(JaxtlError, match="differ in size; give image_size"):
        load("tfds:tiny", data_dir=tmp_path)
    plain = {"image_size": 8, "antialias": "off", "data_dir": tmp_path}
    dataset = load("tfds:tiny", "train", **plain)
    np.testing.assert_array_equal(dataset.images, [resize_image(image, 8) for image in pictures])
    assert dataset.labels.tolist() == [1, 0]
    assert dataset.class_names == ("ant", "bee")
    tested = load("tfds:tiny", "test", **plain)
    np.testing.assert_array_equal(tested.images, dataset.images[:1])
    # Those that memory should not hold are decoded when they are asked for.
    monkeypatch.setattr(tfds, "IN_MEMORY", 0)
    large = load("tfds:tiny", "train", **plain)
    assert isinstance(large.images, ImageFiles)
    np.testing.assert_array_equal(large.images[[1, 0]], dataset.images[::-1])


def test_a_missing_test_split_and_missing_labels_are_named(tmp_path):
    example = {"image": picture(4, 4), "label": "ant"}
    write_tfds(tmp_path, COLOUR, {"train": [example, {**example, "label": -1}], "extra": [example]})
    with pytest.raises(JaxtlError, match=r"cannot read the split test.*; it has train, extra"):
        load("tfds:tiny", "test", image_size=4, data_dir=tmp_path, test_split="test")
    with pytest.raises(JaxtlError, match="1 of 2 train images have no label"):
        load("tfds:tiny", "train", image_size=4, data_dir=tmp_path)


def test_files_that_only_tensorflow_reads_are_named(tmp_path):
    write_tfds(tmp_path, COLOUR, {"train": [{"image": picture(4, 4), "label": "ant"}]}, "tfrecord")
    with pytest.raises(
        JaxtlError, match="holds tfrecord files, which only TensorFlow reads; give another data_dir"
    ):
        load("tfds:tiny", "train", image_size=4, data_dir=tmp_path)


def test_images_of_other_depths_are_refused(tmp_path):
    features = {**COLOUR, "image": lambda kinds: kinds["image"](4, 4, 1, dtype=np.uint16)}
    write_tfds(tmp_path, features, {"train": [{"image": np.zeros((4, 4, 1), np.uint16), "label": "ant"}]})
    with pytest.raises(JaxtlError, match="its images are uint16; only uint8 is read"):
        load("tfds:tiny", "train", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_set", "knows no such set"),
        ("huggingface:mnist", "whose code would be fetched and run here"),
        ("mnist/no_such_config", "BuilderConfig no_such_config not found"),
        ("mnist:9.9.9", r"cannot be loaded at version 9\.9\.9"),
        ("../../etc/passwd", "cannot be opened"),
        ("glue/cola", "not an image classification set .* it has sentence, label, idx"),
        ("cats_vs_dogs", "differ in size; give image_size"),
        ("binarized_mnist", "not an image classification set"),
    ],
)
def test_a_set_that_cannot_serve_is_one_line_before_any_download(tmp_path, name, message, capfd):
    with pytest.raises(JaxtlError, match=message) as caught:
        load(f"tfds:{name}", data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
