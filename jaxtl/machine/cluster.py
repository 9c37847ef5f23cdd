"""Tasks handed to Dask, whose scheduler says who does which, and has one done again whose worker died."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxtl.machine import worker
from jaxtl.machine.connection import Connection, connected
from jaxtl.machine.dispatch import Dispatch
from jaxtl.machine.tasks import Executor, InTurn, Outcomes, Task
from jaxtl.machine.workforce import Workforce
from jaxtl.progress import Observer


@contextlib.contextmanager
def executor(dask: str | None, folder: Path, observer: Observer) -> Iterator[Executor]:
    """Who is to do tasks as long as the block is entered; those under way at its end are given up.

    Args:
        dask: None for this machine, and one task at a time; else "local:N" for N processes of Dask's on this
            machine, or the address of a scheduler of Dask's.
        folder: where the tasks' files will be; it need not be there yet.
        observer: told what is worth knowing of the processes.

    Raises JaxtlError where Dask is not installed, nobody answers, or workers cannot do the work.
    """
    if dask is None:
        yield InTurn()
        return
    with connected(dask) as (connection, count):
        connection.wait(count)
        workforce = Workforce(connection, folder, observer)
        try:
            workforce.admit(strict=True)
            observer.notify(workforce.told())
            yield Cluster(connection, workforce)
        finally:
            with contextlib.suppress(Exception):
                connection.client.run(worker.leave, connection.session, on_error="ignore")


class Cluster:
    """Workers of Dask's, as an executor of tasks (`jaxtl.machine.tasks.Executor`)."""

    def __init__(self, connection: Connection, workforce: Workforce) -> None:
        self._connection, self._workforce = connection, workforce
        self._rounds = itertools.count()

    @property
    def workers(self) -> int:
        return self._workforce.count

    @property
    def beside(self) -> int:
        return self._workforce.beside

    def run(self, tasks: Sequence[Task], observer: Observer, outcomes: Outcomes | None = None) -> list[Any]:
        """As `jaxtl.machine.tasks.Executor.run`."""
        topic = f"jaxtl-{self._connection.session}-{next(self._rounds)}"
        dispatch = Dispatch(self._connection, self._workforce, topic, tasks, observer, outcomes or Outcomes())
        with observer.interruptible() as heard, dispatch:
            return dispatch.run(heard)
