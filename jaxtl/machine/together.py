"""Many processes at one piece of work, on one machine or several, by JAX's own runtime.

The process that a user starts watches another, which does the work: JAX's libraries end a process, with pages
of words, where one of the others has died. So somebody is left who can say it in a line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from jaxtl.errors import JaxtlError
from jaxtl.ranges import RANGES

# Seconds without a sign of life after which a process counts as dead, and the others end.
_HEARTBEAT = 20
# For all processes to be there, and, once their work is done, to wait for those that still have some.
_START, _END = 300, 30 * 24 * 3600
# In the process that works: the number of the file that takes what libraries say.
_WATCHED = "JAXTL_WATCHED"
_AGAIN = "start all of them again with the same commands, and they go on where they were"
# What JAX and its collectives say where another process is gone.
_OTHERS = ("distributed service", "coordination service", "Gloo", "gloo", "UNAVAILABLE", "DEADLINE_EXCEEDED")
# How a line of Gloo's begins where all are there.
_MET = "[Gloo] Rank"


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is; `detects` leaves it to what Slurm or Open MPI tell JAX.

    Attributes:
        coordinator: HOST:PORT that process 0 listens at, and all others can reach.
        processes: how many there are.
        process_id: of this one, from 0.
    """

    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None
    detects: bool = False

    def __post_init__(self) -> None:
        given = (self.coordinator, self.processes, self.process_id)
        if self.detects or all(part is None for part in given):
            return
        if None in given:
            raise JaxtlError(
                "--coordinator, --processes and --process-id: give all three, or --distributed alone under "
                "Slurm or Open MPI"
            )
        RANGES["processes"].checked("processes", self.processes)
        if not 0 <= self.process_id < self.processes:
            raise JaxtlError(f"--process-id {self.process_id}: must be 0 to {self.processes - 1}")
        host, colon, port = self.coordinator.rpartition(":")
        if not (host and colon and port.isdecimal() and int(port) < 2**16):
            raise JaxtlError(f"--coordinator {self.coordinator}: must be HOST:PORT, such as node1:9911")

    @property
    def is_alone(self) -> bool:
        return not self.detects and self.coordinator is None

    def __str__(self) -> str:
        return "this process" if self.process_id is None else f"process {self.process_id} of {self.processes}"


@dataclass(frozen=True)
class Rank:
    """Which of `count` processes this is, once they have met; the first one writes what is of all."""

    number: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.number == 0


@contextlib.contextmanager
def together(place: Place) -> Iterator[Rank]:
    """Inside, all processes are at it together; at the end each waits for the others.

    What looks at files belongs inside: a process that refuses its own before it has met the others leaves
    them to wait as for one that is late.

    Called in a process that nobody watches, it starts the one that works, waits for it, and ends as that did:
    SystemExit.

    Raises JaxtlError where the others do not come, or one of them ends before its time.
    """
    if place.is_alone:
        yield Rank()
        return
    if _WATCHED not in os.environ:
        sys.exit(_watch(place))
    _be_watched(int(os.environ.pop(_WATCHED)))
    import jax

    try:
        _meet(place)
        yield Rank(jax.process_index(), jax.process_count())
        jax.distributed.shutdown()
    except (RuntimeError, ValueError) as error:
        # JAX's own errors are RuntimeErrors.
        if _speaks_of_others(str(error)):
            raise JaxtlError(f"{_gone(place)} ({str(error).splitlines()[0][:200]})") from None
        raise


def _meet(place: Place) -> None:
    import jax

    # What processes of CPUs speak by; GPUs have NCCL.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    given = {}
    if not place.detects:
        given = {
            "coordinator_address": place.coordinator,
            "num_processes": place.processes,
            "process_id": place.process_id,
            # All devices of this process, without asking a cluster which.
            "cluster_detection_method": "deactivate",
        }
    seconds = {"heartbeat_timeout_seconds": _HEARTBEAT, "initialization_timeout": _START}
    try:
        jax.distributed.initialize(**given, **seconds, shutdown_timeout_seconds=_END)
    except ValueError as error:
        raise JaxtlError(
            f"--distributed: JAX finds neither Slurm nor Open MPI here ({error}); give --coordinator, "
            "--processes and --process-id"
        ) from None


def _watch(place: Place) -> int:
    """Start this command again as the process that works; its exit code.

    Raises JaxtlError where a signal ended it.
    """
    from jaxtl.machine.process import ending_of, run_watched

    ended = run_watched(sys.argv[1:], _WATCHED)
    if ended.code >= 0:
        return ended.code
    # JAX ends a process by another signal: this is the system's, for want of memory, or a user's.
    if ended.code != -signal.SIGKILL and _speaks_of_others(ended.errors):
        raise JaxtlError(_gone(place))
    raise JaxtlError(f"{place} {ending_of(ended.code)}; {_AGAIN}")


def _speaks_of_others(said: str) -> bool:
    lines = (line for line in said.splitlines() if not line.startswith(_MET))
    return any(word in line for line in lines for word in _OTHERS)


def _gone(place: Place) -> str:
    return f"{place} ends, as another one has ended or cannot be reached; {_AGAIN}"


def _be_watched(file: int) -> None:
    """What libraries say goes to a file, for who watches; and this process ends with that one."""
    # Gloo speaks on standard output, which is for results.
    for number, name in ((1, "stdout"), (2, "stderr")):
        getattr(sys, name).flush()
        seen = os.dup(number)
        os.dup2(file, number)
        how = {"buffering": 1 if os.isatty(seen) or number == 2 else -1, "errors": "backslashreplace"}
        setattr(sys, name, os.fdopen(seen, "w", **how))
    os.close(file)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Its end of the pipe closes when it ends, however that happens.
    while os.read(0, 1):
        pass
    os._exit(2)
