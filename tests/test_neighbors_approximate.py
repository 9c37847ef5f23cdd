"""Approximate neighbours by faiss: as many of the true ones as they say, and who takes them."""

import builtins
import json

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.neighbors import exact_neighbors
from jaxtl.neighbors.approximate import approximate_neighbors, true_distances
from jaxtl.records.arrays import Features, Neighbors
from jaxtl.reduction import reduce

CLUSTERS = np.random.default_rng(0).normal(size=(20, 100))
CLOUD = (CLUSTERS[np.arange(3000) % 20] + 0.4 * np.random.default_rng(1).normal(size=(3000, 100))).astype(
    np.float32
)
SHORT = {"perplexity": 8, "n_iter": 20, "early_exaggeration_iter": 10}


@pytest.fixture(scope="module")
def approximate():
    pytest.importorskip("faiss")
    return approximate_neighbors(CLOUD, 10, 0.9)


def test_as_many_are_true_as_are_told_and_asked_for(approximate):
    exact = exact_neighbors(CLOUD, 10)
    true = (approximate.distances <= exact.distances[:, -1:] * (1 + 1e-6)).mean()
    assert true >= 0.9
    assert approximate.recall == pytest.approx(true, abs=0.02)
    assert true < 1  # or nothing was approximate here


def test_they_are_neighbours_with_their_true_distances(approximate):
    rows = np.arange(len(CLOUD))[:, None]
    assert approximate.indices.dtype == np.int32
    assert not (approximate.indices == rows).any()
    assert all(len(set(row)) == 10 for row in approximate.indices.tolist())
    apart = np.linalg.norm(np.float64(CLOUD)[approximate.indices] - np.float64(CLOUD)[rows], axis=2)
    np.testing.assert_allclose(approximate.distances, apart, rtol=1e-6)
    assert (np.diff(approximate.distances, axis=1) >= 0).all()


def test_the_same_again_from_a_file(approximate, tmp_path):
    np.save(tmp_path / "f.npy", CLOUD)
    fractions = []
    again = approximate_neighbors(np.load(tmp_path / "f.npy", mmap_mode="r"), 10, 0.9, fractions.append)
    np.testing.assert_array_equal(again.indices, approximate.indices)
    np.testing.assert_array_equal(again.distances, approximate.distances)
    assert again.recall == approximate.recall
    assert fractions[-1] == 1


def test_true_distances_are_those_of_exact_neighbours(monkeypatch):
    rows = np.array([5, 0, 2999, 1700])
    exact = exact_neighbors(CLOUD, 7).distances[rows, -1]
    np.testing.assert_array_equal(true_distances(CLOUD, rows, 7), exact)
    monkeypatch.setattr("jaxtl.neighbors.approximate._PIECE", 100 * 700)
    np.testing.assert_array_equal(true_distances(CLOUD, rows, 7), exact)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=(12, 300)),
        np.random.default_rng(0).normal(size=(900, 2)) * 1e30,
        np.random.default_rng(0).normal(size=(900, 20)).astype(np.float32) + 1e3,
        np.repeat(np.random.default_rng(0).normal(size=(20, 3)), 40, axis=0),
        np.ones((300, 5)),
    ],
    ids=["few rows", "large", "far from 0", "copies", "all equal"],
)
def test_odd_rows(values):
    pytest.importorskip("faiss")
    nearest = approximate_neighbors(values, 8, 0.95)
    exact = exact_neighbors(values, 8)
    assert not (nearest.indices == np.arange(len(values))[:, None]).any()
    assert nearest.recall >= 0.95
    assert (nearest.distances <= exact.distances[:, -1:] * (1 + 1e-6)).mean() >= 0.95


def test_what_cannot_be_is_refused_in_one_line():
    pytest.importorskip("faiss")
    hole = CLOUD.copy()
    hole[2345, 6] = np.nan
    for values, k, recall, said in [
        (CLOUD, 3000, 0.9, "n_neighbors must be 1 to 2999"),
        (CLOUD, 5, 1.0, "recall must be a number above 0 and below 1, got 1.0"),
        (hole, 5, 0.9, "NaN or infinite values in 1 of 3000 rows, the first in row 2345"),
    ]:
        with pytest.raises(JaxtlError, match=said) as refusal:
            approximate_neighbors(values, k, recall)
        assert "\n" not in str(refusal.value)


def test_a_recall_that_is_not_reached_is_told():
    """Noise without structure: its first 64 of 2,000 components say next to nothing of distances."""
    pytest.importorskip("faiss")
    noise = np.random.default_rng(0).normal(size=(700, 2000)).astype(np.float32)
    with pytest.raises(
        JaxtlError, match=r"recall of 0.999 is not reached, 0\.\d+ is; ask for less, or for ex"
    ):
        approximate_neighbors(noise, 3, 0.999)


def test_without_faiss_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(JaxtlError, match=r'found by faiss: run pip install "\.\[faiss\]" in the checkout'):
        approximate_neighbors(CLOUD, 5)


# Who takes them.

SOME = Features(CLOUD[:300])


@pytest.fixture(scope="module")
def given():
    """Neighbours that are said to be approximate; whose they are plays no part."""
    exact = exact_neighbors(SOME.values, 30)
    return Neighbors(exact.indices, exact.distances, 0.97)


def test_a_file_says_that_they_are_approximate(given, tmp_path):
    given.save(tmp_path / "n.npz")
    assert Neighbors.load(tmp_path / "n.npz").recall == 0.97
    assert "0.97" in repr(given)
    Neighbors(given.indices, given.distances, 1.7).save(tmp_path / "n.npz")
    with pytest.raises(JaxtlError, match=r"n\.npz: recall in meta is 1\.7"):
        Neighbors.load(tmp_path / "n.npz")


def test_an_embedding_says_that_its_neighbours_were_approximate(given):
    tsne = reduce(SOME, "tsne", "opentsne", known_neighbors=given, **SHORT)
    assert (tsne.params["neighbors"], tsne.params["recall"]) == ("given", 0.97)
    lle = reduce(SOME, "lle", known_neighbors=given)
    assert lle.params["recall"] == 0.97
    for method, more in (("tsne", {**SHORT, "neighbors": "exact"}), ("tsne", {**SHORT, "perplexity": 20})):
        assert "recall" not in reduce(SOME, method, "opentsne", known_neighbors=given, **more).params


def test_tsne_of_many_takes_those_that_it_is_given(given, monkeypatch):
    """Beyond the limit up to which it looks for exact ones by itself; the start is streamed there."""
    expected = reduce(SOME, "tsne", "opentsne", known_neighbors=given, **SHORT)
    monkeypatch.setattr("jaxtl.reduction.tsne.EXACT_NEIGHBORS_UP_TO", 100)
    exact = Neighbors(given.indices, given.distances)
    for known, told in ((given, "given"), (exact, "exact"), (None, "annoy")):
        embedding = reduce(SOME, "tsne", "opentsne", known_neighbors=known, **SHORT)
        assert embedding.params["neighbors"] == told
        # The jitter is another one; what a map begins with, its first axis keeps.
        assert np.corrcoef(embedding.coords[:, 0], expected.coords[:, 0])[0, 1] > 0.95


def test_the_command_tells_what_it_reached(tmp_path, jaxtl):
    pytest.importorskip("faiss")
    features, out = tmp_path / "f.npz", tmp_path / "n.npz"
    Features(CLOUD).save(features)
    words = ("neighbors", features, "--n-neighbors", 9, "--recall", 0.9, "--out", out)
    code, said, _ = jaxtl(*words)
    assert code == 0
    assert said.startswith(f"{out}: 9 neighbours of 3,000 images, approximate: 0.9")
    recall = Neighbors.load(out).recall
    assert json.loads(jaxtl(*words, "--json")[1])["recall"] == recall


def test_several_processes_search_exactly(tmp_path, jaxtl):
    several = ("--coordinator", "localhost:1", "--processes", 2, "--process-id", 0)
    code, _, said = jaxtl("neighbors", tmp_path, "--recall", 0.9, "--out", tmp_path / "n.npz", *several)
    assert code == 2
    assert "--recall: one process searches approximately" in said
