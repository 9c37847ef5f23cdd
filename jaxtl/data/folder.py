"""Images in folders: PATH/train/CLASS/* and PATH/test/CLASS/*."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from jaxtl.data.decode import UNREADABLE, look
from jaxtl.data.files import ImageFiles, Reading
from jaxtl.errors import JaxtlError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")

_SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "validation", "val")}
_NAMED = 5

T = TypeVar("T")


def load(
    root: Path, split: str, reading: Reading = Reading()
) -> tuple[ImageFiles, np.ndarray, tuple[str, ...]]:
    """Read one split of a folder of images.

    PATH/validation or PATH/val stands in for PATH/test. Classes are the folders of a split, sorted by
    name, the same in both splits. Images are files whose names end in one of `SUFFIXES`; other files,
    hidden files and deeper folders are passed over. `jaxtl.data.decode` says how pixels are read.

    Args:
        root: the folder PATH.
        split: "train" or "test".
        reading: what images become when they are asked for.

    Returns:
        Images uint8 [n, h, w, c], not yet read, each class's files sorted by name, the classes spread evenly,
        so that the first n are a fair sample; c is 1 if all are gray, else 3. Labels int32 [n], class names.

    Raises:
        JaxtlError: folders are missing or differ in classes, a class is empty, images are unreadable (all
            counted, the first few named), or they differ in size and no `image_size` is given.
    """
    folders = {name: _split_folder(root, name) for name in _SPLIT_FOLDERS}
    class_names = _class_names(folders)
    files = [_images_of(folders[split] / name) for name in class_names]
    labels = np.repeat(np.arange(len(files), dtype=np.int32), [len(paths) for paths in files])
    order = _evenly([len(paths) for paths in files])
    in_order = [path for paths in files for path in paths]
    return _read(folders[split], [in_order[row] for row in order], reading), labels[order], class_names


def _evenly(sizes: list[int]) -> np.ndarray:
    """An order of rows that come class after class in which any first n hold each class's share."""
    share = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes])
    return np.argsort(share, kind="stable")


def _split_folder(root: Path, split: str) -> Path:
    names = _SPLIT_FOLDERS[split]
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise JaxtlError(
        f"{root}: has no folder {' or '.join(names)}; images must lie in "
        f"{root}/train/CLASS and {root}/test/CLASS"
    )


def _class_names(folders: dict[str, Path]) -> tuple[str, ...]:
    train, test = (
        {entry.name for entry in folder.iterdir() if entry.is_dir() and _visible(entry)}
        for folder in (folders["train"], folders["test"])
    )
    if train != test:
        only = [
            f"only {folder} has {', '.join(sorted(names))}"
            for folder, names in ((folders["train"], train - test), (folders["test"], test - train))
            if names
        ]
        raise JaxtlError(f"the splits differ in their classes: {'; '.join(only)}")
    if not train:
        raise JaxtlError(
            f"{folders['train']}: has no class folders; images must lie in {folders['train']}/CLASS"
        )
    return tuple(sorted(train))


def _images_of(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and _visible(path))
    if not files:
        raise JaxtlError(f"{folder}: holds no images ({' '.join(SUFFIXES)})")
    return files


def _visible(entry: Path) -> bool:
    return not entry.name.startswith(".")


def _read(folder: Path, files: list[Path], reading: Reading) -> ImageFiles:
    headers = _for_each(folder, files, lambda row, path: look(path, reading.orientation))
    sizes = [(height, width) for height, width, _ in headers]
    other = next((row for row, size in enumerate(sizes) if size != sizes[0]), None)
    if other is not None and reading.image_size is None:
        height, width = sizes[0]
        raise JaxtlError(
            f"{folder}: images differ in size (height x width: {files[0]} {height}x{width}, "
            f"{files[other]} {sizes[other][0]}x{sizes[other][1]}); give image_size"
        )
    channels = max(header[2] for header in headers)
    return ImageFiles(tuple(files), replace(reading, channels=channels))


def _for_each(folder: Path, files: list[Path], read: Callable[[int, Path], T]) -> list[T]:
    """Apply `read` to every file, then name those that failed, so that one run finds all."""
    results, failures = [], []
    for row, path in enumerate(files):
        try:
            results.append(read(row, path))
        except UNREADABLE as error:
            failures.append(f"{path} ({error})")
    if failures:
        more = f"; and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
        raise JaxtlError(
            f"{folder}: unreadable images, remove or replace them: {'; '.join(failures[:_NAMED])}{more}"
        )
    return results
