"""Who makes the embeddings of a run: this process, one of their own, several at a time."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.experiment import embeddings, opening
from jaxtl.experiment.embeddings import EmbeddingOptions
from jaxtl.machine import cuda
from jaxtl.records.arrays import Embedding, Features, Neighbors
from jaxtl.reduction import reduce
from jaxtl.reduction.choice import Choice
from jaxtl.reduction.process import Reducer
from tests.run_files import Notes, stamps


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """PCA's maps are made where a GPU's would be."""
    choice = Choice("sklearn", "asked for", on_gpu=True)
    monkeypatch.setattr(embeddings, "choose", lambda method, backend, points=None: choice)


@pytest.mark.slow
def test_maps_from_a_process_of_their_own_are_the_same(few, few_run, as_on_a_gpu, tmp_path, contents):
    observer = Notes()
    opening.start(few, tmp_path, observer).run()
    assert contents(tmp_path) == contents(few_run)
    assert "PCA before, scikit-learn" in observer.titles


def test_a_map_that_dies_costs_nothing_else(few, few_run, as_on_a_gpu, monkeypatch, tmp_path, contents):
    monkeypatch.setattr(Reducer, "reduce", dying(Reducer.reduce))
    with pytest.raises(JaxtlError, match=r"SIGKILL.*; go on with: jaxtl run --resume ") as caught:
        opening.start(few, tmp_path).run()
    assert "\n" not in str(caught.value)
    assert (tmp_path / "features" / "after.npz").is_file()
    monkeypatch.undo()
    opening.resume(tmp_path, options=EmbeddingOptions(backend="sklearn")).run()
    assert contents(tmp_path) == contents(few_run)


def dying(reduce):
    """`Reducer.reduce`, whose process is killed as soon as it is asked."""

    def die(reducer, *arguments, **others):
        if reducer.pid:  # one that has died is started again where it is asked
            os.kill(reducer.pid, signal.SIGKILL)
        return reduce(reducer, *arguments, **others)

    return die


def test_a_map_that_takes_too_long_is_given_up(few, as_on_a_gpu, tmp_path):
    with pytest.raises(JaxtlError, match=r"no result within 0\.01 s; .*raise --time-limit.*; go on with"):
        opening.start(few, tmp_path, options=EmbeddingOptions(time_limit=0.01)).run()


def test_other_steps_are_done_before_a_map_that_failed_is_told_of(
    few, few_run, as_on_a_gpu, monkeypatch, tmp_path
):
    real = embeddings.Embedder.make

    def fail_before(self, job, progress, notify):
        if job.stage == "before":
            raise JaxtlError("pca: it cannot be")
        return real(self, job, progress, notify)

    monkeypatch.setattr(embeddings.Embedder, "make", fail_before)
    with pytest.raises(JaxtlError, match=r"^pca: it cannot be; go on with: jaxtl run --resume "):
        opening.start(few, tmp_path).run()
    done = set(stamps(tmp_path))
    assert {"model.safetensors", "features/after.npz", "features/train_after.npz"} <= done
    # The map after is turned onto the one before, and waits for it.
    missing = {"scores.csv", "report.html", "embeddings/before_pca.npz", "embeddings/after_pca.npz"}
    assert not missing & done


@pytest.mark.parametrize("fails", ["before", "after"])
@pytest.mark.slow
def test_one_of_two_maps_at_a_time_may_die(few, fails, monkeypatch, tmp_path):
    monkeypatch.setattr(embeddings, "cpu_count", lambda: 2)
    tsne = dataclasses.replace(few, methods=("tsne",), perplexity=5.0)
    reduce = Reducer.reduce

    def die(reducer, features, *arguments, **others):
        if fails in str(features) and reducer.pid:
            os.kill(reducer.pid, signal.SIGKILL)
        return reduce(reducer, features, *arguments, **others)

    monkeypatch.setattr(Reducer, "reduce", die)
    with pytest.raises(JaxtlError, match=r"SIGKILL.*; go on with: jaxtl run --resume "):
        opening.start(tsne, tmp_path).run()
    monkeypatch.setattr(Reducer, "reduce", reduce)
    opening.resume(tmp_path).run()
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("points", [embeddings.FFT_FROM, 10])
@pytest.mark.slow
def test_maps_of_tsne_are_those_of_the_library(few, points, monkeypatch, tmp_path):
    """However many threads its process is told to take."""
    monkeypatch.setattr(embeddings, "FFT_FROM", points)
    monkeypatch.setattr(embeddings, "cpu_count", lambda: 2)
    tsne = dataclasses.replace(few, methods=("tsne",), perplexity=5.0, align=False)
    opening.start(tsne, tmp_path).run()
    for stage in ("before", "after"):
        features = Features.load(tmp_path / "features" / f"{stage}.npz")
        neighbors = Neighbors.load(tmp_path / "neighbors" / f"{stage}.npz")
        made = Embedding.load(tmp_path / "embeddings" / f"{stage}_tsne.npz")
        expected = reduce(
            features, "tsne", "opentsne", known_neighbors=neighbors, perplexity=5.0, seed=few.seed
        )
        np.testing.assert_array_equal(made.coords, expected.coords)
        assert made.params["n_jobs"] == (1 if points == 10 else -1)


def test_a_library_that_is_installed_and_broken_is_spoken_of(few, monkeypatch, tmp_path):
    fault = cuda.Fault("the driver is older than CUDA 12", "update the driver", broken=True)
    monkeypatch.setattr(cuda, "cuml_fault", lambda: fault)
    observer = Notes()
    opening.start(few, tmp_path, observer).run()
    assert f"PCA by scikit-learn: {fault.what}; {fault.remedy}" in observer.said
    assert Embedding.load(tmp_path / "embeddings" / "before_pca.npz").backend == "sklearn"


def test_what_cuml_cannot_do_is_refused_before_any_work(few, monkeypatch, tmp_path):
    settings = dataclasses.replace(few, dataset="mnist", samples=2000, methods=("tsne",), perplexity=500.0)
    monkeypatch.setattr(cuda, "cuml_fault", lambda: None)
    with pytest.raises(JaxtlError, match="perplexity 500 is too large for cuML's at most 1023 neighbours"):
        opening.start(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_groups_with_no_links_between_them_are_spoken_of(few, monkeypatch, tmp_path):
    def fall_apart(features, method, *arguments, **params):
        embedding = reduce(features, method, *arguments, **params)
        embedding.diagnostics["warning"] = "the graph has 2 components"
        return embedding

    reduce = embeddings.reduce
    monkeypatch.setattr(embeddings, "reduce", fall_apart)
    monkeypatch.setattr(embeddings, "cpu_count", lambda: 1)  # where this process makes the maps
    observer = Notes()
    opening.start(few, tmp_path, observer).run()
    assert "PCA after: the graph has 2 components" in observer.said
