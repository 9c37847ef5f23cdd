"""Faithfulness of maps, against scikit-learn and the co-ranking matrix written out."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.manifold import trustworthiness as peer

from jaxtl import metrics
from jaxtl.errors import JaxtlError
from jaxtl.metrics import device, distances

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(250, 12)) * np.linspace(2, 0.2, 12)
MAP = FEATURES[:, :2] + 0.3 * RNG.normal(size=(250, 2))


def ranks(values):
    apart = cdist(values, values)
    np.fill_diagonal(apart, -1)
    return apart.argsort(axis=1, kind="stable").argsort(axis=1)


@pytest.mark.parametrize("engine", ["cpu", "jax"])
@pytest.mark.parametrize("k", [1, 10, 60])
def test_trustworthiness_is_scikit_learns(k, engine):
    estimates = metrics.faithfulness(FEATURES, MAP, k, engine=engine)
    assert estimates.trustworthiness.value == pytest.approx(peer(FEATURES, MAP, n_neighbors=k), abs=1e-12)
    assert estimates.continuity.value == pytest.approx(peer(MAP, FEATURES, n_neighbors=k), abs=1e-12)
    assert metrics.trustworthiness(FEATURES, MAP, k) == estimates.trustworthiness
    assert metrics.continuity(FEATURES, MAP, k) == estimates.continuity
    assert estimates.anchors.tolist() == list(range(250))
    for estimate in (estimates.trustworthiness, estimates.continuity):
        assert 0 <= estimate.low < estimate.value < estimate.high <= 1


def test_co_ranking_is_that_of_the_matrix():
    matrix = metrics.co_ranking(FEATURES, MAP)
    n, outside, inside = 250, ranks(FEATURES), ranks(MAP)
    q = np.array([np.sum((outside <= k) & (inside <= k)) - n for k in range(1, n - 1)]) / (
        n * np.arange(1, n - 1)
    )
    k = np.arange(1, n - 1)
    r = ((n - 1) * q - k) / (n - 1 - k)
    assert matrix.sizes[0] == 1
    assert matrix.sizes[-1] == n - 2
    np.testing.assert_allclose(matrix.q.value, q[matrix.sizes - 1], rtol=1e-12)
    np.testing.assert_allclose(matrix.r.value, r[matrix.sizes - 1], rtol=1e-9)
    assert matrix.auc.value == pytest.approx(np.sum(r / k) / np.sum(1 / k), rel=1e-12)
    assert matrix.auc.low < matrix.auc.value < matrix.auc.high
    assert (matrix.q.low <= matrix.q.value).all()
    assert (matrix.q.value <= matrix.q.high).all()


def test_a_map_that_is_the_space_is_perfect_and_one_of_noise_is_chance():
    turned = 5 * FEATURES @ np.linalg.qr(RNG.normal(size=(12, 12)))[0]
    same = metrics.faithfulness(FEATURES, turned)
    for estimate in (same.trustworthiness, same.continuity, same.shepard, same.co_ranking.auc):
        np.testing.assert_allclose(estimate, 1, atol=1e-9)
    noise = metrics.faithfulness(FEATURES, RNG.normal(size=(250, 2)))
    assert abs(noise.co_ranking.auc.value) < 0.05
    assert abs(noise.shepard.value) < 0.1
    assert noise.trustworthiness.value == pytest.approx(0.5, abs=0.05)


def test_more_noise_is_less_faithful():
    estimates = [metrics.faithfulness(FEATURES, MAP + s * RNG.normal(size=(250, 2))) for s in (0, 0.5, 2.0)]
    for name in ("trustworthiness", "continuity", "shepard"):
        values = [getattr(f, name).value for f in estimates]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == 3
    areas = [f.co_ranking.auc.value for f in estimates]
    assert areas == sorted(areas, reverse=True)


def test_anchors_are_a_sample_of_all():
    every, some = metrics.faithfulness(FEATURES, MAP), metrics.faithfulness(FEATURES, MAP, anchors=100)
    np.testing.assert_array_equal(some.trustworthiness_scores, every.trustworthiness_scores[some.anchors])
    np.testing.assert_array_equal(some.continuity_scores, every.continuity_scores[some.anchors])
    means = [metrics.trustworthiness(FEATURES, MAP, anchors=50, pairs=1, seed=s).value for s in range(40)]
    error = every.trustworthiness_scores.std() / np.sqrt(50 * 40)
    assert abs(np.mean(means) - every.trustworthiness.value) < 4 * error


def test_one_space_serves_several_maps():
    shared = metrics.anchored(FEATURES, anchors=80, pairs=1000)
    for coords in (MAP, MAP[:, ::-1] ** 3):
        alone = metrics.faithfulness(FEATURES, coords, anchors=80, pairs=1000)
        together = metrics.faithfulness(shared, coords)
        assert together.trustworthiness == alone.trustworthiness
        assert together.shepard == alone.shepard == metrics.shepard_correlation(shared, coords)
        assert together.co_ranking.auc == alone.co_ranking.auc


def test_shepard_is_spearmans_of_all_pairs_where_they_are_few():
    features, coords = FEATURES[:101], MAP[:101]
    above = np.triu_indices(101, 1)
    expected = spearmanr(cdist(features, features)[above], cdist(coords, coords)[above]).statistic
    assert metrics.shepard_correlation(features, coords).value == pytest.approx(expected, abs=1e-12)


def test_pairs_are_different_and_every_point_is_in_as_many():
    pairs = metrics.anchored(FEATURES, anchors=1, pairs=1000).pairs
    assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs) == 1000
    assert set(np.bincount(pairs.ravel())) == {8}


@pytest.mark.parametrize(
    "values", [FEATURES, MAP.astype(np.float32), np.round(MAP), np.repeat(MAP[:50], 5, axis=0)]
)
def test_ranks_are_those_of_the_whole_matrix(values, monkeypatch):
    # Of equal distances the lower index comes first; the anchor itself before its copies.
    anchors = np.array([0, 3, 77, 249])
    expected = ranks(values.astype(np.float64))[anchors]
    np.testing.assert_array_equal(distances.anchor_ranks(values, anchors), expected)
    np.testing.assert_array_equal(device.anchor_ranks(values, anchors), expected)
    monkeypatch.setattr(distances, "BLOCK", 1)
    monkeypatch.setattr(device, "BLOCK", 700)
    np.testing.assert_array_equal(distances.anchor_ranks(values, anchors), expected)
    np.testing.assert_array_equal(device.anchor_ranks(values, anchors), expected)


def test_ranks_beyond_16_bits_are_wider():
    assert distances.rank_type(2**16) is np.uint16
    assert distances.rank_type(2**16 + 1) is np.uint32
    values = np.arange(2**16 + 5, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(distances.anchor_ranks(values, np.array([0]))[0], np.arange(2**16 + 5))


def test_blocks_of_anchors_do_not_matter(monkeypatch):
    from jaxtl.metrics import neighborhoods

    expected = metrics.faithfulness(FEATURES, MAP)
    monkeypatch.setattr(neighborhoods, "BLOCK", 1000)
    estimates = metrics.faithfulness(FEATURES, MAP)
    assert estimates.trustworthiness == expected.trustworthiness
    assert estimates.co_ranking.auc == pytest.approx(expected.co_ranking.auc)
    np.testing.assert_array_equal(estimates.co_ranking.q.value, expected.co_ranking.q.value)


REFUSALS = [
    (lambda: metrics.faithfulness(FEATURES, MAP[:-1]), "250 rows against 249"),
    (lambda: metrics.faithfulness(metrics.anchored(FEATURES), MAP[:-1]), "ranks of 250 rows against 249"),
    (lambda: metrics.faithfulness(FEATURES[:20], MAP[:20]), "less than half of the 20 rows, got 10"),
    (lambda: metrics.faithfulness(FEATURES, np.where(MAP > 2, np.nan, MAP)), "NaN or infinite"),
    (lambda: metrics.shepard_correlation(FEATURES, 0 * MAP), "all distances are equal"),
    (lambda: metrics.anchored(FEATURES, anchors=0), "anchors must be a whole number, at least 1, got 0"),
    (lambda: metrics.anchored(FEATURES[:3]), "at least 4 rows, got 3"),
]


@pytest.mark.parametrize(("call", "message"), REFUSALS)
def test_refuses_in_one_line(call, message):
    with pytest.raises(JaxtlError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
