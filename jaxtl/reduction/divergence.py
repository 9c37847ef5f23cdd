"""The Kullback-Leibler divergence of a t-SNE embedding, exact enough to be told."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxtl.machine.cores import share

_THETA = 0.1
# Barnes-Hut's figure is within 2e-4 (n = 10,000), unless points lie so near each other that its tree, which
# splits no further at 1e-6, has them in one leaf and leaves them out of each other's sums.
_TOGETHER = 1e-5
# Below, an error of 2e-4 may be of its size, and take it below 0.
_SMALL = 0.01
# Distances held at a time by one thread: 8 MiB.
_BLOCK = 1_000_000


def measure_divergence(embedding: Any, **fixed: Any) -> None:
    """Give an openTSNE embedding its `kl_divergence` without exaggeration, over the neighbours used.

    Args:
        fixed: arguments of `optimize` that are as in the descent.
    """
    # openTSNE leaves a figure whose normalisation is as coarse as the gradient (KL off by -0.011 with
    # Barnes-Hut, +0.005 with FFT at n = 10,000) and whose last digits vary, since threads add it up in
    # any order. Here it is taken on one thread: 0.3 s at 10,000, 5 s at 70,000.
    fine = fixed | {"theta": _THETA}
    embedding.optimize(0, **fine, negative_gradient_method="bh", n_jobs=1, inplace=True)
    coords = np.asarray(embedding)
    if np.isfinite(coords).all() and (embedding.kl_divergence < _SMALL or _has_points_together(coords)):
        embedding.kl_divergence = _exact(embedding.affinities.P.tocoo(), coords)


def _has_points_together(coords: np.ndarray) -> bool:
    from scipy.spatial import cKDTree

    nearest = cKDTree(coords).query(coords, k=2)[0][:, 1]
    return bool(nearest.min() < _TOGETHER)


def _exact(joint: Any, coords: np.ndarray) -> float:
    """By all pairs of coordinates: 15 s at 70,000 on two cores."""
    n = len(coords)
    size = max(1, _BLOCK // n)

    def normaliser(start: int) -> float:
        near = np.zeros((min(size, n - start), n))
        for axis in coords.T:
            step = axis[start : start + size, None] - axis
            near += np.square(step, out=step)
        near += 1
        return float(np.reciprocal(near, out=near).sum())

    # Each point with itself is not counted.
    total = sum(share(normaliser, range(0, n, size))) - n
    seen = joint.data > 0
    data, row, column = joint.data[seen], joint.row[seen], joint.col[seen]
    apart = coords[row] - coords[column]
    shares = 1 / (1 + np.einsum("pk,pk->p", apart, apart)) / total
    # Both add up to 1: what is below 0 is rounding.
    return max(0.0, float(np.sum(data * np.log(data / shares))))
