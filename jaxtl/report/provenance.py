"""Where a run's numbers come from: its time, its settings, its command line, its sources."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, fields
from html import escape
from typing import Any

from jaxtl.evaluation import sources
from jaxtl.evaluation.catalogue import METRICS
from jaxtl.methods import METHODS, library_label, method_label
from jaxtl.report.markup import Html, Section, details, in_words, note, pairs, table, unique
from jaxtl.runs.data import RunData
from jaxtl.runs.formats import COMPARISON
from jaxtl.settings import MODELS, STAGES, USUAL_PREPROCESSING, ComparisonConfig, RunConfig

# What follows from the files that are compared.
_NO_OPTION = ("classes", "training")
# What a run's record of seconds holds beside those of its steps.
_NO_STEP = ("run", "peak_memory_gib")
# As the terminal calls them.
_STEPS = {
    "trunk_test": "Frozen layers, test images",
    "trunk_training": "Frozen layers, training images",
    "finetune": "Fine-tuning",
    "reseeded": "t-SNE before, another seed",
    "layers": "Depth profile",
    "scores_change": "Scores of the change",
    "scores": "Claims",
    **{stage: f"Features {stage}" for stage in STAGES},
}
# Those of a stage, by what stands before it.
_OF_STAGES = {
    "neighbors": "Nearest neighbours",
    "training_features": "Features of training images",
    "layers": "Depth profile",
    "scores_features": "Scores of features",
    "scores_embeddings": "Scores of maps",
    "figure": "Figure",
}
_OF_METHODS = {"free": "after, not from the map before"}


def timings(run: RunData) -> Section:
    seconds = {
        name: v for name, v in run.timings.items() if name not in _NO_STEP and isinstance(v, int | float)
    }
    body = _times(seconds, run) if seconds else ""
    return Section("timings", "Where the time went", body)


def _times(seconds: dict[str, float], run: RunData) -> str:
    longest = max(seconds.values()) or 1.0
    rows = [[step_title(name), _seconds(value, longest)] for name, value in seconds.items()]
    if whole := run.timings.get("run"):
        rows.append(["The whole run", f"{whole:,.1f}"])
    body = table(["Step", "seconds"], rows)
    told = "Steps that do not need each other ran at the same time."
    peak = run.timings.get("peak_memory_gib")
    return body + note(told + (f" Most memory in use: {peak:,.2f} GiB." if peak else ""))


def _seconds(value: float, longest: float) -> Html:
    share = 100 * value / longest
    return Html(f"{value:,.1f}<span class='share'><i style='width:{share:.1f}%'></i></span>")


def step_title(name: str) -> str:
    """A step by its name alone, as in the terminal: runs of other versions may have other steps."""
    if name in _STEPS:
        return _STEPS[name]
    first, _, last = name.rpartition("_")
    if first in METHODS:
        return f"{method_label(first)} {_OF_METHODS.get(last, last)}"
    if first in _OF_STAGES:
        return f"{_OF_STAGES[first]} {last}"
    return name.replace("_", " ").capitalize()


def repeat(run: RunData) -> Section:
    """The command, the settings, and what they were run on."""
    version = str(run.environment.get("jaxtl", ""))
    same = "the same run" if run.config.get("deterministic") else "the same run, up to rounding,"
    text = f"<p>This command makes {same} with jaxtl {escape(version)}:</p>" if version else ""
    text += f"<pre class='command'><code>{escape(command(run.config))}</code></pre>"
    digests = ("digest", "weights_digest")
    settings = pairs({k: in_words(k, v) for k, v in run.config.items() if k not in digests})
    settings += pairs({k: v for k, v in run.config.items() if k in digests})
    environment = {k: v for k, v in run.environment.items() if k != "versions"}
    environment |= run.environment.get("versions") or {}
    maps = "".join(
        details(
            f"{method_label(method)} {stage}, computed by {library_label(e.backend)}: every parameter",
            pairs({**e.params, **e.diagnostics}),
        )
        for (stage, method), e in run.embeddings.items()
    )
    return Section(
        "repeat",
        "How to repeat it",
        f"{text}<div class='two'><div><h3>Settings</h3>{settings}</div>"
        f"<div><h3>Environment</h3>{pairs(environment)}</div></div>{maps}",
    )


def command(config: dict[str, Any]) -> str:
    """The command line that makes a run with these settings; defaults are left out."""
    words, kind = ["jaxtl", "run"], RunConfig
    if config.get("kind") == COMPARISON:
        words, kind = ["jaxtl", "compare", str(config["before"]), str(config["after"])], ComparisonConfig
        words += ["--training-features", "TRAINING_BEFORE", "TRAINING_AFTER"] if config["training"] else []
    # Which weights may decide, so that it is recorded even where the user said nothing.
    usual = None if config.get("weights") else USUAL_PREPROCESSING
    for setting in fields(kind):
        if setting.default is MISSING or setting.name in _NO_OPTION:
            continue
        value = config.get(setting.name, setting.default)
        value = tuple(value) if isinstance(value, list) else value
        if value == (usual if setting.name == "preprocessing" else setting.default):
            continue
        name = setting.name.replace("_", "-")
        words += [f"--no-{name}"] if value is False else [f"--{name}"]
        words += [] if isinstance(value, bool) else [_word(value)]
    return shlex.join(words)


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "all" if value is None else repr(value) if isinstance(value, float) else str(value)


# The paper of each network, by its name in `MODELS`.
NETWORKS = {
    "mobilenet_v2": sources.SANDLER,
    **{name: sources.HE for name in MODELS if name.startswith("resnet")},
}
_METHODS = {
    "pca": sources.PEARSON,
    "tsne": sources.VAN_DER_MAATEN_HINTON,
    "lle": sources.ROWEIS_SAUL,
}
_LIBRARIES = {
    "opentsne": (sources.POLICAR,),
    "intelex": (sources.VAN_DER_MAATEN, sources.POLICAR),
    "cuml": (sources.RASCHKA,),
}


def citations(run: RunData) -> Section:
    """The sources of what this run used, and of no more."""
    works = [NETWORKS[run.model]] if not run.is_comparison and run.model in NETWORKS else []
    works += [] if run.is_comparison or run.config.get("weights") else [sources.RUSSAKOVSKY]
    works += [sources.LECUN] if "mnist" in (run.config.get("dataset"), run.config.get("name")) else []
    works += [_METHODS[method] for method in run.methods if method in _METHODS]
    libraries = {embedding.backend for embedding in run.embeddings.values()}
    works += [work for library, own in _LIBRARIES.items() if library in libraries for work in own]
    measured = {score.metric for score in run.scores} | {row["metric"] for row in run.layers}
    works += [work for metric in METRICS.values() if metric in measured for work in metric.sources]
    items = "".join(f"<li>{escape(work.text)}{_doi(work.doi)}</li>" for work in unique(works))
    return Section("sources", "Sources", f"<ol class='works'>{items}</ol>")


def _doi(doi: str) -> str:
    return f" <a href='https://doi.org/{doi}'>doi:{doi}</a>" if doi else ""
