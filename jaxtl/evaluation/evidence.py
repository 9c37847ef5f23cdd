"""What claims are decided on, and the statistics that are made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from jaxtl.metrics.estimates import HALVES, Estimate, half_estimate, half_samples

# Whose names say that classes are digits.
DIGITS = tuple("0123456789")

Space = tuple[str, str]
Statistic = Callable[["Evidence"], Estimate | None]


@dataclass(frozen=True)
class Evidence:
    """What claims are decided on.

    A claim about one score has that score's own interval. One about accuracies of several spaces takes all of
    them in the same halves of the points.

    Attributes:
        correct: by stage and space, bool [n]: whether each point is of the class that most of its 10 nearest
            others in that space are of; its mean is the score of leave one out. Nothing where classes are
            not known, or there is only one.
        labels: int [n], or None.
        class_names: in label order.
        scores: by stage, space and metric.
        digits: whether the classes are the ten digits.
        tuned: whether it is fine-tuning that lies between the stages, as far as is known.
        halves: by stage and space, int [2, r, C]: of the points of each class in each of r halves of all
            points, the number that their half classifies rightly, and the number of all; where it is not
            there, those are counted that all points classify rightly.
    """

    correct: dict[Space, np.ndarray]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    scores: dict[tuple[str, str, str], Estimate]
    digits: bool = True
    tuned: bool = True
    halves: dict[Space, np.ndarray] = field(default_factory=dict)

    @property
    def has_ones(self) -> bool:
        """Whether some of the images are of the digit 1."""
        return self.digits and self.class_names == DIGITS and bool((self.labels == 1).any())

    @cached_property
    def _members(self) -> np.ndarray:
        return np.unique(self.labels, return_inverse=True)[1]

    def accuracy(self, stage: str, space: str) -> float:
        return float(self.correct[stage, space].mean())

    def counted(self, space: Space) -> np.ndarray:
        """`halves` of a space, by class; int [2, r, C]."""
        if space in self.halves:
            return self.halves[space]
        correct, n_classes = self.correct[space], int(self._members.max()) + 1
        rows = list(half_samples(len(correct), HALVES, seed=0))
        right = [np.bincount(self._members[some][correct[some]], minlength=n_classes) for some in rows]
        every = [np.bincount(self._members[some], minlength=n_classes) for some in rows]
        return np.array([right, every])

    def accuracies(self, space: Space) -> np.ndarray:
        """Of each half, float64 [r]."""
        right, every = self.counted(space).sum(axis=2)
        return right / np.maximum(every, 1)


def of_accuracies(statistic: Callable[..., Any], *spaces: Space) -> Statistic:
    """A function of the accuracies in several spaces."""

    def measure(evidence: Evidence) -> Estimate:
        value = statistic(*(evidence.accuracy(*space) for space in spaces))
        return half_estimate(value, statistic(*(evidence.accuracies(space) for space in spaces)))

    return measure


def of_score(stage: str, space: str, metric: str) -> Statistic:
    return lambda evidence: evidence.scores.get((stage, space, metric))


def lead_of_class(space: Space, digit: str) -> Statistic:
    """How much more often a digit is right in a space than a member of the next best class."""

    def measure(evidence: Evidence) -> Estimate | None:
        if not evidence.has_ones:
            return None
        label = evidence.class_names.index(digit)
        place = int(np.searchsorted(np.unique(evidence.labels), label))
        classes = evidence._members
        own = np.bincount(classes, evidence.correct[space]) / np.bincount(classes)
        right, every = evidence.counted(space)
        return half_estimate(_lead(own, place), _lead(right / np.maximum(every, 1), place))

    return measure


def _lead(shares: np.ndarray, place: int) -> np.ndarray:
    return shares[..., place] - np.delete(shares, place, axis=-1).max(axis=-1)
