"""Images in folders: a folder a class, with or without folders of splits above them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jaxtl.data.formats import SUFFIXES
from jaxtl.data.listing import Listing
from jaxtl.data.request import Loaded, Request
from jaxtl.data.splits import role_of
from jaxtl.errors import JaxtlError
from jaxtl.progress import counted
from jaxtl.records.names import readable

_LAYOUT = "images must lie in PATH/CLASS/, or in PATH/train/CLASS/ and PATH/test/CLASS/"
# What Apple's archives and Synology's servers leave beside the files themselves.
_NO_FOLDERS = {"__MACOSX", "@eaDir"}


def load(root: Path, request: Request) -> Loaded:
    """Read one split of a folder of images.

    Classes are folders; what lies in folders within them, however deep, belongs to them. Above them may be
    folders of splits, known by their names (train, training; test, testing; val, valid, validation; in any
    case), or named by `request.selection`. A folder without test images is divided. Images are files whose
    names end in one of `jaxtl.data.formats.SUFFIXES`; other files and hidden ones are passed over and
    counted. Links are followed.

    Returns:
        As of `Listing.read`; ids are paths within `root`, with slashes.

    Raises:
        JaxtlError: there is no such folder, or nothing in it that could be classes; or as of `Listing.read`.
    """
    return find(root, request).read(request)


def find(root: Path, request: Request) -> Listing:
    """All images of a folder. Raises JaxtlError as `load`."""
    if not root.is_dir():
        missing = "is a file, not a folder" if root.exists() else "no such folder"
        raise JaxtlError(f"{readable(root)}: {missing} (here that is {readable(root.absolute())})")
    seen = _Seen(root)
    asked = [name for name in (request.selection.train_split, request.selection.test_split) if name]
    base, notes = _unwrapped(root, asked)
    split_folders = _split_folders(base, asked)
    for split, folder in (split_folders or {None: base}).items():
        seen.add_split(split, folder)
    if split_folders:
        seen.pass_over_beside(base, set(split_folders.values()))
    if not seen.sources:
        raise JaxtlError(seen.nothing(base, split_folders))
    known = seen.splits if split_folders else None
    return Listing(readable(root), seen.sources, seen.classes, seen.ids, known, notes=(*notes, *seen.notes()))


def _unwrapped(root: Path, asked: list[str]) -> tuple[Path, list[str]]:
    """The folder that holds splits or classes: within `root` where that holds one folder and no images."""
    base = root
    while not asked:
        inner, files = _entries(base)
        if len(inner) != 1 or any(map(_is_image, files)) or len(_entries(inner[0])[0]) < 2:
            break
        base = inner[0]
    return base, [] if base == root else [f"images are taken from {readable(base)}"]


def _split_folders(base: Path, asked: list[str]) -> dict[str, Path]:
    """Folders of splits by name; none where the folders in `base` are classes."""
    inner = {folder.name: folder for folder in _entries(base)[0]}
    if asked:
        # By any name, even one with slashes.
        of_role = {name: path for name, path in inner.items() if role_of(name)}
        return _with_classes(of_role) | {name: base / name for name in asked if (base / name).is_dir()}
    named = {name: path for name, path in inner.items() if role_of(name)}
    roles = {role_of(name) for name in named}
    # A set of vehicles may have trains among its classes, but hardly tests and trains.
    if named and (len(inner) == len(named) or ("train" in roles and len(roles) > 1)):
        return _with_classes(named) or named
    return {}


def _with_classes(named: dict[str, Path]) -> dict[str, Path]:
    """Those that hold folders: test images of a contest have no classes."""
    return {name: path for name, path in named.items() if _entries(path)[0]}


@dataclass
class _Seen:
    """What was come upon in a folder, and what of it was passed over."""

    root: Path
    sources: list[Path] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    empty: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    within: set[str] = field(default_factory=set)

    def add_split(self, split: str | None, folder: Path) -> None:
        classes, loose = _entries(folder)
        self.outside += sum(_is_image(path) for path in loose)
        self._count(path for path in loose if not _is_image(path))
        for of_class in classes:
            self._add_class(split, of_class)

    def _add_class(self, split: str | None, folder: Path) -> None:
        files = sorted(_walk(folder))
        self.within.update(path.name for path in _entries(folder)[0] if role_of(path.name))
        images = [path for path in files if _is_image(path)]
        self._count(path for path in files if not _is_image(path))
        if not images:
            self.empty.append(readable(folder.relative_to(self.root)))
        self.sources += images
        self.classes += [folder.name] * len(images)
        self.ids += [readable(path.relative_to(self.root).as_posix()) for path in images]
        self.splits += [split or ""] * len(images)

    def pass_over_beside(self, base: Path, taken: set[Path]) -> None:
        """Count what lies beside the folders of splits."""
        folders, files = _entries(base)
        self.beside += [readable(path.name) for path in folders if path not in taken]
        self.outside += sum(_is_image(path) for path in files)
        self._count(path for path in files if not _is_image(path))

    def _count(self, paths: Iterator[Path]) -> None:
        self.others.update(readable(path.suffix.lower()) or "no suffix" for path in paths)

    def notes(self) -> list[str]:
        """A line on what was passed over."""
        parts = [f"{count:,} {suffix}" for suffix, count in self.others.most_common(6)]
        if len(self.others) > 6:
            parts.append(
                f"{sum(self.others.values()) - sum(n for _, n in self.others.most_common(6)):,} others"
            )
        total = counted(sum(self.others.values()), "file that is no image", "files that are no images")
        told = [f"{total} ({', '.join(parts)})"] if parts else []
        if self.outside:
            told.append(f"{counted(self.outside, 'image')} outside the folders of classes")
        for what, names in (("empty folders", self.empty), ("folders", self.beside)):
            if names:
                told.append(f"{what} {', '.join(names[:5])}{' ...' * (len(names) > 5)}")
        passed_over = [f"passed over: {'; '.join(told)}"] if told else []
        return passed_over + self._splits_within()

    def _splits_within(self) -> list[str]:
        """A line where classes hold what may be meant as splits."""
        if len({role_of(name) for name in self.within}) < 2:
            return []
        names = " and ".join(sorted(map(readable, self.within)))
        return [
            f"folders {names} within classes are taken together: splits are folders above the classes, or a "
            "column of a table"
        ]

    def nothing(self, base: Path, split_folders: dict[str, Path]) -> str:
        """Why there are no images."""
        looked_in = ", ".join(readable(path) for path in split_folders.values()) or readable(base)
        if self.empty:
            return f"{looked_in}: holds no images ({' '.join(SUFFIXES)}) in {', '.join(self.empty[:5])}"
        held = "holds images but" if self.outside else "holds no images and"
        return f"{looked_in}: {held} has no class folders; {_LAYOUT}"


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders and files, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        visible = sorted((entry.name, _is_folder(entry)) for entry in entries if _visible(entry.name))
    folders = [folder / name for name, is_folder in visible if is_folder]
    return folders, [folder / name for name, is_folder in visible if not is_folder]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself is told of where images are read
        return False


def _walk(top: Path) -> Iterator[Path]:
    """All files, however deep; a folder that links lead to again, as to one above, is walked once.

    Folders whose links lead to each other would be walked in every order, of which there are millions.
    """
    known, left = {_identity(top)}, [top]
    while left:
        folders, files = _entries(left.pop())
        yield from files
        for inner in folders:
            if (identity := _identity(inner)) not in known:
                known.add(identity)
                left.append(inner)


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _visible(name: str) -> bool:
    return not name.startswith(".") and name not in _NO_FOLDERS
