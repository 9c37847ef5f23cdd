"""Every public function of arrays, called with a space as far as a space says what to give."""

import numpy as np

import jaxtl
from jaxtl import metrics
from jaxtl.neighbors import exact_neighbors, nearest_rows
from jaxtl.records.arrays import Embedding, Features

# Fewer resamples and halves than by default: what can go wrong goes wrong in the first.
FEW = {"resamples": 20}
HALVES = {"halves": 4}
TSNE = {"early_exaggeration_iter": 3, "n_iter": 5, "n_jobs": 1}


def other(space):
    """Another space of the same points: fewer dimensions, and a part of what is odd."""
    values = space.values[:, :2].astype(np.float64)
    # Beside an infinite value the others become 0 and it NaN, which is refused too.
    with np.errstate(invalid="ignore"):
        return np.sin(values / (np.abs(values).max() or 1)) if len(values) else values


def halves_of(space):
    middle = len(space.values) // 2
    return (space.values[:middle], space.labels[:middle], space.values[middle:], space.labels[middle:])


def near(space, k=3):
    return exact_neighbors(space.values, min(k, max(1, len(space.values) - 1)))


def numbers(space):
    return np.unique(space.labels, return_inverse=True)[1]


def embedded(method, backend, **params):
    def call(space):
        return jaxtl.reduce(space.values, method, backend, **params)

    return call


def turned(space):
    return jaxtl.reduce(space.values, "pca", onto=other(space))


def placed(space):
    model = jaxtl.LocallyLinearEmbedding(n_neighbors=3).fit(space.values)
    return model.transform(space.values[:3])


CALLS = {
    "silhouette": lambda s: metrics.silhouette(s.values, s.labels),
    "calinski_harabasz": lambda s: metrics.calinski_harabasz(s.values, s.labels),
    "davies_bouldin": lambda s: metrics.davies_bouldin(s.values, s.labels),
    "kmeans_agreement": lambda s: metrics.kmeans_agreement(s.values, s.labels, n_init=1, halves=2),
    "density_clusters": lambda s: metrics.density_clusters(s.values, s.labels, halves=2),
    "faithfulness": lambda s: metrics.faithfulness(s.values, other(s), 2, **FEW),
    "trustworthiness": lambda s: metrics.trustworthiness(s.values, other(s), 3, **FEW),
    "continuity": lambda s: metrics.continuity(other(s), s.values, 1, **FEW),
    "co_ranking": lambda s: metrics.co_ranking(s.values, other(s), **FEW),
    "shepard_correlation": lambda s: metrics.shepard_correlation(s.values, other(s)),
    "anchored": lambda s: metrics.anchored(s.values, anchors=5),
    "knn_accuracy": lambda s: metrics.knn_accuracy(s.values, s.labels, 3, 2),
    "knn_cross_validated": lambda s: metrics.knn_cross_validated(s.values, s.labels, near(s), 2, 2, **HALVES),
    "leave_one_out_knn": lambda s: metrics.leave_one_out_knn(near(s), s.labels, 2, **HALVES),
    "neighborhood_hit": lambda s: metrics.neighborhood_hit(near(s), s.labels, 2, **HALVES),
    "neighbor_confusion": lambda s: metrics.neighbor_confusion(near(s), numbers(s), len(s.values), **FEW),
    "train_to_test_knn": lambda s: metrics.train_to_test_knn(*halves_of(s), 2, **FEW),
    "ridge_probe": lambda s: metrics.ridge_probe(*halves_of(s), **FEW),
    "logistic_probe": lambda s: metrics.logistic_probe(*halves_of(s), **FEW),
    "ridge_probe_cross_validated": lambda s: metrics.ridge_probe_cross_validated(
        s.values, s.labels, folds=2, **FEW
    ),
    "logistic_probe_cross_validated": lambda s: metrics.logistic_probe_cross_validated(
        s.values, s.labels, folds=2, **FEW
    ),
    "linear_cka": lambda s: metrics.linear_cka(s.values, other(s)),
    "linear_cka with itself": lambda s: metrics.linear_cka(s.values, s.values),
    "procrustes": lambda s: metrics.procrustes(s.values, other(s), **FEW),
    "dimensions": lambda s: metrics.dimensions(s.values),
    "effective_rank": lambda s: metrics.effective_rank(s.values),
    "participation_ratio": lambda s: metrics.participation_ratio(s.values),
    "sparsity": lambda s: metrics.sparsity(s.values, **FEW),
    "spectrum": lambda s: metrics.spectrum(s.values),
    "spectrum about 0": lambda s: metrics.spectrum(s.values, centred=False),
    "two_nn": lambda s: metrics.two_nn(near(s, 8), **HALVES),
    "log_me": lambda s: metrics.log_me(s.values, s.labels),
    "h_score": lambda s: metrics.h_score(s.values, s.labels),
    "neighbors_kept": lambda s: metrics.neighbors_kept(
        near(s), exact_neighbors(other(s), 3), 2, s.labels, **HALVES
    ),
    "moved_from_neighbors": lambda s: metrics.moved_from_neighbors(near(s), other(s), 2, s.labels, **HALVES),
    "moved_to_it": lambda s: metrics.moved_from_neighbors(
        exact_neighbors(other(s), 3), s.values, 2, **HALVES
    ),
    "paired_outcomes": lambda s: metrics.paired_outcomes(s.values[:, 0] > 0, other(s)[:, 0] > 0.5),
    "exact_neighbors": lambda s: exact_neighbors(s.values, 3),
    "exact_neighbors of most": lambda s: exact_neighbors(s.values, max(1, len(s.values) - 1)),
    "nearest_rows": lambda s: nearest_rows(s.values, s.values[:3], 2),
    "Features": lambda s: Features(s.values, s.labels),
    "Embedding": lambda s: Embedding(other(s), s.labels),
    "pca by sklearn": embedded("pca", "sklearn"),
    "pca by randomized": embedded("pca", "sklearn", svd_solver="randomized"),
    "pca by arpack": embedded("pca", "sklearn", svd_solver="arpack"),
    "pca by jaxtl": embedded("pca", "jaxtl"),
    "pca among landmarks": embedded("pca", "sklearn", landmarks=4),
    "pca onto": turned,
    "tsne": embedded("tsne", "opentsne", perplexity=2, **TSNE),
    "tsne at random": embedded("tsne", "opentsne", perplexity=1, initialization="random", **TSNE),
    "tsne by spectrum": embedded("tsne", "opentsne", perplexity=3, initialization="spectral", **TSNE),
    "tsne by fft": embedded("tsne", "opentsne", perplexity=2, negative_gradient_method="fft", **TSNE),
    "tsne among landmarks": embedded("tsne", "opentsne", perplexity=1, landmarks=6, **TSNE),
    "lle": embedded("lle", "jaxtl", n_neighbors=4),
    "lle by factors": embedded("lle", "jaxtl", n_neighbors=4, solver="sparse"),
    "lle by dense factors": embedded("lle", "jaxtl", n_neighbors=3, solver="dense"),
    "lle, modified": embedded("lle", "jaxtl", n_neighbors=4, variant="modified"),
    "lle, modified by factors": embedded("lle", "jaxtl", n_neighbors=5, variant="modified", solver="sparse"),
    "lle by sklearn": embedded("lle", "sklearn", n_neighbors=4),
    "lle by arpack": embedded("lle", "sklearn", n_neighbors=4, eigen_solver="arpack"),
    "lle among landmarks": embedded("lle", "jaxtl", n_neighbors=3, landmarks=6),
    "LocallyLinearEmbedding": placed,
}
# What takes a tenth of a second and more, and what has a program compiled.
SLOW = ("kmeans_agreement", "density_clusters", "logistic_probe_cross_validated", "tsne by fft")
