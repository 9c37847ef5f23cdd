"""Tasks under way at workers of Dask's: handing them in, telling of them, and what became of them."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtl.machine import worker
from jaxtl.machine.child import Silence
from jaxtl.machine.connection import Connection
from jaxtl.machine.relay import Relay
from jaxtl.machine.surroundings import RECORDED
from jaxtl.machine.tasks import Named, Outcomes, Task, unpacked
from jaxtl.machine.workforce import Workforce
from jaxtl.progress import Observer

_LOOK_SECONDS = 1.0
_TICK = 0.1
# Of a task that is over, the last words are under way.
_LAST_WORDS_SECONDS = 2.0
# How often a task is done again whose process died and left its worker alive.
_RETRIES = 3
# What Dask sets for its workers, and numbers or speed hang on: tasks have it as this process has it.
_AS_HERE = (*RECORDED, "MALLOC_TRIM_THRESHOLD_")


class Dispatch(contextlib.AbstractContextManager["Dispatch"]):
    """Tasks under way: at its end, none is."""

    def __init__(
        self,
        connection: Connection,
        workforce: Workforce,
        topic: str,
        tasks: Sequence[Task],
        observer: Observer,
        outcomes: Outcomes,
    ) -> None:
        self._connection, self._workforce, self._topic = connection, workforce, topic
        self._client = connection.client
        self._tasks, self._observer, self._outcomes = tasks, observer, outcomes
        self._waiting = list(range(len(tasks)))
        self._ended: set[str] = set()
        self._environment = {name: os.environ.get(name) for name in _AS_HERE}
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        # By key of Dask's: the number of the task, and its future.
        self._numbers: dict[str, int] = {}
        self._futures: dict[int, Any] = {}
        # By number of the task: who does it, and who tells of it.
        self._where: dict[int, str] = {}
        self._relays: dict[int, Relay] = {}
        self._over: set[int] = set()
        self._looked = time.monotonic()

    def __enter__(self) -> Dispatch:
        self._client.subscribe_topic(self._topic, lambda event: self._messages.put(event[1]))
        return self

    def __exit__(self, *exception: object) -> None:
        for relay in self._relays.values():
            relay.__exit__(None, None, None)
        with contextlib.suppress(Exception):  # of a scheduler that has gone
            self._client.cancel(list(self._futures.values()), force=True)
            self._client.unsubscribe_topic(self._topic)

    def run(self, heard: Callable[[], None]) -> list[Any]:
        """Have all done. Returns and raises as `jaxtl.machine.tasks.Executor.run`."""
        self._hand_in()
        while self._futures:
            heard()
            self._hear()
            self._collect()
            if time.monotonic() - self._looked > _LOOK_SECONDS:
                self._look_after_workers()
                self._looked = time.monotonic()
        return self._outcomes.of(self._tasks)

    def _hand_in(self) -> None:
        """Give the scheduler the tasks that need not wait for others any longer."""
        names = {task.name for task in self._tasks}
        for number in list(self._waiting):
            if self._ended >= names.intersection(self._tasks[number].follows):
                self._waiting.remove(number)
                self._submit(number)

    def _submit(self, number: int) -> None:
        key, task = f"{self._topic}-{number}-{secrets.token_hex(4)}", self._tasks[number]
        self._numbers[key] = number
        asked = {"function": task.function, "arguments": dict(task.arguments), "apart": task.apart}
        self._futures[number] = self._client.submit(
            worker.do,
            asked,
            self._connection.session,
            self._topic,
            self._environment,
            key=key,
            resources={worker.RESOURCE: 1},
            retries=_RETRIES,
            pure=False,
        )

    # What is told.

    def _hear(self, seconds: float = _TICK) -> None:
        """Pass on what has been told; wait so long for the first."""
        with contextlib.suppress(queue.Empty):
            self._take(self._messages.get(timeout=seconds))
            while True:
                self._take(self._messages.get_nowait())

    def _take(self, message: Mapping[str, Any]) -> None:
        number = self._numbers[message["key"]]
        future = self._futures.get(number)
        if future is None or future.key != message["key"]:
            return  # of one that was given up
        if "begun" in message:
            self._stop(number)
            self._where[number] = message["at"]
            self._relays[number] = Relay(Named(self._observer, self._tasks[number].name))
            self._over.discard(number)
            self._outcomes.begin(self._tasks[number])
        elif number not in self._relays or message["at"] != self._where[number]:
            return  # of a worker that the scheduler holds for dead
        elif "over" in message:
            self._over.add(number)
        else:
            self._relays[number].hear(message["told"])

    def _stop(self, number: int) -> None:
        """Of a task that is under way, and whose process has died."""
        if number in self._relays:
            self._silence(number)
            name = self._tasks[number].name
            self._observer.notify(f"{name}: its process died; it goes on where that left it")

    def _silence(self, number: int) -> None:
        if relay := self._relays.pop(number, None):
            relay.__exit__(None, None, None)

    # What has become of tasks.

    def _collect(self) -> None:
        for number, future in list(self._futures.items()):
            if future.done():
                if future.status == "finished":
                    self._wait_for_last_words(number)
                self._silence(number)
                del self._futures[number]
                self._judge(self._tasks[number], future)
                self._ended.add(self._tasks[number].name)
                self._hand_in()

    def _wait_for_last_words(self, number: int) -> None:
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        while number not in self._over and time.monotonic() < deadline:
            self._hear()

    def _judge(self, task: Task, future: Any) -> None:
        """Tell what became of a task."""
        if future.status == "error":
            self._outcomes.keep_error(task, self._death(task, future.exception()))
        elif future.status != "finished":
            raise self._connection.lost()
        elif "returned" in (answer := future.result()):
            self._outcomes.keep(task, answer["returned"])
        else:
            self._outcomes.keep_error(task, unpacked(answer))

    def _death(self, task: Task, error: BaseException) -> Silence:
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            return Silence(
                f"{task.name}: every worker that began it has died, often for want of memory; take fewer "
                "workers on a machine, or one with more memory"
            )
        return Silence(f"{task.name}: {' '.join(str(error).split())}; tried {1 + _RETRIES} times")

    def _look_after_workers(self) -> None:
        if self._client.status == "closed":
            raise self._connection.lost()
        there = self._connection.there()
        for number in self._futures:
            if self._where.get(number) not in there:
                self._stop(number)
        if self._workforce.admit():
            self._submit_again()

    def _submit_again(self) -> None:
        """Tasks that waited for a worker at all: the scheduler does not see that one may do them by now."""
        under_way = {key for keys in self._connection.ask(self._client.processing).values() for key in keys}
        for number, future in list(self._futures.items()):
            if future.key not in under_way and not future.done():
                future.cancel()
                self._submit(number)
