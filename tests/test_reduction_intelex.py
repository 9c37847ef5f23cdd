"""t-SNE by oneDAL: maps as good as openTSNE's, the same bytes again, edges, and when "auto" takes it.

What it computes is tested where scikit-learn-intelex is installed; which library is taken, everywhere.
"""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

import jaxtl
from jaxtl.errors import JaxtlError
from jaxtl.experiment.embeddings import Embedder, EmbeddingOptions
from jaxtl.machine import cuda
from jaxtl.methods import METHODS
from jaxtl.metrics import faithfulness
from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Features
from jaxtl.reduction import choice, defaults, intelex, reduce
from jaxtl.reduction.choice import choose
from jaxtl.reduction.process import Reducer
from jaxtl.scaling import plan

HAS_IT = importlib.util.find_spec("sklearnex") is not None
needs_it = pytest.mark.skipif(not HAS_IT, reason="scikit-learn-intelex is not installed")
SHORT = {"early_exaggeration_iter": 60, "n_iter": 60, "n_jobs": 1, "perplexity": 5}


@pytest.fixture
def installed(monkeypatch):
    """A function that makes this a machine without a GPU, where the extra is installed, or is not."""
    monkeypatch.setattr(cuda, "cuml_fault", lambda: cuda.Fault("cuML is not installed", "install it", False))

    def pretend(there):
        name = "json" if there else "no_such_module"
        monkeypatch.setattr(choice, "find_spec", lambda module: importlib.util.find_spec(name))

    return pretend


def cloud(n=150, d=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


# Which library is taken.


def test_auto_takes_it_where_it_is_installed_and_says_why(installed):
    installed(True)
    why = "installed, and faster than openTSNE on a CPU"
    assert choose("tsne")[:3] == ("intelex", f"{why} up to 20,000 points", False)
    assert choose("tsne", points=20_000)[:3] == ("intelex", why, False)
    assert choose("tsne", points=20_001)[:3] == ("opentsne", "cuML is not installed", False)
    assert [choose(method).name for method in ("pca", "lle")] == ["sklearn", "jaxtl"]
    installed(False)
    assert choose("tsne")[:3] == ("opentsne", "cuML is not installed", False)


def test_a_gpu_is_taken_before_it(installed, monkeypatch):
    installed(True)
    monkeypatch.setattr(cuda, "cuml_fault", lambda: None)
    assert choose("tsne").name == "cuml"


def test_a_folder_of_its_name_is_not_the_library(monkeypatch, tmp_path):
    (tmp_path / "sklearnex").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not choice.is_installed("intelex")


def test_asked_for_where_it_is_not_installed_is_one_line(installed, monkeypatch):
    installed(False)
    with pytest.raises(
        JaxtlError, match=r'not installed; run pip install "\.\[intelex\]".* --backend opentsne$'
    ):
        choose("tsne", "intelex")
    monkeypatch.setattr(choice.platform, "machine", lambda: "aarch64")
    with pytest.raises(JaxtlError, match=r"intelex is not installed; take --backend opentsne$"):
        choose("tsne", "intelex")


@pytest.mark.parametrize(
    "params", [{"negative_gradient_method": "bh"}, {"n_components": 3}, {"n_components": "2"}]
)
def test_auto_takes_opentsne_for_what_it_cannot_do(installed, monkeypatch, params):
    installed(True)
    taken = []
    for name in ("intelex", "opentsne"):
        monkeypatch.setitem(jaxtl.reduction.BACKENDS["tsne"], name, named(name, taken))
    for given in (params, {}):
        with pytest.raises(JaxtlError, match="enough"):
            reduce(cloud(40), "tsne", perplexity=5, **given)
    assert taken == ["opentsne", "intelex"]
    assert {"negative_gradient_method", "n_iter"} <= defaults("tsne").keys()
    assert "negative_gradient_method" not in defaults("tsne", "intelex")


@pytest.fixture
def narrow(monkeypatch):
    """Takes it up to 50 points."""
    row = dataclasses.replace(METHODS["tsne"], faster_up_to={"intelex": 50})
    monkeypatch.setitem(METHODS, "tsne", row)


def test_auto_takes_opentsne_for_more_points_than_it_is_faster_with(installed, narrow, monkeypatch):
    installed(True)
    taken = []
    for name in ("intelex", "opentsne"):
        monkeypatch.setitem(jaxtl.reduction.BACKENDS["tsne"], name, named(name, taken))
    for given in ({}, {"landmarks": 50}, {"landmarks": 52}, {"backend": "intelex"}):
        with pytest.raises(JaxtlError, match="enough"):
            reduce(cloud(51), "tsne", perplexity=5, **given)
    assert taken == ["opentsne", "intelex", "opentsne", "intelex"]


def test_a_run_and_a_study_take_what_is_faster_for_their_points(installed, narrow):
    installed(True)
    for points, library in ((50, "intelex"), (51, "opentsne")):
        run = Embedder(("tsne",), EmbeddingOptions(), points)
        assert run.choices["tsne"].name == library
        assert len(run.notes) == (library == "intelex")
        # What began with one goes on with it.
        other = Embedder(("tsne",), EmbeddingOptions(), points, made={"tsne": "intelex"})
        assert other.choices["tsne"].name == "intelex"
        methods = plan.parse_methods("tsne,tsne@50")
        assert [s.backend for s in plan.series_of(methods, "auto", points)] == [library, "intelex"]


def named(name, taken):
    """A backend with the parameters of another, which tells its name and gives up."""
    real = jaxtl.reduction.BACKENDS["tsne"][name]

    def backend(*arguments, **given):
        taken.append(name)
        raise JaxtlError("enough")

    backend.__signature__ = __import__("inspect").signature(real)
    return backend


def test_advice_names_what_is_there(installed, monkeypatch, tmp_path):
    assert process_advice(installed, True) == " or take --backend intelex"
    assert process_advice(installed, False) == ""


def process_advice(installed, there):
    from jaxtl.reduction.process import _advice

    installed(there)
    return _advice("tsne", "opentsne")


def test_a_run_says_that_it_took_it_and_goes_on_with_what_it_began(installed):
    def embedder(backend="auto", **made):
        return Embedder(("pca", "tsne"), EmbeddingOptions(backend), 100, made=made)

    installed(True)
    taken = embedder()
    assert taken.title("tsne", "before") == "t-SNE before, scikit-learn-intelex"
    assert taken.notes == [
        "t-SNE by scikit-learn-intelex, which is installed; --backend opentsne takes openTSNE"
    ]
    assert embedder("opentsne").notes == embedder("intelex").notes == []
    # Begun before it was installed, or by an option.
    assert embedder(tsne="opentsne").choices["tsne"].name == "opentsne"
    assert embedder("intelex", tsne="opentsne").choices["tsne"].name == "intelex"
    installed(False)
    assert embedder(tsne="intelex").choices["tsne"].name == "opentsne"
    assert embedder().notes == []


def test_its_pieces_are_all_of_the_iterations():
    assert list(intelex._pieces(0)) == []
    for count in (1, intelex._TOGETHER, 3 * intelex._TOGETHER + 1):
        assert sum(intelex._pieces(count)) == count


# What it computes.


@needs_it
def test_its_map_is_as_good_as_opentsnes(mnist_features):
    theirs, ours = (reduce(mnist_features[:1000], "tsne", name) for name in ("opentsne", "intelex"))
    assert ours.diagnostics["kl_divergence"] < 1.03 * theirs.diagnostics["kl_divergence"]
    trusted = [
        faithfulness(mnist_features[:1000], embedding.coords, 10).trustworthiness.value
        for embedding in (theirs, ours)
    ]
    assert trusted[1] > trusted[0] - 0.01


@needs_it
def test_divergence_is_that_of_its_coordinates_and_params_are_opentsnes():
    from openTSNE import TSNEEmbedding

    from jaxtl.reduction.divergence import measure_divergence
    from jaxtl.reduction.tsne import begin

    data = cloud()
    ours, theirs = (reduce(data, "tsne", name, **SHORT) for name in ("intelex", "opentsne"))
    settings = {name: defaults("tsne", "intelex")[name] for name in defaults("tsne", "intelex")}
    begun = begin(data, None, None, **(settings | SHORT))
    embedding = TSNEEmbedding(ours.coords.astype(np.float64), begun.affinities)
    measure_divergence(embedding)
    assert ours.diagnostics["kl_divergence"] == pytest.approx(embedding.kl_divergence, abs=1e-4)
    assert ours.backend == "intelex"
    same = ours.params.keys() & theirs.params.keys() - {"theta", "max_step_norm", "versions"}
    assert {name: ours.params[name] for name in same} == {name: theirs.params[name] for name in same}
    assert {*begun.used, "n_jobs", "seed", "momentum", "negative_gradient_method"} <= same
    assert "scikit-learn-intelex" in ours.params["versions"]
    record = {"params": ours.params, "diagnostics": ours.diagnostics}
    assert json.loads(json.dumps(record)) == record
    assert np.abs(ours.coords.mean(axis=0)).max() < 1e-4


@needs_it
def test_same_seed_gives_the_same_bytes_whatever_the_threads():
    import daal4py

    data = cloud(400)
    made = []
    for threads in (1, 2, 2):
        daal4py.daalinit(threads)
        made.append(reduce(data, "tsne", "intelex", **{**SHORT, "n_jobs": threads}).coords)
        assert daal4py.num_threads() == threads
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[1], made[2])
    other = reduce(data, "tsne", "intelex", **SHORT, seed=1).coords
    assert np.abs(made[0] - other).max() > 0.01


@needs_it
def test_another_process_gives_the_same_bytes_and_the_same_progress(tmp_path):
    features = Features(cloud(), None)
    features.save(tmp_path / "f.npz")
    here, there = [], []
    reduce(features, "tsne", "intelex", progress=here.append, **SHORT).save(tmp_path / "here.npz")
    with Reducer(60) as reducer:
        arguments = tmp_path / "f.npz", tmp_path / "there.npz", "tsne", "intelex", SHORT, there.append
        reducer.reduce(*arguments, threads=1)
    assert (tmp_path / "there.npz").read_bytes() == (tmp_path / "here.npz").read_bytes()
    assert there == here == sorted(here)
    assert (here[0], here[-1]) == (0.0, 1.0)
    assert len(here) > 3


@needs_it
def test_it_begins_with_coordinates_and_takes_known_neighbors():
    # Groups, whose places in a map stay.
    before = cloud()
    before[:, :2] += 12 * np.array([[0, 0], [1, 0], [0, 1.5]])[np.arange(150) % 3]
    first = reduce(before, "tsne", "intelex", **SHORT)
    onto = first.coords @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    begun = reduce(before, "tsne", "intelex", onto=onto, **SHORT)
    assert (begun.params["initialization"], begun.params["aligned"]) == ("given", True)
    turned = reduce(before, "tsne", "intelex", onto=onto, initialization="pca", **SHORT)
    assert abs(begun.diagnostics["turned_degrees"]) < 20
    assert abs(turned.diagnostics["turned_degrees"]) > 80
    known = exact_neighbors(before, 20)
    np.testing.assert_array_equal(
        reduce(before, "tsne", "intelex", known_neighbors=known, **SHORT).coords, first.coords
    )
    some = reduce(before, "tsne", "intelex", landmarks=100, **SHORT)
    assert some.params["landmarks"] == 100
    assert np.isfinite(some.coords).all()


LINE = np.stack([np.arange(60.0), np.zeros(60)], axis=1)
EDGES = {
    "all distances alike": np.eye(120),
    "as few as may be": np.random.default_rng(0).normal(size=(4, 3)),
    "copies": np.repeat(cloud(30), 4, axis=0),
    "two places": np.repeat(np.eye(2), 60, axis=0),
    "one apart": np.concatenate([np.zeros((99, 2)), [[1.0, 0.0]]]),
    "on a line": LINE,
    "tiny": cloud(90) * np.float32(1e-30),
    "huge": cloud(90) * np.float32(1e30),
    "far from 0": cloud(90) + 1e6,
}


@needs_it
@pytest.mark.parametrize("what", EDGES)
@pytest.mark.parametrize("more", [{}, {"initialization": "random"}, {"early_exaggeration": 1e4}])
def test_edges_are_mapped(what, more):
    rows = EDGES[what].astype(np.float32)
    perplexity = min(5, (len(rows) - 1) // 3)
    embedding = reduce(rows, "tsne", "intelex", **SHORT | {"perplexity": perplexity}, **more)
    assert np.isfinite(embedding.coords).all()
    assert embedding.diagnostics["kl_divergence"] >= 0
    assert embedding.coords.std() > 0


@needs_it
@pytest.mark.parametrize("backend", ["intelex", "opentsne"])
def test_rows_of_all_sizes_are_one_line_as_by_opentsne(backend):
    rows = (cloud(90) * np.logspace(-30, 30, 90)[:, None]).astype(np.float32)
    with pytest.raises(JaxtlError, match="the map is not finite; change its parameters"):
        reduce(rows, "tsne", backend, **SHORT)


@needs_it
def test_one_iteration_and_none():
    still = {"early_exaggeration_iter": 0, "perplexity": 5, "n_jobs": 1}
    start, moved = (reduce(cloud(), "tsne", "intelex", n_iter=n, **still).coords for n in (0, 1))
    assert np.abs(moved - start).max() > 0
    np.testing.assert_allclose(
        start, reduce(cloud(), "tsne", "opentsne", n_iter=0, **still).coords, atol=1e-8
    )


@needs_it
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components": 3}, r"tsne \(intelex\): n_components must be 2, got 3; take --backend opentsne"),
        ({"perplexity": 100}, "needs 301 rows"),
        ({"n_iter": -1}, "iterations of exaggeration must be an integer"),
        ({"learning_rate": 0}, r"learning_rate \(unless auto\) must .* above 0"),
        ({"negative_gradient_method": "fft"}, r"tsne \(intelex\) has no parameter negative_gradient_method"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"learning_rate": 1e4}, "learning_rate must be at most 125 here; take --backend opentsne"),
    ],
)
def test_what_it_cannot_do_is_one_line(params, message):
    with pytest.raises(JaxtlError, match=message) as caught:
        reduce(cloud(), "tsne", "intelex", **SHORT | params)
    assert "\n" not in str(caught.value)


class Onedal:
    """In place of the library: it fails, or it does nothing and does not say so."""

    def __init__(self, error=None):
        self.error, self.threads = error, 2

    def num_threads(self):
        return self.threads

    def daalinit(self, threads):
        self.threads = threads

    def daal_tsne_gradient_descent(self, *given):
        assert self.threads == 1
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [None, MemoryError("std::bad_alloc"), RuntimeError()])
def test_a_library_that_gives_up_is_one_line(monkeypatch, installed, error):
    installed(True)
    library = Onedal(error)
    monkeypatch.setitem(sys.modules, "daal4py", library)
    with pytest.raises(JaxtlError, match=r"^tsne \(intelex\): oneDAL gave up.*; take --backend opentsne$"):
        reduce(cloud(), "tsne", "intelex", **SHORT)
    assert library.threads == 2


def test_a_library_that_cannot_be_imported_is_one_line(monkeypatch, installed):
    installed(True)
    monkeypatch.setitem(sys.modules, "daal4py", None)
    message = (
        r"tsne \(intelex\): cannot be imported \(.*daal4py.*\); install it again, or take --backend opentsne"
    )
    with pytest.raises(JaxtlError, match=message):
        reduce(cloud(), "tsne", "intelex", **SHORT)


@needs_it
def test_it_moves_points_down_the_gradient_of_the_divergence():
    """oneDAL's own normaliser counts every point with itself: here 15 % of the sum."""
    from jaxtl.reduction.tsne import begin

    data = cloud(200)
    affinities = begin(data, None, None, **(defaults("tsne", "intelex") | SHORT)).affinities.P
    y = np.random.default_rng(1).normal(size=(200, 2)) * 3
    y -= y.mean(axis=0)
    with intelex._one_thread() as onedal:
        step = intelex._moved(onedal, y, affinities, 1, exaggeration=1.0, learning_rate=1.0, n_iter=1) - y
    apart = y[:, None] - y
    near = 1 / (1 + (apart**2).sum(axis=2))
    np.fill_diagonal(near, 0)
    gradient = (((affinities.toarray() - near / near.sum()) * near)[..., None] * apart).sum(axis=1)
    # The first gain is 0.01.
    assert np.linalg.norm(step / -0.01 - gradient) < 0.03 * np.linalg.norm(gradient)


@needs_it
def test_a_map_that_fills_a_square_stays_within_its_memory():
    """oneDAL alone ends the process here, as it writes beyond the memory for its tree."""
    code = (
        "import numpy as np, scipy.sparse as sparse\n"
        "from jaxtl.reduction import intelex\n"
        "side = np.arange(64.0)\n"
        "grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)\n"
        "affinities = sparse.diags([1 / 4096], [0], shape=(4096, 4096), format='csr')\n"
        "with intelex._one_thread() as onedal:\n"
        "    for _ in range(5):\n"
        "        moved = intelex._moved(onedal, grid, affinities, 2, 1.0, 1e-9, 2)\n"
        "assert abs(moved - grid + 31.5).max() < 1e-6\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@needs_it
def test_scikit_learn_stays_as_it_is():
    """In a process that has computed with it."""
    code = (
        "import numpy as np, sklearn.manifold, sklearn.neighbors, sklearn.decomposition\n"
        "places = (sklearn.manifold, sklearn.neighbors, sklearn.decomposition)\n"
        "before = [dict(vars(place)) for place in places]\n"
        "from jaxtl.reduction import reduce\n"
        f"reduce(np.random.default_rng(0).normal(size=(60, 4)), 'tsne', 'intelex', **{SHORT!r})\n"
        "assert before == [{k: v for k, v in vars(p).items() if k in b} for p, b in zip(places, before)]\n"
        "assert sklearn.manifold.TSNE.__module__.startswith('sklearn.')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
