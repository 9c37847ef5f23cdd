"""A sweep as a list of tasks that share nothing but files, and who does them one after the other.

Another executor takes the same list: it calls each task's function, with its arguments and `tell`, in any
process that sees the folder, no task before those that it `follows`, and tells how each ended.
"""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxtl.errors import JaxtlError
from jaxtl.machine.child import Child, Silence
from jaxtl.machine.relay import Relay
from jaxtl.progress import Observer
from jaxtl.sweeps.settings import Asked, Combination

_WORK = "jaxtl.sweeps.work"
# What a note of a task that failed is cut to.
_LONGEST = 600


class Task(NamedTuple):
    """A piece of work.

    Attributes:
        name: of it alone.
        title: for who looks on.
        function: "module:function", called with the arguments and `tell`, which takes messages of
            `jaxtl.machine.relay`. It raises JaxtlError for what a user can mend.
        arguments: what JSON can hold.
        lands: the folder where its files land.
        follows: names of tasks whose files it takes over where they are there; where not, it makes its own.
        combination: what it is the runs of; empty for what these share.
    """

    name: str
    title: str
    function: str
    arguments: dict[str, Any]
    lands: Path
    follows: tuple[str, ...] = ()
    combination: str = ""


class Ended(NamedTuple):
    """How a task ended: `fault` says in a line why it was not done, or is empty."""

    task: Task
    fault: str = ""
    refused: bool = False


# Does tasks, an observer looking on, and calls what is given with each that has ended.
Executor = Callable[[Sequence[Task], Observer, Callable[[Ended], None]], None]


def tasks_of(
    asked: Asked, setting: Sequence[Any], stops: Mapping[str, int], left: Sequence[Combination]
) -> list[Task]:
    """The tasks of the combinations that are left, each behind what it shares with others.

    Args:
        stops: by group, as `jaxtl.sweeps.work.look` gives them.
    """
    folder, given = Path(setting[0]), {"asked": asked.as_record(), "setting": list(setting)}
    tasks: list[Task] = []
    for group in dict.fromkeys(combination.group for combination in left):
        members = [combination for combination in left if combination.group == group]
        shared: tuple[str, ...] = ()
        if len(members) > 1:
            shared = (f"shared {group}",)
            arguments = {**given, "group": group, "stop": stops.get(group, 0)}
            title = f"What {len(members)} combinations share, {group}"
            tasks.append(Task(shared[0], title, f"{_WORK}:share", arguments, folder / "shared" / group))
        for name in (combination.name for combination in members):
            lands = folder / "runs" / name
            arguments = {**given, "name": name}
            tasks.append(Task(name, name, f"{_WORK}:combine", arguments, lands, shared, name))
    return tasks


def one_after_the_other(tasks: Sequence[Task], observer: Observer, ended: Callable[[Ended], None]) -> None:
    """Each task in a process of its own: it has all memory, and costs the others nothing where it dies."""
    _do_all(tasks, observer, ended, _apart)


def in_this_process(given: Any) -> Executor:
    """Tasks of images that were given in Python, and are in this process alone."""
    return partial(_do_all, call=partial(_here, given))


def call(task: Task, observer: Observer, given: Any = None) -> Any:
    """What a single task gives. Raises what it raises, JaxtlError where its process dies."""
    relay = Relay(observer)
    with relay:
        return _apart(task, relay) if given is None else _here(given, task, relay)


def _do_all(
    tasks: Sequence[Task],
    observer: Observer,
    ended: Callable[[Ended], None],
    call: Callable[[Task, Relay], Any],
) -> None:
    for number, task in enumerate(tasks, 1):
        observer.notify(f"{number} of {len(tasks)}: {task.title}")
        ended(_tried(task, observer, call))


def _tried(task: Task, observer: Observer, call: Callable[[Task, Relay], Any]) -> Ended:
    try:
        with Relay(observer, _worth_telling) as relay:
            call(task, relay)
        return Ended(task)
    except JaxtlError as error:
        return Ended(task, _brief(error), not isinstance(error, Silence))
    except (OSError, MemoryError, RuntimeError) as error:
        return Ended(task, _brief(error))


def _worth_telling(note: str) -> str | None:
    # Of thirty runs what each expects of itself, and what it need not do, is no news.
    return None if note.startswith("Expect ") or note.endswith(": done already") else note


def _apart(task: Task, relay: Relay) -> Any:
    with Child((_WORK,)) as child:
        try:
            return child.call(task.function, task.arguments, told=relay.hear)
        except Silence as silence:
            if silence.code == -signal.SIGKILL:
                said = f"{task.title}: its process was killed, most likely for want of memory"
                raise Silence(f"{said}; end other programs, or leave it out", code=silence.code) from None
            raise


def _here(given: Any, task: Task, relay: Relay) -> Any:
    module, _, name = task.function.partition(":")
    function = getattr(importlib.import_module(module), name)
    return function(**task.arguments, tell=relay.hear, given=given)


def _brief(error: BaseException) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    full = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in said
    said = f"out of memory ({said})" if full else said
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."
