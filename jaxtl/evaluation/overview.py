"""A run's numbers and claims in the few lines that are shown where a user prints it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, headed
from jaxtl.methods import method_label
from jaxtl.records.summaries import Table
from jaxtl.records.tables import Score
from jaxtl.settings import STAGES


def score_table(scores: Sequence[Score]) -> Table | None:
    """10-NN accuracies before and after of every space; without classes all numbers; None where none is.

    Intervals stand in brackets.
    """
    of_spaces = [score for score in scores if score.space != "model"]
    accuracies = [score for score in of_spaces if score.metric == LEAVE_ONE_OUT]
    shown = accuracies or of_spaces
    if not shown:
        return None
    by_place = {(score.space, score.metric, score.stage): score for score in shown}
    rows = []
    for space, metric in dict.fromkeys((score.space, score.metric) for score in shown):
        name = method_label(space) if accuracies else f"{method_label(space)}: {headed(metric)}"
        both = by_place.get((space, metric, "both"))
        pair = ["", _told(both)] if both else [_told(by_place.get((space, metric, s))) for s in STAGES]
        rows.append([name, *pair])
    title = LEAVE_ONE_OUT.label if accuracies else "numbers"
    return Table(f"{title}, with 95 % intervals", ["", *STAGES], rows)


def verdicts(claims: Iterable[Mapping[str, object]]) -> str:
    """How many claims have which verdict, such as "holds 9, does not hold 2, undecided 1"."""
    counts = Counter(str(claim["verdict"]) for claim in claims)
    return ", ".join(f"{verdict} {count}" for verdict, count in counts.items())


def accuracies_of(scores: Iterable[Score]) -> dict[str, dict[str, float]]:
    """The 10-NN accuracy, leave one out, by stage and space, where there are classes."""
    accuracies: dict[str, dict[str, float]] = {stage: {} for stage in STAGES}
    for score in scores:
        if score.metric == LEAVE_ONE_OUT:
            accuracies[score.stage][score.space] = score.value
    return accuracies


def _told(score: Score | None) -> str:
    if score is None:
        return ""
    interval = "" if score.low is None or score.high is None else f" [{score.low:.3f}, {score.high:.3f}]"
    return f"{score.value:.3f}{interval}"
