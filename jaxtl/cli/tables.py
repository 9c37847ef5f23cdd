"""Tables of a run's numbers and claims for a terminal. Names of metrics are the catalogue's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from jaxtl.evaluation.catalogue import DOWN, LEAVE_ONE_OUT, LINEAR_CKA, UP, headed, label_of
from jaxtl.methods import method_label
from jaxtl.records.tables import LayerRow, Score
from jaxtl.settings import STAGES


def result_tables(scores: list[Score], claims: list[dict[str, Any]]) -> list[Table]:
    """What a run ends with: what it has of its training, its accuracies, and its claims.

    Where there are no classes to tell, all numbers stand for the accuracies.
    """
    tables = [history_table(scores)] if any(score.space == "model" for score in scores) else []
    classes = any(score.metric == LEAVE_ONE_OUT for score in scores)
    tables.append(score_table(scores) if classes else number_table(scores))
    return [*tables, *([claims_table(claims)] if claims else [])]


def score_table(scores: list[Score]) -> Table:
    """The 10-NN accuracy of each space, before and after, with its 95 % interval."""
    accuracies = {(score.space, score.stage): score for score in scores if score.metric == LEAVE_ONE_OUT}
    table = _table(
        f"{LEAVE_ONE_OUT.label}; in brackets 95 % intervals", ("space",), "before", "after", "gain"
    )
    for space in dict.fromkeys(space for space, _ in accuracies):
        before, after = accuracies[space, "before"], accuracies[space, "after"]
        gain = f"{after.value - before.value:+.3f}"
        table.add_row(method_label(space), _with_interval(before), _with_interval(after), gain)
    return table


def number_table(scores: list[Score]) -> Table:
    """Every number but the history's, before and after, with intervals where there are some."""
    by_row = {(score.space, score.metric, score.stage): score for score in scores if score.space != "model"}
    title = f"Numbers, with 95 % intervals ({UP} more is better, {DOWN} less is)"
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
    table = _table("At the end of every block, before -> after", ("layer",), *labels)
    for layer in dict.fromkeys(row.layer for row in rows):
        pairs = [[values[layer, metric, stage] for stage in STAGES] for metric in metrics]
        cells = [f"{before:.3f} -> {after:.3f}" for before, after in pairs]
        table.add_row(layer, *cells, f"{values[layer, LINEAR_CKA, 'both']:.3f}")
    return table


def claims_table(claims: list[dict[str, Any]]) -> Table:
    """Every claim with its verdict and what decided it."""
    table = _table("Claims", ("claim", "verdict", "statistic"))
    for claim in claims:
        interval = f"{claim['value']:.3f} ({claim['low']:.3f} to {claim['high']:.3f})"
        table.add_row(claim["text"], claim["verdict"], f"{claim['statistic']}: {interval}")
    return table


def history_table(scores: list[Score]) -> Table:
    """Loss and accuracy epoch by epoch."""
    epochs: dict[str, dict[str, float]] = {}
    for score in scores:
        if score.space == "model":
            epochs.setdefault(score.stage, {})[score.metric] = score.value
    metrics = list(next(iter(epochs.values()), {}))
    table = _table("Fine-tuning", (), "epoch", *map(label_of, metrics))
    for epoch, row in epochs.items():
        table.add_row(epoch.removeprefix("epoch "), *(f"{row[metric]:.4f}" for metric in metrics))
    return table


def _table(title: str, texts: Sequence[str], *numbers: str) -> Table:
    """Without rows yet; columns of text stand on the left, of numbers on the right."""
    table = Table(title=title, title_justify="left")
    for heading in texts:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _with_interval(score: Score | None) -> str:
    if score is None:
        return ""
    interval = "" if score.low is None else f" [{score.low:.3f}, {score.high:.3f}]"
    return f"{score.value:.3f}{interval}"
