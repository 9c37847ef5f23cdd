"""Tables of a run's numbers and claims for a terminal. Names of metrics are the catalogue's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from jaxtl.costs.forecast import Forecast
from jaxtl.costs.words import duration
from jaxtl.errors import shown
from jaxtl.evaluation.catalogue import (
    DOWN,
    LEAVE_ONE_OUT,
    LINEAR_CKA,
    N_NEIGHBORS,
    UP,
    headed,
    label_of,
)
from jaxtl.methods import method_label
from jaxtl.progress import counted
from jaxtl.records.tables import LayerRow, Score
from jaxtl.settings import STAGES

# Of more epochs than these a screen has no room.
_EPOCHS = 10


def result_tables(
    scores: list[Score], claims: list[dict[str, Any]], width: int, every: bool = False
) -> list[RenderableType]:
    """What a run ends with: its training, its claims and, last, so that they stay in view, its accuracies.

    Where there are no classes to tell, all scores stand for the accuracies.

    Args:
        width: letters of a line.
        every: whether all scores are shown, first.
    """
    classes = any(score.metric == LEAVE_ONE_OUT for score in scores)
    return [
        *([number_table(scores)] if every or not classes else []),
        *([history_table(scores, every)] if any(score.space == "model" for score in scores) else []),
        *([claims_table(claims, width)] if claims else []),
        *([score_table(scores)] if classes else []),
    ]


def score_table(scores: list[Score]) -> Table:
    """The 10-NN accuracy of each space, before and after, with its 95 % interval."""
    accuracies = {(score.space, score.stage): score for score in scores if score.metric == LEAVE_ONE_OUT}
    table = _table(f"{LEAVE_ONE_OUT.label}, with 95 % intervals", ("space",), "before", "after", "gain")
    for space in dict.fromkeys(space for space, _ in accuracies):
        before, after = (accuracies.get((space, stage)) for stage in STAGES)
        gain = f"{after.value - before.value:+.3f}" if before and after else ""
        table.add_row(method_label(space), _with_interval(before), _with_interval(after), gain)
    return table


def number_table(scores: list[Score]) -> Table:
    """Every number but the history's, before and after, with intervals where there are some."""
    by_row = {(score.space, score.metric, score.stage): score for score in scores if score.space != "model"}
    title = f"All scores, with 95 % intervals ({UP} more is better, {DOWN} less is better)"
    table = _table(title, ("space", "metric"), "before", "after")
    for space, metric in dict.fromkeys((space, metric) for space, metric, _ in by_row):
        pair = [_with_interval(by_row.get((space, metric, stage))) for stage in STAGES]
        if both := by_row.get((space, metric, "both")):
            pair = ["", _with_interval(both)]
        table.add_row(method_label(space), headed(metric), *pair)
    return table


def layer_table(rows: list[LayerRow]) -> Table:
    """The profile of a network, one row for the end of each block."""
    values = {(row.layer, row.metric, row.stage): row.value for row in rows}
    metrics = [metric for metric in dict.fromkeys(row.metric for row in rows) if metric != LINEAR_CKA]
    labels = map(label_of, (*metrics, LINEAR_CKA))
    table = _table("At the end of every block, before → after", ("layer",), *labels)
    for layer in dict.fromkeys(row.layer for row in rows):
        pairs = [[values[layer, metric, stage] for stage in STAGES] for metric in metrics]
        cells = [f"{before:.3f} → {after:.3f}" for before, after in pairs]
        table.add_row(shown(layer), *cells, f"{values[layer, LINEAR_CKA, 'both']:.3f}")
    return table


_MARKS = {"holds": ("✓", "green"), "does not hold": ("✗", "red")}
_UNDECIDED = ("?", "yellow")


def claims_table(claims: list[dict[str, Any]], width: int) -> Table:
    """Every claim in a line: verdict, words and number; and what the number is, where there is room."""
    counts = {verdict: sum(c["verdict"] == verdict for c in claims) for verdict in (*_MARKS, "undecided")}
    words = (f"{_mark(verdict)[0]} {verdict} {count}" for verdict, count in counts.items() if count)
    table = Table(
        title=f"Claims: {', '.join(words)}", title_justify="left", box=None, show_header=False, pad_edge=False
    )
    columns = [
        [_mark(claim["verdict"])[0] for claim in claims],
        [shown(claim["text"]) for claim in claims],
        [f"{claim['value']:.3f}" for claim in claims],
        [
            "" if None in (bounds := (c["low"], c["high"])) else "[{:.3f}, {:.3f}]".format(*bounds)
            for c in claims
        ],
        [shown(claim["statistic"]) for claim in claims],
    ]
    widths = [max(map(len, column)) + 2 for column in columns]
    fitting = next((n for n in (5, 4) if sum(widths[:n]) - 2 <= width), 3)
    for number in range(fitting):
        table.add_column(justify="right" if number in (2, 3) else "left", no_wrap=number in (0, 2, 3))
    for row in zip(*columns[:fitting], strict=True):
        table.add_row(Text(row[0], style=_COLOURS.get(row[0], _UNDECIDED[1])), *map(Text, row[1:]))
    return table


_COLOURS = dict(_MARKS.values())


def _mark(verdict: str) -> tuple[str, str]:
    return _MARKS.get(verdict, _UNDECIDED)


def change_line(change: Mapping[str, Any], classifiers: Mapping[str, str], tuned: bool = True) -> str:
    """What became of the images, a sentence or two; empty where the run does not know.

    Args:
        change: `images`, `kept` (share of neighbours, 0 to 1), and by classifier how many images were right,
            fixed, broken and wrong.
        classifiers: by name, in words; the first that the run knows is told of.
        tuned: whether it is fine-tuning that lies between before and after, as far as is known.
    """
    said = []
    if by := next((by for by in classifiers if by in change), None):
        counts = change[by]
        put = (
            f"fine-tuning put {counts['fixed']:,} right and {counts['broken']:,} wrong"
            if tuned
            else f"{counts['fixed']:,} were wrong before and right after, {counts['broken']:,} the reverse"
        )
        said.append(
            f"Of {counted(change['images'], 'image')}, {put}; {counts['wrong']:,} were wrong before and "
            f"after (by {classifiers[by]})."
        )
    if "kept" in change:
        said.append(
            f"On average {N_NEIGHBORS * change['kept']:.1f} of an image's {N_NEIGHBORS} nearest neighbours "
            "were kept."
        )
    return " ".join(said)


def forecast_table(taken: Forecast) -> Table:
    """What each step of a run is expected to add to the time of the whole."""
    table = _table("A run, expected", ("step",), "time")
    for name, seconds in taken.parts:
        table.add_row(name, "unknown" if seconds is None else duration(seconds))
    return table


def history_table(scores: list[Score], every: bool = True) -> Table:
    """Loss and accuracy epoch by epoch; unless `every`, of many epochs the first and the last ones."""
    epochs: dict[str, dict[str, float]] = {}
    for score in scores:
        if score.space == "model":
            epochs.setdefault(score.stage, {})[score.metric] = score.value
    metrics = list(next(iter(epochs.values()), {}))
    table = _table("Fine-tuning", (), "epoch", *map(label_of, metrics))
    left_out = 0 if every or len(epochs) <= _EPOCHS else len(epochs) - _EPOCHS + 1
    for number, (epoch, row) in enumerate(epochs.items()):
        if not 1 <= number <= left_out:
            cells = (f"{row[metric]:.4f}" if metric in row else "" for metric in metrics)
            table.add_row(shown(epoch.removeprefix("epoch ")), *cells)
        elif number == 1:
            table.add_row(*"…" * (1 + len(metrics)))
    return table


def _table(title: str, texts: Sequence[str], *numbers: str) -> Table:
    """Without rows yet; columns of text stand on the left, of numbers on the right."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in texts:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _with_interval(score: Score | None) -> str:
    if score is None:
        return ""
    interval = "" if score.low is None or score.high is None else f" [{score.low:.3f}, {score.high:.3f}]"
    return f"{score.value:.3f}{interval}"
