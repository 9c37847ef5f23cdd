"""Who is told how work gets on, and how things are counted in what is told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

# Takes the fraction of the work done, from 0 to 1; what it raises ends the work.
Progress = Callable[[float], None]
# Takes one line worth knowing.
Notify = Callable[[str], None]


def counted(count: int, what: str, several: str = "") -> str:
    """Such as "1 epoch", "2,000 images" and "3 classes"; `several` is the plural, where it is no -s."""
    return f"{count:,} {what if count == 1 else several or what + 's'}"


@dataclass
class Attempt:
    """Work under way: whom to tell the fraction done, and what went wrong, if anything."""

    progress: Progress
    failure: str = ""


class Observer(Protocol):
    """Who looks on while a run or a study gets on."""

    def step(self, title: str) -> AbstractContextManager[Progress]:
        """Entered while a step works, from any thread; takes fractions done."""

    def attempt(self, title: str) -> AbstractContextManager[Attempt]:
        """A step that may fail and leaves the rest to go on: its `failure` tells what went wrong."""

    def notify(self, text: str) -> None:
        """One line worth knowing."""

    def interruptible(self) -> AbstractContextManager[Callable[[], None]]:
        """Entered by the thread that waits for others; takes a check that raises a Ctrl-C that was lost."""


class Silent:
    """An observer that tells nobody."""

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        yield lambda fraction: None

    @contextlib.contextmanager
    def attempt(self, title: str) -> Iterator[Attempt]:
        yield Attempt(lambda fraction: None)

    def notify(self, text: str) -> None:
        pass

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[Callable[[], None]]:
        yield lambda: None
