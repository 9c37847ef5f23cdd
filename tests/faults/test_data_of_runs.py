"""What a run read is part of it: a set that changed is refused, one that is gone is not needed again."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.experiment import opening
from jaxtl.records.dataset import Dataset
from jaxtl.runs.data import load_run
from jaxtl.runs.dataset import contents, soon_told
from tests.run_files import stamps


def arrays(**changes):
    rng = np.random.default_rng(0)
    given = {
        "images": rng.integers(0, 256, (40, 4, 4, 1), np.uint8),
        "labels": np.arange(40, dtype=np.int32) % 3,
        "class_names": ("a", "b", "c"),
        "split": "test",
        "name": "given",
        "ids": np.array([f"image {row}" for row in range(40)]),
    }
    return Dataset(**{**given, **changes})


def test_every_pixel_label_name_and_their_order_are_told_apart():
    whole = arrays()
    pixels, order = whole.images.copy(), np.arange(40)
    pixels[17, 3, 2, 0] ^= 1
    order[[4, 7]] = order[[7, 4]]  # of one class
    others = [
        arrays(images=pixels),
        arrays(labels=(whole.labels + 1) % 3),
        arrays(class_names=("a", "b", "d")),
        arrays(ids=np.array([f"picture {row}" for row in range(40)])),
        arrays(images=whole.images[order]),
        arrays(images=whole.images.reshape(40, 2, 8, 1)),
        whole.take(39),
    ]
    known = [contents(dataset) for dataset in (whole, *others)]
    assert len(set(known)) == len(known)
    assert contents(arrays()) == known[0]


@pytest.fixture
def photos(tmp_path):
    """The name of a folder of 24 small pictures, by a path from the working directory."""
    rng = np.random.default_rng(0)
    for row in range(24):
        path = tmp_path / "photos" / "ab"[row % 2] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return "photos"


def test_of_images_in_files_every_byte_counts_and_none_is_decoded(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read():
        return load(photos, "train", image_size=8)

    before = read()
    monkeypatch.setattr("jaxtl.data.files.read", None)
    known = contents(before)
    moved = shutil.copytree("photos", "elsewhere")
    assert contents(load(moved, "train", image_size=8)) == known
    path = Path("photos", before.ids[3])
    path.write_bytes(path.read_bytes() + b"\0")
    assert contents(read()) != known


def test_what_is_soon_told_of_images_tells_edited_ones(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = arrays()
    pixels = whole.images.copy()
    pixels[17, 3, 2, 0] ^= 1
    assert soon_told(whole) == soon_told(arrays())
    assert soon_told(arrays(images=pixels)) != soon_told(whole)
    before = load(photos, "train", image_size=8)
    known = soon_told(before)
    path = Path("photos", before.ids[3])
    path.write_bytes(path.read_bytes() + b"\0")
    assert soon_told(load(photos, "train", image_size=8)) != known


def edit_pixel(folder):
    path = folder / "train-images-idx3-ubyte"
    data = bytearray(path.read_bytes())
    data[16 + 33 * 784 + 400] ^= 1
    path.write_bytes(data)


def swap_labels(folder):
    path = folder / "t10k-labels-idx1-ubyte"
    data = path.read_bytes()
    path.write_bytes(data[:8] + data[:7:-1])


def name_classes(folder):
    (folder / "classes.txt").write_text("\n".join("abcdefghij"))


@pytest.fixture
def begun(few, few_digits, tmp_path, monkeypatch):
    """The folder of a run that was begun from a relative path, and its set."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(few_digits.removeprefix("idx:"), "digits")
    opening.start(dataclasses.replace(few, dataset="idx:digits"), Path("run"))
    return tmp_path / "run", tmp_path / "digits"


def test_a_set_that_changed_is_refused_before_anything_is_written(begun, monkeypatch):
    folder, digits = begun
    kept, before = shutil.copytree(digits, digits.with_name("kept")), stamps(folder)
    # The working directory is another one, and paths are absolute.
    monkeypatch.chdir(os.sep)
    for change in (edit_pixel, swap_labels, name_classes):
        change(digits)
        with pytest.raises(JaxtlError, match="holds other images or names when the run began; restore them"):
            opening.resume(folder)
        assert stamps(folder) == before
        shutil.rmtree(digits)
        shutil.copytree(kept, digits)
    # The record of the images may be lost too.
    (folder / "dataset.json").unlink()
    edit_pixel(digits)
    with pytest.raises(JaxtlError, match="holds other images or names"):
        opening.resume(folder)
    shutil.rmtree(digits)
    shutil.copytree(kept, digits)
    opening.resume(folder, {"dataset": f"idx:{digits}"})
    assert (folder / "dataset.json").exists()


def test_a_finished_run_needs_no_data(copied_few, few_digits, jaxtl, tmp_path, monkeypatch):
    from jaxtl.experiment import shared

    def gone(*args, **how):
        raise JaxtlError(f"dataset {few_digits}: no such folder")

    monkeypatch.setattr(shared, "load", gone)
    monkeypatch.setattr("jaxtl.runs.data.load", gone)
    monkeypatch.setattr(shared, "load_start", gone)
    monkeypatch.chdir(tmp_path)
    for command in (
        ["run", "--resume", "run"],
        ["report", "run"],
        ["check", "run"],
        ["export", "run", "--to", "csv", "--out", "table.csv"],
    ):
        code, _, said = jaxtl(*command)
        assert code == 0, said
    assert "no such folder" in load_run("run").images_fault
    (copied_few / "features/before.npz").unlink()
    code, _, said = jaxtl("run", "--resume", "run")
    assert (code, "no such folder" in said) == (2, True)


def test_pictures_of_another_set_are_not_shown(few_run, few_digits, monkeypatch):
    def others(name, split, **how):
        dataset = load(name, split, **how)
        pixels = dataset.images.copy()
        pixels[5, 14, 14] ^= 1
        return dataclasses.replace(dataset, images=pixels)

    monkeypatch.setattr("jaxtl.runs.data.load", others)
    run = load_run(few_run)
    assert run.images is None
    assert "holds other images now" in run.images_fault
