"""Where in the network a task is solved, and what fine-tuning moved: numbers at the end of every block."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxtl import metrics
from jaxtl.errors import JaxtlError
from jaxtl.files import write_text
from jaxtl.metrics.estimates import Estimate
from jaxtl.neighbors import exact_neighbors
from jaxtl.records import Pathlike

COLUMNS = ("stage", "layer", "metric", "value", "low", "high")
# Enough for intervals of one or two hundredths, and a profile of the network in seconds.
SAMPLES = 4000
KNN, PROBE, RANK, CKA = "10-NN accuracy", "ridge probe accuracy", "effective rank", "CKA"
_N_NEIGHBORS = 10


class Row(NamedTuple):
    """A number at the end of a block; `stage` is "before", "after" or, of both compared, "both"."""

    stage: str
    layer: str
    metric: str
    value: float
    low: float
    high: float


def profile(
    before: dict[str, np.ndarray],
    after: dict[str, np.ndarray],
    labels: np.ndarray,
    *,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> list[Row]:
    """Separability, effective rank, and likeness before and after, block by block.

    Args:
        before, after: pooled outputs [n, channels] by layer, of the same images, from
            `jaxtl.extraction.extract_layers`.
        labels: int [n].
        seed: of resampling.
        progress: called with the fraction done, 0 to 1.

    Returns:
        For each layer and stage the leave-one-out 10-NN accuracy, the cross-validated accuracy of a ridge
        probe and the effective rank; for both together the debiased linear CKA. Layers that fine-tuning did
        not change have the same numbers in both stages.

    Raises:
        JaxtlError: fewer than two classes, or too few images.
    """
    rows: list[Row] = []
    for number, (layer, values) in enumerate(before.items()):
        first = _numbers(values, labels, seed)
        frozen = np.array_equal(values, after[layer])
        second = first if frozen else _numbers(after[layer], labels, seed)
        for stage, found in (("before", first), ("after", second)):
            rows += [Row(stage, layer, metric, *map(float, each)) for metric, each in found.items()]
        rows.append(Row("both", layer, CKA, *map(float, metrics.linear_cka(values, after[layer]).debiased)))
        if progress:
            progress((number + 1) / len(before))
    return rows


def _numbers(values: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Estimate]:
    near = exact_neighbors(values, min(_N_NEIGHBORS, len(values) - 1))
    return {
        KNN: metrics.leave_one_out_knn(near, labels, seed=seed).accuracy,
        PROBE: metrics.ridge_probe_cross_validated(values, labels, seed=seed).accuracy,
        RANK: metrics.effective_rank(values),
    }


def save(path: Pathlike, rows: Sequence[Row]) -> None:
    """Write long-form CSV, values with 6 decimals."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([*row[:3], *(f"{number:.6f}" for number in row[3:])])
    write_text(path, out.getvalue())


def load(path: Pathlike) -> list[Row]:
    """Read what `save` wrote. Raises JaxtlError where the file is missing or no such table."""
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        return [Row(r["stage"], r["layer"], r["metric"], *(float(r[c]) for c in COLUMNS[3:])) for r in rows]
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise JaxtlError(
            f"{path}: not a table with columns {', '.join(COLUMNS)} ({error}); delete it and make it again"
        ) from None
