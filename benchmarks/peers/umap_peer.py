"""umap-learn, and pynndescent, with which it finds neighbours.

Both compile by Numba at the first call, which does not say how long that took.
"""

from __future__ import annotations

import sys
from typing import Any

import numba
import numpy as np
from pynndescent import NNDescent

from benchmarks.peers import data, quality, work
from benchmarks.peers.data import open_data as open_data
from benchmarks.peers.timing import Result, measured

# umap-learn would import TensorFlow and PyTorch where they are, for a UMAP of another kind; it does without.
sys.modules["umap.parametric_umap"] = None  # type: ignore[assignment]
from umap import UMAP  # noqa: E402


def versions() -> dict[str, str]:
    return data.installed("umap-learn", "pynndescent", "numba", "numpy", "scipy", "scikit-learn")


def settings() -> dict[str, Any]:
    return {"device": "cpu", "threads": numba.get_num_threads(), "n_jobs": -1, "dtype": "float32"}


def umap(n: int) -> Result:
    """Its defaults, 15 neighbours and min_dist 0.1, without a seed: with one it takes a single thread."""
    values, model = data.features(n), UMAP(n_neighbors=15, min_dist=0.1, n_jobs=-1)
    return measured(lambda: model.fit_transform(values), quality.of_map)


def neighbors(n: int, k: int, space: str = "features") -> Result:
    """Approximate: the recall says how much so. The row itself is asked for too and left out."""
    values = np.ascontiguousarray(data.space(space, n), np.float32)

    def search() -> np.ndarray:
        return NNDescent(values, n_neighbors=k + 1, random_state=0, n_jobs=-1).neighbor_graph[0]

    return measured(
        search,
        lambda found: quality.of_neighbors(data.without_own(found), values),
        work.distances(*values.shape, out=8 * n * k),
    )
