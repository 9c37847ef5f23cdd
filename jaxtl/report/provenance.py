"""Where a run's numbers come from: its time, its settings, its command line, its sources."""

from __future__ import annotations

import shlex
from dataclasses import fields
from html import escape
from typing import Any

from jaxtl.plots.maps import NAMES
from jaxtl.report.markup import details, in_words, note, pairs, section
from jaxtl.runs.data import RunData
from jaxtl.settings import RunConfig

BACKENDS = {
    "sklearn": "scikit-learn",
    "opentsne": "openTSNE",
    "cuml": "cuML",
    "jaxtl": "jaxtl",
}

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
        f"<tr><th scope='row'>{escape(_stage_name(name))}</th><td class='n'>{value:,.1f}</td>"
        f"<td class='share'><i style='width:{100 * value / longest:.1f}%'></i></td></tr>"
        for name, value in seconds.items()
    )
    if whole := run.timings.get("run"):
        rows += f"<tr class='sum'><th scope='row'>The run</th><td class='n'>{whole:,.1f}</td><td></td></tr>"
    peak = run.timings.get("peak_memory_gib")
    memory = note(f"Peak memory {peak:,.2f} GiB.") if peak else ""
    head = "<tr><th>Step</th><th class='n'>seconds</th><th></th></tr>"
    table = f"<table class='times'><thead>{head}</thead><tbody>{rows}</tbody></table>"
    beside = note("Steps that do not need each other are done at the same time.")
    return section("timings", "Where the time went", table + beside + memory)


def _stage_name(name: str) -> str:
    known = {
        "trunk_test": "Frozen layers, test images", "trunk_training": "Frozen layers, training images",
        "before": "Features before", "after": "Features after", "finetune": "Fine-tuning",
        "scores": "Scores", "figures": "Figures",
    }  # fmt: skip
    method, _, stage = name.rpartition("_")
    return known.get(name) or (f"{NAMES[method]} {stage}" if method in NAMES else name.replace("_", " "))


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
            f"{NAMES.get(method, method)} {stage}, by {BACKENDS.get(e.backend, e.backend)}: every parameter",
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
    words = ["jaxtl", "run"]
    for setting in fields(RunConfig):
        value = config.get(setting.name, setting.default)
        value = tuple(value) if isinstance(value, list) else value
        if value == setting.default:
            continue
        name = setting.name.replace("_", "-")
        words += [f"--no-{name}"] if value is False else [f"--{name}"]
        words += [] if isinstance(value, bool) else [_word(value)]
    return shlex.join(words)


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "all" if value is None else repr(value) if isinstance(value, float) else str(value)


_SOURCES = {
    "network": (
        "M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen: MobileNetV2: Inverted residuals and linear "
        "bottlenecks. CVPR 2018.",
        "10.1109/CVPR.2018.00474",
    ),
    "imagenet": (
        "O. Russakovsky et al.: ImageNet large scale visual recognition challenge. International Journal of "
        "Computer Vision 115, 2015.",
        "10.1007/s11263-015-0816-y",
    ),
    "mnist": (
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document "
        "recognition. Proceedings of the IEEE 86, 1998.",
        "10.1109/5.726791",
    ),
    "tsne": (
        "L. van der Maaten, G. Hinton: Visualizing data using t-SNE. Journal of Machine Learning Research 9, "
        "2008.",
        "",
    ),
    "opentsne": (
        "P. G. Poličar, M. Stražar, B. Zupan: openTSNE: A modular Python library for t-SNE dimensionality "
        "reduction and embedding. Journal of Statistical Software 109, 2024.",
        "10.18637/jss.v109.i03",
    ),
    "lle": (
        "S. T. Roweis, L. K. Saul: Nonlinear dimensionality reduction by locally linear embedding. Science "
        "290, 2000.",
        "10.1126/science.290.5500.2323",
    ),
    "cuml": (
        "S. Raschka, J. Patterson, C. Nolet: Machine learning in Python: Main developments and technology "
        "trends in data science, machine learning, and artificial intelligence. Information 11, 2020.",
        "10.3390/info11040193",
    ),
    "pca": (
        "K. Pearson: On lines and planes of closest fit to systems of points in space. Philosophical "
        "Magazine 2, 1901.",
        "10.1080/14786440109462720",
    ),
}

# By a word of the measure's name in scores.csv.
_MEASURES = {
    "silhouette": (
        "P. J. Rousseeuw: Silhouettes: a graphical aid to the interpretation and validation of cluster "
        "analysis. Journal of Computational and Applied Mathematics 20, 1987.",
        "10.1016/0377-0427(87)90125-7",
    ),
    "Davies-Bouldin": (
        "D. L. Davies, D. W. Bouldin: A cluster separation measure. IEEE Transactions on Pattern Analysis "
        "and Machine Intelligence 1, 1979.",
        "10.1109/TPAMI.1979.4766909",
    ),
    "Calinski-Harabasz": (
        "T. Caliński, J. Harabasz: A dendrite method for cluster analysis. Communications in Statistics 3, "
        "1974.",
        "10.1080/03610927408827101",
    ),
    "k-means ARI": (
        "L. Hubert, P. Arabie: Comparing partitions. Journal of Classification 2, 1985.",
        "10.1007/BF01908075",
    ),
    "trustworthiness": (
        "J. Venna, S. Kaski: Neighborhood preservation in nonlinear projection methods: an experimental "
        "study. ICANN 2001.",
        "10.1007/3-540-44668-0_68",
    ),
    "Q_NX AUC": (
        "J. A. Lee, D. H. Peluffo-Ordóñez, M. Verleysen: Multi-scale similarities in stochastic neighbour "
        "embedding: Reducing dimensionality while preserving both local and global structure. Neurocomputing "
        "169, 2015.",
        "10.1016/j.neucom.2014.12.095",
    ),
    "linear CKA": (
        "S. Kornblith, M. Norouzi, H. Lee, G. Hinton: Similarity of neural network representations "
        "revisited. ICML 2019.",
        "",
    ),
    "effective rank": (
        "O. Roy, M. Vetterli: The effective rank: a measure of effective dimensionality. EUSIPCO 2007.",
        "",
    ),
    "intrinsic dimension": (
        "E. Facco, M. d'Errico, A. Rodriguez, A. Laio: Estimating the intrinsic dimension of datasets by a "
        "minimal neighborhood information. Scientific Reports 7, 2017.",
        "10.1038/s41598-017-11873-y",
    ),
    "Hoyer sparsity": (
        "P. O. Hoyer: Non-negative matrix factorization with sparseness constraints. Journal of Machine "
        "Learning Research 5, 2004.",
        "",
    ),
    "LogME": (
        "K. You, Y. Liu, J. Wang, M. Long: LogME: Practical assessment of pre-trained models for transfer "
        "learning. ICML 2021.",
        "",
    ),
    "H-score, shrunk": (
        "S. Ibrahim, N. Ponomareva, R. Mazumder: Newer is not always better: Rethinking transferability "
        "metrics, their peculiarities, stability and performance. ECML PKDD 2022.",
        "10.1007/978-3-031-26387-3_42",
    ),
}


def citations(run: RunData) -> str:
    """The sources of what this run used, and of no more."""
    used = ["network"]
    used += ["imagenet"] if not run.config.get("weights") else []
    used += ["mnist"] if run.config.get("dataset") == "mnist" else []
    for method in run.methods:
        used += [method] if method in _SOURCES else []
    backends = {embedding.backend for embedding in run.embeddings.values()}
    used += [name for name in ("opentsne", "cuml") if name in backends]
    measured = {score.metric for score in run.scores}
    works = [_SOURCES[name] for name in used] + [_MEASURES[name] for name in _MEASURES if name in measured]
    items = "".join(f"<li>{escape(text)}{_doi(doi)}</li>" for text, doi in works)
    return section("sources", "Sources", f"<ol class='works'>{items}</ol>")


def _doi(doi: str) -> str:
    return f" <a href='https://doi.org/{doi}'>doi:{doi}</a>" if doi else ""
