"""The numbers of a run, from its files to its files: in this process, or in another that knows the folder.

Parts of them are kept in files until all are there, so that a stopped run does not make them again.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.evaluation import depth
from jaxtl.evaluation.measures import Measures, StageMeasures
from jaxtl.evaluation.scoring import combine, measure_change, measure_embeddings, measure_features
from jaxtl.progress import Progress
from jaxtl.records.arrays import (
    HISTORY_COLUMNS,
    Embedding,
    Features,
    Neighbors,
    Score,
    load_history,
    save_class_scores,
    save_scores,
)
from jaxtl.records.files import read_npz, write_json, write_npz
from jaxtl.settings import STAGES

# In which a stage's numbers are made: what needs no maps does not wait for them.
PARTS = ("features", "maps")
_CHANGE, _LAYERS_BEFORE = "numbers_change.npz", "layers_before.csv"


def kept_files() -> tuple[str, ...]:
    """What is kept in a run folder until scores.csv and layers.csv are there."""
    numbers = (_kept(stage, part) for stage, part in product(STAGES, PARTS))
    return (*numbers, _CHANGE, *map(_averages, STAGES), _LAYERS_BEFORE)


def measure(
    folder: str, stage: str, part: str, methods: Sequence[str], seed: int, progress: Progress | None = None
) -> list[str]:
    """Make one of PARTS of a stage's numbers and keep it. Returns a line for each number left out.

    Raises JaxtlError where files that it needs are damaged.
    """
    run, how = Path(folder), {"seed": seed, "progress": progress}
    path = run / _kept(stage, part)
    if path.is_file():
        return []
    if part == "features":
        found = measure_features(
            stage, _finite(run, stage), Neighbors.load(run / "neighbors" / f"{stage}.npz"),
            _finite(run, f"train_{stage}"), **how,
        )  # fmt: skip
    else:
        maps = {method: Embedding.load(run / "embeddings" / f"{stage}_{method}.npz") for method in methods}
        found = measure_embeddings(stage, _finite(run, stage), maps, **how)
    found.save(path)
    return found.left_out


def compare(folder: str, seed: int, progress: Progress | None = None) -> list[str]:
    """Make the numbers that compare both stages' features and keep them; returns as `measure`."""
    from jaxtl.models.weights import load_arrays

    run, left_out = Path(folder), []
    if not (run / _CHANGE).is_file():
        arrays = load_arrays(run / "model.safetensors")[1]
        head = arrays["predictions/kernel"], arrays["predictions/bias"]
        features = {stage: _finite(run, stage) for stage in STAGES}
        found = measure_change(features, head, seed=seed, progress=progress, notify=left_out.append)
        found.save(run / _CHANGE)
    return left_out


def score(run: Path) -> None:
    """Decide the claims and write all numbers; what was kept goes."""
    parts = {stage: [StageMeasures.load(run / _kept(stage, part)) for part in PARTS] for stage in STAGES}
    first = Features.load(_features(run, "before"))
    _save(run, combine(parts, StageMeasures.load(run / _CHANGE), first))
    for stage, part in product(STAGES, PARTS):
        (run / _kept(stage, part)).unlink(missing_ok=True)
    (run / _CHANGE).unlink(missing_ok=True)


def keep_averages(folder: Path, stage: str, averages: dict[str, np.ndarray], labels: np.ndarray) -> None:
    """Keep global averages of blocks' outputs, by their last layer, for the depth profile."""
    arrays = {f"layer {name}": each for name, each in averages.items()}
    write_npz(folder / _averages(stage), {"labels": labels, **arrays}, {})


def has_averages(folder: Path, stage: str) -> bool:
    return (folder / _averages(stage)).is_file()


def profile_before(folder: str, seed: int, progress: Progress | None = None) -> None:
    """Make the part of the depth profile that fine-tuning does not bear on, and keep it."""
    run = Path(folder)
    if not (run / _LAYERS_BEFORE).is_file():
        before, labels = _load_averages(run, "before")
        depth.save(run / _LAYERS_BEFORE, depth.profile_before(before, labels, seed=seed, progress=progress))


def profile(folder: str, seed: int, progress: Progress | None = None) -> None:
    """Write layers.csv; what was kept goes. Averages "after" may lack what fine-tuning did not change."""
    run = Path(folder)
    (before, labels), (after, _) = (_load_averages(run, stage) for stage in STAGES)
    known = depth.load(run / _LAYERS_BEFORE)
    rows = depth.profile(before, after, labels, known=known, seed=seed, progress=progress)
    depth.save(run / "layers.csv", rows)
    for name in (*map(_averages, STAGES), _LAYERS_BEFORE):
        (run / name).unlink(missing_ok=True)


def _save(run: Path, found: Measures) -> None:
    scores = list(found.scores)
    for row in load_history(run / "history.csv"):
        epoch = f"epoch {row['epoch']:.0f}"
        scores += [Score(epoch, "model", name, row[name]) for name in HISTORY_COLUMNS[1:]]
    # Last to come, and first to go: with it the step is done.
    (run / "scores.csv").unlink(missing_ok=True)
    save_class_scores(run / "classes.csv", found.class_scores)
    write_json(run / "claims.json", {"claims": [each.as_dict() for each in found.verdicts]})
    write_npz(run / "measures.npz", found.arrays, {})
    save_scores(run / "scores.csv", scores)


def _finite(run: Path, name: str) -> Features:
    path = _features(run, name)
    features = Features.load(path)
    wrong = np.flatnonzero(~np.isfinite(features.values).all(axis=1))
    if len(wrong):
        raise JaxtlError(
            f"{path}: NaN or infinite features in {len(wrong)} of {len(features.values)} rows, the first in "
            f"row {wrong[0]}; delete it and go on with: jaxtl run --resume {shlex.quote(str(run))}"
        )
    return features


def _load_averages(run: Path, stage: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    arrays, _ = read_npz(run / _averages(stage), ("labels",))
    labels = arrays.pop("labels")
    layers = {name.removeprefix("layer "): values for name, values in arrays.items()}
    if layers:
        # The last layer's averages are the features. Made in another pass they differ in the last bits, and
        # one number would have two values.
        layers[list(layers)[-1]] = Features.load(_features(run, stage)).values[: len(labels)]
    return layers, labels


def _features(run: Path, name: str) -> Path:
    return run / "features" / f"{name}.npz"


def _kept(stage: str, part: str) -> str:
    return f"numbers_{part}_{stage}.npz"


def _averages(stage: str) -> str:
    return f"averages_{stage}.npz"
