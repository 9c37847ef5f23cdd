"""Seconds and bytes in words."""

from __future__ import annotations

from collections.abc import Sequence


def spoken(steps: Sequence[tuple[str, float | None]]) -> str:
    """Such as "features 20 s, fine-tuning 60 s"; what is unknown is left out."""
    return ", ".join(f"{name} {duration(value)}" for name, value in steps if value is not None)


def duration(value: float) -> str:
    """Such as "0.05 s", "12 s", "2.4 min", "80 min", "3.2 h" and "40 days"."""
    if value < 100:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    if value < 6000:
        return f"{value / 60:.2g} min"
    return f"{value / 3600:.1f} h" if value < 200 * 3600 else f"{value / 86400:,.0f} days"


def gib(value: float) -> str:
    """Such as "12 MiB" and "3.4 GiB"."""
    if value < 2**30:
        return f"{value / 2**20:.0f} MiB"
    return f"{value / 2**30:.3g} GiB" if value < 2**40 else f"{value / 2**40:,.3g} TiB"
