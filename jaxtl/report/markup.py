"""Pieces of HTML and numbers as text. What is not `Html` is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from jaxtl.evaluation.catalogue import CLUSTERS, N_NEIGHBORS, P_VALUES
from jaxtl.records.tables import Score

MINUS = "\N{MINUS SIGN}"
# Of a table: with more columns it may be wider than a phone, and is scrolled by itself.
_NARROW = 3
# What is smaller is said to be smaller.
_LEAST_P = 1e-3


@dataclass(frozen=True)
class Section:
    """A part of the page, with its place in the list of contents.

    Attributes:
        name: its id and its class in the style sheet.
        heading: as text.
        body: HTML; a section without one is left out.
    """

    name: str
    heading: str
    body: str

    def html(self, run: int = 0) -> str:
        """Of run number `run` of the page, so that ids are unique."""
        if not self.body:
            return ""
        return (
            f"<section class='part {self.name}' id='{self.id(run)}'><h2>{escape(self.heading)}</h2>"
            f"{self.body}</section>"
        )

    def id(self, run: int = 0) -> str:
        return f"{self.name}-{run + 1}" if run else self.name


def note(text: str) -> str:
    return f"<p class='quiet'>{escape(text)}</p>"


def details(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def figures(charts: Sequence[str]) -> str:
    drawn = "".join(charts)
    return f"<div class='charts'>{drawn}</div>" if drawn else ""


class Html(str):
    """Text that is HTML already: everything else is escaped."""


def _cell(value: str) -> str:
    return value if isinstance(value, Html) else escape(str(value))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", texts: int = 1) -> str:
    """The first `texts` columns hold text, the rest numbers. The first column heads its row."""

    def row(cells: Sequence[str]) -> str:
        first = f"<th scope='row'>{_cell(cells[0])}</th>"
        words = "".join(f"<td>{_cell(c)}</td>" for c in cells[1:texts])
        return f"<tr>{first}{words}{''.join(f'<td class=n>{_cell(c)}</td>' for c in cells[texts:])}</tr>"

    top = "".join(_head(c, number=k >= texts) for k, c in enumerate(head))
    name = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = f"<thead><tr>{top}</tr></thead><tbody>{''.join(map(row, rows))}</tbody>"
    # Who has no mouse scrolls what has the focus.
    label = escape(caption or "Table")
    scrolled = f" tabindex='0' role='group' aria-label='{label}'" if len(head) > _NARROW else ""
    return f"<div class='wide'{scrolled}><table>{name}{body}</table></div>"


def _head(name: str, number: bool) -> str:
    if not name:  # a header without text is none
        return "<td></td>"
    return f"<th scope='col'{' class=n' if number else ''}>{_cell(name)}</th>"


def pairs(values: dict[str, Any]) -> str:
    rows = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(plain(v))}</dd>" for k, v in values.items())
    return f"<dl class='pairs'>{rows}</dl>" if rows else ""


def in_words(name: str, value: Any) -> str:
    """A run's setting in words; what None means depends on which it is."""
    return (
        {"samples": "all", "train_samples": "all", "weights": "ImageNet", "model": "that of the weights"}.get(
            name, "–"
        )
        if value is None
        else plain(value)
    )


def plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    if value is None:
        return "–"
    return (
        {True: "yes", False: "no"}[value]
        if isinstance(value, bool)
        else f"{value:.6g}"
        if isinstance(value, float)
        else str(value)
    )


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def counted(count: int, one: str, more: str = "") -> str:
    """Such as "1 image" and "2,000 images"."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}".replace("-", MINUS)


def interval(score: Score | None) -> str:
    if score is None:
        return Html("–")
    return Html(escape(value_of(score.metric, score.value)) + bounds(score.low, score.high))


def value_of(metric: str, value: float) -> str:
    """A metric's value: p-values that are next to none as such, whole counts as whole numbers."""
    if metric in P_VALUES and value < _LEAST_P:
        return f"< {_LEAST_P:g}"
    if metric == CLUSTERS and float(value).is_integer():
        return f"{value:.0f}"
    return number(value)


def of_ten(share: float) -> str:
    """A share of the ten nearest as their number and per cent, such as "0.05 of 10 (0.5 %)"."""
    return f"{N_NEIGHBORS * share:.2f} of {N_NEIGHBORS} ({percent(share)})"


def percent(share: float) -> str:
    """Such as "64 %", and "3.5 %" of what is below a tenth."""
    value = 100 * float(share)
    return f"{value:.0f} %" if value >= 9.95 or value == 0 else f"{value:.1f} %"


def bounded(value: Any, low: Any, high: Any) -> Html:
    return Html(("–" if value is None else number(value)) + bounds(low, high))


def bounds(low: Any, high: Any) -> Html:
    """An interval in brackets; nothing where it is not known."""
    if low is None or high is None:
        return Html("")
    return Html(f" <span class='bounds'>[{number(low)}, {number(high)}]</span>")


def maybe(value: float | None) -> str:
    return "" if value is None else number(value)


def number(value: float) -> str:
    value = float(value)
    if not np.isfinite(value):
        return "–" if np.isnan(value) else str(value)
    size = abs(value)
    form = ".1e" if 0 < size < 5e-4 else ".3f" if size < 100 else ".1f" if size < 1e4 else ",.0f"
    return f"{value:{form}}".replace("-", MINUS)


def unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
