"""What is refused of files and folders that are readable, and wrong in what they say."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

import jaxtl
from jaxtl.data.feature_files import read_features
from jaxtl.errors import JaxtlError
from jaxtl.scaling import plan, reference, trials
from jaxtl.scaling.settings import Limits, Settings
from jaxtl.scaling.trials import Trial
from tests.faults.mutations import archived
from tests.faults.strangers import encoded
from tests.faults.test_hostile_files import GOOD


def test_archives_that_numpy_would_not_write(tmp_path):
    (tmp_path / "f.npz").write_bytes(archived([*GOOD], zipfile.ZIP_BZIP2))
    with pytest.raises(JaxtlError, match="packed in a way that NumPy does not use"):
        jaxtl.Features.load(tmp_path / "f.npz")
    (tmp_path / "f.npy").write_bytes(archived([*GOOD]))
    with pytest.raises(JaxtlError, match=r"an .npz archive; name it \.npz"):
        read_features(tmp_path / "f.npy")


def test_vectors_of_different_lengths_and_tables_of_different_columns(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"id": ["a", "b"], "v": [[1.0, 2.0], [1.0]]}), tmp_path / "f.parquet")
    with pytest.raises(JaxtlError, match="rows of column v differ in length"):
        read_features(tmp_path / "f.parquet")
    image = {"bytes": encoded("PNG", np.zeros((4, 4, 3), np.uint8)), "path": "x.png"}
    (tmp_path / "t").mkdir()
    for part, label in (("train-0", 1), ("train-1", "one")):
        parquet.write_table(
            pa.table({"image": [image], "label": [label]}), tmp_path / "t" / f"{part}.parquet"
        )
    with pytest.raises(JaxtlError, match="its files have different columns"):
        jaxtl.load(f"parquet:{tmp_path / 't'}", "train")


def test_classes_of_one_image_cannot_be_divided(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(encoded("PNG", np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(JaxtlError, match="every class has one image, so none can be set aside for testing"):
        jaxtl.load(f"folder:{tmp_path}", "train", image_size=4)


def test_measures_and_maps_that_a_run_does_not_have(copied_few, jaxtl):
    # Without a manifest, as runs of before are.
    (copied_few / "manifest.json").unlink()
    with np.load(copied_few / "measures.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = next(name for name in arrays if name.startswith("kept"))
    np.savez(copied_few / "measures.npz", **{**arrays, name: arrays[name][:-1]})
    for command in (
        ["report", copied_few],
        ["export", copied_few, "--to", "csv", "--out", copied_few / "../t.csv"],
    ):
        code, _, said = jaxtl(*command)
        assert code == 2
        assert "array kept has 59 rows for 60 images; delete it and go on with" in said.splitlines()[-1]
    code, _, said = jaxtl("plot", copied_few, "--methods", "lle")
    assert (code, "has no maps by lle; it has pca" in said) == (2, True)


MADE = {
    "baseline": 2**20,
    "peak": 2**30,
    "machine": {"cpu": "A CPU", "cores": 4},
    "limits": {"seconds": 9.0, "memory": 9},
}


@pytest.fixture
def study(tmp_path):
    """A study that was never computed."""
    plan.write_config(tmp_path, Settings(), "digest", {"sizes": "1000", "methods": "lle", "backends": "auto"})
    for n in (1000, 2000, 4000):
        trials.save(tmp_path / "points", Trial("lle", "jaxtl", n, "done", seconds=(1e-6 * n**2,), **MADE))
    record = {"images": 100, "seconds": 4.0, "image_size": 96}
    (tmp_path / "extraction.json").write_text(json.dumps(record))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "../../lle"}, "method is '../../lle'"),
        ({"method": "umap"}, "method is 'umap'"),
        ({"backend": "torch"}, "backend is 'torch'"),
        ({"n": 0}, "n is 0"),
        ({"n": 3000}, "tells of lle_jaxtl_3000"),
        ({"seconds": []}, "has no seconds though it is done"),
        ({"seconds": [0.0]}, "seconds has a part 1 that is 0.0"),
        ({"status": "over time", "limits": {}}, "was over a limit and has none"),
        ({"status": "well"}, "status is 'well'"),
        ({"quality": {"trustworthiness": [0.5]}}, "is no value with its interval"),
        ({"machine": {"cpu": ["A CPU"]}}, "cpu is"),
        ({"colour": "red"}, "has colour, which no trial has"),
    ],
)
def test_trials_that_say_what_no_trial_says(study, changes, words):
    path = study / "points" / "lle_jaxtl_2000.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(JaxtlError) as refusal:
        reference.costs_of(study)
    assert str(refusal.value).startswith(f"{path}: not a trial of a study (it ")
    assert words in str(refusal.value)


@pytest.mark.parametrize("changes", [{"images": 0}, {"image_size": 0}, {"seconds": None}, {"seconds": "4"}])
def test_an_extraction_that_tells_nothing(study, changes):
    path = study / "extraction.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(JaxtlError, match="tells of no extraction"):
        reference.costs_of(study)


def test_limits_and_methods_of_nothing():
    with pytest.raises(JaxtlError, match="limits: seconds and memory must be above 0"):
        replace(Limits(1, 1), seconds=0)
    with pytest.raises(JaxtlError, match="methods: none given"):
        plan.parse_methods(" , ")
