"""What settings may be: ranges of numbers, flags, texts, and one line for all else; light to import."""

from __future__ import annotations

import os
from dataclasses import MISSING, dataclass, fields
from numbers import Integral, Real
from typing import Any

from jaxtl.errors import JaxtlError

# The largest whole number that libraries in C and indices of rows hold.
LARGEST_WHOLE = 2**31 - 1
# Texts that may be given as whole numbers too.
_NUMBERED = ("trainable",)
# Values longer than this are cut where a message shows them.
_SHOWN = 60


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both finite.

    Attributes:
        whole: whether fractions are out, those of a float such as 2.0 too.
        above, below: whether `low` itself, or `high`, is out.
    """

    low: float
    high: float
    whole: bool = False
    above: bool = False
    below: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        first = "above" if self.above else "from"
        last = "and below" if self.below else "and up to" if self.above else "to"
        return f"{kind} {first} {_spelled(self.low)} {last} {_spelled(self.high)}"

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        # NumPy's own comparisons end where its types do. Written so that what is not a number is out.
        value = value.item() if hasattr(value, "item") else value
        if not self.low <= value <= self.high:
            return False
        return not ((self.above and value == self.low) or (self.below and value == self.high))

    def checked(self, name: str, value: Any) -> Any:
        """The value, a NumPy scalar as Python's own number. Raises JaxtlError where it is outside."""
        if value not in self:
            raise JaxtlError(f"{name}: must be {self}, got {shown(value)}")
        return value.item() if hasattr(value, "item") else value

    def read(self, text: str) -> Any:
        """The number that a text is. Raises JaxtlError for any other text, and for one outside."""
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            value = text
        if value not in self:
            raise JaxtlError(f"{shown(text)} is not {self}")
        return value


SEED = Range(0, 2**32 - 1, whole=True)
IMAGE_SIZE = Range(32, 1024, whole=True)
SHARE = Range(0, 1, above=True, below=True)
_ANY_WHOLE = Range(-LARGEST_WHOLE, LARGEST_WHOLE, whole=True)
_IMAGES = Range(1, 1_000_000_000, whole=True)
# What each setting that is a number may be, by the name that it has everywhere. What follows from the number
# of images is checked where that is known.
RANGES = {
    "samples": _IMAGES,
    "train_samples": _IMAGES,
    "image_size": IMAGE_SIZE,
    "epochs": Range(1, 1_000_000, whole=True),
    "batch_size": Range(1, 1_000_000, whole=True),
    # float32 holds neither much smaller nor much larger ones.
    "learning_rate": Range(1e-30, 1e30),
    "perplexity": Range(0, 1e9, above=True),
    "n_neighbors": Range(1, LARGEST_WHOLE, whole=True),
    "seed": SEED,
    "split_seed": SEED,
    "test_share": SHARE,
    "recall": SHARE,
    "points": Range(1, LARGEST_WHOLE, whole=True),
    "dpi": Range(30, 2400),
    "processes": Range(1, 65_536, whole=True),
    "process_id": Range(0, 65_535, whole=True),
    "devices": Range(1, 65_536, whole=True),
    "forecast": Range(3, 1_000_000_000_000, whole=True),
    # Some 30 years.
    "time_limit": Range(0, 1e9, above=True),
    "memory_limit": Range(0, 1e9, above=True),
}


def settle(settings: Any) -> None:
    """Check all fields of a frozen dataclass of settings, each by its type and its row of `RANGES`.

    NumPy's scalars, lists and paths become what the fields' types say, so that any file can hold them.

    Raises JaxtlError for a number outside its range, a flag that is neither True nor False, and a text that
    is none or is blank, unless the default is.
    """
    for part in fields(settings):
        value, kind = getattr(settings, part.name), str(part.type)
        if value is None and "None" in kind:
            continue
        if part.name in RANGES:
            value = RANGES[part.name].checked(part.name, value)
        elif kind == "bool":
            value = _flag(part.name, value)
        elif kind.startswith("tuple[str"):
            value = _texts(part.name, value)
        elif kind.startswith("str"):
            value = str(value) if part.name in _NUMBERED and value in _ANY_WHOLE else value
            value = text(part.name, value, blank=part.default == "" and part.default is not MISSING)
        object.__setattr__(settings, part.name, value)


def text(name: str, value: Any, blank: bool = False) -> str:
    """A text, or a path as one. Raises JaxtlError for what is neither, or is blank where that may not be."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise JaxtlError(f"{name}: must be a text, got {shown(value)}")
    if not (blank or value.strip()):
        raise JaxtlError(f"{name}: is empty; give a value, or leave it out for the default")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise JaxtlError(f"{name}: {value} is not UTF-8, so that no file can hold it; rename it") from None
    return str(value)


def _flag(name: str, value: Any) -> bool:
    # NumPy's own has the same words.
    if str(value) not in ("True", "False") or isinstance(value, str):
        raise JaxtlError(f"{name}: must be True or False, got {shown(value)}")
    return bool(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise JaxtlError(f"{name}: must be a list of names, got {shown(value)}")
    return tuple(dict.fromkeys(value))


def shown(value: Any) -> str:
    """A value as a message shows it: in one line, and cut where it is long."""
    try:
        said = " ".join(repr(value).split())
    except ValueError:  # Python writes no whole number of thousands of digits
        said = f"a whole number of {value.bit_length()} bits"
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."


def _spelled(number: float) -> str:
    if isinstance(number, int):
        return f"{number:,}" if number >= 10_000 else str(number)
    return f"{number:g}"
