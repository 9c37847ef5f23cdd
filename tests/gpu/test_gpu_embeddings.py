"""Embeddings and neighbours on a GPU, against the CPU and other libraries, at two sizes."""

import pytest

from jaxtl.neighbors import exact_neighbors
from jaxtl.reduction import reduce
from tests.gpu.agreement import compare_axes, compare_neighbors, compare_planes, compare_tsne

SIZES = [2000, 10_000]


@pytest.mark.parametrize("n", SIZES)
def test_neighbors_are_those_of_a_cpu(n, features, measured):
    values = features(n).values
    measured(compare_neighbors(*(exact_neighbors(values, 12, engine=engine) for engine in ("jax", "cpu"))))


@pytest.mark.parametrize("n", SIZES)
def test_lle_is_that_of_a_cpu(n, features, measured):
    ours, theirs = (reduce(features(n), "lle", "jaxtl", engine=engine) for engine in ("jax", "cpu"))
    measured({"eigenvectors' residual": ours.diagnostics["eigen_residual"]})
    measured(compare_planes(ours, theirs))
    assert ours.diagnostics["eigen_residual"] <= 1e-6


def test_lle_is_scikit_learns(features, measured):
    """At the small size: scikit-learn's time grows steeply."""
    ours = reduce(features(SIZES[0]), "lle", "jaxtl", engine="jax")
    measured(compare_planes(ours, reduce(features(SIZES[0]), "lle", "sklearn", tol=0.0)))


@pytest.mark.parametrize("n", SIZES)
def test_pca_by_cuml_is_scikit_learns(n, features, reduce_apart, measured):
    measured(compare_axes(reduce_apart(features(n), "pca"), reduce(features(n), "pca", "sklearn")))


@pytest.mark.parametrize("n", SIZES)
def test_tsne_by_cuml_is_no_worse_than_opentsnes(n, features, reduce_apart, measured):
    theirs = reduce(features(n), "tsne", "opentsne")
    measured(compare_tsne(reduce_apart(features(n), "tsne"), theirs, features(n)))
