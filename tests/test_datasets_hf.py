"""Sets that Hugging Face's library has saved: by that library itself, where it is installed."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from jaxtl.data import load
from jaxtl.errors import JaxtlError

N = 10


def encoded(value):
    stream = io.BytesIO()
    Image.new("RGB", (5, 4), (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def part():
    """A function that makes a set of n images, of which the k-th has k in its red channel."""
    datasets = pytest.importorskip("datasets")

    def make(n=N, paths=True, names=("cat", "dog"), labels=None):
        features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=list(names)))
        images = [{"bytes": encoded(k), "path": f"{k}.png" if paths else None} for k in range(n)]
        labels = [k % 2 for k in range(n)] if labels is None else labels
        return datasets.Dataset.from_dict({"image": images, "label": labels}, features)

    return make


@pytest.mark.parametrize(("paths", "called"), [(True, "{}.png"), (False, "row {}")])
def test_a_set_without_splits_is_divided(part, tmp_path, paths, called):
    part(paths=paths).save_to_disk(tmp_path / "set")
    train, test = load(str(tmp_path / "set"), "train"), load(f"hf:{tmp_path / 'set'}", "test")
    assert (len(train), len(test), test.class_names) == (8, 2, ("cat", "dog"))
    reds = np.asarray(test.images)[:, 0, 0, 0].tolist()
    assert test.labels.tolist() == [red % 2 for red in reds]
    assert test.ids.tolist() == [called.format(red) for red in reds]


def test_splits_are_known_by_their_names(part, tmp_path):
    import datasets

    datasets.DatasetDict(train=part(), validation=part(4)).save_to_disk(tmp_path / "set")
    train, test = load(str(tmp_path / "set"), "train"), load(str(tmp_path / "set"), "test")
    assert (len(train), len(test)) == (10, 4)
    assert test.ids.tolist()[0] == "validation/0.png"


def test_what_cannot_serve_is_one_line(part, tmp_path):
    import datasets

    part(labels=[0, -1] * 5).save_to_disk(tmp_path / "unlabelled")
    parts = {"train": part(), "test": part(names=("dog", "cat"))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "renamed")
    datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).save_to_disk(tmp_path / "texts")
    none = [None, "a"] * 5
    named = part().remove_columns("label").add_column("label", none)
    named.save_to_disk(tmp_path / "nameless")
    part().save_to_disk(tmp_path / "damaged")
    (tmp_path / "damaged" / "state.json").write_text("{")
    for name, words in (
        ("unlabelled", "images without a class"),
        ("nameless", "images without a class"),
        ("renamed", "splits declare different classes"),
        ("texts", "no column is called path, image"),
        ("damaged", r"not a set that Dataset\.save_to_disk made"),
        ("absent", "no such folder"),
    ):
        with pytest.raises(JaxtlError, match=words) as refusal:
            load(f"hf:{tmp_path / name}")
        assert "\n" not in str(refusal.value), name


def test_without_the_library_the_line_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(JaxtlError, match=r'read by Hugging Face\'s library: run pip install "\.\[hf\]"'):
        load(f"hf:{tmp_path}")
