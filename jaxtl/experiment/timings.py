"""What a run takes: seconds of each step, and when it began, kept in the run's folder."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from jaxtl.machine.memory import peak_memory
from jaxtl.runs.folder import RunFile

# What the manifest calls who writes them.
_STEP = "timings"


class Timings:
    """Times steps, from any threads, and writes down each that is done.

    Args:
        file: of the run's timings, which go on where they were left.
    """

    def __init__(self, file: RunFile[dict[str, Any]]) -> None:
        self._file, self._lock = file, threading.Lock()
        # Seconds that are not those that were written are worth nothing.
        self._known = file.read() if file.is_intact else {}
        self._began = 0.0

    def adopt(self) -> None:
        """Take the file as it stands for what was written."""
        self._file.accept()

    def repair(self) -> bool:
        """Begin anew where what was written is lost; whether it was."""
        lost = self._file.is_lost
        if lost:
            self._known = {}
            self._file.write_recorded({}, _STEP, {})
        return lost

    def begin(self) -> None:
        """The run begins, or goes on: stops are left out of its seconds."""
        self._began = time.perf_counter() - self._known.get("run", 0.0)

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Inside, a step is worked off; what ends by an error is not written down."""
        began = time.perf_counter()
        yield
        self._note(step, began)

    def _note(self, step: str, began: float) -> None:
        with self._lock:
            known = self._known
            known[step] = round(time.perf_counter() - began, 3)
            # Since the run's own beginning: what was done side by side can be seen.
            known.setdefault("began", {})[step] = round(began - self._began, 3)
            # Of all of it: less than its steps' together, since some are done side by side.
            known["run"] = round(time.perf_counter() - self._began, 3)
            peak = max(peak_memory() / 2**30, known.get("peak_memory_gib", 0.0))
            known["peak_memory_gib"] = round(peak, 2)
            self._file.write_recorded(known, _STEP, {})
