"""Child processes that call our functions; one that hangs or dies costs nothing else."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.machine.process import Server, Silence
from jaxtl.progress import Progress

__all__ = ["Child", "Pool", "Silence"]


class Child(contextlib.AbstractContextManager["Child"]):
    """A process that calls functions, started at once so that its imports are done when it is needed.

    Use it in a `with` statement: the process ends with it. It also ends when the process that started it
    ends, however that happens. One that hung, died or met an error is not used again, since a CUDA context
    may be spoiled for good: the next call starts another. So it does where somebody ended one that had no
    work.

    Args:
        preload: modules to import at the start, such as "cuml". One that cannot be imported is left to the
            call that needs it.
        environment: variables beside those of this process; None takes one away.
        folder: its working folder; that of this process by default.
        log: a file that what it prints is added to; by default the end alone is kept, for `said`.
    """

    def __init__(
        self,
        preload: tuple[str, ...] = (),
        environment: Mapping[str, str | None] | None = None,
        folder: Path | None = None,
        log: Path | None = None,
    ) -> None:
        self._start = functools.partial(Server, preload, environment or {}, folder, log)
        self._process: Server | None = self._start()

    @property
    def pid(self) -> int | None:
        """The number of the process, and of its group; None where there is none."""
        process = self._process
        return process.pid if process else None

    @property
    def said(self) -> str:
        """The end of what the process printed, at most 16 KiB; empty where there is none."""
        process = self._process
        return process.said() if process else ""

    def call(
        self,
        function: str,
        arguments: dict[str, Any],
        seconds: float = float("inf"),
        progress: Progress | None = None,
        told: Callable[[Any], None] | None = None,
        watch: Callable[[], None] | None = None,
    ) -> Any:
        """What a function returns. One call at a time.

        Args:
            function: such as "package.module:function".
            arguments: its keyword arguments; they and what it returns must be what JSON can hold.
            seconds: for the answer, > 0; may be infinite.
            progress: called with the fraction of the work done, from 0 to 1, which the function tells its
                argument `progress`.
            told: called with each message that the function tells its argument `tell`.
            watch: called again and again while there is no answer, 20 times a second.

        What `progress`, `told` and `watch` raise ends the work.

        Raises:
            JaxtlError: as the function; Silence where no answer came.
            OSError: as the function.
            MemoryError, RuntimeError: any other error, its traceback as the cause.
        """
        callbacks = [name for name, wanted in (("progress", progress), ("tell", told)) if wanted]
        line = json.dumps({"function": function, "arguments": arguments, "callbacks": callbacks})
        process = self._awake()
        try:
            answer = process.ask(line, seconds, {"progress": progress, "told": told}, watch)
            if "done" not in answer:
                _raise(answer)
            return answer["done"]
        except BaseException:
            self.close()
            raise

    def _awake(self) -> Server:
        """The process; another one where it was ended while it had nothing to do."""
        if self._process and self._process.has_ended:
            self.close()
        self._process = self._process or self._start()
        return self._process

    def interrupt(self) -> None:
        """From another thread: end the process, so that a call raises Silence at once."""
        if process := self._process:
            process.kill(close=False)

    def close(self) -> None:
        """End the process, in the middle of its work too."""
        if self._process:
            self._process.kill()
        self._process = None

    def __exit__(self, *exception: object) -> None:
        self.close()


class Pool:
    """Children that are kept for whoever calls next, as many as calls are made at a time.

    Args:
        preload: as of `Child`.
    """

    def __init__(self, preload: tuple[str, ...] = ()) -> None:
        self._preload, self._lock = preload, threading.Lock()
        self._idle: list[Child] = []
        self._busy: list[Child] = []

    def get_ready(self, count: int) -> None:
        """Have as many children as so many calls at a time can use, while something else works."""
        with self._lock:
            for _ in range(count - len(self._idle) - len(self._busy)):
                self._idle.append(Child(self._preload))

    def call(
        self,
        function: str,
        arguments: dict[str, Any],
        progress: Progress | None = None,
    ) -> Any:
        """`Child.call`, of one that has nothing to do or of a new one; from any thread."""
        with self._lock:
            child = self._idle.pop() if self._idle else Child(self._preload)
            self._busy.append(child)
        try:
            return child.call(function, arguments, progress=progress)
        finally:
            with self._lock:
                self._busy.remove(child)
                self._idle.append(child)

    def close(self) -> None:
        """End all children, in the middle of their work too; from any thread."""
        with self._lock:
            idle, self._idle = self._idle, []
            for child in self._busy:
                child.interrupt()
        for child in idle:
            child.close()


def _raise(answer: dict[str, Any]) -> None:
    if "refused" in answer:
        raise JaxtlError(answer["refused"])
    if "oserror" in answer:
        raise OSError(*answer["oserror"])
    kind = MemoryError if answer["memory"] else RuntimeError
    raise kind(answer["failed"]) from _Elsewhere(answer["traceback"])


class _Elsewhere(Exception):
    """The traceback of the other process, as text."""
