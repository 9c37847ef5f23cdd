"""Several runs as HTML: over seeds, and side by side. Whatever comes from a run is escaped here."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, TEST_ACCURACY, TRANSFERABILITY, label_of
from jaxtl.evaluation.seeds import claims_over_seeds, over_seeds, scores_over_seeds
from jaxtl.report.markup import (
    Html,
    bounded,
    details,
    in_words,
    interval,
    note,
    section,
    table,
    unique,
)
from jaxtl.report.opening import SPACES, claims_table, mark, said, test_accuracy
from jaxtl.runs.data import RunData
from jaxtl.settings import STAGES


def seeds(runs: Sequence[RunData]) -> str:
    """Means and intervals over runs that differ in nothing but their seed."""
    settings = [{k: v for k, v in run.config.items() if k not in ("seed", "digest")} for run in runs]
    # The settings of comparisons do not say whether their files hold the same features.
    differ = any(other != settings[0] for other in settings) or any(run.is_comparison for run in runs)
    if len(runs) < 2 or differ:
        return ""
    scores = {(s.stage, s.space, s.metric): s for s in scores_over_seeds([run.scores for run in runs])}
    accuracies = [a[0] for run in runs if (a := test_accuracy(run))]
    shown, rest = [], []
    if len(accuracies) == len(runs):
        shown.append([TEST_ACCURACY.label, "", bounded(*over_seeds(accuracies))])
    for metric in unique(metric for stage, space, metric in scores if space in SPACES and stage in STAGES):
        for space, label in SPACES.items():
            pair = [scores.get((stage, space, metric)) for stage in STAGES]
            if any(pair):
                row = [f"{label_of(metric)}, {label}", *(interval(score) if score else "" for score in pair)]
                (shown if metric == LEAVE_ONE_OUT else rest).append(row)
    told = note(
        f"Means over {len(runs)} runs that differ only in their seed. The 95 % intervals cover other seeds "
        "(Student's t) and other test images together; the interval of the network's accuracy covers other "
        "seeds only. Other test images would add further variation to it."
    )
    decided = claims_table(claims_over_seeds([run.claims for run in runs]))
    held = table(["", "before", "after"], shown) if shown else ""
    held += details(f"{len(rest)} more numbers", table(["", "before", "after"], rest)) if rest else ""
    return section("seeds", f"Over {len(runs)} seeds", decided + held + told)


def comparison(runs: Sequence[RunData]) -> str:
    """The settings in which the runs differ, the numbers that matter most, the verdicts; then the rest."""
    if len(runs) < 2:
        return ""
    names = [run.name for run in runs]
    differing = _differing(runs)
    rows = [*differing]
    if any(run.history for run in runs):
        rows.append(
            [TEST_ACCURACY.label, *(f"{a[0]:.3f}" if (a := test_accuracy(run)) else "–" for run in runs)]
        )
    rest = []
    for metric in unique(
        s.metric for run in runs for s in run.scores if s.space in SPACES and s.stage in STAGES
    ):
        for space, label in SPACES.items():
            for stage in STAGES:
                scores = [run.score(stage, space, metric) for run in runs]
                row = [f"{label_of(metric)}, {label} {stage}", *map(interval, scores)]
                if any(scores):
                    (rows if metric in (LEAVE_ONE_OUT, *TRANSFERABILITY) else rest).append(row)
    told = (
        f"The first {len(differing)} row{'s' * (len(differing) != 1)}: settings in which the runs differ."
        if differing
        else "The runs have the same settings."
    )
    held = table(["", *names], rows) + note(told) + _verdicts_of(runs)
    held += details(f"{len(rest)} more numbers", table(["", *names], rest)) if rest else ""
    return section("comparison", "The runs side by side", held)


def _differing(runs: Sequence[RunData]) -> list[list[str]]:
    rows = []
    for name in unique(
        name for run in runs for name in run.config if name not in ("digest", "weights_digest")
    ):
        values = [in_words(name, run.config.get(name)) for run in runs]
        if len(set(values)) > 1:
            rows.append([name, *values])
    return rows


def _verdicts_of(runs: Sequence[RunData]) -> str:
    """What became of each claim in each run."""
    of_runs = [{claim.get("id", claim["text"]): claim for claim in run.claims} for run in runs]
    rows = []
    for id_ in unique(id_ for claims in of_runs for id_ in claims):
        own = [claims.get(id_) for claims in of_runs]
        text = next(said(claim, "text") for claim in own if claim)
        rows.append([text, *(Html(mark(claim, word=True)) if claim else "–" for claim in own)])
    return table(["Claim", *(run.name for run in runs)], rows) if rows else ""
