"""What a run takes over from another of the same images, weights and seed: all that comes before training."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from jaxtl.experiment.experiment import Experiment
from jaxtl.experiment.schedule import Step
from jaxtl.records.files import replacing
from jaxtl.runs.folder import RunFile, RunFolder
from jaxtl.runs.manifest import State


def comes_before(step: Step) -> bool:
    """Whether what a step leaves does not depend on what learns: features before, what is made of them."""
    return not step.draws and (step.name.endswith("before") or step.name == "reseeded")


def take_over(work: Experiment, source: RunFolder) -> int:
    """Steps that are left and that another run has done on the same files are done here too, by its files.

    What is damaged there, or was made of other files, is left to be made. Returns how many were taken.
    """
    if not source.manifest.is_there:
        return 0
    count, known = 0, source.manifest.steps
    # What is kept for steps that are done already would never go again.
    for step in filter(comes_before, work.standing.left({})):
        record, inputs = known.get(step.name), work.standing.inputs(step)
        if record is None or record.inputs != inputs:
            continue
        if any(source.manifest.state(name) is not State.OK for name in record.files):
            continue
        _link(source, [file for file in (*step.outputs, *step.leaves) if file.name in record.files])
        work.folder.manifest.record(step.name, record.files, inputs)
        count += 1
    return count


def _link(source: RunFolder, files: Iterable[RunFile[object]]) -> None:
    """Have files at their places, without a second copy of their bytes where the disk can do that."""
    for file in files:
        with replacing(file.path) as path:
            _link_or_copy(source.path / file.name, path)


def _link_or_copy(source: Path, target: Path) -> None:
    target.unlink()
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)
