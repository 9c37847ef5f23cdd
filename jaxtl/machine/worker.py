"""What Dask's workers do for jaxtl: they say what they are, and do tasks, each in a child process.

In a child, since Dask cannot end what a thread of its worker is at: a task that nobody wants any longer is
ended with its process, and so it is where the worker dies. The child is kept for the next task of the same
session, which finds libraries imported, programs compiled and the frozen layers' outputs made; but for a task
that is to be apart, which begins with a new one and ends with it.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jaxtl
from jaxtl.errors import JaxtlError
from jaxtl.machine import shares
from jaxtl.machine.child import Child
from jaxtl.machine.devices import DEVICES
from jaxtl.machine.host import versions
from jaxtl.machine.process import Silence
from jaxtl.machine.shares import Share
from jaxtl.machine.tasks import PERFORM, packed

# What a worker has of which its scheduler gives it one task at a time.
RESOURCE = "jaxtl"
# A child that has nothing to do ends after so long: its memory, and a GPU's, are others' too.
_IDLE_SECONDS = 60.0
_UNDER_WAY = ("executing", "long-running")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def facts(folder: str, token: str, libraries: tuple[str, ...]) -> dict[str, Any]:
    """What a worker is, and whether it has the folder that its client has.

    Args:
        folder: that is to be shared.
        token: a text that the client has put there, in the file `probe(folder, token)`.
        libraries: whose versions numbers can depend on.

    Returns:
        What `jaxtl.machine.shares.divided` takes, `machine`, which machine that is of, `host`, `versions`,
        and `wrote`, the file that it left there, or `fault`, why it could not.
    """
    about = {
        "host": platform.node(),
        "machine": _BOOT.read_text().strip() if _BOOT.is_file() else platform.node(),
        "cores": shares.cores_here(),
        "gpus": shares.gpus_here(),
        "versions": versions_here(libraries),
    }
    try:
        if probe(folder, token).read_text() != token:
            return {**about, "fault": "it has another file there"}
        mine = probe(folder, f"{token}-{platform.node()}-{os.getpid()}")
        mine.write_text(token)
        return {**about, "wrote": str(mine)}
    except OSError as error:
        return {**about, "fault": error.strerror or str(error)}


def versions_here(libraries: tuple[str, ...]) -> dict[str, str]:
    """Of jaxtl, Python, and those libraries that are installed."""
    return {"jaxtl": jaxtl.__version__, "python": platform.python_version(), **versions(libraries)}


def probe(folder: str | os.PathLike[str], token: str) -> Path:
    """The file that tells whether two processes have the same folder."""
    return Path(folder) / f".jaxtl-probe-{token}"


class _Kept:
    """The child of this worker, the session that it serves, and what it computes with."""

    lock = threading.RLock()
    session: str = ""
    share = Share()
    child: Child | None = None
    ending: threading.Timer | None = None


async def give(session: str, share: Share | None, dask_worker: Any) -> None:
    """Say what tasks of a session compute with here, from the next one on; None for a worker to be left out.

    Called by Dask, with its worker, whose scheduler then knows that it does one task at a time.
    """
    with _Kept.lock:
        if (session, share) != (_Kept.session, _Kept.share):
            leave(_Kept.session)
            _Kept.session, _Kept.share = session, share or Share()
    await dask_worker.set_resources(**{RESOURCE: int(share is not None)})


def leave(session: str) -> None:
    """End what is kept for a session."""
    with _Kept.lock:
        if _Kept.session == session and _Kept.child is not None:
            _Kept.child.close()
            _Kept.child = None


def do(task: Mapping[str, Any], session: str, topic: str, environment: Mapping[str, str | None]) -> Any:
    """A task's outcome, `returned` or what `packed` makes of an error. Called by Dask, in a thread.

    Args:
        task: `function`, `arguments` and `apart` of a `jaxtl.machine.tasks.Task`.
        topic: of Dask's events, for who is told how the work gets on.
        environment: variables that the child is to have.

    Raises RuntimeError where the child died, for Dask to have the task done again.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def log(**message: Any) -> None:
        worker.log_event(topic, {"key": key, "at": worker.address, **message})

    def look() -> None:
        state = worker.state.tasks.get(key)
        if state is None or state.state not in _UNDER_WAY:
            raise _Unwanted

    log(begun=True)
    try:
        return {"returned": _called(task, session, environment, partial(_tell, log), look)}
    except Silence as silence:
        raise RuntimeError(str(silence)) from None
    except (JaxtlError, OSError, MemoryError, RuntimeError) as error:
        return packed(error)
    finally:
        log(over=True)


def _tell(log: Callable[..., None], message: Any) -> None:
    log(told=message)


class _Unwanted(Exception):
    """The task was cancelled, or its client has gone."""


def _called(
    task: Mapping[str, Any],
    session: str,
    environment: Mapping[str, str | None],
    tell: Callable[[Any], None],
    look: Callable[[], None],
) -> Any:
    share = _Kept.share
    request = {"function": task["function"], "arguments": task["arguments"], "beside": share.beside}
    # All the time: a child that died before is started again as it is called.
    with shares.pinned(share.cores):
        child = _taken(task, session, environment, share)
        try:
            return child.call(PERFORM, request, told=tell, watch=look)
        finally:
            if task["apart"]:
                child.close()
            else:
                _put_back(child, session, share)


def _taken(
    task: Mapping[str, Any], session: str, environment: Mapping[str, str | None], share: Share
) -> Child:
    """The child that is kept for the session, or a new one, beside which none is kept."""
    with _Kept.lock:
        if _Kept.ending:
            _Kept.ending.cancel()
        if _Kept.session != session or task["apart"]:
            leave(_Kept.session)
            _Kept.session = session
        child, _Kept.child = _Kept.child, None
    if child is None:
        # One of them, whatever number the command's own process was told.
        gpu = {} if share.gpu is None else {"CUDA_VISIBLE_DEVICES": share.gpu, DEVICES: None}
        child = Child((task["function"].partition(":")[0],), {**environment, **gpu})
    return child


def _put_back(child: Child, session: str, share: Share) -> None:
    """Keep a child for a while."""
    with _Kept.lock:
        if (_Kept.session, _Kept.share, _Kept.child) != (session, share, None):
            child.close()
            return
        _Kept.child = child
        _Kept.ending = threading.Timer(_IDLE_SECONDS, leave, (session,))
        _Kept.ending.daemon = True
        _Kept.ending.start()
