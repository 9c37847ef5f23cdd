"""A point's process as the study sees it: started clean, watched, and ended where it goes over a limit."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtl.machine.card import Card
from jaxtl.machine.child import environment, signal_name
from jaxtl.progress import Progress
from jaxtl.scaling.settings import Limits
from jaxtl.scaling.trials import DONE, FAILED, OUT_OF_MEMORY, OVER_MEMORY, OVER_TIME

# How often memory is looked at; a shorter peak is the process's own to tell.
_TICK = 0.05
# Processes that it may have started are looked for less often.
_FAMILY_TICK = 1.0
# For imports and a tiny map; a library that hangs there would otherwise stop the study.
_START_SECONDS = 600.0
_MESSAGE = 1 << 16


@dataclass(frozen=True)
class Outcome:
    """How a point ended: as the fields of `jaxtl.scaling.trials.Point` of these names.

    `peak` is the largest of what was seen from outside and what the process says of itself, if it can tell.
    """

    status: str
    note: str = ""
    seconds: tuple[float, ...] = ()
    start_seconds: float | None = None
    baseline: int | None = None
    peak: int | None = None
    resident_peak: int | None = None
    device_peak: int | None = None
    machine: dict[str, Any] | None = None


def run(request: dict[str, Any], limits: Limits, progress: Progress) -> Outcome:
    """Compute a point in a process of its own. What `progress` raises ends the process."""
    with _Watched(request, limits) as watched:
        return watched.follow(progress)


class _Watched(contextlib.AbstractContextManager["_Watched"]):
    def __init__(self, request: dict[str, Any], limits: Limits) -> None:
        self._limits, self._stderr = limits, tempfile.TemporaryFile()  # noqa: SIM115
        self._card = Card() if request["on_gpu"] else None
        self._process = subprocess.Popen(
            # -P: nothing in the working directory may stand in for a module.
            [sys.executable, "-P", "-m", "jaxtl.scaling.measurement", json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment(),
            # Its own group: Ctrl-C in the terminal is for the study, which ends this one.
            process_group=0,
        )
        self._received, self._start = b"", None
        self._baseline: int | None = None
        self._peak, self._device_peak = 0, 0
        self._family, self._family_seen = [self._process.pid], 0.0
        self._deadline = time.monotonic() + _START_SECONDS + limits.seconds

    def __exit__(self, *exception: object) -> None:
        self._kill()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            stream.close()

    def follow(self, progress: Progress) -> Outcome:
        reached, ran = 0.0, False
        for message in self._messages():
            self._look()
            if self._peak > self._limits.memory:
                return self._over_memory()
            if time.monotonic() > self._deadline:
                return self._over_time()
            if "progress" in message or not message:
                # Told while the process is silent too, so that Ctrl-C is noticed.
                reached = message.get("progress", reached)
                progress(reached)
            elif "ready" in message:
                self._start, self._baseline = message["ready"], message["baseline"]
                self._deadline = time.monotonic() + self._limits.seconds
            elif "run" in message:
                # A quick one may be over before this side looks at the clock.
                if not ran and message["run"] > self._limits.seconds:
                    return self._over_time()
                # The map is there: repetitions, of which the first was the measure, are not held against it.
                ran = True
                self._deadline = time.monotonic() + self._limits.seconds + _START_SECONDS
            else:
                return self._end(message)
        return self._died()

    def _messages(self) -> Iterator[dict[str, Any]]:
        """What the process says, and an empty message where it said nothing for a tick."""
        source = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            while True:
                if not selector.select(_TICK):
                    yield {}
                    continue
                some = os.read(source, _MESSAGE)
                if not some:
                    return
                *lines, self._received = (self._received + some).split(b"\n")
                yield from map(json.loads, lines)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._family_seen > _FAMILY_TICK:
            self._family, self._family_seen = _group(self._process.pid), now
        self._peak = max(self._peak, sum(map(_private, self._family)))
        if self._card:
            self._device_peak = max(self._device_peak, self._card.used())

    def _end(self, message: dict[str, Any]) -> Outcome:
        if "done" not in message:
            status = OUT_OF_MEMORY if "out_of_memory" in message else FAILED
            return self._outcome(status, next(iter(message.values())))
        found = message["done"]
        return self._outcome(
            DONE,
            seconds=tuple(found["seconds"]),
            peak=max(self._peak, found["peak"] or 0),
            resident_peak=found["resident_peak"],
            device_peak=found["device_peak"] or self._device_peak or None,
            machine=found["machine"],
        )

    def _over_memory(self) -> Outcome:
        reached, limit = (f"{each / 2**30:.2f} GiB" for each in (self._peak, self._limits.memory))
        return self._outcome(OVER_MEMORY, f"ended at {reached}, the limit is {limit}", peak=self._peak)

    def _over_time(self) -> Outcome:
        if self._start is None:
            return self._outcome(FAILED, "its libraries were not ready in time")
        return self._outcome(OVER_TIME, f"ended after {self._limits.seconds:g} s, the limit", peak=self._peak)

    def _died(self) -> Outcome:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._kill()
        code = self._process.returncode
        how = f"was ended by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        said = self._last_words()
        status = OUT_OF_MEMORY if code == -signal.SIGKILL else FAILED
        return self._outcome(status, f"its process {how}{f' ({said})' if said else ''}", peak=self._peak)

    def _outcome(self, status: str, note: str = "", **found: Any) -> Outcome:
        return Outcome(status, note, start_seconds=self._start, baseline=self._baseline, **found)

    def _last_words(self) -> str:
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - _MESSAGE))
        lines = self._stderr.read().decode(errors="replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _group(leader: int) -> list[int]:
    """The processes of a group; the leader alone where the system does not tell."""
    found = [leader]
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # After the name, which may hold anything: state, parent, group.
            group = int(entry.read_text().rpartition(")")[2].split()[2])
            if group == leader and int(entry.parent.name) != leader:
                found.append(int(entry.parent.name))
    return found


def _private(pid: int) -> int:
    """Bytes resident that are no file's: 0 for a process that is gone."""
    if sys.platform == "darwin":
        told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True).stdout
        return int(told.strip() or 0) * 1024
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return (
            sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:"))) * 1024
        )
    return 0
