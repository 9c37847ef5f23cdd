"""Bilinear interpolation as `tf.image.resize(images, size, method="bilinear", antialias=False)` defines it.

Pixel i of the new axis lies at (i + 1/2) * old / new - 1/2 of the old one (half-pixel centres), clamped
to the edges. The arithmetic is float32 throughout, as TensorFlow's is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxtl.data.decode import unwarned

if TYPE_CHECKING:
    from PIL.Image import Image


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def neighbours(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two old pixels that each new pixel lies between, and how far it is from the first to the second.

    Returns:
        lower and upper, int [size_out], and fraction, float32 [size_out] in [0, 1).
    """
    scale = np.float32(size_in) / np.float32(size_out)
    position = (np.arange(size_out, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(position)
    lower = np.clip(floor, 0, size_in - 1).astype(np.intp)
    upper = np.clip(np.ceil(position), 0, size_in - 1).astype(np.intp)
    return lower, upper, position - floor


@lru_cache(maxsize=64)
def interpolation_matrix(size_in: int, size_out: int) -> np.ndarray:
    """The same as a matrix, float32 [size_out, size_in], at most two weights a row; read-only."""
    lower, upper, fraction = neighbours(size_in, size_out)
    rows = np.arange(size_out)
    matrix = np.zeros((size_out, size_in), np.float32)
    matrix[rows, lower] += 1 - fraction
    matrix[rows, upper] += fraction
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=64)
def averaging_matrix(size_in: int, size_out: int) -> np.ndarray:
    """`interpolation_matrix`, antialiased: where pixels shrink, each new one is a mean over those it covers.

    The triangle of bilinear interpolation, as wide as the new pixels, as of `tf.image.resize(...,
    antialias=True)`. float32 [size_out, size_in], rows of sum 1; read-only.
    """
    scale = max(1.0, size_in / size_out)
    centres = (np.arange(size_out) + 0.5) * size_in / size_out
    distance = np.abs(np.arange(size_in) + 0.5 - centres[:, None]) / scale
    matrix = np.maximum(0, 1 - distance)
    matrix = (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def resize_image(image: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """Resize one uint8 image [h, w, c] to [height, width, c], rounded to uint8; `width` None is `height`."""
    top, bottom, down = neighbours(image.shape[0], height)
    left, right, across = neighbours(image.shape[1], width or height)
    # Picking pixels first costs height * width, whatever the size of the image.
    rows = [_blend(image[row][:, left], image[row][:, right], across[:, None]) for row in (top, bottom)]
    return np.rint(_blend(*rows, down[:, None, None])).astype(np.uint8)


def placed(height: int, width: int, image_size: int, fit: str) -> tuple[Box, Box]:
    """What of an image is taken, and where in the square it goes, each (top, left, height, width).

    `fit` as of `jaxtl.settings.Images`; what is not covered is black.
    """
    whole, square = Box(0, 0, height, width), Box(0, 0, image_size, image_size)
    if fit == "crop":
        side = min(height, width)
        return Box((height - side) // 2, (width - side) // 2, side, side), square
    if fit == "pad":
        scale = image_size / max(height, width)
        inner = max(1, round(height * scale)), max(1, round(width * scale))
        return whole, Box((image_size - inner[0]) // 2, (image_size - inner[1]) // 2, *inner)
    return whole, square


def fitted(image: Image, image_size: int, fit: str, antialias: bool) -> np.ndarray:
    """A Pillow image of mode L or RGB as uint8 [image_size, image_size, 1 or 3].

    Antialiased, by Pillow's bilinear filter: each new pixel is a weighted mean of those that it covers, as of
    `tf.image.resize(..., antialias=True)` and torchvision.
    """
    taken, place = placed(image.height, image.width, image_size, fit)
    channels = 1 if image.mode == "L" else 3
    if (taken.height, taken.width) == (place.height, place.width) or not antialias:
        pixels = np.asarray(image).reshape(image.height, image.width, channels)[taken.slices]
        inner = resize_image(pixels, place.height, place.width) if pixels.shape[:2] != place[2:] else pixels
    else:
        box = (taken.left, taken.top, taken.left + taken.width, taken.top + taken.height)
        # Cut out first: what a filter reaches beyond a box is not of it.
        with unwarned():
            inside = image if fit != "crop" else image.crop(box)
        resized = inside.resize((place.width, place.height), 2)  # 2: PIL.Image.Resampling.BILINEAR
        inner = np.asarray(resized).reshape(place.height, place.width, channels)
    if inner.shape[:2] == (image_size, image_size):
        return inner
    whole = np.zeros((image_size, image_size, channels), np.uint8)
    whole[place.slices] = inner
    return whole


def _blend(first: np.ndarray, second: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    first = first.astype(np.float32)
    return first + (second.astype(np.float32) - first) * fraction
