"""What is claimed of the experiment, and whether a run's numbers bear it out.

A claim is a sentence, who makes it, a statistic, a threshold and a side. It holds where the statistic's whole
95 % interval lies on that side, it does not where the interval lies on the other, and is undecided where the
interval holds the threshold. The sentence says no more than the statistic does; the words in which it was
claimed stand beside it. Thresholds are round figures of the field, named where they stand, or follow from
what chance gives with these classes (`jaxtl.evaluation.chance`); the intervals are about other test images,
not about other seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jaxtl.evaluation import catalogue, chance
from jaxtl.evaluation.evidence import DIGITS, Evidence, Statistic, lead_of_class, of_accuracies, of_score
from jaxtl.methods import method_label
from jaxtl.metrics.estimates import Estimate
from jaxtl.settings import STAGES

_CLUSTERS_BEGIN = 0.25
_FAITHFUL = 0.9


@dataclass(frozen=True)
class Verdict:
    """A claim and what became of it.

    Attributes:
        id: a name that does not change.
        text: the claim, a sentence that says what its statistic does.
        statistic, value, low, high: what decides it, with its 95 % interval.
        threshold, direction: it holds where the interval is "above" or "below" the threshold.
        verdict: "holds", "does not hold" or "undecided".
        words: what decided it, in full sentences.
        source: whose claim it is.
        threshold_from: where the threshold comes from, a sentence.
        beside: numbers that belong beside the statistic, sentences; "" where there are none.
        claimed: the words in which it was first made.
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
    source: str = ""
    threshold_from: str = ""
    beside: str = ""
    claimed: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Threshold:
    """A number, or what makes it of the classes, and a sentence on where it comes from."""

    value: float | Callable[[np.ndarray], float]
    origin: str | Callable[[np.ndarray], str]

    def of(self, labels: np.ndarray | None) -> tuple[float, str]:
        value = round(self.value(labels), _THRESHOLD_DECIMALS) if callable(self.value) else self.value
        return value, self.origin(labels) if callable(self.origin) else self.origin


@dataclass(frozen=True)
class _Claim:
    """A row of the claims.

    Attributes:
        text: with {after} where it says what came between the stages.
        claimed: the words of the founding experiment.
        measure: the statistic; None where this set does not have it.
        needs: methods.
        of_classes: whether it is about classes.
        beside: further sentences.
    """

    id: str
    text: str
    claimed: str
    statistic: str
    direction: str
    threshold: _Threshold
    measure: Statistic
    needs: tuple[str, ...]
    beside: Callable[[Evidence], str] = lambda evidence: ""
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
    return tuple(class_names or ()) == DIGITS and not str(dataset or "").startswith("idx:")


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
    threshold, origin = claim.threshold.of(evidence.labels)
    verdict, beside = verdict_of(estimate, threshold, claim.direction), claim.beside(evidence)
    words = (
        f"{_LEAD[verdict]}: {claim.statistic} is {value:.3f} (95 % interval {low:.3f} to {high:.3f}); "
        f"the claim needs a value {claim.direction} {threshold:g}."
    )
    return Verdict(
        claim.id,
        claim.text.format(after="After fine-tuning" if evidence.tuned else "After"),
        claim.statistic,
        *estimate,
        threshold,
        claim.direction,
        verdict,
        " ".join(filter(None, (words, beside, origin))),
        _SOURCE if evidence.tuned else _ASKED_ELSEWHERE,
        origin,
        beside,
        # Of other features than a network's, the words of the experiment would be beside the point.
        claim.claimed if evidence.tuned else "",
    )


_SOURCE = "First made of jaxtl's founding experiment, on MobileNetV2 and MNIST."
_ASKED_ELSEWHERE = "First made of jaxtl's founding experiment; asked here of other features."
# As many as scores are shown with.
_THRESHOLD_DECIMALS = 3
_LEAD = {"holds": "Supported", "does not hold": "Not supported", "undecided": "Undecided"}


def _odds(labels: np.ndarray) -> str:
    return (
        f"Guessing is right in {100 * chance.accuracy(labels):.3g} % of cases. We call less than "
        f"{100 * chance.separates(labels):.3g} % poor: {chance.TIMES_THE_ODDS} times the odds of guessing, "
        "our choice."
    )


def _most_of_the_way(labels: np.ndarray) -> str:
    by_chance = chance.one_cluster_each_by_chance(labels)
    return f"The threshold is our choice: 80 % of the way from what chance gives, {by_chance:.3f}, to 1."


_SEPARATES = _Threshold(chance.separates, _odds)
_MORE = _Threshold(0.0, "Holds if the difference is above 0.")
_CLUSTERED = _Threshold(chance.one_cluster_each, _most_of_the_way)
# Kaufman & Rousseeuw 1990, table 4.
_STRUCTURED = _Threshold(
    _CLUSTERS_BEGIN,
    "Up to this threshold Kaufman and Rousseeuw (1990) speak of no substantial structure.",
)
_NEARLY_ALL = _Threshold(_FAITHFUL, "The threshold is our choice: 1 is best, and a random map has 0.5.")


def _gain_lead(b0: Any, a0: Any, b1: Any, a1: Any, b2: Any, a2: Any) -> Any:
    return (a0 - b0) - np.maximum(a1 - b1, a2 - b2)


def _lead(first: Any, *others: Any) -> Any:
    return first - np.max(others, axis=0)


def _both(*methods: str) -> Sequence[tuple[str, str]]:
    return [(stage, method) for method in methods for stage in STAGES]


def _of_each(told: str, value: Callable[[Evidence, str], float]) -> Callable[[Evidence], str]:
    """What a difference between embeddings is made of, so that a reader sees which one leads."""

    def words(evidence: Evidence) -> str:
        values = (f"{method_label(method)} {value(evidence, method):.3f}" for method in _ALL)
        return f"{told}: {', '.join(values)}."

    return words


def _accuracy(stage: str) -> Callable[[Evidence, str], float]:
    return lambda evidence, method: evidence.accuracy(stage, method)


def _gain(evidence: Evidence, method: str) -> float:
    return evidence.accuracy("after", method) - evidence.accuracy("before", method)


def _gains_and_leads(evidence: Evidence) -> str:
    leads = (_lead(*(evidence.accuracy(stage, method) for method in _ALL)) for stage in STAGES)
    before, after = (f"{lead:.3f}" for lead in leads)
    gains = _of_each("Gains", _gain)(evidence)
    return f"{gains} Lead of t-SNE over the next best: {before} before, {after} after."


def _rise(method: str) -> Callable[[Evidence], str]:
    def words(evidence: Evidence) -> str:
        before, after = (evidence.accuracy(stage, method) for stage in STAGES)
        return f"It was {before:.3f} before and is {after:.3f} after."

    return words


def _kept(evidence: Evidence) -> str:
    """The share of neighbours kept, which is far lower than a trustworthiness."""
    kept = evidence.scores.get(("before", "tsne", catalogue.FEATURES_KEPT))
    if kept is None:
        return ""
    return (
        f"Of an image's {catalogue.N_NEIGHBORS} nearest in the features {100 * kept.value:.0f} % are among "
        f"its {catalogue.N_NEIGHBORS} nearest on the map."
    )


def _clusters(evidence: Evidence) -> str:
    """How many there are, and how many of the classes have one of their own."""
    count = evidence.scores.get(("after", "tsne", catalogue.CLUSTERS))
    matched = evidence.scores.get(("after", "tsne", catalogue.CLUSTERS_MATCHED))
    if count is None or matched is None:
        return ""
    classes = len(np.unique(evidence.labels))
    pairs = round(matched.value * (count.value + classes) / 2)
    other = "" if count.low == count.high else f" (95 % interval {count.low:.1f} to {count.high:.1f})"
    return (
        f"{count.value:.0f} clusters were found{other} by a method that is not told how many there are; "
        f"{pairs} of {classes} classes have one of their own. That is no proof of gaps in the features."
    )


# The founding experiment's, which the claims compare; a further method has no part in them.
_ALL = ("tsne", "pca", "lle")
_BEFORE, _AFTER = ([(stage, method) for method in _ALL] for stage in STAGES)
_ACCURACY = catalogue.LEAVE_ONE_OUT.label


def _poor(method: str) -> _Claim:
    label = method_label(method)
    return _Claim(
        f"{method}-before-poor",
        f"Before, {label} separates the classes poorly",
        f"Before, {label} separates the classes poorly",
        f"{_ACCURACY}, in {label} before",
        "below",
        _SEPARATES,
        of_score("before", method, catalogue.LEAVE_ONE_OUT),
        (method,),
    )


def _improves(method: str) -> _Claim:
    label = method_label(method)
    return _Claim(
        f"{method}-improves",
        f"{{after}}, {label} separates the classes better",
        f"After fine-tuning, {label} improves",
        f"{_ACCURACY}, in {label}, after minus before",
        "above",
        _MORE,
        of_accuracies(lambda b, a: a - b, *_both(method)),
        (method,),
        _rise(method),
    )


def _best(stage: str, spaces: Sequence[tuple[str, str]]) -> _Claim:
    return _Claim(
        f"tsne-best-{stage}",
        f"{stage.capitalize()}, t-SNE separates the classes best of the three",
        f"{stage.capitalize()}, t-SNE separates best",
        f"{_ACCURACY}, in t-SNE {stage}, minus the better one of PCA and LLE",
        "above",
        _MORE,
        of_accuracies(_lead, *spaces),
        _ALL,
        _of_each("Accuracies", _accuracy(stage)),
    )


_CLAIMS = (
    _poor("pca"),
    _Claim(
        "pca-before-one",
        "Before, ‘1’ is the digit that PCA keeps apart best",
        "Before, ‘1’ is the most distinct digit in PCA",
        f"{_ACCURACY}, of ‘1’ in PCA before, minus that of the next best digit",
        "above",
        _MORE,
        lead_of_class(("before", "pca"), "1"),
        ("pca",),
    ),
    _Claim(
        "tsne-before-local",
        "Before, what t-SNE draws close together is close in the features",
        "Before, t-SNE keeps local structure",
        f"{catalogue.TRUSTWORTHINESS.label} of t-SNE before",
        "above",
        _NEARLY_ALL,
        of_score("before", "tsne", catalogue.TRUSTWORTHINESS),
        ("tsne",),
        _kept,
        of_classes=False,
    ),
    _Claim(
        "tsne-before-global",
        "Before, the classes do not lie apart from each other in t-SNE",
        "Before, t-SNE does not separate the classes globally",
        f"{catalogue.SILHOUETTE.label} of the classes in t-SNE before",
        "below",
        _STRUCTURED,
        of_score("before", "tsne", catalogue.SILHOUETTE),
        ("tsne",),
    ),
    _poor("lle"),
    _improves("pca"),
    _improves("lle"),
    _Claim(
        "tsne-improves-most",
        "{after}, t-SNE improves most, and so its lead grows",
        "After fine-tuning, t-SNE improves most; its lead is largest after fine-tuning",
        f"gain of t-SNE in {_ACCURACY}, minus the largest gain of PCA and LLE",
        "above",
        _MORE,
        of_accuracies(_gain_lead, *_both(*_ALL)),
        _ALL,
        _gains_and_leads,
    ),
    _Claim(
        "tsne-after-clusters",
        "{after}, t-SNE forms one cluster for each class on the map",
        "After fine-tuning, t-SNE forms one cluster for each class",
        f"{catalogue.CLUSTERS_MATCHED.label} in t-SNE after",
        "above",
        _CLUSTERED,
        of_score("after", "tsne", catalogue.CLUSTERS_MATCHED),
        ("tsne",),
        _clusters,
    ),
    _best("before", _BEFORE),
    _best("after", _AFTER),
)
