"""Our locally linear embedding against scikit-learn's, and against data that breaks such methods."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, sparse
from scipy.spatial.distance import cdist
from sklearn.datasets import make_swiss_roll
from sklearn.manifold import LocallyLinearEmbedding as Theirs
from sklearn.utils.estimator_checks import parametrize_with_checks

import jaxtl
from jaxtl import LocallyLinearEmbedding
from jaxtl.errors import JaxtlError
from jaxtl.lle import device, estimator, factors, tiles
from jaxtl.lle.spectrum import smallest
from jaxtl.neighbors import exact_neighbors

METHODS = ("standard", "modified")
WAYS = ({"solver": "sparse"}, {"solver": "dense"}, {"solver": "eigh"}, {"engine": "jax"})
RANDOM = np.random.default_rng(0).normal(size=(320, 20))
FEW = np.ones((320, 20))
FEW[:3] = RANDOM[:3]
FIFTY = RANDOM.copy()
FIFTY[:50] = FIFTY[0]
FAR = RANDOM.copy()
FAR[7] = 1e6
CLUSTERS = np.concatenate([RANDOM[:110] + 50 * cluster for cluster in range(3)])


@pytest.fixture
def features(mnist_features):
    return mnist_features


def ours(values, **settings):
    return LocallyLinearEmbedding(**{"n_neighbors": 12, "random_state": 0, **settings}).fit(values)


def theirs(values, eigen_solver="dense", **settings):
    settings = {"n_neighbors": 12, "random_state": 0, "n_jobs": -1, **settings}
    return Theirs(eigen_solver=eigen_solver, **settings).fit(np.float64(values))


def check_same(own, peer, rtol=1e-6):
    assert own.embedding_.shape == peer.embedding_.shape
    assert own.reconstruction_error_ == pytest.approx(peer.reconstruction_error_, rel=rtol)
    assert np.cos(linalg.subspace_angles(own.embedding_, peer.embedding_)).min() > 0.9999
    np.testing.assert_allclose(own.embedding_.T @ own.embedding_, np.eye(own.n_components), atol=1e-9)


def check_sound(model):
    assert np.isfinite(model.embedding_).all()
    assert model.eigenvalues_.min() >= 0
    assert (np.diff(model.eigenvalues_) >= 0).all()
    extremes = model.embedding_[np.abs(model.embedding_).argmax(axis=0), range(model.n_components)]
    assert (extremes > 0).all()


# Blobs of scikit-learn's checks fall apart in the graph of neighbours, of which we rightly warn.
@pytest.mark.filterwarnings("ignore:lle. the graph of neighbours")
@parametrize_with_checks([LocallyLinearEmbedding()])
def test_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


# The checks are about parameters, shapes and names of attributes, which one class has.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:lle. the graph of neighbours")
@parametrize_with_checks([LocallyLinearEmbedding(method="modified"), LocallyLinearEmbedding(engine="jax")])
def test_is_a_scikit_learn_estimator_in_every_way(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("method", "n_neighbors", "n_components"),
    [
        pytest.param(*case, marks=pytest.mark.slow if case[2] == 3 else ())
        for case in itertools.product(METHODS, (5, 12, 30), (1, 2, 3, 10))
        if case != ("modified", 5, 10)  # which has fewer neighbours than components
    ],
)
def test_is_scikit_learns(method, n_neighbors, n_components, features):
    settings = {"method": method, "n_neighbors": n_neighbors, "n_components": n_components}
    values = features[:400]
    peer = theirs(values, **settings)
    for way in WAYS if (n_neighbors, n_components) == (12, 2) else WAYS[:2]:
        model = ours(values, **settings, **way)
        check_same(model, peer)
        check_sound(model)


@pytest.mark.slow
def test_is_scikit_learns_at_2000_points(features):
    peer = theirs(features, eigen_solver="arpack")
    check_same(ours(features), peer)
    check_same(ours(np.float64(features), engine="jax"), peer)


@pytest.mark.slow
@pytest.mark.parametrize("n_neighbors", [5, 12, 30])
@pytest.mark.parametrize("method", METHODS)
def test_every_way_is_scikit_learns_at_2000_points(method, n_neighbors, features):
    peer = theirs(features, eigen_solver="arpack", method=method, n_neighbors=n_neighbors)
    for way in WAYS:
        check_same(ours(features, method=method, n_neighbors=n_neighbors, **way), peer)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_is_scikit_learns_at_10000_points(method):
    values = jaxtl.extract(jaxtl.load_model(), jaxtl.load("mnist", "test")).values
    model = ours(values, method=method)
    check_same(model, theirs(values, eigen_solver="arpack", method=method))
    assert model.eigen_residual_ <= 1e-8


@pytest.mark.parametrize(("n", "way"), [*((n, way) for n in (300, 301) for way in WAYS[:3]), (301, WAYS[3])])
@pytest.mark.parametrize("method", METHODS)
def test_is_scikit_learns_on_a_swiss_roll(n, method, way):
    # More neighbours than dimensions: a Gram matrix that only the regularisation makes regular, and a tree.
    values, _ = make_swiss_roll(n, random_state=0)
    model = ours(values, method=method, **way)
    # Eigenvalues of 1e-7 and less, of which a dense M keeps nine digits fewer than of the largest one.
    check_same(model, theirs(values, method=method), rtol=1e-4)
    check_sound(model)


def test_solver_and_engine_by_themselves(features):
    assert (ours(features[:300]).solver_, ours(features[:301]).solver_) == ("eigh", "sparse")
    assert ours(features[:301], method="modified").solver_ == "sparse"
    model = ours(features[:50], engine="jax")
    assert (model.engine_, model.solver_) == ("jax", "dense")
    assert ours(features[:50]).engine_ == ("jax" if jax.default_backend() == "gpu" else "cpu")


def test_float32_and_float64_rows_give_the_same(features):
    a, b = ours(features[:500]), ours(np.float64(features[:500]))
    np.testing.assert_array_equal(a.embedding_, b.embedding_)


@pytest.mark.parametrize("method", METHODS)
def test_transform_is_scikit_learns(method, features):
    fitted, new = features[:400], features[400:600]
    model, peer = ours(fitted, method=method), theirs(fitted, method=method)
    expected = peer.transform(np.float64(new))
    signs = np.sign((model.embedding_ * peer.embedding_).sum(axis=0))
    np.testing.assert_allclose(model.transform(new) * signs, expected, atol=1e-6)


def test_fitted_rows_come_back_to_their_places(features):
    values = features[:400].copy()
    model = ours(values, reg=1e-6)
    spread = model.embedding_.std()
    # The very array that was fitted and a copy of it are the same question.
    for rows in (values, values.copy()):
        assert np.abs(model.transform(rows) - model.embedding_).max() < 1e-2 * spread


# Each shape compiles anew on the device, so there only in full before a release.
@pytest.mark.parametrize("way", [*WAYS[:3], pytest.param(WAYS[3], marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("values", "settings"),
    [
        (np.repeat(RANDOM[:160], 2, axis=0), {}),
        (FIFTY, {}),
        (FEW, {}),
        (np.ones((320, 20)), {}),
        (FAR, {}),
        (np.hstack([RANDOM, np.full((320, 10), 7.0)]), {}),
        ((RANDOM * 10).astype(int), {}),
        ((RANDOM * 1e30).astype(np.float32), {}),
        ((RANDOM * 1e-30).astype(np.float32), {}),
        (RANDOM[:60], {"n_neighbors": 59}),
        (RANDOM[:13], {}),
        (RANDOM[:3], {"n_neighbors": 2, "n_components": 2}),
        (RANDOM, {"n_components": 12}),
        (RANDOM, {"n_components": 20, "n_neighbors": 20}),
        (RANDOM[:, :1], {"n_components": 1}),
        (np.outer(np.arange(320.0), np.ones(20)), {}),
    ],
    ids=[
        "every row twice",
        "one row 50 times",
        "all but three equal",
        "all equal",
        "one far away",
        "constant features",
        "integers",
        "huge",
        "tiny",
        "all others",
        "n is k + 1",
        "three points",
        "k components",
        "d = k = components",
        "one feature",
        "a line",
    ],
)
def test_stands(values, settings, method, way):
    model = ours(values, method=method, **settings, **way)
    check_sound(model)
    # Of the largest eigenvalue, down to the rounding of M's products.
    assert model.eigen_residual_ < 1e-5
    assert model.n_connected_components_ == 1
    usual = ours(values, method=method, **settings)
    assert model.reconstruction_error_ == pytest.approx(usual.reconstruction_error_, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [np.repeat(RANDOM[:160], 2, axis=0), FIFTY, FEW, FAR])
def test_the_device_stands_too(values, method):
    model = ours(values, method=method, engine="jax")
    check_sound(model)
    usual = ours(values, method=method)
    assert model.reconstruction_error_ == pytest.approx(usual.reconstruction_error_, rel=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", METHODS)
def test_a_graph_that_falls_apart_is_reported(method, way):
    with pytest.warns(UserWarning, match=r"3 connected components, and 3 groups of points") as caught:
        model = ours(CLUSTERS, method=method, **way)
    assert len(caught) == 1
    assert model.n_connected_components_ == 3
    assert np.isfinite(model.embedding_).all()
    # The axes tell the clusters apart: within one all points are in one place.
    places = model.embedding_.reshape(3, 110, 2)
    assert places.std(axis=1).max() < 1e-3 * np.ptp(places.mean(axis=1), axis=0).min()


@pytest.mark.parametrize("way", [{"solver": "sparse"}, {"solver": "dense"}, {"engine": "jax"}])
def test_eigenvectors_that_did_not_converge_are_refused(way):
    with pytest.raises(JaxtlError, match=r"did not converge in 1 steps \(residual .*1\.0e-13") as raised:
        ours(RANDOM, max_iter=1, tol=1e-13, **way)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"n_neighbors": 13},
            "n_neighbors 13 needs more than 13 points, got n_samples = 13; take at most 12",
        ),
        ({"n_components": 21}, "n_components 21 must be at most the 20 features"),
        ({"n_components": 13}, "and below their 13"),
        (
            {"n_components": 4, "n_neighbors": 3, "method": "modified"},
            "n_neighbors of at least n_components 4",
        ),
    ],
)
def test_what_cannot_work_is_refused(settings, message):
    with pytest.raises(JaxtlError, match=message):
        ours(RANDOM[:13], **settings)


def test_values_beyond_float32_are_refused():
    with pytest.raises(JaxtlError, match="divide the values"):
        ours(RANDOM * 1e160)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_neither_threads_nor_seed_show(method, features):
    values = features[:500]
    model = ours(values, method=method, n_jobs=1)
    for jobs in (None, -1, 3):
        assert ours(values, method=method, n_jobs=jobs).embedding_.tobytes() == model.embedding_.tobytes()
    other = ours(values, method=method, random_state=5)
    np.testing.assert_allclose(other.embedding_, model.embedding_, atol=1e-6)


def weights_by_hand(values, k):
    """Roweis & Saul's weights [n, n], with the usual regularisation."""
    apart = cdist(values, values)
    np.fill_diagonal(apart, np.inf)
    weights = np.zeros_like(apart)
    for i, near in enumerate(np.argsort(apart, axis=1)[:, :k]):
        gram = (values[near] - values[i]) @ (values[near] - values[i]).T
        solved = np.linalg.solve(gram + 1e-3 * np.trace(gram) * np.eye(k), np.ones(k))
        weights[i, near] = solved / solved.sum()
    return weights


@pytest.mark.parametrize("n_components", [1, 3])
def test_residual_is_that_of_an_independent_matrix(n_components, features):
    values = features[:500]
    model = ours(values, n_components=n_components)
    root = np.eye(500) - weights_by_hand(np.float64(values), 12)
    vectors, eigenvalues = model.embedding_, model.eigenvalues_
    residuals = np.linalg.norm(root.T @ (root @ vectors) - vectors * eigenvalues, axis=0)
    assert residuals.max() / eigenvalues[-1] < 1e-7
    assert model.eigen_residual_ <= 1e-8
    np.testing.assert_allclose(eigenvalues, linalg.eigvalsh(root.T @ root)[1 : n_components + 1], rtol=1e-6)


def check_solves(solver, n):
    random = np.random.default_rng(n)
    root = sparse.random_array((n, n), density=0.05, random_state=random) + sparse.eye_array(n)
    matrix = (root.T @ root).tocsr()
    dense = matrix.toarray() + factors.SHIFT * np.eye(n)
    solve = solver(matrix)
    for width in (3, 1, 4):
        b = random.normal(size=(n, width))
        expected = linalg.cho_solve(linalg.cho_factor(dense), b)
        error = np.abs(solve(b) - expected).max() / np.abs(expected).max()
        assert error < 1e-15 * np.linalg.cond(dense) * n


@pytest.mark.parametrize(("n", "count"), [(1, 1), (100, 1), (128, 1), (129, 2), (300, 3), (640, 5)])
def test_tiles_solve_as_scipy_does(n, count):
    assert -(-n // tiles.tile_size(n)) == count
    check_solves(tiles.solver, n)


@pytest.mark.parametrize("n", [1, 100, *(pytest.param(n, marks=pytest.mark.slow) for n in (128, 300)), 129])
def test_a_whole_matrix_solves_as_scipy_does(n, monkeypatch):
    monkeypatch.setattr(device, "PANEL", 128)
    check_solves(device.dense_solver, n)


@pytest.mark.parametrize("memory", [2**40, 1])
def test_what_is_indefinite_is_refused_whole_and_in_tiles(memory, monkeypatch):
    monkeypatch.setattr(device, "device_memory", lambda: memory)
    matrix = sparse.diags_array([1.0] * 200 + [-1.0] + [1.0] * 50).tocsr()
    with pytest.raises(JaxtlError, match="negative pivot"):
        device.dense_solver(matrix)


def test_the_device_takes_neighbours_that_are_known(features, monkeypatch):
    values = features[:400]
    expected = ours(values, engine="jax").embedding_
    near = exact_neighbors(values, 30)
    monkeypatch.setattr(estimator, "exact_neighbors", None)
    model = LocallyLinearEmbedding(n_neighbors=12, random_state=0, engine="jax").fit_among(values, near)
    np.testing.assert_allclose(model.embedding_, expected, atol=1e-9)


def test_tiles_embed_as_one_matrix_does(features, monkeypatch):
    values = features[:400]
    expected = ours(values, engine="jax")
    monkeypatch.setattr(device, "COPIES", np.inf)
    check_same(ours(values, engine="jax"), expected)


def test_both_stages_of_a_run_share_the_programs(features):
    ours(features[:400], engine="jax")
    compiled, told = [], "/jax/core/compile/backend_compile_duration"
    jax.monitoring.register_event_duration_secs_listener(lambda name, _, **more: compiled.append(name))
    ours(features[:390], engine="jax")  # another size: it is counted
    assert told in compiled
    del compiled[:]
    ours(features[400:790], engine="jax")
    assert told not in compiled


def test_what_does_not_fit_the_device_is_refused(monkeypatch):
    monkeypatch.setattr(device, "device_memory", lambda: 2**20)
    with pytest.raises(
        JaxtlError, match=r"factors of 320 points take .* GiB.*take about 428 points"
    ) as raised:
        ours(RANDOM, engine="jax")
    assert "\n" not in str(raised.value)


def test_float64_stays_where_it_is_needed():
    ours(RANDOM, engine="jax")
    assert jnp.ones(1).dtype == jnp.float32
    assert not jax.config.jax_enable_x64


def test_the_eigensolver_fills_the_space_where_it_must():
    """With a solver that helps nothing only the whole space holds the eigenvectors."""
    root = np.random.default_rng(0).normal(size=(40, 40))
    root -= root.mean(axis=1, keepdims=True)
    matrix = root.T @ root
    spectrum = smallest(lambda v: matrix @ v, lambda b: b, np.linalg.norm(matrix, 2), 40, 4, 1e-9, 100, 0)
    assert spectrum.converged
    np.testing.assert_allclose(
        spectrum.values, linalg.eigvalsh(matrix)[:4], atol=1e-12 * np.linalg.norm(matrix)
    )
