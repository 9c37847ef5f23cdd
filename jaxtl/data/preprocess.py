"""What a network is fed: images resized, replicated to RGB and scaled, inside the compiled step."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxtl.data.resize import averaging_matrix, interpolation_matrix, placed
from jaxtl.errors import JaxtlError
from jaxtl.settings import USUAL_PREPROCESSING, mean_and_deviation


@partial(jax.jit, static_argnames=("image_size", "mode", "antialias", "fit"))
def preprocess(
    images: jax.Array,
    image_size: int,
    mode: str | None = None,
    antialias: bool = False,
    fit: str = "stretch",
) -> jax.Array:
    """Resize, replicate gray to RGB and scale.

    The resize agrees with `tf.image.resize(..., method="bilinear", antialias=antialias)` to 1e-6 of the full
    range.

    Args:
        images: uint8 [n, h, w, 1 or 3].
        image_size: height and width of the result, in pixels; static under `jax.jit`.
        mode: "unit" gives x / 255 in [0, 1]; "keras" gives x / 127.5 - 1 in [-1, 1], what Keras's own
            MobileNetV2 preprocessing does; others, see `jaxtl.Images`, give (x / 255 - mean) / deviation,
            None what "unit" gives; static under `jax.jit`.
        antialias: whether each new pixel of images that shrink is a mean over those that it covers.
        fit: of images that are not square: see `jaxtl.settings.Images`.

    Returns:
        float32 [n, image_size, image_size, 3].

    Raises:
        JaxtlError: images of another shape or dtype, image_size below 1, or an unknown mode.
    """
    mode = USUAL_PREPROCESSING if mode is None else mode
    mean, deviation = mean_and_deviation(mode)
    _check(images, image_size)
    values = images.astype(jnp.float32)
    if images.shape[1:3] != (image_size, image_size):
        values = _resize(values, image_size, antialias, fit)
    if mode == "unit":
        values = values / 255
    elif mode == "keras":
        # Not x / 127.5 - 1: fused, that gives 1 + 1e-7 for white.
        values = (values - 127.5) / 127.5
    else:
        values = (values / 255 - jnp.asarray(mean)) / jnp.asarray(deviation)
    return jnp.broadcast_to(values, (*values.shape[:3], 3))


def _resize(values: jax.Array, image_size: int, antialias: bool, fit: str) -> jax.Array:
    taken, place = placed(*values.shape[1:3], image_size, fit)
    weights = averaging_matrix if antialias else interpolation_matrix
    if fit == "crop":
        values = values[:, *taken.slices]
    resized = jnp.einsum(
        "yh,xw,nhwc->nyxc",
        weights(taken.height, place.height),
        weights(taken.width, place.width),
        values,
        # Not TF32 on NVIDIA GPUs, nor bfloat16 on TPUs.
        precision=jax.lax.Precision.HIGHEST,
    )
    # Weights of a pixel can sum to 1 + 1e-7.
    resized = jnp.minimum(resized, 255)
    if fit != "pad":
        return resized
    below, right = image_size - place.top - place.height, image_size - place.left - place.width
    return jnp.pad(resized, ((0, 0), (place.top, below), (place.left, right), (0, 0)))


def _check(images: jax.Array, image_size: int) -> None:
    if images.ndim != 4 or images.dtype != jnp.uint8 or images.shape[3] not in (1, 3):
        raise JaxtlError(
            f"preprocess: images must be uint8 [n, height, width, 1 or 3], got {images.dtype} "
            f"{list(images.shape)}"
        )
    if image_size < 1:
        raise JaxtlError(f"preprocess: image_size must be at least 1 pixel, got {image_size}")
