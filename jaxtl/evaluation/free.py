"""How good an embedding after would be that does not begin with the one before, beside the one that does."""

from __future__ import annotations

import numpy as np

from jaxtl import metrics
from jaxtl.evaluation import catalogue
from jaxtl.evaluation.catalogue import N_NEIGHBORS
from jaxtl.evaluation.plan import Plan
from jaxtl.metrics.estimates import Estimate
from jaxtl.neighbors import exact_neighbors


def plan_free(
    plan: Plan, method: str, coords: np.ndarray, labels: np.ndarray | None, anchored: str, seed: int
) -> None:
    """Add its numbers to a plan: its 10-NN accuracy, and its trustworthiness.

    Args:
        coords: [n, 2], what the method makes if it is free to start where it would.
        labels: int32 [n]; None where there are no classes to tell apart.
        anchored: the task that ranks the features.
    """
    k = min(N_NEIGHBORS, (len(coords) - 1) // 2)
    if labels is not None:

        def voted() -> Estimate:
            return metrics.leave_one_out_knn(exact_neighbors(coords, k), labels, seed=seed).accuracy

        plan.attempt(catalogue.FREE_LEAVE_ONE_OUT, method, voted)

    def trusted(features: metrics.Anchored) -> Estimate:
        return metrics.faithfulness(features, coords, k, seed=seed).trustworthiness

    plan.attempt(catalogue.FREE_TRUSTWORTHINESS, method, trusted, [anchored], seconds=1.5)
