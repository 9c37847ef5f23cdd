"""Sets of TensorFlow Datasets, read without TensorFlow; only preparing one for the first time needs it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtl.data import prepare
from jaxtl.data.decode import UNREADABLE, decode
from jaxtl.data.files import Reading, read
from jaxtl.errors import JaxtlError
from jaxtl.machine.child import Child

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder
    from tensorflow_datasets.core.features import Image

_log = logging.getLogger(__name__)

_SPLITS = {"train": ("train",), "test": ("test", "validation")}
_NEEDED_TO_PREPARE = ("tensorflow", "importlib_resources")


def load(
    name: str, split: str, reading: Reading = Reading(), data_dir: Path | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read one split of a TFDS image classification set, preparing the set if it is not there yet.

    Preparing downloads the original files, unless they lie in data_dir/downloads/manual under their own
    names, and writes TFDS's array_record files; one INFO line of this module's logger announces it.
    TFDS shuffles while it writes: the images stand in TFDS's order, which is always the same but is not
    that of the original files (`load("tfds:mnist")` holds what `load("mnist")` holds in another order).

    Args:
        name: as `tfds.load` takes it, with configuration and version where wanted.
        split: "train" or "test"; "validation" stands in for a missing "test".
        reading: what images become where the set declares no fixed size; unused elsewhere.
        data_dir: TFDS's folder; by default TFDS_DATA_DIR or ~/tensorflow_datasets.

    Returns:
        Images uint8 [n, h, w, 1 or 3], labels int32 [n] and class names.

    Raises:
        JaxtlError: an unknown name; a set that cannot be prepared (TensorFlow or the network is missing),
            was prepared as TFRecord, or has no such split, no images or no labels.
    """
    builder = _builder(name, data_dir)
    # What the set declares is checked before anything is downloaded.
    image_key, label_key = _keys(name, builder)
    shape, varying = _shape(name, builder.info.features[image_key], reading.image_size)
    if not _is_prepared(builder):
        _prepare(name, builder)
        builder = _builder(name, data_dir)
    examples, reading = _examples(name, builder, split, image_key), replace(reading, channels=shape[2])
    images = np.empty((len(examples), *shape), np.uint8)
    labels = np.empty(len(examples), np.int32)
    for row, example in enumerate(examples):
        try:
            encoded = example[image_key]
            images[row] = read(encoded, reading) if varying else decode(encoded, shape[2])
        except UNREADABLE as error:
            reason = prepare.first_line(error)
            raise JaxtlError(f"tfds:{name}: {split} image {row} is unreadable ({reason})") from None
        labels[row] = example[label_key]
    if labels.min(initial=0) < 0:
        raise JaxtlError(
            f"tfds:{name}: {np.sum(labels < 0)} of {len(labels)} {split} images have no label, so the split "
            "cannot be used"
        )
    return images, labels, tuple(builder.info.features[label_key].names)


def _builder(name: str, data_dir: Path | None) -> DatasetBuilder:
    import tensorflow_datasets as tfds

    try:
        with _quiet():
            # TFDS reads the variable itself, but only once, when it is imported.
            return tfds.builder(name, data_dir=data_dir or os.environ.get("TFDS_DATA_DIR"))
    except tfds.core.DatasetNotFoundError:
        raise JaxtlError(
            f"tfds:{name}: TensorFlow Datasets knows no such set, nor is one prepared under that name; "
            "https://www.tensorflow.org/datasets/catalog lists the names"
        ) from None
    except Exception as error:  # a set's own code runs here, and may raise anything
        # TFDS puts its own words before what went wrong, and keeps that as the cause.
        reason = prepare.first_line(error.__cause__ or error)
        raise JaxtlError(f"tfds:{name}: cannot be opened ({reason})") from error


def _is_prepared(builder: DatasetBuilder) -> bool:
    with _quiet():
        return builder.is_prepared()


def _prepare(name: str, builder: DatasetBuilder) -> None:
    root = Path(builder.data_dir_root).expanduser()
    missing = [module for module in _NEEDED_TO_PREPARE if importlib.util.find_spec(module) is None]
    if missing:
        raise JaxtlError(
            f"tfds:{name}: is not prepared in {root}, and preparing needs {' and '.join(missing)}: "
            'pip install "jaxtl[tfds]"'
        )
    _log.info("tfds:%s: downloading and preparing into %s, once", name, builder.data_dir)
    with Child(environment={"CUDA_VISIBLE_DEVICES": "-1"}) as child:
        try:
            child.call(f"{prepare.__name__}:prepare", {"name": name, "data_dir": str(root)})
        except JaxtlError as error:
            raise JaxtlError(
                f"tfds:{name}: cannot be prepared ({error}); files that you fetch yourself are taken from "
                f"{root / 'downloads' / 'manual'}"
            ) from None


def _examples(name: str, builder: DatasetBuilder, split: str, image_key: str) -> Sequence[dict[str, Any]]:
    """A prepared split, its images still encoded."""
    import tensorflow_datasets as tfds

    there = next((name for name in _SPLITS[split] if name in builder.info.splits), None)
    if there is None:
        raise JaxtlError(
            f"tfds:{name}: has no split {' or '.join(_SPLITS[split])}; it has "
            f"{', '.join(builder.info.splits)}"
        )
    try:
        # jaxtl decodes by itself: TFDS does not convert palettes and the like to what a set declares.
        return builder.as_data_source(there, decoders={image_key: tfds.decode.SkipDecoding()})
    except NotImplementedError:
        raise JaxtlError(
            f"tfds:{name}: {builder.data_dir} holds {builder.info.file_format.value} files, which only "
            "TensorFlow reads; give another data_dir to prepare the set anew"
        ) from None


def _keys(name: str, builder: DatasetBuilder) -> tuple[str, str]:
    """Names of the image and of the class label: those that the set itself pairs, else the usual ones."""
    from tensorflow_datasets.core import features as kinds

    features = builder.info.features
    for pair in (builder.info.supervised_keys, ("image", "label")):
        if pair and len(pair) == 2 and all(isinstance(key, str) and key in features for key in pair):
            image, label = (features[key] for key in pair)
            if isinstance(image, kinds.Image) and isinstance(label, kinds.ClassLabel) and label.names:
                return pair
    raise JaxtlError(
        f"tfds:{name}: not an image classification set with one image and one class label; it has "
        f"{', '.join(features)}"
    )


def _shape(name: str, feature: Image, image_size: int | None) -> tuple[tuple[int, int, int], bool]:
    """Shape of the images as kept, and whether they must be resized to it."""
    if feature.np_dtype != np.uint8:
        raise JaxtlError(f"tfds:{name}: its images are {np.dtype(feature.np_dtype).name}; only uint8 is read")
    height, width, channels = feature.shape
    channels = 1 if channels in (1, 2) else 3
    if height is not None and width is not None:
        return (height, width, channels), False
    if image_size is None:
        raise JaxtlError(f"tfds:{name}: its images differ in size; give image_size")
    return (image_size, image_size, channels), True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the screen what TFDS logs about folders that it looks into, and prints about packages."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        absl.setLevel(level)
