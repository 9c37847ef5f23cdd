"""The text, tables and charts of one run as HTML. Whatever comes from a run is escaped here.

A section whose data are absent has no body.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtl.evaluation.catalogue import (
    ACCURACY,
    CHANGE,
    DIAGNOSTICS,
    EXPLAINED_VARIANCE,
    FAITHFULNESS,
    FREE_TRUSTWORTHINESS,
    H_SCORE,
    LINEAR_CKA,
    LOG_ME,
    LOSS,
    METRICS,
    N_NEIGHBORS,
    PROMISES,
    TEST_ACCURACY,
    TEST_LOSS,
    TRANSFERABILITY,
    label_of,
)
from jaxtl.evaluation.depth import SAMPLES
from jaxtl.evaluation.outcome import lagging
from jaxtl.methods import method_label
from jaxtl.records.tables import Score
from jaxtl.report import sentences
from jaxtl.report.change import SPACES, accuracies
from jaxtl.report.charts import Line, heat_map, line_chart
from jaxtl.report.markup import (
    Section,
    details,
    figures,
    interval,
    maybe,
    note,
    number,
    table,
    unique,
    value_of,
)
from jaxtl.report.opening import test_accuracy
from jaxtl.report.terms import BETTER, reason, term
from jaxtl.runs.data import RunData
from jaxtl.settings import STAGES

# What a map keeps of the features, and what of itself under another seed.
_FAITHFULNESS = (*FAITHFULNESS, FREE_TRUSTWORTHINESS)
_MOST_CLASSES = 40  # for tables and heat maps; with more, the page points to the files
_HOW_TO_READ = (
    "<p class='quiet'><span class='on-screen'>Click a name for its explanation. </span>↑: higher is better. "
    "↓: lower is better. No arrow: neither is better.</p>"
)


def separation(run: RunData) -> Section:
    """How far apart the classes lie in every space, and what the features are like as a whole."""
    spaces = [space for space in SPACES if space == "features" or space in run.methods]
    columns = [(stage, space) for space in spaces for stage in STAGES]
    known = {*_FAITHFULNESS, *CHANGE, *accuracies(run)}
    own = (s for s in run.scores if s.space in run.methods and s.stage in STAGES)
    metrics = unique(score.metric for score in own if score.metric not in known)
    head = ["Measure", *(f"{SPACES[space]} {stage}" for stage, space in columns)]
    rows = [
        [term(metric, arrow=True), *(_value(run.score(*at, metric)) for at in columns)] for metric in metrics
    ]
    body = table(head, rows, "How far apart the classes lie in the features and in each map") if rows else ""
    body += _as_a_whole(run, {*known, *metrics, *TRANSFERABILITY})
    if body:
        text = (
            "<p>Classes that lie apart are easy to tell apart. A map may show a wider gap than the features "
            "have, or a narrower one: compare its columns with those of the features.</p>"
        )
        told = note("Intervals that are not shown here are under “Every number”.")
        body = (text if rows else "") + body + _HOW_TO_READ + told
    heading = "How far apart the classes lie" if metrics else "What the features are like"
    return Section("separation", heading, body)


def _as_a_whole(run: RunData, elsewhere: set[str]) -> str:
    """What the features are like, whatever the classes."""
    held = [s for s in run.scores if s.space == "features" and s.stage in STAGES]
    rows = [
        [term(metric, arrow=True), *(interval(run.score(stage, "features", metric)) for stage in STAGES)]
        for metric in unique(score.metric for score in held if score.metric not in elsewhere)
    ]
    head = ["Measure", *STAGES]
    return table(head, rows, "The features as a whole") if rows else ""


def _value(score: Score | None) -> str:
    return "–" if score is None else value_of(score.metric, score.value)


def transferability(run: RunData) -> Section:
    """What was said of the features before training, beside what training then gave."""
    promised = [(metric, run.score("before", "features", metric)) for metric in PROMISES]
    rows = [
        [term(metric, arrow=True), "before training", interval(score)] for metric, score in promised if score
    ]
    accuracy, body = test_accuracy(run), ""
    if rows and accuracy:
        rows.append([term(TEST_ACCURACY, arrow=True), "after training", f"{accuracy[0]:.3f}"])
        told = note(
            f"{LOG_ME.short} and {H_SCORE.short} are meant to rank several networks, or several settings, "
            "for one task: one value alone says little. To see whether their order agrees with that of the "
            "accuracies, put runs side by side: jaxtl report RUN1 RUN2. The probes are linear classifiers: "
            "they were trained on the features of the training images before fine-tuning, and tested on the "
            "test images."
        )
        body = table(["Measure", "known", "value"], rows, texts=2) + told
    return Section("transferability", "What the features promised, and what training gave", body)


def faithfulness(run: RunData) -> Section:
    """How well each map keeps the neighbourhoods and distances of the features."""
    columns = [
        (stage, method) for method in run.methods for stage in STAGES if (stage, method) in run.embeddings
    ]
    held = {s.metric for s in run.scores if s.space in run.methods}
    metrics = [metric for metric in _FAITHFULNESS if metric in held]
    head = ["Measure", *(f"{method_label(method)} {stage}" for stage, method in columns)]
    rows = [
        [term(metric, arrow=True), *(interval(run.score(*at, metric)) for at in columns)]
        for metric in metrics
    ]
    rows += _own_words(run, columns)
    text = (
        "<p>A flat map cannot keep all the distances of many dimensions: each leaves something out. What "
        "follows says how much of the features each map keeps.</p>"
    )
    if "tsne" in run.methods:
        text += (
            "<p>In a t-SNE map only neighbourhoods can be read. Gaps may be drawn where the features have "
            "none; the size of a cluster and the distance between two clusters mean nothing.</p>"
        )
    if not metrics:
        text += note(
            "This run has no scores of how faithful its maps are, only the methods' own diagnostics."
        )
    body = text + sentences.on_trust(run, columns)
    body += (table(head, rows, "What each map keeps of the features") + _HOW_TO_READ) if rows else ""
    return Section("faithfulness", "How far to trust the maps", body + _scales(run))


def _own_words(run: RunData, columns: Sequence[tuple[str, str]]) -> list[list[str]]:
    """What the methods say of their own results."""
    rows = []
    variance = [run.embeddings[at].diagnostics.get("explained_variance_ratio") for at in columns]
    if any(variance):
        shown = (number(sum(shares)) if shares else "–" for shares in variance)
        rows.append([term(EXPLAINED_VARIANCE, arrow=True), *shown])
    for name, metric in DIAGNOSTICS.items():
        values = [run.embeddings[at].diagnostics.get(name) for at in columns]
        if any(value is not None for value in values):
            shown = ("–" if value is None else number(value) for value in values)
            rows.append([term(metric, arrow=True), *shown])
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
            title = f"{method_label(method)}: neighbours kept"
            charts.append(line_chart(lines, title, "number of neighbours k", log_x=True))
    if not charts:
        return ""
    return figures(charts) + note(
        "For each number k: the share of an image's k nearest neighbours in the features that are among its "
        "k nearest in the map. On the left immediate neighbours, on the right the map as a whole."
    )


def classes(run: RunData) -> Section:
    """Per-class numbers, and whose neighbours are whose."""
    count, heading = len(run.class_names), "Class by class"
    if count > _MOST_CLASSES:
        held = bool(run.class_scores or run.measures)
        told = f"{count} classes are too many to show here: see classes.csv and measures.npz of the run."
        return Section("classes", heading, note(told) if held else "")
    metrics = unique(row["metric"] for row in run.class_scores if row["stage"] in STAGES)
    body = "".join(_class_table(run, metric) for metric in metrics)
    return Section("classes", heading, sentences.on_classes(run) + body + _confusions(run))


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
    return f"<h3>{term(metric, arrow=True)}</h3>" + table(head, lines, f"{label_of(metric)}, by class")


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
        "<h3>Which classes are neighbours</h3>"
        "<div class='choice needs-script' role='group' aria-label='Where neighbours are looked for'>"
        f"{buttons}</div>{panels}"
        + note(
            "A row is the class of an image, a column the class of its neighbour. A cell says how many per "
            f"cent of the {N_NEIGHBORS} nearest neighbours of the row's images are of the column's class. A "
            "full diagonal: neighbours are of one class."
        )
    )


def depth(run: RunData) -> Section:
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
        drawn += note(f"Computed with the first {SAMPLES:,} of the images.")
    return Section("depth", "Through the layers", sentences.on_depth(run) + drawn if drawn else "")


def training(run: RunData) -> Section:
    if not run.history:
        return Section("training", "Training", "")
    epochs = [row["epoch"] for row in run.history]
    charts = [
        line_chart(
            [
                Line("training images", "before", epochs, [row[training] for row in run.history]),
                Line("test images", "after", epochs, [row[test] for row in run.history]),
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
    head = ["Epoch", *(term(metric, arrow=True) for metric in metrics)]
    rows = [[f"{row['epoch']:.0f}", *(f"{row[m]:.4f}" for m in metrics)] for row in run.history]
    told = lagging(run.history, run.config.get("batch_norm", "keras"))
    body = figures(charts) + (note(told) if told else "") + details("Every epoch", table(head, rows))
    return Section("training", "Training", body)


def all_scores(run: RunData) -> Section:
    """Every number, and what each metric is."""
    if not run.scores:
        return Section("scores", "Every number", "")
    rows = [
        [
            label_of(s.metric),
            s.stage,
            SPACES.get(s.space, s.space),
            value_of(s.metric, s.value),
            maybe(s.low),
            maybe(s.high),
        ]
        for s in run.scores
    ]
    held = table(["Measure", "stage", "where", "value", "low", "high"], rows, "All scores", texts=3)
    body = f"<div class='all'>{details(f'{len(rows)} numbers with their 95 % intervals', held)}</div>"
    body += note("scores.csv, in the folder of the run, holds them too.")
    measured = {score.metric for score in run.scores} | {row["metric"] for row in run.layers}
    known = [metric for metric in METRICS.values() if metric in measured]
    if known:
        told = [[m.label, m.sentence, m.range, BETTER[m.better], reason(m)] for m in known]
        head = ["Measure", "what it is", "range", "direction", "why look at it"]
        body += details("What each measure is", table(head, told, "All measures", texts=5))
    return Section("scores", "Every number", body)
