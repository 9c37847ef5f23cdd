"""How well a space, the features or an embedding, keeps the classes apart: the tasks that say so."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from jaxtl import metrics
from jaxtl.evaluation import catalogue
from jaxtl.evaluation.catalogue import N_NEIGHBORS
from jaxtl.evaluation.measures import StageMeasures
from jaxtl.evaluation.plan import FEATURES, FOLDS, Plan, class_scores_of, scores_of, tell_folds
from jaxtl.metrics.estimates import Estimate
from jaxtl.records.arrays import Features, Neighbors


def plan_separation(
    plan: Plan, space: str, values: np.ndarray, of: Features, neighbors: str, seed: int
) -> None:
    """How well a space keeps the classes apart; `neighbors` names the task that finds them."""
    stage, labels = plan.stage, of.labels
    plan.attempt_rows("votes", space, partial(_votes, stage, space, of, seed), [neighbors])

    def in_folds(neighbors: Neighbors) -> Estimate:
        return metrics.knn_cross_validated(values, labels, neighbors, N_NEIGHBORS, FOLDS, seed=seed).accuracy

    # By itself, since it asks for more of a class than the votes of all others do.
    if not tell_folds(of):
        plan.attempt(catalogue.FIVE_FOLDS, space, in_folds, [neighbors])
    silhouette = partial(_silhouette, stage, space, values, of, seed)
    plan.attempt_rows(catalogue.SILHOUETTE, space, silhouette, seconds=0.6)
    for metric, compute in (
        (catalogue.DAVIES_BOULDIN, metrics.davies_bouldin),
        (catalogue.CALINSKI_HARABASZ, metrics.calinski_harabasz),
    ):
        plan.attempt(metric, space, partial(compute, values, labels))
    plan.attempt_rows("k-means", space, lambda: _clusters(stage, space, values, labels, seed), seconds=1.6)


def _votes(stage: str, space: str, of: Features, seed: int, neighbors: Neighbors) -> StageMeasures:
    """What neighbours say of classes."""
    labels, ten = of.labels, nearest(neighbors)
    k = ten.indices.shape[1]
    voted = metrics.leave_one_out_knn(neighbors, labels, k, seed=seed)
    hit = metrics.neighborhood_hit(neighbors, labels, k, seed=seed)
    confusion = metrics.neighbor_confusion(ten, labels, len(of.class_names), resamples=1)
    estimates = {catalogue.LEAVE_ONE_OUT: voted.accuracy, catalogue.NEIGHBORHOOD_HIT: hit.mean}
    rows = StageMeasures(
        scores_of(stage, space, estimates),
        [
            *_class_scores(stage, space, catalogue.LEAVE_ONE_OUT, voted, of),
            *_class_scores(stage, space, catalogue.NEIGHBORHOOD_HIT, hit, of),
        ],
        {f"confusion_{stage}_{space}": confusion.value.astype(np.float32)},
        {space: voted.correct},
        {space: voted.halves},
    )
    if space == FEATURES:
        rows.arrays[f"knn_{stage}"] = voted.predicted.astype(np.int32)
    return rows


def _silhouette(stage: str, space: str, values: np.ndarray, of: Features, seed: int) -> StageMeasures:
    silhouette = metrics.silhouette(values, of.labels, seed=seed)
    return StageMeasures(
        scores_of(stage, space, {catalogue.SILHOUETTE: silhouette.mean}),
        _class_scores(stage, space, catalogue.SILHOUETTE, silhouette, of),
    )


def _clusters(stage: str, space: str, values: np.ndarray, labels: np.ndarray, seed: int) -> StageMeasures:
    agreement = metrics.kmeans_agreement(values, labels, seed=seed)
    shares = {catalogue.NMI: agreement.nmi, catalogue.ARI: agreement.ari}
    return StageMeasures(scores_of(stage, space, shares))


def _class_scores(stage: str, space: str, metric: str, scored: Any, of: Features) -> list[dict[str, Any]]:
    """A row for each class of `scored`, which has `classes` and an estimate `per_class`."""
    return class_scores_of(stage, space, metric, scored.classes, scored.per_class, of.class_names)


def nearest(neighbors: Neighbors) -> Neighbors:
    """The ten nearest of each point."""
    return Neighbors(neighbors.indices[:, :N_NEIGHBORS], neighbors.distances[:, :N_NEIGHBORS])
