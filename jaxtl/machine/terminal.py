"""What is shown on a terminal or in a notebook while work gets on: bars, and a line for what is done."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from jaxtl.errors import shown
from jaxtl.progress import Attempt

# Steps that are over sooner get a line, no bar.
_BAR_AFTER_SECONDS = 1.0


class Terminal:
    """The `Observer` of an experiment on a rich console: on a terminal bars, elsewhere one line per step.

    Steps may be open in several threads at once: their bars stand below one another in the order in which
    they began, and what is printed meanwhile goes above them. On a quiet console nothing is shown.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        # A line that is printed while bars come or go would stand behind one of them.
        self._lock = threading.RLock()
        self._bars = _Bars(console, self._lock) if _shows_bars(console) else None
        self._check: Callable[[], None] | None = None

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        with self.attempt(title) as attempt:
            yield attempt.progress

    @contextlib.contextmanager
    def attempt(self, title: str) -> Iterator[Attempt]:
        """A step that may fail and leaves the rest to go on: it says so in the attempt's `failure`."""
        began = time.monotonic()
        bar = self._bars.bar(title) if self._bars else contextlib.nullcontext(lambda fraction: None)
        with self.interruptible() as check, bar as draw:

            def report(fraction: float) -> None:
                check()
                draw(fraction)

            attempt = Attempt(report)
            yield attempt
            check()
        mark = "[red]✗[/]" if attempt.failure else "[green]✓[/]"
        why = f" {escape(shown(attempt.failure))}" if attempt.failure else ""
        took = time.monotonic() - began
        self._say(f"{mark} {escape(shown(title))} [dim]{took:.1f} s[/]{why}")

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[Callable[[], None]]:
        """Yield a check that raises KeyboardInterrupt where a Ctrl-C was pressed and lost since.

        For a main thread that waits for steps in others: it calls the check between short waits, and
        tells them to stop. Ctrl-C comes to the main thread only: in others the check does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield lambda: None
        elif self._check:
            yield self._check
        else:
            with _lasting_ctrl_c() as self._check:
                try:
                    yield self._check
                finally:
                    self._check = None

    def notify(self, text: str) -> None:
        self._say(f"[dim]· {escape(shown(text))}[/]")

    def path(self, title: str, path: Path) -> None:
        """A path in one piece, to be copied: neither broken over lines nor read as markup."""
        text = f"{title}: [bold]{escape(shown(str(path)))}[/]"
        with self._lock:
            self.console.print(text, highlight=False, emoji=False, soft_wrap=True)

    def _say(self, markup: str) -> None:
        """A line; in a file or a pipe, where there is no edge to break it at, whole."""
        with self._lock:
            self.console.print(markup, highlight=False, emoji=False, soft_wrap=not self.console.is_terminal)


def _shows_bars(console: Console) -> bool:
    """Notebooks need a library for bars, and rich warns of its absence; without it they get the lines."""
    return (
        console.is_terminal
        and not console.quiet
        and (not console.is_jupyter or find_spec("ipywidgets") is not None)
    )


class _Bars:
    """The bars of all open steps in one display, since a console takes one at a time."""

    def __init__(self, console: Console, lock: contextlib.AbstractContextManager[Any]) -> None:
        self._console = console
        self._lock = lock
        self._progress = self._empty()

    @contextlib.contextmanager
    def bar(self, title: str) -> Iterator[Progress]:
        """A bar while the block is entered; takes the fraction done, 0 to 1."""
        began = time.monotonic()
        with self._lock:
            progress = self._progress
            task = progress.add_task(escape(shown(title)), total=None)
            progress.start()

        def draw(fraction: float) -> None:
            long = time.monotonic() - began > _BAR_AFTER_SECONDS
            if long or 0 < fraction < 1:
                progress.update(task, total=1.0, completed=fraction)

        try:
            yield draw
        finally:
            with self._lock:
                progress.remove_task(task)
                progress.refresh()  # else it stays for a tenth of a second, under its own last line
                if not progress.task_ids:
                    progress.stop()
                    self._progress = self._empty()

    def _empty(self) -> Progress:
        # Titles come first: on 80 columns they have 42, since the bar gives way.
        bar = min(40, max(10, self._console.width - 66))
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar),
            TimeElapsedColumn(),
            TextColumn("[dim]left"),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=self._console, transient=True)


@contextlib.contextmanager
def _lasting_ctrl_c() -> Iterator[Callable[[], None]]:
    """Yield a check that raises KeyboardInterrupt again where an earlier one was lost. In the main thread.

    Python drops an exception raised in the callback of a weak reference or of the garbage collector, of
    which JAX has many, so that a Ctrl-C that falls into one would do nothing but print a traceback.
    """
    pressed, tell = False, sys.unraisablehook

    def press(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    def tell_of_others(dropped: Any) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            tell(dropped)

    # A handler that is not Python's own, or "ignore", is the caller's wish.
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check
        return
    signal.signal(signal.SIGINT, press)
    sys.unraisablehook = tell_of_others
    try:
        yield check
    finally:
        sys.unraisablehook = tell
        signal.signal(signal.SIGINT, signal.default_int_handler)
