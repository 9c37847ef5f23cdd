"""The numbers of a run, from its files to its files: in this process, or in another that knows the folder.

Parts of them are kept in files until all are there, so that a stopped run does not make them again. Who calls
these functions has compared the files that they read with the run's manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.evaluation import depth
from jaxtl.evaluation.change import image_rows, maps_kept
from jaxtl.evaluation.measures import Measures
from jaxtl.evaluation.scoring import combine, measure_change, measure_embeddings, measure_features
from jaxtl.progress import Progress
from jaxtl.records.arrays import Embedding, Features
from jaxtl.records.tables import HISTORY_COLUMNS, Score
from jaxtl.runs.folder import PARTS, RunFile, RunFolder
from jaxtl.runs.formats import Averages
from jaxtl.settings import STAGES


def measure(
    folder: str,
    stage: str,
    part: str,
    methods: Sequence[str],
    seed: int,
    training: bool = True,
    progress: Progress | None = None,
) -> list[str]:
    """Make one of PARTS of a stage's numbers and keep it. Returns a line for each number left out.

    `training`: whether there are training features.

    Raises JaxtlError where files that it needs are damaged.
    """
    run = RunFolder(folder, compares=False)
    features = _finite(run.features[stage])
    if part == "features":
        training_features = _finite(run.training_features[stage]) if training else None
        neighbors = run.neighbors[stage].read()
        made = measure_features(stage, features, neighbors, training_features, seed=seed, progress=progress)
    else:
        embeddings = {method: run.embeddings[stage, method].read() for method in methods}
        neighbors = run.neighbors[stage].read()
        free = _free_embeddings(run, methods) if stage == STAGES[1] else {}
        made = measure_embeddings(stage, features, embeddings, neighbors, free, seed=seed, progress=progress)
    run.stage_scores[stage, part].write(made)
    return made.left_out


def _free_embeddings(run: RunFolder, methods: Sequence[str]) -> dict[str, Embedding]:
    return {m: run.free_embeddings[m].read() for m in methods if run.free_embeddings[m].is_there}


def compare(folder: str, seed: int, tuned: bool = True, progress: Progress | None = None) -> list[str]:
    """Make the numbers that compare both stages' features and keep them; returns as `measure`.

    `tuned`: whether the run has a tuned network.
    """
    run, left_out = RunFolder(folder, compares=False), []
    model = run.model.read() if tuned else None
    kinds = ("kernel", "bias")
    head = tuple(model.arrays[f"{model.config.head}/{kind}"] for kind in kinds) if model else None
    features = {stage: _finite(run.features[stage]) for stage in STAGES}
    neighbors = {stage: run.neighbors[stage].read() for stage in STAGES}
    made = measure_change(features, head, neighbors, seed=seed, progress=progress, notify=left_out.append)
    run.change_scores.write(made)
    return left_out


def score(
    run: RunFolder, methods: Sequence[str], seed: int, tuned: bool = True, classes: bool = True
) -> None:
    """Compare the embeddings, decide the claims and write all numbers, from those that were kept.

    Args:
        methods, seed: of the run.
        tuned: whether fine-tuning lies between the stages, of which there is a history.
        classes: whether there are numbers of classes.
    """
    parts = {stage: [run.stage_scores[stage, part].read() for part in PARTS] for stage in STAGES}
    features, both = run.features["before"].read(), run.change_scores.read()
    places = product(STAGES, methods)
    maps = {place: run.embeddings[place].read() for place in places}
    both.take(maps_kept(maps, features, run.reseeded.read_or(None), seed))
    measures = combine(parts, both, features, tuned)
    images = image_rows(measures.arrays, features)
    _save(run, measures, images, run.history.read() if tuned else [], classes)


def profile_before(folder: str, seed: int, progress: Progress | None = None) -> list[str]:
    """Make the part of the depth profile that fine-tuning does not bear on, and keep it; returns as
    `measure`."""
    run, left_out = RunFolder(folder, compares=False), []
    labels, before = _averages(run, "before")
    how = {"seed": seed, "progress": progress, "notify": left_out.append}
    run.layers_before.write(depth.profile_before(before, labels, **how))
    return left_out


def profile(folder: str, seed: int, progress: Progress | None = None) -> None:
    """Write the depth profile, from what was kept. Averages "after" may lack what did not change."""
    run = RunFolder(folder, compares=False)
    before, after = (_averages(run, stage) for stage in STAGES)
    rows = depth.profile(
        before.layers,
        after.layers,
        before.labels,
        known=run.layers_before.read(),
        seed=seed,
        progress=progress,
    )
    run.layers.write(rows)


def _save(
    run: RunFolder,
    measures: Measures,
    images: list[dict[str, Any]],
    history: list[dict[str, float]],
    classes: bool,
) -> None:
    scores = list(measures.scores)
    for row in history:
        epoch = f"epoch {row['epoch']:.0f}"
        scores += [Score(epoch, "model", name, row[name]) for name in HISTORY_COLUMNS[1:]]
    if classes:
        run.class_scores.write(measures.class_scores)
    run.image_rows.write(images)
    run.claims.write([verdict.as_dict() for verdict in measures.verdicts])
    run.measures.write(measures.arrays)
    run.scores.write(scores)


def _finite(file: RunFile[Features]) -> Features:
    features = file.read()
    wrong = np.flatnonzero(~np.isfinite(features.values).all(axis=1))
    if len(wrong):
        fault = f"NaN or infinite features in {len(wrong)} of {len(features.values)} rows"
        raise file.mended(JaxtlError(f"{file}: {fault}, the first in row {wrong[0]}"))
    return features


def _averages(run: RunFolder, stage: str) -> Averages:
    """Averages of blocks' outputs, of the last layer the features themselves.

    Made in another pass they differ in the last bits, and one number would have two values.
    """
    labels, layers = run.averages[stage].read()
    if layers:
        layers[list(layers)[-1]] = run.features[stage].read().values[: len(labels)]
    return Averages(labels, layers)
