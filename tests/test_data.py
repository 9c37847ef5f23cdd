"""load(): names, splits, the bundled MNIST and where it comes from."""

import hashlib
import re
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest

from jaxtl.data import load
from jaxtl.errors import JaxtlError

ASSETS = resources.files("jaxtl") / "assets"
MNIST_FILES = {
    f"{part}-ubyte.gz"
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
}


@pytest.mark.parametrize(
    ("split", "n", "first_labels", "counts"),
    [
        ("train", 60000, [5, 0, 4, 1, 9], [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("test", 10000, [7, 2, 1, 0, 4], [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_mnist_is_bundled(split, n, first_labels, counts):
    dataset = load("mnist", split)
    assert dataset.images.shape == (n, 28, 28, 1)
    assert dataset.images.dtype == np.uint8
    assert dataset.images.min() == 0
    assert dataset.images.max() == 255
    assert dataset.labels[:5].tolist() == first_labels
    assert np.bincount(dataset.labels).tolist() == counts
    assert dataset.class_names == tuple("0123456789")
    assert (dataset.name, dataset.split) == ("mnist", split)
    assert dataset.index[-1] == n - 1


def test_the_test_split_is_the_default():
    assert len(load("mnist")) == 10000


def test_provenance_names_every_mnist_file_with_its_hashes():
    text = (ASSETS / "PROVENANCE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+)` \| (\d+) \| `([0-9a-f]{64})` \| `([0-9a-f]{32})` \|$", text, re.MULTILINE)
    assert {row[0] for row in rows} >= MNIST_FILES
    for name, size, sha256, md5 in rows:
        data = (ASSETS / name).read_bytes()
        assert len(data) == int(size)
        assert hashlib.sha256(data).hexdigest() == sha256
        assert hashlib.md5(data).hexdigest() == md5


def test_provenance_matches_what_tfds_pins():
    import tensorflow_datasets as tfds

    pinned = tfds.core.utils.tfds_path("url_checksums/mnist.txt").read_text()
    for name in MNIST_FILES:
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() in pinned


@pytest.mark.parametrize(
    "name", ["", "cifar10", "MNIST", "mnist:", "mnist:x", "idx", "idx:", "tfds:", "folder"]
)
def test_an_unknown_name_lists_the_sources(name):
    with pytest.raises(JaxtlError, match=r"known are mnist, idx:FOLDER, .*, hf:FOLDER, and paths"):
        load(name)


@pytest.mark.parametrize("split", ["validation", "all", "", "train[:10%]"])
def test_an_unknown_split_is_refused(split):
    with pytest.raises(JaxtlError, match="split must be 'train' or 'test'"):
        load("mnist", split)


@pytest.mark.parametrize("image_size", [0, -48])
def test_a_senseless_image_size_is_refused(image_size):
    with pytest.raises(JaxtlError, match="image_size: must be a whole number from 1 to"):
        load("mnist", image_size=image_size)


def test_importing_is_light():
    heavy = "('jax', 'PIL', 'tensorflow_datasets', 'tensorflow')"
    code = f"import sys, jaxtl.data; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
