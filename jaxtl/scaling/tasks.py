"""A study's work as tasks (`jaxtl.machine.tasks`), each with what is to become of what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jaxtl.machine.tasks import Executor, Outcomes, Task
from jaxtl.progress import Observer

_WORK = "jaxtl.scaling.work"


class Order(NamedTuple):
    """A task, and what takes what it returns, in the process that the study is of."""

    task: Task
    take: Callable[[Any], None]


def do(orders: Iterable[Order], executor: Executor, observer: Observer) -> None:
    """Have all done. What one returns is taken before any that follows it begins."""
    orders = list(orders)
    takes = {order.task.name: order.take for order in orders}
    outcomes = Outcomes(lambda task, returned: takes[task.name](returned))
    executor.run([order.task for order in orders], observer, outcomes)


def trial(title: str, arguments: dict[str, Any], after: Iterable[Task]) -> Task:
    """A trial, after that before it on its curve; `arguments` as of `jaxtl.scaling.work.measure`."""
    return _task("measure", title, arguments, after)


def judging(title: str, arguments: dict[str, Any], after: Iterable[Task]) -> Task:
    """The quality of maps, after their trials; `arguments` as of `jaxtl.scaling.work.judge`."""
    return _task("judge", title, arguments, after)


def _task(function: str, title: str, arguments: dict[str, Any], after: Iterable[Task]) -> Task:
    follows = tuple(task.name for task in after)
    return Task(title, f"{_WORK}:{function}", {"title": title, **arguments}, follows)
