"""One experiment under several seeds: its numbers and claims with intervals over those.

A run's own intervals say what other test images would give; these say what another initial head, another
order of the training images and another start of t-SNE would.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.evaluation.claims import verdict_of
from jaxtl.metrics.estimates import Estimate
from jaxtl.records.tables import Score


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
    """Mean and interval of every number that all runs have, in the order of the first."""
    found = [{(each.stage, each.space, each.metric): each.value for each in run} for run in runs]
    shared = [key for key in found[0] if all(key in each for each in found)]
    return [Score(*key, *over_seeds([each[key] for each in found])) for key in shared]


def claims_over_seeds(runs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Every claim decided on the mean of its statistic over the seeds.

    The interval is over seeds and test images together: the runs look at the same images, so what other
    images would give does not shrink with the number of seeds, and a number that does not depend on the seed
    is no surer for being found again. Rows as in a run's claims.json, with `values` of the runs and
    `held_in`, the number of runs whose own test images bear it out.
    """
    found = [{claim["id"]: claim for claim in run} for run in runs]
    rows = []
    for id_, first in found[0].items():
        if not all(id_ in each for each in found):
            continue
        own = [each[id_] for each in found]
        values, held = [c["value"] for c in own], sum(c["verdict"] == "holds" for c in own)
        mean = _over_images_too(over_seeds(values), own)
        verdict = verdict_of(mean, first["threshold"], first["direction"])
        words = (
            f"Over {len(runs)} seeds {first['statistic']} is {mean.value:.3f} on average (95 % interval over "
            f"seeds and test images {mean.low:.3f} to {mean.high:.3f}); the claim asks for "
            f"{first['direction']} {first['threshold']:g}. It holds in {held} of {len(runs)} runs by "
            "themselves."
        )
        told = {"verdict": verdict, "words": words, "values": values, "held_in": held}
        rows.append({**first, **mean._asdict(), **told})
    return rows


def _over_images_too(mean: Estimate, own: Sequence[dict[str, Any]]) -> Estimate:
    """The interval over seeds widened, as independent errors add up, by the mean one over test images."""

    def reach(end: str) -> float:
        sides = [abs(c[end] - c["value"]) for c in own if c.get(end) is not None]
        return float(np.mean(sides)) if sides else 0.0

    low = np.hypot(mean.value - mean.low, reach("low"))
    high = np.hypot(mean.high - mean.value, reach("high"))
    return Estimate(mean.value, mean.value - float(low), mean.value + float(high))
