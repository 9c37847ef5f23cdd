"""Digits without end: the same however they are asked for, labelled as their originals, never all made."""

import numpy as np
import pytest

from jaxtl.data import infinite, load
from jaxtl.errors import JaxtlError
from jaxtl.models.weights import load_model
from jaxtl.network.extraction import extract
from jaxtl.settings import Images


@pytest.fixture(scope="module")
def digits():
    return load("infinite:1000", "train")


@pytest.fixture(scope="module")
def images(digits):
    return np.asarray(digits.images)


def test_every_slice_is_the_same_images(digits, images):
    assert images.shape == (1000, 28, 28, 1)
    for start, stop, step in ((0, 3, 1), (126, 131, 1), (-5, None, 1), (900, 100, -97), (7, 7, 1)):
        np.testing.assert_array_equal(digits.images[start:stop:step], images[start:stop:step])
    for places in ([999, 0, 130, 0], [[1, 2], [-1, 500]], 17):
        np.testing.assert_array_equal(digits.images[places], images[places])


def test_the_first_ones_do_not_depend_on_how_many_there_are(digits, images):
    few = infinite.infinite(130)
    np.testing.assert_array_equal(few.images[:], images[:130])
    np.testing.assert_array_equal(few.labels, digits.labels[:130])


def test_these_bytes_are_these_digits(images):
    """A change of them changes every study: this is what seed 0 gives on any machine."""
    assert images[:3].astype(int).sum(axis=(1, 2, 3)).tolist() == [24333, 54350, 28106]
    other = infinite.infinite(3, seed=1).images[:]
    assert (other != images[:3]).any(axis=(1, 2, 3)).all()


def test_labels_are_those_of_the_digits_that_were_deformed(digits, images):
    """Each is nearer its own class's mean digit than any other's, mostly: as the originals are."""
    train = load("mnist", "train")
    means = np.stack([train.images[train.labels == c][:500].mean(axis=0).ravel() for c in range(10)])
    nearest = (((images.reshape(1000, 1, -1) - means) ** 2).sum(axis=2)).argmin(axis=1)
    # 0.80 of the training digits themselves are, and 0.1 would be by chance.
    assert (nearest == digits.labels).mean() > 0.45
    assert set(digits.labels) == set(range(10))


def test_each_original_comes_once_before_any_comes_again():
    order = infinite.shuffled_order(3)
    assert sorted(order) == list(range(60_000))
    labels = infinite.infinite(120_000, seed=3).labels
    np.testing.assert_array_equal(labels[:60_000], labels[60_000:])
    again = infinite.infinite(60_001, seed=3).images[[0, 60_000]].astype(float)
    assert np.abs(again[0] - again[1]).max() > 50


def test_deformations_are_as_large_as_they_are_said_to_be():
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, size=(400, infinite.RANDOM_NUMBERS))
    noise[:, infinite._NOISE :] = 0
    rows, columns = infinite.source_coordinates(noise)
    rest_rows, rest_columns = infinite.source_coordinates(np.zeros((1, infinite.RANDOM_NUMBERS)))
    moved = np.sqrt((((rows - rest_rows) ** 2 + (columns - rest_columns) ** 2) / 2).mean())
    # 400 images with some 784 / (4 pi 4^2) = 4 independent places each: 3 % of standard error, at most.
    assert moved == pytest.approx(infinite.DISPLACEMENT, rel=0.09)


def test_without_deformation_it_is_the_digit_itself():
    framed = infinite.framed_originals()[0][:5]
    rest = infinite.source_coordinates(np.zeros((5, infinite.RANDOM_NUMBERS)))
    np.testing.assert_array_equal(infinite.interpolated(framed, *rest), load("mnist", "train").images[:5])


@pytest.mark.slow
def test_selections_stay_unmade_and_extraction_takes_them():
    many = load("infinite:100000000", "train")
    few = many.take(70)
    assert (len(many), len(few), few.images.shape) == (100_000_000, 70, (70, 28, 28, 1))
    assert isinstance(few.images, infinite.Digits)
    features = extract(load_model(), few, Images(32))
    whole = load("infinite:70", "train")
    assert features.meta["dataset"] == "infinite:100000000"
    np.testing.assert_array_equal(features.values, extract(load_model(), whole, Images(32)).values)
    np.testing.assert_array_equal(features.labels, whole.labels)


def test_test_images_are_the_digits_themselves():
    test = load("infinite:5", "test")
    np.testing.assert_array_equal(test.images, load("mnist", "test").images)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("infinite:many", "infinite:many: not a number of digits; give it as in infinite:200000"),
        ("infinite:0", "the number of digits must be 1 to 100000000, got 0"),
        ("infinite:999999999", "the number of digits must be 1 to 100000000, got 999999999"),
        ("infinite", "unknown dataset 'infinite'"),
    ],
)
def test_refuses_in_one_line(name, said):
    with pytest.raises(JaxtlError, match=said) as caught:
        load(name, "train")
    assert "\n" not in str(caught.value)


def test_indices_outside_are_refused(digits):
    with pytest.raises(IndexError):
        digits.images[[1000]]
    with pytest.raises(TypeError):
        digits.images[0.5]
