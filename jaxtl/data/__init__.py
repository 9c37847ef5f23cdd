"""Labelled images by name: `load` and its one table of sources."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np

from jaxtl.data import folder, idx, infinite, tfds
from jaxtl.data.files import Reading
from jaxtl.errors import JaxtlError
from jaxtl.records.arrays import Dataset
from jaxtl.settings import Images

SPLITS = ("train", "test")

Loaded = tuple[np.ndarray, np.ndarray, tuple[str, ...]]
Loader = Callable[[str, str, Reading, Path | None], Loaded]


def _mnist(_: str, split: str, reading: Reading, data_dir: Path | None) -> Loaded:
    return idx.load(resources.files("jaxtl") / "assets", split)


def _idx(path: str, split: str, reading: Reading, data_dir: Path | None) -> Loaded:
    return idx.load(Path(path).expanduser(), split)


def _folder(path: str, split: str, reading: Reading, data_dir: Path | None) -> Loaded:
    return folder.load(Path(path).expanduser(), split, reading)


def _infinite(count: str, split: str, reading: Reading, data_dir: Path | None) -> Loaded:
    return infinite.load(count, split)


# What stands before the colon -> what stands after it, and what reads it.
SOURCES: dict[str, tuple[str | None, Loader]] = {
    "mnist": (None, _mnist),
    "idx": ("FOLDER", _idx),
    "tfds": ("NAME", tfds.load),
    "folder": ("PATH", _folder),
    "infinite": ("N", _infinite),
}


def load(
    name: str,
    split: str = "test",
    *,
    image_size: int | None = None,
    antialias: str = "auto",
    orientation: str = "exif",
    alpha: str = "white",
    fit: str = "stretch",
    data_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Read one split of a set of labelled images.

    Images in folders are decoded when they are asked for, those of "infinite" made then; all others are in
    memory.

    Args:
        name: one of
            "mnist": the 70,000 digits that come with jaxtl;
            "idx:FOLDER": the four IDX files under MNIST's names, gzipped or not, as Fashion-MNIST and
            KMNIST are published;
            "tfds:NAME": an image classification set of TensorFlow Datasets, NAME as `tfds.load` takes it,
            such as "tfds:cifar10" or "tfds:emnist/letters";
            "folder:PATH": images as PATH/train/CLASS/*.png and PATH/test/CLASS/*.png;
            "infinite:N": N deformed training digits, made when they are asked for, and MNIST's test digits;
            see `jaxtl.data.infinite`.
        split: "train" or "test"; the test images are the validation images where a set has no others.
        image_size: height and width, in pixels, that images in files are resized to when they are read;
            without it they must all have one size. Sets that come as arrays, whose images all have one size,
            are kept as they are: `preprocess` resizes those later.
        antialias, orientation, alpha, fit: how images in files become pixels, see `jaxtl.Images`.
        data_dir: where TFDS keeps its sets, by default the environment variable TFDS_DATA_DIR or
            ~/tensorflow_datasets. TFDS takes original files that you fetched yourself from
            data_dir/downloads/manual. Other sources do not use it.

    Returns:
        A Dataset with uint8 images [n, h, w, 1 or 3] in the source's own order.

    Raises:
        JaxtlError: an unknown name or split, files that are missing or damaged, labels that are missing,
            or images of varying size without `image_size`.
    """
    if split not in SPLITS:
        raise JaxtlError(f"dataset {name}: split must be 'train' or 'test', got {split!r}")
    if image_size is not None and image_size < 1:
        raise JaxtlError(f"dataset {name}: image_size must be at least 1 pixel, got {image_size}")
    # "auto" averages images in files; what is an array is resized later, where "auto" means as Keras does it.
    pixels = Images(antialias=antialias, orientation=orientation, alpha=alpha, fit=fit)
    reading = Reading(image_size, pixels.antialias != "off", pixels.orientation == "exif", alpha, fit)
    kind, colon, argument = name.partition(":")
    if kind not in SOURCES or bool(argument) != (SOURCES[kind][0] is not None) or (colon and not argument):
        raise JaxtlError(f"unknown dataset {name!r}; known are {', '.join(known_names())}")
    directory = Path(data_dir).expanduser() if data_dir is not None else None
    images, labels, class_names = SOURCES[kind][1](argument, split, reading, directory)
    return Dataset(images, labels, class_names, split, name)


def known_names() -> list[str]:
    """The names that `load` takes, their open parts in capitals."""
    return [kind if part is None else f"{kind}:{part}" for kind, (part, _) in SOURCES.items()]
