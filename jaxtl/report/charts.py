"""Inline SVG: lines over steps, and heat maps. Colours are the page's own classes, so that it may go dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 360, 224
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 42


@dataclass(frozen=True)
class Line:
    """A series; `low` and `high` bound it where known.

    `kind` is a class of the page's style sheet: "before", "after" or "both"; before is dashed, so that
    colour is not all that tells it.
    """

    name: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None


def line_chart(
    lines: Sequence[Line],
    title: str,
    x_title: str,
    x_names: Sequence[str] | None = None,
    log_x: bool = False,
    whole: bool = False,
) -> str:
    """A figure with one SVG; values that are None or not finite are left out, and no chart where all are.

    Args:
        x_names: what to write at x = 0, 1, ... instead of numbers; every so many where they are too many.
        log_x: whether x is logarithmic; x is above 0 then.
        whole: whether x ticks are whole numbers, such as epochs.
    """
    x_all = [x for line in lines for x in line.x]
    y_all = [y for line in lines for ys in (line.y, line.low, line.high) if ys for y in ys if _finite(y)]
    if not y_all:
        return ""
    y_ticks = _ticks(min(y_all), max(y_all))
    low, high = min(y_ticks[0], min(y_all)), max(y_ticks[-1], max(y_all))
    change = math.log10 if log_x else float
    x_low, x_high = change(min(x_all)), change(max(x_all))

    def px(x: float) -> float:
        span = (x_high - x_low) or 1.0
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * ((change(x) - x_low) / span if x_high > x_low else 0.5)

    def py(y: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - (y - low) / ((high - low) or 1.0))

    parts = [_y_axis(y_ticks, py), _x_axis(_x_ticks(x_all, x_names, log_x, whole), px, bool(x_names))]
    parts += [_line(line, px, py) for line in lines]
    parts += [_values(line, px, py, x_names) for line in lines]
    title_y = HEIGHT - 4
    parts.append(
        f'<text class="axis" x="{(_LEFT + WIDTH - _RIGHT) / 2:.0f}" y="{title_y}" text-anchor="middle">'
        f"{escape(x_title)}</text>"
    )
    legend = "".join(
        f'<span class="entry"><svg viewBox="0 0 24 8" aria-hidden="true"><path class="line {line.kind}" '
        f'd="M1 4H23"/></svg>{escape(line.name)}</span>'
        for line in lines
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)}<span class="keys">{legend}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_told(title, lines))}">'
        f"{''.join(parts)}</svg></figure>"
    )


def heat_map(values: np.ndarray, names: Sequence[str], title: str) -> str:
    """Shares, float [k, k] with rows in 0..1, as a figure with one SVG; cells say their percentage."""
    k = len(names)
    cell = 30 if k <= 12 else max(7, 360 // k)
    margin = 30 if _short(names) else 84
    size = margin + k * cell
    parts = []
    for i in range(k):
        parts += [
            _cell(values[i, j], margin + j * cell, margin + i * cell, cell, names[i], names[j])
            for j in range(k)
        ]
        middle = margin + i * cell + cell / 2
        if cell >= 10:
            name = escape(_cut(names[i]))
            parts.append(f'<text x="{margin - 5}" y="{middle + 4:.1f}" text-anchor="end">{name}</text>')
            turn = "" if _short(names) else f' transform="rotate(-90 {middle + 4:.1f} {margin - 5})"'
            anchor = "middle" if _short(names) else "start"
            parts.append(
                f'<text x="{middle + (0 if _short(names) else 4):.1f}" y="{margin - 6}" '
                f'text-anchor="{anchor}"{turn}>{name}</text>'
            )
    return (
        f'<figure class="heat"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {size} {size}" style="max-width:{1.4 * size:.0f}px" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


def _cell(value: float, x: float, y: float, cell: float, row: str, column: str) -> str:
    percent = 100 * float(value)
    if not percent >= 0.05:  # or not a number: a class of none
        return f'<rect class="none" x="{x}" y="{y}" width="{cell}" height="{cell}"/>'
    text = ""
    if cell >= 24 and percent >= 0.5:
        text = (
            f'<text class="{"on" if percent >= 62 else "off"}" x="{x + cell / 2}" y="{y + cell / 2 + 4}" '
            f'text-anchor="middle">{percent:.0f}</text>'
        )
    return (
        f'<rect class="some" x="{x}" y="{y}" width="{cell}" height="{cell}" fill-opacity="{value:.3f}">'
        f"<title>{escape(row)}: {percent:.1f} % of its neighbours are {escape(column)}</title></rect>{text}"
    )


def _line(line: Line, px, py) -> str:
    points = [(px(x), py(y)) for x, y in zip(line.x, line.y, strict=True) if _finite(y)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    band = ""
    if line.low and line.high and all(map(_finite, (*line.low, *line.high))):
        up = [f"{px(x):.1f} {py(y):.1f}" for x, y in zip(line.x, line.high, strict=True)]
        down = [f"{px(x):.1f} {py(y):.1f}" for x, y in zip(line.x, line.low, strict=True)][::-1]
        band = f'<path class="band {line.kind}" d="M{"L".join(up + down)}Z"/>'
    dots = ""
    if len(points) <= 24:
        dots = "".join(
            f'<circle class="dot {line.kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in points
        )
    return f'{band}<path class="line {line.kind}" d="{path}"/>{dots}'


def _values(line: Line, px, py, names: Sequence[str] | None) -> str:
    """At each point an area, larger than its dot, that shows the value while it is pointed at or touched."""
    parts = []
    for k, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
        if not _finite(y):
            continue
        place = _cut(names[int(x)], 18) if names else f"{x:,g}"
        text = f"{line.name}, {place}: {y:.3f}"
        bounds = (line.low[k], line.high[k]) if line.low and line.high else (None, None)
        if all(map(_finite, bounds)):
            text += f" [{bounds[0]:.3f}, {bounds[1]:.3f}]"
        at, height = px(x), py(y)
        anchor = "start" if at < WIDTH / 3 else "end" if at > 2 * WIDTH / 3 else "middle"
        above = height - 10 if height > _TOP + 14 else height + 18
        parts.append(
            f'<g class="value"><circle class="area" cx="{at:.1f}" cy="{height:.1f}" r="9"/>'
            f'<circle class="dot {line.kind}" cx="{at:.1f}" cy="{height:.1f}" r="4"/>'
            f'<text x="{at:.1f}" y="{above:.1f}" text-anchor="{anchor}">{escape(text)}</text></g>'
        )
    return "".join(parts)


def _y_axis(ticks: Sequence[float], py) -> str:
    # As few decimals as tell the ticks as they are: a step of 0.25 needs two.
    step = ticks[1] - ticks[0]
    digits = next((d for d in range(9) if abs(round(step, d) - step) < 1e-6 * step), 9)
    return "".join(
        f'<path class="gridline" d="M{_LEFT} {py(t):.1f}H{WIDTH - _RIGHT}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{py(t) + 3.5:.1f}" text-anchor="end">{t:,.{digits}f}</text>'
        for t in ticks
    )


def _x_axis(ticks: Sequence[tuple[float, str]], px, named: bool) -> str:
    y = HEIGHT - _BOTTOM + 16
    parts = []
    for place, (x, text) in enumerate(ticks):
        anchor = "middle"
        if named and len(ticks) > 1:
            anchor = ("start", "middle", "end")[(place > 0) + (place == len(ticks) - 1)]
        parts.append(
            f'<text class="tick" x="{px(x):.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
        )
    return "".join(parts)


def _x_ticks(
    x_all: Sequence[float], names: Sequence[str] | None, log_x: bool, whole: bool
) -> list[tuple[float, str]]:
    if names:
        few = sorted({0, len(names) // 2, len(names) - 1})
        return [(k, _cut(names[k], 18)) for k in few]
    low, high = min(x_all), max(x_all)
    if log_x:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [10.0**p for p in powers if low <= 10.0**p <= high]
        return [(x, f"{x:,.0f}") for x in (ticks or [low, high])]
    if whole:
        step = max(1, math.ceil((high - low) / 8))
        return [(x, f"{x:.0f}") for x in np.arange(low, high + 0.5, step)]
    return [(x, f"{x:g}") for x in _ticks(low, high)]


def _ticks(low: float, high: float) -> list[float]:
    """Some four round numbers, of which the outer ones enclose low and high."""
    span = (high - low) or abs(high) or 1.0
    raw = span / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def _told(title: str, lines: Sequence[Line]) -> str:
    known = [(line.name, [y for y in line.y if _finite(y)]) for line in lines]
    ends = "; ".join(f"{name} from {y[0]:.3g} to {y[-1]:.3g}" for name, y in known if y)
    return f"{title}: {ends}"


def _finite(value: float | None) -> bool:
    # A training that diverged, or a measure that is not defined, leaves a gap.
    return value is not None and math.isfinite(value)


def _short(names: Sequence[str]) -> bool:
    return max(map(len, names)) <= 3


def _cut(name: str, length: int = 12) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
