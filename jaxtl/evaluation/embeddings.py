"""Scores of embeddings: how well each keeps the classes apart, and how true it is to the features."""

from __future__ import annotations

from functools import partial

import numpy as np

from jaxtl import metrics
from jaxtl.evaluation import catalogue
from jaxtl.evaluation.catalogue import N_NEIGHBORS
from jaxtl.evaluation.free import plan_free
from jaxtl.evaluation.measures import StageMeasures
from jaxtl.evaluation.plan import FEATURES, Plan, scores_of, tell_classes, tell_folds
from jaxtl.evaluation.separation import plan_separation
from jaxtl.metrics.separability import KNN_CANDIDATES
from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Embedding, Features, Neighbors


def plan_embeddings(
    stage: str,
    features: Features,
    made: dict[str, Embedding],
    neighbors: Neighbors | None,
    seed: int,
    free: dict[str, Embedding],
) -> Plan:
    plan, classes = Plan(stage), not tell_classes(features)
    ranks = partial(metrics.anchored, features.values, seed=seed)
    anchored = plan.add("anchored", FEATURES, ranks, seconds=3.0)
    for method, embedding in made.items():
        its_neighbors = _plan_embedding(plan, method, embedding.coords, features, anchored, seed)
        if neighbors is not None:
            trust = partial(_trust, stage, method, neighbors)
            plan.attempt_rows("trust", method, trust, [its_neighbors])
    for method, embedding in free.items():
        plan_free(plan, method, embedding.coords, features.labels if classes else None, anchored, seed)
    return plan


def _plan_embedding(
    plan: Plan, method: str, coords: np.ndarray, of: Features, anchored: str, seed: int
) -> str:
    """How well an embedding keeps the classes apart, and how true it is to the features.

    Returns the name of the task that finds its neighbours.
    """
    count = min(KNN_CANDIDATES, len(coords) - 1)
    neighbors = plan.add("neighbors", method, lambda: exact_neighbors(coords, count))
    if not tell_classes(of):
        plan_separation(plan, method, coords, of, neighbors, seed)
        plan.attempt_rows("clusters", method, partial(_density, plan.stage, method, coords, of.labels, seed))
        # An embedding holds no training images, so its probes are tried on folds of the test images.
        probes = {
            catalogue.RIDGE_PROBE_FOLDS: metrics.ridge_probe_cross_validated,
            catalogue.LOGISTIC_PROBE_FOLDS: metrics.logistic_probe_cross_validated,
        }
        for metric, probe in probes.items() if not tell_folds(of) else ():
            plan.attempt(metric, method, lambda probe=probe: probe(coords, of.labels, seed=seed).accuracy)
    compare = partial(_truth, plan.stage, method, coords, seed)
    plan.add("faithfulness", method, compare, [anchored], seconds=1.5)
    return neighbors


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
        catalogue.FEATURES_KEPT: true.kept,
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


def _trust(stage: str, method: str, of_features: Neighbors, own: Neighbors) -> StageMeasures:
    """Of each point, what `FEATURES_KEPT` is the mean of."""
    # Of the points alone: as few halves as there can be.
    scores = metrics.neighbors_kept(own, of_features, N_NEIGHBORS, halves=2).scores
    return StageMeasures(arrays={f"trust_{stage}_{method}": scores.astype(np.float32)})
