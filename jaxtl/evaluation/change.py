"""What fine-tuning did, image by image: neighbours kept, places lost, images fixed and broken.

Like is compared with like: a classifier before with the same one after, taught by features of its own stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from jaxtl import metrics
from jaxtl.evaluation import catalogue
from jaxtl.evaluation.catalogue import KEEPING, N_NEIGHBORS
from jaxtl.evaluation.measures import StageMeasures
from jaxtl.evaluation.plan import FEATURES, Plan, class_scores_of, run, scores_of, tell_classes
from jaxtl.metrics.change import OUTCOMES
from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Embedding, Features, Neighbors
from jaxtl.records.tables import Score
from jaxtl.settings import STAGES

# The arrays of the classes that one classifier names before and after; of several the first that is there.
# Neighbours found in a plane: in halves of the images, most of them still have the 50 nearest.
_KNOWN = 3 * max(KEEPING)
_CLASSIFIERS = {
    "knn": (("knn_training", "knn"), catalogue.KNN_OUTCOMES),
    "probe": (("probe",), catalogue.PROBE_OUTCOMES),
}


def plan_comparison(
    features: Mapping[str, Features],
    neighbors: Mapping[str, Neighbors] | None,
    head: tuple[np.ndarray, np.ndarray] | None,
    seed: int,
) -> Plan:
    """What fine-tuning did to the features, as a whole and image by image."""
    plan = Plan("both")
    if "after" not in features:
        return plan
    before, after = features["before"].values, features["after"].values
    plan.attempt(
        catalogue.LINEAR_CKA, FEATURES, lambda: metrics.linear_cka(before, after).debiased, seconds=2.7
    )
    plan.attempt(
        catalogue.PROCRUSTES, FEATURES, lambda: metrics.procrustes(before, after, seed=seed), seconds=5.6
    )
    if neighbors is not None:
        plan.add("kept", FEATURES, partial(_features_kept, features, neighbors, seed))
        moved = partial(_moved, features, neighbors["before"], seed)
        plan.attempt_rows(catalogue.MOVED, FEATURES, moved, seconds=1.0)
    if head is not None:
        plan.add("head", FEATURES, lambda: _head(after, *head))
    return plan


def maps_kept(
    embeddings: Mapping[tuple[str, str], Embedding],
    features: Features,
    reseeded: Embedding | None = None,
    seed: int = 0,
) -> StageMeasures:
    """Neighbours kept between the embeddings of both stages, of each method that has both, over all cores.

    Args:
        embeddings: by stage and method.
        features: of any stage, whose classes are those of all.
        reseeded: an embedding of the features before with another seed, by one of these methods.
        seed: of the bootstrap over images.
    """
    plan = Plan("both")
    for method in dict.fromkeys(method for _, method in embeddings):
        there = {stage: embeddings[stage, method] for stage in STAGES if (stage, method) in embeddings}
        near = [
            plan.add(f"neighbors {stage}", method, partial(plane_neighbors, one))
            for stage, one in there.items()
        ]
        if len(near) == len(STAGES):
            plan.add("kept", method, partial(_kept, method, of=features, seed=seed), near)
        if reseeded is not None and reseeded.method == method and STAGES[0] in there:
            again = plan.add("neighbors of another seed", method, partial(plane_neighbors, reseeded))
            plan.add("reseeded", method, partial(_reseeded, method, seed=seed), [near[0], again])
    run([plan], None, None)
    return plan.rows()


def outcomes(arrays: Mapping[str, np.ndarray], features: Features, seed: int = 0) -> StageMeasures:
    """Images fixed, broken, still right and still wrong, by each classifier that named them twice."""
    whole = StageMeasures()
    if tell_classes(features):
        return whole
    for name, (_, rows) in _CLASSIFIERS.items():
        if (named := _named_twice(arrays, name)) is not None:
            whole.take(_outcomes_of(name, rows, named, features))
    return whole


def image_rows(arrays: Mapping[str, np.ndarray], features: Features) -> list[dict[str, Any]]:
    """A row for each image, as `jaxtl.records.tables.save_images` writes them.

    Args:
        arrays: of `Measures`.
        features: of any stage, whose index, ids and classes are those of all.
    """
    n = len(features.index)
    columns: dict[str, Sequence[Any]] = {
        "index": features.index.tolist(),
        "id": [""] * n if features.ids is None else features.ids.tolist(),
        "class": _names(features, features.labels),
        **_named(arrays, features),
        "head": _names(features, arrays.get("head_after")),
        "confidence": _numbers(arrays.get("head_probability"), n),
        **{f"outcome_{name}": _told(arrays.get(f"outcome_{name}"), n) for name in _CLASSIFIERS},
        "kept": _numbers(arrays.get("kept"), n),
        "moved": _numbers(arrays.get("moved"), n),
        **{
            name: _numbers(array, n)
            for prefix in ("kept_", "trust_")
            for name, array in arrays.items()
            if name.startswith(prefix)
        },
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _features_kept(
    features: Mapping[str, Features], neighbors: Mapping[str, Neighbors], seed: int
) -> StageMeasures:
    most = min(max(KEEPING), len(features["before"].values) - 1)
    near = [
        neighbors[stage]
        if neighbors[stage].indices.shape[1] >= most
        else exact_neighbors(features[stage].values, most)
        for stage in STAGES
    ]
    n = len(near[0].indices)
    rows = _kept(FEATURES, *near, of=features["before"], seed=seed)
    sizes = _sizes(n)
    rows.scores += [Score("both", FEATURES, KEEPING[k].chance, k / (n - 1)) for k in sizes]
    if missing := [k for k in KEEPING if k not in sizes]:
        many = " and ".join(map(str, missing))
        rows.left_out.append(f"neighbours kept: not of the {many} nearest, as there are {n} images")
    return rows


def _kept(space: str, before: Neighbors, after: Neighbors, *, of: Features, seed: int) -> StageMeasures:
    rows = StageMeasures()
    for k in _sizes(len(before.indices)):
        kept = metrics.neighbors_kept(before, after, k, of.labels, seed=seed)
        rows.scores += scores_of("both", space, {KEEPING[k].kept: kept.mean})
        if k == N_NEIGHBORS:
            name = "kept" if space == FEATURES else f"kept_{space}"
            rows.arrays[name] = kept.scores.astype(np.float32)
            own = kept.classes, kept.per_class, of.class_names
            rows.class_scores += class_scores_of("both", space, catalogue.KEPT, *own)
    return rows


def _moved(features: Mapping[str, Features], before: Neighbors, seed: int) -> StageMeasures:
    of = features["before"]
    moved = metrics.moved_from_neighbors(before, features["after"].values, N_NEIGHBORS, of.labels, seed=seed)
    own = moved.classes, moved.per_class, of.class_names
    return StageMeasures(
        scores_of("both", FEATURES, {catalogue.MOVED: moved.mean}),
        class_scores_of("both", FEATURES, catalogue.MOVED, *own),
        {"moved": moved.scores.astype(np.float32)},
    )


def _reseeded(method: str, first: Neighbors, again: Neighbors, *, seed: int) -> StageMeasures:
    if N_NEIGHBORS not in _sizes(len(first.indices)):
        return StageMeasures()
    kept = metrics.neighbors_kept(first, again, N_NEIGHBORS, seed=seed)
    return StageMeasures(scores_of("before", method, {catalogue.RESEED_KEPT: kept.mean}))


def _sizes(n: int) -> list[int]:
    """Of all n - 1 others every one is kept, whatever happened."""
    return [k for k in KEEPING if k <= n - 2]


def plane_neighbors(embedding: Embedding) -> Neighbors:
    """As many neighbours of every point of an embedding as any number here, and its interval, looks at."""
    # By a tree, in a moment: no device is kept busy with it.
    return exact_neighbors(embedding.coords, min(_KNOWN, len(embedding.coords) - 1), engine="cpu")


def _named_twice(arrays: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The classes that a classifier names before and after, where it names both."""
    for prefix in _CLASSIFIERS[name][0]:
        before, after = (arrays.get(f"{prefix}_{stage}") for stage in STAGES)
        if before is not None and after is not None:
            return before, after
    return None


def _outcomes_of(
    name: str, rows: catalogue.Outcomes, named: tuple[np.ndarray, np.ndarray], features: Features
) -> StageMeasures:
    labels = features.labels
    before, after = (predicted == labels for predicted in named)
    whole = metrics.paired_outcomes(before, after)
    estimates = whole.right, whole.fixed, whole.broken, whole.wrong, whole.gained
    told = dict(zip(rows[:-1], estimates, strict=True))
    scores = [*scores_of("both", FEATURES, told), Score("both", FEATURES, rows.p_value, whole.p_value)]
    classes = np.unique(labels)
    own = [metrics.paired_outcomes(before[labels == c], after[labels == c]) for c in classes]
    by_class = [
        (rows.fixed, [paired.fixed for paired in own]),
        (rows.broken, [paired.broken for paired in own]),
        (rows.gained, [paired.gained for paired in own]),
    ]
    return StageMeasures(
        scores,
        list(
            chain.from_iterable(
                class_scores_of("both", FEATURES, metric, classes, estimates, features.class_names)
                for metric, estimates in by_class
            )
        ),
        {f"outcome_{name}": whole.outcomes},
    )


def _head(values: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> StageMeasures:
    logits = values.astype(np.float64) @ kernel + bias
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return StageMeasures(
        arrays={
            "head_after": shares.argmax(axis=1).astype(np.int32),
            "head_probability": shares.max(axis=1).astype(np.float32),
        }
    )


def _named(arrays: Mapping[str, np.ndarray], features: Features) -> dict[str, list[str]]:
    """The classes that classifiers name, a column for each of them and each stage."""
    columns = {}
    for name in _CLASSIFIERS:
        twice = _named_twice(arrays, name) or (None, None)
        for stage, predicted in zip(STAGES, twice, strict=True):
            columns[f"{name}_{stage}"] = _names(features, predicted)
    return columns


def _names(features: Features, labels: np.ndarray | None) -> list[str]:
    if labels is None:
        return [""] * len(features.index)
    names = features.class_names
    return [names[label] for label in labels]


def _numbers(array: np.ndarray | None, n: int) -> list[float | None]:
    return [None] * n if array is None else array.tolist()


def _told(array: np.ndarray | None, n: int) -> list[str]:
    return [""] * n if array is None else [OUTCOMES[code] for code in array]
