"""A study's trials as tasks (`jaxtl.machine.tasks`): curves side by side, each from its smallest size on.

Within a curve a size waits for the smaller ones: where they could not be made, it is not tried.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxtl.machine.signals import at_signal
from jaxtl.machine.tasks import Executor, Outcomes, Task
from jaxtl.progress import Observer
from jaxtl.scaling import plots
from jaxtl.scaling.plan import Grid, read_config
from jaxtl.scaling.study import Study, default_limits


def handed_to(
    executor: Executor, seconds: float | None = None, gib: float | None = None
) -> Callable[[Study], None]:
    """How a study has its trials measured by others, for `Study.run`.

    Args:
        seconds, gib: limits of a trial; by default those of `default_limits`, on the machine that makes it.
    """

    def measure_all(study: Study) -> None:
        def told(task: Task) -> None:
            study.look_again()

        where = {"folder": str(study.folder.absolute()), "seconds": seconds, "gib": gib}
        with at_signal(study.look_again):
            executor.run(_of_curves(study, where), study.observer, Outcomes(told))
            executor.run(_of_sizes(study, where), study.observer, Outcomes(told))
        study.look_again()

    return measure_all


def _of_curves(study: Study, where: dict[str, Any]) -> list[Task]:
    tasks = []
    for series in study.series:
        if any(study.is_left(series, n) for n in study.sizes):
            name, backend = series.method.name, series.backend
            arguments = {**where, "method": name, "backend": backend, "sizes": study.sizes}
            tasks.append(Task(plots.label(name, backend), f"{__name__}:measure", arguments))
    return tasks


def _of_sizes(study: Study, where: dict[str, Any]) -> list[Task]:
    return [Task(f"{n:,} images", f"{__name__}:judge", {**where, "n": n}) for n in study.sizes]


def measure(
    folder: str,
    seconds: float | None,
    gib: float | None,
    method: str,
    backend: str,
    sizes: list[int],
    observer: Observer,
) -> None:
    """The trials of one curve."""
    study = _opened(folder, Grid(",".join(map(str, sizes)), method, backend), seconds, gib, observer)
    for n in study.sizes:
        for series in study.series:
            study.measure(series, n)


def judge(folder: str, seconds: float | None, gib: float | None, n: int, observer: Observer) -> None:
    """The quality of one size's embeddings."""
    _opened(folder, Grid(str(n), "pca", "auto"), seconds, gib, observer).judge(n)


def _opened(folder: str, grid: Grid, seconds: float | None, gib: float | None, observer: Observer) -> Study:
    """A study that another process holds, for some of its work."""
    path = Path(folder)
    return Study(path, read_config(path)[0], grid, default_limits(seconds, gib), observer)
