"""The text, tables and charts of one run as HTML. Whatever comes from a run is escaped here.

A section whose data are absent is the empty string.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from jaxtl.evaluation.catalogue import (
    ACCURACY,
    CHANGE,
    DIAGNOSTICS,
    DOWN,
    EXPLAINED_VARIANCE,
    FAITHFULNESS,
    H_SCORE,
    LINEAR_CKA,
    LOG_ME,
    LOSS,
    METRICS,
    PROMISES,
    TEST_ACCURACY,
    TEST_LOSS,
    TRANSFERABILITY,
    UP,
    headed,
    label_of,
)
from jaxtl.evaluation.depth import SAMPLES
from jaxtl.evaluation.outcome import lagging
from jaxtl.methods import method_label
from jaxtl.records.tables import Score
from jaxtl.report import sentences
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
from jaxtl.report.opening import SPACES, TUNED_ACCURACY, accuracies, test_accuracy
from jaxtl.runs.data import RunData
from jaxtl.settings import STAGES

_MOST_CLASSES = 40  # for tables and heat maps; with more, the page points to the files
_BETTER = {UP: "more", DOWN: "less", "": "neither"}
_ARROWS = f"{UP} more is better, {DOWN} less is."


def separation(run: RunData) -> str:
    """How far apart the classes lie in every space, and what the features are like as a whole."""
    spaces = [space for space in SPACES if space == "features" or space in run.methods]
    columns = [(stage, space) for space in spaces for stage in STAGES]
    known = {*FAITHFULNESS, *CHANGE, *accuracies(run)}
    metrics = unique(s.metric for s in run.scores if s.space in run.methods and s.metric not in known)
    head = ["Measure", *(f"{SPACES[space]} {stage}" for stage, space in columns)]
    rows = [[headed(metric), *(_value(run.score(*at, metric)) for at in columns)] for metric in metrics]
    body = table(head, rows) if rows else ""
    elsewhere = {*known, *metrics, *TRANSFERABILITY}
    own = unique(s.metric for s in run.scores if s.space == "features" and s.metric not in elsewhere)
    if own:
        head = ["The features as a whole", "before", "after", "one against the other"]
        stages = (*STAGES, "both")
        rows = [
            [headed(metric), *(interval(run.score(at, "features", metric)) for at in stages)]
            for metric in own
        ]
        body += table(head, rows)
    if body:
        body += note(f"{_ARROWS} Intervals that are not shown here are under Every number.")
    heading = "How far apart the classes lie" if metrics else "What the features are like"
    return section("separation", heading, body)


def _value(score: Score | None) -> str:
    return "–" if score is None else number(score.value)


def transferability(run: RunData) -> str:
    """What was said of the features before training, beside what training then gave."""
    promised = [(metric, run.score("before", "features", metric)) for metric in PROMISES]
    rows = [[metric.label, "before training", interval(score)] for metric, score in promised if score]
    accuracy = test_accuracy(run)
    if not rows or not accuracy:
        return ""
    rows.append([TUNED_ACCURACY, "after training", f"{accuracy[0]:.3f}"])
    told = note(
        f"{LOG_ME.short} and {H_SCORE.short} only rank networks or settings for one task. To check the "
        "ranking, compare runs: jaxtl report RUN1 RUN2. The probes are linear classifiers trained on "
        "training images' features before fine-tuning and tested on the test images."
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
    head = ["Measure", *(f"{method_label(method)} {stage}" for stage, method in columns)]
    rows = [[metric.headed, *(interval(run.score(*at, metric)) for at in columns)] for metric in metrics]
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
            "This run has no scores of how faithful its maps are, only the methods' own diagnostics."
        )
    body = text + sentences.on_trust(run, columns) + (table(head, rows) + note(_ARROWS) if rows else "")
    body += _scales(run)
    return section("faithfulness", "How far to trust the maps", body)


def _own_words(run: RunData, columns: Sequence[tuple[str, str]]) -> list[list[str]]:
    """What the methods say of their own results."""
    rows = []
    variance = [run.embeddings[at].diagnostics.get("explained_variance_ratio") for at in columns]
    if any(variance):
        rows.append([EXPLAINED_VARIANCE.headed, *(number(sum(v)) if v else "–" for v in variance)])
    for name, metric in DIAGNOSTICS.items():
        values = [run.embeddings[at].diagnostics.get(name) for at in columns]
        if any(value is not None for value in values):
            rows.append([metric.headed, *("–" if value is None else number(value) for value in values)])
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
                line_chart(lines, f"{method_label(method)}: neighbours kept", "neighbours k", log_x=True)
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
    return section("classes", "Class by class", sentences.on_classes(run) + body + _confusions(run))


def _class_table(run: RunData, metric: str) -> str:
    rows = {(r["stage"], r["space"], r["class"]): r for r in run.class_scores if r["metric"] == metric}
    spaces = unique(key[1] for key in rows)
    columns = [(space, stage) for space in spaces for stage in unique(k[0] for k in rows if k[1] == space)]
    head = ["Class", *(f"{SPACES.get(space, space)} {stage}" for space, stage in columns)]
    lines = []
    for name in unique(key[2] for key in rows):
        own = [rows.get((stage, space, name)) for space, stage in columns]
        # With intervals a row of eight columns would not fit a page: they are in the file.
        lines.append([name, *("–" if r is None or r["value"] is None else number(r["value"]) for r in own)])
    return f"<h3>{escape(headed(metric))}</h3>" + table(head, lines)


def _confusions(run: RunData) -> str:
    """Heat maps of every space, of which the page shows one at a time."""
    shown = {
        space: [
            (stage, run.measures[name])
            for stage in STAGES
            if (name := f"confusion_{stage}_{space}") in run.measures
        ]
        for space in SPACES
    }
    shown = {space: stages for space, stages in shown.items() if stages}
    if not shown:
        return ""
    buttons = "".join(
        f"<button type='button' data-space='{space}' aria-pressed='{'false' if k else 'true'}'>"
        f"{SPACES[space]}</button>"
        for k, space in enumerate(shown)
    )
    panels = "".join(
        f"<div class='heats' data-space='{space}'{' hidden' if k else ''}>"
        + "".join(heat_map(values, run.class_names, f"{SPACES[space]}, {stage}") for stage, values in stages)
        + "</div>"
        for k, (space, stages) in enumerate(shown.items())
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
    for metric in sorted(metrics, key=lambda name: name == LINEAR_CKA):
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
            charts.append(line_chart(lines, label_of(metric), "layer, from input to output", x_names=names))
    drawn = figures(charts)
    if drawn and len(run) > SAMPLES:
        drawn += note(f"Of the first {SAMPLES:,} of the images.")
    return section("depth", "Through the layers", sentences.on_depth(run) + drawn if drawn else "")


def training(run: RunData) -> str:
    if not run.history:
        return ""
    epochs = [row["epoch"] for row in run.history]
    charts = [
        line_chart(
            [
                Line("training", "before", epochs, [row[training] for row in run.history]),
                Line("test", "after", epochs, [row[test] for row in run.history]),
            ],
            title,
            "epoch",
            whole=True,
        )
        for training, test, title in (
            (LOSS, TEST_LOSS, "Cross-entropy loss"),
            (ACCURACY, TEST_ACCURACY, "Accuracy"),
        )
    ]
    metrics = LOSS, ACCURACY, TEST_LOSS, TEST_ACCURACY
    head = ["Epoch", *(metric.label for metric in metrics)]
    rows = [[f"{row['epoch']:.0f}", *(f"{row[m]:.4f}" for m in metrics)] for row in run.history]
    told = lagging(run.history, run.config.get("batch_norm", "keras"))
    body = figures(charts) + (note(told) if told else "") + details("Every epoch", table(head, rows))
    return section("training", "Training", body)


def all_scores(run: RunData) -> str:
    """Every number, and what each metric is."""
    if not run.scores:
        return ""
    rows = [
        [
            s.stage,
            SPACES.get(s.space, s.space),
            label_of(s.metric),
            number(s.value),
            maybe(s.low),
            maybe(s.high),
        ]
        for s in run.scores
    ]
    held = table(["Stage", "Space", "Metric", "value", "low", "high"], rows, texts=3)
    body = details(f"{len(rows)} numbers, as in scores.csv", held)
    measured = {score.metric for score in run.scores} | {row["metric"] for row in run.layers}
    known = [metric for metric in METRICS.values() if metric in measured]
    if known:
        told = [[m.label, m.sentence, m.range, _BETTER[m.better]] for m in known]
        body += details(
            "What each metric is", table(["Metric", "What it is", "Range", "Better"], told, texts=4)
        )
    return section("scores", "Every number", body)
