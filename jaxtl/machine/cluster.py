"""Tasks handed to Dask, whose scheduler says who does which, and has one done again whose worker died."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxtl.machine import worker
from jaxtl.machine.connection import Connection, connected
from jaxtl.machine.dispatch import Dispatch
from jaxtl.machine.tasks import Task
from jaxtl.machine.workforce import Workforce
from jaxtl.progress import Observer


@contextlib.contextmanager
def opened(dask: str, folder: Path, observer: Observer) -> Iterator[Cluster]:
    """A cluster, as long as the block is entered.

    Arguments and errors as of `jaxtl.machine.tasks.executor`.
    """
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

    def run(
        self, tasks: Sequence[Task], observer: Observer, done: Callable[[Task], None] = lambda task: None
    ) -> list[Any]:
        """As `jaxtl.machine.tasks.Executor.run`."""
        topic = f"jaxtl-{self._connection.session}-{next(self._rounds)}"
        dispatch = Dispatch(self._connection, self._workforce, topic, tasks, observer, done)
        with observer.interruptible() as heard, dispatch:
            return dispatch.run(heard)
