"""What the founding experiment claims, and whether a run's numbers bear it out.

A claim is a statistic, a threshold and a side. It holds where the statistic's whole 95 % interval lies on
that side, it does not where the interval lies on the other, and is undecided where the interval holds the
threshold. Thresholds are round figures of the field, named where they stand, or follow from what chance gives
with these classes (`jaxtl.evaluation.chance`); the intervals are about other test images, not about other
seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxtl.evaluation import catalogue, chance
from jaxtl.methods import method_label
from jaxtl.metrics.estimates import Estimate, percentiles, weights
from jaxtl.settings import STAGES

# A silhouette of a quarter is where clusters begin (Kaufman & Rousseeuw 1990, table 4: "no substantial
# structure" up to 0.25); the same authors call what is above 0.5 a reasonable one.
_CLUSTERS_BEGIN = 0.25
# Of the 10 nearest in the embedding nearly all are near in the features, too.
_FAITHFUL = 0.9
_RESAMPLES = 1000
# Whose names say that classes are digits.
_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Evidence:
    """What claims are decided on.

    A claim about one score has that score's own interval. One about a difference of accuracies resamples the
    points that all of its spaces share.

    Attributes:
        correct: by stage and space, bool [n]: whether each point is of the class that most of its 10 nearest
            others in that space are of; its mean is the score of leave one out. Nothing where classes are
            not known, or there is only one.
        labels: int [n], or None.
        class_names: in label order.
        scores: by stage, space and metric.
        digits: whether the classes are the ten digits.
        tuned: whether it is fine-tuning that lies between the stages, as far as is known.
    """

    correct: dict[tuple[str, str], np.ndarray]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    scores: dict[tuple[str, str, str], Estimate]
    digits: bool = True
    tuned: bool = True

    @property
    def has_ones(self) -> bool:
        """Whether some of the images are of the digit 1."""
        return self.digits and self.class_names == _DIGITS and bool((self.labels == 1).any())

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
    """A row of the claims.

    Attributes:
        text: with {after} and {then} where it says what came between the stages.
        threshold: a number, or what makes it of the classes.
        measure: the statistic; None where this set does not have it.
        needs: methods.
        of_classes: whether it is about classes.
        parts: a further sentence for its words.
    """

    id: str
    text: str
    statistic: str
    direction: str
    threshold: float | Callable[[np.ndarray], float]
    measure: Callable[[Evidence], Estimate | None]
    needs: tuple[str, ...]
    parts: Callable[[Evidence], str] = lambda evidence: ""
    of_classes: bool = True


def decide(evidence: Evidence) -> list[Verdict]:
    """Every claim that the run's methods and classes allow, decided."""
    methods = {space for _, space in evidence.correct}
    embedded = methods | {space for _, space, _ in evidence.scores}
    possible = [claim for claim in _CLAIMS if set(claim.needs) <= (methods if claim.of_classes else embedded)]
    measured = [(claim, claim.measure(evidence)) for claim in possible]
    return [_verdict(claim, estimate, evidence) for claim, estimate in measured if estimate is not None]


def are_digits(class_names: Any, dataset: Any) -> bool:
    """Whether classes are the ten digits: by their names, unless these are numbers for want of names.

    Args:
        class_names: as a record of features has them; None where it has none.
        dataset: its name, if it has one. IDX files hold class numbers of anything.
    """
    return tuple(class_names or ()) == _DIGITS and not str(dataset or "").startswith("idx:")


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


def _verdict(claim: _Claim, estimate: Estimate, evidence: Evidence) -> Verdict:
    value, low, high = estimate = in_digits(estimate)
    threshold = claim.threshold
    if callable(threshold):
        threshold = round(threshold(evidence.labels), _THRESHOLD_DECIMALS)
    verdict = verdict_of(estimate, threshold, claim.direction)
    words = (
        f"{_LEAD[verdict]}: {claim.statistic} is {value:.3f} (95 % interval {low:.3f} to {high:.3f}); "
        f"the claim needs a value {claim.direction} {threshold:g}.{claim.parts(evidence)}"
    )
    then = "after fine-tuning" if evidence.tuned else "afterwards"
    text = claim.text.format(after="After fine-tuning" if evidence.tuned else "After", then=then)
    how = threshold, claim.direction
    return Verdict(claim.id, text, claim.statistic, value, low, high, *how, verdict, words)


# As many as scores are shown with.
_THRESHOLD_DECIMALS = 3
_LEAD = {"holds": "Supported", "does not hold": "Not supported", "undecided": "Undecided"}


def _accuracies(statistic: Callable[..., Any], *spaces: tuple[str, str]) -> Callable[[Evidence], Estimate]:
    """A function of the accuracies in several spaces, bootstrapped over points that all of them share."""

    def measure(evidence: Evidence) -> Estimate:
        value = statistic(*(evidence.correct[space].mean() for space in spaces))
        return percentiles(value, statistic(*(evidence.resampled[space] for space in spaces)))

    return measure


def _score(stage: str, space: str, metric: str) -> Callable[[Evidence], Estimate | None]:
    return lambda evidence: evidence.scores.get((stage, space, metric))


def _by_guessing(evidence: Evidence) -> str:
    """Where a threshold comes from that depends on the classes."""
    guessed = chance.accuracy(evidence.labels)
    return (
        f" A guess by the classes' shares is right in {guessed:.3f}; at the threshold the odds of being "
        f"right are {chance.TIMES_THE_ODDS} times as high."
    )


def _by_chance(evidence: Evidence) -> str:
    by_chance = chance.mutual_information(evidence.labels)
    return f" By chance it is {by_chance:.3f}; the threshold lies 80 % of the way from there to 1."


def _distinct_one(evidence: Evidence) -> Estimate | None:
    """How much more often a 1 is right in PCA before than a member of the next best class."""
    if not evidence.has_ones:
        return None
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
        chance.separates,
        _score("before", "pca", catalogue.LEAVE_ONE_OUT),
        ("pca",),
        _by_guessing,
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
        of_classes=False,
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
        chance.separates,
        _score("before", "lle", catalogue.LEAVE_ONE_OUT),
        ("lle",),
        _by_guessing,
    ),
    _Claim(
        "pca-improves",
        "{after}, PCA improves",
        f"{_ACCURACY}, in PCA, after less before",
        "above",
        0.0,
        _accuracies(lambda b, a: a - b, *_both("pca")),
        ("pca",),
    ),
    _Claim(
        "lle-improves",
        "{after}, LLE improves",
        f"{_ACCURACY}, in LLE, after less before",
        "above",
        0.0,
        _accuracies(lambda b, a: a - b, *_both("lle")),
        ("lle",),
    ),
    _Claim(
        "tsne-improves-most",
        "{after}, t-SNE improves most",
        f"gain of t-SNE in {_ACCURACY}, less the largest gain of PCA and LLE",
        "above",
        0.0,
        _accuracies(_gain_lead, *_both(*_ALL)),
        _ALL,
        _of_each("Gains", _gain),
    ),
    _Claim(
        "tsne-after-clusters",
        "{after}, t-SNE forms one cluster for each class",
        f"{catalogue.NMI.label} of clusters and classes in t-SNE after",
        "above",
        chance.one_cluster_each,
        _score("after", "tsne", catalogue.NMI),
        ("tsne",),
        _by_chance,
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
        "t-SNE's lead is largest {then}",
        f"lead of t-SNE in {_ACCURACY}, over the next best map, after less before",
        "above",
        0.0,
        _accuracies(_lead_growth, *_BEFORE, *_AFTER),
        _ALL,
    ),
)
