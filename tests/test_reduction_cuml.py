"""cuML's backends, by a stand-in that computes on the CPU, and by its own signatures where it is installed.

No test here has seen a GPU. The stand-in does what the sources of cuML 26.10 do, as far as it is used.
"""

import importlib
import inspect
import sys
import types

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.records.arrays import Features
from jaxtl.reduction import reduce
from jaxtl.reduction.cuml import cuml_pca, cuml_tsne

CLASSES = {"PCA": "cuml.decomposition", "TSNE": "cuml.manifold", "NearestNeighbors": "cuml.neighbors"}


def stand_in(monkeypatch, **replaced):
    """Put a `cuml` and a `cupy` on NumPy into sys.modules; returns what is called, with its arguments."""
    calls = []

    class Model:
        def __init__(self, **arguments):
            calls.append((type(self).__name__, "__init__", (), arguments))
            self.given = arguments

        def _called(self, name, *args, **kwargs):
            calls.append((type(self).__name__, name, args, kwargs))

    class PCA(Model):
        def fit_transform(self, x):
            self._called("fit_transform", x)
            u, s, vt = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
            signs = np.array([-1, 1])  # any, as a solver's
            self.components_ = vt[:2] * signs[:, None]
            self.explained_variance_ratio_ = (s**2 / (s**2).sum())[:2]
            return u[:, :2] * s[:2] * signs

    class NearestNeighbors(Model):
        def fit(self, x):
            self._called("fit", x)
            self.x = x.astype(float)
            return self

        def kneighbors(self, x):
            self._called("kneighbors", x)
            apart = np.sqrt(((x[:, None].astype(float) - self.x[None]) ** 2).sum(axis=2))
            order = np.argsort(apart, axis=1, kind="stable")[:, : self.given["n_neighbors"]]
            return np.take_along_axis(apart, order, 1).astype(np.float32), order

    class TSNE(Model):
        def fit_transform(self, x, *, knn_graph):
            indices, distances = knn_graph
            self._called("fit_transform", x, knn_graph=(indices.copy(), distances.copy()))
            assert (indices[:, 0] == np.arange(len(x))).all()
            distances **= 2
            distances /= distances.max()
            return np.random.default_rng(self.given["random_state"]).normal(size=(len(x), 2)).astype("f4")

    classes = {"PCA": PCA, "TSNE": TSNE, "NearestNeighbors": NearestNeighbors} | replaced
    for name, module in CLASSES.items():
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{name: classes[name]}))
    monkeypatch.setitem(sys.modules, "cuml", types.SimpleNamespace(__version__="26.10.00"))
    names = ("float64", "asfortranarray", "asarray", "arange", "full", "where", "concatenate")
    array = {name: getattr(np, name) for name in names}
    cupy = types.SimpleNamespace(__version__="14.2.0", asnumpy=np.array, **array)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return calls


def blobs(n=150, d=10):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, d)) + 6 * np.eye(d)[np.arange(n) % 3]).astype(np.float32)


def initial(calls, name):
    return [arguments for model, method, _, arguments in calls if (model, method) == (name, "__init__")]


def graphs(calls):
    return [
        given["knn_graph"]
        for model, method, _, given in calls
        if (model, method) == ("TSNE", "fit_transform")
    ]


def test_pca_is_scikit_learns_with_its_signs_in_float64(monkeypatch):
    calls = stand_in(monkeypatch)
    values = blobs() + 100
    coords, params, diagnostics = cuml_pca(values, None, seed=4)
    zeros = np.zeros(len(values), np.int32)
    peer = reduce(Features(values, zeros, zeros), "pca", "sklearn")
    np.testing.assert_allclose(coords, peer.coords, atol=1e-4)
    np.testing.assert_allclose(
        diagnostics["explained_variance_ratio"], peer.diagnostics["explained_variance_ratio"]
    )
    data = calls[1][2][0]
    assert (data.dtype, data.flags.f_contiguous) == (np.float64, True)
    assert (params["svd_solver"], params["seed"], params["dtype"]) == ("full", 4, "float64")
    assert params["versions"].keys() == {"cuml", "cupy", "numpy"}


def test_tsne_asks_for_opentsnes_optimisation(monkeypatch):
    calls = stand_in(monkeypatch)
    _, params, diagnostics = cuml_tsne(blobs(), None, perplexity=10.0)
    (asked,) = initial(calls, "TSNE")
    fixed = {"n_components": 2, "method": "fft", "init": "pca", "output_type": "cupy"}
    phases = {"exaggeration_iter": 250, "max_iter": 750, "early_exaggeration": 12.0, "late_exaggeration": 1.0}
    rates = {"learning_rate_method": "none", "learning_rate": 150 / 12, "min_grad_norm": 0.0}
    momenta = {"pre_momentum": 0.8, "post_momentum": 0.8}
    expected = {"perplexity": 10.0, "n_neighbors": 31, **fixed, **phases, **rates, **momenta}
    assert {name: asked[name] for name in expected} == expected
    assert asked["random_state"] > 0  # cuML draws another one for 0
    assert (params["early_learning_rate"], params["learning_rate"]) == (150 / 12, 150 / 6)
    assert (params["n_iter"], params["n_neighbors"], params["seed"]) == (500, 30, 0)
    assert diagnostics["retried_after_nan"] is False


def cuml_conditionals(distances, perplexity):
    """sigmas_kernel of cuML's exact_kernels.cuh, in float32."""
    squared = (distances**2 / (distances**2).max()).astype(np.float32)
    low, high = np.full((2, len(squared), 1), np.inf, np.float32) * [[[-1]], [[1]]]
    beta = np.ones((len(squared), 1), np.float32)
    for _ in range(100):
        p = np.exp(-squared * beta)
        total = p.sum(axis=1, keepdims=True) + np.finfo(np.float32).eps
        p /= total
        more = np.log(total) + beta * (squared * p).sum(axis=1, keepdims=True) > np.log(perplexity)
        low, high = np.where(more, beta, low), np.where(more, high, beta)
        with np.errstate(invalid="ignore"):
            up = np.where(np.isinf(high), beta * 2, (beta + high) / 2)
            down = np.where(np.isinf(low), beta / 2, (beta + low) / 2)
        beta = np.where(more, up, down).astype(np.float32)
    return p


def test_what_tsne_is_given_makes_cumls_affinities_those_of_opentsne(monkeypatch):
    from openTSNE.affinity import PerplexityBasedNN

    calls = stand_in(monkeypatch)
    cuml_tsne(blobs(), None, perplexity=10.0)
    indices, distances = graphs(calls)[0]
    p = cuml_conditionals(distances, 10.0)
    assert p[:, 0].max() == 0
    joint = np.zeros((150, 150))
    np.add.at(joint, (np.arange(150)[:, None], indices), p / 300)
    peer = PerplexityBasedNN(blobs(), perplexity=10, k_neighbors=30, method="exact", n_jobs=1).P.toarray()
    assert np.abs(joint + joint.T - peer).sum() < 2e-3


def test_copies_of_a_row_are_its_neighbours_and_itself_is_not(monkeypatch):
    values = blobs()
    values[:60] = values[0]
    calls = stand_in(monkeypatch)
    cuml_tsne(values, None, perplexity=10.0)
    indices, distances = graphs(calls)[0]
    assert (indices[:, 1:] != np.arange(150)[:, None]).all()
    assert all(len(set(row)) == 31 for row in indices.tolist())
    assert (distances[:60, 1:] == 0).all()
    assert cuml_conditionals(distances, 10.0)[:, 0].max() == 0


def test_tsne_measures_the_divergence_as_opentsne_does(monkeypatch):
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN

    stand_in(monkeypatch)
    values = blobs()
    coords, _, diagnostics = cuml_tsne(values, None, perplexity=10.0)
    p = PerplexityBasedNN(values, perplexity=10, k_neighbors=30, method="exact", n_jobs=1)
    peer = TSNEEmbedding(coords.astype(float), p)
    peer.optimize(0, theta=0.1, negative_gradient_method="bh", inplace=True)
    assert diagnostics["kl_divergence"] == pytest.approx(peer.kl_divergence, abs=1e-4)


def maps(bad):
    """A TSNE whose first maps hold NaN, and the random states and graphs that it was given."""
    given = []

    class TSNE:
        def __init__(self, *, random_state, **others):
            given.append([random_state])

        def fit_transform(self, x, *, knn_graph):
            given[-1].append(knn_graph[1].copy())
            knn_graph[1][:] = -1  # cuML computes in place
            return np.full((len(x), 2), np.nan if len(given) <= bad else 1.0, np.float32)

    return TSNE, given


def test_tsne_tries_another_seed_once_where_the_map_holds_nan(monkeypatch):
    model, given = maps(bad=1)
    stand_in(monkeypatch, TSNE=model)
    _, params, diagnostics = cuml_tsne(blobs(), None, perplexity=10.0, seed=7)
    assert (params["seed"], diagnostics["retried_after_nan"]) == (8, True)
    assert given[0][0] != given[1][0]
    np.testing.assert_array_equal(given[0][1], given[1][1])


def test_tsne_gives_up_after_two_maps_with_nan(monkeypatch):
    model, given = maps(bad=2)
    stand_in(monkeypatch, TSNE=model)
    with pytest.raises(
        JaxtlError, match=r"tsne \(cuml\): .* NaN with both seeds, 0 and 1; .* --backend opentsne"
    ):
        cuml_tsne(blobs(), None, perplexity=10.0)
    assert len(given) == 2


FAULTS = [
    (MemoryError("std::bad_alloc: out_of_memory: CUDA error"), "the GPU's memory is used up"),
    (
        RuntimeError("CUDA error encountered at: x.cu\nObtained 9 stack frames"),
        r"the GPU failed \(CUDA error",
    ),
    (
        ImportError("libcudart.so.13: cannot open"),
        r'cannot be imported \(libcudart.so.13.*run pip install "\.\[cuda13\]"',
    ),
]


@pytest.mark.parametrize("function", [cuml_pca, cuml_tsne])
@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_what_cuda_raises_is_told_in_one_line(monkeypatch, function, fault, message):
    def fail(*args, **kwargs):
        raise fault

    stand_in(monkeypatch, PCA=fail, NearestNeighbors=fail)
    with pytest.raises(JaxtlError, match=rf"\(cuml\): {message}.* --backend (sklearn|opentsne)$") as caught:
        function(blobs(), None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "params", "message"),
    [
        (cuml_pca, {"svd_solver": "randomized"}, "svd_solver must be one of auto, full, jacobi"),
        (
            cuml_tsne,
            {"perplexity": 341.0},
            "cuML's at most 1023 neighbours; take perplexity of at most 340 or",
        ),
        (cuml_tsne, {"perplexity": 1e3}, "tsne: perplexity 1000 needs 3001 rows"),
        (cuml_tsne, {"initialization": "spectral"}, "initialization must be one of pca, random"),
        (cuml_tsne, {"learning_rate": -1}, r"learning_rate \(unless auto\) must be a number above 0"),
        (cuml_tsne, {"learning_rate": "fast"}, "learning_rate"),
        (cuml_tsne, {"early_exaggeration": 0}, "early_exaggeration must be a number at least 1"),
        (cuml_tsne, {"exaggeration": 0.5}, "exaggeration must be a number at least 1"),
        (cuml_tsne, {"n_iter": 1.5}, "iterations of exaggeration must be an integer"),
        (cuml_tsne, {"n_iter": 0, "early_exaggeration_iter": 0}, "are both 0; cuML needs at least 1"),
    ],
)
def test_refuses_before_cuml_is_imported(monkeypatch, function, params, message):
    for name in ("cuml", "cupy", *CLASSES.values()):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    with pytest.raises(JaxtlError, match=message) as caught:
        function(np.zeros((1100, 3), np.float32), None, **params)
    assert "\n" not in str(caught.value)


def test_cuml_takes_every_argument_that_is_passed(monkeypatch):
    for module in CLASSES.values():
        pytest.importorskip(module, reason="cuML is not installed (jaxtl[cuda13] or jaxtl[cuda12])")
    real = {name: getattr(importlib.import_module(module), name) for name, module in CLASSES.items()}
    calls = stand_in(monkeypatch)
    cuml_pca(blobs(), None)
    cuml_tsne(blobs(), None, perplexity=10.0)
    for name, method, args, given in calls:
        inspect.signature(getattr(real[name], method)).bind(None, *args, **given)
    assert {name for name, *_ in calls} == set(CLASSES)
