"""A sweep as a list of tasks (`jaxtl.machine.tasks`) that share nothing but files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtl.machine.tasks import Task
from jaxtl.sweeps.settings import Asked, Combination

_WORK = "jaxtl.sweeps.work"


def look(asked: Asked, setting: Sequence[Any]) -> Task:
    """The task that looks at all combinations before any work."""
    return Task("look", f"{_WORK}:look", _given(asked, setting), apart=True)


def tasks_of(
    asked: Asked, setting: Sequence[Any], stops: Mapping[str, int], left: Sequence[Combination]
) -> list[Task]:
    """A task for each combination that is left, by its name, behind one for what it shares with others.

    Args:
        setting: as of `jaxtl.sweeps.work.Setting`.
        stops: by group, as `jaxtl.sweeps.work.look` gives them.
    """
    given = _given(asked, setting)
    tasks: list[Task] = []
    for group in dict.fromkeys(combination.group for combination in left):
        members = [combination.name for combination in left if combination.group == group]
        shared: tuple[str, ...] = ()
        if len(members) > 1:
            # No combination has such a name, with a space.
            shared = (f"{group}, shared",)
            arguments = {**given, "group": group, "stop": stops.get(group, 0)}
            tasks.append(Task(shared[0], f"{_WORK}:share", arguments, apart=True))
        for name in members:
            tasks.append(Task(name, f"{_WORK}:combine", {**given, "name": name}, shared, apart=True))
    return tasks


def _given(asked: Asked, setting: Sequence[Any]) -> dict[str, Any]:
    return {"asked": asked.as_record(), "setting": list(setting)}
