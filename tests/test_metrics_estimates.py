"""Intervals: that they cover, and that the closed-form ones are those of leaving points out one by one."""

import numpy as np
import pytest

from jaxtl import metrics
from jaxtl.metrics import (
    calinski_harabasz,
    davies_bouldin,
    effective_rank,
    h_score,
    linear_cka,
    log_me,
    participation_ratio,
    procrustes,
    shepard_correlation,
)
from jaxtl.metrics.estimates import half_estimate, mean_estimate, weights
from jaxtl.neighbors import exact_neighbors


def clouds(n=120, d=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    spread = np.linspace(0.5, 2, d)
    return rng.normal(size=(n, d)) * spread + 1.5 * rng.normal(size=(3, d))[labels], labels


@pytest.mark.parametrize("kind", ["yes or no", "continuous"])
def test_intervals_of_a_mean_cover_it(kind):
    rng, covered = np.random.default_rng(0), 0
    for seed in range(200):
        scores = rng.random(150) < 0.7 if kind == "yes or no" else rng.gamma(4.0, size=150)
        low, high = mean_estimate(scores, 300, seed)[1:]
        covered += low <= (0.7 if kind == "yes or no" else 4.0) <= high
    assert 0.88 <= covered / 200 <= 0.99


@pytest.mark.slow
def test_intervals_of_a_rank_correlation_cover_it():
    rng, intervals = np.random.default_rng(1), []
    for seed in range(200):
        values = rng.normal(size=(60, 4))
        intervals.append(shepard_correlation(values, values[:, :2], pairs=600, seed=seed))
    # What it is for the whole population, to within the error of a mean of 200.
    truth = np.mean([estimate.value for estimate in intervals])
    covered = np.mean([estimate.low <= truth <= estimate.high for estimate in intervals])
    assert 0.88 <= covered <= 0.99


def test_few_and_many_different_scores_are_resampled_alike():
    scores = np.random.default_rng(2).integers(0, 5, 2000)
    few, many = mean_estimate(scores, 4000), mean_estimate(np.stack([scores, scores], axis=1), 4000)
    assert few.value == pytest.approx(many.value[0])
    np.testing.assert_allclose(few[1:], [many.low[0], many.high[0]], atol=0.1 * (few.high - few.low))
    np.testing.assert_array_equal(many.low[0], many.low[1])


def test_resamples_hold_as_many_points_and_repeat_by_seed():
    first, again, other = (np.concatenate(list(weights(700, 3000, seed))) for seed in (0, 0, 1))
    assert first.shape == (3000, 700)
    assert (first.sum(axis=1) == 700).all()
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.mean(axis=0) == pytest.approx(np.ones(700), abs=0.12)


def left_out(statistic, *arrays):
    """Standard error by computing everything again without each point."""
    n = len(arrays[0])
    values = np.array([statistic(*(np.delete(a, i, axis=0) for a in arrays)) for i in range(n)])
    return np.sqrt((n - 1) / n * np.sum((values - values.mean()) ** 2))


STATISTICS = {
    "calinski_harabasz": calinski_harabasz,
    "davies_bouldin": davies_bouldin,
    "effective_rank": lambda values, labels: effective_rank(values),
    "participation_ratio": lambda values, labels: participation_ratio(values),
    "log_me": log_me,
    "h_score": lambda values, labels: h_score(values, labels).plain,
    "h_score, shrunk": lambda values, labels: h_score(values, labels).shrunk,
    "procrustes": lambda values, labels: procrustes(values, np.tanh(values[:, :3]), resamples=4000),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_closed_form_errors_are_near_those_of_leaving_points_out(name):
    values, labels = clouds()
    estimate = STATISTICS[name](values, labels)
    error = (estimate.high - estimate.low) / (2 * 1.96)
    # Both are first-order; a tenth of the error is what second order leaves with 120 points.
    assert error == pytest.approx(left_out(lambda *a: STATISTICS[name](*a).value, values, labels), rel=0.12)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("d", [3, 80])
def test_alignment_without_each_point_is_exact(kind, d):
    # Fewer points than features too, where kernels are formed instead.
    x = np.random.default_rng(3).normal(size=(40, d))
    y = np.tanh(x) + np.random.default_rng(4).normal(size=x.shape)
    estimate = linear_cka(x, y)[kind]
    error = (estimate.high - estimate.value) / 1.959963984540054
    assert error == pytest.approx(left_out(lambda a, b: linear_cka(a, b)[kind].value, x, y), rel=1e-6)


def test_halves_that_say_the_same_do_not_make_an_interval_of_no_width():
    """Two classes of eight: the rest classifies as its half does, whatever the half is."""
    labels = np.arange(16) % 2
    neighbors = exact_neighbors(np.random.default_rng(0).normal(size=(16, 5)), 15)
    voted = metrics.leave_one_out_knn(neighbors, labels, 10)
    assert voted.accuracy.high - voted.accuracy.low > 0.2
    none = half_estimate(0.3, np.full(40, np.nan), 0, 1)
    assert (none.low, none.high) == (0, 1)
