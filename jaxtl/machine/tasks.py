"""Independent work: tasks that need nothing of one another, done here in turn or by other processes.

A task says what to call, and with what: words and numbers, so that any process on any machine can be told of
it. What it makes it leaves in files, whole or not at all, so that one whose process died is done again and
goes on with what is there. `InTurn` does tasks on this machine; `jaxtl.machine.cluster` hands them to Dask.
"""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtl.errors import JaxtlError
from jaxtl.machine import memory
from jaxtl.machine.child import Child, Silence
from jaxtl.machine.relay import Message, Relay, Teller
from jaxtl.progress import Attempt, Observer, Progress

# What a child process calls.
PERFORM = f"{__name__}:perform"
_KILLED = "its process was killed, most likely for want of memory; end other programs, or leave it out"


@dataclass(frozen=True)
class Task:
    """Work that needs no other's.

    Attributes:
        name: of it alone among those that are done together, for who looks on, such as "seed 3".
        function: such as "package.module:function". It is called with `arguments` and with the keyword
            `observer` (`jaxtl.progress.Observer`), in a process that may have done others before. What it
            returns must be what JSON can hold. It may be called again where its process died.
        arguments: its keyword arguments, what JSON can hold; paths among them are absolute.
        follows: names of tasks before it in the list that must have ended, well or not, before it begins, as
            it can use what they leave.
        apart: whether it wants a process that does no other task: its memory is then its own to tell, and one
            that dies costs the others nothing.
    """

    name: str
    function: str
    arguments: Mapping[str, Any]
    follows: tuple[str, ...] = ()
    apart: bool = False


class Outcomes:
    """What became of tasks.

    Args:
        done: called with each task that has ended well, and what it returned; before any that follows it
            begins.
        failed: called with each other one and its error; where it is None, the first JaxtlError is raised
            when all tasks have ended, and any other error at once.
        begun: called with each task that begins; again where its process has died.
    """

    def __init__(
        self,
        done: Callable[[Task, Any], None] | None = None,
        failed: Callable[[Task, Exception], None] | None = None,
        begun: Callable[[Task], None] | None = None,
    ) -> None:
        self._done, self._failed, self._begun = done, failed, begun
        self._results: dict[str, Any] = {}
        self._refused: list[JaxtlError] = []

    def begin(self, task: Task) -> None:
        if self._begun:
            self._begun(task)

    def keep(self, task: Task, result: Any) -> None:
        self._results[task.name] = result
        if self._done:
            self._done(task, result)

    def keep_error(self, task: Task, error: Exception) -> None:
        if self._failed:
            self._failed(task, error)
        elif isinstance(error, JaxtlError):
            self._refused.append(error)
        else:
            raise error

    def of(self, tasks: Sequence[Task]) -> list[Any]:
        """What each returned; None of one that did not end well."""
        if self._refused:
            raise self._refused[0]
        return [self._results.get(task.name) for task in tasks]


class Executor(Protocol):
    """Who does tasks."""

    @property
    def workers(self) -> int:
        """How many there are now, each with a task at a time; 0 where they are waited for."""

    @property
    def beside(self) -> int:
        """How many of them share a machine, at most."""

    def run(self, tasks: Sequence[Task], observer: Observer, outcomes: Outcomes | None = None) -> list[Any]:
        """Do all of them, in any order that they allow. Returns what each returned, in the order of `tasks`.

        Args:
            tasks: of different names.
            observer: told of their steps, each by the name of its task where several are under way.
            outcomes: told by this thread, as each ends; it says which errors are raised.
        """


class InTurn:
    """One task after another: in this process, or, where a task is to be apart, in one of its own.

    Args:
        given: keyword arguments of all tasks that another process could not be told, such as arrays: with
            some, no task is done apart.
    """

    workers = beside = 1

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        self._given = given

    def run(self, tasks: Sequence[Task], observer: Observer, outcomes: Outcomes | None = None) -> list[Any]:
        """As `Executor.run`."""
        outcomes = outcomes or Outcomes()
        for task in tasks:
            outcomes.begin(task)
            try:
                result = self._returned(task, observer)
            except (JaxtlError, OSError, MemoryError, RuntimeError) as error:
                outcomes.keep_error(task, error)
            else:
                outcomes.keep(task, result)
        return outcomes.of(tasks)

    def _returned(self, task: Task, observer: Observer) -> Any:
        if task.apart and self._given is None:
            return _apart(task, observer)
        return call(task.function, {**task.arguments, **(self._given or {})}, observer)


def _apart(task: Task, observer: Observer) -> Any:
    """What a task returns in a process of its own; raises Silence where that dies."""
    request = {"function": task.function, "arguments": dict(task.arguments), "beside": 1}
    with Relay(observer) as relay, Child((task.function.partition(":")[0],)) as child:
        try:
            return child.call(PERFORM, request, told=relay.hear)
        except Silence as silence:
            killed = (
                "its process was killed, most likely for want of memory; end other programs, or leave it out"
            )
            said = killed if silence.code == -signal.SIGKILL else str(silence)
            raise Silence(f"{task.name}: {said}", code=silence.code) from None


class Named:
    """An observer of one among several tasks under way: what it passes on begins with the task's name."""

    def __init__(self, observer: Observer, name: str) -> None:
        self._observer, self._name = observer, name
        self.interruptible = observer.interruptible

    def step(self, title: str) -> AbstractContextManager[Progress]:
        return self._observer.step(self._named(title))

    def attempt(self, title: str) -> AbstractContextManager[Attempt]:
        return self._observer.attempt(self._named(title))

    def notify(self, text: str) -> None:
        self._observer.notify(self._named(text))

    def _named(self, text: str) -> str:
        return text if text.startswith(self._name) else f"{self._name}: {text}"


def call(function: str, arguments: Mapping[str, Any], observer: Observer) -> Any:
    """What a task's function returns."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(**arguments, observer=observer)


def perform(function: str, arguments: Mapping[str, Any], beside: int, tell: Callable[[Message], None]) -> Any:
    """The same in a child process, whose parent hears of it by `tell` (`jaxtl.machine.relay`).

    `beside`: processes like this one on the machine, which share its memory.
    """
    memory.share_among(beside)
    return call(function, arguments, Teller(tell))


def packed(error: BaseException) -> dict[str, Any]:
    """An error as JSON can hold it."""
    if isinstance(error, JaxtlError):
        return {"refused": str(error)}
    if isinstance(error, OSError) and error.errno is not None:
        name = [] if error.filename is None else [os.fspath(error.filename)]
        return {"oserror": [error.errno, error.strerror or str(error), *name]}
    return {
        "failed": str(error),
        "memory": isinstance(error, MemoryError),
        "where": str(error.__cause__ or ""),
    }


def unpacked(answer: Mapping[str, Any]) -> Exception:
    """The error that `packed` had."""
    if "refused" in answer:
        return JaxtlError(answer["refused"])
    if "oserror" in answer:
        return OSError(*answer["oserror"])
    error = (MemoryError if answer["memory"] else RuntimeError)(answer["failed"])
    error.__cause__ = _Elsewhere(answer["where"])
    return error


class _Elsewhere(Exception):
    """The traceback of the process that did the task, as text."""
