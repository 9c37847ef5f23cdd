"""A trial's process as the study sees it: started clean, watched, and ended where it goes over a limit."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.machine.card import Card
from jaxtl.machine.child import Child
from jaxtl.machine.memory import private_memory, process_group
from jaxtl.machine.process import Silence
from jaxtl.progress import Progress
from jaxtl.scaling.settings import Limits
from jaxtl.scaling.trials import DONE, FAILED, OUT_OF_MEMORY, OVER_MEMORY, OVER_TIME, Trial

_MEASUREMENT = "jaxtl.scaling.measurement"
# Processes that it may have started are looked for less often than memory.
_FAMILY_SECONDS = 1.0
# For imports and a tiny embedding; a library that hangs there would otherwise stop the study.
_START_SECONDS = 600.0
_LONGEST_NOTE = 300


def run(trial: Trial, request: dict[str, Any], limits: Limits, progress: Progress) -> Trial:
    """A trial, made and measured in a process of its own.

    Args:
        trial: one that was not tried.
        request: see `jaxtl.scaling.measurement.measure`.
        limits: that it has to keep.
        progress: what it raises ends the process.
    """
    with Child((_MEASUREMENT,)) as child:
        watched = _Watched(child.pid, limits, progress, Card() if request["on_gpu"] else None)
        status, note, measured = DONE, "", {}
        try:
            measured = child.call(
                f"{_MEASUREMENT}:measure", {"request": request}, told=watched.told, watch=watched.look
            )
        except _Over as over:
            status, note = over.status, over.note
        except Silence as silence:
            # Where memory runs out, Linux ends a process so.
            status, note = OUT_OF_MEMORY if silence.code == -signal.SIGKILL else FAILED, str(silence)
        except (JaxtlError, OSError, MemoryError, RuntimeError) as error:
            note = " ".join(str(error).split())[:_LONGEST_NOTE]
            full = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in note
            status = OUT_OF_MEMORY if full else FAILED
    return watched.told_of(replace(trial, status=status, note=note), measured)


class _Over(Exception):
    """A limit was reached."""

    def __init__(self, status: str, note: str) -> None:
        super().__init__(note)
        self.status, self.note = status, note


class _Watched:
    """What is known of a trial's process from outside, and from what it told."""

    def __init__(self, pid: int, limits: Limits, progress: Progress, card: Card | None) -> None:
        self._pid, self._limits, self._progress, self._card = pid, limits, progress, card
        self._began = time.monotonic()
        self._deadline = self._began + _START_SECONDS + limits.seconds
        self._start_seconds: float | None = None
        self._baseline: int | None = None
        self._reached, self._ran = 0.0, False
        self._peak, self._device_peak = 0, 0
        self._family, self._family_seen = [pid], 0.0

    def told(self, message: dict[str, Any]) -> None:
        """Hear how far the process is. Raises _Over."""
        if "progress" in message:
            self._reached = message["progress"]
            self._progress(self._reached)
        elif "ready" in message:
            self._start_seconds, self._baseline = time.monotonic() - self._began, message["ready"]
            self._deadline = time.monotonic() + self._limits.seconds
        elif "run" in message:
            # A quick one may be over before this side looks at the clock.
            if not self._ran and message["run"] > self._limits.seconds:
                raise self._over_time()
            # The embedding is there: repetitions, of which the first was the measure, are not held
            # against it.
            self._ran = True
            self._deadline = time.monotonic() + self._limits.seconds + _START_SECONDS

    def look(self) -> None:
        """See what the process takes by now. Raises _Over."""
        now = time.monotonic()
        if now - self._family_seen > _FAMILY_SECONDS:
            self._family, self._family_seen = process_group(self._pid), now
        self._peak = max(self._peak, sum(map(private_memory, self._family)))
        if self._card:
            self._device_peak = max(self._device_peak, self._card.used())
        if self._peak > self._limits.memory:
            reached, limit = (f"{count / 2**30:.2f} GiB" for count in (self._peak, self._limits.memory))
            raise _Over(OVER_MEMORY, f"ended at {reached}, the limit is {limit}")
        if now > self._deadline:
            raise self._over_time()
        # Told while the process is silent too, so that Ctrl-C is noticed.
        self._progress(self._reached)

    def _over_time(self) -> _Over:
        if self._start_seconds is None:
            return _Over(FAILED, "its libraries were not ready in time")
        return _Over(OVER_TIME, f"ended after {self._limits.seconds:g} s, the limit")

    def told_of(self, trial: Trial, measured: dict[str, Any]) -> Trial:
        """A trial with what was seen, and what its process says of itself where it came to that.

        Its peak is the larger of the two, as one that was short is the process's own to tell.
        """
        return replace(
            trial,
            seconds=tuple(measured.get("seconds", ())),
            start_seconds=self._start_seconds,
            baseline=self._baseline,
            peak=max(self._peak, measured.get("peak") or 0) or None,
            resident_peak=measured.get("resident_peak"),
            device_peak=measured.get("device_peak") or self._device_peak or None,
            machine=measured.get("machine", {}),
        )
