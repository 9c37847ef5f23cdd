"""Progress for who calls functions in Python and asks for it: bars on a terminal and in notebooks."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from jaxtl.progress import Observer

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def watching(progress: bool, observer: Observer | None = None) -> Observer | None:
    """An observer that shows how the work gets on, where that is asked for and nobody else looks on."""
    if observer is not None or not progress:
        return observer
    from rich.console import Console

    from jaxtl.machine.terminal import Terminal

    # A notebook shows what goes to standard output and standard error alike.
    return Terminal(Console(stderr=True))


def with_bar(title: str) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Of a function with an argument `progress` by name: True shows a bar with this title while it works."""

    def decorate(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        @wraps(function)
        def called(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            progress = kwargs.get("progress")
            if not isinstance(progress, bool):
                return function(*args, **kwargs)
            observer = watching(progress)
            if observer is None:
                return function(*args, **kwargs | {"progress": None})
            with observer.step(title) as tell:
                return function(*args, **kwargs | {"progress": tell})

        return called

    return decorate
