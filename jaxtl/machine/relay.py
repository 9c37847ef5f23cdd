"""How an observer hears of work in another process: what the work tells is sent as messages, and told here.

The one side is a `Teller`, the observer of the work; the other a `Relay`, which hands on to an observer of
its own process what it is sent. Messages are what JSON can hold.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from jaxtl.progress import Attempt, Observer, Progress

# A bar needs no more: fractions that differ by less are not sent.
_LEAST = 0.005

Message = dict[str, Any]


class Teller:
    """An observer that sends all it is told, from any threads.

    Args:
        send: takes a message.
    """

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._lock, self._numbers = threading.Lock(), itertools.count()
        self._send_to = send

    def _send(self, **message: Any) -> None:
        with self._lock:
            self._send_to(message)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        with self.attempt(title) as attempt:
            yield attempt.progress

    @contextlib.contextmanager
    def attempt(self, title: str) -> Iterator[Attempt]:
        number, sent = next(self._numbers), 0.0

        def tell(fraction: float) -> None:
            nonlocal sent
            if fraction - sent >= _LEAST or fraction == 1 > sent:
                sent = fraction
                self._send(step=number, fraction=fraction)

        attempt, whole = Attempt(tell), False
        self._send(step=number, title=title)
        try:
            yield attempt
            whole = True
        finally:
            self._send(step=number, ended=whole, failure=attempt.failure)

    def notify(self, text: str) -> None:
        self._send(note=text)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[Callable[[], None]]:
        yield lambda: None


class Relay(AbstractContextManager["Relay"]):
    """Tells an observer what a `Teller` sends, as long as it is entered: steps that are open then, are ended.

    Args:
        observer: who is told.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._open: dict[int, tuple[contextlib.ExitStack, Attempt]] = {}

    def hear(self, message: Message) -> None:
        """Take a message."""
        if "note" in message:
            self._observer.notify(message["note"])
        elif "title" in message:
            stack = contextlib.ExitStack()
            attempt = stack.enter_context(self._observer.attempt(message["title"]))
            self._open[message["step"]] = stack, attempt
        elif "fraction" in message:
            self._open[message["step"]][1].progress(message["fraction"])
        else:
            self._end(message["step"], message["failure"] or ("" if message["ended"] else "stopped"))

    def _end(self, number: int, failure: str) -> None:
        stack, attempt = self._open.pop(number)
        attempt.failure = failure
        stack.close()

    def __exit__(self, *exception: object) -> None:
        for number in list(self._open):
            self._end(number, "stopped")
