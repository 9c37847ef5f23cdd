"""All numbers of a before/after experiment. Each metric is a row of the catalogue and one call here.

Rows come in the order of the catalogue, whatever the order of the calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from jaxtl import metrics
from jaxtl.evaluation import catalogue
from jaxtl.evaluation.catalogue import N_NEIGHBORS
from jaxtl.evaluation.claims import are_digits, decide
from jaxtl.evaluation.evidence import Evidence
from jaxtl.evaluation.measures import Measures, StageMeasures
from jaxtl.evaluation.plan import Plan, class_scores_of, run, scores_of
from jaxtl.metrics.estimates import Estimate
from jaxtl.metrics.separability import KNN_CANDIDATES
from jaxtl.neighbors import exact_neighbors
from jaxtl.progress import Notify, Progress
from jaxtl.records.arrays import Embedding, Features, Neighbors
from jaxtl.records.tables import Score

_FEATURES = "features"
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
            _plan_embeddings(stage, own, embeddings[stage], seed),
        )
        for stage, own in features.items()
    }
    compared = _plan_comparison(features, head, seed)
    run([*chain(*plans.values()), compared], progress, notify)
    stages = {stage: [plan.rows() for plan in pair] for stage, pair in plans.items()}
    return combine(stages, compared.rows(), next(iter(features.values())))


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
    *,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> StageMeasures:
    """The numbers of one stage's embeddings; arguments and errors as of `measure`."""
    plan = _plan_embeddings(stage, features, embeddings, seed)
    run([plan], progress, notify)
    return plan.rows()


def measure_change(
    features: dict[str, Features],
    head: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> StageMeasures:
    """The numbers that compare both stages' features; arguments and errors as of `measure`."""
    plan = _plan_comparison(features, head, seed)
    run([plan], progress, notify)
    return plan.rows()


def combine(
    stages: dict[str, Sequence[StageMeasures]], change: StageMeasures, first: Features, tuned: bool = True
) -> Measures:
    """What `measure` finds, from the numbers of each stage's features and embeddings, and of the change.

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
    whole.take(change)
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
    spaces, known = list(dict.fromkeys([_FEATURES, *methods])), list(catalogue.METRICS)

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
    known = plan.add("neighbors", _FEATURES, lambda: neighbors)
    plan.add("nearest", _FEATURES, partial(_shown_neighbors, stage), [known])
    classes = tell_classes(features)
    if classes:
        plan.add("classes", _FEATURES, lambda: StageMeasures(left_out=[f"{stage}: {classes}"]))
    else:
        _plan_space(plan, _FEATURES, values, features, known, seed)
        if training_features is not None and training_features.labels is not None:
            _plan_classifiers(plan, features, training_features, seed)
    spectrum = plan.add("spectrum", _FEATURES, lambda: metrics.spectrum(values), seconds=1.3)
    _plan_description(plan, values, known, spectrum, seed)
    if stage == "before" and not classes:
        _plan_promise(plan, features, spectrum)
    return plan


def tell_classes(features: Features) -> str:
    """Why what needs classes is left out, a line; nothing where there are classes to tell apart."""
    if features.labels is None:
        return "what needs labels is left out (there are none)"
    count, n = len(np.unique(features.labels)), len(features.labels)
    if count == 1:
        return f"what needs classes is left out (all {n:,} images are of one class)"
    if count == n:
        return f"what needs classes is left out (each of the {n:,} images is a class of its own)"
    return ""


def _plan_embeddings(stage: str, features: Features, embeddings: dict[str, Embedding], seed: int) -> Plan:
    plan = Plan(stage)
    anchored = plan.add(
        "anchored", _FEATURES, lambda: metrics.anchored(features.values, seed=seed), seconds=3.0
    )
    for method, embedding in embeddings.items():
        _plan_embedding(plan, method, embedding.coords, features, anchored, seed)
    return plan


def _plan_space(plan: Plan, space: str, values: np.ndarray, of: Features, neighbors: str, seed: int) -> None:
    """How well a space keeps the classes apart; `neighbors` names the task that finds them."""
    stage, labels = plan.stage, of.labels
    plan.attempt_rows("votes", space, partial(_votes, stage, space, values, of, seed), [neighbors])
    silhouette = partial(_silhouette, stage, space, values, of, seed)
    plan.attempt_rows(catalogue.SILHOUETTE, space, silhouette, seconds=0.6)
    for metric, compute in (
        (catalogue.DAVIES_BOULDIN, metrics.davies_bouldin),
        (catalogue.CALINSKI_HARABASZ, metrics.calinski_harabasz),
    ):
        plan.attempt(metric, space, partial(compute, values, labels))
    plan.attempt_rows("k-means", space, lambda: _clusters(stage, space, values, labels, seed), seconds=1.6)


def _plan_classifiers(plan: Plan, features: Features, training_features: Features, seed: int) -> None:
    """What classifiers that know the training images' classes make of these images."""
    given = (training_features.values, training_features.labels, features.values, features.labels)
    for metric, seconds, classifier in (
        (catalogue.TRAIN_TO_TEST, 2.0, partial(metrics.train_to_test_knn, n_neighbors=N_NEIGHBORS)),
        (catalogue.RIDGE_PROBE, 7.0, metrics.ridge_probe),
        (catalogue.LOGISTIC_PROBE, 6.0, metrics.logistic_probe),
    ):
        plan.attempt(metric, _FEATURES, lambda c=classifier: c(*given, seed=seed).accuracy, seconds=seconds)


def _plan_description(plan: Plan, values: np.ndarray, neighbors: str, spectrum: str, seed: int) -> None:
    """What the features are like."""
    stage, space = plan.stage, _FEATURES

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


def _plan_embedding(
    plan: Plan, method: str, coords: np.ndarray, of: Features, anchored: str, seed: int
) -> None:
    """How well an embedding keeps the classes apart, and how true it is to the features."""
    count = min(KNN_CANDIDATES, len(coords) - 1)
    if not tell_classes(of):
        neighbors = plan.add("neighbors", method, lambda: exact_neighbors(coords, count))
        _plan_space(plan, method, coords, of, neighbors, seed)
        plan.attempt_rows("clusters", method, partial(_density, plan.stage, method, coords, of.labels, seed))
        # An embedding holds no training images, so its probes are tried on folds of the test images.
        for metric, probe in (
            (catalogue.RIDGE_PROBE_FOLDS, metrics.ridge_probe_cross_validated),
            (catalogue.LOGISTIC_PROBE_FOLDS, metrics.logistic_probe_cross_validated),
        ):
            plan.attempt(metric, method, lambda probe=probe: probe(coords, of.labels, seed=seed).accuracy)
    compare = partial(_truth, plan.stage, method, coords, seed)
    plan.add("faithfulness", method, compare, [anchored], seconds=1.5)


def _plan_promise(plan: Plan, before: Features, spectrum: str) -> None:
    """What is said of fine-tuning before it."""
    values, labels = before.values, before.labels
    plan.attempt(catalogue.LOG_ME, _FEATURES, lambda: metrics.log_me(values, labels), seconds=1.7)
    plan.attempt(
        catalogue.H_SCORE,
        _FEATURES,
        lambda basis: metrics.h_score(values, labels, basis).shrunk,
        [spectrum],
        seconds=0.6,
    )


def _plan_comparison(
    features: dict[str, Features], head: tuple[np.ndarray, np.ndarray] | None, seed: int
) -> Plan:
    """What fine-tuning did to the features as a whole."""
    plan = Plan("both")
    if "after" not in features:
        return plan
    before, after = features["before"].values, features["after"].values
    plan.attempt(
        catalogue.LINEAR_CKA, _FEATURES, lambda: metrics.linear_cka(before, after).debiased, seconds=2.7
    )
    plan.attempt(
        catalogue.PROCRUSTES, _FEATURES, lambda: metrics.procrustes(before, after, seed=seed), seconds=5.6
    )
    if head is not None:
        plan.add("head", _FEATURES, lambda: _head(after, *head))
    return plan


def _shown_neighbors(stage: str, neighbors: Neighbors) -> StageMeasures:
    return StageMeasures(arrays={f"neighbors_{stage}": _nearest(neighbors).indices})


def _votes(
    stage: str, space: str, values: np.ndarray, of: Features, seed: int, neighbors: Neighbors
) -> StageMeasures:
    """What neighbours say of classes."""
    labels, nearest = of.labels, _nearest(neighbors)
    folds = metrics.knn_cross_validated(values, labels, neighbors, N_NEIGHBORS, seed=seed)
    k = nearest.indices.shape[1]
    voted = metrics.leave_one_out_knn(neighbors, labels, k, seed=seed)
    hit = metrics.neighborhood_hit(neighbors, labels, k, seed=seed)
    confusion = metrics.neighbor_confusion(nearest, labels, len(of.class_names), resamples=1)
    estimates = {
        catalogue.FIVE_FOLDS: folds.accuracy,
        catalogue.LEAVE_ONE_OUT: voted.accuracy,
        catalogue.NEIGHBORHOOD_HIT: hit.mean,
    }
    rows = StageMeasures(
        scores_of(stage, space, estimates),
        [
            *class_scores_of(stage, space, catalogue.LEAVE_ONE_OUT, voted, of),
            *class_scores_of(stage, space, catalogue.NEIGHBORHOOD_HIT, hit, of),
        ],
        {f"confusion_{stage}_{space}": confusion.value.astype(np.float32)},
        {space: voted.correct},
        {space: voted.halves},
    )
    if space == _FEATURES:
        rows.arrays[f"knn_{stage}"] = voted.predicted.astype(np.int32)
    return rows


def _silhouette(stage: str, space: str, values: np.ndarray, of: Features, seed: int) -> StageMeasures:
    silhouette = metrics.silhouette(values, of.labels, seed=seed)
    return StageMeasures(
        scores_of(stage, space, {catalogue.SILHOUETTE: silhouette.mean}),
        class_scores_of(stage, space, catalogue.SILHOUETTE, silhouette, of),
    )


def _clusters(stage: str, space: str, values: np.ndarray, labels: np.ndarray, seed: int) -> StageMeasures:
    agreement = metrics.kmeans_agreement(values, labels, seed=seed)
    shares = {catalogue.NMI: agreement.nmi, catalogue.ARI: agreement.ari}
    return StageMeasures(scores_of(stage, space, shares))


def _density(stage: str, method: str, coords: np.ndarray, labels: np.ndarray, seed: int) -> StageMeasures:
    dense = metrics.density_clusters(coords, labels, seed=seed)
    rows = {catalogue.CLUSTERS: dense.count, catalogue.CLUSTERS_MATCHED: dense.matched}
    return StageMeasures(scores_of(stage, method, rows))


def _truth(
    stage: str, method: str, coords: np.ndarray, seed: int, features: metrics.Anchored
) -> StageMeasures:
    k = min(N_NEIGHBORS, (len(coords) - 1) // 2)
    true = metrics.faithfulness(features, coords, k, seed=seed)
    estimates = {
        catalogue.TRUSTWORTHINESS: true.trustworthiness,
        catalogue.CONTINUITY: true.continuity,
        catalogue.MAP_KEEPS: true.kept,
        catalogue.SHEPARD: true.shepard,
        catalogue.QNX_AUC: true.co_ranking.auc,
    }
    return StageMeasures(
        scores_of(stage, method, estimates),
        arrays={
            "qnx_k": true.co_ranking.sizes.astype(np.int32),
            f"qnx_{stage}_{method}": np.asarray(true.co_ranking.q.value, np.float32),
        },
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


def _nearest(neighbors: Neighbors) -> Neighbors:
    return Neighbors(neighbors.indices[:, :N_NEIGHBORS], neighbors.distances[:, :N_NEIGHBORS])
