"""All numbers of a before/after experiment. Each metric is a row of the catalogue and one call here.

Rows come in the order of the catalogue, whatever the order of the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from jaxtl import metrics
from jaxtl.evaluation import catalogue, change
from jaxtl.evaluation.catalogue import N_NEIGHBORS
from jaxtl.evaluation.claims import are_digits, decide
from jaxtl.evaluation.embeddings import plan_embeddings
from jaxtl.evaluation.evidence import Evidence
from jaxtl.evaluation.measures import Measures, StageMeasures
from jaxtl.evaluation.plan import FEATURES, Plan, run, scores_of, tell_classes, tell_folds
from jaxtl.evaluation.separation import nearest, plan_separation
from jaxtl.metrics.estimates import Estimate
from jaxtl.progress import Notify, Progress
from jaxtl.records.arrays import Embedding, Features, Neighbors
from jaxtl.records.tables import Score

_STAGES = ("before", "after", "both")


def measure(
    features: dict[str, Features],
    embeddings: dict[str, dict[str, Embedding]],
    neighbors: dict[str, Neighbors],
    training_features: dict[str, Features] | None = None,
    head: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> Measures:
    """Separability, faithfulness, change and transferability of a run, and what becomes of the claims.

    `measure_features` and `measure_embeddings` of each stage, `measure_change` and `combine`, at one time.

    Args:
        features: "before" and "after", of the same images in the same order.
        embeddings: of each stage, by method.
        neighbors: of each stage's features, exact, at least 10 of each.
        training_features: of each stage, of training images, by which these images are classified, if there
            are any. What needs classes is left out where nobody knows these, or there is only one.
        head: kernel [d, C] and bias [C] of the tuned network's softmax head.
        seed: of resampling, anchors and k-means.
        progress: called with the fraction done, 0 to 1.
        notify: called with one line for a number that these images do not allow.

    Raises:
        JaxtlError: features that are not finite.
    """
    training = training_features or {}
    plans = {
        stage: (
            _plan_features(stage, own, neighbors[stage], training.get(stage), seed),
            plan_embeddings(stage, own, embeddings[stage], neighbors[stage], seed, {}),
        )
        for stage, own in features.items()
    }
    compared = change.plan_comparison(features, neighbors, head, seed)
    run([*chain(*plans.values()), compared], progress, notify)
    stages = {stage: [plan.rows() for plan in pair] for stage, pair in plans.items()}
    first, maps = next(iter(features.values())), _by_place(embeddings)
    both = compared.rows()
    both.take(change.maps_kept(maps, first, seed=seed))
    return combine(stages, both, first)


def measure_features(
    stage: str,
    features: Features,
    neighbors: Neighbors,
    training_features: Features | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> StageMeasures:
    """The numbers of one stage's features, which need no embeddings; arguments and errors as of `measure`."""
    plan = _plan_features(stage, features, neighbors, training_features, seed)
    run([plan], progress, notify)
    return plan.rows()


def measure_embeddings(
    stage: str,
    features: Features,
    embeddings: dict[str, Embedding],
    neighbors: Neighbors | None = None,
    free: dict[str, Embedding] | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> StageMeasures:
    """The numbers of one stage's embeddings; `free` as of `plan_free`, all else as of `measure`.

    Without neighbours of the features nothing is said of how many each image keeps.
    """
    plan = plan_embeddings(stage, features, embeddings, neighbors, seed, free or {})
    run([plan], progress, notify)
    return plan.rows()


def measure_change(
    features: dict[str, Features],
    head: tuple[np.ndarray, np.ndarray] | None = None,
    neighbors: dict[str, Neighbors] | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> StageMeasures:
    """The numbers that compare both stages' features; arguments and errors as of `measure`.

    Without neighbours there are none of images one by one, but for what the head makes of them.
    """
    plan = change.plan_comparison(features, neighbors, head, seed)
    run([plan], progress, notify)
    return plan.rows()


def combine(
    stages: dict[str, Sequence[StageMeasures]], both: StageMeasures, first: Features, tuned: bool = True
) -> Measures:
    """What `measure` finds, from the numbers of each stage's features and embeddings, and of both together.

    Args:
        first: the features of any stage, whose labels and names of classes are those of all.
        tuned: whether it is fine-tuning that lies between the stages, as far as is known.
    """
    whole, correct, halves = StageMeasures(), {}, {}
    for stage, parts in stages.items():
        for part in parts:
            whole.take(part)
            correct |= {(stage, space): right for space, right in part.correct.items()}
            halves |= {(stage, space): counts for space, counts in part.halves.items()}
    whole.take(both)
    whole.take(change.outcomes(whole.arrays, first))
    spaces = [score.space for score in whole.scores]
    scores, class_scores = _ordered(whole.scores, whole.class_scores, spaces)
    estimates = {(s.stage, s.space, s.metric): Estimate(s.value, s.low, s.high) for s in scores}
    digits = are_digits(first.meta.get("class_names"), first.meta.get("dataset"))
    evidence = Evidence(correct, first.labels, first.class_names, estimates, digits, tuned, halves)
    return Measures(scores, class_scores, whole.arrays, decide(evidence))


def _ordered(
    scores: list[Score], class_scores: list[dict[str, Any]], methods: Iterable[str]
) -> tuple[list[Score], list[dict[str, Any]]]:
    """Rows by stage; what is promised of fine-tuning last; by space, features first; as in the catalogue."""
    spaces, known = list(dict.fromkeys([FEATURES, *methods])), list(catalogue.METRICS)

    def place(stage: str, space: str, metric: str) -> tuple[int, bool, int, int]:
        promised = metric in catalogue.TRANSFERABILITY
        return _STAGES.index(stage), promised, spaces.index(space), known.index(metric)

    return (
        sorted(scores, key=lambda score: place(score.stage, score.space, score.metric)),
        sorted(class_scores, key=lambda row: place(row["stage"], row["space"], row["metric"])),
    )


# Seconds are of 2,000 images of 1,280 features on one core. Only which are longer matters.


def _plan_features(
    stage: str, features: Features, neighbors: Neighbors, training_features: Features | None, seed: int
) -> Plan:
    plan, values = Plan(stage), features.values
    known = plan.add("neighbors", FEATURES, lambda: neighbors)
    plan.add("nearest", FEATURES, partial(_shown_neighbors, stage), [known])
    classes = tell_classes(features)
    if classes:
        plan.add("classes", FEATURES, lambda: StageMeasures(left_out=[f"{stage}: {classes}"]))
    else:
        if few := tell_folds(features):
            # Said once, for its embeddings too.
            plan.add("folds", FEATURES, lambda: StageMeasures(left_out=[f"{stage}: {few}"]))
        plan_separation(plan, FEATURES, values, features, known, seed)
        if training_features is not None and training_features.labels is not None:
            _plan_classifiers(plan, features, training_features, seed)
    spectrum = plan.add("spectrum", FEATURES, lambda: metrics.spectrum(values), seconds=1.3)
    _plan_description(plan, values, known, spectrum, seed)
    if stage == "before" and not classes:
        _plan_promise(plan, features, spectrum)
    return plan


def _plan_classifiers(plan: Plan, features: Features, training_features: Features, seed: int) -> None:
    """What classifiers that know the training images' classes make of these images."""
    given = (training_features.values, training_features.labels, features.values, features.labels)
    for metric, name, seconds, classifier in (
        (
            catalogue.TRAIN_TO_TEST,
            "knn_training",
            2.0,
            partial(metrics.train_to_test_knn, n_neighbors=N_NEIGHBORS),
        ),
        (catalogue.RIDGE_PROBE, "", 7.0, metrics.ridge_probe),
        (catalogue.LOGISTIC_PROBE, "probe", 6.0, metrics.logistic_probe),
    ):
        classify = partial(_classified, plan.stage, metric, name, partial(classifier, *given, seed=seed))
        plan.attempt_rows(metric, FEATURES, classify, seconds=seconds)


def _classified(
    stage: str, metric: str, name: str, classify: Callable[[], metrics.Classified]
) -> StageMeasures:
    """A classifier's accuracy, and under its name, if it has one, the classes that it names."""
    classified = classify()
    arrays = {f"{name}_{stage}": classified.predicted.astype(np.int32)} if name else {}
    return StageMeasures(scores_of(stage, FEATURES, {metric: classified.accuracy}), arrays=arrays)


def _plan_description(plan: Plan, values: np.ndarray, neighbors: str, spectrum: str, seed: int) -> None:
    """What the features are like."""
    stage, space = plan.stage, FEATURES

    def sizes(basis: metrics.Spectrum) -> StageMeasures:
        size = metrics.dimensions(values, basis)
        ranks = {
            catalogue.EFFECTIVE_RANK: size.effective_rank,
            catalogue.PARTICIPATION_RATIO: size.participation_ratio,
        }
        return StageMeasures(scores_of(stage, space, ranks))

    def zeros() -> StageMeasures:
        sparse = metrics.sparsity(values, seed=seed)
        shares = {catalogue.ZEROS: sparse.zeros, catalogue.HOYER: sparse.hoyer}
        return StageMeasures(scores_of(stage, space, shares))

    plan.add("dimensions", space, sizes, [spectrum], seconds=0.5)
    plan.attempt(
        catalogue.INTRINSIC_DIMENSION,
        space,
        lambda neighbors: metrics.two_nn(neighbors, seed=seed),
        [neighbors],
    )
    plan.add("sparsity", space, zeros)


def _plan_promise(plan: Plan, before: Features, spectrum: str) -> None:
    """What is said of fine-tuning before it."""
    values, labels = before.values, before.labels
    plan.attempt(catalogue.LOG_ME, FEATURES, lambda: metrics.log_me(values, labels), seconds=1.7)
    plan.attempt(
        catalogue.H_SCORE,
        FEATURES,
        lambda basis: metrics.h_score(values, labels, basis).shrunk,
        [spectrum],
        seconds=0.6,
    )


def _shown_neighbors(stage: str, neighbors: Neighbors) -> StageMeasures:
    return StageMeasures(arrays={f"neighbors_{stage}": nearest(neighbors).indices})


def _by_place(embeddings: dict[str, dict[str, Embedding]]) -> dict[tuple[str, str], Embedding]:
    return {(stage, method): one for stage, own in embeddings.items() for method, one in own.items()}
