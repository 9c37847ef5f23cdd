"""A folder that was begun, whatever it is of: a run, one over several seeds, or a comparison of features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtl.experiment import comparison, opening, seeds
from jaxtl.experiment.embeddings import EmbeddingOptions
from jaxtl.experiment.experiment import Experiment
from jaxtl.experiment.seeds import Seeds
from jaxtl.progress import Observer
from jaxtl.runs.folder import RunFolder, holds_seeds
from jaxtl.settings import ComparisonConfig


def resume(
    folder: Path,
    given: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
) -> Experiment | Seeds:
    """What goes on where its folder was left. Raises JaxtlError as `jaxtl.experiment.opening.resume`."""
    if holds_seeds(folder):
        return seeds.resume(folder, given, observer, options)
    return resume_one(folder, given, observer, options)


def resume_one(
    folder: Path,
    given: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
) -> Experiment:
    """The same of one run, or a comparison."""
    run = RunFolder(folder)
    run.check()
    if isinstance(run.started.read().config, ComparisonConfig):
        return comparison.resume(folder, given, observer, options)
    return opening.resume(folder, given, observer, options)
