"""Images in files, decoded when they are asked for and at the size asked for; never all in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.data.decode import UNREADABLE, look, opened
from jaxtl.data.resize import fitted
from jaxtl.errors import JaxtlError
from jaxtl.machine import cores

# Files that an error names; the others it counts.
_NAMED = 5


@dataclass(frozen=True)
class Reading:
    """How an encoded image becomes the pixels of a set: the same for each, whatever the others are.

    Attributes:
        image_size: height and width, in pixels, that images are resized to; None keeps their own, which then
            must be one for all.
        antialias: whether an image that shrinks is averaged over what each new pixel covers; without, each
            new pixel lies between two old ones in each direction, as Keras and TensorFlow resize.
        orientation: whether an image is turned as its EXIF orientation says.
        alpha: "white" lays transparent pixels over white, "drop" takes their colours as they are.
        fit: "stretch" gives each side its own scale, "crop" takes the largest square from the middle, "pad"
            keeps all of the image and fills up with black.
        channels: 1 (gray) or 3.
    """

    image_size: int | None = None
    antialias: bool = True
    orientation: bool = True
    alpha: str = "white"
    fit: str = "stretch"
    channels: int = 3


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """n images, each decoded when it is indexed; like an array uint8 [n, size, size, channels].

    Slices and arrays of integers give arrays, decoded by all cores; `np.asarray` reads all n images.

    Attributes:
        paths: of the files; also encoded images themselves (bytes), in a sequence that can be sliced.
        reading: how each is read.

    Indexing raises JaxtlError where files are unreadable (the first few are named), or of another size than
    the first where `reading` gives none.
    """

    paths: Sequence[Path | bytes]
    reading: Reading

    ndim = 4
    dtype = np.dtype(np.uint8)

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        size = self.reading.image_size
        height, width = (size, size) if size else self._own_size()
        return len(self.paths), height, width, self.reading.channels

    @property
    def nbytes(self) -> int:
        """Of all images, were they decoded."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.paths)

    def first(self, n: int) -> ImageFiles:
        """The first n of them, none of which is read yet."""
        return replace(self, paths=self.paths[:n])

    def __getitem__(self, key: Any) -> np.ndarray:
        n = len(self)
        if isinstance(key, slice):
            return self._rows(np.arange(n)[key])
        wanted = np.asarray(key)
        if isinstance(key, tuple) or wanted.dtype.kind not in "iu":
            raise TypeError(f"images are indexed by integers and slices, not by {wanted.dtype} or tuples")
        if wanted.size and not (-n <= wanted.min() and wanted.max() < n):
            raise IndexError(f"there are {n} images")
        rows = self._rows(np.where(wanted < 0, wanted + n, wanted).ravel())
        return rows.reshape(*wanted.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("images in files have no array until they are decoded")
        return self[:].astype(dtype or self.dtype, copy=False)

    def _own_size(self) -> tuple[int, int]:
        try:
            return look(self.paths[0], self.reading.orientation)[:2]
        except UNREADABLE as error:
            raise _unreadable([f"{_name(self.paths[0])} ({error})"]) from None

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows in any order, of which one that is asked for twice (a batch is filled up so) is read once."""
        wanted, places = np.unique(rows, return_inverse=True)
        images = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        failures: list[tuple[int, str]] = []

        def fill(place: int) -> None:
            path = self.paths[wanted[place]]
            try:
                images[place] = self._checked(path, read(path, self.reading))
            except UNREADABLE as error:
                failures.append((place, f"{_name(path)} ({error})"))

        cores.share(fill, range(len(wanted)))
        if failures:
            raise _unreadable([line for _, line in sorted(failures)])
        is_in_order = len(wanted) == len(rows) and np.array_equal(wanted, rows)
        return images if is_in_order else images[places]

    def _checked(self, path: Path | bytes, image: np.ndarray) -> np.ndarray:
        if image.shape != self.shape[1:]:
            sizes = " and ".join(f"{height}x{width}" for height, width in (self.shape[1:3], image.shape[:2]))
            raise JaxtlError(
                f"{_name(path)}: images differ in size ({sizes}, height x width); give image_size"
            )
        return image


def joined(first: Any, second: Any) -> Any:
    """The images of two sets as those of one; what is in files and read alike stays there."""
    if isinstance(first, ImageFiles) and isinstance(second, ImageFiles) and first.reading == second.reading:
        return replace(first, paths=(*first.paths, *second.paths))
    return np.concatenate((first, second))


def read(source: Path | bytes, reading: Reading) -> np.ndarray:
    """One image as `reading` says, uint8 [size, size, channels]. Raises one of `decode.UNREADABLE`."""
    # What is averaged anyway need not be decoded at full size, which some formats can do without.
    least = reading.image_size if reading.antialias else None
    image = opened(source, reading.channels, reading.orientation, reading.alpha, least)
    if reading.image_size:
        return fitted(image, reading.image_size, reading.fit, reading.antialias)
    return np.asarray(image).reshape(image.height, image.width, reading.channels)


def _name(path: Path | bytes) -> str:
    return "an image" if isinstance(path, bytes) else str(path)


def _unreadable(failures: list[str]) -> JaxtlError:
    more = f"; and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
    return JaxtlError(f"unreadable images, remove or replace them: {'; '.join(failures[:_NAMED])}{more}")
