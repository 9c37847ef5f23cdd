"""Fonts that have the letters of names: the one that comes with matplotlib, else some of the machine's."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

# Comes with matplotlib, so that files do not depend on the machine where it has all letters.
OURS = "DejaVu Sans"
# Has a box for every letter, so that it seems to have all.
_BOXES = "lastresort"


def give_letters(figure: Figure) -> None:
    """Write a figure's texts in fonts that have their letters, as far as there are any."""
    texts = [text for text in figure.findobj(Text) if lacking(text.get_text())]
    families = tuple(others(frozenset().union(*(lacking(text.get_text()) for text in texts))))
    for text in texts:
        text.set_family([*text.get_fontfamily(), *families])
        # Few of these have a bold font, and matplotlib tells of each that has none.
        text.set_fontweight("normal")


def can_write(text: str) -> bool:
    """Whether a font on this machine has all letters of a text."""
    wanted = lacking(text)
    return not wanted or not _left(wanted, others(wanted))


def lacking(text: str) -> frozenset[str]:
    """The letters of a text that our font does not have."""
    return frozenset(letter for letter in text if letter.isprintable() and ord(letter) not in _ours())


@functools.cache
def others(wanted: frozenset[str]) -> list[str]:
    """Families of fonts on this machine that have letters, those first that have most; none for no letter."""
    families: list[str] = []
    while wanted:
        shares = {name: len(wanted - _left(wanted, [name])) for name in font_files() if name not in families}
        # Of those that have as many, a font without serifs, and then the first by its name.
        best = max(shares, key=lambda name: (shares[name], _is_plain(name)), default="")
        if not best or not shares[best]:
            break
        families.append(best)
        wanted = _left(wanted, [best])
    return families


def _left(wanted: frozenset[str], families: Iterable[str]) -> frozenset[str]:
    """The letters that none of some families has."""
    for name in families:
        has = letters_of(font_files()[name])
        wanted = frozenset(letter for letter in wanted if ord(letter) not in has)
    return wanted


@functools.cache
def font_files() -> dict[str, str]:
    """The machine's families, by name, with the file of each one's plainest font."""
    _take_new()
    fonts = sorted(
        font_manager.fontManager.ttflist,
        key=lambda font: (font.name, font.style != "normal", abs(_weight(font.weight) - 400), font.fname),
    )
    plainest: dict[str, str] = {}
    for font in fonts:
        if _BOXES not in font.name.lower().replace(" ", ""):
            plainest.setdefault(font.name, font.fname)
    return plainest


def _take_new() -> None:
    """Fonts that came after matplotlib wrote its list of them, which it reads ever after."""
    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in sorted({*font_manager.findSystemFonts()} - known):
        # What is no font that it can read is none that could be used.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            font_manager.fontManager.addfont(path)


def _weight(weight: int | str) -> int:
    return weight if isinstance(weight, int) else font_manager.weight_dict.get(weight, 400)


def _is_plain(name: str) -> bool:
    return any(word in name.lower() for word in ("sans", "gothic", "hei")) and "mono" not in name.lower()


@functools.cache
def _ours() -> frozenset[int]:
    return letters_of(font_manager.findfont(OURS))


@functools.lru_cache(maxsize=64)
def letters_of(path: str) -> frozenset[int]:
    """Code points that a font's file has; none where it cannot be read."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
