"""What a run's numbers say, in sentences, as HTML. Whatever comes from a run is escaped here.

Sentences about what a run does not hold are the empty string.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, LINEAR_CKA, N_NEIGHBORS, SILHOUETTE
from jaxtl.methods import method_label
from jaxtl.records.tables import Score
from jaxtl.report.markup import listed, number, unique
from jaxtl.runs.data import RunData
from jaxtl.settings import STAGES

# CKA of what has not changed, but for rounding.
_SAME = 1 - 1e-5
# In words: so many classes, and so many pairs of them.
_TOLD = 3


def on_trust(run: RunData, columns: Sequence[tuple[str, str]]) -> str:
    """Of each map, how many neighbours it keeps, and whether classes lie as far apart as in the features."""
    items = []
    for stage, method in columns:
        told = [_kept(run, stage, method)]
        drawn, true = (run.score(stage, space, SILHOUETTE) for space in (method, "features"))
        if _above(drawn, true):
            told.append(
                f"It draws the classes further apart than they lie in the features "
                f"({SILHOUETTE.label}: {number(drawn.value)} on the map, {number(true.value)} there)."
            )
        drawn, true = (run.score(stage, space, LEAVE_ONE_OUT) for space in (method, "features"))
        if _above(true, drawn):
            told.append(
                f"It mixes classes that the features keep apart ({LEAVE_ONE_OUT.label}: "
                f"{number(drawn.value)} on the map, {number(true.value)} there)."
            )
        if any(told):
            name = f"{method_label(method)} {stage}"
            items.append(f"<li><b>{escape(name)}.</b> {escape(' '.join(filter(None, told)))}</li>")
    return _most_faithful(run, columns) + (f"<ul class='told'>{''.join(items)}</ul>" if items else "")


def _most_faithful(run: RunData, columns: Sequence[tuple[str, str]]) -> str:
    """Which of the maps after keeps most neighbours, which fewest, and what a map of chance would keep."""
    shares = {method: _share_kept(run, stage, method) for stage, method in columns if stage == "after"}
    known = {method: share[1] for method, share in shares.items() if share is not None}
    if len(known) < 2:
        return ""
    k = next(share[0] for share in shares.values() if share is not None)
    most, fewest = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    text = (
        f"Of the maps after, {method_label(most)} keeps the most of an image's {k} nearest neighbours, "
        f"{100 * known[most]:.0f} %, and {method_label(fewest)} the fewest, {100 * known[fewest]:.0f} %. A "
        f"map that placed images at random would keep {100 * min(1, k / max(1, len(run) - 1)):.1f} %."
    )
    return f"<p>{escape(text)}</p>"


def _kept(run: RunData, stage: str, method: str) -> str:
    kept = _share_kept(run, stage, method)
    if kept is None:
        return ""
    k, share = kept
    return (
        f"Of an image's {k} nearest neighbours in the features, {100 * share:.0f} % are among its {k} "
        "nearest on the map."
    )


def _share_kept(run: RunData, stage: str, method: str) -> tuple[int, float] | None:
    """A number of neighbours near the usual one, and the share of so many that a map keeps."""
    sizes, shares = run.measures.get("qnx_k"), run.measures.get(f"qnx_{stage}_{method}")
    if sizes is None or shares is None:
        return None
    place = int(np.abs(np.asarray(sizes) - N_NEIGHBORS).argmin())
    return int(sizes[place]), float(shares[place])


def _above(one: Score | None, other: Score | None) -> bool:
    """Whether one is larger by more than both their intervals."""
    return None not in (one, other) and None not in (one.low, other.high) and one.low > other.high


def on_classes(run: RunData) -> str:
    """Which classes gain, and which pairs stay mixed, in the features themselves."""
    rows = [r for r in run.class_scores if r["space"] == "features" and r["metric"] == LEAVE_ONE_OUT]
    before, after = ({r["class"]: r["value"] for r in rows if r["stage"] == stage} for stage in STAGES)
    both = {c: (before[c], after[c]) for c in before if c in after and None not in (before[c], after[c])}
    sentences = []
    if both:
        gains = sorted(both, key=lambda c: both[c][0] - both[c][1])
        # Of two classes, one gains most and the other least.
        first = gains[: max(1, min(_TOLD, len(gains) - 1))]
        most = [f"‘{c}’ ({number(both[c][0])} to {number(both[c][1])})" for c in first]
        last = both[gains[-1]]
        least = f"; ‘{gains[-1]}’ gained least ({number(last[0])} to {number(last[1])})"
        sentences.append(
            f"In the features, by {LEAVE_ONE_OUT.label}: {listed(most)} gained most"
            f"{least if len(gains) > 1 else ''}."
        )
    for stage in STAGES:
        shares = run.measures.get(f"confusion_{stage}_features")
        mixed = [] if shares is None else _mixed(shares, run.class_names)
        if mixed:
            between = "" if run.is_comparison else " fine-tuning"
            sentences.append(f"The most mixed classes {stage}{between}: {listed(mixed)}.")
    return f"<p>{escape(' '.join(sentences))}</p>" if sentences else ""


def _mixed(shares: np.ndarray, names: Sequence[str]) -> list[str]:
    """The classes whose neighbours are most often of one other class."""
    others = np.nan_to_num(np.array(shares, np.float64))
    np.fill_diagonal(others, 0)
    places = np.argsort(-others, axis=None, kind="stable")[:_TOLD]
    return [
        f"‘{names[i]}’ with ‘{names[j]}’ ({100 * others[i, j]:.1f} % of its neighbours)"
        for i, j in zip(*np.unravel_index(places, others.shape), strict=True)
        if others[i, j] > 0
    ]


def on_depth(run: RunData) -> str:
    """Where the task is solved already, and what fine-tuning moved."""
    layers = unique(row["layer"] for row in run.layers)
    sentences = [_best_layer(run, layers), _moved_layers(run, layers)]
    return f"<p>{escape(' '.join(filter(None, sentences)))}</p>" if any(sentences) else ""


def _best_layer(run: RunData, layers: Sequence[str]) -> str:
    before = _profile(run, LEAVE_ONE_OUT, "before")
    if not before or layers[-1] not in before:
        return ""
    best, last = max(before, key=lambda name: before[name]["value"]), layers[-1]
    text = (
        f"Before fine-tuning, {LEAVE_ONE_OUT.label} is highest at the end of {best} "
        f"({number(before[best]['value'])}); at the output it is {number(before[last]['value'])}"
    )
    low, high = before[best].get("low"), before[last].get("high")
    if best != last and None not in (low, high):
        lost = ". The layers between lose some of what tells the classes apart"
        text += lost if low > high else ". That is no clear difference"
    return f"{text}."


def _moved_layers(run: RunData, layers: Sequence[str]) -> str:
    alike = {name: row["value"] for name, row in _profile(run, LINEAR_CKA, "both").items()}
    moved = [name for name in layers if name in alike and alike[name] < _SAME]
    if not moved:
        return "Fine-tuning changed no layer." if alike else ""
    kept = [name for name in alike if layers.index(name) < layers.index(moved[0])]
    unchanged = f"left everything up to the end of {kept[-1]} as it was, and " if kept else ""
    text = (
        f"Fine-tuning {unchanged}changed {listed(moved)} ({LINEAR_CKA.label} before against after: "
        f"{', '.join(number(alike[name]) for name in moved)})."
    )
    before, after = (_profile(run, LEAVE_ONE_OUT, stage) for stage in STAGES)
    if layers[-1] in before and layers[-1] in after:
        text += f" After it, {LEAVE_ONE_OUT.label} at the output is {number(after[layers[-1]]['value'])}."
    return text


def _profile(run: RunData, metric: str, stage: str) -> dict[str, dict[str, Any]]:
    """Rows of a metric by layer, in the network's order."""
    rows = (row for row in run.layers if (row["metric"], row["stage"]) == (metric, stage))
    return {row["layer"]: row for row in rows if row["value"] is not None}
