"""What every backend asks of its parameters."""

from __future__ import annotations

import math
from importlib.metadata import version
from numbers import Integral, Real
from typing import Any

from jaxtl.errors import JaxtlError


def check_number(
    method: str,
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    whole: bool = False,
    open_low: bool = False,
) -> None:
    """Raises JaxtlError unless value is a finite number (an integer if `whole`) in [low, high].

    With `open_low` the lower bound itself is refused too.
    """
    kind = Integral if whole else Real
    fits = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    if fits and low <= value <= high and not (open_low and value == low):
        return
    bounds = f"{'above' if open_low else 'at least'} {low}" + (
        f" and at most {high}" if high < math.inf else ""
    )
    noun = "an integer" if whole else "a number"
    raise JaxtlError(f"{method}: {name} must be {noun} {bounds}, got {value!r}")


def check_choice(method: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises JaxtlError unless value is one of the choices."""
    if value not in choices:
        raise JaxtlError(f"{method}: {name} must be one of {', '.join(choices)}, got {value!r}")


def check_jobs(method: str, n_jobs: Any) -> None:
    """Raises JaxtlError unless n_jobs is -1 (all cores) or a number of threads."""
    if n_jobs != -1:
        check_number(method, "n_jobs (unless -1)", n_jobs, low=1, whole=True)


def check_components(method: str, n_components: Any, most: int, why: str = "") -> None:
    """Raises JaxtlError unless n_components is a whole number from 1 to `most`, which `why` explains."""
    if isinstance(n_components, Integral) and not isinstance(n_components, bool) and n_components > most:
        raise JaxtlError(f"{method}: n_components must be at most {most}{why}, got {n_components}")
    check_number(method, "n_components", n_components, low=1, whole=True)


def check_few_components(method: str, n_components: Any, allowed: tuple[int, ...], remedy: str = "") -> None:
    """Raises JaxtlError unless n_components is among the few that a library has."""
    if isinstance(n_components, bool) or n_components not in allowed:
        few = " or ".join(map(str, allowed))
        raise JaxtlError(f"{method}: n_components must be {few}, got {n_components!r}{remedy}")


def versions(*distributions: str) -> dict[str, str]:
    """Version of each installed distribution."""
    return {name: version(name) for name in distributions}
