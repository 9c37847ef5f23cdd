"""What metrics are by their definitions, in float64, from distances that are measured from differences."""

import numpy as np


def distances(values):
    """Squared, [n, n]; float64 whatever lies far away or near."""
    rows = values.astype(np.float64)
    return np.array([((rows - row) ** 2).sum(axis=1) for row in rows])


def ranks(squared):
    """Places by distance [n, n], nearest 1, own 0; equal ones by index."""
    squared = squared.copy()
    np.fill_diagonal(squared, -1)
    order = np.argsort(squared, axis=1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(len(order))[None], axis=1)
    return places


def has_ties(values):
    """Whether some point has two others at distances that rounding cannot tell apart."""
    squared = distances(values)
    np.fill_diagonal(squared, -1)
    ascending = np.sort(squared, axis=1)[:, 1:]
    return bool((np.diff(ascending, axis=1) <= 1e-9 * ascending[:, 1:]).any())


def trustworthiness(values, coords, k):
    n, outside, inside = len(values), ranks(distances(values)), ranks(distances(coords))
    lost = np.where((inside <= k) & (inside > 0), np.maximum(outside - k, 0), 0).sum()
    return 1 - 2 * lost / (n * k * (2 * n - 3 * k - 1))


def kept(values, coords, k):
    outside, inside = ranks(distances(values)), ranks(distances(coords))
    return ((outside <= k) & (inside <= k) & (outside > 0)).sum() / (k * len(values))


def silhouettes(values, labels):
    apart, classes = np.sqrt(distances(values)), np.unique(labels)
    scores = np.zeros(len(values))
    for i, own in enumerate(labels):
        inside = (labels == own) & (np.arange(len(labels)) != i)
        if inside.any():
            a = apart[i, inside].mean()
            b = min(apart[i, labels == c].mean() for c in classes if c != own)
            scores[i] = (b - a) / max(a, b) if max(a, b) > 0 else 0
    return scores


def moved(before, values, k):
    """Share of others that lie nearer than each of the k nearest before, ties by half; mean of all points."""
    apart, nearest = distances(values), ranks(distances(before))
    scores = []
    for i in range(len(values)):
        own = (nearest[i] > 0) & (nearest[i] <= k)
        others = ~own & (np.arange(len(values)) != i)
        limits = apart[i, own][:, None]
        nearer = np.less(apart[i, others], limits).mean() + np.less_equal(apart[i, others], limits).mean()
        scores.append(nearer / 2)
    return float(np.mean(scores))


def divergence(joint, coords):
    """Of sparse symmetric probabilities from those of coordinates, each pair looked at."""
    near = 1 / (1 + distances(coords))
    np.fill_diagonal(near, 0)
    joint = joint.tocoo()
    shares = near[joint.row, joint.col] / near.sum()
    seen = joint.data > 0
    return float(np.sum(joint.data[seen] * np.log(joint.data[seen] / shares[seen])))
