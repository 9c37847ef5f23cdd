"""The page of run folders as they are: whole, old, damaged, of other images."""

import csv
import dataclasses

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.records.arrays import Embedding, Features
from jaxtl.records.files import write_json, write_npz
from jaxtl.records.tables import save_history, save_scores
from jaxtl.report import RunData, build_page, load_run
from tests.browser.synthetic import synthetic_run
from tests.reading_pages import Page, headings


@pytest.fixture(scope="module")
def run():
    return synthetic_run(300)


def write_table(path, columns, rows):
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def folder(run, tmp_path):
    """A run folder as `jaxtl run` leaves it, with the files that other steps add."""
    folder = tmp_path / "a-run"
    write_json(folder / "config.json", run.config)
    write_json(folder / "environment.json", run.environment)
    write_json(folder / "timings.json", run.timings)
    write_json(folder / "claims.json", {"claims": run.claims})
    save_scores(folder / "scores.csv", run.scores)
    save_history(folder / "history.csv", run.history)
    for (stage, method), embedding in run.embeddings.items():
        embedding.save(folder / "embeddings" / f"{stage}_{method}.npz")
    values = np.zeros((len(run), 8), np.float32)
    Features(values, run.labels, run.index).save(folder / "features" / "before.npz")
    write_npz(folder / "measures.npz", run.measures, {})
    write_table(
        folder / "classes.csv",
        ("stage", "space", "metric", "class", "value", "low", "high"),
        run.class_scores,
    )
    write_table(folder / "layers.csv", ("stage", "layer", "metric", "value", "low", "high"), run.layers)
    return folder


def test_a_folder_is_read_whole(run, folder):
    read = load_run(folder)
    assert read.name == "a-run"
    assert read.class_names == run.class_names
    assert read.features["dimensions"] == 8
    assert np.array_equal(read.images, run.images)
    assert read.claims == run.claims
    assert read.layers == run.layers
    assert [row["value"] for row in read.class_scores] == [0.5] * 20
    assert set(read.measures) == set(run.measures)
    assert len(Page(build_page([read])).all("section")) == 13


def test_a_folder_of_an_earlier_version_is_enough(folder):
    for name in (
        "claims.json",
        "classes.csv",
        "layers.csv",
        "measures.npz",
        "timings.json",
        "environment.json",
    ):
        (folder / name).unlink()
    read = load_run(folder)
    assert (read.claims, read.class_scores, read.layers, read.measures) == ([], [], [], {})
    assert "Class by class" not in headings(Page(build_page([read])))


def test_a_run_with_one_method_has_its_maps(folder):
    for path in (folder / "embeddings").glob("*.npz"):
        if "pca" not in path.name:
            path.unlink()
    assert load_run(folder).methods == ["pca"]


def test_images_that_are_gone_are_said_to_be(folder, run):
    write_json(folder / "config.json", {**run.config, "dataset": f"folder:{folder}/gone"})
    read = load_run(folder)
    assert read.images is None
    assert "gone" in read.images_fault
    build_page([read])


def test_images_of_another_order_are_not_shown(folder, run):
    for path in (folder / "embeddings").glob("*.npz"):
        embedding = Embedding.load(path)
        dataclasses.replace(embedding, labels=embedding.labels[::-1].copy()).save(path)
    read = load_run(folder)
    assert read.images is None
    assert "other images" in read.images_fault


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("claims.json", '{"claims": [{"id": "a"}]}', "not a list of claims"),
        ("classes.csv", "stage,space\nbefore,pca\n", "not a table with columns stage, space, metric, class"),
        (
            "layers.csv",
            "stage,layer,metric,value\nbefore,a,b,much\n",
            "not a table with columns stage, layer",
        ),
        ("measures.npz", "no archive", "not a readable .npz"),
    ],
)
def test_damaged_files_are_named(folder, name, text, fault):
    (folder / name).write_text(text)
    with pytest.raises(JaxtlError, match=fault) as caught:
        load_run(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_run_folder(tmp_path):
    with pytest.raises(JaxtlError, match=r"no run folder \(it has no config.json\)"):
        load_run(tmp_path)


def test_a_run_without_maps_cannot_be_shown(folder):
    for path in (folder / "embeddings").glob("*.npz"):
        path.unlink()
    with pytest.raises(JaxtlError, match="holds no maps; go on with: jaxtl run"):
        load_run(folder)


def test_measures_of_other_images_are_refused(run):
    with pytest.raises(JaxtlError, match=r"array knn_before has 7 rows for 300 images"):
        dataclasses.replace(run, measures={"knn_before": np.zeros(7, np.int32)})


def test_maps_of_other_images_are_refused(run):
    other = run.embeddings["after", "pca"]
    moved = dataclasses.replace(other, index=other.index + 1)
    with pytest.raises(JaxtlError, match="map after_pca is of other images"):
        RunData(**{**vars(run), "embeddings": {**run.embeddings, ("after", "pca"): moved}})
