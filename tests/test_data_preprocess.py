"""preprocess() against TensorFlow's own resize, and the one-image resize of the loaders against both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl.data.preprocess import preprocess
from jaxtl.data.resize import interpolation_matrix, resize_image
from jaxtl.errors import JaxtlError

SIZES = [
    ((28, 28), 48),  # MNIST in the founding experiment
    ((28, 28), 224),
    ((32, 32), 96),
    ((28, 28), 28),  # nothing to do
    ((48, 48), 28),
    ((224, 224), 48),
    ((17, 31), 48),  # not square, odd
    ((101, 48), 33),
    ((48, 20), 48),  # one axis alone
    ((1, 9), 5),
    ((7, 7), 1),
    ((300, 451), 97),
]


def pixels(height, width, channels, n=3):
    return np.random.default_rng(height * width).integers(
        0, 256, (n, height, width, channels), dtype=np.uint8
    )


def tensorflow_resize(images, size):
    import tensorflow as tf

    return tf.image.resize(images, (size, size), method="bilinear", antialias=False).numpy()


# Each shape compiles anew.
@pytest.mark.parametrize("channels", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_resize_is_tensorflows(shape, size, channels):
    images = pixels(*shape, channels)
    expected = np.broadcast_to(tensorflow_resize(images, size), (3, size, size, 3)) / 255
    result = preprocess(images, size, "unit")
    assert result.dtype == jnp.float32
    assert result.shape == (3, size, size, 3)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_the_loaders_resize_is_tensorflows_rounded(shape, size):
    image = pixels(*shape, 3, n=1)
    exact = tensorflow_resize(image, size)[0]
    result = resize_image(image[0], size)
    assert result.dtype == np.uint8
    # Half a level, and what float32 adds to that.
    np.testing.assert_allclose(result, exact, rtol=0, atol=0.5 + 1e-4)


def test_modes():
    images = np.array([0, 51, 255], np.uint8).reshape(3, 1, 1, 1)
    unit = np.asarray(preprocess(images, 1, "unit"))[:, 0, 0]
    keras = np.asarray(preprocess(images, 1, "keras"))[:, 0, 0]
    np.testing.assert_allclose(unit, np.repeat([[0], [0.2], [1]], 3, axis=1), atol=1e-7)
    np.testing.assert_allclose(keras, np.repeat([[-1], [-0.6], [1]], 3, axis=1), atol=1e-7)


def test_keras_mode_is_kerass_own():
    from keras.applications.mobilenet_v2 import preprocess_input

    images = pixels(28, 28, 3)
    expected = preprocess_input(tensorflow_resize(images, 48))
    np.testing.assert_allclose(preprocess(images, 48, "keras"), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("mode", "low", "high"), [("unit", 0, 1), ("keras", -1, 1)])
def test_the_promised_range_is_kept(mode, low, high):
    extremes = np.stack([np.full((28, 31, 1), 255, np.uint8), np.zeros((28, 31, 1), np.uint8)])
    result = np.asarray(preprocess(extremes, 47, mode))
    assert result.min() >= low
    assert result.max() <= high


def test_gray_becomes_three_equal_channels():
    result = np.asarray(preprocess(pixels(28, 28, 1), 48, "unit"))
    np.testing.assert_array_equal(result[..., 0], result[..., 1])
    np.testing.assert_array_equal(result[..., 0], result[..., 2])


def test_it_runs_inside_a_jitted_function_and_on_any_batch():
    images = pixels(28, 28, 1, n=5)
    mean = jax.jit(lambda batch: preprocess(batch, 48, "unit").mean(axis=(1, 2)))
    whole = np.asarray(mean(images))
    np.testing.assert_allclose(np.asarray(mean(images[3:])), whole[3:], rtol=1e-6)
    np.testing.assert_allclose(whole, np.asarray(preprocess(images, 48, "unit")).mean(axis=(1, 2)), rtol=1e-5)


def test_nothing_is_computed_in_float64():
    jaxpr = str(jax.make_jaxpr(lambda batch: preprocess(batch, 48, "keras"))(pixels(28, 28, 1)))
    assert "f64" not in jaxpr
    assert interpolation_matrix(28, 48).dtype == np.float32


def test_the_rows_of_the_matrix_are_weights():
    for (size_in, _), size_out in SIZES:
        matrix = interpolation_matrix(size_in, size_out)
        assert matrix.min() >= 0
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
        assert ((matrix > 0).sum(axis=1) <= 2).all()


@pytest.mark.parametrize(
    ("images", "size", "mode", "message"),
    [
        (np.zeros((2, 4, 4, 1), np.float32), 8, "unit", "images must be uint8 .*got float32"),
        (np.zeros((2, 4, 4), np.uint8), 8, "unit", r"got uint8 \[2, 4, 4\]"),
        (np.zeros((2, 4, 4, 4), np.uint8), 8, "unit", r"got uint8 \[2, 4, 4, 4\]"),
        (np.zeros((2, 4, 4, 1), np.uint8), 0, "unit", "image_size must be at least 1 pixel, got 0"),
        (np.zeros((2, 4, 4, 1), np.uint8), 8, "caffe", "'caffe' is not one of 'unit', 'keras'"),
    ],
)
def test_bad_input_is_one_clear_line(images, size, mode, message):
    with pytest.raises(JaxtlError, match=message) as caught:
        preprocess(images, size, mode)
    assert "\n" not in str(caught.value)
