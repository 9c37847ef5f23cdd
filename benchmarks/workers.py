"""Peers in processes of their own, that work in turn: never two at once, each with its libraries alone.

A worker serves the functions of one module. The parent imports neither JAX nor TensorFlow.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import ROOT
from jaxtl.errors import JaxtlError

# Of measurements of the CPU; Keras's backend may be set otherwise where it is used for tests.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# JAX would go on with the CPU where the GPU fails; named like this it raises. The CPU stays for comparison.
# Several processes share the card.
GPU_ENVIRONMENT = {"JAX_PLATFORMS": "cuda,cpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class Deadline:
    """The moment when a benchmark has to end."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    @property
    def left(self) -> float:
        return max(0.0, self.seconds - self.elapsed)

    def missed(self, what: str) -> JaxtlError:
        return JaxtlError(
            f"{what}: not done within {self.seconds / 60:.3g} minutes; raise --limit, or measure less with "
            "--only or a manifest (what was done is written)"
        )


class Worker(AbstractContextManager):
    """A process that serves a module's functions, one call at a time.

    Attributes:
        deadline: of the next call; it may be set anew.

    Args:
        module: its name.
        deadline: as above.
        environment: added to the parent's.
    """

    def __init__(self, module: str, deadline: Deadline, environment: Mapping[str, str] = ENVIRONMENT) -> None:
        self._module, self.deadline = module, deadline
        self._pipe, theirs = Pipe()
        # Libraries talk a lot there; what they say last may tell why a process died.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        # Not multiprocessing's: in a child of it joblib takes one thread only, and scikit-learn with it.
        # In a session of its own, for Ctrl-C is the parent's affair, and what it starts ends with it.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(ROOT), module, str(theirs.fileno())],
            env={**os.environ, **environment}, pass_fds=[theirs.fileno()], start_new_session=True,
            stdout=self._errors, stderr=self._errors,
        )  # fmt: skip
        theirs.close()

    def call(self, function: str, **arguments: Any) -> Any:
        """What the module's function returns.

        Raises:
            JaxtlError: the deadline passes first.
            RuntimeError: the function fails, with its traceback, or the process dies.
        """
        what = f"{self._module}.{function}"
        try:
            self._pipe.send((function, arguments))
        except OSError:
            raise self._died(what) from None
        if not self._pipe.poll(self.deadline.left):
            raise self.deadline.missed(what)
        try:
            done, value = self._pipe.recv()
        except (EOFError, OSError):  # a pipe that is reset: it died before it read the request
            raise self._died(what) from None
        if not done:
            raise RuntimeError(f"{what} failed:\n{value}")
        return value

    def _died(self, what: str) -> RuntimeError:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace")[-2000:]
        return RuntimeError(f"{said}\n{what}: its process died with code {code}")

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and those that it has started."""
        for end in (signal.SIGTERM, signal.SIGKILL):  # a driver that hangs may outlast even the second
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, end)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
                break
        self._pipe.close()
        self._errors.close()


_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from benchmarks import workers; workers.serve(sys.argv[2], int(sys.argv[3]))"
)


def serve(module: str, handle: int) -> None:
    """What a worker's process does: answer calls over a pipe until it is closed."""
    pipe = Connection(handle)
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(import_module(module), function)(**arguments)))
        except Exception:  # whatever it is, the parent raises it
            pipe.send((False, traceback.format_exc()))


class Finished(NamedTuple):
    """A process that has ended: seconds of wall and processor time, peak resident bytes."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run_process(
    command: list[str], folder: Path, deadline: Deadline, environment: Mapping[str, str] = ENVIRONMENT
) -> Finished:
    """Run a command in `folder`; its output goes to `output.txt` there.

    The peak is the kernel's for that process. It counts the parent's size at the fork too, which is why
    the parent stays small.

    Raises:
        JaxtlError: the deadline passes first.
        RuntimeError: it fails, with the end of its output.
    """
    log = folder / "output.txt"
    with log.open("wb") as stream:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=stream, stderr=subprocess.STDOUT
        )
        usage, code = _wait(process, deadline.left)
        seconds = time.perf_counter() - began
    if code is None:
        raise deadline.missed(" ".join(command[:4]))
    if code:
        tail = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)}: exit code {code}\n{tail}")
    peak = usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024
    return Finished(seconds, usage.ru_utime + usage.ru_stime, peak)


def _wait(process: subprocess.Popen, limit: float) -> tuple[Any, int | None]:
    """Resource usage and exit code; the code is None where the limit came first."""
    timer = threading.Timer(limit, process.kill)
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        raise
    finally:
        late = not timer.is_alive()
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)  # or Popen would wait for it again
    return usage, None if late else process.returncode
