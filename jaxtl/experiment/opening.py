"""Experiments begun, planned and continued: what is checked before any work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.experiment import checks, sources
from jaxtl.experiment.embeddings import EmbeddingOptions, begin
from jaxtl.experiment.experiment import Experiment
from jaxtl.experiment.shared import Shared
from jaxtl.machine.devices import configure
from jaxtl.machine.log import logged
from jaxtl.progress import Observer, Silent
from jaxtl.records.files import remove_leftovers
from jaxtl.records.places import expanded
from jaxtl.reduction.process import Reducers
from jaxtl.runs.folder import RunFolder
from jaxtl.runs.formats import Started
from jaxtl.settings import RunConfig


def start(
    config: RunConfig,
    folder: Path,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
    *,
    check_memory: bool = True,
    shared: Shared | None = None,
) -> Experiment:
    """A new experiment in a folder that is empty or does not exist yet.

    It says what is worth knowing of the images that were found, and takes a smaller perplexity where there
    are too few for the one that is asked for.

    `check_memory`: whether embeddings that do not fit into memory are refused, too. `shared`: as of
    `Experiment`.

    Raises JaxtlError where the folder holds files, or a setting cannot work on the data or this machine.
    """
    run = _folder(folder)
    # Before the folder is made, which may have the same name.
    if config.weights and not expanded(config.weights).exists():
        raise JaxtlError(f"{config.weights}: no such file")
    reducers = shared.reducers if shared else Reducers()
    with run.newly_held() as held, _stopped_where_it_fails(reducers):
        remove_leftovers(run.started.path)
        # First, as it takes longest; what is checked meanwhile waits for JAX's GPU.
        begin(config.methods, options, reducers)
        experiment = _planned(config, folder, observer, options, check_memory, shared, reducers)
        experiment.held, shared = held, experiment.shared
        run.started.write(Started(experiment.config, shared.weights_digest))
        sources.record_images(run, shared)
        experiment.take_stock()
    return experiment


def planned(
    config: RunConfig,
    folder: Path,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
    *,
    check_memory: bool = True,
    shared: Shared | None = None,
) -> Experiment:
    """What `start` would begin, checked as there; nothing is written. Arguments and errors as of `start`."""
    return _planned(config, folder, observer, options, check_memory, shared)


def _planned(
    config: RunConfig,
    folder: Path,
    observer: Observer | None,
    options: EmbeddingOptions,
    check_memory: bool,
    shared: Shared | None,
    reducers: Reducers | None = None,
) -> Experiment:
    """`planned`, with processes for embeddings that were begun, if any; they are `shared`'s where that is."""
    run = _folder(folder)
    run.check_new()
    configure(deterministic=config.deterministic)
    told = logged(observer or Silent(), run.log)
    config = checks.settled(config, told)
    shared = shared or Shared(config, scratch=run.path, reducers=reducers)
    fitted = checks.fitted(config, len(shared.sample))
    experiment = Experiment(fitted, run, told, options, shared)
    checks.check_settings(fitted, shared, experiment.embedder)
    if check_memory:
        checks.check_network_memory(config, experiment.shared)
        experiment.check_memory(experiment.embeddings_left)
    for note in (*checks.notes(config, shared), *experiment.embedder.notes):
        told.notify(note)
    return experiment


@contextlib.contextmanager
def _stopped_where_it_fails(reducers: Reducers) -> Iterator[None]:
    try:
        yield
    except BaseException:
        reducers.stop()
        raise


def resume(
    folder: Path,
    given: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
    options: EmbeddingOptions = EmbeddingOptions(),
    *,
    check_memory: bool = True,
    shared: Shared | None = None,
) -> Experiment:
    """An experiment that goes on where its folder was left.

    Args:
        given: settings that the caller insists on.
        check_memory: whether embeddings that would not fit into memory are refused, too.
        shared: as of `Experiment`.

    Raises:
        JaxtlError: no run folder, settings that were edited, weights that were exchanged, or a given
            setting that differs from the folder's.
    """
    run = _folder(folder)
    run.check()
    with run.held() as held:
        experiment = _resumed(run, given or {}, observer or Silent(), options, check_memory, shared)
        experiment.held = held
    return experiment


def _resumed(
    run: RunFolder,
    given: Mapping[str, Any],
    observer: Observer,
    options: EmbeddingOptions,
    check_memory: bool,
    shared: Shared | None,
) -> Experiment:
    started = run.started.read()
    run.started.check_intact()
    checks.check_given(run, started.config, given)
    configure(deterministic=started.config.deterministic)
    experiment = Experiment(started.config, run, observer, options, shared)
    sources.check(run, experiment.shared, started, experiment.standing, observer.notify)
    if check_memory:
        if experiment.work.learns:
            checks.check_network_memory(started.config, experiment.shared)
        experiment.check_memory(experiment.embeddings_left, resumed=True)
    experiment.take_stock()
    run.remove_leftovers()
    return experiment


def _folder(path: Path) -> RunFolder:
    """A folder to work in: before each step, what it is made of is compared with the manifest."""
    return RunFolder(path, compares=False)
