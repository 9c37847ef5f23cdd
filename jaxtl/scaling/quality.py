"""The quality of a study's embeddings, measured apart from their cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxtl import metrics
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import (
    DIAGNOSTICS,
    EXPLAINED_VARIANCE,
    LEAVE_ONE_OUT,
    N_NEIGHBORS,
    TRUSTWORTHINESS,
)
from jaxtl.machine.memory import available_memory
from jaxtl.metrics.estimates import Estimate
from jaxtl.metrics.voting import classified, vote
from jaxtl.neighbors import exact_neighbors
from jaxtl.records import store
from jaxtl.records.arrays import Embedding
from jaxtl.scaling.trials import Trial

Quality = dict[str, tuple[float, float | None, float | None]]

_ANCHORS = 2000
# Ranks held at a time: 560 MB at 70,000 points, 800 MB where anchors become fewer, beyond 100,000.
_RANKS = 200_000_000


@dataclass(frozen=True)
class Space:
    """The features of n images as their embeddings are compared with them.

    Attributes:
        ranks: from random anchors; None where memory does not allow them, and then `note` says so.
        labels: int32 [n].
        seed: of anchors and resampling.
    """

    ranks: metrics.Anchored | None
    labels: np.ndarray
    seed: int
    note: str = ""

    @property
    def own(self) -> Quality:
        """Leave-one-out 10-NN accuracy of the anchors in the features."""
        if self.ranks is None:
            return {}
        anchors, ranks = self.ranks.anchors, self.ranks.ranks
        neighbors = np.empty((len(anchors), N_NEIGHBORS), np.int64)
        rows, columns = np.nonzero((ranks >= 1) & (ranks <= N_NEIGHBORS))
        neighbors[rows, ranks[rows, columns].astype(np.int64) - 1] = columns
        classes, members = np.unique(self.labels, return_inverse=True)
        predicted = vote(members[neighbors], len(classes))
        anchored = classified(predicted, members[anchors], classes, 1000, self.seed)
        return {LEAVE_ONE_OUT: _triple(anchored.accuracy)}

    def quality(self, embedding: Embedding) -> Quality:
        """Scores of one embedding, with intervals where they have some."""
        neighbors = exact_neighbors(embedding.coords, N_NEIGHBORS)
        voted = metrics.leave_one_out_knn(neighbors, embedding.labels, seed=self.seed)
        scores: Quality = {LEAVE_ONE_OUT: _triple(voted.accuracy)}
        if self.ranks is not None:
            trusted = metrics.trustworthiness(self.ranks, embedding.coords, N_NEIGHBORS, seed=self.seed)
            scores[TRUSTWORTHINESS] = _triple(trusted)
        for key, metric in DIAGNOSTICS.items():
            if isinstance(value := embedding.diagnostics.get(key), (int, float)):
                scores[metric] = float(value), None, None
        if ratios := embedding.diagnostics.get("explained_variance_ratio"):
            scores[EXPLAINED_VARIANCE] = float(sum(ratios)), None, None
        return scores


def look(features: Path, labels: np.ndarray, seed: int) -> Space:
    """The first len(labels) rows of a file of features, ranked from up to 2000 of them.

    Beyond 100,000 rows there are fewer anchors, 200 at 10^6, and wider intervals.
    """
    n = len(labels)
    if note := shortage(features, n):
        return Space(None, labels, seed, note)
    values = store.mapped(features)[:n]
    return Space(metrics.anchored(values, anchors=_anchors(n), pairs=1, seed=seed), labels, seed)


def shortage(features: Path, n: int) -> str:
    """What there is too little memory for now, with the first n rows; empty where there is enough."""
    d = store.mapped(features).shape[1]
    # Distances are taken in float64.
    needed = 8 * n * (d + _anchors(n))
    if needed <= available_memory():
        return ""
    return f"{TRUSTWORTHINESS.label} of {n:,} points left out: it needs {needed / 2**30:.1f} GiB"


def lacking(features: Path, n: int, trials: Sequence[Trial]) -> list[Trial]:
    """Trials of n images without quality, and those without the part of it that memory allows by now."""
    left = [trial for trial in trials if TRUSTWORTHINESS not in (trial.quality or {})]
    if any(trial.quality for trial in left) and shortage(features, n):
        return [trial for trial in left if trial.quality is None]
    return left


def _anchors(n: int) -> int:
    return min(_ANCHORS, n, max(1, _RANKS // n))


def check(labels: np.ndarray) -> None:
    """Raises JaxtlError where images are all of one class, of which no accuracy can be told."""
    if len(np.unique(labels)) < 2:
        raise JaxtlError(f"the first {len(labels):,} images are all of one class; take larger sizes")


def _triple(estimate: Estimate) -> tuple[float, float, float]:
    return float(estimate.value), float(estimate.low), float(estimate.high)
