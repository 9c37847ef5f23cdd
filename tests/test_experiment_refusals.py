"""What a run refuses in one line: other settings, damaged files, what cannot work."""

import dataclasses
import json
import shutil

import pytest

from jaxtl.errors import JaxtlError
from jaxtl.experiment import embeddings, opening, seeds
from jaxtl.models.weights import imagenet_path
from jaxtl.reduction.choice import Choice
from jaxtl.reduction.process import Reducers
from jaxtl.settings import RunConfig
from tests.run_files import finish, older

OTHER = {
    "dataset": "mnist",
    "samples": 200,
    "train_samples": 100,
    "image_size": 64,
    "preprocessing": "keras",
    "weights": "other.safetensors",
    "trainable": "all",
    "epochs": 5,
    "batch_size": 64,
    "learning_rate": 0.1,
    "methods": ("pca",),
    "perplexity": 5.0,
    "n_neighbors": 5,
    "precision": "bf16",
    "engine": "onnxruntime",
    "deterministic": True,
    "layers": True,
    "seed": 12345,
    "align": False,
    "model": "resnet18",
    "batch_norm": "frozen",
    "antialias": "on",
    "orientation": "stored",
    "alpha": "drop",
    "fit": "crop",
    "test_share": 0.5,
    "split_seed": 1,
    "train_split": "training",
    "test_split": "validation",
    "image_column": "picture",
    "label_column": "kind",
    "split_column": "fold",
    "skip_bad": True,
}


def test_every_setting_has_another_value_below():
    assert OTHER.keys() == {field.name for field in dataclasses.fields(RunConfig)}


@pytest.mark.parametrize("name", OTHER)
def test_another_setting_is_refused_by_name(finished, name):
    with pytest.raises(JaxtlError) as refusal:
        opening.resume(finished, {name: OTHER[name]})
    assert f"{name} {getattr(opening.resume(finished).config, name)}, not {OTHER[name]}" in str(refusal.value)


def test_the_same_settings_are_welcome(finished, config):
    recorded = dataclasses.replace(config, preprocessing="unit")
    assert opening.resume(finished, dataclasses.asdict(recorded)).config == recorded


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
        ("embeddings/after_pca.npz", halve, ["figures/after.png"], "not a readable .npz"),
        ("history.csv", empty, ["report.html"], "empty"),
        ("history.csv", write("epoch,loss\n1,2\n"), ["report.html"], "columns"),
        ("scores.csv", empty, (), "empty"),
        ("scores.csv", halve, (), "not a table"),
        ("scores.csv", write("stage,space,metric,value,low,high\na,b,c,x,,\n"), (), "not a table"),
        ("model.safetensors", halve, ["features/after.npz"], "not a whole safetensors"),
        ("checkpoint.npz", write("no"), ["model.safetensors"], "not a readable .npz"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_damaged_file_is_named_in_one_line(copy, name, damage, deleted, words):
    """Of a run without a manifest; what was recorded is made again."""
    damage(older(copy) / name)
    for other in deleted:
        (copy / other).unlink()
    with pytest.raises(JaxtlError, match=words) as refusal:
        finish(copy)
    assert str(refusal.value).startswith(str(copy / name))
    assert "\n" not in str(refusal.value)


def test_exchanged_weights_are_refused(finished, few, tmp_path):
    weights, folder = tmp_path / "start.safetensors", tmp_path / "run"
    shutil.copy(imagenet_path(), weights)
    opening.start(dataclasses.replace(few, weights=str(weights)), folder)
    opening.resume(folder)
    shutil.copy(finished / "model.safetensors", weights)
    with pytest.raises(JaxtlError, match=r"start\.safetensors: not the weights"):
        opening.resume(folder)
    weights.unlink()
    with pytest.raises(JaxtlError, match=r"start\.safetensors: no such file"):
        opening.resume(folder)


@pytest.mark.parametrize(
    ("present", "words"),
    [("config.json", "go on with: jaxtl run --resume"), ("thesis.tex", "it is no run folder")],
)
def test_a_folder_with_files_is_not_started_in(few, tmp_path, present, words):
    (tmp_path / present).write_text("mine")
    with pytest.raises(JaxtlError, match=words):
        opening.start(few, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [present]
    assert (tmp_path / present).read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ("tsne",), "perplexity": float("nan")}, "perplexity"),
        ({"methods": ("tsne",), "perplexity": float("inf")}, "perplexity"),
        ({"methods": ("lle",), "n_neighbors": 60}, "n_neighbors 60"),
        ({"samples": 10}, "10 images, and a run looks at no fewer than 13; .* --test-share"),
        ({"trainable": "block_99"}, "no layer 'block_99'"),
        ({"trainable": "500"}, "154 layers"),
        ({"dataset": "mnits"}, "unknown dataset 'mnits'"),
        ({"weights": "nowhere.safetensors"}, "no such file"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(few, tmp_path, change, words):
    with pytest.raises(JaxtlError, match=words):
        opening.start(dataclasses.replace(few, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("begin", [opening.start, lambda *given: seeds.start(given[0], 2, *given[1:])])
@pytest.mark.parametrize("fault", ["a wrong setting", "a full disk"])
def test_a_process_that_was_begun_early_ends_with_what_fails(begin, fault, few_digits, monkeypatch, tmp_path):
    """As cuML's on a GPU is, while settings are checked."""
    begun = []
    take = Reducers.take

    def taken(*given):
        begun.append(take(*given))
        return begun[-1]

    by_cuml = Choice("cuml", "for a test", on_gpu=True)
    monkeypatch.setattr(embeddings, "choose", lambda *given: by_cuml)
    monkeypatch.setitem(embeddings._PRELOAD, "cuml", ("json",))
    monkeypatch.setattr(Reducers, "take", taken)
    config = RunConfig(dataset=few_digits, samples=40, methods=("pca",))
    if fault == "a full disk":
        monkeypatch.setattr(opening.sources, "record_images", raising(OSError(28, "no space")))
    else:
        config = dataclasses.replace(config, trainable="999")
    with pytest.raises((JaxtlError, OSError)):
        begin(config, tmp_path / "run")
    assert begun
    assert not any(process.pid for process in begun)


def raising(error):
    def work(*given):
        raise error

    return work
