"""Settings given in Python: each by its type and its range, or one line that names it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import jaxtl
from jaxtl import Dataset, FinetuneConfig, Images, JaxtlError, RunConfig
from jaxtl.experiment.embeddings import EmbeddingOptions
from jaxtl.ranges import RANGES, Range
from jaxtl.runs.figures import Print
from jaxtl.scaling.settings import Limits, Settings
from jaxtl.settings import ComparisonConfig, Selection

KINDS = {
    RunConfig: {},
    FinetuneConfig: {},
    Images: {},
    Selection: {},
    Settings: {},
    EmbeddingOptions: {},
    ComparisonConfig: {"before": "a", "after": "b", "points": 100},
}
NAN, INF = float("nan"), float("inf")
# What no setting may be.
ODD = (NAN, INF, -INF, -1, 10**20, 10**400, True, np.True_, np.nan, np.float32("inf"), 1j, [], {}, object())
OF_NUMBERS = ("5", b"5", "nan", "", " ", [5], np.array([5]), (5,))
FIELDS = [(kind, part) for kind in KINDS for part in dataclasses.fields(kind)]


def with_(kind, name, value):
    return kind(**{**KINDS[kind], name: value})


def wrong(part):
    """Values that a field must not take."""
    kind = str(part.type)
    if part.name in RANGES:
        return [value for value in (*ODD, *OF_NUMBERS) if not _fits(RANGES[part.name], value)]
    if kind == "bool":
        return [
            value
            for value in (*ODD, *OF_NUMBERS, 0, 1, "True")
            if value is not True and value is not np.True_
        ]
    blank = ("", " ") if part.default != "" else ()
    return [value for value in (*ODD, *blank, 2.5) if part.name != "trainable" or value != -1]


def _fits(allowed, value):
    # A learning rate may be that large.
    return type(value) is int and value == 10**20 and value in allowed


@pytest.mark.parametrize(("kind", "part"), FIELDS, ids=lambda value: getattr(value, "__name__", None))
def test_what_a_setting_cannot_be_is_refused_by_its_name(kind, part):
    if part.name == "classes":
        return
    for value in wrong(part):
        with pytest.raises(JaxtlError, match=part.name) as refusal:
            with_(kind, part.name, value)
        assert len(str(refusal.value).splitlines()) == 1
        assert len(str(refusal.value)) < 300


def test_numbers_of_numpy_are_kept_as_pythons():
    config = RunConfig(
        samples=np.int64(100),
        epochs=np.uint8(2),
        learning_rate=np.float32(0.5),
        layers=np.False_,
        methods=["pca", "lle", "pca"],
        weights=Path("a") / "b.safetensors",
        trainable=10,
    )
    assert config == RunConfig(
        samples=100,
        epochs=2,
        learning_rate=0.5,
        layers=False,
        methods=("pca", "lle"),
        weights="a/b.safetensors",
        trainable="10",
    )
    assert json.loads(json.dumps(dataclasses.asdict(config)))["layers"] is False


def test_the_ends_of_ranges_are_taken_unless_they_are_out():
    for allowed in RANGES.values():
        assert (allowed.low in allowed, allowed.high in allowed) == (not allowed.above, not allowed.below)
    assert 0.5 in Range(0, 1)
    assert 1.0 not in Range(0, 1, whole=True)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda data: jaxtl.load("mnist", samples=NAN), "samples"),
        (lambda data: jaxtl.load("mnist", samples=10**20), "samples"),
        (lambda data: jaxtl.load("mnist", image_size=-1), "image_size"),
        (lambda data: jaxtl.load("mnist", image_size=10**9), "image_size"),
        (lambda data: jaxtl.load("infinite:" + "9" * 5000), "infinite:"),
        (lambda data: jaxtl.load(""), "unknown dataset ''"),
        (lambda data: jaxtl.load("~nobody-of-that-name/x"), "unknown dataset '~nobody"),
        (lambda data: jaxtl.load_model(""), "no such file|not a whole safetensors"),
        (lambda data: jaxtl.run(RunConfig(), out=""), "out: is empty"),
        (lambda data: jaxtl.run(RunConfig(), time_limit=NAN), "time_limit"),
        (lambda data: jaxtl.run(RunConfig(), backend=""), "backend: is empty"),
        (lambda data: jaxtl.compare(data, data, out=" "), "out: is empty"),
        (lambda data: jaxtl.compare(data, data, perplexity=INF), "perplexity"),
        (lambda data: jaxtl.compare(data, data, n_neighbors=True), "n_neighbors"),
        (lambda data: jaxtl.compare(data, data, methods="pca"), "methods"),
        (lambda data: jaxtl.reduce(data, "lle", n_neighbors=5.5), "n_neighbors"),
        (lambda data: jaxtl.reduce(data, "tsne", perplexity=5, n_iter=10**20), "at most 2147483647"),
        (lambda data: jaxtl.reduce(data, "tsne", perplexity=10**400), "perplexity"),
        (lambda data: jaxtl.reduce(data, "pca", backend=""), "no backend ''"),
        (lambda data: jaxtl.reduce(data, "pca", landmarks=NAN), "landmarks"),
        (lambda data: Print(dpi=NAN), "dpi"),
        (lambda data: Print(width=NAN), "width"),
        (lambda data: Limits(NAN, 1), "limits"),
        (lambda data: Limits(1, INF), "limits"),
    ],
)
def test_public_functions_refuse_it_too(call, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    with pytest.raises(JaxtlError, match=words) as refusal:
        call(data)
    assert len(str(refusal.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, -3, NAN, True, "8", 10**20])
def test_no_batch_is_of_such_a_size(pretrained, size):
    images = Dataset.from_arrays(np.zeros((2, 32, 32), np.uint8), [0, 1])
    with pytest.raises(JaxtlError, match="batch_size: must be a whole number from 1 to"):
        jaxtl.extract(pretrained, images, Images(32), batch_size=size)
