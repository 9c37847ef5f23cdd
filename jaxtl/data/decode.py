"""Encoded images (PNG, JPEG, ...) to uint8 arrays, by Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxtl.data.formats import FORMATS

if TYPE_CHECKING:
    from PIL.Image import Image

# What Pillow raises for files that it cannot read (SyntaxError: a broken PNG).
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)

_GRAY_MODES = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N"}
_ALPHA_MODES = {"LA", "PA", "RGBA", "RGBa"}


def look(source: Path | bytes) -> tuple[int, int, int]:
    """Height, width and channels (1 or 3) of an image file, from its header alone.

    Raises one of `UNREADABLE`.
    """
    with _open(source) as image:
        return image.height, image.width, 1 if image.mode in _GRAY_MODES else 3


def decode(source: Path | bytes, channels: int) -> np.ndarray:
    """Decode an image to uint8 [h, w, channels], channels being 1 or 3.

    Palettes, CMYK and the like become RGB; colour becomes gray only where `channels` says so; transparent
    pixels are laid over white; 16-bit gray is divided by 257; of an animation the first frame is taken.
    Orientation tags are not applied, just as Keras and torchvision do not apply them.
    Raises one of `UNREADABLE`.
    """
    with _open(source) as image:
        if image.mode == "F":
            raise ValueError("floating-point pixels, whose range is unknown")
        if image.mode.startswith("I"):
            return np.repeat(_from_16_bits(image)[..., None], channels, axis=2)
        pixels = np.asarray(_opaque(image).convert("L" if channels == 1 else "RGB"))
        return pixels.reshape(*pixels.shape[:2], channels)


def _open(source: Path | bytes) -> Image:
    from PIL import Image

    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(error) from None


def _opaque(image: Image) -> Image:
    from PIL import Image

    if image.mode not in _ALPHA_MODES and "transparency" not in image.info:
        return image
    overlay = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", overlay.size, "white"), overlay)


def _from_16_bits(image: Image) -> np.ndarray:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"gray values from {values.min()} to {values.max()}, beyond 16 bits")
    return np.rint(values / 257).astype(np.uint8)
