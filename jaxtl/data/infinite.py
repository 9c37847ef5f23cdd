"""Digits without end: MNIST's training digits, deformed anew each time and made when they are asked for.

Elastic distortions (Simard, Steinkraus & Platt 2003, ICDAR) with a small affine one, as MNIST8M has them
(Loosli, Canu & Bottou 2007, "Training invariant support vector machines using selective sampling"). Image i
depends on the seed and on i alone, so every slice is the same however it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import Any

import numpy as np

from jaxtl.data import idx
from jaxtl.errors import JaxtlError
from jaxtl.machine.host import cpu_count
from jaxtl.records.dataset import Dataset

LARGEST = 100_000_000
# Simard's smoothing, in pixels, and the root mean square of the displacement along each axis that his
# alpha = 34 gives: 34 / sqrt(3) / (2 sqrt(pi) 4).
SMOOTHING = 4.0
DISPLACEMENT = 1.4
# Standard deviations of rotation, shear (radians) and logarithm of the scale: Ciresan et al. 2010 (Neural
# Computation 22:3207) draw rotation and shear up to 15 degrees and the scale up to 15 % on MNIST.
ROTATION = SHEAR = np.pi / 180 * 7.5
SCALE = 0.075

# Images made at a time, from one stream of random numbers: what a slice is cut from. The images depend on it.
_BLOCK = 128
_SIDE = 28
_PIXELS = _SIDE * _SIDE
# 16-bit random numbers of an image: two fields of noise, and six for the affine part.
_NOISE = 2 * _PIXELS
RANDOM_NUMBERS = _NOISE + 8


@dataclass(frozen=True, eq=False)
class Digits:
    """n deformed digits, made when they are indexed; like an array uint8 [n, 28, 28, 1] that is never whole.

    Slices and arrays of indices give arrays; `np.asarray` makes all n images.
    """

    n: int
    seed: int

    ndim = 4
    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.n, _SIDE, _SIDE, 1

    @property
    def nbytes(self) -> int:
        """Of all images, were they made."""
        return self.n * _PIXELS

    def __len__(self) -> int:
        return self.n

    def first(self, n: int) -> Digits:
        """The first n of them, none of which is made yet."""
        return Digits(min(n, self.n), self.seed)

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, slice):
            return self._rows(range(*key.indices(self.n)))
        wanted = np.asarray(key)
        if wanted.dtype.kind not in "iu":
            raise TypeError(f"digits are indexed by integers and slices, not by {wanted.dtype} or tuples")
        if wanted.size and not (-self.n <= wanted.min() and wanted.max() < self.n):
            raise IndexError(f"there are {self.n} digits")
        rows = self._rows(np.where(wanted < 0, wanted + self.n, wanted).ravel())
        return rows.reshape(*wanted.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("digits have no array until they are made")
        return self[:].astype(dtype or self.dtype, copy=False)

    def _rows(self, wanted: range | np.ndarray) -> np.ndarray:
        out = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        places = np.asarray(wanted, np.int64)
        blocks = places // _BLOCK
        # Equal blocks lie together in a slice, and in sorted indices.
        edges = np.flatnonzero(np.diff(blocks, prepend=-1, append=-1)) if len(places) else []
        starts = list(pairwise(edges))

        def fill(edge: tuple[int, int]) -> None:
            some = slice(*edge)
            out[some] = _block(self.seed, int(blocks[edge[0]]))[places[some] % _BLOCK]

        _for_each(fill, starts)
        return out


def infinite(n: int, seed: int = 0) -> Dataset:
    """n deformed training digits of MNIST with their labels, split "train", images made when asked for.

    Image i is training digit i mod 60,000, in an order that the seed shuffles, under a deformation of its
    own: displacements of 1.4 pixels along each axis (root mean square), smooth over 4 pixels, with rotation
    and shear of 7.5 degrees and a scale of 7.5 % (standard deviations). The first n images are the same for
    every n.

    Args:
        n: 1 to 100,000,000.
        seed: 0 to 2^32 - 1.

    Raises:
        JaxtlError: n or seed out of range.
    """
    if not 1 <= n <= LARGEST:
        raise JaxtlError(f"infinite: the number of digits must be 1 to {LARGEST}, got {n}")
    if not 0 <= seed < 2**32:
        raise JaxtlError(f"infinite: seed must be 0 to {2**32 - 1}, got {seed}")
    labels, order = framed_originals()[1], shuffled_order(seed)
    return Dataset(
        Digits(n, seed),
        labels[order[np.arange(n) % len(order)]],
        framed_originals()[2],
        "train",
        f"infinite:{n}",
    )


def load(count: str, split: str) -> tuple[Digits | np.ndarray, np.ndarray, tuple[str, ...]]:
    """The first `count` deformed digits of seed 0 for training; the test digits as they are.

    Raises JaxtlError where `count` is no number in range.
    """
    # Of thousands of digits Python makes no number.
    if not count.isdecimal() or len(count) > 20:
        raise JaxtlError(f"infinite:{count[:40]}: not a number of digits; give it as in infinite:200000")
    digits = infinite(int(count))
    if split == "test":
        return idx.load(resources.files("jaxtl") / "assets", "test")
    return digits.images, digits.labels, digits.class_names


@lru_cache(maxsize=1)
def framed_originals() -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Training digits uint8 [60000, 30 * 30] with a dark pixel around, labels, class names."""
    images, labels, names = idx.load(resources.files("jaxtl") / "assets", "train")
    framed = np.pad(images[..., 0], ((0, 0), (1, 1), (1, 1))).reshape(len(images), -1)
    return framed, labels, names


@lru_cache(maxsize=8)
def shuffled_order(seed: int) -> np.ndarray:
    # Sorting raw random numbers: NumPy may change what `permutation` draws, but not these.
    raw = np.random.Philox(key=[seed, LARGEST]).random_raw(len(framed_originals()[1]))
    return np.argsort(raw, kind="stable")


@lru_cache(maxsize=4)
def _block(seed: int, number: int) -> np.ndarray:
    """Images number * _BLOCK and on, uint8 [_BLOCK, 28, 28, 1], read-only."""
    raw = np.random.Philox(key=[seed, number]).random_raw(_BLOCK * RANDOM_NUMBERS // 4)
    noise = raw.astype("<u8", copy=False).view("<u2").reshape(_BLOCK, RANDOM_NUMBERS).astype(np.float64)
    noise = (noise + 0.5) / 2**15 - 1
    order = shuffled_order(seed)
    originals = order[(number * _BLOCK + np.arange(_BLOCK)) % len(order)]
    images = interpolated(framed_originals()[0][originals], *source_coordinates(noise))
    images.flags.writeable = False
    return images


def source_coordinates(noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each new pixel is taken from: rows and columns, float64 [n, 28, 28], of the framed original."""
    smooth = _smoothing()
    fields = smooth @ noise[:, :_NOISE].reshape(-1, 2, _SIDE, _SIDE) @ smooth.T
    # A sum of three uniform numbers in [-1, 1] has variance 1 and ends at 3 standard deviations.
    drawn = noise[:, _NOISE : _NOISE + 8]
    angle, shear = ROTATION * _normal(drawn[:, :2]), SHEAR * _normal(drawn[:, 2:4])
    log_scale = SCALE * _normal(drawn[:, 4:6])
    stretch = np.exp(log_scale)
    cos, sin = np.cos(angle) * stretch, np.sin(angle) * stretch
    centred = np.arange(_SIDE) - (_SIDE - 1) / 2
    y, x = centred[:, None], centred[None, :]
    cos, sin, shear = (values[:, None, None] for values in (cos, sin, shear))
    middle = (_SIDE + 1) / 2  # of the framed original
    rows = cos * y + (sin + cos * shear) * x + fields[:, 0]
    columns = -sin * y + (cos - sin * shear) * x + fields[:, 1]
    return rows + middle, columns + middle


def _normal(pairs: np.ndarray) -> np.ndarray:
    """Two uniform numbers in [-1, 1] to one of mean 0 and variance 1, within 2.45."""
    return pairs.sum(axis=1) * np.sqrt(1.5)


@lru_cache(maxsize=1)
def _smoothing() -> np.ndarray:
    """Gaussian over one axis of uniform noise, scaled so that every pixel moves by DISPLACEMENT."""
    apart = np.arange(_SIDE)[:, None] - np.arange(_SIDE)
    weights = np.exp(-0.5 * (apart / SMOOTHING) ** 2)
    # Uniform noise in [-1, 1] has variance 1/3; the two axes share what is missing.
    return weights / np.linalg.norm(weights, axis=1, keepdims=True) * np.sqrt(DISPLACEMENT * np.sqrt(3))


def interpolated(framed: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear interpolation; beyond the frame it is dark."""
    side = _SIDE + 2
    last = side - 1 - 1e-9
    rows, columns = np.clip(rows, 0, last), np.clip(columns, 0, last)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    down, across = rows - top, columns - left
    at = top * side + left + (np.arange(len(framed)) * side**2)[:, None, None]
    flat = framed.ravel().astype(np.float64)
    upper = flat[at] + across * (flat[at + 1] - flat[at])
    lower = flat[at + side] + across * (flat[at + side + 1] - flat[at + side])
    return np.rint(upper + down * (lower - upper)).astype(np.uint8)[..., None]


def _for_each(work: Callable[[tuple[int, int]], None], parts: list[tuple[int, int]]) -> None:
    if len(parts) < 4:  # a batch of a network: not worth threads
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(work, parts))
