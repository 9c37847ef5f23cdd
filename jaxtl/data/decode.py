"""Encoded images (PNG, JPEG, ...) to uint8 arrays, by Pillow."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxtl.data.formats import FORMATS
from jaxtl.machine.warned import ignoring
from jaxtl.records.places import kind_at

if TYPE_CHECKING:
    from PIL.Image import Image

# What Pillow raises for files that it cannot read (SyntaxError: a broken PNG).
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
# Pixels of an image that is read at all: those that Pillow itself calls a bomb have more. A colour has four
# bytes in Pillow, and where it is converted a second time four.
MOST_PIXELS = 178_956_970
# Pixels that are brought to 8 bits, or laid over white, at a time.
_BAND = 2**20

_GRAY_MODES = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N"}
_ALPHA_MODES = {"LA", "PA", "RGBA", "RGBa"}

# EXIF 2.32, section 4.6.4: what turns an image of each orientation upright, by Pillow's number
# (`PIL.Image.Transpose`, which is not imported here); those whose height and width change places.
_ORIENTATION_TAG = 0x0112
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_LYING = (5, 6, 7, 8)
# How many times larger than wanted a JPEG is decoded at least, to be averaged from there: Pillow's own choice
# for thumbnails.
_DRAFT = 2


def look(source: Path | bytes, orientation: bool = False) -> tuple[int, int, int]:
    """Height, width and channels (1 or 3) of an image, from its header alone.

    `orientation`: whether height and width are those of the image turned as its EXIF orientation says.
    Raises one of `UNREADABLE`.
    """
    with _blamed_on_file(), _open(source) as image:
        height, width = image.height, image.width
        if orientation and _orientation(image) in _LYING:
            height, width = width, height
        return height, width, 1 if image.mode in _GRAY_MODES else 3


def tried(source: Path | bytes) -> bool:
    """Whether an image is a JPEG, which is then decoded at an eighth of its size; errors as of `look`."""
    with _blamed_on_file(), _open(source) as image:
        if image.format != "JPEG":
            return False
        image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()
        return True


def decode(
    source: Path | bytes, channels: int, orientation: bool = False, alpha: str = "white"
) -> np.ndarray:
    """Decode an image to uint8 [h, w, channels] at its own size; arguments and errors as of `opened`."""
    image = opened(source, channels, orientation, alpha)
    return np.asarray(image).reshape(image.height, image.width, channels)


def opened(
    source: Path | bytes,
    channels: int,
    orientation: bool = False,
    alpha: str = "white",
    least: int | None = None,
) -> Image:
    """Decode an image to Pillow's mode L or RGB.

    Palettes, CMYK and the like become RGB; colour becomes gray only where `channels` says so; 16-bit gray is
    divided by 257; of an animation the first frame is taken.

    Args:
        channels: 1 or 3.
        orientation: whether the image is turned as its EXIF orientation says; a tag that cannot be read is
            passed over.
        alpha: "white" lays transparent pixels over white, "drop" takes their colours as they are.
        least: height and width that the image is to be shrunk to. A JPEG is then decoded at a half, a quarter
            or an eighth of its size, averaged, where both sides stay at least twice that.

    Raises one of `UNREADABLE`.
    """
    with _blamed_on_file(), _open(source) as image:
        if least is not None:
            image.draft(None, (_DRAFT * least, _DRAFT * least))
        image.load()
        turn = _TURNS.get(_orientation(image)) if orientation else None
        image = _converted(image, "L" if channels == 1 else "RGB", alpha)
        return image if turn is None else image.transpose(turn)


def _converted(image: Image, mode: str, alpha: str) -> Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):
        return _from_16_bits(image).convert(mode)
    if alpha == "white" and (image.mode in _ALPHA_MODES or "transparency" in image.info):
        return _over_white(image, mode)
    return image.convert(mode)


def _orientation(image: Image) -> int:
    """EXIF orientation, 1 to 8; 1, upright, where there is none that can be read."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # whatever Pillow meets in a tag that anybody wrote
        return 1


def unwarned() -> contextlib.AbstractContextManager[None]:
    """Inside, Pillow does not warn of images of many pixels, which `MOST_PIXELS` limits here."""
    from PIL import Image

    return ignoring(category=Image.DecompressionBombWarning)


@contextlib.contextmanager
def _blamed_on_file() -> Iterator[None]:
    """Turns a decoder's own fault at a file into a ValueError, one of `UNREADABLE`."""
    try:
        with unwarned():
            yield
    except UNREADABLE:
        raise
    except MemoryError:
        raise ValueError("it takes more memory than there is") from None
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _open(source: Path | bytes) -> Image:
    from PIL import Image

    if isinstance(source, Path) and (kind := kind_at(source)):
        raise ValueError(f"it is {kind}")
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except Image.DecompressionBombError:
        raise ValueError(f"it has more than {MOST_PIXELS:,} pixels; make it smaller") from None
    if image.width * image.height > MOST_PIXELS:  # who uses jaxtl may have told Pillow of no limit
        image.close()
        raise ValueError(f"it has more than {MOST_PIXELS:,} pixels; make it smaller")
    return image


def _over_white(image: Image, mode: str) -> Image:
    from PIL import Image

    opaque, rows = Image.new(mode, image.size), max(1, _BAND // image.width)
    for start in range(0, image.height, rows):
        band = image.crop((0, start, image.width, min(start + rows, image.height))).convert("RGBA")
        white = Image.new("RGBA", band.size, "white")
        opaque.paste(Image.alpha_composite(white, band).convert(mode), (0, start))
    return opaque


def _from_16_bits(image: Image) -> Image:
    from PIL import Image

    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"gray values from {values.min()} to {values.max()}, beyond 16 bits")
    gray, rows = np.empty(values.shape, np.uint8), max(1, _BAND // values.shape[1])
    for start in range(0, len(values), rows):
        # The nearest of 256 values, in whole numbers: a copy in float64 has eight times the bytes.
        gray[start : start + rows] = (values[start : start + rows].astype(np.uint32) + 128) // 257
    return Image.fromarray(gray)
