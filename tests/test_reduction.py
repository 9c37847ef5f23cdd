import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy

from jaxtl.errors import JaxtlError, install
from jaxtl.machine import cuda
from jaxtl.methods import METHODS
from jaxtl.metrics import knn_accuracy
from jaxtl.records.arrays import Embedding, Features
from jaxtl.reduction import choice as choice_of
from jaxtl.reduction import defaults, reduce
from jaxtl.reduction.choice import choose, on_cpu, preferred

# One thread, since at these sizes more only wait for each other.
SHORT = {"early_exaggeration_iter": 100, "n_iter": 100, "n_jobs": 1}


def first_on_cpu(method):
    return on_cpu(method)[0]


def features(values, labels=None):
    values = np.asarray(values, np.float32)
    labels = np.zeros(len(values)) if labels is None else labels
    return Features(
        values, np.asarray(labels, np.int32), np.arange(len(values), dtype=np.int32), {"model": "m"}
    )


def blobs(n=150, d=10, distance=12.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return features(rng.normal(size=(n, d)) + distance * np.eye(d)[labels], labels)


@pytest.mark.parametrize("method", METHODS)
def test_separates_three_blobs(method):
    data = blobs()
    start = np.random.default_rng(0).normal(size=(len(data.labels), 2))
    embedding = reduce(data, method, **({"n_jobs": 1} if method == "tsne" else {}))
    assert knn_accuracy(start, data.labels)[0] < 0.5
    assert knn_accuracy(embedding.coords, data.labels)[0] > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_embedding_carries_rows_labels_and_everything_used(method):
    data = blobs()
    embedding = reduce(data, method, seed=3)
    assert embedding.coords.dtype == np.float32
    assert embedding.method == method
    assert embedding.backend == first_on_cpu(method)
    assert embedding.meta == {"model": "m"}
    np.testing.assert_array_equal(embedding.labels, data.labels)
    np.testing.assert_array_equal(embedding.index, data.index)
    assert set(defaults(method)) <= set(embedding.params)
    assert "auto" not in embedding.params.values()
    assert embedding.params["seed"] == 3
    assert {"scikit-learn", "numpy"} <= set(embedding.params["versions"])
    record = {"params": embedding.params, "diagnostics": embedding.diagnostics}
    assert json.loads(json.dumps(record)) == record


def test_saved_and_loaded_embedding_is_the_same(tmp_path):
    embedding = reduce(blobs(), "pca")
    embedding.save(tmp_path / "pca.npz")
    again = Embedding.load(tmp_path / "pca.npz")
    np.testing.assert_array_equal(again.coords, embedding.coords)
    assert (again.params, again.diagnostics) == (embedding.params, embedding.diagnostics)


@pytest.mark.parametrize(("n", "d"), [(200, 30), (40, 120)])
def test_pca_is_the_svd_of_the_centred_features(n, d):
    # A large mean, as features after a ReLU have: float32 covariances would lose digits here.
    values = np.random.default_rng(1).normal(size=(n, d)) * np.linspace(3, 0.1, d) + 100
    embedding = reduce(features(values), "pca")
    centred = np.float32(values).astype(float) - np.float32(values).astype(float).mean(axis=0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    largest = vt[range(2), np.abs(vt[:2]).argmax(axis=1)]
    np.testing.assert_allclose(embedding.coords, u[:, :2] * s[:2] * np.sign(largest), atol=1e-4)
    np.testing.assert_allclose(
        embedding.diagnostics["explained_variance_ratio"], s[:2] ** 2 / (s**2).sum(), rtol=1e-9
    )


def exact_affinities(values, perplexity):
    """Joint probabilities of van der Maaten & Hinton over each point's 3 * perplexity nearest."""
    n = len(values)
    squared = ((values[:, None] - values[None]) ** 2).sum(axis=2)
    conditional = np.zeros((n, n))
    for i in range(n):
        near = np.argsort(squared[i] + np.where(np.arange(n) == i, np.inf, 0))[: int(3 * perplexity)]
        low, high = 0.0, 1e6
        for _ in range(200):
            beta = (low + high) / 2
            p = np.exp(-beta * (squared[i, near] - squared[i, near].min()))
            p /= p.sum()
            entropy = -(p * np.log(np.maximum(p, 1e-300))).sum()
            low, high = (beta, high) if entropy > np.log(perplexity) else (low, beta)
        conditional[i, near] = p
    return (conditional + conditional.T) / (2 * n)


@pytest.mark.parametrize("gradient", ["bh", "fft"])
def test_tsne_kl_divergence_is_that_of_the_definition(gradient):
    data = blobs(n=150, distance=4.0)
    embedding = reduce(data, "tsne", perplexity=10, negative_gradient_method=gradient, **SHORT)
    p = exact_affinities(data.values.astype(float), 10)
    y = embedding.coords.astype(float)
    q = 1 / (1 + ((y[:, None] - y[None]) ** 2).sum(axis=2))
    np.fill_diagonal(q, 0)
    q /= q.sum()
    kept = p > 0
    kl = (p[kept] * np.log(p[kept] / q[kept])).sum()
    # openTSNE's own figure would be off by 4e-3 with Barnes-Hut and 6e-3 with interpolation.
    assert embedding.diagnostics["kl_divergence"] == pytest.approx(kl, abs=5e-4)


def test_tsne_resolves_its_automatic_parameters():
    params = reduce(blobs(n=150), "tsne", exaggeration=2.0, perplexity=10.0, **SHORT).params
    assert params["early_learning_rate"] == 150 / 12
    assert params["learning_rate"] == 150 / 2
    assert (params["neighbors"], params["n_neighbors"]) == ("exact", 30)
    assert params["negative_gradient_method"] == "bh"
    assert (params["early_exaggeration_iter"], params["n_iter"]) == (100, 100)


def test_tsne_reports_progress_without_changing_the_map():
    seen = []
    watched = reduce(blobs(), "tsne", progress=seen.append, **SHORT)
    np.testing.assert_array_equal(watched.coords, reduce(blobs(), "tsne", **SHORT).coords)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert len(seen) > 10


@pytest.mark.parametrize("method", ["pca", "lle"])
def test_other_methods_report_start_and_end(method):
    seen = []
    reduce(blobs(), method, progress=seen.append)
    assert seen == [0.0, 1.0]


@pytest.mark.parametrize(
    ("backend", "solver"),
    [
        ("sklearn", {"eigen_solver": "arpack"}),
        ("sklearn", {"eigen_solver": "dense"}),
        *(("jaxtl", {"solver": solver}) for solver in ("eigh", "sparse", "dense")),
    ],
)
def test_lle_minimises_the_reconstruction_error_of_its_weights(backend, solver):
    # Roweis & Saul's problem solved here with dense matrices, from the weights on.
    values = np.random.default_rng(2).normal(size=(120, 6)).astype(np.float32)
    embedding = reduce(features(values), "lle", backend, n_neighbors=8, **solver)
    x, n = values.astype(float), len(values)
    weights = np.zeros((n, n))
    for i in range(n):
        near = np.argsort(((x - x[i]) ** 2).sum(axis=1))[1:9]
        gram = (x[near] - x[i]) @ (x[near] - x[i]).T
        w = np.linalg.solve(gram + 1e-3 * np.trace(gram) * np.eye(8), np.ones(8))
        weights[i, near] = w / w.sum()
    m = (np.eye(n) - weights).T @ (np.eye(n) - weights)
    eigenvalues, vectors = np.linalg.eigh(m)
    # SciPy's ARPACK is a hundred-thousandth off before 1.15, whatever its tolerance.
    is_old = tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 15)
    error = pytest.approx(eigenvalues[1:3].sum(), rel=2e-5 if is_old and "eigen_solver" in solver else 1e-6)
    assert embedding.diagnostics["reconstruction_error"] == error
    np.testing.assert_allclose(np.abs(np.sum(embedding.coords * vectors[:, 1:3], axis=0)), 1, atol=1e-5)
    extremes = embedding.coords[np.abs(embedding.coords).argmax(axis=0), [0, 1]]
    assert (extremes > 0).all()
    assert solver.items() <= embedding.params.items()


DIGEST = """
import hashlib, numpy as np
from jaxtl.records.arrays import Features
from jaxtl.reduction import reduce
rng = np.random.default_rng(0)
values = rng.normal(size=(400, 20)).astype(np.float32)
data = Features(values, np.zeros(400, np.int32), np.arange(400, dtype=np.int32))
short = {"early_exaggeration_iter": 60, "n_iter": 60}
runs = [("pca", {}), ("pca", {"svd_solver": "randomized"}), ("lle", {}),
        *(("tsne", {**short, "negative_gradient_method": g, "initialization": i})
          for g, i in (("bh", "pca"), ("fft", "pca"), ("bh", "random"), ("bh", "spectral")))]
for method, params in runs:
    embedding = reduce(data, method, seed=5, **params)
    print(hashlib.sha256(embedding.coords.tobytes()).hexdigest(), embedding.diagnostics)
"""


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_in_another_process():
    runs = [
        subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(runs[0].splitlines()) == 7


def test_a_start_by_pca_is_opentsnes_own_after_other_maps_too(monkeypatch):
    import sklearn.decomposition
    from openTSNE import initialization

    fits, fit = [], sklearn.decomposition.PCA.fit_transform
    monkeypatch.setattr(sklearn.decomposition.PCA, "fit_transform", lambda *a: fits.append(1) or fit(*a))
    rows = np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32)
    features = Features(rows, None, np.arange(60, dtype=np.int32), {})
    for scale, seed in ((1, 0), (1, 7), (2, 7)):
        scaled = replace(features, values=rows * np.float32(scale))
        reduce(scaled, "pca")
        fits.clear()
        made = reduce(scaled, "tsne", perplexity=5, early_exaggeration_iter=0, n_iter=0, seed=seed)
        # What the map by PCA found is not computed again.
        assert not fits
        expected = initialization.pca(
            scaled.values.astype(float), svd_solver="covariance_eigh", random_state=seed
        )
        np.testing.assert_array_equal(made.coords, expected.astype(np.float32))


def test_number_of_threads_does_not_change_tsne():
    data = blobs(n=300, distance=2.0)
    one, two = (reduce(data, "tsne", **{**SHORT, "n_jobs": jobs}) for jobs in (1, 2))
    np.testing.assert_array_equal(one.coords, two.coords)
    assert one.diagnostics == two.diagnostics


def test_seed_changes_a_random_start():
    maps = [reduce(blobs(), "tsne", initialization="random", seed=seed, **SHORT).coords for seed in (0, 1)]
    assert np.abs(maps[0] - maps[1]).max() > 1


@pytest.mark.parametrize("method", METHODS)
def test_duplicated_rows_are_mapped(method):
    data = blobs(n=240, distance=6.0)
    copies = np.concatenate([np.arange(240), np.arange(100), np.zeros(60, int)])
    embedding = reduce(features(data.values[copies], data.labels[copies]), method)
    assert np.isfinite(embedding.coords).all()
    assert knn_accuracy(embedding.coords, embedding.labels)[0] > 0.9


@pytest.mark.parametrize(
    "failure", [ValueError("Factor is exactly singular\nNote"), np.linalg.LinAlgError("x")]
)
def test_lle_says_in_one_line_that_its_solver_failed(monkeypatch, failure):
    def fail(model, values):
        raise failure

    # Which features defeat ARPACK depends on the machine's linear algebra.
    monkeypatch.setattr("sklearn.manifold.LocallyLinearEmbedding.fit_transform", fail)
    with pytest.raises(JaxtlError, match=r"lle: arpack could not .*; try eigen_solver dense") as caught:
        reduce(blobs(n=300), "lle", "sklearn")
    assert "\n" not in str(caught.value)


def test_dense_lle_bears_half_of_the_rows_being_equal():
    # Here ARPACK may find the matrix exactly singular.
    values = np.random.default_rng(0).normal(size=(300, 30))
    data = features(np.concatenate([values, np.repeat(values[:1], 300, axis=0)]))
    assert np.isfinite(reduce(data, "lle", "sklearn", eigen_solver="dense").coords).all()


def spoiled(value, rows=(7, 9)):
    values = np.random.default_rng(0).normal(size=(50, 4))
    values[list(rows), 1] = value
    return features(values)


GOOD = features(np.random.default_rng(0).normal(size=(50, 4)))
REFUSALS = [
    (GOOD, "umap", {}, "unknown method 'umap'; the methods are pca, tsne, lle"),
    (GOOD, "pca", {"backend": "opentsne"}, "pca has no backend 'opentsne'; its backends are auto, cuml"),
    (GOOD, "tsne", {"perplexty": 5}, "no parameter perplexty; its parameters are perplexity, initialization"),
    (GOOD, "lle", {"perplexity": 5}, "no parameter perplexity; its parameters are n_neighbors"),
    (GOOD, "pca", {"values": 1}, "no parameter values"),
    (GOOD, "pca", {"seed": 1.5}, "seed must be an integer at least 0"),
    (GOOD, "pca", {"seed": -1}, "seed must be an integer at least 0"),
    (GOOD, "pca", {"svd_solver": "svd"}, "svd_solver must be one of auto, covariance_eigh"),
    (spoiled(np.nan), "pca", {}, "2 NaN or infinite values in 2 of 50 rows, the first in row 7"),
    (spoiled(np.inf, (3,)), "lle", {}, "1 NaN or infinite values in 1 of 50 rows, the first in row 3"),
    (features(np.ones((50, 4))), "tsne", {"perplexity": 5}, "all 50 rows of the features are equal"),
    (features(GOOD.values[:2]), "pca", {}, r"features are \[2, 4\]; a map needs at least 3 rows"),
    (features(GOOD.values[:, :1]), "pca", {}, r"features are \[50, 1\]; .* 2 columns"),
    (GOOD, "tsne", {}, "perplexity 30 needs 91 rows, the features have 50; take perplexity of at most 16.3"),
    (features(GOOD.values[:3]), "tsne", {"perplexity": 1}, "take at least 4 images"),
    (GOOD, "tsne", {"perplexity": 0.5}, "perplexity must be a number at least 1, got 0.5"),
    (GOOD, "tsne", {"perplexity": np.nan}, "perplexity must be a number at least 1, got nan"),
    (GOOD, "tsne", {"perplexity": "5"}, "perplexity must be a number at least 1, got '5'"),
    (GOOD, "tsne", {"perplexity": 5, "learning_rate": 0}, r"learning_rate \(unless auto\) must .* above 0"),
    (GOOD, "tsne", {"perplexity": 5, "learning_rate": "fast"}, "learning_rate"),
    (GOOD, "tsne", {"perplexity": 5, "n_iter": -1}, "iterations of exaggeration must be an integer"),
    (GOOD, "tsne", {"perplexity": 5, "early_exaggeration": 0}, "early_exaggeration must be a number"),
    (GOOD, "tsne", {"perplexity": 5, "neighbors": "hnsw"}, "neighbors must be one of auto"),
    (GOOD, "tsne", {"perplexity": 5, "initialization": "umap"}, "initialization must be one of pca"),
    (GOOD, "tsne", {"perplexity": 5, "negative_gradient_method": "x"}, "must be one of auto, bh, fft"),
    (GOOD, "tsne", {"perplexity": 5, "n_jobs": 0}, "n_jobs"),
    (GOOD, "lle", {"n_neighbors": 50}, "n_neighbors 50 needs more than 50 rows, .* at most 49"),
    (GOOD, "lle", {"n_neighbors": 2}, "n_neighbors must be an integer at least 3, got 2"),
    (GOOD, "lle", {"n_neighbors": 5.0}, "n_neighbors must be an integer"),
    (GOOD, "lle", {"reg": 0}, "reg must be a number above 0"),
    (GOOD, "lle", {"tol": -1}, "tol must be"),
    (GOOD, "lle", {"max_iter": 0}, "max_iter must be"),
    (GOOD, "lle", {"variant": "hessian"}, "variant must be one of standard, modified"),
    (GOOD, "lle", {"solver": "arpack"}, "solver must be one of auto, eigh, sparse, multifrontal, dense"),
    (GOOD, "lle", {"engine": "tpu"}, "engine must be one of auto, cpu, jax"),
    (GOOD, "lle", {"tol": 0}, "tol must be a number above 0"),
    (GOOD, "lle", {"n_jobs": 0}, "n_jobs .* must be"),
    (GOOD, "lle", {"backend": "sklearn", "eigen_solver": "lobpcg"}, "must be one of auto, arpack, dense"),
    (GOOD, "lle", {"backend": "sklearn", "tol": -1}, "tol must be"),
    (features(np.repeat(np.eye(5), 20, axis=0)), "lle", {"backend": "sklearn"}, "only 5 different rows"),
]


@pytest.mark.parametrize(("data", "method", "params", "message"), REFUSALS)
def test_refuses_in_one_line_before_work_starts(data, method, params, message):
    started = []
    with pytest.raises(JaxtlError, match=message) as caught:
        reduce(data, method, progress=lambda fraction: started.append(fraction > 0), **params)
    assert "\n" not in str(caught.value)
    assert not any(started)


# Which backend is taken. None of this needs a GPU.

BROKEN = cuda.Fault("the driver does not answer", "restart the machine", broken=True)
ABSENT = cuda.Fault("cuML is not installed", install("cuda13"), broken=False)


@pytest.fixture
def machine(monkeypatch):
    """A function that makes this a machine with such faults of cuML, JAX on a GPU, and the GPU."""

    def pretend(cuml=None, jax=None, gpu=None):
        monkeypatch.setattr(choice_of, "find_spec", lambda name: None)  # no extra is installed
        for name, fault in (("cuml", cuml), ("jax_gpu", jax), ("gpu", gpu)):
            monkeypatch.setattr(cuda, f"{name}_fault", lambda fault=fault: fault)

    return pretend


def test_all_maps_are_made_on_a_gpu_that_works(machine):
    machine()
    chosen = {method: choose(method) for method in METHODS}
    assert [chosen[method].name for method in ("pca", "tsne", "lle")] == ["cuml", "cuml", "jaxtl"]
    assert all(choice.on_gpu and choice.fault is None for choice in chosen.values())


@pytest.mark.parametrize("method", METHODS)
def test_without_cuml_or_gpu_the_cpu_does_it_all_in_silence(machine, method):
    machine(ABSENT, ABSENT, ABSENT)
    choice = choose(method)
    assert (choice.name, choice.on_gpu, choice.fault) == (first_on_cpu(method), False, None)
    assert ABSENT.what in choice.why


def test_a_backend_that_is_installed_and_broken_is_never_passed_over_in_silence(machine):
    machine(BROKEN, BROKEN, BROKEN)
    assert all(choose(method).fault == BROKEN for method in METHODS)
    with pytest.warns(UserWarning, match="pca by sklearn: the driver does not answer; restart the machine"):
        assert reduce(blobs(), "pca").backend == "sklearn"


def test_cuml_asked_for_where_it_cannot_work_is_an_error_with_the_remedy(machine):
    machine(cuml=ABSENT)
    with pytest.raises(JaxtlError, match=r"cuML is not installed; run pip install \"\.\[cuda13\]\""):
        reduce(blobs(), "pca", "cuml")
    machine(cuml=BROKEN, gpu=BROKEN)
    with pytest.raises(
        JaxtlError, match=r"tsne: backend cuml cannot work: the driver .*; restart the machine"
    ):
        choose("tsne", "cuml")
    machine(cuml=ABSENT, gpu=ABSENT)
    with pytest.raises(JaxtlError, match="take --backend auto"):
        choose("tsne", "cuml")


def test_of_several_libraries_the_first_that_has_the_method_is_taken():
    assert [preferred(method, "cuml, sklearn") for method in METHODS] == ["cuml", "cuml", "sklearn"]
    assert [preferred(method, "sklearn,opentsne") for method in METHODS] == ["sklearn", "opentsne", "sklearn"]
    assert preferred("lle", "cuml") == "auto"
    with pytest.raises(JaxtlError, match="unknown backend 'umap'; the backends are auto, sklearn, opentsne"):
        preferred("pca", "umap")


def test_a_map_of_pieces_says_so():
    rng = np.random.default_rng(0)
    apart = np.concatenate([rng.normal(size=(40, 5)), rng.normal(size=(60, 5)) + 1000])
    diagnostics = reduce(features(apart), "lle", n_neighbors=5).diagnostics
    assert diagnostics["connected_components"] == 2
    assert "2 connected components" in diagnostics["warning"]


def test_heavy_libraries_are_imported_only_when_used():
    code = (
        "import sys, jaxtl.reduction, jaxtl.metrics; "
        "print([name for name in ('sklearn', 'openTSNE', 'scipy', 'jax') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
