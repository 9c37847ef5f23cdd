"""A sweep as a page: what to take from it, the table, the picture; then its runs side by side."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from jaxtl.costs.words import duration
from jaxtl.metrics.estimates import Estimate
from jaxtl.plots.style import save
from jaxtl.records.files import write_text
from jaxtl.report.document import build_page
from jaxtl.report.markup import Html, Section, bounded, note, table
from jaxtl.runs.data import RunData, load_run
from jaxtl.runs.folder import SweepFolder, run_folders
from jaxtl.sweeps import choice, tables
from jaxtl.sweeps.plots import sweep_figure
from jaxtl.sweeps.rows import NEAREST, TESTED, SweepRow, label

# Runs beside each other at most: of more columns nobody sees two together.
MOST_RUNS = 8


def draw(folder: SweepFolder, rows: Sequence[SweepRow], images: int) -> None:
    """The picture and the page of a sweep, to their files; see `write_page`."""
    figure = sweep_figure(rows)
    for file in folder.figures:
        save(figure, file.path)
    write_page(folder, rows, images)


def write_page(folder: SweepFolder, rows: Sequence[SweepRow], images: int) -> None:
    """The page of a sweep, of which one combination at least is done.

    Raises JaxtlError where files of its runs are damaged.
    """
    shown = _shown(rows)
    runs = [_run(folder, row, rows) for row in shown]
    title = f"{len(rows)} combinations compared: what to train"
    sections = [_answer(rows, images), _picture(folder), _combinations(folder, rows, len(shown))]
    write_text(folder.report.path, build_page(runs, title, sections))


def _shown(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """The runs to put side by side: the best, the cheapest as good, the next best; in the sweep's order."""
    done = [row for row in rows if row.is_done]
    first = [choice.best(rows), choice.cheapest(rows)]
    rest = sorted(done, key=lambda row: -(row.test_accuracy.value if row.test_accuracy else 0.0))
    names = list(dict.fromkeys(row.name for row in (*first, *rest) if row is not None))[:MOST_RUNS]
    return [row for row in done if row.name in names]


def _run(folder: SweepFolder, row: SweepRow, rows: Sequence[SweepRow]) -> RunData:
    """The run of a combination's first seed, under the combination's name."""
    return replace(load_run(run_folders(folder.run_of(row.name).path)[0]), name=label(row, rows))


def _answer(rows: Sequence[SweepRow], images: int) -> Section:
    said = choice.words(rows, images)
    text = "".join(f"<p class='finding'>{escape(sentence)}</p>" for sentence in said)
    told = note(
        "Two combinations can be told apart where the 95 % interval of their difference, image by image and "
        "seed by seed, does not hold 0. Each interval is of its own comparison: among many combinations one "
        "or the other comes out best by chance."
    )
    return Section("answer", "What to train", text + told if said else "")


def _picture(folder: SweepFolder) -> Section:
    path = next(file.path for file in folder.figures if file.path.suffix == ".svg")
    data = base64.b64encode(path.read_bytes()).decode()
    alt = "Test accuracy, seconds and memory of every combination against the number of parameters that learn"
    return Section(
        "picture",
        "Accuracy and cost against what learns",
        f"<div class='wide' tabindex='0' role='group' aria-label='Picture'>"
        f"<img class='figure' alt='{alt}' src='data:image/svg+xml;base64,{data}'></div>",
    )


def _combinations(folder: SweepFolder, rows: Sequence[SweepRow], shown: int) -> Section:
    head = [
        "Trained",
        TESTED,
        "behind the best",
        "trained parameters",
        "fine-tuning",
        "whole run",
        "memory",
        "probe before",
        "probe after",
        f"{NEAREST} before",
        f"{NEAREST} after",
    ]
    body = table(head, [_row(folder, row, rows) for row in rows], "All combinations, with 95 % intervals")
    body += "".join(note(line) for line in tables.faults(rows))
    told = (
        "Intervals are over seeds and test images, of one seed over images alone. Seconds are those of one "
        "run, without what the runs share."
    )
    done = sum(row.is_done for row in rows)
    if shown < done:
        told += (
            f" Side by side below: {shown} of {done}, those with the highest accuracy; each has a page of "
            "its own."
        )
    return Section("combinations", "All combinations", body + note(told))


def _row(folder: SweepFolder, row: SweepRow, rows: Sequence[SweepRow]) -> list[str]:
    name = escape(label(row, rows))
    if row.is_done:
        page = folder.run_of(row.name).report.path.relative_to(folder.path).as_posix()
        name = f"<a href='{escape(page)}'>{name}</a>"
    parameters = "–" if row.parameters is None else f"{row.parameters:,}"
    if not row.is_done:
        return [Html(name), row.status, "–", parameters, *["–"] * 7]
    return [
        Html(name),
        _bounded(row.test_accuracy),
        tables.standing(row, rows),
        parameters,
        "–" if row.training_seconds is None else duration(row.training_seconds),
        "–" if row.seconds is None else duration(row.seconds),
        "–" if row.peak_memory_gib is None else f"{row.peak_memory_gib:.1f} GiB",
        *map(_bounded, (row.probe_before, row.probe_after, row.knn_before, row.knn_after)),
    ]


def _bounded(estimate: Estimate | None) -> Html:
    return Html("–") if estimate is None else bounded(*estimate)
