"""Image files that are decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.data.decode import UNREADABLE, decode
from jaxtl.data.resize import resize_image
from jaxtl.errors import JaxtlError


@dataclass(frozen=True)
class Reading:
    """How files become pixels: height and width, and channels (1 or 3)."""

    image_size: int | None = None
    channels: int = 3


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images in files; like an array uint8 [n, size, size, channels] that is never whole.

    Attributes:
        paths: of the files, or what else gives a path or an encoded image's bytes for a row, and slices of
            itself.
        reading: how they are read.
    """

    paths: Sequence[Path | bytes]
    reading: Reading

    ndim = 4
    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        size = self.reading.image_size
        height, width = (size, size) if size else decode(self.paths[0], 1).shape[:2]
        return len(self.paths), height, width, self.reading.channels

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.paths)

    def first(self, n: int) -> ImageFiles:
        return ImageFiles(self.paths[:n], self.reading)

    def __getitem__(self, key: Any) -> np.ndarray:
        wanted = np.arange(len(self))[key]
        out = np.empty((wanted.size, *self.shape[1:]), np.uint8)
        for place, row in enumerate(wanted.ravel()):
            source = self.paths[int(row)]
            try:
                image = decode(source, self.reading.channels)
            except UNREADABLE as error:
                raise JaxtlError(
                    f"{source if isinstance(source, Path) else 'image'}: cannot be read ({error})"
                ) from None
            size = self.reading.image_size
            out[place] = image if size in (None, *image.shape[:1]) else resize_image(image, size)
        return out.reshape(*wanted.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)
