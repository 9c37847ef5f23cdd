"""Nearest neighbours against brute force by differences in float64, and where float32 could not tell."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxtl.errors import JaxtlError
from jaxtl.machine import engines
from jaxtl.neighbors import device, exact_neighbors, host, nearest_rows
from jaxtl.records.arrays import Neighbors

ENGINES = ("cpu", "jax")
RANDOM = np.random.default_rng(0).normal(size=(500, 20))
NOTHING = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)
GRID = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), -1).reshape(-1, 2)


@pytest.fixture
def features(mnist_features):
    return mnist_features[:600]


def sizes(usual, others=()):
    """Cases (k, engine): all k by the CPU; by the device the usual ones, the others before a release.

    Each k compiles the device's program anew, and what it does is the same for all.
    """
    return pytest.mark.parametrize(
        ("k", "engine"),
        [
            *((k, "cpu") for k in sorted({*usual, *others})),
            *((k, "jax") for k in usual),
            *(pytest.param(k, "jax", marks=pytest.mark.slow) for k in others),
        ],
    )


def brute(values, k, queries=None):
    """Indices and distances of the k nearest rows, of rows at one distance those of lower index."""
    apart = cdist(np.float64(values if queries is None else queries), np.float64(values))
    if queries is None:
        np.fill_diagonal(apart, np.inf)
    indices = np.argsort(apart, axis=1, kind="stable")[:, :k]
    return indices, np.take_along_axis(apart, indices, 1)


def check(neighbors, indices, distances):
    assert neighbors.indices.dtype == np.int32
    assert neighbors.distances.dtype == np.float32
    np.testing.assert_array_equal(neighbors.indices, indices)
    np.testing.assert_allclose(neighbors.distances, distances, rtol=1e-6)


@pytest.mark.parametrize("d", [2, 15, 16, 1280])
@sizes([12], [1, 33, 90])
def test_are_those_of_brute_force(k, d, engine):
    values = np.random.default_rng(d).normal(size=(300, d))
    check(exact_neighbors(values, k, engine=engine), *brute(values, k))


@pytest.mark.parametrize(("k", "engine"), [(1, "cpu"), (12, "cpu"), (33, "cpu"), (90, "cpu"), (12, "jax")])
def test_are_those_of_brute_force_on_real_features(k, engine, features):
    check(exact_neighbors(features, k, engine=engine), *brute(features, k))


@sizes([1, 40], [11, 12])
@pytest.mark.parametrize(
    "values",
    [
        np.repeat(RANDOM[:200], 2, axis=0),
        np.repeat(RANDOM[:200], 2, axis=0)[np.random.default_rng(1).permutation(400)].astype(np.float32),
        np.round(10 * RANDOM),
        GRID,
    ],
    ids=["rows twice", "rows twice, shuffled", "whole numbers", "grid"],
)
def test_of_equal_distances_take_lower_indices(values, k, engine):
    # A limit that several rows share must not cost a nearer row its place.
    check(exact_neighbors(values, k, engine=engine), *brute(values, k))


@sizes([12], [1, 40])
@pytest.mark.parametrize(
    "values",
    [
        (1e4 + 1e-2 * np.random.default_rng(2).normal(size=(400, 40))).astype(np.float32),
        (1e4 + 1e-2 * np.random.default_rng(2).normal(size=(400, 3))).astype(np.float32),
        1e8 + 1e-3 * np.random.default_rng(3).normal(size=(400, 40)),
        # The mean cannot help where one point is far away from all.
        np.concatenate([1e-3 * RANDOM[:400], np.full((1, 20), 1e4)]).astype(np.float32),
        np.concatenate([RANDOM[:200] + 1e4, RANDOM[200:400] - 1e4]).astype(np.float32),
    ],
    ids=["offset", "offset, tree", "offset, float64", "one far away", "two clusters far apart"],
)
def test_rounding_of_float32_norms_hides_nothing(values, k, engine):
    neighbors = exact_neighbors(values, k, engine=engine)
    _, distances = brute(values, k)
    np.testing.assert_allclose(neighbors.distances, distances, rtol=1e-6)
    again = np.linalg.norm(np.float64(values)[neighbors.indices] - np.float64(values)[:, None], axis=2)
    np.testing.assert_allclose(again, distances, rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scale", [1e30, 1e-20, 1e-22, 1e-30])
def test_scale_does_not_matter(scale, engine):
    values = (RANDOM * scale).astype(np.float32)
    check(exact_neighbors(values, 12, engine=engine), *brute(values, 12))


@pytest.mark.parametrize("d", [3, 20])
def test_values_whose_sum_no_float32_holds_are_searched_without_a_warning(d):
    values = (RANDOM[:200, :d] * 1e38 / 2 / np.sqrt(d)).astype(np.float32)
    with np.errstate(over="ignore"):
        assert not np.isfinite(np.abs(values).sum())
    check(exact_neighbors(values, 5), *brute(values, 5))
    near = nearest_rows(values, values[:20].copy(), 5)
    assert near.indices[:, 0].tolist() == list(range(20))


@pytest.mark.parametrize("d", [3, 20])
@sizes([49], [1, 12])
def test_no_row_among_its_own(k, d, engine):
    values = RANDOM[:300, :d].copy()
    values[:50] = values[0]
    for rows in (values, np.ones((60, d))):
        neighbors = exact_neighbors(rows, k, engine=engine)
        assert not (neighbors.indices == np.arange(len(rows))[:, None]).any()
        assert all(len(set(row)) == k for row in neighbors.indices.tolist())
        np.testing.assert_allclose(neighbors.distances, brute(rows, k)[1], rtol=1e-6)


@pytest.mark.parametrize("d", [3, 20])
@pytest.mark.parametrize("k", [5, 40])
def test_threads_do_not_show(k, d):
    values = np.repeat(RANDOM[:, :d], 2, axis=0)
    one = exact_neighbors(values, k, n_jobs=1)
    many = exact_neighbors(values, k, n_jobs=5)
    np.testing.assert_array_equal(one.indices, many.indices)
    np.testing.assert_array_equal(one.distances, many.distances)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_other_row(engine):
    values = RANDOM[:30]
    check(exact_neighbors(values, 29, engine=engine), *brute(values, 29))
    check(exact_neighbors(values[:2], 1, engine=engine), [[1], [0]], brute(values[:2], 1)[1])


@pytest.mark.parametrize("d", [3, 20])
@sizes([12, 400], [1, 40])
def test_nearest_rows_of_queries(k, d, engine):
    values, queries = RANDOM[:400, :d], RANDOM[400:, :d]
    check(nearest_rows(values, queries, k, engine=engine), *brute(values, k, queries))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("d", [3, 20])
def test_a_row_asked_for_finds_itself(d, engine):
    values = RANDOM[:, :d].copy()
    for queries in (values, values.copy()):
        check(nearest_rows(values, queries, 4, engine=engine), *brute(values, 4, values))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("values", [GRID, np.round(10 * RANDOM)], ids=["grid", "whole numbers"])
def test_of_queries_equal_distances_take_lower_indices(values, engine):
    check(nearest_rows(values, values[::3], 12, engine=engine), *brute(values, 12, values[::3]))


@pytest.mark.parametrize("d", [2, 20])
def test_blocks_of_the_device_do_not_show(d, monkeypatch):
    values = RANDOM[:, :d]
    whole = exact_neighbors(values, 12, engine="jax")
    monkeypatch.setattr(device, "LARGEST_BLOCK", 73)
    neighbors = exact_neighbors(values, 12, engine="jax")
    np.testing.assert_array_equal(neighbors.indices, whole.indices)
    np.testing.assert_array_equal(neighbors.distances, whole.distances)


@pytest.mark.parametrize("tile", [150, 299])
@pytest.mark.parametrize("values", ["random", "rows that are there several times"])
def test_tiles_of_the_cpu_do_not_show(tile, values, monkeypatch):
    some = np.random.default_rng(0).normal(size=(600, 40)).astype(np.float32)
    some = some if values == "random" else some[np.random.default_rng(1).integers(0, 100, 600)]
    expected = exact_neighbors(some, 12, engine="cpu"), nearest_rows(some, some[50:80], 12)
    monkeypatch.setattr(host, "_TILE", tile)
    found = exact_neighbors(some, 12, engine="cpu"), nearest_rows(some, some[50:80], 12)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.indices, other.indices)
        np.testing.assert_array_equal(one.distances, other.distances)


def test_the_engine_is_the_gpu_where_there_is_one_and_the_work_is_worth_it(monkeypatch):
    asked = []
    monkeypatch.setattr(engines, "default_engine", lambda: "jax")
    monkeypatch.setattr(engines, "device_memory", lambda: 10**6)
    monkeypatch.setattr(device, "search", lambda *args: asked.append(args) or Neighbors(*NOTHING))
    values = np.zeros((1000, 2), np.float32)
    exact_neighbors(values, 1)
    nearest_rows(values, values, 1)
    assert len(asked) == 2
    exact_neighbors(values[:100], 1)  # over before a program is compiled
    exact_neighbors(values, 1, engine="cpu")
    monkeypatch.setattr(engines, "device_memory", lambda: 10**4)
    exact_neighbors(values, 1)
    assert len(asked) == 2
    with pytest.raises(JaxtlError, match="engine: must be one of auto, cpu, jax, got 'tpu'"):
        exact_neighbors(values, 1, engine="tpu")


def test_without_a_gpu_jax_is_not_imported():
    code = (
        "import sys, numpy; from jaxtl.neighbors import exact_neighbors; "
        "exact_neighbors(numpy.random.default_rng(0).normal(size=(1000, 2)), 3); "
        "sys.exit('jax' in sys.modules)"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_ranges_are_checked():
    with pytest.raises(JaxtlError, match="n_neighbors must be 1 to 499 for so many rows, got 500"):
        exact_neighbors(RANDOM, 500)
    with pytest.raises(JaxtlError, match="1 to 499"):
        exact_neighbors(RANDOM, 0, engine="jax")
    with pytest.raises(JaxtlError, match="1 to 500 for so many rows, got 501"):
        nearest_rows(RANDOM, RANDOM[:3], 501)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("d", [3, 20])
def test_distances_beyond_float32_are_refused(d, engine):
    with pytest.raises(JaxtlError, match=r"exceed what float32 holds.*divide the values") as raised:
        exact_neighbors(RANDOM[:60, :d] * 1e50, 5, engine=engine)
    assert "\n" not in str(raised.value)
