"""The experiment for who calls it in Python, with images of their own."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from jaxtl.data import GIVEN, splits
from jaxtl.errors import JaxtlError
from jaxtl.experiment import checks, opening
from jaxtl.experiment.embeddings import EmbeddingOptions
from jaxtl.experiment.shared import Shared
from jaxtl.machine.bars import watching
from jaxtl.progress import Observer, Silent
from jaxtl.ranges import text
from jaxtl.records.arrays import Pathlike
from jaxtl.records.dataset import Dataset
from jaxtl.runs.data import RunData, load_run
from jaxtl.runs.folder import RunFolder
from jaxtl.runs.naming import fresh_folder, run_name
from jaxtl.settings import TIME_LIMIT, RunConfig, Selection


def run(
    config: RunConfig | None = None,
    dataset: str | Dataset | tuple[Dataset, Dataset] | None = None,
    *,
    out: Pathlike | None = None,
    backend: str = "auto",
    time_limit: float = TIME_LIMIT,
    progress: bool = False,
    observer: Observer | None = None,
) -> RunData:
    """The whole experiment, as `jaxtl run` does it, into a run folder.

    Called again with the same settings, images and folder it goes on where it was stopped, or returns at once
    what is there.

    Args:
        config: the settings; by default the founding experiment's.
        dataset: what `load` takes; or images of your own (`Dataset.from_arrays`, `load`): training and test
            images, or one set, of which `config.test_share` (by default 0.2) of each class are set aside for
            testing. None takes `config.dataset`. A run of images that were given keeps those that it embeds,
            for its page, and goes on only where the same ones are given again.
        out: the run folder; by default runs/NAME-SAMPLES, or NAME-SAMPLES-2 where that is there.
        backend: libraries to prefer for the embeddings, with commas between, or "auto".
        time_limit: seconds that one embedding by cuML may take.
        progress: whether bars show how the work gets on, on a terminal or in a notebook.
        observer: told how the work gets on instead; by default nobody.

    Returns:
        What the page shows: scores, claims, embeddings, history; `path` is the folder, with report.html.

    Raises:
        JaxtlError: settings that cannot work on the images, a folder that holds something else, or a run of
            other settings or images.
    """
    config, observer, given = config or RunConfig(), watching(progress, observer), None
    options = EmbeddingOptions(backend, time_limit)
    if isinstance(dataset, str):
        config = replace(config, dataset=dataset)
    elif dataset is not None:
        given = paired(dataset, config.selection)
        config = replace(config, dataset=f"{GIVEN}:{given[1].name.removeprefix(f'{GIVEN}:')}")
    folder = fresh_folder(run_name(config)) if out is None else Path(text("out", out))
    begun = RunFolder(folder).started
    if begun.is_there and config.engine == "auto":
        # As it was begun, whatever is installed since.
        config = replace(config, engine=getattr(begun.read().config, "engine", "jax"))
    shared = Shared(config, given=given)
    if begun.is_there:
        settled = checks.settled(config, Silent())
        settings = asdict(checks.fitted(settled, len(shared.sample)))
        # Last, since other settings decide what is taken for it.
        settings["perplexity"] = settings.pop("perplexity")
        work = opening.resume(folder, settings, observer, options, shared=shared)
    else:
        work = opening.start(config, folder, observer, options, shared=shared)
    work.run()
    return load_run(folder)


def paired(dataset: Dataset | tuple[Dataset, Dataset], selection: Selection) -> tuple[Dataset, Dataset]:
    """Training and test images with the same classes."""
    if isinstance(dataset, Dataset):
        return _divided(dataset, selection)
    train, test = dataset
    place = {name: k for k, name in enumerate(train.class_names)}
    occurring = {test.class_names[label] for label in np.unique(test.labels)}
    if unknown := sorted(occurring - set(place)):
        raise JaxtlError(
            f"dataset {test.name}: its test images have classes that no training image has: "
            f"{', '.join(unknown[:5])}; give both the same class_names"
        )
    places = np.array([place.get(name, -1) for name in test.class_names], np.int32)
    labels = places[test.labels]
    train = replace(train, split="train")
    return train, replace(test, split="test", labels=labels, class_names=train.class_names)


def _divided(dataset: Dataset, selection: Selection) -> tuple[Dataset, Dataset]:
    ids = None if dataset.ids is None else dataset.ids.tolist()
    is_test = splits.divided(dataset.labels, ids, selection)
    if not is_test.any():
        raise JaxtlError(
            f"dataset {dataset.name}: every class has one image, so none can be set aside; give more"
        )
    origin = {**splits.rule_of(selection), "notes": [*dataset.notes, splits.told(selection)]}
    sides = []
    for split, side in (("train", ~is_test), ("test", is_test)):
        rows = np.flatnonzero(side)
        rows = rows[splits.evenly(dataset.labels[rows])]
        some = None if dataset.ids is None else dataset.ids[rows]
        sides.append(
            Dataset(
                dataset.images[rows],
                dataset.labels[rows],
                dataset.class_names,
                split,
                dataset.name,
                ids=some,
                origin=origin,
            )
        )
    return sides[0], sides[1]
