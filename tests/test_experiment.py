"""A run's folder: what it holds, and that no kill, full disk or change of mind can spoil it."""

import contextlib
import dataclasses
import errno
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import FIVE_FOLDS, LEAVE_ONE_OUT
from jaxtl.experiment import embeddings, experiment, steps
from jaxtl.experiment.embeddings import EmbeddingOptions
from jaxtl.experiment.shared import Shared
from jaxtl.machine import cuda
from jaxtl.machine.child import Child, Pool
from jaxtl.machine.process import Silence
from jaxtl.methods import METHODS
from jaxtl.models.weights import arrays_of, imagenet_path, load_arrays, load_model
from jaxtl.neighbors import exact_neighbors
from jaxtl.network.extraction import extract
from jaxtl.network.finetuning import finetune
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.progress import Silent
from jaxtl.records.arrays import Embedding, Features, Neighbors
from jaxtl.records.tables import load_history, load_layers, load_scores
from jaxtl.reduction import reduce
from jaxtl.reduction.choice import Choice
from jaxtl.reduction.process import Reducer
from jaxtl.runs import figures
from jaxtl.runs.figures import save_figure
from jaxtl.settings import STAGES, RunConfig

FIGURE_NAMES = ("before", "after", "comparison", "history")
FIGURES = [f"figures/{name}.{kind}" for name in FIGURE_NAMES for kind in ("png", "svg", "pdf")]
MAPS = [f"embeddings/{stage}_{method}.npz" for stage in ("before", "after") for method in METHODS]
FILES = {
    "config.json", "environment.json", "timings.json", "features/before.npz", "features/after.npz",
    "features/train_before.npz", "features/train_after.npz", "neighbors/before.npz", "neighbors/after.npz",
    "history.csv", "model.safetensors", "scores.csv", "classes.csv", "claims.json", "measures.npz",
    "report.html", *MAPS, *FIGURES,
}  # fmt: skip
# Numbers that are kept until all are there.
KEPT = {f"numbers_{part}_{stage}.npz" for part in ("features", "embeddings") for stage in ("before", "after")}
KEPT.add("numbers_change.npz")


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def stamps(folder):
    """Inode and time of every file: they differ if a file was written again."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def finish(folder, **given):
    experiment.resume(folder, given).run()


# What a run leaves.


def test_a_run_holds_every_file_and_no_other(finished):
    assert set(stamps(finished)) == FILES


def test_config_and_environment_say_what_ran(finished, config):
    record = json.loads((finished / "config.json").read_text())
    for name, value in dataclasses.asdict(config).items():
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
        (each.stage, each.space, each.metric): each.value for each in load_scores(finished / "scores.csv")
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


# Going on after a kill.


class Killed(BaseException):
    """Stands for SIGKILL: nothing in jaxtl may catch it."""


@pytest.fixture
def kill_after(monkeypatch):
    """A function that makes writing the second file that was not there yet die, as SIGKILL would.

    The file's temporary stays, as it does after SIGKILL.
    """
    real = Path.replace
    new_files = []

    def replace(self, target):
        if not target.exists():
            new_files.append(target)
        if new_files[1:] == [target]:
            shutil.copy(self, target.with_name(f".{target.stem}-killed_0{target.suffix}"))
            raise Killed(str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)

    return new_files.clear


def test_a_run_killed_at_every_write_ends_as_if_it_never_was(
    few, few_run, contents, kill_after, monkeypatch, tmp_path
):
    """Between any two files, and within every step, since a step is killed where it writes."""
    # One step at a time: of those under way at the same time, the others would go on and write.
    monkeypatch.setattr(experiment, "cpu_count", lambda: 1)
    # As on one core, where this process makes all embeddings: others do not die with what dies here.
    monkeypatch.setattr(embeddings, "cpu_count", lambda: 1)
    folder, deaths = tmp_path / "run", []
    while True:
        kept = stamps(folder)
        kill_after()
        try:
            if (folder / "config.json").exists():
                finish(folder)
            else:
                experiment.start(few, folder).run()
            break
        except Killed as death:
            deaths.append(str(Path(str(death)).relative_to(folder)))
        # Of a step with several files the first ones are made again where it was killed before the last.
        parts = {"history.csv", "classes.csv", "claims.json", "measures.npz", *FIGURES}
        unfinished = {"timings.json", "checkpoint.npz", *KEPT, *parts}
        for name in kept.keys() - unfinished:
            if "killed_0" not in name:
                assert stamps(folder)[name] == kept[name], f"{name} was made again"
    files = set(stamps(few_run))
    assert set(deaths) == (files | {"checkpoint.npz"} | KEPT) - {"config.json"}
    assert contents(folder) == contents(few_run)


@pytest.mark.slow  # four processes, each of which compiles anew; the test above kills at every write
def test_sigkill_at_any_moment_changes_no_byte(config, finished, contents, launch, tmp_path):
    folder, moments = tmp_path / "run", random.Random(0)
    names = ("dataset", "samples", "trainable", "epochs", "perplexity")
    args = ["--out", folder, "--no-layers"]
    for name in names:
        args += [f"--{name.replace('_', '-')}", getattr(config, name)]
    for file in ("timings.json", "checkpoint.npz", "embeddings/before_pca.npz"):
        process = launch("run", *args)
        while process.poll() is None and not (folder / file).exists():
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.communicate()
        args = ["--resume", folder]
    process = launch("run", *args)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert contents(folder) == contents(finished)


def test_a_finished_run_is_left_alone(copy):
    before = stamps(copy)
    finish(copy)
    assert stamps(copy) == before


def test_what_was_deleted_is_made_again_and_nothing_else(copy, finished, contents):
    gone = {"environment.json", "history.csv", "features/before.npz", "embeddings/after_lle.npz", FIGURES[4]}
    for name in gone:
        (copy / name).unlink()
    before = stamps(copy)
    finish(copy)
    after = stamps(copy)
    made_together = {"history.csv", "model.safetensors", *FIGURES, "timings.json"}
    for name in FILES - gone - made_together:
        assert after[name] == before[name], name
    assert contents(copy) == contents(finished)


def test_only_the_figure_of_which_a_file_is_missing_is_drawn_again(copy, finished, contents):
    (copy / "figures" / "after.svg").unlink()
    before, observer = stamps(copy), Notes()
    experiment.resume(copy, observer=observer).run()
    again = {name for name, stamp in stamps(copy).items() if stamp != before.get(name)}
    assert again == {"timings.json", *(f"figures/after.{kind}" for kind in ("png", "svg", "pdf"))}
    assert observer.titles == ["Figure after"]
    assert contents(copy) == contents(finished)


def test_a_figure_whose_process_dies_costs_no_other(copy, finished, contents, monkeypatch):
    call = Child.call

    def die(child, function, arguments, *others, **more):
        if arguments.get("name") == "comparison":
            os.kill(child.pid, signal.SIGKILL)
        return call(child, function, arguments, *others, **more)

    monkeypatch.setattr(figures, "cpu_count", lambda: 2)
    monkeypatch.setattr(Child, "call", die)
    shutil.rmtree(copy / "figures")
    told = rf"^{copy}/figures/comparison: its process .*SIGKILL.*; go on with: jaxtl run --resume {copy}$"
    with pytest.raises(JaxtlError, match=told):
        finish(copy)
    assert not list((copy / "figures").glob("*comparison*"))
    assert len(list((copy / "figures").iterdir())) == 9
    monkeypatch.undo()
    finish(copy)
    assert contents(copy) == contents(finished)


def test_the_processes_that_draw_end_with_the_run(copy, monkeypatch):
    started, begin = [], Child.__init__

    def note(child, *preload):
        begin(child, *preload)
        started.append(child.pid)

    monkeypatch.setattr(figures, "cpu_count", lambda: 2)
    monkeypatch.setattr(Child, "__init__", note)
    shutil.rmtree(copy / "figures")
    finish(copy)
    assert len(started) == 2
    for process in started:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_leftovers_of_a_kill_go_and_other_files_stay(copy):
    leftovers = [copy / ".config-abc123_z.json", copy / "features" / ".before-00000000.npz"]
    others = [
        copy / ".notes-settings.txt",
        copy / "mine" / ".before-00000000.npz",
        copy / "features" / ".keep",
    ]
    (copy / "mine").mkdir()
    for path in leftovers + others:
        path.write_text("x")
    finish(copy)
    assert not any(path.exists() for path in leftovers)
    assert all(path.exists() for path in others)


def test_a_run_killed_before_its_config_was_whole_can_start_again(few, tmp_path):
    (tmp_path / ".config-abcd1234.json").write_text("{")
    with pytest.raises(JaxtlError, match="no run folder"):
        experiment.resume(tmp_path)
    experiment.start(few, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


# What is refused.

OTHER = {
    "dataset": "mnist", "samples": 200, "train_samples": 100, "image_size": 64, "preprocessing": "keras",
    "weights": "other.safetensors", "trainable": "all", "epochs": 5, "batch_size": 64, "learning_rate": 0.1,
    "methods": ("pca",), "perplexity": 5.0, "n_neighbors": 5, "precision": "bf16",
    "deterministic": True, "layers": True, "seed": 12345,
}  # fmt: skip


def test_every_setting_has_another_value_below():
    assert OTHER.keys() == {field.name for field in dataclasses.fields(RunConfig)}


@pytest.mark.parametrize("name", OTHER)
def test_another_setting_is_refused_by_name(finished, name):
    with pytest.raises(JaxtlError) as refusal:
        experiment.resume(finished, {name: OTHER[name]})
    assert f"{name} {getattr(experiment.resume(finished).config, name)}, not {OTHER[name]}" in str(
        refusal.value
    )


def test_the_same_settings_are_welcome(finished, config):
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(RunConfig)}
    assert experiment.resume(finished, given).config == config


def edit(name, value):
    def change(path):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, name: value}))

    return change


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def write(text):
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("name", "damage", "deleted", "words"),
    [
        ("config.json", edit("epochs", 9), (), "was edited"),
        ("config.json", edit("seed", "x"), (), "was edited"),
        ("config.json", edit("digest", None), (), "was edited"),
        ("config.json", halve, (), "not a JSON object"),
        ("config.json", write("[]"), (), "not a JSON object"),
        ("config.json", write("{}"), (), "was edited"),
        ("timings.json", halve, (), "not a JSON object"),
        ("features/before.npz", halve, ["embeddings/before_pca.npz"], "not a readable .npz"),
        ("embeddings/after_pca.npz", halve, ["scores.csv"], "not a readable .npz"),
        ("embeddings/after_pca.npz", halve, ["figures/after.png"], "not a readable .npz"),
        ("history.csv", empty, ["scores.csv"], "empty"),
        ("history.csv", write("epoch,loss\n1,2\n"), ["scores.csv"], "columns"),
        ("scores.csv", empty, (), "empty"),
        ("scores.csv", halve, (), "not a table"),
        ("scores.csv", write("stage,space,metric,value,low,high\na,b,c,x,,\n"), (), "not a table"),
        ("model.safetensors", halve, ["features/after.npz"], "not a whole safetensors"),
        ("checkpoint.npz", write("no"), ["model.safetensors"], "not a readable .npz"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_damaged_file_is_named_in_one_line(copy, name, damage, deleted, words):
    damage(copy / name)
    for other in deleted:
        (copy / other).unlink()
    with pytest.raises(JaxtlError, match=words) as refusal:
        finish(copy)
    assert str(refusal.value).startswith(str(copy / name))
    assert "\n" not in str(refusal.value)


def test_exchanged_weights_are_refused(finished, few, tmp_path):
    weights, folder = tmp_path / "start.safetensors", tmp_path / "run"
    shutil.copy(imagenet_path(), weights)
    experiment.start(dataclasses.replace(few, weights=str(weights)), folder)
    experiment.resume(folder)
    shutil.copy(finished / "model.safetensors", weights)
    with pytest.raises(JaxtlError, match=r"start\.safetensors: not the weights"):
        experiment.resume(folder)
    weights.unlink()
    with pytest.raises(JaxtlError, match=r"start\.safetensors: no such file"):
        experiment.resume(folder)


@pytest.mark.parametrize(
    ("present", "words"),
    [("config.json", "go on with: jaxtl run --resume"), ("thesis.tex", "it is no run folder")],
)
def test_a_folder_with_files_is_not_started_in(few, tmp_path, present, words):
    (tmp_path / present).write_text("mine")
    with pytest.raises(JaxtlError, match=words):
        experiment.start(few, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [present]
    assert (tmp_path / present).read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ("tsne",)}, "perplexity 30"),
        ({"methods": ("tsne",), "perplexity": float("nan")}, "perplexity"),
        ({"methods": ("lle",), "n_neighbors": 60}, "n_neighbors 60"),
        ({"samples": 10}, "10-NN accuracy"),
        ({"trainable": "block_99"}, "no layer 'block_99'"),
        ({"trainable": "500"}, "154 layers"),
        ({"dataset": "mnits"}, "unknown dataset 'mnits'"),
        ({"weights": "nowhere.safetensors"}, "no such file"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(few, tmp_path, change, words):
    with pytest.raises(JaxtlError, match=words):
        experiment.start(dataclasses.replace(few, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_loses_nothing_that_was_done(few, few_run, monkeypatch, contents, tmp_path):
    """The device refuses to keep anything as large as the model: what was written before stays, whole."""
    folder, real = tmp_path / "run", os.fsync

    def fsync(handle):
        if os.fstat(handle).st_size > 5e6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match=r"No space left on device.*/model\.safetensors"):
            experiment.start(few, folder).run()
    done = {"config.json", "timings.json", "history.csv", "features/before.npz", "features/train_before.npz"}
    # And what was made at the same time.
    beside = {
        "checkpoint.npz",
        "environment.json",
        "neighbors/before.npz",
        "embeddings/before_pca.npz",
        *KEPT,
    }
    assert done <= set(stamps(folder)) <= done | beside
    before = stamps(folder)
    finish(folder)
    after = stamps(folder)
    assert all(
        after[name] == before[name]
        for name in before.keys() - {"timings.json", "history.csv", "checkpoint.npz", *KEPT}
    )
    assert contents(folder) == contents(few_run)


# Other settings.


def test_another_seed_changes_what_is_learnt_and_not_what_was_there(few, few_run, tmp_path):
    experiment.start(dataclasses.replace(few, seed=few.seed + 1), tmp_path / "run").run()
    before, after, models = (
        [(folder / name).read_bytes() for folder in (few_run, tmp_path / "run")]
        for name in ("features/before.npz", "features/after.npz", "model.safetensors")
    )
    assert before[0] == before[1]
    assert after[0] != after[1]
    assert models[0] != models[1]


# Compiling the training of the whole network takes most of a minute on busy cores.
@pytest.mark.parametrize("trainable", [pytest.param("all", marks=pytest.mark.slow), "none", "Conv_1"])
def test_any_freezing_boundary(few, tmp_path, trainable):
    """All test images, some methods in an order of one's own, and only the layers asked for change."""
    config = dataclasses.replace(few, trainable=trainable, methods=("lle", "pca"), train_samples=32)
    scores = experiment.start(config, tmp_path / "run").run()
    accuracies = [each for each in scores if each.metric == LEAVE_ONE_OUT]
    assert [each.space for each in accuracies if each.stage == "before"] == ["features", "lle", "pca"]
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


# Maps by cuML and openTSNE, computed in a process of their own. That process is the same one without a GPU.


class Notes(Silent):
    """An observer that keeps what it is told."""

    def __init__(self):
        self.said, self.titles = [], []

    @contextlib.contextmanager
    def step(self, title):
        self.titles.append(title)
        yield lambda fraction: None

    def notify(self, text):
        self.said.append(text)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """PCA's maps are made where a GPU's would be."""
    choice = Choice("sklearn", "asked for", on_gpu=True)
    monkeypatch.setattr(embeddings, "choose", lambda method, backend: choice)


def test_maps_from_a_process_of_their_own_are_the_same(few, few_run, as_on_a_gpu, tmp_path, contents):
    observer = Notes()
    experiment.start(few, tmp_path, observer).run()
    assert contents(tmp_path) == contents(few_run)
    assert "PCA before, scikit-learn" in observer.titles


def test_a_map_that_dies_costs_nothing_else(few, few_run, as_on_a_gpu, monkeypatch, tmp_path, contents):
    monkeypatch.setattr(Reducer, "reduce", dying(Reducer.reduce))
    with pytest.raises(JaxtlError, match=r"SIGKILL.*; go on with: jaxtl run --resume ") as caught:
        experiment.start(few, tmp_path).run()
    assert "\n" not in str(caught.value)
    assert (tmp_path / "features" / "after.npz").is_file()
    monkeypatch.undo()
    experiment.resume(tmp_path, options=EmbeddingOptions(backend="sklearn")).run()
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
        experiment.start(few, tmp_path, options=EmbeddingOptions(time_limit=0.01)).run()


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
        experiment.start(few, tmp_path).run()
    done = set(stamps(tmp_path))
    assert {"model.safetensors", "features/after.npz", "embeddings/after_pca.npz"} <= done
    assert not {"scores.csv", "report.html", "embeddings/before_pca.npz"} & done


@pytest.mark.parametrize("fails", ["before", "after"])
def test_one_of_two_maps_at_a_time_may_die(few, fails, monkeypatch, tmp_path):
    tsne = dataclasses.replace(few, methods=("tsne",), perplexity=5.0)
    reduce = Reducer.reduce

    def die(reducer, features, *arguments, **others):
        if fails in str(features) and reducer.pid:
            os.kill(reducer.pid, signal.SIGKILL)
        return reduce(reducer, features, *arguments, **others)

    monkeypatch.setattr(Reducer, "reduce", die)
    with pytest.raises(JaxtlError, match=r"SIGKILL.*; go on with: jaxtl run --resume "):
        experiment.start(tsne, tmp_path).run()
    monkeypatch.setattr(Reducer, "reduce", reduce)
    experiment.resume(tmp_path).run()
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("points", [embeddings.FFT_FROM, 10])
def test_maps_of_tsne_are_those_of_the_library(few, points, monkeypatch, tmp_path):
    """However many threads its process is told to take."""
    monkeypatch.setattr(embeddings, "FFT_FROM", points)
    monkeypatch.setattr(embeddings, "cpu_count", lambda: 2)
    tsne = dataclasses.replace(few, methods=("tsne",), perplexity=5.0)
    experiment.start(tsne, tmp_path).run()
    for stage in ("before", "after"):
        features = Features.load(tmp_path / "features" / f"{stage}.npz")
        neighbors = Neighbors.load(tmp_path / "neighbors" / f"{stage}.npz")
        made = Embedding.load(tmp_path / "embeddings" / f"{stage}_tsne.npz")
        expected = reduce(
            features, "tsne", "opentsne", known_neighbors=neighbors, perplexity=5.0, seed=few.seed
        )
        np.testing.assert_array_equal(made.coords, expected.coords)
        assert made.params["n_jobs"] == (1 if points == 10 else -1)


def test_neighbours_are_found_once_and_are_the_exact_ones(finished, config):
    for stage in ("before", "after"):
        values = Features.load(finished / "features" / f"{stage}.npz").values
        found = Neighbors.load(finished / "neighbors" / f"{stage}.npz")
        assert found.indices.shape == (250, 30)
        np.testing.assert_array_equal(found.indices, exact_neighbors(values, 30).indices)


def test_training_features_are_of_the_first_training_images(finished, config):
    data = load(config.dataset, "train")
    for stage, weights in (("before", None), ("after", finished / "model.safetensors")):
        kept = Features.load(finished / "features" / f"train_{stage}.npz")
        np.testing.assert_array_equal(kept.labels, data.labels)
        some = extract(load_model(weights), data.take(64), config.images).values
        np.testing.assert_allclose(kept.values[:64], some, atol=1e-4)


def test_a_library_that_is_installed_and_broken_is_spoken_of(few, monkeypatch, tmp_path):
    fault = cuda.Fault("the driver is older than CUDA 12", "update the driver", broken=True)
    monkeypatch.setattr(cuda, "cuml_fault", lambda: fault)
    observer = Notes()
    experiment.start(few, tmp_path, observer).run()
    assert f"PCA by scikit-learn: {fault.what}; {fault.remedy}" in observer.said
    assert Embedding.load(tmp_path / "embeddings" / "before_pca.npz").backend == "sklearn"


def test_what_cuml_cannot_do_is_refused_before_any_work(few, monkeypatch, tmp_path):
    settings = dataclasses.replace(few, dataset="mnist", samples=2000, methods=("tsne",), perplexity=500.0)
    monkeypatch.setattr(cuda, "cuml_fault", lambda: None)
    with pytest.raises(JaxtlError, match="perplexity 500 is too large for cuML's at most 1023 neighbours"):
        experiment.start(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_end_of_every_block_is_looked_at(few, few_run, tmp_path, contents):
    experiment.start(dataclasses.replace(few, layers=True), tmp_path).run()
    made, without = contents(tmp_path), contents(few_run)
    new = {"layers.csv", *(f"figures/layers.{kind}" for kind in ("png", "svg", "pdf"))}
    assert made.keys() - without.keys() == new
    assert {name for name in without if made[name] != without[name]} == {"config.json"}
    rows = load_layers(tmp_path / "layers.csv")
    assert list(dict.fromkeys(row.layer for row in rows)) == list(load_model().config.block_ends)
    before = stamps(tmp_path)
    experiment.resume(tmp_path).redo("layers", "figures", "report")
    again = {name for name, stamp in stamps(tmp_path).items() if stamp != before[name]}
    assert again - {"timings.json"} == {"layers.csv", "report.html"} | {
        name for name in made if name.startswith("figures")
    }
    assert contents(tmp_path) == made


def test_nothing_is_done_again_in_a_run_that_is_not_finished(copy):
    (copy / "history.csv").unlink()
    before = stamps(copy)
    with pytest.raises(
        JaxtlError, match=r"is not finished \(history\.csv is missing\); go on with: jaxtl run"
    ):
        experiment.resume(copy).redo("scores", "figures", "report")
    assert stamps(copy) == before


def test_groups_with_no_links_between_them_are_spoken_of(few, monkeypatch, tmp_path):
    def fall_apart(features, method, *arguments, **params):
        embedding = reduce(features, method, *arguments, **params)
        embedding.diagnostics["warning"] = "the graph has 2 components"
        return embedding

    reduce = embeddings.reduce
    monkeypatch.setattr(embeddings, "reduce", fall_apart)
    monkeypatch.setattr(embeddings, "cpu_count", lambda: 1)  # where this process makes the maps
    observer = Notes()
    experiment.start(few, tmp_path, observer).run()
    assert "PCA after: the graph has 2 components" in observer.said


def test_a_process_for_numbers_that_dies_says_where_and_how_to_go_on(few_run, tmp_path, monkeypatch):
    def die(*_):
        raise Silence("its process was ended by SIGKILL")

    folder = shutil.copytree(few_run, tmp_path / "run")
    (folder / "scores.csv").unlink()
    monkeypatch.setattr(steps, "default_engine", lambda: "jax")
    monkeypatch.setattr(Pool, "call", die)
    with pytest.raises(JaxtlError) as told:
        experiment.resume(folder).run()
    assert str(told.value).startswith(f"{folder}: ")
    assert str(told.value).endswith(f"ended by SIGKILL; go on with: jaxtl run --resume {folder}")
