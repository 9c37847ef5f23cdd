"""Intervals cover the truth about as often as they say: metrics of many draws from one population.

The truth is the mean over the draws, which is what a metric is at that number of points. Embeddings are one
function of the points in all draws, as an interval takes them as given.
"""

import numpy as np
import pytest

from jaxtl import metrics
from jaxtl.neighbors import exact_neighbors

CENTRES = np.random.default_rng(99).normal(size=(4, 6))
N = 240


def cloud(seed, apart):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, N)
    return apart * CENTRES[labels] + rng.normal(size=(N, 6)) * np.linspace(1.3, 0.6, 6), labels


def embedded(values):
    return np.stack([values[:, 0] + 0.5 * np.tanh(values[:, 2]), values[:, 1] - 0.3 * values[:, 3]], axis=1)


def votes(values, labels, seed):
    near = exact_neighbors(values, 30)
    voted = metrics.leave_one_out_knn(near, labels, 10, seed=seed)
    hit = metrics.neighborhood_hit(near, labels, 10, seed=seed)
    folds = metrics.knn_cross_validated(values, labels, near, 10, seed=seed)
    return {
        "leave one out": voted.accuracy,
        "leave one out, a class": voted.per_class[1],
        "hit": hit.mean,
        "hit, a class": hit.per_class[1],
        "folds": folds.accuracy,
        "intrinsic dimension": metrics.two_nn(near, seed=seed),
    }


def ranks(values, labels, seed):
    true = metrics.faithfulness(values, embedded(values), 10, resamples=2, seed=seed)
    return {
        "trustworthiness": true.trustworthiness,
        "continuity": true.continuity,
        "kept": true.kept,
        "Shepard": true.shepard,
        "Q_NX": true.co_ranking.auc,
    }


def clusters(values, labels, seed):
    apart = metrics.silhouette(values, labels, seed=seed)
    agreement = metrics.kmeans_agreement(values, labels, seed=seed)
    dense = metrics.density_clusters(embedded(values), labels, halves=10, seed=seed)
    return {
        "silhouette": apart.mean,
        "silhouette, a class": apart.per_class[1],
        "NMI": agreement.nmi,
        "ARI": agreement.ari,
        "clusters": dense.count,
        "Davies-Bouldin": metrics.davies_bouldin(values, labels),
        "Calinski-Harabasz": metrics.calinski_harabasz(values, labels),
    }


def whole(values, labels, seed):
    size, changed = metrics.dimensions(values), np.maximum(values, 0) + 0.3 * values
    sparse = metrics.sparsity(np.maximum(values, 0), seed=seed)
    return {
        "effective rank": size.effective_rank,
        "participation ratio": size.participation_ratio,
        "zeros": sparse.zeros,
        "Hoyer": sparse.hoyer,
        "CKA": metrics.linear_cka(values, changed).debiased,
        "Procrustes": metrics.procrustes(values, changed, resamples=200, seed=seed),
        "LogME": metrics.log_me(values, labels),
        "H-score": metrics.h_score(values, labels).shrunk,
        "ridge, folds": metrics.ridge_probe_cross_validated(embedded(values), labels, seed=seed).accuracy,
        "logistic, folds": metrics.logistic_probe_cross_validated(
            embedded(values), labels, seed=seed
        ).accuracy,
    }


def changes(values, labels, seed):
    after = np.tanh(values @ CENTRES.T)
    near, near_after = exact_neighbors(values, 30), exact_neighbors(after, 30)
    kept = metrics.neighbors_kept(near, near_after, 10, labels, seed=seed)
    moved = metrics.moved_from_neighbors(near, after, 10, labels, seed=seed)
    return {
        "kept": kept.mean,
        "kept, a class": kept.per_class[1],
        "moved": moved.mean,
        "moved, a class": moved.per_class[1],
    }


def coverage(compute, apart, draws):
    estimates = [compute(*cloud(seed, apart), seed + 5000) for seed in range(draws)]
    shares = {}
    for name in estimates[0]:
        value, low, high = np.array([one[name] for one in estimates]).T
        assert (low <= value).all(), name
        assert (value <= high).all(), name
        truth = value.mean()
        shares[name] = float(np.mean((low <= truth) & (truth <= high)))
    return shares


@pytest.mark.slow
def test_intervals_of_scores_that_points_have_by_each_other_cover():
    # 95 % of 40, less three errors of a binomial share; a bootstrap of the hits alone covers 71 %.
    shares = coverage(votes, 0.7, 40) | coverage(changes, 0.7, 40)
    assert min(shares.values()) >= 0.85, shares


@pytest.mark.slow
@pytest.mark.parametrize("apart", [0.7, 1.6])
@pytest.mark.parametrize("compute", [votes, ranks, clusters, whole, changes])
def test_intervals_of_all_metrics_cover(compute, apart):
    shares = coverage(compute, apart, 150)
    # Three errors of a binomial share of 150. A class that is nearly always right has few values.
    assert min(shares.values()) >= 0.89, shares


@pytest.mark.parametrize("metric", ["nmi", "ari"])
def test_the_interval_of_an_agreement_lies_about_it(metric):
    # A bootstrap's points come twice, agree with themselves, and lie above: 0.402 had [0.394, 0.481].
    estimate = getattr(metrics.kmeans_agreement(*cloud(0, 0.7)), metric)
    assert estimate.value - estimate.low == pytest.approx(estimate.high - estimate.value)
    assert estimate.low < estimate.value
