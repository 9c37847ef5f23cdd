"""`jaxtl finetune` goes on where it was stopped, and only that training does."""

import shutil

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.network.checkpoint import Checkpoint, Unfinished, path_beside
from tests.command_lines import SMALL, words

SETTINGS = {"epochs": 3, "batch_size": 32, "learning_rate": 1e-3, "preprocessing": None}
ROW = {"epoch": 1, "loss": 0.5, "accuracy": 0.5, "test_loss": 0.5, "test_accuracy": 0.5}


@pytest.fixture
def kept(tmp_path):
    """A training of SETTINGS that was stopped after its first epoch."""
    unfinished = Unfinished(path_beside(tmp_path / "m.safetensors"), SETTINGS)
    assert unfinished.checkpoint() is None
    unfinished.keep(Checkpoint([np.arange(3.0)], [ROW]))
    return unfinished


def test_the_same_training_goes_on_where_it_was(kept, tmp_path):
    checkpoint = Unfinished(tmp_path / "m.checkpoint.npz", dict(SETTINGS)).checkpoint()
    np.testing.assert_array_equal(checkpoint.leaves[0], np.arange(3.0))
    assert checkpoint.history == [ROW]
    # What a killed process left half written.
    (tmp_path / ".m.checkpoint-0123abcd.npz").write_text("half")
    kept.keep(checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["m.checkpoint.npz"]
    kept.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), [("epochs", 4), ("preprocessing", "keras"), ("new", 1)])
def test_another_training_is_refused(kept, name, value):
    was = repr(SETTINGS.get(name))
    line = f"{kept.path}: its training was begun with {name} {was}, not {value!r}; delete it, or give"
    with pytest.raises(JaxtlError, match=line):
        Unfinished(kept.path, {**SETTINGS, name: value}).checkpoint()


def test_images_that_were_edited_meanwhile_are_refused(tmp_path):
    images = {"train": "one", "test": "two"}
    path = path_beside(tmp_path / "m.safetensors")
    Unfinished(path, SETTINGS, lambda: images).keep(Checkpoint([np.arange(3.0)], [ROW]))
    assert Unfinished(path, SETTINGS, lambda: images).checkpoint()
    for split in images:
        others = {**images, split: "other"}
        line = (
            f"{path}: the {split} images are others than when its training was begun; restore them, delete it"
        )
        with pytest.raises(JaxtlError, match=line):
            Unfinished(path, SETTINGS, lambda others=others: others).checkpoint()


@pytest.mark.parametrize("contents", [b"", b"my notes", None])
def test_what_is_no_checkpoint_is_refused_and_left(kept, contents):
    if contents is None:  # one of a run, which another file says all about
        Checkpoint([np.arange(3.0)], [ROW]).save(kept.path)
    else:
        kept.path.write_bytes(contents)
    before = kept.path.read_bytes()
    with pytest.raises(JaxtlError, match=r"m\.checkpoint\.npz: .*; delete it, or give another --out$"):
        kept.checkpoint()
    assert kept.path.read_bytes() == before


@pytest.mark.slow
def test_a_stopped_command_goes_on_to_the_same_bytes(jaxtl, few_digits, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "m.safetensors"
    digits = shutil.copytree(few_digits.removeprefix("idx:"), tmp_path / "digits")
    command = ["finetune", "--dataset", f"idx:{digits}", *SMALL]
    command += words("--trainable none --train-samples 64")
    assert jaxtl(*command, "--epochs", 2, "--out", whole)[0] == 0

    def stop(self, checkpoint):
        keep(self, checkpoint)
        raise KeyboardInterrupt

    keep = Unfinished.keep
    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "keep", stop)
        code, _, err = jaxtl(*command, "--epochs", 2, "--out", stopped)
    assert code == 130
    assert err.endswith("jaxtl: interrupted; the same command goes on after the last whole epoch\n")
    code, _, err = jaxtl(*command, "--epochs", 3, "--out", stopped)
    assert (code, err.splitlines()[-1].partition(": its ")[2]) == (
        2,
        "training was begun with epochs 2, not 3; delete it, or give another --out",
    )
    # One pixel of an image that nobody had looked at by itself.
    pixels = digits / "train-images-idx3-ubyte"
    kept = pixels.read_bytes()
    pixels.write_bytes(kept[: 16 + 33 * 784] + b"\xff" + kept[16 + 33 * 784 + 1 :])
    code, _, err = jaxtl(*command, "--epochs", 2, "--out", stopped)
    assert (code, "the train images are others than when its training was begun" in err) == (2, True)
    pixels.write_bytes(kept)
    assert {path.name for path in tmp_path.iterdir()} == {"digits", whole.name, path_beside(stopped).name}
    code, out, err = jaxtl(*command, "--epochs", 2, "--out", stopped)
    assert code == 0, err
    assert f"Goes on after epoch 1, from {path_beside(stopped)}" in err
    assert [line.split(":")[0] for line in out.splitlines()] == ["epoch 1", "epoch 2"]
    assert stopped.read_bytes() == whole.read_bytes()
    assert not path_beside(stopped).exists()
