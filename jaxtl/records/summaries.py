"""What is shown of a record where a user prints it: one line, or a small table in a notebook; no arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from jaxtl.errors import shown

# Names that are shown of a list, and letters of a text.
_NAMES, _LETTERS = 6, 60


class Table(NamedTuple):
    """Cells under a head; numbers stand on the right."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Summary(NamedTuple):
    """A title, what is known by name, and the table below it, if there is one."""

    title: str
    rows: Sequence[tuple[str, str]]
    table: Table | None = None

    @property
    def line(self) -> str:
        """All of it but the table, in one line."""
        told = ", ".join(_worded(name, value) for name, value in self.rows)
        return shown(f"<{self.title}: {told}>")

    @property
    def html(self) -> str:
        """All of it, for a notebook."""
        rows = "".join(
            f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}'
            "</td></tr>"
            for name, value in self.rows
        )
        table = _html(self.table) if self.table else ""
        return f"<div><b>{escape(self.title)}</b><table>{rows}</table>{table}</div>"


class Told:
    """A record that is printed by its `summary`."""

    def summary(self) -> Summary:
        """What is shown of it instead of its arrays."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.summary().line

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return self.summary().html


def of_rows(class_names: Sequence[str], ids: np.ndarray | None) -> list[tuple[str, str]]:
    """The classes, or that nobody knows them, and the first ids, where there are some."""
    classes = f"{len(class_names):,} ({listed(class_names)})" if class_names else "unknown"
    return [("classes", classes), *([] if ids is None else [("ids", listed(ids[:2].tolist(), len(ids)))])]


def listed(names: Iterable[str], count: int | None = None) -> str:
    """The first of some names; `count` is how many there are where only the first are given."""
    names = list(names)
    first = ", ".join(shortened(name, _LETTERS // 2) for name in names[:_NAMES])
    return first + (", ..." if (count or len(names)) > min(len(names), _NAMES) else "")


def shortened(text: str, most: int = _LETTERS) -> str:
    """A text of at most so many letters, in one line."""
    text = shown(" ".join(text.split()))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def brief(value: object) -> str:
    """A value of whatever kind in a few letters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return listed([brief(item) for item in value])
    if isinstance(value, dict):
        return ", ".join(f"{name} {brief(item)}" for name, item in list(value.items())[:_NAMES])
    return shortened(str(value))


def _worded(name: str, value: str) -> str:
    return f"{name} {value}" if value else name


def _html(table: Table) -> str:
    left, right = '<{0} style="text-align:left">{1}</{0}>', '<{0} style="text-align:right">{1}</{0}>'

    def row(cells: Sequence[str], tag: str) -> str:
        forms = [left, *[right] * (len(cells) - 1)]
        written = (form.format(tag, escape(cell)) for form, cell in zip(forms, cells, strict=True))
        return f"<tr>{''.join(written)}</tr>"

    body = "".join(row(cells, "td") for cells in table.rows)
    return f"<p>{escape(table.title)}</p><table>{row(table.head, 'th')}{body}</table>"
