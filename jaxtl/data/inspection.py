"""A look at image files before any work: which cannot be read, how large they are, and whether they are
gray."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from jaxtl.data.decode import UNREADABLE, decode, look, tried
from jaxtl.errors import JaxtlError
from jaxtl.machine.host import cpu_count

# Names of files in an error of one line.
_NAMED = 50
# Files that are looked at before it is asked whether there are enough.
_PIECE = 512
# What Pillow calls an image that is no file.
_STREAM = re.compile(r"<_io\.BytesIO [^>]*>")
# A reason in an error or a record.
_LONGEST = 160

Kind = tuple[int, int, int]


@dataclass
class Inspected:
    """Images that can be read.

    Attributes:
        rows: their rows, in order.
        kinds: height, width and channels (1 or 3) of each.
        faults: of the others: row and reason.
    """

    rows: list[int] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        return max((channels for _, _, channels in self.kinds), default=3)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, where all have the same."""
        sizes = {kind[:2] for kind in self.kinds}
        return sizes.pop() if len(sizes) == 1 else None


def inspect(sources: Sequence[Path | bytes], wanted: int | None, skip_bad: bool) -> Inspected:
    """Decode images to find those that cannot be, in threads; JPEGs at an eighth of their size, which is
    faster.

    Args:
        sources: files, or encoded images.
        wanted: the first so many are looked at, and where bad ones are left out so many good ones; None takes
            all.
        skip_bad: whether bad ones are left out.
    """
    inspected, total = Inspected(), len(sources) if wanted is None else min(wanted, len(sources))
    start, stop = 0, min(total, _PIECE)
    with ThreadPoolExecutor(cpu_count()) as pool:
        while start < stop:
            # Each is taken out in its thread: together, encoded photos may be more than memory holds.
            kinds = pool.map(lambda row: _look(sources[row]), range(start, stop))
            for row, kind in enumerate(kinds, start):
                if isinstance(kind, str):
                    inspected.faults[row] = kind
                else:
                    inspected.rows.append(row)
                    inspected.kinds.append(kind)
            # Those left out are made up for.
            needed = total - (len(inspected.rows) if skip_bad else stop)
            start, stop = stop, min(stop + min(needed, _PIECE), len(sources))
    return inspected


def _look(source: Path | bytes) -> Kind | str:
    """Height, width and channels, or why the image cannot be read."""
    try:
        return _decoded(source)
    except FileNotFoundError:
        return "no such file"
    except UNREADABLE as error:
        return _reason(error, source)


def _decoded(source: Path | bytes) -> Kind:
    kind = look(source)
    if not tried(source):
        decode(source, kind[2])
    return kind


def _reason(error: Exception, source: Path | bytes) -> str:
    lines = _STREAM.sub("", str(error).replace(repr(str(source)), "")).strip().splitlines()
    text = lines[0].rstrip() if lines else type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def refuse(where: str, count: int, faults: Sequence[tuple[str, str]]) -> NoReturn:
    """Raises JaxtlError for images that cannot be read: all counted, and named up to 50 of them.

    Args:
        where: the set.
        count: of images that were looked at.
        faults: what each bad image is called, and why it cannot be read.
    """
    named = "; ".join(f"{name} ({reason})" for name, reason in faults[:_NAMED])
    more = f"; and {len(faults) - _NAMED:,} more" if len(faults) > _NAMED else ""
    raise JaxtlError(
        f"{where}: {len(faults):,} of {count:,} are unreadable images; replace or remove them, or leave them "
        f"out with --skip-bad: {named}{more}"
    )
