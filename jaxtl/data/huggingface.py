"""Sets that Hugging Face's library `datasets` has saved to disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtl.data import columns
from jaxtl.data.listing import Listing
from jaxtl.data.request import Loaded, Request
from jaxtl.errors import JaxtlError, install
from jaxtl.records.names import readable

_ONE_SPLIT = "all"
# Encoded images in memory at a time.
_PIECE = 256


def load(path: Path, request: Request) -> Loaded:
    """Read one split of a folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` has made.

    The image is the column of that kind; the class is the column of kind ClassLabel, or one of a usual name
    (`jaxtl.data.columns`); `request.selection` names others. An image's id is its path where the set keeps
    that, else the split and the row.

    Raises:
        JaxtlError: the library is not installed, the folder is no such set, it has no images or classes; or
            as of `Listing.read`.
    """
    where = readable(path)
    parts = _opened(path)
    by_split = {name: _Images(part, *_columns(where, part, request)) for name, part in parts.items()}
    pieces = list(by_split.values())
    if len({piece.class_names for piece in pieces}) > 1:
        raise JaxtlError(f"{where}: its splits declare different classes; save them with the same ClassLabel")
    splits = [name for name, piece in by_split.items() for _ in range(len(piece))]
    ids = [
        f"{name}/{text}" if len(by_split) > 1 else text
        for name, piece in by_split.items()
        for text in piece.ids()
    ]
    return Listing(
        where,
        _Chained(pieces),
        [name for piece in pieces for name in piece.classes()],
        ids,
        None if list(by_split) == [_ONE_SPLIT] else splits,
        pieces[0].class_names,
    ).read(request)


def _opened(path: Path) -> dict[str, Any]:
    """The set's parts by the names of its splits."""
    try:
        import datasets
    except ImportError:
        raise JaxtlError(f"hf: is read by Hugging Face's library: {install('hf')}") from None
    if not path.is_dir():
        raise JaxtlError(f"{readable(path)}: no such folder; make one with Dataset.save_to_disk")
    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # whatever the library meets in a folder that it did not write
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise JaxtlError(f"{readable(path)}: not a set that Dataset.save_to_disk made ({reason})") from None
    return dict(saved) if isinstance(saved, datasets.DatasetDict) else {_ONE_SPLIT: saved}


def _columns(where: str, part: Any, request: Request) -> tuple[str, str]:
    import datasets

    wanted, features = request.selection, part.features
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    classes = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    image = columns.pick(where, list(features), wanted.image_column, (*columns.IMAGE, *images), "image")
    if image not in images:
        raise JaxtlError(
            f"{where}: column {image} holds no images; those of kind Image are {', '.join(images) or 'none'}"
        )
    # Several kinds of classes, such as coarse ones, are told apart by their names.
    usual = tuple(classes) if len(classes) == 1 else columns.LABEL
    return image, columns.pick(where, list(features), wanted.label_column, usual, "label")


class _Images(Sequence[Any]):
    """The images of one split, encoded, each read when it is asked for."""

    def __init__(self, part: Any, image: str, label: str) -> None:
        import datasets

        # As they were stored: the library would decode all, and turn them by itself.
        self._part = part.cast_column(image, datasets.Image(decode=False))
        self._image, self._label = image, label
        kind = part.features[label]
        self.class_names = tuple(kind.names) if isinstance(kind, datasets.ClassLabel) else None

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, row: Any) -> Any:
        value = self._part[int(row)][self._image] or {}
        if value.get("bytes") is not None:
            return value["bytes"]
        return Path(value["path"]) if value.get("path") else b""

    def classes(self) -> list[str]:
        values = list(self._part[self._label])
        if any(value is None or (self.class_names and value < 0) for value in values):
            raise JaxtlError(
                f"hf: column {self._label} has images without a class, so the split cannot be used"
            )
        if self.class_names is None:
            return [str(value) for value in values]
        return [self.class_names[value] for value in values]

    def ids(self) -> list[str]:
        """Paths as they were stored; rows where there are none, or two are alike."""
        only = self._part.select_columns([self._image])
        paths = [
            (value or {}).get("path") or ""
            for start in range(0, len(only), _PIECE)
            for value in only[start : start + _PIECE][self._image]
        ]
        unique = len(set(paths)) == len(paths) and all(paths)
        return paths if unique else [f"row {row}" for row in range(len(paths))]


class _Chained(Sequence[Any]):
    """Several sequences as one."""

    def __init__(self, parts: Sequence[Sequence[Any]]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __getitem__(self, row: Any) -> Any:
        at = int(row)
        for part in self._parts:
            if at < len(part):
                return part[at]
            at -= len(part)
        raise IndexError(row)
