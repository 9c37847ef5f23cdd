"""The page put together: one HTML file with its style, its program and its data within."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from jaxtl.errors import JaxtlError
from jaxtl.records.files import write_text
from jaxtl.report import opening, provenance, sections, several
from jaxtl.report.payload import payload
from jaxtl.report.program import program
from jaxtl.runs.data import RunData, load_run
from jaxtl.runs.folder import RunFolder
from jaxtl.settings import STAGES

# The one library that is published as a module only.
_MODULE_EXPORTS = "export { globalPubSub, createPubSub };\nexport default createPubSub;"
_ABOVE_MAPS = (opening.lead, opening.key_numbers)
_BELOW_MAPS = (
    opening.claims,
    sections.faithfulness,
    sections.separation,
    sections.classes,
    sections.depth,
    sections.transferability,
    sections.training,
    provenance.timings,
    sections.all_scores,
    provenance.repeat,
    provenance.citations,
)


def write_report(runs: Sequence[RunFolder], path: Path) -> None:
    """The interactive page of one finished run, or of several side by side, as one HTML file.

    Raises JaxtlError where a run is not finished, or its files are damaged.
    """
    shown = [load_run(run.path) for run in runs]
    for run, data in zip(runs, shown, strict=True):
        methods = data.config.get("methods", ())
        run.check_there(
            [*(run.embeddings[stage, method] for method in methods for stage in STAGES), run.scores]
        )
    write_text(path, build_page(shown))


def build_page(runs: Sequence[RunData]) -> str:
    """One run, or several to compare, as HTML that needs no network and no other file.

    Around the maps, which are interactive, stand key numbers, claims, charts, settings and sources; what
    the runs do not hold is left out.

    Args:
        runs: at least one; the first is shown first.

    Raises:
        JaxtlError: no runs.
    """
    if not runs:
        raise JaxtlError("report: needs at least one run folder")
    parts = {
        "title": escape(opening.title(runs[0])),
        "style": _asset("page.css") + _asset("maps.css"),
        "switch": _switch(runs),
        "above": _each(runs, _ABOVE_MAPS, headed=True),
        "comparison": several.seeds(runs) + several.comparison(runs),
        "below": _each(runs, _BELOW_MAPS),
        "version": escape(str(runs[0].environment.get("jaxtl", ""))),
        "licences": escape(_asset("vendor/LICENSES.txt")),
        "data": payload(list(runs)),
        "libraries": "\n".join(f"<script>{text}</script>" for text in _libraries()),
        "program": program(),
    }
    # In pieces, not by replacement one after another: data that hold a marker must stay as they are.
    pieces = _asset("page.html").split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [parts[name], rest]
    return "".join(filled)


def _each(runs: Sequence[RunData], makers: Sequence, headed: bool = False) -> str:
    """The sections of every run, those of all but the first hidden until their run is chosen."""
    return "".join(
        f"<div data-run='{k}'{' hidden' if k else ''}>"
        + (f"<h1>{escape(opening.title(run))}</h1>" if headed else "")
        + "".join(make(run) for make in makers)
        + (_no_images(run) if headed else "")
        + "</div>"
        for k, run in enumerate(runs)
    )


def _no_images(run: RunData) -> str:
    if run.images is not None or run.is_comparison:
        return ""
    fault = run.images_fault or "the run has none"
    return f"<p class='quiet'>{escape(f'Images are not shown: {fault}.')}</p>"


def _switch(runs: Sequence[RunData]) -> str:
    if len(runs) < 2:
        return f"<span class='run-name'>{escape(runs[0].name)}</span>"
    options = "".join(f"<option value='{k}'>{escape(run.name)}</option>" for k, run in enumerate(runs))
    return f"<label class='run-name'>Run <select id='run'>{options}</select></label>"


def _libraries() -> list[str]:
    pubsub = _asset("vendor/pub-sub-es.js")
    if _MODULE_EXPORTS not in pubsub:
        raise AssertionError("pub-sub-es.js exports something else now: adapt _MODULE_EXPORTS")
    pubsub = pubsub.replace(_MODULE_EXPORTS, "globalThis.createPubSub = createPubSub;")
    return [
        f"(() => {{\n{pubsub}\n}})();",
        _asset("vendor/regl.min.js"),
        _asset("vendor/regl-scatterplot.min.js"),
    ]


def _asset(name: str) -> str:
    return resources.files("jaxtl.report").joinpath("page", name).read_text(encoding="utf-8")
