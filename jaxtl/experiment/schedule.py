"""The steps of a run, worked off side by side: each as soon as what it needs is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.progress import Progress
from jaxtl.runs.folder import RunFile

# While steps work the main thread sleeps for so long at most, so that Ctrl-C is heard.
_SECONDS = 0.2


@dataclass(frozen=True)
class Step:
    """One row of a run's table.

    Attributes:
        name: of it alone.
        title: for who looks on.
        outputs: files that it leaves; a step without any leaves something in memory, or in files that go
            again, and is done where another step that is still to be done needs it.
        needs: names of the steps before it.
        work: does it, told whom to tell the fraction done; what that raises must end the work.
        lane: steps of one lane are done one at a time, in the table's order.
        useless: asked before it is done, whether it is to be left out after all.
        beside_training: whether it makes numbers while the network trains.
        is_drawn: whether what it makes is drawn, so that what draws is to get ready when it begins.
        draws: whether it draws a figure.
        leaves: files that it may leave besides: those that are kept until a step that it serves is done, and
            those that not every run has.
        of_images: whether it needs the images, or the weights to start from.
    """

    name: str
    title: str
    outputs: tuple[RunFile[Any], ...]
    needs: tuple[str, ...]
    work: Callable[[Progress], None]
    lane: str = ""
    useless: Callable[[], bool] = lambda: False
    beside_training: bool = False
    is_drawn: bool = False
    draws: bool = False
    leaves: tuple[RunFile[Any], ...] = ()
    of_images: bool = False


class Cancelled(Exception):
    """Raised by a step's progress where the run has been stopped by Ctrl-C or by another step's error."""


class Schedule:
    """Steps to be done, in an order that respects what they need.

    Args:
        steps: those that are left, first come first served among those that are ready.
        at_a_time: steps under way at most, at least 1.
        do: works a step off, given it and a function that raises Cancelled when there is no more use in it.
        give_up: called once when the run is stopped, to end what cannot be asked, such as processes.
        heard: called now and then by the thread that calls `run`; what it raises stops the run.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        at_a_time: int,
        do: Callable[[Step, Callable[[], None]], None],
        give_up: Callable[[], None],
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        self._left, self._at_a_time, self._do = list(steps), at_a_time, do
        self._give_up, self._heard = give_up, heard
        self._names = {step.name for step in steps}
        self._under_way: dict[Future, Step] = {}
        self._ended: set[str] = set()
        self._stop = threading.Event()

    def run(self) -> None:
        """Work all off.

        A step that is refused (JaxtlError) costs those that need it; all others are still done, and then it
        is raised. Anything else ends the run at once.
        """
        refused: list[JaxtlError] = []
        with ThreadPoolExecutor(self._at_a_time, thread_name_prefix="step") as pool:
            try:
                while self._begin(pool):
                    self._heard()
                    for future in wait(self._under_way, _SECONDS, FIRST_COMPLETED).done:
                        step = self._under_way.pop(future)
                        try:
                            future.result()
                            self._ended.add(step.name)
                        except JaxtlError as error:
                            refused.append(error)
                            self._drop(step.name)
            except BaseException:
                self._stop.set()
                self._give_up()
                raise
        if refused:
            raise refused[0]

    def _begin(self, pool: ThreadPoolExecutor) -> bool:
        """Start what is ready; whether anything is under way."""
        while len(self._under_way) < self._at_a_time and (step := self._ready()):
            self._left.remove(step)
            self._under_way[pool.submit(self._do, step, self._check)] = step
        return bool(self._under_way)

    def _ready(self) -> Step | None:
        taken = {step.lane for step in self._under_way.values() if step.lane}
        for step in self._left:
            if step.lane in taken:
                continue
            if all(need in self._ended or need not in self._names for need in step.needs):
                return step
            # A lane keeps the table's order: what is next in it is waited for.
            taken.update(filter(None, [step.lane]))
        return None

    def _drop(self, name: str) -> None:
        """Leave out what can no longer be done."""
        for step in [step for step in self._left if name in step.needs]:
            if step in self._left:
                self._left.remove(step)
                self._drop(step.name)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Cancelled
