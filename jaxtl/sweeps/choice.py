"""Which combination is best, and which is the cheapest that is not distinguishable from it.

Two combinations name the same test images, under the same seeds: their difference is that of every image
under every seed, so that an image which is hard for both does not blur it. Its interval has two parts, which
add up as
independent errors do: that of other seeds, by Student's t over the seeds' differences, and that of other test
images, over the images' differences. The latter is that of Agresti & Min (2005, Stat. Med. 24:729), who add
one
image that the one network alone is right about, half to either side: without it few differences look surer
than they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from jaxtl.evaluation.seeds import over_seeds
from jaxtl.metrics.estimates import NORMAL, Estimate
from jaxtl.progress import counted
from jaxtl.runs.formats import Predictions
from jaxtl.sweeps.rows import TESTED, SweepRow, label


def difference(one: Predictions, other: Predictions) -> Estimate | None:
    """How much more of the test images one names rightly than another, with its 95 % interval.

    None where they were not tested on the same images.
    """
    if not np.array_equal(one.labels, other.labels):
        return None
    seeds = min(len(one.named), len(other.named))
    right = [predictions.named[:seeds] == predictions.labels for predictions in (one, other)]
    gaps = right[0].astype(np.float64) - right[1]
    mean, of_images = float(gaps.mean()), gaps.mean(axis=0)
    n = len(of_images)
    half = NORMAL * np.sqrt(np.sum((of_images - mean) ** 2) + 1) / (n + 2)
    if seeds > 1:
        between = over_seeds(gaps.mean(axis=1).tolist())
        half = np.hypot(half, between.high - between.value)
    return Estimate(mean, max(-1.0, mean - float(half)), min(1.0, mean + float(half)))


def compared(rows: Sequence[SweepRow], predictions: Mapping[str, Predictions]) -> list[SweepRow]:
    """The rows, each with how far it is behind the best one."""
    top = best(rows)
    if top is None:
        return [replace(row, behind=None) for row in rows]
    known = predictions[top.name]
    return [
        replace(row, behind=difference(known, predictions[row.name]) if row.is_done and row != top else None)
        for row in rows
    ]


def best(rows: Sequence[SweepRow]) -> SweepRow | None:
    """The one with the highest test accuracy; of several the one that learns least."""
    done = [row for row in rows if row.is_done and row.test_accuracy]
    return min(done, key=lambda row: (-row.test_accuracy.value, row.parameters or 0), default=None)


def not_distinguishable(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """The best one, and those of whose difference from it the interval holds 0."""
    top = best(rows)
    near = [row for row in rows if row.behind and row.behind.low <= 0]
    return [] if top is None else [top, *near]


def cheapest(rows: Sequence[SweepRow]) -> SweepRow | None:
    """Of those not distinguishable from the best the one with least arithmetic; then least to learn.

    Not by seconds, which differ from hour to hour where a machine does other work too.
    """
    near = not_distinguishable(rows)
    return min(near, key=lambda row: (row.multiply_adds or 0, row.parameters or 0), default=None)


def words(rows: Sequence[SweepRow], images: int) -> list[str]:
    """What a user should take from it, in sentences; none where nothing is done.

    Args:
        images: that all were tested on.
    """
    top, low = best(rows), cheapest(rows)
    if top is None or low is None or top.test_accuracy is None:
        return []
    over = f"{counted(images, 'test image')}" + (
        f", {counted(top.seeds, 'seed')}" if top.seeds > 1 else ", one seed"
    )
    said = [f"Best: {label(top, rows)}, {TESTED} {spoken(top.test_accuracy)} ({over})."]
    near = not_distinguishable(rows)
    done = sum(row.is_done for row in rows)
    if done < 2:
        return said
    if len(near) == 1:
        return [*said, "All others are distinguishably worse."]
    if low == top:
        others = counted(len(near) - 1, "other combination is", "other combinations are")
        said.append(
            f"It is also the cheapest of those that cannot be told from it: {others} as good, within the "
            "interval."
        )
        return said
    gap = low.behind
    assert gap is not None
    said.append(
        f"Cheapest that cannot be told from it: {label(low, rows)}, {spoken(low.test_accuracy)}: "
        f"{gap.value:.3f} less, with an interval of {gap.low:.3f} to {gap.high:.3f} that holds 0; "
        f"{_cost(low, top)}."
    )
    if top.seeds == 2:
        said.append("Two seeds leave intervals very wide: --seeds 3 or more tells more apart.")
    if top.seeds == 1:
        said.append(
            "One seed: the intervals cover the images only; --seeds 3 or more says what another would give."
        )
    return said


def spoken(estimate: Estimate | None) -> str:
    """Such as "0.952 [0.948, 0.957]"."""
    if estimate is None:
        return ""
    interval = "" if estimate.low is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.value:.3f}{interval}"


def _cost(low: SweepRow, top: SweepRow) -> str:
    """How much less one takes than another; not in seconds, see `cheapest`."""
    said = []
    if low.multiply_adds and top.multiply_adds:
        said.append(f"{100 * low.multiply_adds / top.multiply_adds:.2g} % of the arithmetic")
    if low.parameters and top.parameters:
        said.append(f"{low.parameters:,} trained parameters instead of {top.parameters:,}")
    return ", ".join(said)
