"""Where processes are started, and nowhere else: servers of function calls, and foreign programs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from jaxtl.errors import JaxtlError
from jaxtl.machine import signals, surroundings
from jaxtl.machine.service import readable

_MESSAGE = 1 << 16
_TAIL = 1 << 14
# How often a call's `watch` is called.
_TICK = 0.05
# For the kernel to end a process that was killed: one inside a sick driver may outlast that.
_KILLED_SECONDS = 10.0


class Silence(JaxtlError):
    """No answer came: in time, or at all.

    Attributes:
        late: whether the time was over; else the process has ended.
        code: its exit code, or the number of the signal that ended it, below 0; None where it was late.
        said: the end of what it printed.
    """

    def __init__(self, message: str, late: bool = False, code: int | None = None, said: str = "") -> None:
        super().__init__(message)
        self.late, self.code, self.said = late, code, said


@dataclass(frozen=True)
class Ended:
    """A program that has ended.

    Attributes:
        code: its exit code, or the number of the signal that ended it, below 0.
        output: what it wrote to standard output; to its log instead where it had one.
        errors: what it wrote to standard error.
        seconds: from its start to its end.
        cpu_seconds: of processor time, its own and that of children that it waited for.
        peak_memory: bytes of its largest resident size, which counts that of this process as it started it.
    """

    code: int
    output: str
    errors: str
    seconds: float
    cpu_seconds: float
    peak_memory: int


def run_command(
    words: Sequence[str | Path],
    seconds: float = float("inf"),
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    log: Path | None = None,
) -> Ended:
    """Run a program to its end, with nothing on its standard input.

    Args:
        words: the program and its arguments.
        seconds: that it may take, > 0; then it is ended, and with it what it started.
        environment: variables beside those of this process.
        folder: its working folder.
        log: a file, made anew, for all that it prints.

    Raises:
        Silence: it did not end in time.
        OSError: there is no such program, or it cannot be started.
    """
    with _output_files(log) as (output, errors):
        began = time.perf_counter()
        process = _start(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=folder,
            env=os.environ | dict(environment or {}),
        )
        usage = _wait(process, seconds)
        taken = time.perf_counter() - began
        if usage is None:
            raise Silence(f"{words[0]}: no result within {seconds:g} s", late=True, said=_tail(errors))
        texts = ("", "") if log else (_whole(output), _whole(errors))
        peak = usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024
        return Ended(process.returncode, *texts, taken, usage.ru_utime + usage.ru_stime, peak)


def run_watched(arguments: Sequence[str], variable: str) -> Ended:
    """Run the command line of jaxtl to its end, on this process's terminal: it prints what this one would.

    Its standard input ends when this process does.

    Args:
        arguments: its words.
        variable: by this it is given the number of a file, for what libraries write to its standard error.

    Returns:
        How it ended; `errors` is the end of that file, and `output` is empty.
    """
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = _start(
            [sys.executable, "-P", "-m", "jaxtl", *arguments],
            stdin=subprocess.PIPE,
            pass_fds=(said.fileno(),),
            env=os.environ | {"PYTHONPATH": _import_path(), variable: str(said.fileno())},
        )
        usage = _wait(process, float("inf"))
        process.stdin.close()
        taken = time.perf_counter() - began
        cpu_seconds, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        return Ended(process.returncode, "", _tail(said), taken, cpu_seconds, peak)


def _start(words: Sequence[str | Path], **how: Any) -> subprocess.Popen:
    """A process that ends with this one, where that is ended by a signal."""
    with signals.spawning:
        # Its own group: it ends with what it started, and Ctrl-C in the terminal is for us.
        process = subprocess.Popen(words, process_group=0, **how)
        signals.kill_at_end(process.pid)
    return process


@contextlib.contextmanager
def _output_files(log: Path | None) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    if log:
        with log.open("w+b") as both:
            yield both, both
    else:
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            yield output, errors


def _wait(process: subprocess.Popen, seconds: float) -> Any:
    """Resource usage of a process that has ended; None where the time was over first."""
    ended: list[tuple[int, int, Any]] = []
    waiter = threading.Thread(target=lambda: ended.append(os.wait4(process.pid, 0)), daemon=True)
    waiter.start()
    try:
        waiter.join(min(seconds, threading.TIMEOUT_MAX))
    finally:
        if late := waiter.is_alive():
            _kill_group(process.pid)
            waiter.join(_KILLED_SECONDS)
        signals.end_by_signal()
        # Or Popen would wait for it again.
        process.returncode = os.waitstatus_to_exitcode(ended[0][1]) if ended else -signal.SIGKILL
        signals.forget(process.pid)
    return None if late else ended[0][2]


def _kill_group(leader: int) -> None:
    # It may have ended by itself; macOS has another error for that.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _whole(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _tail(file: IO[bytes]) -> str:
    # Not by seek: the process that writes has the same place in the file.
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), _TAIL, max(0, size - _TAIL)).decode(errors="replace")


class Server:
    """A process that answers requests for calls, as its parent sees it; `Child` is for use.

    Both speak JSON lines over its standard input and output (its side: `jaxtl.machine.service`). Not
    multiprocessing: its "spawn" runs a user's script again unless that guards its main part, and its "fork"
    breaks CUDA.

    Args:
        preload, environment, folder, log: as of `jaxtl.machine.child.Child`.
    """

    def __init__(
        self,
        preload: tuple[str, ...],
        environment: Mapping[str, str | None],
        folder: Path | None,
        log: Path | None,
    ) -> None:
        self._printed = log.open("a+b") if log else tempfile.TemporaryFile()  # noqa: SIM115
        self._received = b""
        self._ready = False
        its_end, own_end = os.pipe()
        # Closed when this process ends, however it does; the child then ends too.
        self._lifeline = os.fdopen(own_end, "wb", buffering=0)
        try:
            self._process = _start(
                # -P: nothing in the working directory may stand in for a module.
                [sys.executable, "-P", "-m", "jaxtl.machine.service", str(its_end), *preload],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._printed,
                cwd=folder,
                env=_environment(environment),
                pass_fds=(its_end,),
            )
        finally:
            os.close(its_end)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is gone, by whatever."""
        return self._process.poll() is not None

    def ask(
        self,
        request: str,
        seconds: float,
        heard: Mapping[str, Callable[[Any], None] | None],
        watch: Callable[[], None] | None,
    ) -> dict[str, Any]:
        """The answer to a request. Raises Silence where there is none within the seconds."""
        deadline = time.monotonic() + seconds
        if not self._ready:
            self._receive(deadline, seconds, watch)
            self._ready = True
        # A process that is gone says so by its silence.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._process.stdin.fileno(), request.encode() + b"\n")
        while True:
            answer = self._receive(deadline, seconds, watch)
            kind = next(iter(answer))
            if kind not in heard:
                return answer
            if time.monotonic() > deadline:
                raise self._late(seconds)
            if callback := heard[kind]:
                callback(answer[kind])

    def _receive(self, deadline: float, seconds: float, watch: Callable[[], None] | None) -> dict[str, Any]:
        source = self._process.stdout.fileno()
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if readable(source, min(left, _TICK) if watch else left):
                some = os.read(source, _MESSAGE)
                if not some:
                    raise self._ended()
                self._received += some
            elif time.monotonic() >= deadline:
                raise self._late(seconds)
            if watch:
                watch()
        line, self._received = self._received.split(b"\n", 1)
        return json.loads(line)

    def _late(self, seconds: float) -> Silence:
        return Silence(f"no result within {seconds:g} s", late=True, said=self.said())

    def _ended(self) -> Silence:
        """How the process ended, and the last that it said."""
        signals.end_by_signal()
        # It may have closed its output and live on.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self.kill(close=False)
        code, said = self._process.returncode, self.said()
        words = next((line.strip()[:300] for line in reversed(said.split("\n")) if line.strip()), "")
        return Silence(f"its process {ending_of(code)}{f' ({words})' if words else ''}", code=code, said=said)

    def said(self) -> str:
        return _tail(self._printed)

    def kill(self, close: bool = True) -> None:
        """End the process and those that it started."""
        if self._process.poll() is None:
            # Another thread may have been quicker.
            _kill_group(self._process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILLED_SECONDS)
        signals.forget(self._process.pid)
        if close:
            for stream in (self._process.stdin, self._process.stdout, self._printed, self._lifeline):
                stream.close()


def _environment(given: Mapping[str, str | None]) -> dict[str, str]:
    """A child's: ours, with our import path; JAX, where it is used there, shares the card with us."""
    shared = {"PYTHONPATH": _import_path(), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    ours = surroundings.plain(os.environ) | shared
    return {name: value for name, value in {**ours, **given}.items() if value is not None}


def _import_path() -> str:
    return os.pathsep.join(os.path.abspath(entry) for entry in sys.path)


def ending_of(code: int | None) -> str:
    """Such as "was ended by SIGSEGV", and what is often behind it."""
    if code is None:
        return "cannot be ended"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}{', often for want of memory' if -code == signal.SIGKILL else ''}"
