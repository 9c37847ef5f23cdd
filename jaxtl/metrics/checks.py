"""What all metrics ask of the arrays and numbers that they are given."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.records.arrays import Neighbors
from jaxtl.records.given import as_array
from jaxtl.records.points import as_points


def check_values(where: str, values: np.ndarray, least: int = 2, *, squared: bool = True) -> np.ndarray:
    """`values` as float32 or float64 [n, d]; raises JaxtlError as `as_points` does."""
    return as_points(where, values, least, squared=squared)


def check_pair(where: str, x: np.ndarray, y: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Two spaces of the same points; raises JaxtlError unless they have as many rows."""
    x, y = check_values(where, x, least), check_values(where, y, least)
    if len(x) != len(y):
        raise JaxtlError(f"{where}: {len(x)} rows against {len(y)}; give the same points, in one order")
    return x, y


def check_labels(
    where: str, labels: np.ndarray | None, n: int, least: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """The classes, ascending [C], and each point's place among them int [n].

    Raises JaxtlError unless there are n whole numbers or names of at least `least` classes.
    """
    labels = known_labels(where, labels, n)
    classes, members = np.unique(labels, return_inverse=True)
    if len(classes) < least:
        raise JaxtlError(
            f"{where}: the {n} labels hold {len(classes)} class; it needs at least {least}: give more images"
        )
    return classes, members


def known_labels(where: str, labels: np.ndarray | None, n: int) -> np.ndarray:
    """Labels as whole numbers or texts [n]; raises JaxtlError for others, and where there are none."""
    if labels is None:
        raise JaxtlError(f"{where}: needs labels, and these features have none; give them")
    labels = as_array(where, "labels", labels)
    if labels.dtype.kind in "OT" and all(isinstance(label, str) for label in labels.ravel().tolist()):
        labels = labels.astype(str)
    if labels.dtype.kind == "b":
        labels = labels.astype(np.int8)
    if labels.shape != (n,) or labels.dtype.kind not in "iuU":
        raise JaxtlError(
            f"{where}: labels must be integers [{n}] or texts, got {labels.dtype} {list(labels.shape)}"
        )
    return labels


def check_count(where: str, name: str, value: Any, low: int, high: float = np.inf) -> None:
    """Raises JaxtlError unless value is a whole number from `low` to `high`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        bounds = f"at least {low}" if np.isinf(high) else f"{low} to {high}"
        raise JaxtlError(f"{where}: {name} must be a whole number, {bounds}, got {value!r}")


def check_draws(where: str, seed: Any, resamples: Any = 1, halves: Any = 2) -> None:
    """Raises JaxtlError for what no random numbers can be drawn by."""
    check_count(where, "seed", seed, 0)
    check_count(where, "resamples", resamples, 1)
    check_count(where, "halves", halves, 2)
    if halves % 2:
        raise JaxtlError(f"{where}: halves must be an even number, since they come in pairs, got {halves}")


def check_neighbors(where: str, neighbors: Neighbors) -> Neighbors:
    """Neighbours of each of n points among these; raises JaxtlError unless they are."""
    if not isinstance(neighbors, Neighbors):
        kind = type(neighbors).__name__
        raise JaxtlError(f"{where}: needs neighbours as `exact_neighbors` gives them, got {kind}")
    indices, distances = np.asarray(neighbors.indices), np.asarray(neighbors.distances)
    if indices.ndim != 2 or not indices.size or indices.shape != distances.shape or indices.dtype.kind != "i":
        raise JaxtlError(
            f"{where}: neighbours must be whole numbers and distances [n, k], got {indices.dtype} "
            f"{list(indices.shape)} and {distances.dtype} {list(distances.shape)}"
        )
    if not 0 <= indices.min() <= indices.max() < len(indices):
        raise JaxtlError(f"{where}: neighbours must be rows 0 to {len(indices) - 1}; find them again")
    if distances.dtype.kind != "f" or not (np.isfinite(distances).all() and (distances >= 0).all()):
        raise JaxtlError(f"{where}: distances of neighbours must be finite numbers from 0; find them again")
    return neighbors
