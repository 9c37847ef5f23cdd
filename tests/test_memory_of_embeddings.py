"""The memory that embeddings take: told from settings alone, kept to, and refused with what fits."""

import os
import subprocess
import sys

import numpy as np
import pytest

import jaxtl
from jaxtl import JaxtlError
from jaxtl.machine.memory import largest_count, spoken_bytes
from jaxtl.methods import METHODS
from jaxtl.reduction import footprint
from jaxtl.reduction.choice import is_installed
from jaxtl.reduction.pca import sklearn_pca, streamed_pca

GIB = 2**30
# An embedding that a laptop cannot make, and how many rows of it would fit into 8 GiB, about.
TOO_LARGE = [
    ("pca", "sklearn", (1_000_000, 1280), {}, 420_000),
    ("pca", "sklearn", (50_000, 50_000), {}, 3_000),
    ("pca", "jaxtl", (100_000, 200_000), {}, 18_000),
    ("tsne", "opentsne", (100_000, 50), {"perplexity": 30_000}, 700),
    ("lle", "jaxtl", (100_000, 50), {"solver": "dense"}, 32_000),
    ("lle", "jaxtl", (100_000, 50), {"solver": "eigh"}, 18_000),
    ("lle", "sklearn", (100_000, 50), {"eigen_solver": "dense"}, 32_000),
]


@pytest.fixture
def free(monkeypatch):
    """A function that makes so many bytes be free."""

    def leave(count):
        monkeypatch.setattr(footprint, "available_memory", lambda: count)

    return leave


@pytest.mark.parametrize(("method", "backend", "shape", "params", "fit"), TOO_LARGE)
def test_what_does_not_fit_is_refused_with_the_rows_that_do(method, backend, shape, params, fit, free):
    free(8 * GIB)
    with pytest.raises(JaxtlError, match=rf"^{method} by {backend}: .* 8\.0 GiB are free") as refusal:
        footprint.check(method, backend, shape, params)
    assert "\n" not in str(refusal.value)
    if "perplexity" in params:
        assert "take a perplexity of at most 25" in str(refusal.value)
    else:
        told = int(str(refusal.value).split("at most ")[1].split(" rows")[0].replace(",", ""))
        assert fit / 2 < told < 2 * fit
        footprint.check(method, backend, (told, shape[1]), params)
        with pytest.raises(JaxtlError):
            footprint.check(method, backend, (told + 1, shape[1]), params)


@pytest.mark.parametrize("method", ["pca", "tsne", "lle"])
def test_usual_features_fit_a_small_machine(method, free):
    free(2 * GIB)
    for backend in METHODS[method].libraries:
        footprint.check(method, backend, (10_000, 1280))


@pytest.mark.parametrize(
    ("n", "metis", "peak"),
    [(12_000, True, 134), (20_000, True, 286), (40_000, True, 793), (20_000, False, 400)],
)
def test_lle_of_many_points_is_expected_to_take_more_than_measured_and_less_than_twice(
    n, metis, peak, monkeypatch
):
    """MiB beside the features, as docs/lle.md has them for the factors, with all else that is there."""
    monkeypatch.setattr(footprint, "dissects", lambda: metis)
    assert peak < footprint.needed("lle", "jaxtl", (n, 1280)) / 2**20 < 2 * peak


def test_landmarks_fit_where_all_rows_do_not(free):
    free(4 * GIB)
    with pytest.raises(JaxtlError, match=r"landmarks of at most [\d,]+$"):
        footprint.check("lle", "sklearn", (1_000_000, 1280))
    footprint.check("lle", "sklearn", (1_000_000, 1280), {"landmarks": 5000})


def test_features_beyond_memory_are_read_piece_by_piece(free):
    """Where nobody asks for a library; a parameter of one library's own asks for it."""
    values = np.random.default_rng(0).normal(size=(30_000, 200))
    free(footprint.needed("pca", "jaxtl", values.shape))
    embedding = jaxtl.reduce(values, "pca")
    assert embedding.backend == "jaxtl"
    free(64 * GIB)
    whole = jaxtl.reduce(values, "pca")
    assert whole.backend == "sklearn"
    np.testing.assert_allclose(embedding.coords, whole.coords, atol=1e-5)
    free(footprint.needed("pca", "jaxtl", values.shape))
    for asked in ({"backend": "sklearn"}, {"svd_solver": "covariance_eigh"}):
        with pytest.raises(JaxtlError, match=r"pca by sklearn: .* or backend jaxtl, which reads them"):
            jaxtl.reduce(values, "pca", **asked)


def test_neighbours_that_are_given_need_no_memory_to_be_found():
    shape = (1_000_000, 1280)
    given = footprint.needed("tsne", "opentsne", shape, {"neighbors": "given", "perplexity": 10})
    assert given < 5 * GIB < 10 * GIB < footprint.needed("tsne", "opentsne", shape, {"perplexity": 10})


def test_it_is_refused_before_any_work(free):
    free(2**20)
    told = []
    with pytest.raises(JaxtlError, match=r"pca by sklearn: features \[40, 6\] would take .* of memory"):
        jaxtl.reduce(np.eye(40, 6), "pca", "sklearn", progress=told.append)
    assert not told


def test_counts_that_fit_are_found_by_what_they_take():
    assert largest_count(lambda n: n * n, 1000, 100) == 10
    assert largest_count(lambda n: n, 7, 100) == 7
    assert largest_count(lambda n: n + 5, 7, 4) == 0
    assert (spoken_bytes(GIB), spoken_bytes(2**20)) == ("1.0 GiB", "1 MiB")


@pytest.mark.parametrize("shape", [(6, 40), (30, 500), (500, 30), (20, 20)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_wide_features_have_the_components_of_scikit_learn(shape, count, monkeypatch):
    monkeypatch.setattr("jaxtl.reduction.pca.PIECE", 100)
    values = (np.random.default_rng(0).normal(size=shape) + 100).astype(np.float32)
    told = []
    coords, params, diagnostics = streamed_pca(values, told.append, n_components=count)
    wanted, _, known = sklearn_pca(values, None, n_components=count)
    np.testing.assert_allclose(coords, wanted, atol=1e-6)
    one = "explained_variance_ratio"
    np.testing.assert_allclose(diagnostics[one], known[one], atol=1e-11)
    assert told == sorted(told)
    assert told[-1] == 1
    assert params["n_components"] == count


def test_two_hundred_thousand_columns_take_little(tmp_path):
    values = np.lib.format.open_memmap(tmp_path / "wide.npy", "w+", np.float32, (6, 200_000))
    values[:] = np.random.default_rng(0).normal(size=(6, 200_000))
    embedding = jaxtl.reduce(values, "pca", "jaxtl")
    assert embedding.coords.shape == (6, 2)
    assert footprint.needed("pca", "jaxtl", (6, 200_000)) < GIB / 2


# Peaks of a process of its own beside its features: the shapes, and what makes the embedding.
MEASURED = [
    ("pca", "sklearn", (20_000, 1280), {}),
    ("pca", "sklearn", (300, 60_000), {}),
    ("pca", "jaxtl", (2000, 3000), {}),
    ("tsne", "opentsne", (2000, 500), {"perplexity": 300, "n_iter": 1, "early_exaggeration_iter": 1}),
    pytest.param(
        *("tsne", "intelex", (2000, 500), {"perplexity": 300, "n_iter": 1, "early_exaggeration_iter": 1}),
        marks=pytest.mark.skipif(not is_installed("intelex"), reason="scikit-learn-intelex is not installed"),
    ),
    ("lle", "jaxtl", (4000, 20), {"solver": "dense"}),
    ("lle", "sklearn", (3000, 20), {"eigen_solver": "dense"}),
]
CODE = """
import numpy as np, sys
import sklearn.decomposition, sklearn.manifold, openTSNE, jaxtl.lle.estimator, jaxtl.reduction
from jaxtl.machine.memory import forget_peak, resident
values = np.random.default_rng(0).normal(size={shape}).astype(np.float32)
jaxtl.reduce(values[:200, :20], {method!r}, {backend!r}, **{small!r})
forget_peak()
before = resident("VmRSS")
jaxtl.reduce(values, {method!r}, {backend!r}, **{params!r})
print(resident("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("method", "backend", "shape", "params"), MEASURED)
def test_peaks_are_within_a_factor_of_two_of_what_is_told(method, backend, shape, params):
    small = {name: value for name, value in params.items() if name != "perplexity"}
    code = CODE.format(method=method, backend=backend, shape=shape, params=params, small=small)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    peak, told = int(ended.stdout), footprint.needed(method, backend, shape, params)
    print(f"{method} by {backend} of {shape}: {spoken_bytes(peak)}, told {spoken_bytes(told)}")
    assert told / 2 < peak < 2 * told
