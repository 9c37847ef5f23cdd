"""Sets of TensorFlow Datasets, read without TensorFlow; only preparing one for the first time needs it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtl.data import prepare, splits
from jaxtl.data.files import ImageFiles, Reading
from jaxtl.data.inspection import inspect, refuse
from jaxtl.data.listing import Rows
from jaxtl.data.request import Loaded, Request
from jaxtl.errors import JaxtlError, install
from jaxtl.machine.child import Child
from jaxtl.progress import counted
from jaxtl.records.names import readable
from jaxtl.records.rows import IN_MEMORY
from jaxtl.settings import Selection

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder
    from tensorflow_datasets.core.features import Image

_log = logging.getLogger(__name__)

# Features that hold what an image is called.
_FILE_NAMES = ("file_name", "image/filename", "filename", "image/file_name", "id", "image/id")
# NAMESPACE:NAME, where a version does not follow the colon.
_OF_COMMUNITY = re.compile(r"[\w.-]+:(?!\d|\*|experimental_latest)")
_NEEDED_TO_PREPARE = ("tensorflow", "importlib_resources")


def load(name: str, request: Request) -> Loaded:
    """Read one split of a TFDS image classification set, preparing the set if it is not there yet.

    Preparing downloads the original files, unless they lie in data_dir/downloads/manual under their own
    names, and writes TFDS's array_record files; one INFO line of this module's logger announces it.
    TFDS shuffles while it writes: the images stand in TFDS's order, which is always the same but is not
    that of the original files (`load("tfds:mnist")` holds what `load("mnist")` holds in another order).

    Args:
        name: as `tfds.load` takes it, with configuration and version where wanted.
        request: its `train_split` and `test_split` may be spelled as TFDS does, such as "train[:80%]" or
            "train+validation"; a set without test images is divided. `image_size` is what images are resized
            to where the set declares no fixed size. `data_dir` is by default TFDS_DATA_DIR or
            ~/tensorflow_datasets.

    Returns:
        Images uint8 [n, h, w, 1 or 3], labels int32 [n], class names, and file names where the set has them.

    Raises:
        JaxtlError: an unknown name; a set that cannot be prepared (TensorFlow or the network is missing),
            was prepared as TFRecord, or has no such split, no images or no labels.
    """
    request.refuse(f"tfds:{name}", "split_column")
    builder = _builder(name, request.data_dir)
    # What the set declares is checked before anything is downloaded.
    keys = _keys(name, builder, request.selection)
    shape, varying = _shape(name, builder.info.features[keys[0]], request.reading.image_size)
    if not _is_prepared(builder):
        _prepare(name, builder)
        builder = _builder(name, request.data_dir)
    examples, labels, origin = _chosen(name, builder, keys, request)
    images, kept, left_out = _decoded(name, examples, keys[0], shape, varying, request)
    named = next((key for key in _FILE_NAMES if key in builder.info.features), None)
    ids = None if named is None else np.array([_text(examples[row][named]) for row in kept], dtype=str)
    names = tuple(builder.info.features[keys[1]].names)
    if left_out:
        told = f"{counted(len(left_out), f'unreadable {request.split} image')} left out"
        origin["notes"] = [*origin["notes"], told]
    return Loaded(images, labels[kept], names, ids, {**origin, "left_out": left_out})


def _chosen(
    name: str, builder: DatasetBuilder, keys: tuple[str, str], request: Request
) -> tuple[Sequence[dict[str, Any]], np.ndarray, dict[str, Any]]:
    """Examples of the split that is asked for, their labels, and how it was decided which they are."""
    where, selection = f"tfds:{name}", request.selection
    asked = [split for split in (selection.train_split, selection.test_split) if split]
    if selection.test_split and not selection.train_split and set("[+") & set(selection.test_split):
        raise JaxtlError(
            f"{where}: name the training images too, such as --train-split 'train[:80%]', lest they "
            "hold test images"
        )
    chosen = splits.choose(where, list(dict.fromkeys([*builder.info.splits, *asked])), selection)
    if chosen.test:
        examples = _examples(name, builder, chosen.test if request.split == "test" else chosen.train, keys[0])
        labels = _labels(name, examples, keys[1], request.split)
        rule = {"rule": "splits", "train_split": chosen.train, "test_split": chosen.test}
        return examples, labels, {**rule, "notes": list(chosen.notes)}
    examples = _examples(name, builder, chosen.train, keys[0])
    labels = _labels(name, examples, keys[1], "train")
    is_test = splits.divided(labels, None, selection)
    rows = np.flatnonzero(is_test == (request.split == "test"))
    notes = [*chosen.notes, splits.told(selection)]
    return Rows(examples, rows), labels[rows], {**splits.rule_of(selection), "notes": notes}


def _labels(name: str, examples: Sequence[dict[str, Any]], key: str, split: str) -> np.ndarray:
    labels = np.array([example[key] for example in examples], np.int32)
    if labels.min(initial=0) < 0:
        raise JaxtlError(
            f"tfds:{name}: {np.sum(labels < 0)} of {len(labels)} {split} images have no label, so the split "
            "cannot be used"
        )
    return labels


def _decoded(
    name: str,
    examples: Sequence[dict[str, Any]],
    key: str,
    shape: tuple[int, int, int],
    varying: bool,
    request: Request,
) -> tuple[np.ndarray | ImageFiles, list[int], list[dict[str, str]]]:
    """The first images that are asked for, their rows, and those left out, with the reason.

    They are decoded when they are asked for where together they are large.
    """
    encoded = _Encoded(examples, key)
    looked_at = inspect(encoded, request.samples, request.selection.skip_bad)
    bad = [(f"{request.split} image {row}", reason) for row, reason in looked_at.faults.items()]
    if bad and not request.selection.skip_bad:
        refuse(f"tfds:{name}", len(looked_at.rows) + len(bad), bad)
    if not looked_at.rows:
        raise JaxtlError(f"tfds:{name}: no {request.split} image can be read")
    # What declares a size keeps it, as it is: `preprocess` resizes those as Keras does.
    as_stored = Reading(orientation=False)
    reading = replace(request.reading if varying else as_stored, channels=shape[2])
    images = ImageFiles(Rows(encoded, np.array(looked_at.rows)), reading)
    return (
        images if images.nbytes > IN_MEMORY else np.asarray(images),
        looked_at.rows,
        [{"id": image, "reason": reason} for image, reason in bad],
    )


@dataclass(frozen=True)
class _Encoded(Sequence[bytes]):
    """The encoded images of examples, each read when it is asked for."""

    examples: Sequence[dict[str, Any]]
    key: str

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, row: Any) -> Any:
        return self.examples[int(row)][self.key]


def _text(value: Any) -> str:
    return readable(value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value))


def _builder(name: str, data_dir: Path | None) -> DatasetBuilder:
    if _OF_COMMUNITY.match(name):
        raise JaxtlError(
            f"tfds:{name}: a set of a community, whose code would be fetched and run here; prepare it "
            "yourself, and give its own name with --data-dir"
        )
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
            f"{install('tfds')}"
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

    try:
        # jaxtl decodes by itself: TFDS does not convert palettes and the like to what a set declares.
        return builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
    except NotImplementedError:
        raise JaxtlError(
            f"tfds:{name}: {builder.data_dir} holds {builder.info.file_format.value} files, which only "
            "TensorFlow reads; give another data_dir to prepare the set anew"
        ) from None
    except Exception as error:  # TFDS reads the spelling of a split, and says in many ways that it cannot
        known = ", ".join(builder.info.splits)
        raise JaxtlError(
            f"tfds:{name}: cannot read the split {split} ({prepare.first_line(error)}); it has {known}"
        ) from None


def _keys(name: str, builder: DatasetBuilder, selection: Selection) -> tuple[str, str]:
    """Names of the image and of the class label: as asked for, as the set pairs them, or usual ones."""
    from tensorflow_datasets.core import features as kinds

    features = builder.info.features
    own = builder.info.supervised_keys
    usual = own if own and len(own) == 2 and all(isinstance(key, str) for key in own) else ("image", "label")
    asked = (selection.image_column or usual[0], selection.label_column or usual[1])
    for pair in (asked,) if asked != usual else (usual, ("image", "label")):
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
