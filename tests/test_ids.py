"""What an image is called goes with it into every file of a run; and images that are given in Python."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import jaxtl
from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.experiment.checks import fitted, notes
from jaxtl.experiment.shared import Shared
from jaxtl.progress import Silent
from jaxtl.records import store
from jaxtl.records.arrays import Embedding, Features
from jaxtl.records.dataset import Dataset
from jaxtl.report import build_page
from jaxtl.runs.data import load_run
from jaxtl.runs.export import export
from jaxtl.settings import RunConfig

NAMES = ("naïve", "猫", "[red] & <b>")


def write_photos(root, count=30):
    digits = load("mnist", "test")
    for k in range(count * len(NAMES)):
        path = root / NAMES[k % len(NAMES)] / f"photo {k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[k, ..., 0]).save(path)
    return root


@pytest.fixture(scope="module")
def photos(once):
    return once("photos", write_photos)


@pytest.fixture(scope="module")
def config():
    return RunConfig(
        image_size=32,
        trainable="2",
        epochs=1,
        methods=("pca",),
        layers=False,
        test_share=0.4,
    )


@pytest.fixture(scope="module")
def run(photos, config, once, without_figures):
    """The folder of a run of a bare path, with more samples and perplexity than the images allow."""

    def make(folder):
        with without_figures():
            told = Notes()
            jaxtl.run(config, str(photos), out=folder, observer=told)
            (folder / "told.json").write_text(json.dumps(told.lines))

    return once("photo_run", make)


class Notes(Silent):
    def __init__(self):
        self.lines = []

    def notify(self, text):
        self.lines.append(text)


@pytest.mark.slow
def test_every_file_of_a_run_knows_its_images(run, photos):
    ids = load(str(photos), test_share=0.4).ids.tolist()
    assert len(set(ids)) == 36
    for stage in ("before", "after"):
        assert Features.load(run / f"features/{stage}.npz").ids.tolist() == ids
        assert Embedding.load(run / f"embeddings/{stage}_pca.npz").ids.tolist() == ids
    assert Features.load(run / "features/train_before.npz").ids[0].endswith(".png")


def test_exports_name_images(run, tmp_path):
    ids = Embedding.load(run / "embeddings/after_pca.npz").ids.tolist()
    export(run, "csv", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == ids
    assert [row["class"] for row in rows] == [name.partition("/")[0] for name in ids]
    export(run, "tensorboard", tmp_path / "projector")
    header, first = (tmp_path / "projector/metadata.tsv").read_text(encoding="utf-8").splitlines()[:2]
    assert first.split("\t")[header.split("\t").index("id")] == ids[0]
    parquet = pytest.importorskip("pyarrow.parquet")
    export(run, "parquet", tmp_path / "t.parquet")
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table["id"].to_pylist() == ids
    assert [image["path"] for image in table["image"].to_pylist()] == ids


def test_the_page_holds_names_and_pictures(run):
    data = load_run(run)
    page = build_page([data])
    record = json.loads(page.partition('id="data">')[2].partition("</script>")[0])["runs"][0]
    assert record["ids"] == data.ids.tolist()
    assert record["classes"] == list(data.class_names)
    assert record["images"] is not None
    assert "<b>/photo" not in page


def test_a_run_says_what_its_images_were_read_as(run):
    record = json.loads((run / "dataset.json").read_text(encoding="utf-8"))
    assert record["test"]["images"] == 36
    assert {"rule": "a share of each class", "test_share": 0.4, "split_seed": 0}.items() <= record[
        "test"
    ].items()
    assert record["train"]["left_out"] == []
    told = json.loads((run / "told.json").read_text())
    assert any("40% of each class are set aside" in line for line in told)
    assert any("36 test images, all that there are, instead of 2,000" in line for line in told)


def test_the_same_call_goes_on_and_another_is_refused(run, photos, config):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert jaxtl.run(config, str(photos), out=run).path == run
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != "timings.json"} == {
        path: time for path, time in before.items() if path.name != "timings.json"
    }
    with pytest.raises(JaxtlError, match=r"was made with test_share 0\.4, not 0\.5"):
        jaxtl.run(replace(config, test_share=0.5), str(photos), out=run)


def test_the_perplexity_is_lowered_to_what_the_images_allow(config, photos):
    several = replace(config, methods=("pca", "tsne"), dataset=str(photos))
    assert fitted(several, 36).perplexity == 11.6
    assert fitted(several, 2000) == several
    assert fitted(config, 36) == config
    assert "perplexity 11.6 instead of 30: 36 images allow no more" in notes(several, Shared(several))


def given(photos, more=0):
    """The images of `photos` as an array, with numbers for classes."""
    parts = [load(str(photos), split, test_share=0.4, image_size=32) for split in ("train", "test")]
    images, labels = (
        np.concatenate(arrays) for arrays in zip(*((p.images, p.labels) for p in parts), strict=True)
    )
    ids = [f"patient {k}" for k in range(len(images))]
    return Dataset.from_arrays(images, labels + 200 + more, name="mine", ids=ids)


@pytest.mark.slow
def test_images_given_in_python_are_kept_for_the_page(photos, config, without_figures, tmp_path):
    with without_figures():
        data = jaxtl.run(config, given(photos), out=tmp_path / "r")
    assert data.class_names == tuple(str(k) for k in range(200, 203))
    assert data.images.shape == (len(data), 32, 32, 1)
    assert data.ids[0].startswith("patient")
    assert json.loads((tmp_path / "r/config.json").read_text())["dataset"] == "given:mine"
    (tmp_path / "r/features/after.npz").unlink()
    with pytest.raises(JaxtlError, match=r"given:mine: was given in Python.*jaxtl\.run\(config, dataset"):
        resume(tmp_path / "r")
    with pytest.raises(JaxtlError, match="holds other images or names"):
        jaxtl.run(config, given(photos, 1), out=tmp_path / "r")
    with without_figures():
        again = jaxtl.run(config, given(photos), out=tmp_path / "r")
    np.testing.assert_array_equal(
        again.embeddings["after", "pca"].coords, data.embeddings["after", "pca"].coords
    )


def resume(folder):
    from jaxtl.experiment import opening

    return opening.resume(folder).run()


def test_training_and_test_images_may_be_given_apart():
    from jaxtl.experiment.run import paired

    images = np.zeros((3, 4, 4), np.uint8)
    train = Dataset.from_arrays(images, ["a", "b", "c"])
    test = Dataset.from_arrays(images[:2], ["c", "a"])
    both = paired((train, test), RunConfig().selection)
    assert [side.split for side in both] == ["train", "test"]
    assert both[1].class_names == ("a", "b", "c")
    assert both[1].labels.tolist() == [2, 0]
    with pytest.raises(JaxtlError, match="have classes that no training image has: c"):
        paired((Dataset.from_arrays(images, ["a", "b", "b"]), test), RunConfig().selection)


def test_a_store_keeps_names(tmp_path):
    values, labels = np.ones((3, 2), np.float32), np.zeros(3, np.int32)
    index, ids = np.arange(3, dtype=np.int32), np.array(["a", "b", "é"])
    store.write(tmp_path / "f.npy", [values], labels, index, {}, 2, ids)
    assert store.load(tmp_path / "f.npy", 2).ids.tolist() == ["a", "b"]
    store.write(tmp_path / "g.npy", [values], labels, index, {}, 2)
    assert store.load(tmp_path / "g.npy").ids is None
