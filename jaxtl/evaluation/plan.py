"""Tasks of scoring as a graph over all cores: a task computes what those that it needs do not.

Results are kept under their tasks' names: nothing depends on which task ended first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.evaluation.measures import StageMeasures
from jaxtl.machine import cores
from jaxtl.metrics.estimates import Estimate
from jaxtl.progress import Notify, Progress, counted
from jaxtl.records.arrays import Features
from jaxtl.records.tables import Score

# The space of what a network makes of images, as tables name it.
FEATURES = "features"
# Of what is classified by parts of the same images.
FOLDS = 5
# Of a task that is over sooner than matters.
_SHORT = 0.2


class Plan:
    """Tasks of one stage, and their results by name: rows, or what other tasks need."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.tasks: list[cores.Task] = []
        self.seconds: dict[str, float] = {}
        self._results: dict[str, Any] = {}

    def add(
        self,
        title: str,
        space: str,
        compute: Callable[..., Any],
        needs: Sequence[str] = (),
        seconds: float = _SHORT,
    ) -> str:
        """A task that hands the results of those that it needs to `compute`.

        Args:
            needs: names of tasks of this plan that were added before.
            seconds: about how long it takes, beside others, on one core: the longest are begun first.

        Returns its name.
        """
        name = f"{title}, {space} {self.stage}"

        def work() -> None:
            self._results[name] = compute(*(self._results[need] for need in needs))

        self.tasks.append(cores.Task(name, work, tuple(needs)))
        self.seconds[name] = seconds
        return name

    def attempt(
        self,
        metric: str,
        space: str,
        compute: Callable[..., Estimate],
        needs: Sequence[str] = (),
        seconds: float = _SHORT,
    ) -> None:
        """A task of one number that some images do not allow, such as a probe with a class of one."""

        def rows(*results: Any) -> StageMeasures:
            return StageMeasures(scores_of(self.stage, space, {metric: compute(*results)}))

        self.attempt_rows(metric, space, rows, needs, seconds)

    def attempt_rows(
        self,
        title: str,
        space: str,
        compute: Callable[..., StageMeasures],
        needs: Sequence[str] = (),
        seconds: float = _SHORT,
    ) -> None:
        """A task of several numbers that some images do not allow."""

        def rows(*results: Any) -> StageMeasures:
            try:
                return compute(*results)
            except JaxtlError as error:
                return StageMeasures(left_out=[f"{title}, {space} {self.stage}: left out ({error})"])

        self.add(title, space, rows, needs, seconds)

    def rows(self) -> StageMeasures:
        """All rows that the tasks found."""
        whole = StageMeasures()
        for task in self.tasks:
            if isinstance(part := self._results[task.name], StageMeasures):
                whole.take(part)
        return whole


def run(plans: Sequence[Plan], progress: Progress | None, notify: Notify | None) -> None:
    """Work off plans together, and tell what had to be left out."""
    tasks = _longest_first(plans)
    done = 0

    def tick(name: str) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done / len(tasks))

    cores.run(tasks, tick)
    for text in (text for plan in plans for text in plan.rows().left_out):
        if notify:
            notify(text)


def _longest_first(plans: Sequence[Plan]) -> list[cores.Task]:
    """By the seconds of a task and of the longest chain that waits for it, so that no core ends alone."""
    left: dict[str, float] = {}
    for plan in plans:
        for task in reversed(plan.tasks):  # those that wait for a task were added after it
            left[task.name] = plan.seconds[task.name] + left.get(task.name, 0.0)
            for need in task.needs:
                left[need] = max(left.get(need, 0.0), left[task.name])
    return sorted((task for plan in plans for task in plan.tasks), key=lambda task: -left[task.name])


def scores_of(stage: str, space: str, estimates: Mapping[str, Estimate]) -> list[Score]:
    """Rows of estimates, by metric, of one stage and space."""
    return [Score(stage, space, metric, *map(float, estimate)) for metric, estimate in estimates.items()]


def class_scores_of(
    stage: str,
    space: str,
    metric: str,
    classes: np.ndarray,
    estimates: Sequence[Estimate],
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """Rows of one estimate for each class, whose names are given in label order."""
    row = {"stage": stage, "space": space, "metric": metric}
    return [
        row | {"class": names[label]} | estimate._asdict()
        for label, estimate in zip(classes, estimates, strict=True)
    ]


def tell_classes(features: Features) -> str:
    """Why what needs classes is left out, a line; nothing where there are classes to tell apart."""
    if features.labels is None:
        return "what needs labels is left out (there are none)"
    count, n = len(np.unique(features.labels)), len(features.labels)
    if count == 1:
        return f"what needs classes is left out (all {n:,} images are of one class)"
    if count == n:
        return f"what needs classes is left out (each of the {n:,} images is a class of its own)"
    return ""


def tell_folds(features: Features) -> str:
    """Why what is computed in folds is left out, a line; nothing where a class has a member for each."""
    most = int(np.unique(features.labels, return_counts=True)[1].max())
    if most >= FOLDS:
        return ""
    return f"what needs {FOLDS} images of a class is left out (the largest has {counted(most, 'image')})"
