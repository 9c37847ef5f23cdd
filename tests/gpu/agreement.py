"""How results of a GPU are held against those of a CPU and of other libraries.

Every function raises AssertionError where they do not agree, NaN included, and returns what it measured.
"""

import numpy as np

from jaxtl.metrics import knn_accuracy

# Trustworthiness sorts all distances.
TRUSTED_UP_TO = 2000


def compare_features(ours, theirs):
    """The network blows float32 rounding up: features of up to 6 differ by 3e-4 from a float64 run's."""
    apart = np.abs(ours.astype(np.float64) - theirs)
    assert apart.max() <= 5e-4
    assert (apart <= 1e-4).mean() >= 0.99
    return {"largest difference": apart.max(), "share within 1e-4": (apart <= 1e-4).mean()}


def compare_losses(ours, theirs):
    """50 steps multiply rounding: two forms of the convolutions on one CPU end 0.8 % apart."""
    apart = abs(ours["loss"] / theirs["loss"] - 1)
    assert apart <= 0.03
    return {"loss, relative difference": apart}


def compare_axes(ours, theirs):
    """PCA's, up to signs, in units of the largest coordinate."""
    signs = np.sign((ours.coords * theirs.coords).sum(axis=0))
    error = np.abs(ours.coords * signs - theirs.coords).max() / np.abs(theirs.coords).max()
    assert error <= 1e-3
    return {"largest difference": error}


def compare_planes(ours, theirs):
    """LLE's: the sum it minimises, and the plane that the two axes span among all points."""
    errors = [values.diagnostics["reconstruction_error"] for values in (ours, theirs)]
    apart = abs(errors[0] / errors[1] - 1)
    bases = [np.linalg.qr(values.coords.astype(np.float64))[0] for values in (ours, theirs)]
    # Cosines of the principal angles between the planes.
    least = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).min()
    assert apart <= 1e-6
    assert least >= 0.9999
    return {"reconstruction error, relative difference": apart, "least cosine of the planes": least}


def compare_neighbors(ours, theirs):
    apart = np.abs(ours.distances - theirs.distances).max() / theirs.distances.max()
    equal = (ours.indices == theirs.indices).mean()
    assert apart <= 1e-6
    # Neighbours at equal distances, to the last bit or so, may change places.
    assert equal >= 0.9999
    return {"distances, largest difference": apart, "share of equal indices": equal}


def compare_tsne(ours, theirs, features):
    """t-SNE descends into another minimum everywhere: no worse by more than 0.01."""
    measured = {}
    for quality, measure in _qualities(features).items():
        mine, other = measure(ours.coords), measure(theirs.coords)
        measured |= {quality: mine, f"{quality} of the peer": other}
        assert mine >= other - 0.01, quality
    for name, value in ours.diagnostics.items():
        if isinstance(value, float):
            measured |= {name: value, f"{name} of the peer": theirs.diagnostics.get(name, np.nan)}
    return measured


def _qualities(features):
    from sklearn.manifold import trustworthiness

    measures = {"10-NN accuracy": lambda coords: knn_accuracy(coords, features.labels)[0]}
    if len(features.values) <= TRUSTED_UP_TO:
        measures["trustworthiness"] = lambda coords: trustworthiness(features.values, coords, n_neighbors=10)
    return measures
