"""Names of classes and of images: any script, whatever the file system's bytes are."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable

import numpy as np

# Halves of letters that stand for no byte of a file's name.
_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def readable(name: str | os.PathLike[str]) -> str:
    """A name as text that any file can hold: composed (NFC), and bytes that are no UTF-8 as \\xNN.

    Control characters stay: `jaxtl.errors.shown` spells them where a name is shown.

    File systems keep one name in two spellings, macOS decomposed and others as it was typed: they are one
    name here.
    """
    halves = _HALVES.sub(lambda half: f"\\u{ord(half[0]):04x}", os.fspath(name))
    text = halves.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text)


def is_text(name: str) -> bool:
    """Whether a name is Unicode throughout, so that it may be written to a file."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def as_ids(names: np.ndarray) -> np.ndarray:
    """Text, of the same shape, of what images are called, readable."""
    texts = names.astype(str)
    written = texts.ravel().tolist()
    if is_text("\n".join(written)):
        return texts
    return np.array([readable(name) for name in written], dtype=str).reshape(texts.shape)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Different class names, sorted: by number where all are whole numbers, else as text."""
    different = set(names)
    numbers = all(name.isascii() and name.removeprefix("-").isdecimal() for name in different)
    return tuple(sorted(different, key=(lambda name: (int(name), name)) if numbers else None))


def numbered(classes: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """int32 [n], the place of each image's class in `names`."""
    place = {name: k for k, name in enumerate(names)}
    return np.fromiter((place[name] for name in classes), np.int32, len(classes))
