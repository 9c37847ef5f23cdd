"""The checks of tests/gpu on a CPU: equal results pass, others do not, and no one runs them by accident."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Features
from jaxtl.reduction import reduce
from tests.gpu import agreement, networks
from tests.gpu.processes import check_a_killed_reducer


@pytest.fixture(scope="module")
def blobs():
    """180 points around 4 centres, near enough for a connected graph of neighbours."""
    rng = np.random.default_rng(0)
    labels = np.arange(180, dtype=np.int32) % 4
    values = rng.normal(size=(4, 24))[labels] + rng.normal(size=(180, 24)) * 2
    return Features(values.astype(np.float32), labels, np.arange(180, dtype=np.int32), {})


@pytest.mark.slow
def test_two_ways_to_one_embedding_agree(blobs):
    lle = {engine: reduce(blobs, "lle", "jaxtl", engine=engine) for engine in ("jax", "cpu")}
    agreement.compare_planes(lle["jax"], lle["cpu"])
    agreement.compare_planes(lle["jax"], reduce(blobs, "lle", "sklearn", tol=0.0))
    agreement.compare_neighbors(
        *(exact_neighbors(blobs.values, 12, engine=engine) for engine in ("jax", "cpu"))
    )
    pca = reduce(blobs, "pca", "sklearn")
    agreement.compare_axes(replace(pca, coords=-pca.coords), pca)
    tsne = reduce(blobs, "tsne", "opentsne", n_iter=100)
    agreement.compare_tsne(tsne, tsne, blobs)


def test_another_embedding_is_noticed(blobs):
    lle = reduce(blobs, "lle", "jaxtl")
    with pytest.raises(AssertionError):
        agreement.compare_planes(replace(lle, coords=lle.coords[::-1].copy()), lle)
    pca = reduce(blobs, "pca", "sklearn")
    with pytest.raises(AssertionError):
        agreement.compare_axes(replace(pca, coords=pca.coords * np.float32([1, 1.01])), pca)
    noise = replace(pca, coords=np.random.default_rng(1).normal(size=(180, 2)).astype(np.float32))
    with pytest.raises(AssertionError, match="10-NN accuracy"):
        agreement.compare_tsne(noise, reduce(blobs, "tsne", "opentsne", n_iter=100), blobs)
    neighbors = exact_neighbors(blobs.values, 12)
    with pytest.raises(AssertionError):
        agreement.compare_neighbors(replace(neighbors, indices=neighbors.indices[:, ::-1]), neighbors)


def test_features_and_losses_agree_within_rounding_only():
    values = np.array([[0.0, 1.0, 2.0]], np.float32)
    agreement.compare_features(values, values)
    for other in (values + 2e-4, values * np.float32("nan")):
        with pytest.raises(AssertionError):
            agreement.compare_features(other, values)
    agreement.compare_losses({"loss": 1.02}, {"loss": 1.0})
    for loss in (1.04, float("nan")):
        with pytest.raises(AssertionError):
            agreement.compare_losses({"loss": loss}, {"loss": 1.0})


@pytest.mark.slow
def test_a_killed_process_is_reported_and_replaced(blobs, tmp_path):
    check_a_killed_reducer(blobs, "sklearn", tmp_path)


@pytest.mark.slow
def test_another_process_gives_the_same_features(tmp_path):
    apart = networks.compute_apart("features", 40, tmp_path, on_cpu=True, deterministic=True)
    np.testing.assert_array_equal(apart, networks.features(40))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no tests collected"),
        (("-m", "not slow"), "no tests collected"),
        (("-m", "gpu"), "test_tsne_by_cuml_is_no_worse_than_opentsnes[10000]"),
    ],
)
@pytest.mark.slow
def test_they_are_collected_when_asked_for_only(arguments, said, pytestconfig):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "tests/gpu"]
    done = subprocess.run([*command, *arguments], cwd=pytestconfig.rootpath, capture_output=True, text=True)
    assert said in done.stdout
