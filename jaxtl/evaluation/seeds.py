"""One experiment under several seeds: its numbers and claims with intervals over those.

A run's own intervals say what other test images would give; another initial head, another order of the
training images and another start of t-SNE give other numbers too. Over seeds both are in one interval: the
runs look at the same images, so what other images would give does not shrink with the number of seeds, and a
number that does not depend on the seed is no surer for being found again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, P_VALUES, TEST_ACCURACY
from jaxtl.evaluation.claims import in_digits, verdict_of
from jaxtl.methods import method_label
from jaxtl.metrics.estimates import Estimate
from jaxtl.records.tables import Score
from jaxtl.settings import STAGES

# Up to as many seeds all pairs of them are compared; of more each with its next two.
_ALL_PAIRS = 5


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean with its 95 % interval by Student's t, seeds taken as independent draws.

    Raises JaxtlError for fewer than two values.
    """
    from scipy.stats import t

    if len(values) < 2:
        raise JaxtlError(f"seeds: an interval needs at least 2 runs, got {len(values)}")
    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half)


def scores_over_seeds(runs: Sequence[Sequence[Score]]) -> list[Score]:
    """Mean of every number that all runs have, in the order of the first, but for p-values.

    The interval is over seeds and test images together; over seeds alone for what has none of its own.
    """
    by_key = [{(score.stage, score.space, score.metric): score for score in run} for run in runs]
    shared = [key for key in by_key[0] if all(key in scores for scores in by_key)]
    shared = [key for key in shared if key[2] not in P_VALUES]
    return [Score(*key, *_mean([_estimate(scores[key]) for scores in by_key])) for key in shared]


def over_pairs(count: int, compare: Callable[[int, int], Estimate]) -> Estimate:
    """Mean of what pairs of seeds have in common, with its 95 % interval over seeds and test images.

    Pairs that share a seed are not independent: the error is that of leaving out one seed, with all of its
    pairs, at a time (the jackknife of Tukey 1958). Of two seeds there is one pair, whose own interval is that
    over images.

    Args:
        count: of the seeds, at least 2.
        compare: of two of them, by their places.
    """
    compared = {pair: compare(*pair) for pair in _pairs(count)}
    own = list(compared.values())
    value = float(np.mean([estimate.value for estimate in own]))
    half = _error_without_one(count, {pair: estimate.value for pair, estimate in compared.items()})
    below = _average([estimate.value - estimate.low for estimate in own])
    above = _average([estimate.high - estimate.value for estimate in own])
    return Estimate(value, value - float(np.hypot(half, below)), value + float(np.hypot(half, above)))


def _pairs(count: int) -> list[tuple[int, int]]:
    if count <= _ALL_PAIRS:
        return list(combinations(range(count), 2))
    return [(one, (one + step) % count) for step in (1, 2) for one in range(count)]


def _error_without_one(count: int, values: Mapping[tuple[int, int], float]) -> float:
    """Half of an interval over seeds; 0 where there are too few to tell."""
    from scipy.stats import t

    if count < 3:
        return 0.0
    without = [
        np.mean([value for pair, value in values.items() if seed not in pair]) for seed in range(count)
    ]
    error = np.sqrt((count - 1) * np.var(without))
    return float(t.ppf(0.975, count - 1) * error)


def claims_over_seeds(runs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Every claim decided on the mean of its statistic over the seeds, whose interval is that of the scores.

    Rows as in a run's claims.json, with `values` and `verdicts` of the runs, and `held_in`, the number of
    runs whose own test images bear it out.
    """
    by_id = [{claim["id"]: claim for claim in run} for run in runs]
    shared = [id_ for id_ in by_id[0] if all(id_ in claims for claims in by_id)]
    return [_decided([claims[id_] for claims in by_id]) for id_ in shared]


def summary(runs: Sequence[Sequence[Score]], claims: Sequence[dict[str, Any]]) -> str:
    """The headline numbers and the claims over seeds as Markdown, to paste into a document.

    Each number is its mean over the seeds, with the least and the most of them in brackets.

    Args:
        runs: all scores of each run.
        claims: rows of `claims_over_seeds`.
    """
    values: dict[tuple[str, str, str], list[float]] = {}
    for score in (score for run in runs for score in _headline(run)):
        values.setdefault((score.space, score.metric, score.stage), []).append(score.value)
    rows = []
    for space, metric in dict.fromkeys(key[:2] for key in values):
        name = "network" if space == "model" else method_label(space)
        pair = (_range(values.get((space, metric, stage), []), len(runs)) for stage in STAGES)
        rows.append(_row(f"{name}, {metric.label}", *pair))
    held = [
        _row(
            claim["text"],
            _range(claim["values"], len(runs)),
            f"{claim['direction']} {claim['threshold']:g}",
            claim["verdict"],
            f"holds in {claim['held_in']} of {len(runs)}",
        )
        for claim in claims
    ]
    tables = [[f"| {len(runs)} seeds | before | after |", "|---|---:|---:|", *rows]] if rows else []
    heads = ["| claim | value | needs | over all seeds | by seed |", "|---|---:|---|---|---|"]
    tables += [[*heads, *held]] if held else []
    return "\n\n".join("\n".join(lines) for lines in tables) + "\n"


def _row(*cells: str) -> str:
    """A row of a Markdown table. Claims name classes, whose names may hold what would end a cell."""
    return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"


def _headline(run: Sequence[Score]) -> list[Score]:
    """The network's last test accuracy, as one after fine-tuning, and 10-NN accuracies of every space."""
    tested = [score for score in run if score.metric == TEST_ACCURACY]
    last = [Score("after", "model", TEST_ACCURACY, tested[-1].value)] if tested else []
    spaces = [score for score in run if score.metric == LEAVE_ONE_OUT]
    return last + [Score(score.stage, score.space, LEAVE_ONE_OUT, score.value) for score in spaces]


def _range(values: Sequence[float], count: int) -> str:
    if len(values) < count:
        return ""
    return f"{np.mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


def _decided(own: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One claim, from what became of it in each run."""
    first, values = own[0], [claim["value"] for claim in own]
    held = sum(claim["verdict"] == "holds" for claim in own)
    mean = in_digits(_mean([Estimate(c["value"], c.get("low"), c.get("high")) for c in own]))
    verdict = verdict_of(mean, first["threshold"], first["direction"])
    least, most = min(values), max(values)
    by_seed = f"{least:.3f} to {most:.3f} by seed" if least < most else "the same with every seed"
    words = (
        f"Over {len(own)} seeds {first['statistic']} is {mean.value:.3f} on average, {by_seed} "
        f"(95 % interval over seeds and test images {mean.low:.3f} to "
        f"{mean.high:.3f}); the claim needs a value {first['direction']} {first['threshold']:g}. "
        f"It holds in {held} of {len(own)} runs by themselves."
    )
    told = {"verdict": verdict, "words": words, "values": values, "held_in": held, "beside": ""}
    return {**first, **mean._asdict(), **told, "verdicts": [claim["verdict"] for claim in own]}


def _mean(own: Sequence[Estimate]) -> Estimate:
    """The mean, its interval over seeds widened by the mean one over images, as independent errors add up."""
    mean = over_seeds([estimate.value for estimate in own])

    below = _average([value - low for value, low, _ in own if low is not None])
    above = _average([high - value for value, _, high in own if high is not None])
    low = np.hypot(mean.value - mean.low, below)
    high = np.hypot(mean.high - mean.value, above)
    return Estimate(mean.value, mean.value - float(low), mean.value + float(high))


def _average(sides: Sequence[float]) -> float:
    return float(np.mean(sides)) if sides else 0.0


def _estimate(score: Score) -> Estimate:
    return Estimate(score.value, score.low, score.high)
