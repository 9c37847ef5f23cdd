"""The log of a run, for who asks later what went on: a file beside its results, on which no result hangs."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from jaxtl.errors import JaxtlError
from jaxtl.machine import signals, surroundings
from jaxtl.machine.host import describe, versions
from jaxtl.machine.memory import peak_memory
from jaxtl.progress import Attempt, Observer, Progress

_LIBRARIES = (
    *("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "openTSNE", "scikit-learn-intelex"),
    "matplotlib",
)
_LAYOUT = "%(asctime)s %(levelname)-7s %(message)s"
# The innermost calls of an error, where it is a fault of jaxtl's.
_CALLS = 12


class Logged:
    """An observer that passes all on to another, and writes it down with the time.

    It writes nothing before it is `opened`: what it was told until then comes first. A file that cannot be
    written to is left alone, as no work is lost by it.

    Args:
        observer: who is told; another `Logged` of the same file stays as it is.
        path: of the log, which is added to.
    """

    def __init__(self, observer: Observer, path: Path) -> None:
        self.interruptible = observer.interruptible
        self._observer, self.path = observer, path
        self._waiting: list[logging.LogRecord] = []
        self._file: logging.Handler | None = None

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        with self._timed(title), self._observer.step(title) as progress:
            yield progress

    @contextlib.contextmanager
    def attempt(self, title: str) -> Iterator[Attempt]:
        with self._timed(title) as failures, self._observer.attempt(title) as attempt:
            yield attempt
            failures += filter(None, [attempt.failure])

    def notify(self, text: str) -> None:
        self._write(logging.INFO, text)
        self._observer.notify(text)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Inside, all is written to the file, warnings too: from what is computed with to how it ends."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._writing())
            stack.enter_context(signals.at_signal(self._end_by_signal))
            stack.enter_context(_heard(self._write))
            stack.enter_context(self._ended("Work"))
            yield

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._file = _File(self.path, encoding="utf-8", errors="backslashreplace", delay=True)
        self._file.setFormatter(_Dated(_LAYOUT))
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self._file.handle(record)
        about = {**describe(), **versions(_LIBRARIES), **surroundings.recorded()}
        told = ", ".join(f"{name} {value}" for name, value in about.items())
        self._write(logging.INFO, f"Begun with {told}")
        try:
            yield
        finally:
            file, self._file = self._file, None
            file.close()

    @contextlib.contextmanager
    def _timed(self, title: str) -> Iterator[list[str]]:
        self._write(logging.INFO, f"{title}: begun")
        with self._ended(title) as failures:
            yield failures

    @contextlib.contextmanager
    def _ended(self, title: str) -> Iterator[list[str]]:
        """Write down how it ended; takes what went wrong where that raised nothing."""
        began, failures = time.monotonic(), []
        try:
            yield failures
        except BaseException as error:
            level = logging.ERROR if isinstance(error, Exception) else logging.WARNING
            self._write(level, f"{title}: ended after {_spent(began)} by {_told(error)}")
            raise
        if failures:
            self._write(logging.ERROR, f"{title}: ended after {_spent(began)} by {'; '.join(failures)}")
        else:
            self._write(logging.INFO, f"{title}: done in {_spent(began)}")

    def _end_by_signal(self) -> None:
        self._write(logging.WARNING, f"Work: {signals.ended_by()}")

    def _write(self, level: int, text: str) -> None:
        text = " ".join(_without_home(text).splitlines())
        record = logging.LogRecord("jaxtl", level, "", 0, text, None, None)
        if self._file:
            self._file.handle(record)
        else:
            self._waiting.append(record)


def logged(observer: Observer, path: Path) -> Logged:
    """An observer that writes down what it is told; one that does so already stays as it is."""
    return observer if isinstance(observer, Logged) else Logged(observer, path)


class _Dated(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk is told by who writes results."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # which opening it raises
            super().emit(record)

    def _open(self) -> TextIO:
        # Not through a link, which may lead to any file, and not where a pipe waits for who reads it.
        how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self.baseFilename, how, 0o666)
        return os.fdopen(descriptor, self.mode, encoding=self.encoding, errors=self.errors)


def _without_home(text: str) -> str:
    """A text without the name of who works here; for some users of containers home is "/", or nowhere."""
    home = os.path.expanduser("~").rstrip("/")
    return text.replace(f"{home}/", "~/") if os.path.isabs(home) else text


def _spent(began: float) -> str:
    return f"{time.monotonic() - began:.3f} s, memory at most {peak_memory() / 2**30:.2f} GiB"


def _told(error: BaseException) -> str:
    """What went wrong; of a fault of jaxtl's also where, without the paths of who has it installed."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, JaxtlError | OSError) or not isinstance(error, Exception):
        return said
    calls = [call for call in traceback.extract_tb(error.__traceback__) if call.filename != __file__]
    where = (f"{Path(call.filename).name}:{call.lineno} {call.name}" for call in calls[-_CALLS:])
    return f"{said} ({' > '.join(where)})"


@contextlib.contextmanager
def _heard(write: Callable[[int, str], None]) -> Iterator[None]:
    """Inside, Python's warnings and what libraries log as one are written down too, and shown as ever."""
    show, root = warnings.showwarning, logging.getLogger()

    def tell(message: Any, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
        write(logging.WARNING, f"{category.__name__}: {message} ({Path(filename).name}:{lineno})")
        show(message, category, filename, lineno, *rest)

    handler = _Passing(write)
    root.addHandler(handler)
    warnings.showwarning = tell
    try:
        yield
    finally:
        if warnings.showwarning is tell:
            warnings.showwarning = show
        root.removeHandler(handler)


class _Passing(logging.Handler):
    def __init__(self, write: Callable[[int, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._pass_on = write

    def emit(self, record: logging.LogRecord) -> None:
        self._pass_on(record.levelno, f"{record.name}: {record.getMessage()}")
        # Where nobody else shows it, Python does.
        others = [handler for handler in logging.getLogger().handlers if handler is not self]
        if not others and logging.lastResort and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)
