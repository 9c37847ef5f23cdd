"""What the tasks of a study do (`jaxtl.machine.tasks`), in whatever process: trials, and the quality of maps.

They read the features of the study, and files of its trials; they write maps. What they find they return: its
trials, tables and manifest are written by the process that the study is of, and by no other.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxtl.machine.memory import available_memory, shared_among
from jaxtl.progress import Observer
from jaxtl.records import store
from jaxtl.records.arrays import Embedding
from jaxtl.scaling import quality, trials, watch
from jaxtl.scaling.folder import FEATURES, MAPS
from jaxtl.scaling.settings import MEMORY_SHARE, Limits
from jaxtl.scaling.trials import DONE, HOPELESS, Trial


def measure(
    title: str,
    method: str,
    request: dict[str, Any],
    seconds: float,
    memory: int | None,
    smaller: Sequence[str],
    observer: Observer,
) -> dict[str, Any]:
    """Make an embedding in a process of its own, watched, unless a smaller one shows that this is hopeless.

    Args:
        title: for who looks on.
        method: as users write it; the trial's backend and size are those of the request.
        request: see `jaxtl.scaling.measurement.measure`.
        seconds, memory: limits; without one of memory, most of what is available to this process is.
        smaller: files of the smaller trials of its curve, which need not all be there.

    Returns:
        The trial, as `jaxtl.scaling.trials.Trial.of_record` takes it; its machine has the name of the `host`,
        and how many trials were made there at a time, `beside`, this one among them.
    """
    limits = Limits(seconds, memory or int(available_memory() * MEMORY_SHARE))
    new = Trial(method, request["backend"], request["n"], limits=asdict(limits))
    if over := hopeless(trials.load(Path(path)) for path in smaller if Path(path).is_file()):
        return asdict(new.left_out(over))
    with observer.attempt(title) as attempt:
        trial = watch.run(new, request | {"beside": shared_among()}, limits, attempt.progress)
        attempt.failure = "" if trial.status == DONE else f"{trial.status}: {trial.note}"
    return asdict(trial) | {"machine": {**trial.machine, "host": platform.node(), "beside": shared_among()}}


def hopeless(smaller: Iterable[Trial]) -> Trial | None:
    """One among smaller trials of a curve that shows that a larger one need not be tried."""
    return next((trial for trial in smaller if trial.status in HOPELESS), None)


def judge(
    title: str, folder: str, n: int, seed: int, names: Sequence[str], own: bool, observer: Observer
) -> dict[str, Any]:
    """Score the maps of n images that lack scores.

    Args:
        title: for who looks on.
        folder: of the study.
        seed: of the study.
        names: of trials (`jaxtl.scaling.trials.stem`) that have a map, or were to make one.
        own: whether scores of the features themselves are wanted in any case.

    Returns:
        `own`: scores of the features, None where they were not looked at; `maps`: those of maps, by the names
        of trials; `note`: what memory did not allow, or "".
    """
    features, files = (
        Path(folder) / FEATURES,
        [Path(folder) / trials.FOLDER / f"{name}.json" for name in names],
    )
    known = [trials.load(path) for path in files if path.is_file()]
    left = quality.lacking(features, n, [trial for trial in known if trial.status == DONE])
    if not left and not own:
        return {"own": None, "maps": {}, "note": ""}
    with observer.attempt(title) as attempt:
        space = quality.look(features, store.load(features, n).labels, seed)
        of_features, of_maps = space.own, {}
        for number, trial in enumerate(left):
            attempt.progress((number + 1) / (len(left) + 1))
            of_maps[trial.name] = space.quality(Embedding.load(Path(folder) / MAPS / f"{trial.name}.npz"))
    return {"own": of_features, "maps": of_maps, "note": space.note}
