"""Votes, probes and clusters against scikit-learn and by hand."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn import metrics as peer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier

from jaxtl import metrics
from jaxtl.errors import JaxtlError
from jaxtl.metrics import device, distances, probes
from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Neighbors


def blobs(n=300, d=6, classes=4, apart=1.5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return rng.normal(size=(n, d)) + apart * rng.normal(size=(classes, d))[labels], labels


VALUES, LABELS = blobs()
NEIGHBORS = exact_neighbors(VALUES, 10)
ROTATION = np.linalg.qr(np.random.default_rng(9).normal(size=(6, 6)))[0]


def test_leave_one_out_votes_by_hand():
    votes = metrics.leave_one_out_knn(NEIGHBORS, LABELS, 5)
    apart = cdist(VALUES, VALUES)
    np.fill_diagonal(apart, np.inf)
    for i, near in enumerate(LABELS[np.argsort(apart, axis=1)[:, :5]]):
        counts = np.bincount(near)
        tied = np.flatnonzero(counts == counts.max())
        assert votes.predicted[i] == next(label for label in near if label in tied)
    np.testing.assert_array_equal(votes.correct, votes.predicted == LABELS)
    assert votes.accuracy.value == pytest.approx(np.mean(votes.correct))
    for c, estimate in zip(votes.classes, votes.per_class, strict=True):
        assert estimate.value == pytest.approx(votes.correct[c == LABELS].mean())
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_tied_votes_go_to_the_nearest():
    neighbors = Neighbors(np.array([[1, 2], [2, 0], [0, 1]], np.int32), np.ones((3, 2), np.float32))
    assert metrics.leave_one_out_knn(neighbors, np.array([0, 7, 3])).predicted.tolist() == [7, 3, 0]


def test_a_number_has_one_interval_however_many_neighbours_are_known():
    many = exact_neighbors(VALUES, 200)
    few = Neighbors(many.indices[:, :30], many.distances[:, :30])
    hits = [metrics.neighborhood_hit(known, LABELS, 10, seed=3) for known in (few, many)]
    assert hits[0].mean == hits[1].mean
    assert hits[0].per_class == hits[1].per_class
    for voted in (
        [metrics.leave_one_out_knn(known, LABELS, 10, seed=3) for known in (few, many)],
        [metrics.knn_cross_validated(VALUES, LABELS, known, seed=3) for known in (few, many)],
    ):
        assert voted[0].accuracy == voted[1].accuracy
        assert voted[0].per_class == voted[1].per_class


@pytest.mark.parametrize("how", ["leave one out", "folds", "training points"])
def test_points_that_are_all_right_do_not_make_a_share_certain(how):
    """Wilson's interval of 60 of 60 begins at 0.940, of 120 at 0.969; resamples and halves have 1 alone."""
    labels = np.arange(120) % 2
    values = 0.01 * np.random.default_rng(0).normal(size=(120, 6)) + labels[:, None]
    near = exact_neighbors(values, 30)
    voted = {
        "leave one out": lambda: metrics.leave_one_out_knn(near, labels, 10),
        "folds": lambda: metrics.knn_cross_validated(values, labels, near, 10),
        "training points": lambda: metrics.train_to_test_knn(values, labels, values, labels),
    }[how]()
    assert tuple(voted.accuracy) == pytest.approx((1, 0.969, 1), abs=5e-4)
    assert tuple(voted.per_class[1]) == pytest.approx((1, 0.940, 1), abs=5e-4)


def test_training_points_vote_for_test_points():
    given = VALUES[:200], LABELS[:200], VALUES[200:], LABELS[200:]
    votes = metrics.train_to_test_knn(*given, n_neighbors=1)
    nearest = LABELS[:200][cdist(VALUES[200:], VALUES[:200]).argmin(axis=1)]
    np.testing.assert_array_equal(votes.predicted, nearest)
    assert votes.accuracy.value == pytest.approx(np.mean(nearest == LABELS[200:]))
    votes = metrics.train_to_test_knn(*given, n_neighbors=7)
    device = metrics.train_to_test_knn(*given, n_neighbors=7, engine="jax")
    np.testing.assert_array_equal(device.predicted, votes.predicted)
    theirs = KNeighborsClassifier(7).fit(*given[:2])
    shares = np.sort(theirs.predict_proba(VALUES[200:]), axis=1)
    decided = shares[:, -1] > shares[:, -2]  # a tie goes to the lowest class there, to the nearest here
    assert decided.mean() > 0.8
    np.testing.assert_array_equal(votes.predicted[decided], theirs.predict(VALUES[200:])[decided])


def test_neighbourhood_hit_and_confusion_by_hand():
    hit = metrics.neighborhood_hit(NEIGHBORS, LABELS)
    near = LABELS[NEIGHBORS.indices]
    assert hit.mean.value == pytest.approx(np.mean(near == LABELS[:, None]))
    confusion = metrics.neighbor_confusion(NEIGHBORS, LABELS, 5)
    for i in range(4):
        for j in range(5):
            assert confusion.value[i, j] == pytest.approx(np.mean(near[i == LABELS] == j))
        assert hit.per_class[i].value == pytest.approx(confusion.value[i, i])
    assert (confusion.value[4] == 0).all()
    np.testing.assert_allclose(confusion.value[:4].sum(axis=1), 1)
    assert ((confusion.low <= confusion.value) & (confusion.value <= confusion.high)).all()


@pytest.mark.parametrize("d", [2, 6, 40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_silhouettes_are_scikit_learns(d, dtype):
    values, labels = blobs(d=d)
    values, labels = values.astype(dtype) + 100, np.append(labels[:-1], 9)  # one of them alone in its class
    expected = peer.silhouette_samples(values.astype(np.float64), labels)
    silhouettes = metrics.silhouette(values, labels)
    np.testing.assert_allclose(silhouettes.scores, expected, atol=1e-10)
    assert silhouettes.scores[-1] == 0
    assert silhouettes.mean.value == pytest.approx(expected.mean())
    assert silhouettes.per_class[1].value == pytest.approx(expected[labels == 1].mean())
    np.testing.assert_allclose(metrics.silhouette(values, labels, engine="jax").scores, expected, atol=1e-10)


def test_class_distances_do_not_depend_on_blocks(monkeypatch):
    members = np.unique(LABELS, return_inverse=True)[1]
    expected = distances.class_distances(VALUES, members, 4)
    np.testing.assert_allclose(distances.class_distances(VALUES, members, 4, block=37), expected, rtol=1e-12)
    monkeypatch.setattr(device, "LARGEST_BLOCK", 37)
    np.testing.assert_allclose(device.class_distances(VALUES, members, 4), expected, rtol=1e-12)


def test_indices_of_clusters_are_scikit_learns():
    assert metrics.davies_bouldin(VALUES, LABELS).value == pytest.approx(
        peer.davies_bouldin_score(VALUES, LABELS)
    )
    assert metrics.calinski_harabasz(VALUES, LABELS).value == pytest.approx(
        peer.calinski_harabasz_score(VALUES, LABELS)
    )
    agreement = metrics.kmeans_agreement(VALUES, LABELS)
    assert agreement.nmi.value == pytest.approx(peer.normalized_mutual_info_score(LABELS, agreement.clusters))
    assert agreement.ari.value == pytest.approx(peer.adjusted_rand_score(LABELS, agreement.clusters))
    assert agreement.nmi.low <= agreement.nmi.value <= agreement.nmi.high
    assert agreement.ari.low <= agreement.ari.value <= agreement.ari.high


@pytest.mark.parametrize("d", [6, 400])
def test_ridge_is_scikit_learns_at_its_penalty(d):
    # 200 training rows: fewer than features, too.
    values, labels = blobs(d=d, apart=1.5 / np.sqrt(d))
    given = values[:200], labels[:200], values[200:], labels[200:]
    probe = metrics.ridge_probe(*given)
    alpha = probe.penalties[0] * 200 * values[:200].var(axis=0).mean()
    expected = RidgeClassifier(alpha=alpha).fit(*given[:2]).predict(values[200:])
    np.testing.assert_array_equal(probe.predicted, expected)


def test_ridge_takes_the_penalty_of_least_leave_one_out_error():
    values, labels = blobs(n=60, apart=0.5)
    probe = metrics.ridge_probe(values, labels, values, labels)
    targets = np.eye(4)[labels]
    errors = []
    for penalty in probes._RIDGE:
        total = 0.0
        for i in range(60):
            rest = np.delete(np.arange(60), i)
            x, mean, centre = values[rest], values[rest].mean(axis=0), targets[rest].mean(axis=0)
            # Penalties are relative to the variance of all 60 rows: the fit is the same number throughout.
            ridge = penalty * 60 * values.var(axis=0).mean() * np.eye(6)
            solved = np.linalg.solve(
                (x - mean).T @ (x - mean) + ridge, (x - mean).T @ (targets[rest] - centre)
            )
            total += np.sum((targets[i] - centre - (values[i] - mean) @ solved) ** 2)
        errors.append(total)
    assert probe.penalties[0] == probes._RIDGE[int(np.argmin(errors))]


@pytest.mark.parametrize("strength", [1e-2, 1.0])
@pytest.mark.parametrize(
    ("d", "engine"), [(2, "cpu"), (6, "cpu"), (40, "cpu"), (40, "jax")]
)  # few weights, and many
def test_logistic_minimum_is_scikit_learns(strength, d, engine):
    values, labels = blobs(d=d, apart=2 / np.sqrt(d))
    values = values.astype(np.float32)
    fitted = probes.fit_logistic(values, labels, 4, strength, tolerance=1e-12, engine=engine)
    expected = LogisticRegression(C=strength, tol=1e-8, max_iter=1000).fit(values.astype(np.float64), labels)
    theirs = np.vstack([expected.coef_.T, expected.intercept_])

    def objective(weights):
        logits = values.astype(np.float64) @ weights[:-1] + weights[-1]
        own = logits[np.arange(300), labels]
        loss = np.sum(np.log(np.exp(logits).sum(axis=1)) - own)
        return loss + np.sum(weights[:-1] ** 2) / (2 * strength)

    # Products are float32: the minimum is found to their rounding, its place to about the root of that.
    assert objective(fitted) <= objective(theirs) * (1 + 1e-6)
    np.testing.assert_allclose(fitted[:-1], theirs[:-1], atol=2e-3)


@pytest.mark.parametrize("probe", ["ridge_probe", "logistic_probe"])
def test_probes_in_folds_are_probes_of_the_rest(probe):
    values, labels = blobs(n=150)
    held_out = getattr(metrics, f"{probe}_cross_validated")(values, labels, folds=3)
    fold_of = probes.stratified_folds(labels, 3)
    assert (
        np.abs(
            np.stack([np.bincount(labels[fold_of == f], minlength=4) for f in range(3)])
            - np.bincount(labels) / 3
        ).max()
        <= 1
    )
    for fold in range(3):
        held = fold_of == fold
        single = getattr(metrics, probe)(values[~held], labels[~held], values[held], labels[held])
        np.testing.assert_array_equal(held_out.predicted[held], single.predicted)
        assert held_out.penalties[fold] == single.penalties[0]
    assert (
        held_out.accuracy.low
        <= held_out.accuracy.value
        == np.mean(held_out.correct)
        <= held_out.accuracy.high
    )


def scores_of(values, labels):
    neighbors = exact_neighbors(values, 10)
    return {
        "loo": metrics.leave_one_out_knn(neighbors, labels).accuracy,
        "hit": metrics.neighborhood_hit(neighbors, labels).mean,
        "silhouette": metrics.silhouette(values, labels).mean,
        "davies_bouldin": metrics.davies_bouldin(values, labels),
        "calinski_harabasz": metrics.calinski_harabasz(values, labels),
        "ridge": metrics.ridge_probe_cross_validated(values, labels).accuracy,
        "logistic": metrics.logistic_probe_cross_validated(values, labels).accuracy,
        "log_me": metrics.log_me(values, labels),
        "h_score": metrics.h_score(values, labels).plain,
        "h_score_shrunk": metrics.h_score(values, labels).shrunk,
    }


def test_classes_further_apart_score_better():
    near, far = (scores_of(*blobs(apart=apart)) for apart in (0.3, 3.0))
    for name in near:
        better = far[name].value - near[name].value
        assert (better < 0) if name == "davies_bouldin" else (better > 0), name


def test_turning_scaling_and_renaming_change_nothing():
    before = scores_of(VALUES, LABELS)
    after = scores_of(3 * VALUES @ ROTATION, np.array([7, 1, 30, 2])[LABELS])
    del before["logistic"], after["logistic"]  # standardises every feature
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-6, err_msg=name)


def test_order_of_points_does_not_matter():
    order = np.random.default_rng(1).permutation(len(VALUES))
    before, after = scores_of(VALUES, LABELS), scores_of(VALUES[order], LABELS[order])
    for name in set(before) - {"ridge", "logistic"}:  # whose folds are blocks of rows
        assert after[name].value == pytest.approx(before[name].value, rel=1e-9), name


NAN = np.where(np.arange(300)[:, None] == 5, np.nan, VALUES)
REFUSALS = [
    (lambda: metrics.silhouette(VALUES, np.zeros(300, int)), "300 labels hold 1 class"),
    (lambda: metrics.silhouette(VALUES, np.arange(300)), "each of the 300 rows is a class of its own"),
    (lambda: metrics.silhouette(NAN, LABELS), "the first in row 5"),
    (lambda: metrics.davies_bouldin(np.ones((4, 2)), np.array([0, 0, 1, 1])), "coincide"),
    (lambda: metrics.calinski_harabasz(np.eye(3)[[0, 0, 1]], np.array([0, 0, 1])), "coincide"),
    (lambda: metrics.kmeans_agreement(VALUES, LABELS[:-1]), r"labels must be integers \[300\]"),
    (lambda: metrics.leave_one_out_knn(NEIGHBORS, LABELS, 11), "1 to the 10 that were found"),
    (lambda: metrics.neighbor_confusion(NEIGHBORS, LABELS, 3), "labels must be 0 to 2, found 0 and 3"),
    (lambda: metrics.train_to_test_knn(VALUES, LABELS, VALUES[:, :3], LABELS), "6 dimensions"),
    (lambda: metrics.train_to_test_knn(VALUES[:5], LABELS[:5], VALUES, LABELS), "n_neighbors must be 1 to 5"),
    (lambda: metrics.ridge_probe_cross_validated(VALUES, LABELS, folds=200), "largest class has"),
    (lambda: metrics.ridge_probe(0 * VALUES, LABELS, VALUES, LABELS), "the same in all rows"),
    (lambda: metrics.logistic_probe(VALUES, 0 * LABELS, VALUES, LABELS), "hold 1 class"),
]


@pytest.mark.parametrize(("call", "message"), REFUSALS)
def test_refuses_in_one_line(call, message):
    with pytest.raises(JaxtlError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
