"""The house's one child process: a function's call elsewhere, so that one that hangs or dies costs no more.

The two processes speak JSON lines over the child's standard input and output. Not multiprocessing: its
"spawn" runs a user's script again unless that guards its main part, and its "fork" breaks CUDA.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.progress import Progress

_MESSAGE = 1 << 16
_STDERR_TAIL = 1 << 14
# What an operating system takes for a number of milliseconds; eleven days.
_LONGEST_WAIT = 1e6


class Silence(JaxtlError):
    """No answer came: in time, or at all.

    Attributes:
        late: whether the time was over; else the process has ended.
    """

    def __init__(self, message: str, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


class Child(contextlib.AbstractContextManager["Child"]):
    """A process that calls functions, started at once so that its imports are done when it is needed.

    Use it in a `with` statement: the process ends with it. It also ends when the process that started it
    ends, however that happens. One that hung, died or met an error is not used again, since a CUDA context
    may be spoiled for good: the next call starts another.

    Args:
        preload: modules to import at the start, such as "cuml". One that cannot be imported is left to the
            call that needs it.
    """

    def __init__(self, preload: tuple[str, ...] = ()) -> None:
        self._preload = preload
        self._process: _Process | None = _Process(preload)

    @property
    def pid(self) -> int | None:
        """The number of the process, where there is one."""
        process = self._process
        return process and process.pid

    def call(
        self,
        function: str,
        arguments: dict[str, Any],
        seconds: float = float("inf"),
        progress: Progress | None = None,
    ) -> Any:
        """What a function returns. One call at a time.

        Args:
            function: such as "package.module:function".
            arguments: its keyword arguments; they and what it returns must be what JSON can hold.
            seconds: for the answer, > 0; may be infinite.
            progress: called with the fraction of the work done, from 0 to 1, which the function tells its
                argument `progress`. What it raises ends the work.

        Raises:
            JaxtlError: as the function; Silence where no answer came.
            OSError: as the function.
            MemoryError, RuntimeError: any other error, its traceback as the cause.
        """
        line = json.dumps({"function": function, "arguments": arguments, "progress": progress is not None})
        process = self._process = self._process or _Process(self._preload)
        try:
            answer = process.ask(line, seconds, progress)
            if "done" not in answer:
                _raise(answer)
            return answer["done"]
        except BaseException:
            self.close()
            raise

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


class _Process:
    """The other process, as its parent sees it."""

    def __init__(self, preload: tuple[str, ...]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self._received = b""
        self._ready = False
        self._process = subprocess.Popen(
            # -P: nothing in the working directory may stand in for a module.
            [sys.executable, "-P", "-m", "jaxtl.machine.child", *preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment(),
            # Its own group: Ctrl-C in the terminal is for the parent, which ends this one.
            process_group=0,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: str, seconds: float, progress: Progress | None) -> dict[str, Any]:
        """The answer to a request. Raises Silence where there is none within the seconds."""
        deadline = time.monotonic() + seconds
        if not self._ready:
            self._receive(deadline, seconds)
            self._ready = True
        # A process that is gone says so by its silence.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._process.stdin.fileno(), request.encode() + b"\n")
        while "progress" in (answer := self._receive(deadline, seconds)):
            if time.monotonic() > deadline:
                raise _late(seconds)
            if progress:
                progress(answer["progress"])
        return answer

    def _receive(self, deadline: float, seconds: float) -> dict[str, Any]:
        source = self._process.stdout.fileno()
        while b"\n" not in self._received:
            if not _readable(source, deadline - time.monotonic()):
                raise _late(seconds)
            some = os.read(source, _MESSAGE)
            if not some:
                raise Silence(f"its process {self._end()}")
            self._received += some
        line, self._received = self._received.split(b"\n", 1)
        return json.loads(line)

    def _end(self) -> str:
        """How the process ended, and the last that it said."""
        # It may have closed its output and live on.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self.kill(close=False)
        code = self._process.returncode
        how = f"was ended by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        said = self._last_words()
        return f"{how} ({said})" if said else how

    def _last_words(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _STDERR_TAIL))
        lines = self._stderr.read().decode(errors="replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")

    def kill(self, close: bool = True) -> None:
        """End the process and those that it started."""
        if self._process.poll() is None:
            # Another thread may have been quicker.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if close:
            for stream in (self._process.stdin, self._process.stdout, self._stderr):
                stream.close()


def _late(seconds: float) -> Silence:
    return Silence(f"no result within {seconds:g} s", late=True)


def environment() -> dict[str, str]:
    """A child's: ours, with our import path; JAX, where it is used there, shares the card with us."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return os.environ | {"PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def _readable(source: int, seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        return bool(selector.select(min(max(0.0, seconds), _LONGEST_WAIT)))


def signal_name(number: int) -> str:
    """Such as "SIGSEGV", and what is often behind it."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name}, often for want of memory" if number == signal.SIGKILL else name


def serve(preload: list[str]) -> None:
    """The child's side: a request a line on standard input, its answers a line each on standard output."""
    requests, answers = take_channels()
    with contextlib.suppress(OSError):
        # Where memory runs out, Linux is to end this process and not the run.
        Path("/proc/self/oom_score_adj").write_text("1000")
    with dying_with_parent(requests.fileno()):
        for name in preload:
            _preload(name)
    send(answers, {"ready": True})
    for line in requests:
        with dying_with_parent(requests.fileno()):
            answer = _answer(json.loads(line), lambda fraction: send(answers, {"progress": float(fraction)}))
        send(answers, answer)


def take_channels() -> tuple[Any, Any]:
    """Standard input and output, which are then nothing and standard error."""
    # What libraries print must not come between the answers.
    requests, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


@contextlib.contextmanager
def dying_with_parent(requests: int) -> Iterator[None]:
    """The end of the parent ends this process in the middle of C code, too.

    Nothing comes on the channel while a request is being worked on, so the kernel's signal for it can only
    mean that the parent is gone. A thread that waits for it would need the interpreter's lock, which a
    hanging extension may hold; Linux's "parent died" signal comes already when the thread that started us
    ends.
    """
    flags = fcntl.fcntl(requests, fcntl.F_GETFL)
    fcntl.fcntl(requests, fcntl.F_SETOWN, os.getpid())
    # macOS ignores this signal unless it is handled.
    signal.signal(signal.SIGIO, signal.SIG_DFL if sys.platform == "linux" else lambda *_: os._exit(1))
    fcntl.fcntl(requests, fcntl.F_SETFL, flags | os.O_ASYNC)
    if _readable(requests, 0):  # it was gone before
        os._exit(1)
    try:
        yield
    finally:
        fcntl.fcntl(requests, fcntl.F_SETFL, flags)


def _preload(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception:
        traceback.print_exc()


def _answer(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    told = {"progress": progress} if request["progress"] else {}
    try:
        module, _, name = request["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        return {"done": function(**request["arguments"], **told)}
    except JaxtlError as error:
        return {"refused": str(error)}
    except OSError as error:
        return {"oserror": [error.errno, error.strerror or str(error), str(error.filename or "")]}
    except Exception as error:
        summary = "".join(traceback.format_exception_only(error)).strip()
        memory = isinstance(error, MemoryError)
        return {"failed": summary, "memory": memory, "traceback": f"\n{traceback.format_exc()}"}


def send(answers: Any, message: dict[str, Any]) -> None:
    """A message to the parent, as one line."""
    answers.write(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    serve(sys.argv[1:])
