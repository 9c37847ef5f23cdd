"""What is refused of files and folders that are readable, and wrong in what they say."""

import io
import json
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import jaxtl
from jaxtl.data.feature_files import read_features
from jaxtl.errors import JaxtlError
from jaxtl.network.checkpoint import Checkpoint
from jaxtl.records.arrays import Embedding, Features, Neighbors
from jaxtl.records.files import write_npz
from jaxtl.runs import formats
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


# What is wrong in what a file says, though it is readable: its arrays or its record.
ROWS = np.arange(14, dtype=np.int32)
VALUES = np.random.default_rng(0).normal(size=(14, 3)).astype(np.float32)
FEATURES = {"values": VALUES, "labels": ROWS % 2, "index": ROWS}
TWO, THREE, LEAF = np.zeros((4, 2)), np.zeros((4, 3)), {"leaf_0000": np.zeros(1)}
WRONG = [
    (Neighbors.load, {"indices": TWO.astype(int), "distances": THREE}, {}, "must be [n, k], got"),
    (Neighbors.load, {"indices": TWO.astype(int) + 4, "distances": TWO}, {}, "must be 0 to 3"),
    (Embedding.load, {"coords": VALUES[:, :2], "index": ROWS}, {"diagnostics": []}, "diagnostics in meta"),
    (Features.load, FEATURES, {"class_names": [1, 2]}, "class_names in meta must be texts, got [1, 2]"),
    (Features.load, {**FEATURES, "labels": np.full(14, 2**40)}, {}, "array labels holds values beyond"),
    (Checkpoint.load, LEAF, {"history": 1}, "not where a training stopped (it says that history"),
    (Checkpoint.load, {"leaf_0000": np.array(["a"])}, {"history": []}, "leaf_0000 holds <U1, no numbers"),
    (formats.load_averages, {"labels": TWO.astype(int)}, {}, "array labels is [4, 2], not [n]"),
    (formats.load_predictions, {"labels": ROWS, "named": TWO.astype(int)}, {}, "not classes [n] and"),
]


@pytest.mark.parametrize(("load", "arrays", "meta", "words"), WRONG)
def test_archives_whose_arrays_or_records_are_no_such_thing(tmp_path, load, arrays, meta, words):
    write_npz(tmp_path / "f.npz", arrays, meta)
    with pytest.raises(JaxtlError) as refusal:
        load(tmp_path / "f.npz")
    assert str(refusal.value).startswith(f"{tmp_path / 'f.npz'}: ")
    assert words in str(refusal.value)


def test_archives_that_are_none_or_would_swell(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxtl.records.members._LARGE", 2**16)
    path = tmp_path / "f.npz"
    header = io.BytesIO()
    kind = {"descr": "<f4", "fortran_order": False, "shape": (2**20,)}
    np.lib.format.write_array_header_1_0(header, kind)
    swollen = header.getvalue() + bytes(2**22)
    for contents, words in (
        (b"", "it is empty"),
        (b"hello there", "its contents are no arrays"),
        ({"values.npy": b"\x93NUMPY\x09\x00v\x00" + b" " * 118}, "NumPy's format that nobody knows"),
        ({"values.npy": swollen}, "bytes would become 4,194,432: no measured array's do"),
    ):
        if isinstance(contents, bytes):
            path.write_bytes(contents)
        else:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, held in contents.items():
                    archive.writestr(name, held)
        with pytest.raises(JaxtlError, match=words):
            jaxtl.Features.load(path)


def test_what_no_path_can_be(tmp_path):
    for call in (jaxtl.Features.load, jaxtl.load_run, lambda path: jaxtl.load(path, "test")):
        with pytest.raises(JaxtlError, match=r"a\\x00b"):
            call("a\0b")
    with pytest.raises(OSError, match="No path has a NUL in it"):
        jaxtl.Features(VALUES).save(tmp_path / "a\0b.npz")


def test_images_none_of_which_can_be_read(tmp_path):
    for name in "ab":
        for number in range(3):
            path = tmp_path / name / f"{number}.tiff"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(path)
    with pytest.raises(
        JaxtlError, match=r"6 of 6 are unreadable .* \(floating-point pixels, whose range is unknown\)"
    ):
        jaxtl.load(f"folder:{tmp_path}", "train", image_size=4)
    with pytest.raises(JaxtlError, match=r"no train image can be read \(a/\d.tiff: floating-point pixels"):
        jaxtl.load(f"folder:{tmp_path}", "train", image_size=4, skip_bad=True)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((0, 28, 28), r"shape \[0\], which holds nothing"), ((2**15, 9, 9), "ends after 0 of 32,768 declared")],
)
def test_idx_files_that_hold_nothing(tmp_path, shape, words):
    for prefix in ("train", "t10k"):
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, *shape))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, shape[0]))
    with pytest.raises(JaxtlError, match=words):
        jaxtl.load(f"idx:{tmp_path}", "train")


def test_features_to_compare_that_say_nothing(tmp_path):
    ids = ROWS.astype(str)
    for before, after, how, words in (
        ({"values": np.ones((14, 3))}, {}, {}, "all 14 rows are equal; give features that vary"),
        ({"values": VALUES[:13]}, {}, {}, r"has 13 rows and .* 14: which belong together\? Give ids"),
        ({"ids": ids}, {"ids": np.char.add(ids, "0")}, {"common": True}, "in common; it takes 13"),
        ({"labels": np.array(["", *"a" * 13])}, {}, {}, "1 labels are missing; fill them in"),
        ({}, {}, {"labels": ["a"] * 5}, "5 labels for 14 rows"),
        (
            {"labels": np.array([None, *"a" * 13], object)},
            {},
            {},
            "labels holds Python objects, which are not read",
        ),
    ):
        np.savez(tmp_path / "b.npz", **{"values": VALUES, **before})
        np.savez(tmp_path / "a.npz", **{"values": VALUES + 1, **after})
        with pytest.raises(JaxtlError, match=words):
            jaxtl.compare(
                tmp_path / "b.npz", tmp_path / "a.npz", out=tmp_path / "out", methods=("pca",), **how
            )
        assert not (tmp_path / "out").exists()


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
