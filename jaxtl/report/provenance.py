"""Where a run's numbers come from: its time, its settings, its command line, its sources."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, fields
from html import escape
from typing import Any

from jaxtl.evaluation import sources
from jaxtl.evaluation.catalogue import METRICS
from jaxtl.methods import METHODS, library_label, method_label
from jaxtl.report.markup import details, in_words, note, pairs, section, unique
from jaxtl.runs.data import RunData
from jaxtl.runs.formats import COMPARISON
from jaxtl.settings import MODELS, STAGES, USUAL_PREPROCESSING, ComparisonConfig, RunConfig

# What follows from the files that are compared.
_NO_OPTION = ("classes", "training")
# What a run's record of seconds holds beside those of its steps.
_NO_STEP = ("run", "peak_memory_gib")


def timings(run: RunData) -> str:
    seconds = {
        name: v for name, v in run.timings.items() if name not in _NO_STEP and isinstance(v, int | float)
    }
    if not seconds:
        return ""
    longest = max(seconds.values()) or 1.0
    rows = "".join(
        f"<tr><th scope='row'>{escape(_step_title(name))}</th><td class='n'>{value:,.1f}</td>"
        f"<td class='share'><i style='width:{100 * value / longest:.1f}%'></i></td></tr>"
        for name, value in seconds.items()
    )
    if whole := run.timings.get("run"):
        rows += f"<tr class='sum'><th scope='row'>The run</th><td class='n'>{whole:,.1f}</td><td></td></tr>"
    peak = run.timings.get("peak_memory_gib")
    memory = note(f"Peak memory {peak:,.2f} GiB.") if peak else ""
    head = "<tr><th>Step</th><th class='n'>seconds</th><td></td></tr>"
    table = f"<table class='times'><thead>{head}</thead><tbody>{rows}</tbody></table>"
    beside = note("Steps that do not need each other are done at the same time.")
    return section("timings", "Where the time went", table + beside + memory)


def _step_title(name: str) -> str:
    """A step by its name alone: runs of other versions have other steps."""
    method, _, stage = name.rpartition("_")
    if method in METHODS:
        return f"{method_label(method)} {stage}"
    return f"Features {name}" if name in STAGES else name.replace("_", " ").capitalize()


def repeat(run: RunData) -> str:
    """The command, the settings, and what they were run on."""
    version = str(run.environment.get("jaxtl", ""))
    text = f"<p>With jaxtl {escape(version)}:</p>" if version else ""
    text += f"<pre class='command'><code>{escape(command(run.config))}</code></pre>"
    digests = ("digest", "weights_digest")
    settings = pairs({k: in_words(k, v) for k, v in run.config.items() if k not in digests})
    settings += pairs({k: v for k, v in run.config.items() if k in digests})
    environment = {k: v for k, v in run.environment.items() if k != "versions"}
    environment |= run.environment.get("versions") or {}
    maps = "".join(
        details(
            f"{method_label(method)} {stage}, by {library_label(e.backend)}: every parameter",
            pairs({**e.params, **e.diagnostics}),
        )
        for (stage, method), e in run.embeddings.items()
    )
    return section(
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


_NETWORKS = {name: sources.HE if name.startswith("resnet") else sources.SANDLER for name in MODELS}
_METHODS = {
    "pca": sources.PEARSON,
    "tsne": sources.VAN_DER_MAATEN_HINTON,
    "lle": sources.ROWEIS_SAUL,
}
_LIBRARIES = {"opentsne": sources.POLICAR, "cuml": sources.RASCHKA}


def citations(run: RunData) -> str:
    """The sources of what this run used, and of no more."""
    works = [_NETWORKS[run.model]] if not run.is_comparison and run.model in _NETWORKS else []
    works += [] if run.is_comparison or run.config.get("weights") else [sources.RUSSAKOVSKY]
    works += [sources.LECUN] if "mnist" in (run.config.get("dataset"), run.config.get("name")) else []
    works += [_METHODS[method] for method in run.methods if method in _METHODS]
    libraries = {embedding.backend for embedding in run.embeddings.values()}
    works += [work for library, work in _LIBRARIES.items() if library in libraries]
    measured = {score.metric for score in run.scores} | {row["metric"] for row in run.layers}
    works += [work for metric in METRICS.values() if metric in measured for work in metric.sources]
    items = "".join(f"<li>{escape(work.text)}{_doi(work.doi)}</li>" for work in unique(works))
    return section("sources", "Sources", f"<ol class='works'>{items}</ol>")


def _doi(doi: str) -> str:
    return f" <a href='https://doi.org/{doi}'>doi:{doi}</a>" if doi else ""
