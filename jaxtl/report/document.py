"""The page put together: one HTML file with its style, its program and its data within."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from jaxtl.errors import JaxtlError
from jaxtl.records.files import write_text
from jaxtl.report import change, opening, provenance, sections, several, stills, terms, verdicts
from jaxtl.report.markup import Section
from jaxtl.report.payload import payload
from jaxtl.report.program import program
from jaxtl.runs.data import RunData, load_run
from jaxtl.runs.folder import RunFolder
from jaxtl.settings import STAGES

# The one library that is published as a module only.
_MODULE_EXPORTS = "export { globalPubSub, createPubSub };\nexport default createPubSub;"
_STYLES = ("page.css", "maps.css")
# What page.html holds itself: in the list of contents, the maps stand between what changed and the rest.
_MAPS = Section("maps", "The maps", "in page.html")
_BELOW_MAPS = (
    verdicts.claims,
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
    shown = [load_run(run) for run in runs]
    for run, data in zip(runs, shown, strict=True):
        methods = data.config.get("methods", ())
        run.check_there(
            [*(run.embeddings[stage, method] for method in methods for stage in STAGES), run.scores]
        )
    write_text(path, build_page(shown))


def build_page(runs: Sequence[RunData], title: str = "", first: Sequence[Section] = ()) -> str:
    """One run, or several to compare, as HTML that needs no network and no other file.

    What changed comes first: a number before and after, the images that were fixed and broken. The maps,
    which are interactive, follow, then claims, charts, settings and sources. What the runs do not hold is
    left out. Of several runs the page begins with how they differ.

    Args:
        runs: at least one; the first is shown first.
        title: of the page; by default made of the runs.
        first: sections that stand before all others, with ids of their own.

    Raises:
        JaxtlError: no runs.
    """
    if not runs:
        raise JaxtlError("report: needs at least one run folder")
    shared = [*first, several.seeds(runs), several.comparison(runs)]
    title = title or _title(runs)
    changes = [change.change(run, place) for place, run in enumerate(runs)]
    below = [[make(run) for make in _BELOW_MAPS] for run in runs]
    firsts = [
        _heading(run, len(runs) + len(first))
        + opening.first_screen(run, place)
        + _contents([*shared, changes[place], _MAPS, *below[place]], place, shared)
        + opening.lead(run)
        + _no_images(run)
        + changes[place].html(place)
        for place, run in enumerate(runs)
    ]
    text = {
        "title": escape(title),
        "comparison": _comparison(title, shared),
        "above": _by_run(firsts),
        "stills": _by_run([_stills(run) for run in runs], kind="stills"),
        "below": _by_run(["".join(s.html(place) for s in own) for place, own in enumerate(below)]),
    }
    parts = {
        **text,
        "style": "\n".join(map(_asset, _STYLES)),
        "switch": _switch(runs),
        "explanations": terms.explanations("".join(text.values())),
        "version": escape(str(runs[0].environment.get("jaxtl", ""))),
        "licences": escape(_asset("vendor/LICENSES.txt")),
        "data": payload(list(runs)),
        "libraries": "\n".join(f"<script>{text}</script>" for text in _libraries()),
        "program": program(),
    }
    return _filled(_asset("page.html"), parts)


def _filled(page: str, parts: dict[str, str]) -> str:
    """In pieces, not by replacement one after another: data that hold a marker must stay as they are."""
    pieces = page.split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [parts[name], rest]
    return "".join(filled)


def _title(runs: Sequence[RunData]) -> str:
    if len(runs) == 1:
        return opening.title(runs[0])
    return f"{len(runs)} runs compared: {', '.join(run.name for run in runs)}"


def _heading(run: RunData, runs: int) -> str:
    """Of several runs, the page has its title above them."""
    if runs == 1:
        return f"<h1>{escape(opening.title(run))}</h1>"
    return f"<h2>{escape(f'{run.name}: {opening.title(run)}')}</h2>"


def _comparison(title: str, shared: Sequence[Section]) -> str:
    if not any(section.body for section in shared):
        return ""
    return f"<h1>{escape(title)}</h1>" + "".join(section.html() for section in shared)


def _contents(shown: Sequence[Section], place: int, of_all: Sequence[Section]) -> str:
    """Links to all sections of a run; those that all runs share have one id."""
    shared = {*(section.name for section in of_all), _MAPS.name}
    ids = {section.id(0 if section.name in shared else place): section for section in shown if section.body}
    items = "".join(
        f"<li><a href='#{id_}'>{escape(section.heading)}</a></li>" for id_, section in ids.items()
    )
    label = f"Contents, run {place + 1}" if place else "Contents"
    return f"<nav class='contents' aria-label='{label}'><ul>{items}</ul></nav>"


def _by_run(parts: Sequence[str], kind: str = "run") -> str:
    """What belongs to each run, hidden for all but the first until their run is chosen."""
    return "".join(
        f"<div class='{kind}' data-run='{place}'{' hidden' if place else ''}>{part}</div>"
        for place, part in enumerate(parts)
    )


def _stills(run: RunData) -> str:
    """Pictures of all maps, which the script replaces by maps that can be explored."""
    return "".join(stills.still(run, stage, method) for stage in STAGES for method in run.methods)


def _no_images(run: RunData) -> str:
    if run.images is not None or run.is_comparison:
        return ""
    fault = run.images_fault or "the run has none"
    return f"<p class='quiet'>{escape(f'Images are not shown: {fault}.')}</p>"


def _switch(runs: Sequence[RunData]) -> str:
    if len(runs) < 2:
        return f"<span class='run-name'>{escape(runs[0].name)}</span>"
    options = "".join(f"<option value='{k}'>{escape(run.name)}</option>" for k, run in enumerate(runs))
    return f"<label class='run-name needs-script'>Run <select id='run'>{options}</select></label>"


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
