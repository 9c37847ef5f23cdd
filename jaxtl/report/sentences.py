"""What a run's numbers say, in sentences, as HTML. Whatever comes from a run is escaped here.

Sentences about what a run does not hold are the empty string.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, LINEAR_CKA, N_NEIGHBORS, SILHOUETTE
from jaxtl.methods import method_label
from jaxtl.records.tables import Score
from jaxtl.report.markup import listed, number, percent, unique
from jaxtl.runs.data import RunData
from jaxtl.settings import STAGES

# CKA of what has not changed, but for rounding.
_SAME = 1 - 1e-5
# Of an accuracy: what is less by less than this is a little less.
_LITTLE = 0.1
# What to read from a map that keeps at least such a share of neighbours; our choice.
_ADVICE = (
    (0.8, "trust near neighbourhoods"),
    (0.3, "trust near neighbourhoods in part"),
    (0.0, "do not trust near neighbourhoods"),
)
_BLOCK = re.compile(r"(block_|layer)\d")
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
            little = true.value - drawn.value < _LITTLE
            judged = (
                "separates the classes a little less than the features do"
                if little
                else "mixes classes that the features keep apart"
            )
            told.append(
                f"It {judged} ({LEAVE_ONE_OUT.label}: {number(drawn.value)} on the map, "
                f"{number(true.value)} there)."
            )
        if any(told):
            name = f"{method_label(method)} {stage}"
            items.append(f"<li><b>{escape(name)}.</b> {escape(' '.join(filter(None, told)))}</li>")
    return _in_a_line(run, columns) + (f"<ul class='told'>{''.join(items)}</ul>" if items else "")


def _in_a_line(run: RunData, columns: Sequence[tuple[str, str]]) -> str:
    """Of each map after, a verdict in a line, the truest first; then what a map of chance would keep."""
    shares = {method: _share_kept(run, stage, method) for stage, method in columns if stage == "after"}
    known = {method: share for method, share in shares.items() if share is not None}
    if not known:
        return ""
    first, *others = sorted(known, key=lambda method: -known[method][1])
    k = known[first][0]
    told = [
        *(_verdict(method, *known[method]) for method in others),
        f"A map that placed images at random would keep {percent(min(1, k / max(1, len(run) - 1)))}.",
    ]
    return f"<p><b>{escape(_verdict(first, *known[first]))}</b> {escape(' '.join(told))}</p>"


def _verdict(method: str, k: int, share: float) -> str:
    """What to read from a map after, by the share of the k nearest that it keeps."""
    advice = next(words for least, words in _ADVICE if share >= least)
    negated = "nor" if share < _ADVICE[-2][0] else "not"
    clusters = f", {negated} gaps or sizes of clusters" if method == "tsne" else ""
    return f"{method_label(method)} after: {advice} ({percent(share)} of the {k} nearest kept){clusters}."


def _kept(run: RunData, stage: str, method: str) -> str:
    kept = _share_kept(run, stage, method)
    if kept is None:
        return ""
    k, share = kept
    return (
        f"Of an image's {k} nearest neighbours in the features, {percent(share)} are among its {k} "
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
        sentences += _gains(both, rows)
    for stage in STAGES:
        shares = run.measures.get(f"confusion_{stage}_features")
        mixed = [] if shares is None else _mixed(shares, run.class_names)
        if mixed:
            between = "" if run.is_comparison else " fine-tuning"
            sentences.append(f"The most mixed classes {stage}{between}: {'; '.join(mixed)}.")
    return f"<p>{escape(' '.join(sentences))}</p>" if sentences else ""


def _gains(both: Mapping[str, tuple[float, float]], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which classes gained most and least, and whether that is settled."""
    gains = sorted(both, key=lambda c: both[c][0] - both[c][1])
    # Of two classes, one gains most and the other least.
    first = gains[: max(1, min(_TOLD, len(gains) - 1))]
    most = [f"‘{c}’ ({number(both[c][0])} to {number(both[c][1])})" for c in first]
    least = f"; {_least(gains[-1], *both[gains[-1]])}" if len(gains) > 1 else ""
    rivals = overlapping(gains[0], _gain_intervals(both, rows))
    told = [f"In the features, by {LEAVE_ONE_OUT.label}: {listed(most)} gained most{least}."]
    return told + ([unsettled(rivals)] if rivals else [])


def _least(name: str, before: float, after: float) -> str:
    if number(before) == number(after):
        return f"‘{name}’ did not change ({number(after)})"
    done = "lost most" if after < before else "gained least"
    return f"‘{name}’ {done} ({number(before)} to {number(after)})"


def _gain_intervals(
    both: Mapping[str, tuple[float, float]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[float, float]]:
    """Of each class's gain, as of independent shares: rather too wide, since the images are the same."""
    halves: dict[str, list[float]] = {}
    for row in rows:
        if row.get("low") is not None and row.get("high") is not None:
            halves.setdefault(row["class"], []).append((row["high"] - row["low"]) / 2)
    gains = {
        c: after - before for c, (before, after) in both.items() if len(halves.get(c, ())) == len(STAGES)
    }
    return {
        c: (gain - float(np.hypot(*halves[c])), gain + float(np.hypot(*halves[c])))
        for c, gain in gains.items()
    }


def overlapping(first: str, intervals: Mapping[str, tuple[float | None, float | None]]) -> list[str]:
    """The other classes whose intervals reach into that of the first, which lies highest."""
    low = intervals.get(first, (None, None))[0]
    others = ((name, high) for name, (_, high) in intervals.items() if name != first)
    return [] if low is None else [name for name, high in others if high is not None and high >= low]


def unsettled(rivals: Sequence[str]) -> str:
    """That another class may have gained most, a sentence."""
    if len(rivals) == 1:
        others = f"the interval of ‘{rivals[0]}’ overlaps"
    else:
        others = f"the intervals of {len(rivals)} other classes overlap"
    return f"Which gained most is not settled: {others} with that of the first."


def _mixed(shares: np.ndarray, names: Sequence[str]) -> list[str]:
    """The classes whose neighbours are most often of one other class."""
    others = np.nan_to_num(np.array(shares, np.float64))
    np.fill_diagonal(others, 0)
    places = np.argsort(-others, axis=None, kind="stable")[:_TOLD]
    return [
        f"of the neighbours of ‘{names[i]}’, {percent(others[i, j])} are ‘{names[j]}’"
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
        f"Before fine-tuning, {LEAVE_ONE_OUT.label}, is highest at {_place(best, layers)}: "
        f"{number(before[best]['value'])}"
    )
    text += f"; at the output it is {number(before[last]['value'])}" if best != last else ""
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
    unchanged = f"left everything up to {_place(kept[-1], layers)} as it was, and " if kept else ""
    places = listed([_place(name, layers) for name in moved])
    text = (
        f"Fine-tuning {unchanged}changed what comes out at {places}: "
        f"similarity ({LINEAR_CKA.label}, 1 = unchanged) {listed([number(alike[name]) for name in moved])}."
    )
    before, after = (_profile(run, LEAVE_ONE_OUT, stage) for stage in STAGES)
    if layers[-1] in before and layers[-1] in after:
        text += f" After it, {LEAVE_ONE_OUT.label}, is {number(after[layers[-1]]['value'])} at the output."
    return text


def _place(name: str, layers: Sequence[str]) -> str:
    """Where in the network a layer ends, in words where its name says so, then its name."""
    if name == layers[-1]:
        return f"the output ({name})"
    blocks = [layer for layer in layers if _BLOCK.match(layer)]
    if name in blocks:
        return f"the end of block {blocks.index(name) + 1} of {len(blocks)} ({name})"
    return f"the end of {name}"


def _profile(run: RunData, metric: str, stage: str) -> dict[str, dict[str, Any]]:
    """Rows of a metric by layer, in the network's order."""
    rows = (row for row in run.layers if (row["metric"], row["stage"]) == (metric, stage))
    return {row["layer"]: row for row in rows if row["value"] is not None}
