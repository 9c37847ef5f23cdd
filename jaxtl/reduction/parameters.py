"""What every backend asks of its parameters."""

from __future__ import annotations

from importlib.metadata import version
from numbers import Integral, Real
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.ranges import LARGEST_WHOLE, Range, shown


def check_number(
    method: str,
    name: str,
    value: Any,
    low: float,
    high: float = LARGEST_WHOLE,
    whole: bool = False,
    open_low: bool = False,
) -> None:
    """Raises JaxtlError unless value is a finite number (an integer if `whole`) in [low, high].

    With `open_low` the lower bound itself is refused too. By default the upper one is what the libraries'
    own integers hold.
    """
    if value in Range(low, high, whole=whole, above=open_low):
        return
    bounds = f"{'above' if open_low else 'at least'} {low}"
    if high < LARGEST_WHOLE or (isinstance(value, Real) and value > high):
        bounds += f" and at most {high}"
    noun = "an integer" if whole else "a number"
    raise JaxtlError(f"{method}: {name} must be {noun} {bounds}, got {shown(value)}")


def check_choice(method: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises JaxtlError unless value is one of the choices."""
    if value not in choices:
        raise JaxtlError(f"{method}: {name} must be one of {', '.join(choices)}, got {shown(value)}")


def check_jobs(method: str, n_jobs: Any) -> None:
    """Raises JaxtlError unless n_jobs is -1 (all cores) or a number of threads."""
    if isinstance(n_jobs, bool) or n_jobs != -1:
        check_number(method, "n_jobs (unless -1)", n_jobs, low=1, whole=True)


def check_components(method: str, n_components: Any, most: int, why: str = "") -> None:
    """Raises JaxtlError unless n_components is a whole number from 1 to `most`, which `why` explains."""
    if isinstance(n_components, Integral) and not isinstance(n_components, bool) and n_components > most:
        raise JaxtlError(f"{method}: n_components must be at most {most}{why}, got {shown(n_components)}")
    check_number(method, "n_components", n_components, low=1, whole=True)


def check_few_components(method: str, n_components: Any, allowed: tuple[int, ...], remedy: str = "") -> None:
    """Raises JaxtlError unless n_components is among the few that a library has."""
    if isinstance(n_components, bool) or n_components not in allowed:
        few = " or ".join(map(str, allowed))
        raise JaxtlError(f"{method}: n_components must be {few}, got {shown(n_components)}{remedy}")


def versions(*distributions: str) -> dict[str, str]:
    """Version of each installed distribution."""
    return {name: version(name) for name in distributions}
