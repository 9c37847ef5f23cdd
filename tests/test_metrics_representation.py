"""Likeness, rank, sparsity, dimension and transferability against the formulas of their papers."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial import procrustes as peer_procrustes
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf

from jaxtl import metrics
from jaxtl.errors import JaxtlError
from jaxtl.metrics import spectra
from jaxtl.neighbors import exact_neighbors

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 8)) * np.linspace(2, 0.1, 8) + 3
Y = np.tanh(X @ RNG.normal(size=(8, 5)) / 3) + 0.1 * RNG.normal(size=(60, 5))
LABELS = np.arange(60) % 3
WIDE = RNG.normal(size=(30, 100))


def turned(x, seed=1):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(x.shape[1],) * 2))[0]
    return 7 * x @ rotation + 2


def hsic(k, l):  # noqa: E741
    """Song et al. 2012, equation 5."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    ones = np.ones(n)
    middle = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return (np.trace(k @ l) + middle - 2 / (n - 2) * ones @ k @ l @ ones) / (n * (n - 3))


@pytest.mark.parametrize(("x", "y"), [(X, Y), (WIDE, X[:30]), (WIDE, np.tanh(WIDE))])
def test_alignment_is_that_of_kernels(x, y):
    cka = metrics.linear_cka(x, y)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    assert cka.debiased.value == pytest.approx(hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l)), rel=1e-9)
    h = np.eye(len(x)) - 1 / len(x)
    k, l = h @ k @ h, h @ l @ h  # noqa: E741
    assert cka.plain.value == pytest.approx(np.sum(k * l) / np.sqrt(np.sum(k * k) * np.sum(l * l)), rel=1e-9)


def test_alignment_sees_no_rotation_scale_or_order():
    for x in (X, WIDE):
        for estimate in metrics.linear_cka(x, turned(x)):
            np.testing.assert_allclose(estimate, 1, atol=1e-9)
    before = metrics.linear_cka(X, Y)
    order = RNG.permutation(60)
    for other in (metrics.linear_cka(turned(X), turned(Y)), metrics.linear_cka(X[order], Y[order])):
        np.testing.assert_allclose(other.debiased, before.debiased, rtol=1e-8)
    np.testing.assert_allclose(metrics.linear_cka(Y, X).debiased, before.debiased, rtol=1e-9)


def test_alignment_with_itself_is_that_with_a_copy():
    for x in (X, WIDE):
        for pair, expected in zip(metrics.linear_cka(x, x), metrics.linear_cka(x, x.copy()), strict=True):
            assert pair == (1, 1, 1)
            np.testing.assert_allclose(expected, pair, rtol=1e-12)


def test_debiased_alignment_of_unrelated_features_is_none():
    ckas = [metrics.linear_cka(*np.random.default_rng(s).normal(size=(2, 50, 200))) for s in range(20)]
    assert abs(np.mean([f.debiased.value for f in ckas])) < 0.02
    assert min(f.plain.value for f in ckas) > 0.7


def test_procrustes_is_scipys():
    x, y = X[:, :5], Y
    assert metrics.procrustes(x, y).value == pytest.approx(peer_procrustes(x, y)[2], rel=1e-9)
    padded = np.pad(Y, ((0, 0), (0, 3)))
    assert metrics.procrustes(X, Y).value == pytest.approx(peer_procrustes(X, padded)[2], rel=1e-9)
    wide = np.tanh(WIDE) + 0.1
    assert metrics.procrustes(WIDE, wide).value == pytest.approx(peer_procrustes(WIDE, wide)[2], rel=1e-9)
    assert metrics.procrustes(WIDE, X[:30]).value == pytest.approx(
        peer_procrustes(WIDE, np.pad(X[:30], ((0, 0), (0, 92))))[2], rel=1e-9
    )


def test_procrustes_sees_no_rotation_or_scale():
    for x in (X, WIDE):
        np.testing.assert_allclose(metrics.procrustes(x, turned(x)), 0, atol=1e-9)
    disparity = metrics.procrustes(X, Y)
    np.testing.assert_allclose(metrics.procrustes(turned(X), turned(Y, 2)), disparity, rtol=1e-9)
    assert 0 <= disparity.low < disparity.value < disparity.high <= 1


@pytest.mark.parametrize("x", [X, WIDE, np.hstack([X, X])])
def test_ranks_are_those_of_singular_values(x):
    singular = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    shares = singular[singular > 1e-9] / singular.sum()
    rank = metrics.effective_rank(x)
    assert rank.value == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-6)
    ratio = np.sum(singular**2) ** 2 / np.sum(singular**4)
    assert metrics.participation_ratio(x).value == pytest.approx(ratio, rel=1e-9)
    shared = metrics.spectrum(x)
    assert metrics.effective_rank(x, shared) == rank
    np.testing.assert_allclose(metrics.effective_rank(turned(x)), rank, rtol=1e-6)


def test_ranks_count_dimensions():
    values = RNG.normal(size=(4000, 7)) @ np.linalg.qr(RNG.normal(size=(20, 20)))[0][:7]
    assert metrics.effective_rank(values).value == pytest.approx(7, abs=0.05)
    assert metrics.participation_ratio(values).value == pytest.approx(7, abs=0.1)
    assert metrics.participation_ratio(np.outer(np.arange(9.0), np.ones(3))).value == pytest.approx(1)


def test_spectra_do_not_depend_on_blocks(monkeypatch):
    expected = metrics.h_score(X, LABELS), metrics.log_me(X, LABELS), metrics.effective_rank(X)
    monkeypatch.setattr(spectra, "BLOCK", 50)
    in_blocks = metrics.h_score(X, LABELS), metrics.log_me(X, LABELS), metrics.effective_rank(X)
    np.testing.assert_allclose(in_blocks[0].shrunk, expected[0].shrunk, rtol=1e-9)
    np.testing.assert_allclose(in_blocks[1], expected[1], rtol=1e-9)
    np.testing.assert_allclose(in_blocks[2], expected[2], rtol=1e-9)


def test_sparsity_by_hand():
    values = np.array([[0, 0, 0, 5.0], [1, 1, 1, 1], [0, 3, -4, 0], [0, 0, 0, 0]])
    sparsity = metrics.sparsity(values)
    assert sparsity.zeros.value == pytest.approx((3 + 0 + 2 + 4) / 16)
    assert sparsity.hoyer.value == pytest.approx((1 + 0 + (2 - 7 / 5)) / 3)
    assert metrics.sparsity(values, eps=3).zeros.value == pytest.approx((3 + 4 + 3 + 4) / 16)
    assert metrics.sparsity(1e200 * values).hoyer.value == pytest.approx(sparsity.hoyer.value)


def facco(r1, r2, discard):
    mu = np.sort(r2 / r1)
    n, kept = len(mu), int(len(mu) * (1 - discard))
    x, y = np.log(mu[:kept]), -np.log(1 - np.arange(1, kept + 1) / n)
    return np.sum(x * y) / np.sum(x * x)


@pytest.mark.parametrize("discard", [0.1, 0.3])
def test_two_nn_is_faccos_fit(discard):
    neighbors = exact_neighbors(RNG.normal(size=(500, 3)), 2)
    dimension = metrics.two_nn(neighbors, discard)
    r1, r2 = neighbors.distances.T.astype(np.float64)
    assert dimension.value == pytest.approx(facco(r1, r2, discard), rel=1e-6)
    assert dimension.low < dimension.value < dimension.high


@pytest.mark.parametrize("d", [1, 2, 5])
def test_two_nn_finds_the_dimension_in_copies_too(d):
    rng = np.random.default_rng(d)
    values = rng.random((2000, d)) @ np.linalg.qr(rng.normal(size=(10, 10)))[0][:d]
    alone = metrics.two_nn(exact_neighbors(values, 2))
    assert alone.value == pytest.approx(d, rel=0.1)
    copies = metrics.two_nn(exact_neighbors(np.repeat(values, 3, axis=0), 8))
    assert copies.value == pytest.approx(alone.value, rel=1e-2)


def test_log_me_of_features_that_tell_nothing_of_classes_is_finite():
    """Both of a class lie opposite each other: its mean is that of all, and no precision is too large."""
    half = np.random.default_rng(0).normal(size=(30, 12))
    told = metrics.log_me(np.stack([half, -half], axis=1).reshape(60, 12), np.repeat(np.arange(30), 2))
    assert np.isfinite(told).all()


@pytest.mark.parametrize(("n", "d"), [(60, 5), (12, 30)])
def test_log_me_is_the_greatest_evidence(n, d):
    rng = np.random.default_rng(n)
    labels = np.arange(n) % 3
    features = rng.normal(size=(n, d)) + np.eye(3, d)[labels]
    dimensions = []
    for target in np.eye(3)[labels].T:

        def less_evidence(logs, target=target):
            covariance = np.exp(-logs[1]) * np.eye(n) + np.exp(-logs[0]) * features @ features.T
            return -multivariate_normal(np.zeros(n), covariance).logpdf(target)

        dimensions.append(-minimize(less_evidence, np.zeros(2), method="Nelder-Mead", tol=1e-9).fun / n)
    estimate = metrics.log_me(features, labels)
    assert estimate.value == pytest.approx(np.mean(dimensions), abs=1e-6)
    assert estimate.low < estimate.value < estimate.high
    np.testing.assert_allclose(metrics.log_me(1000 * features, labels), estimate, rtol=1e-5)


@pytest.mark.parametrize("x", [X, WIDE])
def test_h_scores_are_traces(x):
    labels = np.arange(len(x)) % 3
    centred = x - x.mean(axis=0)
    means = np.stack([centred[labels == c].mean(axis=0) for c in range(3)])[labels]
    covariance, between = centred.T @ centred / len(x), means.T @ means / len(x)
    score = metrics.h_score(x, labels)
    assert score.plain.value == pytest.approx(
        np.trace(np.linalg.pinv(covariance, rcond=1e-10) @ between), rel=1e-8
    )
    shrunk, alpha = ledoit_wolf(centred, assume_centered=True)
    assert score.shrinkage == pytest.approx(alpha, rel=1e-9)
    assert score.shrunk.value == pytest.approx(
        (1 - alpha) * np.trace(np.linalg.solve(shrunk, between)), rel=1e-8
    )
    assert 0 <= score.plain.low <= score.plain.value <= score.plain.high <= 2
    np.testing.assert_allclose(metrics.h_score(turned(x), labels).shrunk, score.shrunk, rtol=1e-8)


REFUSALS = [
    (lambda: metrics.linear_cka(X, Y[:-1]), "60 rows against 59"),
    (lambda: metrics.linear_cka(X[:4], Y[:4]), "at least 5 rows, got 4"),
    (lambda: metrics.linear_cka(X, np.ones((60, 2))), "the same for all points"),
    (lambda: metrics.procrustes(X, np.ones((60, 2))), "the same for all points"),
    (lambda: metrics.effective_rank(np.ones((9, 2))), "the same in all rows"),
    (lambda: metrics.participation_ratio(np.full((9, 2), np.inf)), "NaN or infinite values in 9 of 9 rows"),
    (lambda: metrics.sparsity(np.zeros((9, 2))), "all features are 0"),
    (lambda: metrics.sparsity(X, eps=-1), "eps must be a number from 0"),
    (lambda: metrics.two_nn(exact_neighbors(X, 1)), "needs 2 neighbours"),
    (lambda: metrics.two_nn(exact_neighbors(np.zeros((9, 2)), 3)), "0 of 9 points have two different"),
    (lambda: metrics.log_me(X, 0 * LABELS), "60 labels hold 1 class"),
    (lambda: metrics.log_me(0 * X, LABELS), "the same in all rows"),
    (lambda: metrics.h_score(X, LABELS[:-1]), r"integers \[60\] or texts, got int64 \[59\]"),
]


@pytest.mark.parametrize(("call", "message"), REFUSALS)
def test_refuses_in_one_line(call, message):
    with pytest.raises(JaxtlError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
