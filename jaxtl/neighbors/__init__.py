"""Exact nearest neighbours, found once and shared by whoever needs them; `approximate` has others."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.engines import engine_for
from jaxtl.neighbors import host
from jaxtl.records.arrays import Neighbors
from jaxtl.records.points import as_points


def exact_neighbors(
    values: np.ndarray, n_neighbors: int, *, engine: str = "auto", n_jobs: int = -1
) -> Neighbors:
    """The k nearest other rows of every row, by Euclidean distance.

    A row is left out of its own neighbours by its index, so that a copy of it counts as any other row.
    Distances that decide are float64, measured from differences of rows; which of several rows at one and
    the same distance are taken is settled the same way in every run.

    Args:
        values: real [n, d], finite.
        n_neighbors: k, 1 to n - 1.
        engine: "cpu"; "jax" for JAX's default device; "auto", which is "jax" where that is a GPU.
        n_jobs: threads of "cpu", -1 for all cores; the result does not depend on it.

    Returns:
        indices int32 [n, k] and distances float32 [n, k], nearest first.

    Raises:
        JaxtlError: values that are no finite real numbers, k out of range, distances beyond float32.
    """
    values = as_points("neighbours", values, 2)
    check_numbers(n_neighbors, len(values) - 1, n_jobs)
    return _search(values, None, n_neighbors, engine, n_jobs)


def neighbors_together(values: np.ndarray, n_neighbors: int) -> Neighbors:
    """`exact_neighbors` by all processes of a `jaxtl.machine.together`, each on all its devices.

    Called by all of them, with the same values, which may be memory-mapped: each reads its share, and rows of
    which no proof was possible. All have the result.

    Raises JaxtlError as `exact_neighbors`.
    """
    from jaxtl.neighbors import ring

    check_numbers(n_neighbors, len(values) - 1)
    return _finite(ring.search(values, n_neighbors))


def nearest_rows(
    values: np.ndarray, queries: np.ndarray, n_neighbors: int, n_jobs: int = -1, *, engine: str = "auto"
) -> Neighbors:
    """The k rows of `values` [n, d] nearest to each of `queries` [m, d], as `exact_neighbors` finds them.

    A query that is one of `values` has itself as a neighbour.

    Raises JaxtlError as `exact_neighbors`, k being 1 to n, and for rows of other dimensions.
    """
    values, queries = as_points("neighbours", values), as_points("neighbours", queries, name="queries")
    if values.shape[1] != queries.shape[1]:
        raise JaxtlError(
            f"neighbours: rows have {values.shape[1]} dimensions and queries {queries.shape[1]}; give values "
            "of the same space"
        )
    check_numbers(n_neighbors, len(values), n_jobs)
    return _search(values, queries, n_neighbors, engine, n_jobs)


def _search(values: np.ndarray, queries: np.ndarray | None, k: int, engine: str, n_jobs: int) -> Neighbors:
    asked = values if queries is None else queries
    # The rows as they are and about their mean, on the device.
    needed = 2 * (values.nbytes + (0 if queries is None else queries.nbytes))
    if engine_for(engine, len(values) * len(asked), needed) == "cpu" or host.overflows(values, asked):
        return _finite(host.search(values, queries, k, n_jobs))
    from jaxtl.neighbors import device

    return _finite(device.search(values, queries, k))


def _finite(neighbors: Neighbors) -> Neighbors:
    if not np.isfinite(neighbors.distances).all():
        raise JaxtlError(
            f"neighbours: distances exceed what float32 holds, {np.finfo(np.float32).max:.1e}; divide the "
            "values by a constant"
        )
    return neighbors


def check_numbers(n_neighbors: int, largest: int, n_jobs: int = -1) -> None:
    """Raises JaxtlError unless neighbours are whole from 1 to `largest`, and jobs -1 or 1 and more."""
    if not _is_whole(n_neighbors) or not 1 <= n_neighbors <= largest:
        raise JaxtlError(
            f"neighbours: n_neighbors must be 1 to {largest} for so many rows, got {n_neighbors!r}"
        )
    if not _is_whole(n_jobs) or not (n_jobs == -1 or n_jobs >= 1):
        raise JaxtlError(f"neighbours: n_jobs must be -1, for all cores, or at least 1, got {n_jobs!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
