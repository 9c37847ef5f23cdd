"""Pieces of HTML and numbers as text. What is not `Html` is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from jaxtl.records.tables import Score

MINUS = "\N{MINUS SIGN}"


def section(name: str, heading: str, body: str) -> str:
    return f"<section class='part {name}'><h2>{escape(heading)}</h2>{body}</section>" if body else ""


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
    """The first `texts` columns hold text, the rest numbers."""

    def row(cells: Sequence[str]) -> str:
        first = "".join(f"<th scope='row'>{_cell(c)}</th>" for c in cells[:texts])
        return f"<tr>{first}{''.join(f'<td class=n>{_cell(c)}</td>' for c in cells[texts:])}</tr>"

    top = "".join(
        f"<th scope='col'{' class=n' if k >= texts else ''}>{_cell(c)}</th>" for k, c in enumerate(head)
    )
    name = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = f"<thead><tr>{top}</tr></thead><tbody>{''.join(map(row, rows))}</tbody>"
    return f"<div class='wide'><table>{name}{body}</table></div>"


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


def interval(score: Score | None) -> str:
    return Html("–") if score is None else bounded(score.value, score.low, score.high)


def bounded(value: Any, low: Any, high: Any) -> Html:
    text = "–" if value is None else number(value)
    if low is not None and high is not None:
        text += f" <span class='bounds'>[{number(low)}, {number(high)}]</span>"
    return Html(text)


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
