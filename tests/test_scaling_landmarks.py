"""Ways beyond memory: landmarks and placing against the libraries, streamed PCA, feature stores on disk."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from jaxtl import LocallyLinearEmbedding
from jaxtl.errors import JaxtlError
from jaxtl.records import store
from jaxtl.records.arrays import Embedding, Features
from jaxtl.records.files import write_npz
from jaxtl.reduction import landmarks, pca, reduce
from jaxtl.reduction.landmarks import choose_landmarks

SHORT = {"perplexity": 8, "early_exaggeration_iter": 50, "n_iter": 100, "n_jobs": 1}


@pytest.fixture(scope="module")
def cloud():
    """Five blobs in 12 dimensions, 300 points."""
    rng = np.random.default_rng(0)
    labels = (np.arange(300) % 5).astype(np.int32)
    values = rng.normal(size=(300, 12)) + 6 * np.eye(12)[labels] + 3
    return Features(values.astype(np.float32), labels, np.arange(300, dtype=np.int32))


@pytest.fixture(scope="module")
def sheet():
    """A bent sheet in 12 dimensions, 300 points in one piece."""
    rng = np.random.default_rng(1)
    flat = rng.uniform(0, 3, size=(300, 2))
    bent = np.stack([np.sin(flat[:, 0]), np.cos(flat[:, 0]), flat[:, 1]], axis=1)
    values = bent @ rng.normal(size=(3, 12)) + 0.02 * rng.normal(size=(300, 12))
    return Features(values.astype(np.float32), np.zeros(300, np.int32), np.arange(300, dtype=np.int32))


def placed(cloud, method, **params):
    embedding = reduce(cloud, method, landmarks=120, seed=5, **params)
    chosen = choose_landmarks(300, 120, 5)
    others = np.setdiff1d(np.arange(300), chosen)
    return embedding, chosen, others


def test_pca_projects_the_others_as_scikit_learn_does(cloud):
    from sklearn.decomposition import PCA

    embedding, chosen, _ = placed(cloud, "pca")
    model = PCA(2, svd_solver="full").fit(cloud.values[chosen].astype(float))
    signs = np.sign((embedding.coords * model.transform(cloud.values)).sum(axis=0))
    np.testing.assert_allclose(embedding.coords, signs * model.transform(cloud.values), atol=1e-5)


def test_lle_places_the_others_as_the_estimator_does(sheet):
    embedding, chosen, others = placed(sheet, "lle", n_neighbors=8)
    model = LocallyLinearEmbedding(n_neighbors=8).fit(sheet.values[chosen])
    np.testing.assert_allclose(embedding.coords[chosen], model.embedding_, atol=1e-6)
    np.testing.assert_allclose(embedding.coords[others], model.transform(sheet.values[others]), atol=1e-6)


def test_lle_by_scikit_learn_places_as_scikit_learn(sheet):
    from sklearn.manifold import LocallyLinearEmbedding as Theirs

    embedding, chosen, others = placed(sheet, "lle", backend="sklearn", n_neighbors=8)
    model = Theirs(n_neighbors=8, eigen_solver="dense").fit(sheet.values[chosen].astype(float))
    signs = np.sign((embedding.coords[chosen] * model.embedding_).sum(axis=0))
    theirs = signs * model.transform(sheet.values[others].astype(float))
    np.testing.assert_allclose(embedding.coords[others], theirs, atol=1e-6)


def test_tsne_places_the_others_as_opentsne_does(cloud):
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN

    embedding, chosen, others = placed(cloud, "tsne", **SHORT)
    alone = reduce(
        Features(cloud.values[chosen], cloud.labels[chosen], cloud.index[chosen]), "tsne", seed=5, **SHORT
    )
    np.testing.assert_array_equal(embedding.coords[chosen], alone.coords)
    affinities = PerplexityBasedNN(cloud.values[chosen], perplexity=8, method="exact", n_jobs=1)
    coords = alone.coords.astype(float)
    middle = (coords.max(axis=0) + coords.min(axis=0)) / 2
    theirs = TSNEEmbedding(coords.copy(), affinities, negative_gradient_method="bh", n_jobs=1)
    expected = np.asarray(theirs.transform(cloud.values[others])) + middle
    # Theirs measures neighbours in float32, and the coordinates here were rounded to it.
    assert np.abs(embedding.coords[others] - expected).max() < 1e-3 * np.ptp(coords)


@pytest.mark.parametrize(("method", "params"), [("pca", {}), ("tsne", SHORT), ("lle", {"n_neighbors": 8})])
def test_a_row_is_placed_by_itself_and_what_ran_is_recorded(cloud, method, params, monkeypatch):
    fractions = []
    whole, chosen, _ = placed(cloud, method, progress=fractions.append, **params)
    monkeypatch.setattr(landmarks, "PIECE", 17)
    pieces, _, _ = placed(cloud, method, **params)
    np.testing.assert_allclose(pieces.coords, whole.coords, atol=1e-5 * np.abs(whole.coords).max())
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert whole.params["landmarks"] == 120
    assert whole.params["placing"]["by"] in ("projection", "openTSNE", "weights")
    # The divergence or error of the landmarks' map is not the whole map's.
    assert whole.diagnostics["placed"] == 180
    assert not {"kl_divergence", "reconstruction_error"} & set(whole.diagnostics)
    assert json.loads(json.dumps(whole.params)) == whole.params
    # What is placed lies among its own class: the blobs are far apart.
    classes = cloud.labels
    centres = np.stack([np.median(whole.coords[chosen][classes[chosen] == c], axis=0) for c in range(5)])
    if method == "tsne":
        nearest = ((whole.coords[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        assert (nearest == classes).mean() > 0.95


def test_with_no_more_points_than_landmarks_it_is_the_method_itself(cloud):
    plain = reduce(cloud, "pca")
    for many in (300, 5000):
        embedding = reduce(cloud, "pca", landmarks=many)
        np.testing.assert_array_equal(embedding.coords, plain.coords)
        assert "landmarks" not in embedding.params


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"landmarks": 2}, "pca: landmarks must be an integer at least 3, got 2"),
        ({"landmarks": "many"}, "pca: landmarks must be an integer at least 3, got 'many'"),
        ({"landmark": 50}, "pca .sklearn. has no parameter landmark; its parameters are .*, landmarks"),
    ],
)
def test_refuses_in_one_line(cloud, params, said):
    with pytest.raises(JaxtlError, match=said):
        reduce(cloud, "pca", **params)


def test_pca_places_among_landmarks_on_a_line_or_in_a_point(cloud):
    line = np.outer(np.linspace(-1, 1, 300), np.eye(12)[3]).astype(np.float32)
    embedding = reduce(replace(cloud, values=line), "pca", landmarks=120)
    np.testing.assert_allclose(np.ptp(embedding.coords, axis=0), [2, 0], atol=1e-6)
    # Landmarks may all be one image though the others are not.
    place, _ = landmarks.placer("pca", np.ones((120, 12)), np.zeros((120, 2)), {})
    np.testing.assert_array_equal(place(line.astype(float)), 0)
    exactly, _ = landmarks.placer("pca", line, np.outer(line[:, 3], [1.0, 0.0]), {})
    np.testing.assert_allclose(exactly(line), np.outer(line[:, 3], [1, 0]), atol=1e-6)


def test_too_few_landmarks_for_a_method_are_refused(cloud):
    with pytest.raises(JaxtlError, match="perplexity 30 needs 91 rows, the features have 50"):
        reduce(cloud, "tsne", landmarks=50)


@pytest.mark.parametrize(("n", "d"), [(500, 40), (30, 50)])
def test_streamed_pca_is_pca(n, d, monkeypatch):
    # A mean of a thousand deviations: a covariance from one pass would lose six digits.
    values = (np.random.default_rng(1).normal(size=(n, d)) * np.linspace(3, 0.1, d) + 1000).astype(np.float32)
    monkeypatch.setattr(pca, "PIECE", 7 * d)
    exact, _, exactly = pca.sklearn_pca(values, None, svd_solver="full")
    fractions = []
    streamed, used, components = pca.streamed_pca(values, fractions.append)
    np.testing.assert_allclose(streamed, exact, atol=1e-8 * np.abs(exact).max())
    np.testing.assert_allclose(
        *(coords["explained_variance_ratio"] for coords in (components, exactly)), rtol=1e-9
    )
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert used["passes"] == 2


def test_pieces_far_apart_cost_streamed_pca_no_digits(monkeypatch):
    """Rows sorted by a large coordinate: means of pieces lie apart by more than any piece is wide."""
    values = np.random.default_rng(3).normal(size=(400, 6)) * [1000, 1, 1, 1, 1, 0.1] + 1e4
    values = values[values[:, 0].argsort()]
    monkeypatch.setattr(pca, "PIECE", 6 * 33)
    exact, _, exactly = pca.sklearn_pca(values, None, svd_solver="full", n_components=6)
    streamed, _, components = pca.streamed_pca(values, None, n_components=6)
    np.testing.assert_allclose(streamed, exact, atol=1e-8 * np.abs(exact).max())
    np.testing.assert_allclose(
        *(coords["explained_variance_ratio"] for coords in (components, exactly)), rtol=1e-8
    )


def test_streamed_pca_is_nearer_the_truth_than_incremental_pca():
    """Why it is not scikit-learn's IncrementalPCA: that forgets what its few components do not hold."""
    from sklearn.decomposition import IncrementalPCA

    values = np.random.default_rng(2).normal(size=(2000, 60)) * np.linspace(1.3, 1, 60)
    exact, _, _ = pca.sklearn_pca(values, None, svd_solver="full")

    def error(coords):
        return np.abs(np.abs(coords) - np.abs(exact)).max() / np.abs(exact).max()

    assert error(pca.streamed_pca(values, None)[0]) < 1e-9
    incremental = IncrementalPCA(2, batch_size=200).fit(values)
    assert error(incremental.transform(values)) > 0.01


def test_a_store_comes_back_mapped_and_maps_are_the_same(cloud, tmp_path):
    path = tmp_path / "f.npy"
    store.write(path, np.array_split(cloud.values, 7), cloud.labels, cloud.index, {"model": "m"}, 12)
    features = store.load(path)
    assert isinstance(features.values, np.memmap)
    assert features.meta == {"model": "m"}
    np.testing.assert_array_equal(np.load(path), cloud.values)
    np.testing.assert_array_equal(features.labels, cloud.labels)
    assert len(store.load(path, 10).labels) == 10
    for backend, params in (("jaxtl", {}), ("sklearn", {"landmarks": 50})):
        coords = [reduce(record, "pca", backend, **params).coords for record in (features, cloud)]
        np.testing.assert_array_equal(*coords)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_somebody_else_is_features_without_labels(cloud, tmp_path, jaxtl, order):
    path, out = tmp_path / "own.npy", tmp_path / "e.npz"
    np.save(path, np.asarray(cloud.values, order=order))
    said = []
    features = store.features_in(path, said.append)
    assert isinstance(features.values, np.memmap)
    np.testing.assert_array_equal(features.values, cloud.values)
    assert features.labels is None
    assert said == [f"{path}: features without labels, as there is no own.rows.npz"]
    code, _, err = jaxtl("reduce", path, "--method", "pca", "--out", out)
    assert (code, said[0] in err) == (0, True)
    np.testing.assert_array_equal(Embedding.load(out).coords, reduce(features, "pca").coords)
    np.save(path, np.float64(cloud.values))
    code, _, err = jaxtl("reduce", path, "--method", "pca", "--out", out)
    assert code == 2
    assert "must hold float32 features [n, d], not float64 [" in err
    assert 'save yours by numpy.save(path, values.astype("float32"))' in err


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "f.npy: no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "not a readable array"),
        (lambda path: np.save(path, np.zeros((3, 2))), "must hold float32 features"),
        (lambda path: store.rows_path(path).unlink(), "f.rows.npz: no such file"),
        (lambda path: np.save(path, np.zeros((400, 12), np.float32)), "has fewer rows than"),
    ],
)
def test_damaged_stores_are_refused_in_one_line(cloud, tmp_path, spoil, said):
    path = tmp_path / "f.npy"
    store.write(path, [cloud.values], cloud.labels, cloud.index, {}, 12)
    spoil(path)
    with pytest.raises(JaxtlError, match=said) as caught:
        store.load(path)
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_no_half_store(cloud, tmp_path):
    def pieces():
        yield cloud.values[:100]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.write(tmp_path / "f.npy", pieces(), cloud.labels, cloud.index, {}, 12)
    assert {path.name for path in tmp_path.iterdir()} == {"f.rows.npz"}


def test_features_are_never_taken_with_the_labels_of_others(cloud, tmp_path):
    path, other = tmp_path / "f.npy", cloud.labels[::-1]

    def stopped():
        yield cloud.values[:0:-1]
        raise KeyboardInterrupt

    store.write(path, [cloud.values], cloud.labels, cloud.index, {}, 12)
    with pytest.raises(KeyboardInterrupt):
        store.write(path, stopped(), other, cloud.index, {}, 12)
    np.testing.assert_array_equal(np.load(path), cloud.values)
    with pytest.raises(JaxtlError) as caught:
        store.load(path)
    rows = tmp_path / "f.rows.npz"
    assert str(caught.value) == (f"{path}: belongs to other labels than {rows}; extract the features again")

    def not_begun():
        raise KeyboardInterrupt
        yield

    # Stopped before the first feature, what was there stays whole.
    store.write(path, [cloud.values], cloud.labels, cloud.index, {}, 12)
    with pytest.raises(KeyboardInterrupt):
        store.write(path, not_begun(), other, cloud.index, {}, 12)
    np.testing.assert_array_equal(store.load(path).labels, cloud.labels)


def test_a_store_that_grows_is_one_throughout(cloud, tmp_path):
    path = tmp_path / "f.npy"
    store.write(path, [cloud.values[:100]], cloud.labels[:100], cloud.index[:100], {}, 12)

    def stopped():
        yield from store.copied(store.mapped(path), 100)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write(path, stopped(), cloud.labels, cloud.index, {}, 12)
    np.testing.assert_array_equal(store.load(path).labels, cloud.labels[:100])


def test_a_store_of_an_earlier_version_is_read(cloud, tmp_path):
    path = tmp_path / "f.npy"
    np.save(path, cloud.values)
    write_npz(store.rows_path(path), {"labels": cloud.labels, "index": cloud.index}, {"model": "m"})
    assert store.load(path).meta == {"model": "m"}


def test_what_cannot_be_opened_is_not_called_damaged(jaxtl, tmp_path):
    path = tmp_path / "f.npy"
    path.mkdir()
    with pytest.raises(JaxtlError, match="a folder; give a file"):
        store.mapped(path)
    path.rmdir()
    path.symlink_to(path)  # a loop, which root cannot open either
    code, _, err = jaxtl("reduce", path, "--method", "pca", "--out", tmp_path / "e.npz")
    assert code == 2
    assert "delete it" not in err


def test_extract_to_a_store_and_reduce_from_it(jaxtl, few_digits, tmp_path):
    images = ["--dataset", few_digits, "--image-size", 32]
    for name in ("f.npz", "f.npy"):
        code, out, err = jaxtl("extract", *images, "--out", tmp_path / name)
        assert (code, out) == (0, f"{tmp_path / name}: 60 x 1280 features\n"), err
    plain, stored = Features.load(tmp_path / "f.npz"), store.load(tmp_path / "f.npy")
    np.testing.assert_array_equal(stored.values, plain.values)
    np.testing.assert_array_equal(stored.labels, plain.labels)
    assert stored.meta == plain.meta
    lle = ["--method", "lle", "--set", "n_neighbors=5", "--set", "landmarks=40", "--out", tmp_path / "e.npz"]
    code, out, err = jaxtl("reduce", tmp_path / "f.npy", *lle)
    assert code == 0, err
    assert "20 images placed among the landmarks" in out
    shutil.copy(tmp_path / "f.npy", tmp_path / "alone.npy")
    # Without its labels it is as any array; that they are not there is told.
    code, _, err = jaxtl("reduce", tmp_path / "alone.npy", *lle)
    assert (code, "as there is no alone.rows.npz" in err) == (0, True)
    code, _, err = jaxtl("extract", *images, "--out", tmp_path / "f.csv")
    assert (code, err) == (2, f"jaxtl: --out {tmp_path / 'f.csv'}: must end in .npz, .npy or .shards\n")
