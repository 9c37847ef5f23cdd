"""The text, tables and charts of one run as HTML. Whatever comes from a run is escaped here.

A section whose data are absent is the empty string.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from jaxtl.plots.maps import NAMES
from jaxtl.records.tables import Score
from jaxtl.report.charts import Line, heat_map, line_chart
from jaxtl.report.markup import (
    details,
    figures,
    interval,
    maybe,
    note,
    number,
    section,
    table,
    unique,
)
from jaxtl.report.opening import (
    KNN_METRIC,
    LEAVE_ONE_OUT,
    PROMISES,
    SPACES,
    accuracies,
    listed,
    test_accuracy,
)
from jaxtl.runs.data import RunData
from jaxtl.settings import STAGES

FAITHFULNESS = ("trustworthiness", "continuity", "Shepard correlation", "Q_NX AUC")
_MOST_CLASSES = 40  # for tables and heat maps; with more, the page points to the files
_LAYER_METRICS_LAST = "CKA"
# CKA of what has not changed, but for rounding.
_SAME = 1 - 1e-5
_FEW_NEIGHBORS = 10
# In words: so many classes, and so many pairs of them.
_TOLD = 3


def separation(run: RunData) -> str:
    """How far apart the classes lie in every space, and what the features are like as a whole."""
    spaces = [space for space in SPACES if space == "features" or space in run.methods]
    columns = [(stage, space) for space in spaces for stage in STAGES]
    known = {*FAITHFULNESS, *accuracies(run)}
    metrics = unique(s.metric for s in run.scores if s.space in run.methods and s.metric not in known)
    head = ["Measure", *(f"{SPACES[space]} {stage}" for stage, space in columns)]
    rows = [[metric, *(_value(run.score(*at, metric)) for at in columns)] for metric in metrics]
    body = table(head, rows) if rows else ""
    elsewhere = {*known, *metrics, *PROMISES[:2]}
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
    found = [(name, run.score("before", "features", name)) for name in PROMISES]
    rows = [[name, "before training", interval(score)] for name, score in found if score]
    accuracy = test_accuracy(run)
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
    columns = [
        (stage, method) for method in run.methods for stage in STAGES if (stage, method) in run.embeddings
    ]
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
    variance = [run.embeddings[at].diagnostics.get("explained_variance_ratio") for at in columns]
    if any(variance):
        rows.append(["share of variance shown", *(number(sum(v)) if v else "–" for v in variance)])
    for name, label in (
        ("kl_divergence", "KL divergence left"),
        ("reconstruction_error", "reconstruction error"),
    ):
        found = [run.embeddings[at].diagnostics.get(name) for at in columns]
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
            f"In the features themselves, {listed(most)} gain most by {LEAVE_ONE_OUT}; ‘{gains[-1]}’ gains "
            f"least ({number(both[gains[-1]][0])} to {number(both[gains[-1]][1])})."
        )
    for stage in STAGES:
        shares = run.measures.get(f"confusion_{stage}_features")
        mixed = [] if shares is None else _mixed(shares, run.class_names)
        if mixed:
            sentences.append(f"Most mixed {stage} fine-tuning: {listed(mixed)}.")
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
        text += f" {listed(moved)} (CKA {', '.join(number(alike[name]) for name in moved)})"
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
