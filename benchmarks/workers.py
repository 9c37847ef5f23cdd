"""Peers in processes of their own, that work in turn: never two at once, each with its libraries alone.

The parent imports neither JAX nor TensorFlow.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.machine.child import Child
from jaxtl.machine.process import Ended, Silence, run_command

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
            f"{what}: not done within {self.seconds / 60:.3g} minutes; raise --limit or the manifest's "
            "call_seconds, or measure less with --only (what was done is written)"
        )


class Worker(AbstractContextManager["Worker"]):
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
        self._child = Child(environment=dict(environment))

    def call(self, function: str, **arguments: Any) -> Any:
        """What the module's function returns.

        Raises:
            JaxtlError: the deadline passes first; or as the function.
            RuntimeError: the function fails, or the process dies.
        """
        what = f"{self._module}.{function}"
        try:
            return self._child.call(f"{self._module}:{function}", arguments, self.deadline.left)
        except Silence as error:
            raise (self.deadline.missed(what) if error.late else RuntimeError(f"{what}: {error}")) from error
        except OSError as error:
            raise RuntimeError(f"{what}: OSError: {error}") from error

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and those that it has started."""
        self._child.close()


def run_process(
    command: list[str],
    folder: Path,
    deadline: Deadline,
    environment: Mapping[str, str] = ENVIRONMENT,
    allowed: Collection[int] = (0,),
) -> Ended:
    """Run a command in `folder`; its output goes to `output.txt` there.

    Its peak of memory is the kernel's. It counts the parent's size at the start too, which is why the parent
    stays small.

    Raises:
        JaxtlError: the deadline passes first.
        RuntimeError: it fails, by an exit code that is not `allowed`, with the end of its output.
    """
    log = folder / "output.txt"
    try:
        ended = run_command(
            command, seconds=deadline.left, environment=dict(environment), folder=folder, log=log
        )
    except Silence as error:
        raise deadline.missed(" ".join(command[:4])) from error
    if ended.code not in allowed:
        said = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)}: exit code {ended.code}\n{said}")
    return ended
