"""Where in the network a task is solved, and what fine-tuning moved: numbers at the end of every block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from jaxtl import metrics
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import (
    EFFECTIVE_RANK,
    LEAVE_ONE_OUT,
    LINEAR_CKA,
    N_NEIGHBORS,
    RIDGE_PROBE_FOLDS,
)
from jaxtl.machine import cores
from jaxtl.metrics.estimates import Estimate
from jaxtl.metrics.separability import KNN_CANDIDATES
from jaxtl.neighbors import exact_neighbors
from jaxtl.progress import Notify, Progress
from jaxtl.records.tables import LayerRow
from jaxtl.settings import STAGES

# Enough for intervals of one or two hundredths, and a profile of the network in seconds.
SAMPLES = 4000


def profile(
    before: dict[str, np.ndarray],
    after: dict[str, np.ndarray],
    labels: np.ndarray,
    *,
    known: Sequence[LayerRow] = (),
    seed: int = 0,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> list[LayerRow]:
    """Separability, effective rank, and likeness before and after, block by block, over all cores.

    Args:
        before, after: pooled outputs [n, channels] by layer, of the same images, from
            `jaxtl.network.extraction.extract_layers`; `after` may lack layers that fine-tuning left as they
            were.
        labels: int [n].
        known: what `profile_before` found of the same outputs, which is then not computed again.
        seed: of resampling.
        progress: called with the fraction done, 0 to 1.
        notify: called with one line where these images do not allow the probe's folds.

    Returns:
        For each layer and stage the leave-one-out 10-NN accuracy, the cross-validated accuracy of a ridge
        probe, unless classes are too small for its folds, and the effective rank; for both together the
        debiased linear CKA. Layers that fine-tuning did not change have the same numbers in both stages.

    Raises:
        JaxtlError: fewer than two classes, or too few images.
    """
    changed = {
        layer: after[layer]
        for layer, values in before.items()
        if layer in after and not np.array_equal(values, after[layer])
    }
    estimates = {tuple(row[:3]): Estimate(*row[3:]) for row in known}
    works = _of_stage("before", before, labels, seed) | _of_stage("after", changed, labels, seed)
    # An unchanged layer is compared with itself, not with a copy, whose products would be computed too.
    works |= {
        ("both", layer, LINEAR_CKA): partial(_likeness, values, changed.get(layer, values))
        for layer, values in before.items()
    }
    left = {key: work for key, work in works.items() if key not in estimates}
    return _rows(estimates | _work_off(left, before, progress, notify), before)


def profile_before(
    before: dict[str, np.ndarray],
    labels: np.ndarray,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> list[LayerRow]:
    """The rows of `profile` whose stage is "before", which need nothing else; arguments and errors as there.

    Saved and loaded again they serve as `known` just as well: the rest is written with as many decimals.
    """
    estimates = _work_off(_of_stage("before", before, labels, seed), before, progress, notify)
    return [
        LayerRow(*key, *map(float, estimates[key])) for key in _keys("before", before) if key in estimates
    ]


# Stage, layer and metric.
_Key = tuple[str, str, str]


def _of_stage(
    stage: str, layers: dict[str, np.ndarray], labels: np.ndarray, seed: int
) -> dict[_Key, Callable[[], Estimate]]:
    return {
        (stage, layer, metric): partial(compute, layers[layer], labels, seed)
        for layer in layers
        for metric, compute in _OF_LAYER.items()
    }


def _work_off(
    works: dict[_Key, Callable[[], Estimate]],
    layers: dict[str, np.ndarray],
    progress: Progress | None,
    notify: Notify | None,
) -> dict[_Key, Estimate]:
    estimates: dict[_Key, Estimate] = {}
    refused: set[_Key] = set()

    def keep(key: _Key) -> None:
        try:
            estimates[key] = works[key]()
        except JaxtlError:
            if key[2] not in _OF_SOME_CLASSES:
                raise
            refused.add(key)

    def tick(name: str) -> None:
        if progress:
            progress((len(estimates) + len(refused)) / len(works))

    # The widest layers take longest, and of their numbers the probe: so the last to end are short ones.
    order = sorted(works, key=lambda key: (-layers[key[1]].shape[1], _LONGEST_FIRST.index(key[2])))
    cores.run([cores.Task(", ".join(key), partial(keep, key)) for key in order], tick)
    if refused and notify:
        notify(f"{RIDGE_PROBE_FOLDS}, at the end of blocks: left out (too few images of a class)")
    return estimates


def _rows(estimates: dict[_Key, Estimate], layers: Iterable[str]) -> list[LayerRow]:
    rows: list[LayerRow] = []
    for layer in layers:
        for stage in STAGES:
            for key in _keys(stage, [layer]):
                estimate = estimates.get(key, estimates.get(("before", *key[1:])))
                if estimate is not None:
                    rows.append(LayerRow(*key, *map(float, estimate)))
        compared = "both", layer, LINEAR_CKA
        rows.append(LayerRow(*compared, *map(float, estimates[compared])))
    return rows


def _keys(stage: str, layers: Iterable[str]) -> list[_Key]:
    return [(stage, layer, metric) for layer in layers for metric in _OF_LAYER]


def _accuracy(values: np.ndarray, labels: np.ndarray, seed: int) -> Estimate:
    # On the CPU: a GPU would need a program for every width, and compile longer than this takes.
    neighbors = exact_neighbors(values, min(KNN_CANDIDATES, len(values) - 1), engine="cpu")
    k = min(N_NEIGHBORS, len(values) - 1)
    return metrics.leave_one_out_knn(neighbors, labels, k, seed=seed).accuracy


def _probe(values: np.ndarray, labels: np.ndarray, seed: int) -> Estimate:
    return metrics.ridge_probe_cross_validated(values, labels, seed=seed).accuracy


def _rank(values: np.ndarray, labels: np.ndarray, seed: int) -> Estimate:
    return metrics.effective_rank(values)


def _likeness(before: np.ndarray, after: np.ndarray) -> Estimate:
    return metrics.linear_cka(before, after).debiased


_OF_LAYER = {LEAVE_ONE_OUT: _accuracy, RIDGE_PROBE_FOLDS: _probe, EFFECTIVE_RANK: _rank}
# What asks for more of a class than some sets have.
_OF_SOME_CLASSES = (RIDGE_PROBE_FOLDS,)
_LONGEST_FIRST = (RIDGE_PROBE_FOLDS, LINEAR_CKA, EFFECTIVE_RANK, LEAVE_ONE_OUT)
