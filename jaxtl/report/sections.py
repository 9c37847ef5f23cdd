"""The text, tables and charts of one run as HTML. Whatever comes from a run is escaped here.

A section whose data are absent is the empty string.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from jaxtl.plots import NAMES
from jaxtl.records import Score
from jaxtl.report.charts import Line, heat_map, line_chart
from jaxtl.report.data import STAGES, RunData
from jaxtl.report.markup import (
    MINUS,
    Html,
    bounded,
    details,
    figures,
    in_words,
    interval,
    maybe,
    note,
    number,
    section,
    table,
    unique,
)
from jaxtl.seeds import claims_over_seeds, over_seeds, scores_over_seeds

KNN_METRIC = "10-NN accuracy"
LEAVE_ONE_OUT = "10-NN accuracy, leave one out"
FAITHFULNESS = ("trustworthiness", "continuity", "Shepard correlation", "Q_NX AUC")
SPACES = {"features": "Features", **NAMES}
_MOST_CLASSES = 40  # for tables and heat maps; with more, the page points to the files
_LAYER_METRICS_LAST = "CKA"
# CKA of what has not changed, but for rounding.
_SAME = 1 - 1e-5
# Said before training, of the features that it starts from.
_PROMISES = ("LogME", "H-score, shrunk", "logistic probe accuracy", "ridge probe accuracy")
_FEW_NEIGHBORS = 10
# In words: so many classes, and so many pairs of them.
_TOLD = 3
_DATASETS = {"mnist": "MNIST"}


def title(run: RunData) -> str:
    return f"What fine-tuning did to the features of {dataset(run)}"


def dataset(run: RunData) -> str:
    """A short name: of a folder its last part, whatever is above it."""
    name = str(run.config.get("dataset", "unknown images"))
    kind, _, rest = name.partition(":")
    short = rest.rstrip("/").rpartition("/")[2] if kind in ("folder", "idx") else rest
    return _DATASETS.get(name) or short or name


def lead(run: RunData) -> str:
    """What was done, in two sentences made of the run's settings."""
    config = run.config
    weights = config.get("weights")
    size = config.get("image_size")
    pixels = f", {size} × {size} pixels each," if size else ""
    dimensions = run.features.get("dimensions")
    pooled = f"its {dimensions:,} pooled features" if dimensions else "its pooled features"
    methods = _listed([NAMES.get(method, method) for method in run.methods])
    text = (
        f"{len(run):,} test images of {dataset(run)}{pixels} went through a MobileNetV2 "
        f"{'with weights from ' + str(weights) if weights else 'with ImageNet weights'}, and {pooled} were "
        f"mapped to the plane by {methods}. Then {_learners(str(config.get('trainable', '')))} learned from "
        f"{_count(config.get('train_samples'))} training images"
    )
    epochs = config.get("epochs")
    text += f" in {epochs} epoch{'s' if epochs != 1 else ''}" if epochs else ""
    return f"<p class='lead'>{escape(text)}, and the same images were mapped again.</p>"


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


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def key_numbers(run: RunData) -> str:
    """The accuracy of the network, that of neighbours in every space, and the claims in a line each."""
    accuracy = _test_accuracy(run)
    figure = ""
    if accuracy:
        figure = (
            f"<div class='figure-number'><b>{accuracy[0]:.3f}</b><span>test accuracy of the tuned network, "
            f"after epoch {accuracy[1]:.0f}</span></div>"
        )
    metrics = _accuracies(run)
    # First the one that the claims and the classes are told by.
    metrics.sort(key=lambda metric: metric != LEAVE_ONE_OUT)
    tables = [_before_and_after(run, metric) for metric in metrics]
    numbers = figure
    if tables:
        told = "Share of images whose 10 nearest neighbours, by majority, name their class."
        bounded = any(s.low is not None for s in run.scores if s.metric in metrics)
        told += " In brackets: 95 % intervals." if bounded else " This run holds no intervals for it."
        numbers += tables[0] + note(told)
    if tables[1:]:
        numbers += details("Counted in other ways", "".join(tables[1:]))
    parts = "".join(f"<div>{part}</div>" for part in (numbers, _tally(run.claims)) if part)
    return section("key-numbers", "Key numbers", f"<div class='key'>{parts}</div>" if parts else "")


def _tally(claims: Sequence[dict[str, Any]]) -> str:
    """How many claims hold, and each in a line."""
    if not claims:
        return ""
    kinds = [_VERDICTS.get(str(claim["verdict"]), _OPEN)[1] for claim in claims]
    held, not_held, left = (kinds.count(kind) for kind in ("yes", "no", "open"))
    counted = f"{held} hold{'s' * (held == 1)}, {not_held} do{'es' * (not_held == 1)} not, {left} undecided"
    lines = "".join(f"<li>{_mark(claim)}<span>{escape(_said(claim, 'text'))}</span></li>" for claim in claims)
    total = f"{len(claims)} claim{'s' * (len(claims) != 1)}"
    return f"<h3 class='tally'>{total}: {counted}</h3><ul class='tally'>{lines}</ul>" + note(
        "What decided each stands below the maps."
    )


def _mark(claim: dict[str, Any], word: bool = False) -> str:
    """A claim's verdict as a sign, with its word beside it or for those who hear the page."""
    mark, kind = _VERDICTS.get(str(claim["verdict"]), _OPEN)
    said = escape(str(claim["verdict"]))
    text = said if word else f"<span class='unseen'>{said}: </span>"
    return f"<span class='verdict {kind}'><span aria-hidden='true'>{mark}</span> {text}</span>"


def _accuracies(run: RunData) -> list[str]:
    """The kinds of 10-NN accuracy that the run holds, such as by folds and leaving one out."""
    return unique(s.metric for s in run.scores if KNN_METRIC.lower() in s.metric.lower())


def _before_and_after(run: RunData, metric: str) -> str:
    rows = []
    for space, name in SPACES.items():
        before, after = (run.score(stage, space, metric) for stage in STAGES)
        if before or after:
            change = f"{after.value - before.value:+.3f}".replace("-", MINUS) if before and after else "–"
            dimensions = run.features.get("dimensions") if space == "features" else None
            label = f"{name}, {dimensions:,} dimensions" if dimensions else name
            rows.append([label, interval(before), interval(after), change])
    folds = ", 5 folds" if metric == KNN_METRIC else ""
    caption = f"{metric}{folds}; {len(run):,} test images"
    return table(["Space", "before", "after", "change"], rows, caption) if rows else ""


def _test_accuracy(run: RunData) -> tuple[float, float] | None:
    return (run.history[-1]["test_accuracy"], run.history[-1]["epoch"]) if run.history else None


_OPEN = ("?", "open")
_VERDICTS = {"holds": ("✓", "yes"), "does not hold": ("✗", "no"), "undecided": _OPEN}


def claims(run: RunData) -> str:
    heading = "Claims, and whether this run bears them out"
    told = note(
        "A claim holds where the whole 95 % interval lies on its side of the threshold, does not where the "
        "whole lies on the other, and is undecided where the interval holds the threshold. 10-NN accuracies "
        "here leave one out: the 10 nearest other test images vote. The intervals are about other test "
        "images; another seed would add to them."
    )
    return section("claims", heading, _claims_table(run.claims) + told) if run.claims else ""


def _claims_table(claims: Sequence[dict[str, Any]]) -> str:
    rows = []
    for claim in claims:
        words = f"<b>{escape(_said(claim, 'text'))}</b><br>"
        words += f"<span class='quiet'>{escape(_said(claim, 'words') or _said(claim, 'statistic'))}</span>"
        threshold = claim.get("threshold")
        bound = "" if threshold is None else f"{_said(claim, 'direction')} {number(threshold)}".strip()
        value = bounded(claim["value"], claim.get("low"), claim.get("high"))
        rows.append([Html(_mark(claim, word=True)), Html(words), value, bound])
    return table(["Verdict", "Claim", "Value", "Holds if"], rows, texts=2) if rows else ""


def _said(claim: dict[str, Any], name: str) -> str:
    return str(claim.get(name) or "")


def separation(run: RunData) -> str:
    """How far apart the classes lie in every space, and what the features are like as a whole."""
    spaces = [space for space in SPACES if space == "features" or space in run.methods]
    columns = [(stage, space) for space in spaces for stage in STAGES]
    known = {*FAITHFULNESS, *_accuracies(run)}
    metrics = unique(s.metric for s in run.scores if s.space in run.methods and s.metric not in known)
    head = ["Measure", *(f"{SPACES[space]} {stage}" for stage, space in columns)]
    rows = [[metric, *(_value(run.score(*at, metric)) for at in columns)] for metric in metrics]
    body = table(head, rows) if rows else ""
    elsewhere = {*known, *metrics, *_PROMISES[:2]}
    own = unique(s.metric for s in run.scores if s.space == "features" and s.metric not in elsewhere)
    if own:
        head = ["The features as a whole", "before", "after", "one against the other"]
        stages = (*STAGES, "both")
        rows = [[metric, *(interval(run.score(at, "features", metric)) for at in stages)] for metric in own]
        body += table(head, rows)
    if body:
        body += note("Intervals that are not shown here are under Every number.")
    return section("separation", "How far apart the classes lie", body)


def _value(score: Score | None) -> str:
    return "–" if score is None else number(score.value)


def transferability(run: RunData) -> str:
    """What was said of the features before training, beside what training then gave."""
    found = [(name, run.score("before", "features", name)) for name in _PROMISES]
    rows = [[name, "before training", interval(score)] for name, score in found if score]
    accuracy = _test_accuracy(run)
    if not rows or not accuracy:
        return ""
    rows.append(["test accuracy of the tuned network", "after training", f"{accuracy[0]:.3f}"])
    told = note(
        "LogME and H-score have no scale of their own: they put networks, or settings, in order for one "
        "task. To see whether the order comes true, compare runs: jaxtl report RUN1 RUN2. The probes are "
        "linear classifiers that training images taught on the features as they were, tried on the test "
        "images."
    )
    body = table(["Measure", "known", "value"], rows, texts=2) + told
    return section("transferability", "What the features promised, and what training gave", body)


def faithfulness(run: RunData) -> str:
    """What each map is worth as a picture of the features."""
    columns = [(stage, method) for method in run.methods for stage in STAGES if (stage, method) in run.maps]
    held = {s.metric for s in run.scores if s.space in run.methods}
    metrics = [metric for metric in FAITHFULNESS if metric in held]
    head = ["Measure", *(f"{NAMES.get(method, method)} {stage}" for stage, method in columns)]
    rows = [[metric, *(interval(run.score(*at, metric)) for at in columns)] for metric in metrics]
    rows += _own_words(run, columns)
    text = (
        "<p>A map may separate classes and still be false: two dimensions cannot hold all distances of many. "
        "Read the maps beside the numbers of the features themselves.</p>"
    )
    if "tsne" in run.methods:
        text += (
            "<p>t-SNE can draw gaps that the features do not have; sizes of clusters and distances between "
            "them mean nothing in it.</p>"
        )
    if not metrics:
        text += note(
            "This run holds no measure of how faithful its maps are; only what the methods say of themselves."
        )
    body = text + _trust_words(run, columns) + (table(head, rows) if rows else "") + _scales(run)
    return section("faithfulness", "How far to trust the maps", body)


def _trust_words(run: RunData, columns: Sequence[tuple[str, str]]) -> str:
    """Of each map, how many neighbours it keeps, and whether classes lie as far apart as in the features."""
    items = []
    for stage, method in columns:
        told = [_kept(run, stage, method)]
        drawn, true = (run.score(stage, space, "silhouette") for space in (method, "features"))
        if _above(drawn, true):
            told.append(
                f"It draws the classes further apart than they lie in the features (silhouette "
                f"{number(drawn.value)} against {number(true.value)})."
            )
        drawn, true = (run.score(stage, space, LEAVE_ONE_OUT) for space in (method, "features"))
        if _above(true, drawn):
            told.append(
                f"It mixes classes that the features hold apart (10-NN accuracy {number(drawn.value)} "
                f"against {number(true.value)})."
            )
        if any(told):
            name = f"{NAMES.get(method, method)} {stage}"
            items.append(f"<li><b>{escape(name)}.</b> {escape(' '.join(filter(None, told)))}</li>")
    return f"<ul class='told'>{''.join(items)}</ul>" if items else ""


def _kept(run: RunData, stage: str, method: str) -> str:
    sizes, shares = run.measures.get("qnx_k"), run.measures.get(f"qnx_{stage}_{method}")
    if sizes is None or shares is None:
        return ""
    place = int(np.abs(np.asarray(sizes) - _FEW_NEIGHBORS).argmin())
    return (
        f"Of an image's {sizes[place]} nearest on the map {100 * float(shares[place]):.0f} % are among its "
        f"{sizes[place]} nearest in the features."
    )


def _above(one: Score | None, other: Score | None) -> bool:
    """Whether one is larger by more than both their intervals."""
    return None not in (one, other) and None not in (one.low, other.high) and one.low > other.high


def _own_words(run: RunData, columns: Sequence[tuple[str, str]]) -> list[list[str]]:
    """What the methods say of their own results."""
    rows = []
    variance = [run.maps[at].diagnostics.get("explained_variance_ratio") for at in columns]
    if any(variance):
        rows.append(["share of variance shown", *(number(sum(v)) if v else "–" for v in variance)])
    for name, label in (
        ("kl_divergence", "KL divergence left"),
        ("reconstruction_error", "reconstruction error"),
    ):
        found = [run.maps[at].diagnostics.get(name) for at in columns]
        if any(value is not None for value in found):
            rows.append([label, *("–" if value is None else number(value) for value in found)])
    return rows


def _scales(run: RunData) -> str:
    """Neighbourhood agreement over the size of the neighbourhood."""
    k = run.measures.get("qnx_k")
    charts = []
    for method in run.methods if k is not None else []:
        lines = [
            Line(stage, stage, k.tolist(), run.measures[name].tolist())
            for stage in STAGES
            if (name := f"qnx_{stage}_{method}") in run.measures
        ]
        if lines:
            charts.append(
                line_chart(lines, f"{NAMES.get(method, method)}: neighbours kept", "neighbours k", log_x=True)
            )
    if not charts:
        return ""
    return figures(charts) + note(
        "Share of each image's k nearest neighbours in the features that are its k nearest in the map too."
    )


def classes(run: RunData) -> str:
    """Per-class numbers, and whose neighbours are whose."""
    if len(run.class_names) > _MOST_CLASSES:
        held = "classes.csv and measures.npz" if run.class_scores or run.measures else ""
        return (
            section(
                "classes",
                "Class by class",
                note(f"{len(run.class_names)} classes are too many to show here; see {held}."),
            )
            if held
            else ""
        )
    body = "".join(_class_table(run, metric) for metric in unique(row["metric"] for row in run.class_scores))
    return section("classes", "Class by class", _class_words(run) + body + _confusions(run))


def _class_words(run: RunData) -> str:
    """Which classes gain, and which pairs stay mixed, in the features themselves."""
    rows = [r for r in run.class_scores if r["space"] == "features" and r["metric"] == LEAVE_ONE_OUT]
    before, after = ({r["class"]: r["value"] for r in rows if r["stage"] == stage} for stage in STAGES)
    both = {c: (before[c], after[c]) for c in before if c in after and None not in (before[c], after[c])}
    sentences = []
    if both:
        gains = sorted(both, key=lambda c: both[c][0] - both[c][1])
        most = [f"‘{c}’ ({number(both[c][0])} to {number(both[c][1])})" for c in gains[:_TOLD]]
        sentences.append(
            f"In the features themselves, {_listed(most)} gain most by {LEAVE_ONE_OUT}; ‘{gains[-1]}’ gains "
            f"least ({number(both[gains[-1]][0])} to {number(both[gains[-1]][1])})."
        )
    for stage in STAGES:
        shares = run.measures.get(f"confusion_{stage}_features")
        mixed = [] if shares is None else _mixed(shares, run.class_names)
        if mixed:
            sentences.append(f"Most mixed {stage} fine-tuning: {_listed(mixed)}.")
    return f"<p>{escape(' '.join(sentences))}</p>" if sentences else ""


def _mixed(shares: np.ndarray, names: Sequence[str]) -> list[str]:
    """The classes whose neighbours are most often of one other class."""
    others = np.nan_to_num(np.array(shares, np.float64))
    np.fill_diagonal(others, 0)
    places = np.argsort(-others, axis=None, kind="stable")[:_TOLD]
    return [
        f"‘{names[i]}’ with ‘{names[j]}’ ({100 * others[i, j]:.1f} % of its neighbours)"
        for i, j in zip(*np.unravel_index(places, others.shape), strict=True)
        if others[i, j] > 0
    ]


def _class_table(run: RunData, metric: str) -> str:
    rows = {(r["stage"], r["space"], r["class"]): r for r in run.class_scores if r["metric"] == metric}
    spaces = unique(key[1] for key in rows)
    columns = [(space, stage) for space in spaces for stage in unique(k[0] for k in rows if k[1] == space)]
    head = ["Class", *(f"{SPACES.get(space, space)} {stage}" for space, stage in columns)]
    lines = []
    for name in unique(key[2] for key in rows):
        found = [rows.get((stage, space, name)) for space, stage in columns]
        # With intervals a row of eight columns would not fit a page: they are in the file.
        lines.append([name, *("–" if r is None or r["value"] is None else number(r["value"]) for r in found)])
    return f"<h3>{escape(metric)}</h3>" + table(head, lines)


def _confusions(run: RunData) -> str:
    """Heat maps of every space, of which the page shows one at a time."""
    found = [
        (
            space,
            [
                (stage, run.measures[name])
                for stage in STAGES
                if (name := f"confusion_{stage}_{space}") in run.measures
            ],
        )
        for space in SPACES
    ]
    found = [(space, maps) for space, maps in found if maps]
    if not found:
        return ""
    buttons = "".join(
        f"<button type='button' data-space='{space}' aria-pressed='{'false' if k else 'true'}'>"
        f"{SPACES[space]}</button>"
        for k, (space, _) in enumerate(found)
    )
    panels = "".join(
        f"<div class='heats' data-space='{space}'{' hidden' if k else ''}>"
        + "".join(heat_map(values, run.class_names, f"{SPACES[space]}, {stage}") for stage, values in maps)
        + "</div>"
        for k, (space, maps) in enumerate(found)
    )
    return (
        "<h3>Whose neighbours are whose</h3>"
        f"<div class='choice' role='group' aria-label='Space of the neighbours'>{buttons}</div>{panels}"
        + note(
            "Rows: an image's class. Columns: the classes of its 10 nearest neighbours, in per cent of them."
        )
    )


def depth(run: RunData) -> str:
    """How the numbers go through the network, layer by layer."""
    charts = []
    metrics = unique(row["metric"] for row in run.layers)
    for metric in sorted(metrics, key=lambda name: name == _LAYER_METRICS_LAST):
        rows = [row for row in run.layers if row["metric"] == metric and row["value"] is not None]
        names = unique(row["layer"] for row in rows)
        lines = []
        for stage in unique(row["stage"] for row in rows):
            own = [row for row in rows if row["stage"] == stage]
            lines.append(
                Line(
                    "before against after" if stage == "both" else stage,
                    stage if stage in STAGES else "both",
                    [names.index(row["layer"]) for row in own],
                    *([row[key] for row in own] for key in ("value", "low", "high")),
                )
            )
        if lines:
            charts.append(line_chart(lines, metric, "layer, from input to output", x_names=names))
    drawn = figures(charts)
    return section("depth", "Through the layers", _depth_words(run) + drawn if drawn else "")


def _depth_words(run: RunData) -> str:
    """Where the task is solved already, and what fine-tuning moved."""
    found = {(r["metric"], r["stage"], r["layer"]): r for r in run.layers if r["value"] is not None}
    layers = unique(row["layer"] for row in run.layers)
    before, after = ({n: r for n in layers if (r := found.get((KNN_METRIC, s, n)))} for s in STAGES)
    sentences = []
    if before and layers[-1] in before:
        best, last = max(before, key=lambda name: before[name]["value"]), layers[-1]
        text = (
            f"Before fine-tuning the {KNN_METRIC} is highest at the end of {best}, "
            f"{number(before[best]['value'])}; at the output it is {number(before[last]['value'])}"
        )
        bounds = before[best].get("low"), before[last].get("high")
        if best != last and None not in bounds:
            text += (
                ": the layers between lose what tells the classes apart"
                if bounds[0] > bounds[1]
                else ", which is no clear difference"
            )
        sentences.append(f"{text}.")
    alike = {name: found[_LAYER_METRICS_LAST, "both", name]["value"] for name in layers
             if (_LAYER_METRICS_LAST, "both", name) in found}  # fmt: skip
    moved = [name for name in alike if alike[name] < _SAME]
    if moved:
        kept = [name for name in alike if layers.index(name) < layers.index(moved[0])]
        text = (
            f"Fine-tuning left all up to the end of {kept[-1]} as it was, and moved" if kept else "It moved"
        )
        text += f" {_listed(moved)} (CKA {', '.join(number(alike[name]) for name in moved)})"
        if layers[-1] in before and layers[-1] in after:
            text += f"; at the output the {KNN_METRIC} is now {number(after[layers[-1]]['value'])}"
        sentences.append(f"{text}.")
    elif alike:
        sentences.append("Fine-tuning moved no layer.")
    return f"<p>{escape(' '.join(sentences))}</p>" if sentences else ""


def training(run: RunData) -> str:
    if not run.history:
        return ""
    epochs = [row["epoch"] for row in run.history]
    charts = [
        line_chart(
            [
                Line("training", "before", epochs, [row[measure] for row in run.history]),
                Line("test", "after", epochs, [row[f"test_{measure}"] for row in run.history]),
            ],
            name,
            "epoch",
            whole=True,
        )
        for measure, name in (("loss", "Cross-entropy loss"), ("accuracy", "Accuracy"))
    ]
    head = ["Epoch", "loss", "accuracy", "test loss", "test accuracy"]
    rows = [
        [f"{r['epoch']:.0f}", *(f"{r[c]:.4f}" for c in ("loss", "accuracy", "test_loss", "test_accuracy"))]
        for r in run.history
    ]
    return section("training", "Training", figures(charts) + details("Every epoch", table(head, rows)))


def all_scores(run: RunData) -> str:
    rows = [
        [
            s.stage,
            SPACES.get(s.space, s.space),
            s.metric,
            number(s.value),
            maybe(s.low),
            maybe(s.high),
        ]
        for s in run.scores
    ]
    if not rows:
        return ""
    held = table(["Stage", "Space", "Metric", "value", "low", "high"], rows, texts=3)
    return section("scores", "Every number", details(f"{len(rows)} numbers, as in scores.csv", held))


def seeds(runs: Sequence[RunData]) -> str:
    """Means and intervals over runs that differ in nothing but their seed."""
    settings = [{k: v for k, v in run.config.items() if k not in ("seed", "digest")} for run in runs]
    if len(runs) < 2 or any(each != settings[0] for each in settings):
        return ""
    numbers = scores_over_seeds([run.scores for run in runs])
    accuracies = [a[0] for run in runs if (a := _test_accuracy(run))]
    rows = []
    if len(accuracies) == len(runs):
        rows.append(["test accuracy", "", bounded(*over_seeds(accuracies))])
    found = {(s.stage, s.space, s.metric): s for s in numbers}
    for metric in unique(s.metric for s in numbers if s.space in SPACES and s.stage in STAGES):
        for space, label in SPACES.items():
            pair = [found.get((stage, space, metric)) for stage in STAGES]
            if any(pair):
                rows.append([f"{metric}, {label}", *(interval(each) if each else "" for each in pair)])
    told = note(
        f"Means over {len(runs)} runs that differ in their seed alone, with 95 % intervals by Student's t: "
        "what another seed would give. The width is zero for what does not depend on the seed, such as the "
        "features before; that other test images would give other numbers comes on top, and is in the "
        "intervals of the claims."
    )
    shown = [row for row in rows if not row[1] or row[0].startswith(LEAVE_ONE_OUT)]
    rest = [row for row in rows if row not in shown]
    decided = _claims_table(claims_over_seeds([run.claims for run in runs]))
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
            ["test accuracy", *(f"{a[0]:.3f}" if (a := _test_accuracy(run)) else "–" for run in runs)]
        )
    rest = []
    for metric in unique(
        s.metric for run in runs for s in run.scores if s.space in SPACES and s.stage in STAGES
    ):
        for space, label in SPACES.items():
            for stage in STAGES:
                found = [run.score(stage, space, metric) for run in runs]
                row = [f"{metric}, {label} {stage}", *map(interval, found)]
                if any(found):
                    (rows if metric in (LEAVE_ONE_OUT, *_PROMISES[:2]) else rest).append(row)
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
        text = next(_said(claim, "text") for claim in own if claim)
        rows.append([text, *(Html(_mark(claim, word=True)) if claim else "–" for claim in own)])
    return table(["Claim", *(run.name for run in runs)], rows) if rows else ""
