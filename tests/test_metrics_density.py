"""Clusters that nobody counted: found by density, and compared with classes."""

import numpy as np
import pytest

from jaxtl import metrics
from jaxtl.errors import JaxtlError


def blobs(count, n=600, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % count
    centres = np.stack([np.cos(2 * np.pi * labels / count), np.sin(2 * np.pi * labels / count)], axis=1)
    return (10 * centres + 0.5 * rng.normal(size=(n, 2))).astype(np.float32), labels


@pytest.mark.parametrize("count", [2, 5, 10])
def test_as_many_clusters_are_found_as_there_are(count):
    dense = metrics.density_clusters(*blobs(count), halves=4)
    assert tuple(dense.count) == (count, count, count)
    assert (tuple(dense.matched), dense.pairs, dense.classes) == ((1, 1, 1), count, count)


def test_classes_that_share_a_cluster_are_not_counted_as_apart():
    values, labels = blobs(5)
    # Ten classes in five clusters, and five in ten.
    assert metrics.density_clusters(values, np.arange(600) % 10, halves=4).matched.value == 0
    values, labels = blobs(10)
    halved = metrics.density_clusters(values, labels // 2, halves=4)
    assert (halved.count.value, halved.pairs, halved.matched.value) == (10, 0, 0)


def test_some_classes_may_have_a_cluster_of_their_own():
    values, labels = blobs(5)
    dense = metrics.density_clusters(values, np.maximum(labels, 1), halves=4)
    assert (dense.pairs, dense.classes) == (3, 4)
    assert dense.matched.value == pytest.approx(2 * 3 / (5 + 4))


def test_the_same_is_found_again_and_a_large_set_is_sampled():
    values, labels = blobs(4, n=4500)
    once, again = (metrics.density_clusters(values, labels, halves=2, seed=3) for _ in range(2))
    np.testing.assert_array_equal(once.clusters, again.clusters)
    assert np.sum(once.clusters == -2) == 500
    assert once.count == again.count


def test_too_few_points_are_refused():
    with pytest.raises(JaxtlError, match="needs at least 20 rows"):
        metrics.density_clusters(np.zeros((6, 2)), np.arange(6) % 2)
