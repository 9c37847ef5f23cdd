"""What fine-tuning changed, image by image and class by class, as HTML. What comes from a run is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from jaxtl.evaluation import catalogue
from jaxtl.evaluation.catalogue import KNN_ACCURACIES, LEAVE_ONE_OUT, N_NEIGHBORS, Metric
from jaxtl.methods import METHODS
from jaxtl.report.markup import (
    Html,
    Section,
    bounds,
    counted,
    details,
    interval,
    note,
    number,
    of_ten,
    percent,
    signed,
    table,
    unique,
)
from jaxtl.report.sentences import overlapping, unsettled
from jaxtl.report.terms import reason, term
from jaxtl.runs.data import RunData
from jaxtl.settings import STAGES

SPACES = {"features": "Features", **{method.name: method.label for method in METHODS.values()}}
# As the arrays of outcomes number them; 255 stands for images of which no outcome is known.
_RIGHT, _FIXED, _BROKEN, _WRONG = range(4)
# The same kind of classifier before and after, by the name of its outcomes; the headline first.
_CLASSIFIERS = ("probe", "knn")
# The metrics of those outcomes.
_METRICS = {"probe": catalogue.PROBE_OUTCOMES, "knn": catalogue.KNN_OUTCOMES}
_ALL_CLASSES_UP_TO = 40
_SHOWN_OF_MANY = 12


@dataclass(frozen=True)
class Outcomes:
    """How many images a classifier classified correctly before and after."""

    right: int
    fixed: int
    broken: int
    wrong: int

    @property
    def total(self) -> int:
        return self.right + self.fixed + self.broken + self.wrong

    @property
    def before(self) -> float:
        return (self.right + self.broken) / self.total

    @property
    def after(self) -> float:
        return (self.right + self.fixed) / self.total


def outcomes_of(run: RunData) -> dict[str, Outcomes]:
    """By classifier, those of which the run holds outcomes."""
    held = {name: run.measures.get(f"outcome_{name}") for name in _CLASSIFIERS}
    counted_ = {name: _count(codes) for name, codes in held.items() if codes is not None}
    return {name: outcomes for name, outcomes in counted_.items() if outcomes.total}


def _count(codes: np.ndarray) -> Outcomes:
    return Outcomes(*(int((codes == code).sum()) for code in (_RIGHT, _FIXED, _BROKEN, _WRONG)))


def finding(run: RunData) -> str:
    """What fine-tuning changed, in a sentence or two of text; "" where the run does not hold it."""
    told = []
    outcomes = outcomes_of(run)
    if outcomes:
        name, first = next(iter(outcomes.items()))
        told.append(
            f"Judged by {_judge(run, name)}, {counted(first.fixed, 'image')} {_were(first.fixed)} wrong "
            f"before and {_are(first.fixed)} right after; {first.broken:,} went the other way, and "
            f"{first.wrong:,} {_were(first.wrong)} wrong both times."
        )
        told += _most_gained(run, name)
    kept = run.measures.get("kept")
    if kept is not None and np.isfinite(kept).any():
        share = float(np.nanmean(kept))
        told.append(
            f"Of the {N_NEIGHBORS} images nearest to an image before, {N_NEIGHBORS * share:.1f} "
            f"({percent(share)}) are on average still among its {N_NEIGHBORS} nearest after."
        )
    return " ".join(told)


def _judge(run: RunData, classifier: str) -> str:
    """What classified the images, and by which other images."""
    if classifier == "probe":
        return "a linear classifier"
    is_trained = any(score.metric == catalogue.TRAIN_TO_TEST for score in run.scores)
    voters = "training images" if is_trained else "other images (leave one out)"
    return f"a vote of the {N_NEIGHBORS} nearest {voters}"


def _most_gained(run: RunData, classifier: str) -> list[str]:
    gains = _gains(run, classifier)
    if not gains or gains[0][1].after <= gains[0][1].before:
        return []
    name, own = gains[0]
    told = (
        f"By that classifier's accuracy, class ‘{name}’ gained most: {number(own.before)} before, "
        f"{number(own.after)} after."
    )
    rows = _gain_rows(run, _METRICS[classifier].gained)
    rivals = overlapping(name, {c: (row.get("low"), row.get("high")) for c, row in rows.items()})
    return [told, unsettled(rivals)] if rivals else [told]


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def change(run: RunData, place: int = 0) -> Section:
    """What changed: four groups of images, neighbours, spaces, classes.

    Args:
        place: number of the run on its page.
    """
    outcomes = outcomes_of(run)
    body = _groups(run, outcomes) + _neighbors(run)
    if outcomes or "kept" in run.measures:
        # Filled by the script, which has the images.
        name = f"change-tools-{place + 1}" if place else "change-tools"
        body += f"<div id='{name}' class='change-tools needs-script' data-run='{place}'></div>"
        body += _without_script(run)
    body += _spaces(run)
    if outcomes:
        body += _classes(run, next(iter(outcomes)))
    body += _before_against_after(run)
    return Section("change", "What changed", body)


def _without_script(run: RunData) -> str:
    if not run.image_rows:
        return ""
    told = "Which images these are, and what became of each, is in images.csv in the folder of the run."
    return f"<noscript>{note(told)}</noscript>"


def _groups(run: RunData, outcomes: Mapping[str, Outcomes]) -> str:
    """The four groups by each classifier, in a sentence and a table."""
    if not outcomes:
        return ""
    name, first = next(iter(outcomes.items()))
    text = (
        f"<p>To compare like with like, {escape(_judge(run, name))} judged the features before and the "
        f"features after. <b>{first.fixed:,}</b> images were wrong before and are right after (fixed), "
        f"<b>{first.broken:,}</b> were right before and are wrong after (broken), <b>{first.wrong:,}</b> "
        f"stayed wrong and <b>{first.right:,}</b> stayed right.{_chance_of(run, name)}</p>"
    )
    head = ["Judged by", "fixed", "broken", "still wrong", "still right", "right before", "right after"]
    rows = [
        [
            _judge(run, name),
            *(f"{count:,}" for count in (o.fixed, o.broken, o.wrong, o.right)),
            number(o.before),
            number(o.after),
        ]
        for name, o in outcomes.items()
    ]
    return text + table(head, rows, "How many images were fixed and broken")


def _chance_of(run: RunData, classifier: str) -> str:
    """McNemar's test in words, as HTML; nothing where the run holds no such score."""
    metric = _METRICS[classifier].p_value
    score = run.score("both", "features", metric)
    if not score:
        return ""
    p = "less than 0.001" if score.value < 1e-3 else number(score.value)
    return (
        " If an image were as likely to be broken as to be fixed, numbers so uneven would come about with a "
        f"probability of {p} ({term(metric)})."
    )


def _neighbors(run: RunData) -> str:
    """How many nearest neighbours images kept, and what chance would give."""
    kept = run.measures.get("kept")
    known = kept[np.isfinite(kept)] if kept is not None else np.empty(0)
    if not len(known):
        return ""
    share = float(known.mean())
    by_chance = min(1, N_NEIGHBORS / max(1, len(run) - 1))
    none, all_of_them = int((known <= 0).sum()), int((known >= 1).sum())
    return (
        f"<p>Of the {N_NEIGHBORS} images nearest to an image in the features before, "
        f"<b>{N_NEIGHBORS * share:.1f}</b> ({percent(share)}) are on average still among its {N_NEIGHBORS} "
        f"nearest after; chance alone would keep {of_ten(by_chance)}. {counted(none, 'image')} kept none "
        f"of them, {all_of_them:,} kept all {N_NEIGHBORS}.</p>"
    )


def _spaces(run: RunData) -> str:
    """Accuracy of neighbours in the features and in every map, before and after."""
    kinds = accuracies(run)
    body = _before_and_after(run, LEAVE_ONE_OUT) if LEAVE_ONE_OUT in kinds else ""
    others = "".join(_before_and_after(run, kind) for kind in kinds if kind != LEAVE_ONE_OUT)
    body += details("The same, computed in other ways", others) if others else ""
    return f"<h3>In the features and in each map</h3>{body}" if body else ""


def accuracies(run: RunData) -> list[Metric]:
    """The kinds of accuracy of nearest neighbours that the run holds, such as by folds."""
    held = {score.metric for score in run.scores}
    return [metric for metric in KNN_ACCURACIES if metric in held]


def _before_and_after(run: RunData, metric: Metric) -> str:
    rows = []
    for space, name in SPACES.items():
        before, after = (run.score(stage, space, metric) for stage in STAGES)
        if before or after:
            difference = signed(after.value - before.value) if before and after else "–"
            dimensions = _dimensions(run) if space == "features" else ""
            label = f"{name}, {dimensions} dimensions" if dimensions else name
            rows.append([label, interval(before), interval(after), difference])
    if not rows:
        return ""
    is_bounded = any(score.low is not None for score in run.scores if score.metric == metric)
    told = "In brackets: 95 % intervals." if is_bounded else "This run holds no intervals for it."
    told = note(" ".join(filter(None, (metric.sentence, reason(metric), told))))
    caption = f"{metric.label}; {len(run):,} {'' if run.is_comparison else 'test '}images"
    head = ["Where", "before", "after", "change"]
    return table(head, rows, caption) + told


def _dimensions(run: RunData) -> str:
    own = [run.features.get(name) for name in ("dimensions", "dimensions_after")]
    return " to ".join(dict.fromkeys(f"{count:,}" for count in own if count))


def _gains(run: RunData, classifier: str) -> list[tuple[str, Outcomes]]:
    """Outcomes of each class that has any, the one that gained most first."""
    codes = run.measures[f"outcome_{classifier}"]
    if run.labels is None:
        return []
    own = [(name, _count(codes[run.labels == k])) for k, name in enumerate(run.class_names)]
    return sorted((row for row in own if row[1].total), key=lambda row: row[1].before - row[1].after)


def _classes(run: RunData, classifier: str) -> str:
    """A row for each class, the one that gained most first; of very many only both ends."""
    gains = _gains(run, classifier)
    if not gains:
        return ""
    judge = _judge(run, classifier)
    caption = f"Share classified correctly by {judge}; the class whose share grew most comes first"
    left_out = ""
    if len(gains) > _ALL_CLASSES_UP_TO:
        left_out = note(
            f"Of {len(gains)} classes, the {_SHOWN_OF_MANY} that gained most and the {_SHOWN_OF_MANY} that "
            "gained least. classes.csv holds all."
        )
        gains = [*gains[:_SHOWN_OF_MANY], *gains[-_SHOWN_OF_MANY:]]
    kept, measured = _kept_by_class(run), _measured_gains(run, classifier)
    head = ["Class", "images", "before", "after", "change", "fixed", "broken", "still wrong"]
    head += [f"neighbours kept of {N_NEIGHBORS}"] if kept else []
    rows = [_class_row(name, outcomes, kept, measured.get(name)) for name, outcomes in gains]
    told = note("Of two gains whose intervals overlap, which is larger is not settled.") if measured else ""
    return "<h3>By class</h3>" + table(head, rows, caption) + told + left_out


def _measured_gains(run: RunData, classifier: str) -> dict[str, Html]:
    """The gain of each class with its interval, where the run holds it."""
    rows = _gain_rows(run, _METRICS[classifier].gained)
    return {name: _with_bounds(row) for name, row in rows.items()}


def _gain_rows(run: RunData, metric: Metric) -> dict[str, Mapping[str, Any]]:
    """By class, the rows of what it gained."""
    rows = [row for row in run.class_scores if row["stage"] == "both" and row["metric"] == metric]
    return {row["class"]: row for row in rows if row["value"] is not None}


def _with_bounds(row: Mapping[str, Any]) -> Html:
    return Html(f"{signed(row['value'])}{bounds(row.get('low'), row.get('high'))}")


def _class_row(name: str, own: Outcomes, kept: Mapping[str, float], measured: Html | None) -> Sequence[str]:
    counts = (own.fixed, own.broken, own.wrong)
    gain = measured or signed(own.after - own.before)
    row = [name, f"{own.total:,}", number(own.before), number(own.after), gain]
    return [*row, *(f"{count:,}" for count in counts), *([f"{kept[name]:.1f}"] if kept else [])]


def _kept_by_class(run: RunData) -> dict[str, float]:
    kept = run.measures.get("kept")
    if kept is None or run.labels is None:
        return {}
    rows = {name: run.labels == k for k, name in enumerate(run.class_names)}
    return {name: N_NEIGHBORS * float(np.nanmean(kept[own])) for name, own in rows.items() if own.any()}


def _before_against_after(run: RunData) -> str:
    """The scores that compare before with after, such as how alike the features are, in every space."""
    held = [score for score in run.scores if score.stage == "both"]
    spaces = [space for space in SPACES if any(score.space == space for score in held)]
    rows = [
        [term(metric, arrow=True), *(interval(run.score("both", space, metric)) for space in spaces)]
        for metric in unique(score.metric for score in held if score.space in SPACES)
    ]
    if not rows:
        return ""
    head = ["Measure", *(SPACES[space] for space in spaces)]
    shown = table(head, rows, "Scores of before against after")
    return details(f"{counted(len(rows), 'more measure')} of what changed", shown)
