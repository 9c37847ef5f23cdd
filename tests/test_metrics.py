import warnings

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.metrics import knn_accuracy, knn_cross_validated
from jaxtl.neighbors import exact_neighbors


def two_clouds(n=100, distance=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return rng.normal(size=(n, 3)) + distance * labels[:, None], labels


def test_agrees_with_neighbours_counted_by_hand():
    # An odd k and two classes, so that no vote is tied; labels alternate, so folds are blocks of rows.
    values, labels = two_clouds()
    mean, per_fold = knn_accuracy(values, labels, n_neighbors=7)
    expected = []
    for fold in np.split(np.arange(100), 5):
        rest = np.setdiff1d(np.arange(100), fold)
        distances = np.linalg.norm(values[fold][:, None] - values[rest][None], axis=2)
        votes = labels[rest][np.argsort(distances, axis=1)[:, :7]].mean(axis=1)
        expected.append(np.mean((votes > 0.5) == labels[fold]))
    np.testing.assert_allclose(per_fold, expected)
    assert mean == pytest.approx(np.mean(expected))
    assert 0.6 < mean < 1.0


def test_is_the_figure_of_cross_val_score():
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(1)
    values, labels = rng.normal(size=(200, 2)), rng.integers(0, 4, 200)
    expected = cross_val_score(KNeighborsClassifier(10), values, labels, cv=5)
    np.testing.assert_array_equal(knn_accuracy(values, labels)[1], expected)


@pytest.mark.parametrize("candidates", [10, 11, 30, 130])
def test_from_known_neighbours_it_is_the_same_figure(candidates):
    # 131 rows: folds of unequal sizes; of few candidates many lie in a point's own fold.
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 131)
    values = rng.normal(size=(131, 4)) + labels[:, None]
    mean, _ = knn_accuracy(values, labels)
    accuracies = knn_cross_validated(values, labels, exact_neighbors(values, candidates))
    assert accuracies.accuracy.value == pytest.approx(mean, abs=1e-12)
    assert accuracies.accuracy.low < mean < accuracies.accuracy.high
    assert accuracies.correct.mean() == pytest.approx(mean, abs=0.01)


def test_extremes():
    values, labels = two_clouds(distance=50.0)
    assert knn_accuracy(values, labels)[0] == 1.0
    # Labels that have nothing to do with the values: chance, here one half, within 4 standard errors.
    rng = np.random.default_rng(2)
    assert abs(knn_accuracy(rng.normal(size=(1000, 2)), rng.integers(0, 2, 1000))[0] - 0.5) < 0.065


def test_is_the_same_in_float32_and_after_any_shift_scale_or_rotation():
    values, labels = two_clouds()
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    reference = knn_accuracy(values, labels)[0]
    assert knn_accuracy(values.astype(np.float32), labels)[0] == reference
    assert knn_accuracy(10 * values @ rotation + 3, labels)[0] == reference


def test_rare_classes_count_without_a_warning():
    values, labels = two_clouds(distance=50.0)
    values = np.concatenate([values, np.full((1, 3), 500.0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, per_fold = knn_accuracy(values, np.append(labels, 9))
    # The one of its kind has none to learn from.
    assert len(per_fold) == 5
    assert mean == pytest.approx(np.mean([20 / 21, 1, 1, 1, 1]))


def test_few_rows_with_fewer_folds_and_neighbours():
    values, labels = two_clouds(n=6, distance=50.0)
    assert knn_accuracy(values, labels, n_neighbors=1, folds=3)[0] == 1.0


VALUES, LABELS = two_clouds(n=12)
REFUSALS = [
    (VALUES[:1], LABELS[:1], {}, "the 1 labels hold 1 class; it needs at least 2"),
    (VALUES, np.zeros(12, int), {}, "the 12 labels hold 1 class; it needs at least 2"),
    (VALUES[:8], LABELS[:8], {}, "the largest class has 4 members; give more images or take fewer folds"),
    (VALUES, LABELS, {}, "12 rows leave 9 to train on, fewer than 10 neighbours"),
    (VALUES, LABELS[:-1], {}, r"labels must be integers \[12\] or texts, got int64 \[11\]"),
    (VALUES[:, 0], LABELS, {}, r"real numbers \[n, d\], got float64 \[12\]"),
    (VALUES, LABELS, {"n_neighbors": 0}, "n_neighbors must be a whole number, at least 1, got 0"),
    (VALUES, LABELS, {"folds": 1}, "folds must be a whole number, at least 2, got 1"),
    (np.where(np.arange(12)[:, None] == 5, np.nan, VALUES), LABELS, {"n_neighbors": 3}, "the first in row 5"),
    (np.where(np.arange(12)[:, None] == 2, np.inf, VALUES), LABELS, {"n_neighbors": 3}, "in 1 of 12 rows"),
]


@pytest.mark.parametrize(("values", "labels", "settings", "message"), REFUSALS)
def test_refuses_in_one_line(values, labels, settings, message):
    with pytest.raises(JaxtlError, match=message) as caught:
        knn_accuracy(values, labels, **settings)
    assert "\n" not in str(caught.value)
