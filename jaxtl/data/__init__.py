"""Labelled images by name: `load` and its one table of sources."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from jaxtl.data import arrays, folder, huggingface, idx, infinite, table, tfds
from jaxtl.data.files import Reading
from jaxtl.data.request import Loaded, Request
from jaxtl.errors import JaxtlError
from jaxtl.ranges import RANGES, Range
from jaxtl.records.dataset import Dataset
from jaxtl.records.names import is_text, readable
from jaxtl.records.places import expanded
from jaxtl.settings import Images, Selection

SPLITS = ("train", "test")
# Pixels a side that images may be resized to, whatever network they are for.
_SIDE = Range(1, 16_384, whole=True)
# What a set is called that was given in Python.
GIVEN = "given"

Loader = Callable[[str, Request], Loaded]

_COLUMNS = ("image_column", "label_column", "split_column")
_OWN_SPLITS = ("test_share", "train_split", "test_split", *_COLUMNS)


def _mnist(_: str, request: Request) -> Loaded:
    request.refuse("mnist", *_OWN_SPLITS)
    return _first(Loaded(*idx.load(resources.files("jaxtl") / "assets", request.split)), request)


def _idx(path: str, request: Request) -> Loaded:
    request.refuse(f"idx:{path}", *_OWN_SPLITS)
    return _first(Loaded(*idx.load(expanded(path), request.split)), request)


def _infinite(count: str, request: Request) -> Loaded:
    request.refuse(f"infinite:{count}", *_OWN_SPLITS)
    return _first(Loaded(*infinite.load(count, request.split)), request)


def _folder(path: str, request: Request) -> Loaded:
    request.refuse(f"folder:{path}", *_COLUMNS)
    return folder.load(expanded(path), request)


def _csv(path: str, request: Request) -> Loaded:
    return table.load_csv(expanded(path), request)


def _parquet(path: str, request: Request) -> Loaded:
    return table.load_parquet(expanded(path), request)


def _arrays(path: str, request: Request) -> Loaded:
    return arrays.load(expanded(path), request)


def _hf(path: str, request: Request) -> Loaded:
    request.refuse(f"hf:{path}", "split_column")
    return huggingface.load(expanded(path), request)


def _given(name: str, request: Request) -> Loaded:
    raise JaxtlError(
        f"dataset {GIVEN}:{name}: was given in Python, and only there can it be given again: "
        "jaxtl.run(config, dataset, out=FOLDER) with the same images goes on"
    )


# What stands before the colon -> what stands after it, and what reads it.
SOURCES: dict[str, tuple[str | None, Loader]] = {
    "mnist": (None, _mnist),
    "idx": ("FOLDER", _idx),
    "tfds": ("NAME", tfds.load),
    "folder": ("PATH", _folder),
    "infinite": ("N", _infinite),
    "csv": ("FILE", _csv),
    "parquet": ("FILE", _parquet),
    "arrays": ("FILE.npz", _arrays),
    "hf": ("FOLDER", _hf),
}
# Of these, whose images are decoded when they are asked for.
_IN_FILES = ("folder", "csv", "parquet", "hf")
# Of these, whose argument is a path.
_PATHS = ("idx", "folder", "csv", "parquet", "arrays", "hf")
# Names that only Python gives.
_HIDDEN = {GIVEN: ("NAME", _given)}
# What a bare path is by its suffix; a folder is looked into.
_BY_SUFFIX = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".npz": "arrays"}


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
    samples: int | None = None,
    test_share: float | None = None,
    split_seed: int = 0,
    train_split: str | None = None,
    test_split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Read one split of a set of labelled images.

    Args:
        name: a path, or one of
            "mnist": the 70,000 digits that come with jaxtl;
            "idx:FOLDER": the four IDX files under MNIST's names, gzipped or not, as Fashion-MNIST and
            KMNIST are published, with a classes.txt that names the classes, or none;
            "tfds:NAME": an image classification set of TensorFlow Datasets, NAME as `tfds.load` takes it,
            such as "tfds:cifar10" or "tfds:emnist/letters";
            "folder:PATH": images in a folder for each class, with folders of splits above them or none; a
            bare path to a folder is the same (`jaxtl.data.folder`);
            "csv:FILE", "parquet:FILE": a table with a column of images and one of classes
            (`jaxtl.data.table`); "arrays:FILE.npz": arrays of images and labels (`jaxtl.data.arrays`);
            "hf:FOLDER": what Hugging Face's `Dataset.save_to_disk` made, where that library is installed;
            "infinite:N": N deformed training digits, made when they are asked for, and MNIST's test digits;
            see `jaxtl.data.infinite`.
        split: "train" or "test"; the test images are the validation images where a set has no others, and a
            share of each class where it has neither.
        image_size: height and width, in pixels, that images in files are resized to when they are read;
            without it they must all have one size. Sets that come as arrays, whose images all have one size,
            are kept as they are: `preprocess` resizes those later.
        antialias, orientation, alpha, fit: how images in files become pixels, see `jaxtl.Images`.
        data_dir: where TFDS keeps its sets, by default the environment variable TFDS_DATA_DIR or
            ~/tensorflow_datasets. TFDS takes original files that you fetched yourself from
            data_dir/downloads/manual. Other sources do not use it.
        samples: read the first so many images, or all where there are fewer.
        test_share, split_seed, train_split, test_split, image_column, label_column, split_column, skip_bad:
            see `jaxtl.settings.Selection`.

    Returns:
        A Dataset with uint8 images [n, h, w, 1 or 3]: in the source's own order, or, of files, with the
        classes spread evenly. Image files are decoded when they are asked for, if `image_size` is given.
        `Dataset.notes` tells what was passed over or left out.

    Raises:
        JaxtlError: an unknown name or split, files that are missing or damaged, labels that are missing,
            or images of varying size without `image_size`.
    """
    if split not in SPLITS:
        raise JaxtlError(f"dataset {name}: split must be 'train' or 'test', got {split!r}")
    if image_size is not None:
        _SIDE.checked(f"dataset {name}: image_size", image_size)
    if samples is not None:
        RANGES["samples"].checked(f"dataset {name}: samples", samples)
    selection = Selection(
        test_share, split_seed, train_split, test_split, image_column, label_column, split_column, skip_bad
    )
    # "auto" averages images in files; what is an array is resized later, where "auto" means as Keras does it.
    pixels = Images(antialias=antialias, orientation=orientation, alpha=alpha, fit=fit)
    reading = Reading(image_size, pixels.antialias != "off", pixels.orientation == "exif", alpha, fit)
    kind, argument = spelled(name)
    directory = expanded(data_dir) if data_dir is not None else None
    loader = (SOURCES | _HIDDEN)[kind][1]
    images, labels, class_names, ids, origin = loader(
        argument, Request(split, reading, samples, selection, directory)
    )
    return Dataset(images, labels, class_names, split, name, ids=ids, origin=origin)


def spelled(name: str) -> tuple[str, str]:
    """The kind of a set, a key of `SOURCES`, and what reads it by: the same for all ways to write it.

    Raises JaxtlError for what is neither a known kind nor a path to something.
    """
    if not is_text(name):
        raise JaxtlError(
            f"dataset {readable(name)}: its path is not UTF-8, so no file can hold it; rename it"
        )
    if "\0" in name:
        raise JaxtlError(f"dataset {name}: no path has a NUL in it; give another name")
    kind, colon, argument = name.partition(":")
    known = SOURCES | _HIDDEN
    if kind in known and bool(argument) == (known[kind][0] is not None) and bool(argument) == bool(colon):
        return kind, argument
    path = expanded(name)
    if name and kind not in known and path.exists():
        return _kind_of(path), name
    known_here = ", ".join(known_names())
    raise JaxtlError(f"unknown dataset {name!r}; known are {known_here}, and paths to what exists")


def _kind_of(path: Path) -> str:
    """What a bare path is."""
    if path.is_dir():
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            return "hf"
        if any(path.glob("train-images-idx3-ubyte*")):
            return "idx"
        only_parquet = any(path.glob("*.parquet")) and not any(entry.is_dir() for entry in path.iterdir())
        return "parquet" if only_parquet else "folder"
    if path.suffix.lower() not in _BY_SUFFIX:
        raise JaxtlError(f"{path}: neither a folder nor a {', '.join(_BY_SUFFIX)} file; give one of these")
    return _BY_SUFFIX[path.suffix.lower()]


def absolute(name: str) -> str:
    """A set's name, by which it is found from any working directory; what is no path stays as it is."""
    try:
        kind, argument = spelled(name)
    except JaxtlError:
        return name
    if kind not in _PATHS:
        return name
    path = os.path.abspath(expanded(argument))
    return f"{kind}:{path}" if name.startswith(f"{kind}:") else path


def reads_files(name: str) -> bool:
    """Whether a set's images are encoded ones, each decoded when it is asked for. Raises as `spelled`."""
    return spelled(name)[0] in _IN_FILES


def place_of(name: str) -> Path | None:
    """The file or folder that a set is read from; None where it is found by a name. Raises as `spelled`."""
    kind, argument = spelled(name)
    return None if SOURCES.get(kind, (None,))[0] in (None, "N", "NAME") else expanded(argument)


def holds_images_alone(name: str) -> bool:
    """Whether a set is a folder in which every folder is a class. Raises as `spelled`."""
    return spelled(name)[0] == "folder"


def short_name(name: str) -> str:
    """What a set is called in a title or in a folder's name: of a path its last part, without a suffix."""
    kind, colon, argument = name.partition(":")
    kind = kind if colon and kind in SOURCES | _HIDDEN else ""
    if kind in ("tfds", "infinite", GIVEN) or name in SOURCES:
        return argument or name
    path = expanded(argument if kind else name)
    last = path.name if path.name not in ("", "..") else path.resolve().name
    return Path(last).stem if Path(last).suffix.lower() in _BY_SUFFIX else last or name


def known_names() -> list[str]:
    """The names that `load` takes, their open parts in capitals."""
    return [kind if part is None else f"{kind}:{part}" for kind, (part, _) in SOURCES.items()]


def _first(loaded: Loaded, request: Request) -> Loaded:
    """The first images that are asked for; what is made when it is asked for stays so."""
    if request.samples is None or request.samples >= len(loaded.labels):
        return loaded
    first = getattr(loaded.images, "first", None)
    images = first(request.samples) if first else loaded.images[: request.samples]
    return loaded._replace(images=images, labels=loaded.labels[: request.samples])
