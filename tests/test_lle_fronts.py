"""Factors by dense fronts: they solve as any others, and the embedding is the one of SuperLU's factors."""

import numpy as np
import pytest
from scipy import linalg, sparse

from jaxtl import LocallyLinearEmbedding
from jaxtl.errors import JaxtlError
from jaxtl.lle import elimination, estimator, factors, fronts, thinning

RANDOM = np.random.default_rng(0).normal(size=(700, 5))
TWICE = np.repeat(RANDOM[:350], 2, axis=0)
FIFTY = RANDOM.copy()
FIFTY[:50] = FIFTY[0]
HUB = RANDOM / np.linalg.norm(RANDOM, axis=1)[:, None]
HUB[0] = 0
CLUSTERS = np.concatenate([RANDOM[:230] + 50 * cluster for cluster in range(3)])


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces so small that little work has many of them."""
    monkeypatch.setattr(fronts, "PANEL", 16)
    monkeypatch.setattr(fronts, "ROWS", 40)
    monkeypatch.setattr(fronts, "COLUMNS", 24)


def ours(values, **settings):
    return LocallyLinearEmbedding(**{"n_neighbors": 12, "random_state": 0, **settings}).fit(values)


def check_same(model, other):
    assert model.reconstruction_error_ == pytest.approx(other.reconstruction_error_, rel=1e-6, abs=1e-12)
    assert linalg.subspace_angles(model.embedding_, other.embedding_).max() < 1e-4
    assert model.eigen_residual_ <= 1e-8


def choose(order, monkeypatch):
    """The order that there is with METIS, or without."""
    if order == "dissection":
        pytest.importorskip("pymetis")
    else:
        monkeypatch.setattr(elimination, "dissects", lambda: False)


def grid(side):
    """Differences to the neighbours on a grid, [side^2, side^2], not symmetric: many fronts, with parents."""
    line = sparse.diags_array(
        [np.ones(side - 1), np.full(side, 5.0), np.full(side - 1, 0.5)], offsets=[-1, 0, 1]
    )
    one = sparse.eye_array(side)
    return (sparse.kron(line, one) + sparse.kron(one, line)).tocsr()


def random_matrix(n, density):
    random = np.random.default_rng(n)
    return (sparse.random_array((n, n), density=density, rng=random) + 3 * sparse.eye_array(n)).tocsr()


@pytest.mark.parametrize(("n", "density"), [(1, 0), (40, 0), (40, 1), (300, 0.004), (300, 0.02)])
@pytest.mark.parametrize("pieces", ["small_pieces", None])
@pytest.mark.parametrize("most", [-1, 20, 4000])
@pytest.mark.parametrize("order", ["dissection", "minimum degree"])
def test_factors_solve_as_a_dense_matrix_does(n, density, pieces, most, order, request, monkeypatch):
    """With no level before the fronts, with some, and with nearly all in levels."""
    monkeypatch.setattr(thinning, "MOST", most)
    choose(order, monkeypatch)
    if pieces:
        request.getfixturevalue(pieces)
    matrix = random_matrix(n, density)
    b = np.random.default_rng(0).normal(size=(n, 3))
    for dtype, tolerance in ((np.float64, 1e-10), (np.float32, 1e-3)):
        made = fronts.Factors(matrix, dtype)
        for trans, dense in (("N", matrix.toarray()), ("T", matrix.toarray().T)):
            expected = np.linalg.solve(dense, b)
            np.testing.assert_allclose(made.solve(b, trans), expected, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(
                made.solve(b[:, 0], trans), expected[:, 0], rtol=tolerance, atol=tolerance
            )


@pytest.mark.parametrize("order", ["dissection", "minimum degree"])
def test_every_unknown_is_eliminated_once_and_children_come_before_their_parents(order, monkeypatch):
    choose(order, monkeypatch)
    order, eliminated = elimination.plan(grid(40))
    assert sorted(order) == list(range(1600))
    assert [front.start for front in eliminated] == [0, *(front.stop for front in eliminated[:-1])]
    assert sum(front.parent >= 0 for front in eliminated) > 1
    for number, front in enumerate(eliminated):
        assert (front.parent >= 0) == (len(front.rows) > 0 and len(front.columns) > 0)
        for name in ("rows", "columns"):
            beyond = getattr(front, name)
            assert (np.diff(beyond) > 0).all()
            assert (beyond >= front.stop).all()
            if front.parent >= 0:
                above = eliminated[front.parent]
                assert front.parent > number
                assert set(beyond) <= {*range(above.start, above.stop), *getattr(above, name)}


@pytest.mark.parametrize("order", ["dissection", "minimum degree"])
@pytest.mark.parametrize("most", [-1, 10])
def test_fronts_take_what_their_children_left(order, most, small_pieces, monkeypatch):
    monkeypatch.setattr(thinning, "MOST", most)
    choose(order, monkeypatch)
    matrix, b = grid(40), np.random.default_rng(0).normal(size=(1600, 3))
    made = fronts.Factors(matrix)
    np.testing.assert_allclose(matrix @ made.solve(b), b, atol=1e-12)
    np.testing.assert_allclose(matrix.T @ made.solve(b, "T"), b, atol=1e-12)


def test_unknowns_that_no_other_depends_on_go_first_and_change_nothing(monkeypatch):
    monkeypatch.setattr(thinning, "MOST", 0)
    core = sparse.csr_array(np.random.default_rng(0).normal(size=(30, 30)) + 30 * np.eye(30))
    into = sparse.random_array((50, 30), density=0.2, rng=np.random.default_rng(1))
    levels, left = thinning.thin(sparse.block_array([[sparse.eye_array(50), into], [None, core]]).tocsr())
    assert [list(level.gone) for level in levels] == [list(range(50))]
    assert (left != core).nnz == 0


def test_small_pivots_stay():
    matrix = sparse.csr_array(np.array([[1e-9, 1.0], [1.0, 1e-9]]))
    levels, left = thinning.thin(matrix)
    assert (levels, left.shape) == ([], (2, 2))
    np.testing.assert_allclose(fronts.Factors(matrix).solve(np.array([1.0, 2.0])), [2, 1], rtol=1e-6)


def test_a_singular_panel_is_told():
    with pytest.raises(np.linalg.LinAlgError):
        fronts.Factors(sparse.csr_array(np.array([[0.0, 1.0], [0.0, 1.0]])))


@pytest.mark.parametrize("method", ["standard", "modified"])
def test_features_embed_as_by_superlu(method, mnist_features):
    values = mnist_features[:1000]
    model = ours(values, method=method, solver="multifrontal")
    assert model.solver_ == "multifrontal"
    check_same(model, ours(values, method=method, solver="sparse"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["standard", "modified"])
@pytest.mark.parametrize("n_neighbors", [5, 12, 30])
def test_all_features_embed_as_by_superlu(method, n_neighbors, mnist_features):
    settings = {"method": method, "n_neighbors": n_neighbors, "n_components": 3}
    check_same(
        ours(mnist_features, solver="multifrontal", **settings),
        ours(mnist_features, solver="sparse", **settings),
    )


@pytest.mark.filterwarnings("ignore:lle. the graph of neighbours")
@pytest.mark.parametrize(
    "values",
    [TWICE, FIFTY, HUB, CLUSTERS, np.ones((700, 5)), RANDOM * 1e-20],
    ids=["every row twice", "one row 50 times", "a hub", "clusters", "all equal", "tiny"],
)
def test_what_dense_fronts_may_not_solve_is_solved(values, monkeypatch):
    """By eigenvalues, since of copies and clusters M has a null space, any basis of which is right."""
    monkeypatch.setattr(estimator, "SPARSE_UP_TO", 300)
    model, other = ours(values), ours(values, solver="dense")
    assert model.eigenvalues_ == pytest.approx(other.eigenvalues_, rel=1e-6, abs=1e-9)


def test_many_points_take_dense_fronts_and_what_fails_goes_on(mnist_features, monkeypatch):
    values = mnist_features[:400]
    expected = ours(values)
    assert expected.solver_ == "sparse"
    monkeypatch.setattr(estimator, "SPARSE_UP_TO", 399)
    assert ours(values).solver_ == "multifrontal"

    def fail(*arguments):
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setitem(factors.SOLVERS, "multifrontal", fail)
    model = ours(values)
    assert model.solver_ == "sparse"
    assert model.embedding_.tobytes() == expected.embedding_.tobytes()
    with pytest.raises(JaxtlError, match=r"no solution \(singular\); take more n_neighbors"):
        ours(values, solver="multifrontal")


def test_threads_do_not_show(mnist_features, small_pieces):
    values = mnist_features[:400]
    model = ours(values, solver="multifrontal", n_jobs=1)
    for jobs in (None, 3):
        again = ours(values, solver="multifrontal", n_jobs=jobs)
        assert again.embedding_.tobytes() == model.embedding_.tobytes()
