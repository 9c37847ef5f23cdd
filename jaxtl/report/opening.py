"""What a page begins with, as HTML: title, key numbers, verdicts. What comes from a run is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from jaxtl.data import short_name
from jaxtl.evaluation.catalogue import (
    KNN_ACCURACIES,
    LEAVE_ONE_OUT,
    LINEAR_CKA,
    TEST_ACCURACY,
    Metric,
)
from jaxtl.evaluation.outcome import below_probe
from jaxtl.methods import METHODS, method_label
from jaxtl.report.markup import (
    MINUS,
    Html,
    bounded,
    details,
    interval,
    note,
    number,
    section,
    table,
)
from jaxtl.runs.data import RunData
from jaxtl.settings import MODELS, STAGES

SPACES = {"features": "Features", **{method.name: method.label for method in METHODS.values()}}
TUNED_ACCURACY = f"{TEST_ACCURACY.label} of the tuned network"
_DATASETS = {"mnist": "MNIST"}


def title(run: RunData) -> str:
    if run.is_comparison:
        return f"What changed in the features of {dataset(run)}"
    return f"What fine-tuning did to the features of {dataset(run)}"


def dataset(run: RunData) -> str:
    """A short name: of a path its last part, whatever is above it."""
    if run.is_comparison:
        return _DATASETS.get(run.config["name"]) or run.config["name"] or _sources(run)
    name = str(run.config.get("dataset", "unknown images"))
    return _DATASETS.get(name) or short_name(name)


def lead(run: RunData) -> str:
    """What was done, in two sentences made of the run's settings."""
    if run.is_comparison:
        return _lead_of_comparison(run)
    config = run.config
    weights = config.get("weights")
    size = config.get("image_size")
    pixels = f", {size} × {size} pixels each," if size else ""
    dimensions = run.features.get("dimensions")
    pooled = f"its {dimensions:,} pooled features" if dimensions else "its pooled features"
    methods = listed([method_label(method) for method in run.methods])
    network = MODELS.get(run.model, "network")
    text = (
        f"{len(run):,} test images of {dataset(run)}{pixels} went through a {network} "
        f"{'with weights from ' + str(weights) if weights else 'with ImageNet weights'}, and {pooled} were "
        f"mapped to the plane by {methods}. Then {_learners(str(config.get('trainable', '')))} learned from "
        f"{_count(config.get('train_samples'))} training images"
    )
    epochs = config.get("epochs")
    text += f" in {epochs} epoch{'s' if epochs != 1 else ''}" if epochs else ""
    return f"<p class='lead'>{escape(text)}, and the same images were mapped again.</p>"


def _lead_of_comparison(run: RunData) -> str:
    before, after = (run.features.get(name) for name in ("dimensions", "dimensions_after"))
    sizes = f"{before:,} before, {after:,} after" if before != after else f"{before:,}"
    classes = len(run.class_names)
    told = f" of {classes:,} class{'es' * (classes != 1)}" if run.labels is not None else ""
    methods = listed([method_label(method) for method in run.methods])
    text = (
        f"Features of {len(run):,} images{told} that were computed elsewhere ({_sources(run)}; dimensions: "
        f"{sizes}) were mapped to the plane by {methods} and compared image by image."
    )
    if run.labels is None:
        text += " Their classes are not known: what needs labels is left out."
    return f"<p class='lead'>{escape(text)}</p>"


def _sources(run: RunData) -> str:
    return f"{run.config['before']} and {run.config['after']}"


def _learners(trainable: str) -> str:
    if trainable.isdigit() and trainable != "0":
        return f"the network's last {trainable} layers and a softmax head"
    known = {
        "none": "a softmax head alone",
        "0": "a softmax head alone",
        "all": "the whole network, with a softmax head,",
    }
    return known.get(trainable) or f"the layers from {trainable} on and a softmax head"


def _count(number: int | None) -> str:
    return "all" if number is None else f"{number:,}"


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def key_numbers(run: RunData) -> str:
    """The accuracy of the network, that of neighbours in every space, and the claims in a line each."""
    accuracy = test_accuracy(run)
    figure = ""
    if accuracy:
        figure = (
            f"<div class='figure-number'><b>{accuracy[0]:.3f}</b><span>{TUNED_ACCURACY}, "
            f"after epoch {accuracy[1]:.0f}</span></div>"
        )
    kinds = accuracies(run)
    numbers = figure or _likeness(run)
    if below := below_probe(run.scores, run.history, run.config.get("batch_norm", "keras")):
        numbers += f"<p class='fault'>{escape(below)}</p>"
    if LEAVE_ONE_OUT in kinds:
        numbers += _before_and_after(run, LEAVE_ONE_OUT)
    others = [kind for kind in kinds if kind != LEAVE_ONE_OUT]
    if others:
        tables = "".join(_before_and_after(run, kind) for kind in others)
        numbers += details("Other ways to compute it", tables)
    parts = "".join(f"<div>{part}</div>" for part in (numbers, _tally(run.claims)) if part)
    return section("key-numbers", "Key numbers", f"<div class='key'>{parts}</div>" if parts else "")


def _tally(claims: Sequence[dict[str, Any]]) -> str:
    """How many claims hold, and each in a line."""
    if not claims:
        return ""
    kinds = [_VERDICTS.get(str(claim["verdict"]), _OPEN)[1] for claim in claims]
    held, not_held, left = (kinds.count(kind) for kind in ("yes", "no", "open"))
    counted = f"{held} hold{'s' * (held == 1)}, {not_held} do{'es' * (not_held == 1)} not, {left} undecided"
    lines = "".join(f"<li>{mark(claim)}<span>{escape(said(claim, 'text'))}</span></li>" for claim in claims)
    total = f"{len(claims)} claim{'s' * (len(claims) != 1)}"
    return f"<h3 class='tally'>{total}: {counted}</h3><ul class='tally'>{lines}</ul>" + note(
        "The statistic that decides each claim is below the maps."
    )


def mark(claim: dict[str, Any], word: bool = False) -> str:
    """A claim's verdict as a sign, with its word beside it or for those who hear the page."""
    mark, kind = _VERDICTS.get(str(claim["verdict"]), _OPEN)
    said = escape(str(claim["verdict"]))
    text = said if word else f"<span class='unseen'>{said}: </span>"
    return f"<span class='verdict {kind}'><span aria-hidden='true'>{mark}</span> {text}</span>"


def accuracies(run: RunData) -> list[Metric]:
    """The kinds of 10-NN accuracy that the run holds, such as by folds and leaving one out."""
    held = {score.metric for score in run.scores}
    return [metric for metric in KNN_ACCURACIES if metric in held]


def _before_and_after(run: RunData, metric: Metric) -> str:
    rows = []
    for space, name in SPACES.items():
        before, after = (run.score(stage, space, metric) for stage in STAGES)
        if before or after:
            change = f"{after.value - before.value:+.3f}".replace("-", MINUS) if before and after else "–"
            dimensions = _dimensions(run) if space == "features" else ""
            label = f"{name}, {dimensions} dimensions" if dimensions else name
            rows.append([label, interval(before), interval(after), change])
    if not rows:
        return ""
    bounded = any(score.low is not None for score in run.scores if score.metric == metric)
    told = "In brackets: 95 % intervals." if bounded else "This run holds no intervals for it."
    caption = f"{metric.label}; {len(run):,} {'' if run.is_comparison else 'test '}images"
    head = ["Space", "before", "after", "change"]
    return table(head, rows, caption) + note(f"{metric.sentence} {told}")


def _dimensions(run: RunData) -> str:
    own = [run.features.get(name) for name in ("dimensions", "dimensions_after")]
    return " to ".join(dict.fromkeys(f"{count:,}" for count in own if count))


def _likeness(run: RunData) -> str:
    """Of a comparison: how alike the features are as a whole."""
    score = run.score("both", "features", LINEAR_CKA) if run.is_comparison else None
    if score is None:
        return ""
    told = f"{LINEAR_CKA.label} of the features: 1 where they are alike, about 0 where unrelated"
    return f"<div class='figure-number'><b>{number(score.value)}</b><span>{escape(told)}</span></div>"


def test_accuracy(run: RunData) -> tuple[float, float] | None:
    return (run.history[-1][TEST_ACCURACY], run.history[-1]["epoch"]) if run.history else None


_OPEN = ("?", "open")
_VERDICTS = {"holds": ("✓", "yes"), "does not hold": ("✗", "no"), "undecided": _OPEN}


def claims(run: RunData) -> str:
    heading = "Claims, and whether the scores support them"
    images = "images" if run.is_comparison else "test images"
    told = note(
        "A claim holds where the whole 95 % interval lies on its side of the threshold, does not hold where "
        "the whole interval lies on the other side, and is undecided where the interval contains the "
        f"threshold. The intervals are about other {images}. Another seed would widen the intervals."
    )
    return section("claims", heading, claims_table(run.claims) + told) if run.claims else ""


def claims_table(claims: Sequence[dict[str, Any]]) -> str:
    rows = []
    for claim in claims:
        words = f"<b>{escape(said(claim, 'text'))}</b><br>"
        words += f"<span class='quiet'>{escape(said(claim, 'words') or said(claim, 'statistic'))}</span>"
        threshold = claim.get("threshold")
        bound = "" if threshold is None else f"{said(claim, 'direction')} {number(threshold)}".strip()
        value = bounded(claim["value"], claim.get("low"), claim.get("high"))
        rows.append([Html(mark(claim, word=True)), Html(words), value, bound])
    return table(["Verdict", "Claim", "Value", "Holds if"], rows, texts=2) if rows else ""


def said(claim: dict[str, Any], name: str) -> str:
    return str(claim.get(name) or "")
