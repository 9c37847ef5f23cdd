"""Several runs as HTML: over seeds, and side by side. Whatever comes from a run is escaped here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from jaxtl.evaluation.catalogue import (
    DOWN,
    LEAVE_ONE_OUT,
    METRICS,
    N_NEIGHBORS,
    TEST_ACCURACY,
    TRANSFERABILITY,
    label_of,
)
from jaxtl.evaluation.seeds import claims_over_seeds, over_seeds, scores_over_seeds
from jaxtl.methods import METHODS, method_label
from jaxtl.records.tables import Score
from jaxtl.report.change import SPACES, outcomes_of
from jaxtl.report.markup import (
    Html,
    Section,
    bounded,
    details,
    in_words,
    interval,
    note,
    number,
    signed,
    table,
    unique,
)
from jaxtl.report.opening import by_worth, headline, test_accuracy
from jaxtl.report.stills import legend, still
from jaxtl.report.terms import term
from jaxtl.report.verdicts import claims_table, mark, said
from jaxtl.runs.data import RunData
from jaxtl.settings import STAGES

# Settings that say which files a run read, not what was done with them.
_DIGESTS = ("digest", "weights_digest")


def seeds(runs: Sequence[RunData]) -> Section:
    """Means and intervals over runs that differ in nothing but their seed."""
    body = _over_seeds(runs) if len(runs) > 1 and _differ_in_seed_only(runs) else ""
    return Section("seeds", f"Over {len(runs)} seeds", body)


def _differ_in_seed_only(runs: Sequence[RunData]) -> bool:
    settings = [{k: v for k, v in run.config.items() if k not in ("seed", "digest")} for run in runs]
    # The settings of comparisons do not say whether their files hold the same features.
    return all(other == settings[0] for other in settings) and not any(run.is_comparison for run in runs)


def _over_seeds(runs: Sequence[RunData]) -> str:
    shown, rest = [], []
    accuracies = [accuracy[0] for run in runs if (accuracy := test_accuracy(run))]
    if len(accuracies) == len(runs):
        shown.append([term(TEST_ACCURACY), "", bounded(*over_seeds(accuracies))])
    scores = {(s.stage, s.space, s.metric): s for s in scores_over_seeds([run.scores for run in runs])}
    for metric, space in _measured(runs):
        pair = [scores.get((stage, space, metric)) for stage in STAGES]
        if any(pair):
            row = [
                f"{label_of(metric)}, {SPACES[space]}",
                *(interval(score) if score else "" for score in pair),
            ]
            (shown if metric == LEAVE_ONE_OUT else rest).append(row)
    told = note(
        f"Means over {len(runs)} runs that differ only in their seed. The 95 % intervals say how much a mean "
        "would vary with other seeds (Student's t) and other test images together. That of the network's own "
        "accuracy covers other seeds only."
    )
    head = ["", *STAGES]
    held = table(head, shown, "Means over the seeds") if shown else ""
    held += (
        details(f"{len(rest)} more numbers", table(head, rest, "More means over the seeds")) if rest else ""
    )
    return held + told + claims_table(claims_over_seeds([run.claims for run in runs]))


def _measured(runs: Sequence[RunData]) -> Iterator[tuple[str, str]]:
    """Metrics and spaces of which runs have scores of a stage, metric by metric."""
    held = {(s.metric, s.space): None for run in runs for s in run.scores if s.stage in STAGES}
    for metric in unique(metric for metric, _ in held):
        yield from ((metric, space) for space in SPACES if (metric, space) in held)


def comparison(runs: Sequence[RunData]) -> Section:
    """In what the runs differ: their results, their settings, the verdicts, the maps; then all numbers."""
    if len(runs) < 2:
        return Section("comparison", "", "")
    body = _results(runs) + _settings(runs) + _pictures(runs) + _verdicts_of(runs) + _every_number(runs)
    return Section("comparison", "How the runs differ", body)


def _results(runs: Sequence[RunData]) -> str:
    """The scores that matter most, and by how much each run's are better than the first one's."""
    rows = [_result_row(name, key, runs) for name, key in _headline_scores(runs)]
    rows += _counts(runs)
    first = runs[0].name
    told = note(
        f"In brackets: 95 % intervals. Below them: the difference from {first}. It is called better or worse "
        "where the two intervals have nothing in common, and unclear where they overlap."
    )
    if len({(run.class_names, run.config.get("dataset")) for run in runs}) > 1:
        told += note("The runs are of different data: an easier task gives higher numbers, too.")
    head = ["", *(run.name for run in runs)]
    return table(head, rows, "The results side by side") + told if rows else ""


def _headline_scores(runs: Sequence[RunData]) -> Iterator[tuple[Html, tuple[str, str, str]]]:
    chosen = next(filter(None, map(headline, runs)), None)
    metrics = unique([*([chosen[0]] if chosen else []), LEAVE_ONE_OUT])
    held = {(s.stage, s.space, s.metric) for run in runs for s in run.scores}
    for metric in metrics:
        for space in SPACES:
            for stage in STAGES:
                if (stage, space, metric) in held:
                    yield Html(f"{term(metric, arrow=True)}, {SPACES[space]} {stage}"), (stage, space, metric)
    for metric in TRANSFERABILITY:
        if ("before", "features", metric) in held:
            yield Html(f"{term(metric, arrow=True)}, before"), ("before", "features", metric)


def _result_row(name: Html, key: tuple[str, str, str], runs: Sequence[RunData]) -> list[str]:
    scores = [run.score(*key) for run in runs]
    cells = [Html(f"{interval(score)}{_difference(score, scores[0])}") for score in scores[1:]]
    return [name, interval(scores[0]), *cells]


def _difference(score: Score | None, first: Score | None) -> str:
    """How far a score is from the first run's, in words too."""
    if score is None or first is None:
        return ""
    gap = score.value - first.value
    if None in (score.low, score.high, first.low, first.high):
        word, kind = "", "open"
    elif score.low <= first.high and first.low <= score.high:
        word, kind = (" unclear" if round(gap, 6) else ""), "open"
    else:
        better = (gap > 0) != (getattr(METRICS.get(score.metric), "better", "") == DOWN)
        word, kind = (" better", "yes") if better else (" worse", "no")
    return f"<span class='difference {kind}'>{signed(gap)}{word}</span>"


def _counts(runs: Sequence[RunData]) -> list[list[str]]:
    """The accuracy of the networks, and how many images each run fixed, broke and kept in place."""
    rows = []
    accuracies = [test_accuracy(run) for run in runs]
    if any(accuracies):
        rows.append([term(TEST_ACCURACY, arrow=True), *(f"{a[0]:.3f}" if a else "–" for a in accuracies)])
    outcomes = [next(iter(outcomes_of(run).values()), None) for run in runs]
    for name in ("fixed", "broken", "wrong"):
        counts = [getattr(own, name) if own else None for own in outcomes]
        if any(outcomes):
            label = {"wrong": "images still wrong"}.get(name, f"images {name}")
            rows.append([label, *("–" if count is None else f"{count:,}" for count in counts)])
    kept = [run.measures.get("kept") for run in runs]
    if any(own is not None for own in kept):
        means = ["–" if own is None else number(N_NEIGHBORS * float(own.mean())) for own in kept]
        rows.append([f"neighbours kept of {N_NEIGHBORS}, on average", *means])
    return rows


def _settings(runs: Sequence[RunData]) -> str:
    rows = []
    for name in unique(name for run in runs for name in run.config if name not in _DIGESTS):
        values = [in_words(name, run.config.get(name)) for run in runs]
        if len(set(values)) > 1:
            rows.append([name.replace("_", " "), *values])
    if not rows:
        return note("The runs have the same settings.")
    return table(["Setting", *(run.name for run in runs)], rows, "Settings in which the runs differ")


def _pictures(runs: Sequence[RunData]) -> str:
    """The same method's map of every run, after fine-tuning."""
    shared = [m for m in by_worth(METHODS) if all(("after", m) in run.embeddings for run in runs)]
    if not shared:
        return ""
    share_classes = len({run.class_names for run in runs}) == 1
    maps = "".join(
        f"<div><p class='of-run'>{escape(run.name)}</p>{still(run, 'after', shared[0])}"
        f"{'' if share_classes else legend(run)}</div>"
        for run in runs
    )
    heading = f"<h3>{escape(method_label(shared[0]))} after, in each run</h3>"
    return f"{heading}<div class='pair'>{maps}</div>{legend(runs[0]) if share_classes else ''}"


def _verdicts_of(runs: Sequence[RunData]) -> str:
    """What became of each claim in each run; those first on which they do not agree."""
    of_runs = [{claim.get("id", claim["text"]): claim for claim in run.claims} for run in runs]
    ids = unique(id_ for claims in of_runs for id_ in claims)
    rows = [_verdict_row([claims.get(id_) for claims in of_runs]) for id_ in ids]
    rows.sort(key=lambda row: len(set(row[1:])) == 1)
    return table(["Claim", *(run.name for run in runs)], rows, "Claims in each run") if rows else ""


def _verdict_row(own: Sequence[dict | None]) -> list[str]:
    text = next(said(claim, "text") for claim in own if claim)
    return [text, *(mark(claim) if claim else "–" for claim in own)]


def _every_number(runs: Sequence[RunData]) -> str:
    rows = []
    for metric, space in _measured(runs):
        for stage in STAGES:
            scores = [run.score(stage, space, metric) for run in runs]
            if any(scores):
                rows.append([f"{label_of(metric)}, {SPACES[space]} {stage}", *map(interval, scores)])
    if not rows:
        return ""
    head = ["", *(run.name for run in runs)]
    return details(f"All {len(rows)} numbers of the runs", table(head, rows, "All numbers of the runs"))
