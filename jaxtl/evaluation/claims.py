"""What the founding experiment claims, and whether a run's numbers bear it out.

A claim is a statistic, a threshold and a side. It holds where the statistic's whole 95 % interval lies on
that side, it does not where the interval lies on the other, and is undecided where the interval holds the
threshold. Thresholds are round figures of the field, named where they stand; the intervals are about other
test images, not about other seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxtl.evaluation import catalogue
from jaxtl.methods import method_label
from jaxtl.metrics.estimates import Estimate, percentiles, weights
from jaxtl.settings import STAGES

# Accuracies at which neighbours in an embedding name the class of fewer, or of more, than every second point.
_HALF = 0.5
# A silhouette of a quarter is where clusters begin (Kaufman & Rousseeuw 1990, table 4: "no substantial
# structure" up to 0.25); the same authors call what is above 0.5 a reasonable one.
_CLUSTERS_BEGIN = 0.25
# Of the 10 nearest in the embedding nearly all are near in the features, too.
_FAITHFUL = 0.9
# Ten clusters found without labels that are the ten classes but for few points.
_ONE_CLUSTER_EACH = 0.8
_RESAMPLES = 1000


@dataclass(frozen=True)
class Evidence:
    """What claims are decided on.

    A claim about one score has that score's own interval. One about a difference of accuracies resamples the
    points that all of its spaces share.

    Attributes:
        correct: by stage and space, bool [n]: whether each point is of the class that most of its 10 nearest
            others in that space are of; its mean is the score of leave one out.
        labels: int [n].
        class_names: in label order.
        scores: by stage, space and metric.
    """

    correct: dict[tuple[str, str], np.ndarray]
    labels: np.ndarray
    class_names: tuple[str, ...]
    scores: dict[tuple[str, str, str], Estimate]

    @cached_property
    def resampled(self) -> dict[tuple[str, str], np.ndarray]:
        """The accuracy in each space, float64 [resamples], of resamples of points that all spaces share."""
        # Sums of whole numbers are exact, so that a space's do not depend on which stand beside it.
        correct = np.stack(list(self.correct.values()), axis=1).astype(np.float64)
        n = len(correct)
        drawn = np.concatenate([block @ correct / n for block in weights(n, _RESAMPLES, seed=0)])
        return dict(zip(self.correct, drawn.T, strict=True))


@dataclass(frozen=True)
class Verdict:
    """A claim and what became of it; `words` says it in a sentence.

    `verdict` is "holds", "does not hold" or "undecided".
    """

    id: str
    text: str
    statistic: str
    value: float
    low: float
    high: float
    threshold: float
    direction: str
    verdict: str
    words: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Claim:
    id: str
    text: str
    statistic: str
    direction: str
    threshold: float
    measure: Callable[[Evidence], Estimate]
    needs: tuple[str, ...]
    parts: Callable[[Evidence], str] = lambda evidence: ""


def decide(evidence: Evidence) -> list[Verdict]:
    """Every claim that the run's methods and classes allow, decided."""
    methods = {space for _, space in evidence.correct}
    possible = [claim for claim in _CLAIMS if set(claim.needs) <= methods]
    if "1" not in evidence.class_names:
        possible = [claim for claim in possible if claim.id != "pca-before-one"]
    return [_verdict(claim, claim.measure(evidence), claim.parts(evidence)) for claim in possible]


def verdict_of(estimate: Estimate, threshold: float, direction: str) -> str:
    """ "holds", "does not hold" or "undecided", by where the interval lies."""
    above = direction == "above"
    if (estimate.low > threshold) if above else (estimate.high < threshold):
        return "holds"
    if (estimate.high <= threshold) if above else (estimate.low >= threshold):
        return "does not hold"
    return "undecided"


def in_digits(estimate: Estimate) -> Estimate:
    """To 6 decimals, as the tables are written: a number that stands in two files has the same digits."""
    return Estimate(*(round(float(number), 6) for number in estimate))


def _verdict(claim: _Claim, estimate: Estimate, parts: str) -> Verdict:
    value, low, high = estimate = in_digits(estimate)
    verdict = verdict_of(estimate, claim.threshold, claim.direction)
    words = (
        f"{_LEAD[verdict]}: {claim.statistic} is {value:.3f} (95 % interval {low:.3f} to {high:.3f}); "
        f"the claim needs a value {claim.direction} {claim.threshold:g}.{parts}"
    )
    how = claim.threshold, claim.direction
    return Verdict(claim.id, claim.text, claim.statistic, value, low, high, *how, verdict, words)


_LEAD = {"holds": "Supported", "does not hold": "Not supported", "undecided": "Undecided"}


def _accuracies(statistic: Callable[..., Any], *spaces: tuple[str, str]) -> Callable[[Evidence], Estimate]:
    """A function of the accuracies in several spaces, bootstrapped over points that all of them share."""

    def measure(evidence: Evidence) -> Estimate:
        value = statistic(*(evidence.correct[space].mean() for space in spaces))
        return percentiles(value, statistic(*(evidence.resampled[space] for space in spaces)))

    return measure


def _score(stage: str, space: str, metric: str) -> Callable[[Evidence], Estimate]:
    return lambda evidence: evidence.scores[stage, space, metric]


def _distinct_one(evidence: Evidence) -> Estimate:
    """How much more often a 1 is right in PCA before than a member of the next best class."""
    correct = evidence.correct["before", "pca"]
    one = evidence.class_names.index("1")
    members = (evidence.labels[:, None] == np.unique(evidence.labels)).astype(np.float64)
    place = int(np.flatnonzero(np.unique(evidence.labels) == one)[0])

    def lead(right: np.ndarray, counts: np.ndarray) -> np.ndarray:
        shares = right / np.maximum(counts, 1)
        return shares[..., place] - np.delete(shares, place, axis=-1).max(axis=-1)

    right = members * correct[:, None]
    drawn = weights(len(correct), _RESAMPLES, seed=0)
    resampled = np.concatenate([lead(block @ right, block @ members) for block in drawn])
    return percentiles(lead(right.sum(axis=0), members.sum(axis=0)), resampled)


def _lead(first: Any, *others: Any) -> Any:
    return first - np.max(others, axis=0)


def _gain_lead(b0: Any, a0: Any, b1: Any, a1: Any, b2: Any, a2: Any) -> Any:
    return (a0 - b0) - np.maximum(a1 - b1, a2 - b2)


def _lead_growth(b0: Any, b1: Any, b2: Any, a0: Any, a1: Any, a2: Any) -> Any:
    return _lead(a0, a1, a2) - _lead(b0, b1, b2)


def _both(*methods: str) -> Sequence[tuple[str, str]]:
    return [(stage, method) for method in methods for stage in STAGES]


def _of_each(told: str, value: Callable[[Evidence, str], float]) -> Callable[[Evidence], str]:
    """What a difference between embeddings is made of, so that a reader sees which one leads."""

    def words(evidence: Evidence) -> str:
        values = (f"{method_label(method)} {value(evidence, method):.3f}" for method in _ALL)
        return f" {told}: {', '.join(values)}."

    return words


def _accuracy(stage: str) -> Callable[[Evidence, str], float]:
    return lambda evidence, method: float(evidence.correct[stage, method].mean())


def _gain(evidence: Evidence, method: str) -> float:
    return _accuracy("after")(evidence, method) - _accuracy("before")(evidence, method)


# The founding experiment's, which the claims compare; a further method has no part in them.
_ALL = ("tsne", "pca", "lle")
_BEFORE, _AFTER = ([(stage, method) for method in _ALL] for stage in STAGES)
_ACCURACY = catalogue.LEAVE_ONE_OUT.label
_CLAIMS = (
    _Claim(
        "pca-before-poor",
        "Before, PCA separates the classes poorly",
        f"{_ACCURACY}, in PCA before",
        "below",
        _HALF,
        _score("before", "pca", catalogue.LEAVE_ONE_OUT),
        ("pca",),
    ),
    _Claim(
        "pca-before-one",
        "Before, '1' is the most distinct digit in PCA",
        f"{_ACCURACY}, of '1' in PCA before, less the next best digit's",
        "above",
        0.0,
        _distinct_one,
        ("pca",),
    ),
    _Claim(
        "tsne-before-local",
        "Before, t-SNE keeps local structure",
        f"{catalogue.TRUSTWORTHINESS.label} of t-SNE before",
        "above",
        _FAITHFUL,
        _score("before", "tsne", catalogue.TRUSTWORTHINESS),
        ("tsne",),
    ),
    _Claim(
        "tsne-before-global",
        "Before, t-SNE does not separate the classes globally",
        f"{catalogue.SILHOUETTE.label} of the classes in t-SNE before",
        "below",
        _CLUSTERS_BEGIN,
        _score("before", "tsne", catalogue.SILHOUETTE),
        ("tsne",),
    ),
    _Claim(
        "lle-before-poor",
        "Before, LLE separates the classes poorly",
        f"{_ACCURACY}, in LLE before",
        "below",
        _HALF,
        _score("before", "lle", catalogue.LEAVE_ONE_OUT),
        ("lle",),
    ),
    _Claim(
        "pca-improves",
        "After fine-tuning, PCA improves",
        f"{_ACCURACY}, in PCA, after less before",
        "above",
        0.0,
        _accuracies(lambda b, a: a - b, *_both("pca")),
        ("pca",),
    ),
    _Claim(
        "lle-improves",
        "After fine-tuning, LLE improves",
        f"{_ACCURACY}, in LLE, after less before",
        "above",
        0.0,
        _accuracies(lambda b, a: a - b, *_both("lle")),
        ("lle",),
    ),
    _Claim(
        "tsne-improves-most",
        "After fine-tuning, t-SNE improves most",
        f"gain of t-SNE in {_ACCURACY}, less the largest gain of PCA and LLE",
        "above",
        0.0,
        _accuracies(_gain_lead, *_both(*_ALL)),
        _ALL,
        _of_each("Gains", _gain),
    ),
    _Claim(
        "tsne-after-clusters",
        "After fine-tuning, t-SNE forms one cluster for each class",
        f"{catalogue.NMI.label} of clusters and classes in t-SNE after",
        "above",
        _ONE_CLUSTER_EACH,
        _score("after", "tsne", catalogue.NMI),
        ("tsne",),
    ),
    _Claim(
        "tsne-best-before",
        "Before, t-SNE separates best",
        f"{_ACCURACY}, in t-SNE before, less the better one of PCA and LLE",
        "above",
        0.0,
        _accuracies(_lead, *_BEFORE),
        _ALL,
        _of_each("Accuracies", _accuracy("before")),
    ),
    _Claim(
        "tsne-best-after",
        "After, t-SNE separates best",
        f"{_ACCURACY}, in t-SNE after, less the better one of PCA and LLE",
        "above",
        0.0,
        _accuracies(_lead, *_AFTER),
        _ALL,
        _of_each("Accuracies", _accuracy("after")),
    ),
    _Claim(
        "tsne-lead-grows",
        "t-SNE's lead is largest after fine-tuning",
        f"lead of t-SNE in {_ACCURACY}, over the next best map, after less before",
        "above",
        0.0,
        _accuracies(_lead_growth, *_BEFORE, *_AFTER),
        _ALL,
    ),
)
