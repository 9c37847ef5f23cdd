"""Images to pictures: one, or many small ones on a sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


def tiled(images: np.ndarray, size: tuple[int, int], rows: int, columns: int) -> np.ndarray:
    """uint8 [rows * height, columns * width, channels]: images at `size` (width, height), row by row.

    Tiles beyond the last image are black.
    """
    width, height = size
    count, channels = len(images), images.shape[3]
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    for tile, image in zip(sheet[:count], images, strict=True):
        tile[...] = _resized(image, size)
    sheet = sheet.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return sheet.reshape(rows * height, columns * width, channels)


def picture(image: np.ndarray) -> Image.Image:
    """A PIL image, grey or RGB, of uint8 [height, width, 1 or 3]."""
    from PIL import Image

    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    height, width, channels = image.shape
    if (width, height) == size:
        return image
    return np.asarray(picture(image).resize(size, Image.Resampling.BOX)).reshape(size[1], size[0], channels)
