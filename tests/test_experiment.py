"""A run's folder: what it holds, and that no kill, full disk or change of mind can spoil it."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from jaxtl.data import load
from jaxtl.evaluation.catalogue import FIVE_FOLDS, LEAVE_ONE_OUT
from jaxtl.experiment import opening
from jaxtl.experiment.shared import Shared
from jaxtl.methods import METHODS
from jaxtl.models.weights import arrays_of, imagenet_path, load_arrays, load_model
from jaxtl.neighbors import exact_neighbors
from jaxtl.network.extraction import extract
from jaxtl.network.finetuning import finetune
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.records.arrays import Embedding, Features, Neighbors
from jaxtl.records.tables import load_history, load_layers, load_scores
from jaxtl.runs import figures
from jaxtl.runs.figures import save_figure
from jaxtl.settings import STAGES
from tests.run_files import FIGURES, FILES, MAPS, finish, stamps


def test_a_run_holds_every_file_and_no_other(finished):
    assert set(stamps(finished)) == FILES


def test_config_and_environment_say_what_ran(finished, config):
    record = json.loads((finished / "config.json").read_text())
    for name, value in {**dataclasses.asdict(config), "preprocessing": "unit"}.items():
        assert record[name] == (list(value) if name == "methods" else value)
    assert record["weights_digest"] == load_arrays(imagenet_path())[2]["tensor_digest"]
    recorded = json.loads((finished / "environment.json").read_text())
    assert {"jaxtl", "python", "cpu", "cores", "devices", "versions"} <= set(recorded)
    assert {"jax", "numpy", "scikit-learn", "openTSNE"} <= set(recorded["versions"])
    timings = json.loads((finished / "timings.json").read_text())
    began = timings.pop("began")
    assert began.keys() == timings.keys() - {"run", "peak_memory_gib"}
    assert all(0 <= began[name] <= began[name] + timings[name] <= timings["run"] + 0.01 for name in began)


@pytest.mark.parametrize("stage", ["before", "after"])
def test_features_are_of_the_first_test_images(finished, config, stage):
    features = Features.load(finished / "features" / f"{stage}.npz")
    sample = load(config.dataset, "test").take(250)
    assert features.values.shape == (250, 1280)
    assert np.isfinite(features.values).all()
    assert np.array_equal(features.labels, sample.labels)
    assert np.array_equal(features.index, np.arange(250))
    weights = imagenet_path() if stage == "before" else finished / "model.safetensors"
    again = extract(load_model(weights), sample, config.images)
    assert again.meta == features.meta
    assert features.meta["weights_digest"] == load_arrays(weights)[2]["tensor_digest"]
    np.testing.assert_allclose(features.values, again.values, rtol=0, atol=1e-5 * np.abs(again.values).max())


def test_the_tuned_weights_give_exactly_the_features_after(finished, config):
    features = Features.load(finished / "features" / "after.npz")
    start, tuned = load_model(), load_model(finished / "model.safetensors")
    trunk = Trunk(start, trainable_boundary(start.config, config.trainable), config.images)
    source = trunk.source(load(config.dataset, "test").images[:250], True)
    assert np.array_equal(trunk.then(tuned, tuned.config.pooled, source), features.values)


def test_the_tuned_weights_have_the_test_accuracy_of_the_last_epoch(finished, config):
    tuned, test = load_model(finished / "model.safetensors"), load(config.dataset, "test")
    features = extract(tuned, test, config.images).values
    logits = features @ np.asarray(tuned.predictions.kernel[...]) + np.asarray(tuned.predictions.bias[...])
    last = load_history(finished / "history.csv")[-1]
    assert last["epoch"] == 3
    assert last["test_accuracy"] == pytest.approx(np.mean(logits.argmax(1) == test.labels), abs=1e-6)


@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.parametrize("method", METHODS)
def test_maps_are_of_these_features_with_these_settings(finished, config, stage, method):
    embedding = Embedding.load(finished / "embeddings" / f"{stage}_{method}.npz")
    features = Features.load(finished / "features" / f"{stage}.npz")
    assert embedding.coords.shape == (250, 2)
    assert np.array_equal(embedding.labels, features.labels)
    assert np.array_equal(embedding.index, features.index)
    assert (embedding.method, embedding.meta) == (method, features.meta)
    assert config.reduction(method).items() <= embedding.params.items()


def test_scores_are_the_neighbour_accuracies_and_the_history(finished):
    scores = {
        (score.stage, score.space, score.metric): score.value
        for score in load_scores(finished / "scores.csv")
    }
    history = load_history(finished / "history.csv")
    for stage in ("before", "after"):
        features = Features.load(finished / "features" / f"{stage}.npz")
        spaces = {"features": features.values}
        for method in METHODS:
            spaces[method] = Embedding.load(finished / "embeddings" / f"{stage}_{method}.npz").coords
        for space, values in spaces.items():
            expected = cross_val_score(KNeighborsClassifier(10), values, features.labels, cv=5).mean()
            assert scores.pop((stage, space, FIVE_FOLDS)) == pytest.approx(expected, abs=1e-6)
    for row in history:
        for name in ("loss", "accuracy", "test_loss", "test_accuracy"):
            assert scores.pop((f"epoch {row['epoch']:.0f}", "model", name)) == row[name]
    assert history[2]["loss"] < history[1]["loss"] < history[0]["loss"]
    assert history[2]["accuracy"] > 0.8


def test_figures_are_of_their_formats(finished):
    starts = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    for name in FIGURES:
        assert (finished / name).read_bytes().startswith(starts[Path(name).suffix])


@pytest.mark.slow
@pytest.mark.parametrize("cores", [1, 2])
def test_figures_are_the_same_wherever_they_are_drawn(copy, finished, contents, monkeypatch, cores):
    monkeypatch.setattr(figures, "cpu_count", lambda: cores)
    shutil.rmtree(copy / "figures")
    finish(copy)
    assert contents(copy) == contents(finished)


SHOWS = {
    "before": ["config.json", "scores.csv", *MAPS[:3]],
    "after": ["config.json", "scores.csv", *MAPS[3:]],
    "comparison": ["config.json", "scores.csv", *MAPS],
    "history": ["history.csv"],
}


@pytest.mark.parametrize("name", SHOWS)
def test_a_figure_is_drawn_from_what_it_shows_alone(finished, contents, tmp_path, name):
    for file in SHOWS[name]:
        (tmp_path / "run" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(finished / file, tmp_path / "run" / file)
    save_figure(tmp_path / "run", name, tmp_path / "out")
    expected = {
        file: made for file, made in contents(finished / "figures").items() if Path(file).stem == name
    }
    assert len(expected) == 3
    assert contents(tmp_path / "out") == expected


def test_another_seed_changes_what_is_learnt_and_not_what_was_there(few, few_run, tmp_path):
    opening.start(dataclasses.replace(few, seed=few.seed + 1), tmp_path / "run").run()
    before, after, models = (
        [(folder / name).read_bytes() for folder in (few_run, tmp_path / "run")]
        for name in ("features/before.npz", "features/after.npz", "model.safetensors")
    )
    assert before[0] == before[1]
    assert after[0] != after[1]
    assert models[0] != models[1]


# Compiling the training of the whole network takes most of a minute on busy cores.
@pytest.mark.parametrize(
    "trainable", [pytest.param(name, marks=pytest.mark.slow) for name in ("all", "none", "Conv_1")]
)
def test_any_freezing_boundary(few, tmp_path, trainable):
    """All test images, some methods in an order of one's own, and only the layers asked for change."""
    config = dataclasses.replace(few, trainable=trainable, methods=("lle", "pca"), train_samples=32)
    scores = opening.start(config, tmp_path / "run").run()
    accuracies = [score for score in scores if score.metric == LEAVE_ONE_OUT]
    assert [score.space for score in accuracies if score.stage == "before"] == ["features", "lle", "pca"]
    before, after = (Features.load(tmp_path / "run" / "features" / f"{stage}.npz") for stage in STAGES)
    assert before.values.shape == after.values.shape == (60, 1280)
    assert np.array_equal(before.values, after.values) == (trainable == "none")
    start, tuned = (load_arrays(path) for path in (imagenet_path(), tmp_path / "run" / "model.safetensors"))
    layers = tuned[0].layers[trainable_boundary(tuned[0], trainable) :]
    learnt = {f"{layer.name}/{key}" for layer in layers for key in layer.parameters}
    changed = {name for name in tuned[1] if not np.array_equal(tuned[1][name], start[1].get(name))}
    assert changed == learnt
    assert not any("tsne" in path.name for path in (tmp_path / "run").rglob("*"))


def test_digits_made_when_asked_for_are_made_once_to_be_learnt_from(few, tmp_path):
    shared = Shared(dataclasses.replace(few, dataset="infinite:200", trainable="all"))
    source = shared.source("train", len(shared.train))
    # JAX takes arrays, and not what makes them.
    assert type(source) is np.ndarray
    np.testing.assert_array_equal(source, shared.train.images[:])
    assert shared.source("train", 5) is source


def test_finetuning_in_a_run_is_that_of_the_library(few, few_run):
    train, test = (load(few.dataset, split) for split in ("train", "test"))
    tuned, history = finetune(load_model(), train, test, few.finetuning, few.images)
    for row, saved in zip(history, load_history(few_run / "history.csv"), strict=True):
        assert saved == pytest.approx(row, abs=1e-6)
    saved = load_arrays(few_run / "model.safetensors")[1]
    for name, array in arrays_of(tuned).items():
        assert np.array_equal(array, saved[name]), name


def test_neighbours_are_found_once_and_are_the_exact_ones(finished, config):
    for stage in ("before", "after"):
        values = Features.load(finished / "features" / f"{stage}.npz").values
        neighbors = Neighbors.load(finished / "neighbors" / f"{stage}.npz")
        # As many as the scores of what is kept look at: t-SNE asks for three times its perplexity, 10.
        assert neighbors.indices.shape == (250, 50)
        np.testing.assert_array_equal(neighbors.indices, exact_neighbors(values, 50).indices)


def test_training_features_are_of_the_first_training_images(finished, config):
    data = load(config.dataset, "train")
    for stage, weights in (("before", None), ("after", finished / "model.safetensors")):
        kept = Features.load(finished / "features" / f"train_{stage}.npz")
        np.testing.assert_array_equal(kept.labels, data.labels)
        some = extract(load_model(weights), data.take(64), config.images).values
        np.testing.assert_allclose(kept.values[:64], some, atol=1e-4)


def test_the_end_of_every_block_is_looked_at(few, few_run, tmp_path, contents):
    opening.start(dataclasses.replace(few, layers=True), tmp_path).run()
    made, without = contents(tmp_path), contents(few_run)
    new = {"layers.csv", *(f"figures/layers.{kind}" for kind in ("png", "svg", "pdf"))}
    assert made.keys() - without.keys() == new
    assert {name for name in without if made[name] != without[name]} == {"config.json"}
    rows = load_layers(tmp_path / "layers.csv")
    assert list(dict.fromkeys(row.layer for row in rows)) == list(load_model().config.block_ends)
    before = stamps(tmp_path)
    opening.resume(tmp_path).redo("layers", "figures", "report")
    again = {name for name, stamp in stamps(tmp_path).items() if stamp != before[name]}
    assert again - {"timings.json", "manifest.json"} == {"layers.csv", "report.html"} | {
        name for name in made if name.startswith("figures")
    }
    assert contents(tmp_path) == made
