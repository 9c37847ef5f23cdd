"""Runs as tasks (`jaxtl.machine.tasks`): folders that were begun, worked off in whatever process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxtl.experiment import opening
from jaxtl.experiment.embeddings import EmbeddingOptions
from jaxtl.experiment.shared import Shared
from jaxtl.machine.cache import AUTO
from jaxtl.machine.devices import configure
from jaxtl.machine.tasks import Task
from jaxtl.progress import Observer
from jaxtl.runs.folder import RunFolder
from jaxtl.runs.lock import wait_until_free
from jaxtl.settings import RunConfig


def of(folders: Iterable[RunFolder], options: EmbeddingOptions) -> list[Task]:
    """A task for each run that was begun, to its end, named by its folder."""
    how = {"backend": options.backend, "time_limit": options.time_limit}
    return [
        Task(run.path.name, f"{__name__}:finish", {"folder": str(run.path.absolute()), **how})
        for run in folders
    ]


def finish(folder: str, backend: str, time_limit: float, observer: Observer) -> None:
    """Do what is left of a run.

    What the frozen layers make is kept for the next run in this process, if that differs in its seed alone.

    Raises JaxtlError as `jaxtl.experiment.opening.resume` and the steps of the run.
    """
    run = RunFolder(folder)
    wait_until_free(run.path)
    configure(compilation_cache=AUTO, notify=observer.notify)
    config = run.started.read().config
    # What runs before it hold is not to stop this one.
    first, shared = not _Kept.serves(config), _Kept.shared(config, run.path.parent)
    options = EmbeddingOptions(backend, time_limit)
    # The next one may come late, or with other options: processes do not wait for it.
    with contextlib.closing(shared):
        opening.resume(run.path, None, observer, options, check_memory=first, shared=shared).run()


class _Kept:
    """What the last run of this process had in memory, by its settings without the seed."""

    made: tuple[dict[str, Any], Shared] | None = None

    @classmethod
    def serves(cls, config: RunConfig) -> bool:
        return cls.made is not None and cls.made[0] == _without_seed(config)

    @classmethod
    def shared(cls, config: RunConfig, scratch: Path) -> Shared:
        if cls.made is None or not cls.serves(config):
            # The old one goes before there is another.
            cls.made = None
            cls.made = _without_seed(config), Shared(config, keep=True, scratch=scratch)
        return cls.made[1]


def _without_seed(config: RunConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(config).items() if name != "seed"}
