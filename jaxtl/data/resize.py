"""Bilinear interpolation as `tf.image.resize(images, size, method="bilinear", antialias=False)` defines it.

Pixel i of the new axis lies at (i + 1/2) * old / new - 1/2 of the old one (half-pixel centres), clamped
to the edges. The arithmetic is float32 throughout, as TensorFlow's is.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np


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


def resize_image(image: np.ndarray, image_size: int) -> np.ndarray:
    """Resize one uint8 image [h, w, c] to [image_size, image_size, c], rounded to uint8."""
    top, bottom, down = neighbours(image.shape[0], image_size)
    left, right, across = neighbours(image.shape[1], image_size)
    # Picking pixels first costs image_size^2, whatever the size of the image.
    rows = [_blend(image[row][:, left], image[row][:, right], across[:, None]) for row in (top, bottom)]
    return np.rint(_blend(*rows, down[:, None, None])).astype(np.uint8)


def _blend(first: np.ndarray, second: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    first = first.astype(np.float32)
    return first + (second.astype(np.float32) - first) * fraction
