"""What all peers work on: features from a folder's files, and the images of MNIST that jaxtl brings."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.records.dataset import Dataset

# Manifests and results say "map" of the embedding.
SPACES = ("features", "map")
_TRAIN_SHARE = 0.8

_opened: dict[str, Any] = {}


def open_data(folder: str) -> int:
    """Take a folder's `features.npy`, float32 [n, d], and `labels.npy`, int [n]; returns n.

    Row i is jaxtl's feature of the i-th test image of MNIST, beyond 10,000 of the training images.
    """
    # Memory-mapped, so that a peer's memory holds the rows that it works on and no others.
    values = np.load(Path(folder) / "features.npy", mmap_mode="r")
    labels = np.load(Path(folder) / "labels.npy").astype(np.int32)
    if values.ndim != 2 or values.dtype != np.float32 or labels.shape != (len(values),):
        raise JaxtlError(f"{folder}: must hold float32 features [n, d] and n labels; make the folder again")
    _opened.update(values=values, labels=labels)
    for cached in (features, space):
        cached.cache_clear()
    return len(values)


def opened() -> bool:
    return bool(_opened)


@lru_cache(maxsize=1)
def features(n: int) -> np.ndarray:
    """float32 [n, d], the first n rows."""
    if not opened():
        raise JaxtlError("no data: call open_data with the folder of features.npy first")
    have = len(_opened["values"])
    if not 1 <= n <= have:
        raise JaxtlError(f"features.npy: has {have} rows, asked for {n}; make it larger, or ask for fewer")
    return np.array(_opened["values"][:n])


def labels(n: int) -> np.ndarray:
    """int32 [n]."""
    return _opened["labels"][: len(features(n))]


@lru_cache(maxsize=2)
def space(name: str, n: int) -> np.ndarray:
    """The features themselves, or their embedding by an exact PCA, float64 [n, 2], the same for all peers."""
    if name == "features":
        return features(n)
    if name != "map":
        raise JaxtlError(f"space: must be one of {', '.join(SPACES)}, got {name!r}")
    from jaxtl.reduction.pca import sklearn_pca

    return sklearn_pca(features(n), None)[0]


def train_and_test(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values and labels of the first four fifths of n rows, then of the last."""
    cut = round(_TRAIN_SHARE * n)
    values, classes = features(n), labels(n)
    return values[:cut], classes[:cut], values[cut:], classes[cut:]


@cache
def _split(name: str) -> Dataset:
    return load("mnist", name)


def images(split: str, n: int) -> Dataset:
    """The first n images of MNIST's "train" or "test", uint8 [n, 28, 28, 1], with labels int32 [n]."""
    return _split(split).take(n)


def imagenet_file() -> Path:
    """The weights that jaxtl brings; found without importing JAX."""
    import jaxtl

    return next((Path(jaxtl.__file__).parent / "assets").glob("*imagenet.safetensors"))


def without_own(indices: np.ndarray) -> np.ndarray:
    """Neighbours [n, k] of [n, k + 1] that may hold the row itself; where they do not, the last one goes."""
    own = indices == np.arange(len(indices))[:, None]
    own[:, -1] |= ~own.any(axis=1)
    # More than one mention of the row would leave too few.
    own[own.cumsum(axis=1) > 1] = False
    return indices[~own].reshape(len(indices), -1)
