"""Seconds that JAX has spent on compilation in this process, as it reports them itself."""

from __future__ import annotations

from typing import Any

import jax

_seconds: list[float] = []


def _listen(event: str, seconds: float, **_: Any) -> None:
    # Tracing, lowering and XLA's own compilation; they follow each other.
    if event.startswith("/jax/core/compile/"):
        _seconds.append(seconds)


jax.monitoring.register_event_duration_secs_listener(_listen)


def compiled() -> float:
    return sum(_seconds, 0.0)
