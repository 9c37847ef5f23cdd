"""The records and their files: what is refused, and that what is saved comes back."""

import contextlib
import csv
import json
import os
import zipfile

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.records import store
from jaxtl.records.arrays import Embedding, Features
from jaxtl.records.dataset import Dataset
from jaxtl.records.files import (
    check_writable,
    read_npz,
    remove_leftovers,
    replacing,
    write_json,
    write_npz,
    write_text,
)
from jaxtl.records.tables import HISTORY_COLUMNS, Score, load_history, load_scores, save_history, save_scores


def ints(*values):
    return np.array(values, np.int32)


def make_dataset(**change):
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5, 1)
    fields = {
        "images": images,
        "labels": ints(0, 1, 1),
        "class_names": ("a", "b"),
        "split": "test",
        "name": "x",
    }
    return Dataset(**{**fields, **change})


def make_features(**change):
    values = np.array([[1, 2], [3, 4], [5, np.nan]], np.float32)
    fields = {"values": values, "labels": ints(0, 2, 1), "index": ints(7, 8, 9)}
    return Features(**{**fields, "meta": {"class_names": ["a", "b", "ç"], "image_size": 48}, **change})


def make_embedding(**change):
    fields = {
        "coords": np.array([[1, 2], [3, 4], [5, 6]], np.float32),
        "labels": ints(0, 2, 1),
        "index": ints(7, 8, 9),
        "method": "tsne",
        "backend": "opentsne",
        "params": {"perplexity": 30.0, "seed": 1, "max_grad_norm": None},
        "diagnostics": {"kl_divergence": 0.5},
        "meta": {"class_names": ["a", "b", "ç"]},
    }
    return Embedding(**{**fields, **change})


@pytest.mark.parametrize(
    ("make", "change", "words"),
    [
        (make_dataset, {"images": np.zeros((3, 4, 5, 1), np.float32)}, "must be uint8"),
        (make_dataset, {"images": np.zeros((3, 4, 5), np.uint8)}, "must be uint8"),
        (make_dataset, {"images": np.zeros((3, 4, 5, 2), np.uint8)}, "1 or 3"),
        (make_dataset, {"images": np.zeros((3, 0, 5, 1), np.uint8)}, "which have no pixels"),
        (make_dataset, {"images": np.zeros((0, 4, 5, 1), np.uint8), "labels": ints()}, "holds no images"),
        (make_dataset, {"labels": ints(0, 1)}, r"labels must be int32 \[3\]"),
        (make_dataset, {"labels": np.zeros(3)}, "labels must be int32"),
        (make_dataset, {"labels": ints(0, 1, 2)}, "label 2 is out of range for 2 classes"),
        (make_dataset, {"labels": ints(0, 1, -1)}, "must not be negative"),
        (make_features, {"values": np.zeros((3, 2), complex)}, "must be float32"),
        (make_features, {"values": np.zeros(3, np.float32)}, r"float32 \[n, d\]"),
        (make_features, {"values": np.zeros((0, 2), np.float32)}, "holds no rows"),
        (make_features, {"labels": ints(0, 1)}, r"labels must be int32 \[3\]"),
        (make_features, {"labels": ints(0, 1, 3)}, "label 3 is out of range for 3 class names"),
        (make_features, {"index": ints(0, 1)}, r"index must be int32 \[3\]"),
        (make_features, {"index": np.arange(3.0)}, "index must be int32"),
        (make_embedding, {"coords": np.zeros(3, np.float32)}, r"float32 \[n, k\]"),
        (make_embedding, {"coords": np.zeros((3, 2), complex)}, "must be float32"),
        (make_embedding, {"coords": np.zeros((0, 2), np.float32)}, "holds no rows"),
        (make_embedding, {"coords": np.full((3, 2), np.inf, np.float32)}, "NaN or infinite"),
        (make_embedding, {"labels": ints(0)}, "labels must be int32"),
        (make_embedding, {"index": ints(0)}, "index must be int32"),
        (make_embedding, {"labels": ints(0, 1, 3)}, "out of range"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(make, change, words):
    with pytest.raises(JaxtlError, match=words):
        make(**change)


@pytest.mark.parametrize("make", [make_dataset, make_features, make_embedding])
@pytest.mark.parametrize("ids", [np.array(["a", "b"]), np.array([1, 2, 3])])
def test_ids_are_texts_one_for_each_row(make, ids):
    with pytest.raises(JaxtlError, match=r"ids must be texts \[3\]"):
        make(ids=ids)


def test_take_keeps_the_first_images():
    dataset = make_dataset(index=ints(4, 5, 6), ids=np.array(["a.png", "b.png", "c.png"]))
    part = dataset.take(2)
    assert (len(dataset), len(part)) == (3, 2)
    assert np.array_equal(part.images, dataset.images[:2])
    assert part.labels.tolist() == [0, 1]
    assert part.index.tolist() == [4, 5]
    assert part.ids.tolist() == ["a.png", "b.png"]
    assert (part.class_names, part.split, part.name) == (("a", "b"), "test", "x")


@pytest.mark.parametrize("n", [0, -1, 4])
def test_take_refuses_what_is_not_there(n):
    with pytest.raises(JaxtlError, match=rf"dataset x \(test\): has 3 images, asked for {n}"):
        make_dataset().take(n)


def test_a_dataset_counts_its_own_rows():
    assert make_dataset().index.tolist() == [0, 1, 2]
    assert make_dataset().index.dtype == np.int32


def test_class_names_are_numbers_where_none_are_recorded():
    assert make_features(meta={}).class_names == ("0", "1", "2")
    assert make_embedding().class_names == ("a", "b", "ç")


FAR = ints(2**31 - 1, 2, 2**31 - 1)


@pytest.mark.parametrize("make", [make_features, make_embedding])
def test_numbers_far_apart_are_numbered_anew_where_classes_have_no_names(make, tmp_path):
    """By a name for each number up to the largest the kernel killed the process."""
    record = make(labels=FAR, meta={})
    assert (record.labels.tolist(), record.class_names) == ([1, 0, 1], ("2", "2147483647"))
    record.save(tmp_path / "r.npz")
    again = type(record).load(tmp_path / "r.npz")
    assert (again.labels.tolist(), again.class_names) == ([1, 0, 1], ("2", "2147483647"))
    np.savez(tmp_path / "own.npz", values=GOOD["values"], labels=FAR)
    assert Features.load(tmp_path / "own.npz").labels.tolist() == [1, 0, 1]


def test_numbers_close_together_stay_as_they_are():
    assert make_features(labels=ints(0, 2**16 - 1, 1), meta={}).labels.tolist() == [0, 2**16 - 1, 1]
    many = np.arange(2**16 + 1, dtype=np.int32)
    features = Features(np.zeros((len(many), 1), np.float32), many)
    assert features.labels.tolist() == many.tolist()
    assert "class_names" not in features.meta
    with pytest.raises(JaxtlError, match="out of range for 3 class names"):
        make_features(labels=FAR)


def test_the_first_rows_of_a_store_have_the_classes_of_all(tmp_path):
    values = np.ones((3, 2), np.float32)
    store.write(tmp_path / "f.npy", [values], ints(7, 2**31 - 1, 3), ints(0, 1, 2), {}, 2)
    first, whole = store.load(tmp_path / "f.npy", 1), store.load(tmp_path / "f.npy")
    assert first.class_names == whole.class_names == ("3", "7", "2147483647")
    assert first.labels.tolist() == whole.labels[:1].tolist() == [1]


@pytest.mark.parametrize("ids", [None, np.array(["é.png", "b/c.png", "d"])])
@pytest.mark.parametrize("make", [make_features, make_embedding])
def test_records_come_back_as_they_were(make, ids, tmp_path):
    record = make(ids=ids)
    path = tmp_path / "new" / "folder" / "record.npz"
    record.save(path)
    again = type(record).load(path)
    for name, value in vars(record).items():
        loaded = getattr(again, name)
        if isinstance(value, np.ndarray):
            assert loaded.dtype == value.dtype
            np.testing.assert_array_equal(loaded, value)
        else:
            assert loaded == value


@pytest.mark.parametrize("make", [make_features, make_embedding])
def test_the_same_record_is_the_same_bytes(make, tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path in paths:
        make().save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with zipfile.ZipFile(paths[0]) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_an_npz_is_read_by_numpy_without_pickles(tmp_path):
    make_features().save(tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz", allow_pickle=False) as archive:
        assert sorted(archive.files) == ["index", "labels", "meta", "values"]
        assert json.loads(str(archive["meta"]))["image_size"] == 48


def test_features_of_others_are_taken(tmp_path):
    """Any real dtype, any integer labels, no index, no meta."""
    values = np.arange(6.0).reshape(3, 2)
    np.savez_compressed(tmp_path / "f.npz", values=values, labels=np.array([2, 0, 1], np.int64))
    features = Features.load(tmp_path / "f.npz")
    assert features.values.dtype == np.float32
    assert features.values.flags.c_contiguous
    np.testing.assert_array_equal(features.values, values)
    assert features.labels.tolist() == [2, 0, 1]
    assert features.index.tolist() == [0, 1, 2]
    assert features.meta == {}


GOOD = {"values": np.ones((3, 2), np.float32), "labels": np.zeros(3, np.int32)}
PICKLED = np.array([{}, {}, {}], object)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": None}, "has no array values"),
        ({"values": PICKLED}, "not a readable .npz file"),
        ({"values": np.array([["a", "b"]] * 3)}, "not a real number type"),
        ({"values": np.ones((3, 2), complex)}, "not a real number type"),
        ({"values": np.float32(1)}, "float32"),
        ({"values": np.ones((2, 2), np.float32)}, "labels must be"),
        ({"labels": np.zeros(3)}, "not an integer type"),
        ({"labels": np.zeros((3, 1), np.int32)}, "labels must be"),
        ({"labels": np.array([0, 0, 2**40])}, "beyond 32 bits"),
        ({"labels": np.array([0, 0, -1])}, "must not be negative"),
        ({"index": np.array(["a", "b", "c"])}, "not an integer type"),
        ({"index": np.zeros((3, 3), np.int32)}, "index must be"),
        ({"meta": np.array("{")}, "not a JSON object"),
        ({"meta": np.array("[1]")}, "not a JSON object"),
        ({"meta": np.array('{"class_names": []}'), "labels": np.array([0, 0, -5])}, "negative"),
        ({"meta": np.array('{"class_names": ["only"]}'), "labels": np.array([0, 1, 0])}, "out of range"),
    ],
)
def test_an_npz_that_holds_something_else_is_named_in_one_line(tmp_path, change, words):
    arrays = {name: array for name, array in {**GOOD, **change}.items() if array is not None}
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(JaxtlError, match=words) as refusal:
        Features.load(tmp_path / "f.npz")
    assert str(refusal.value).startswith(str(tmp_path / "f.npz"))
    assert "\n" not in str(refusal.value)


def test_values_beyond_float32_become_infinite_and_stay_for_their_users_to_refuse(tmp_path):
    np.savez(tmp_path / "f.npz", values=np.full((3, 2), 1e300), labels=np.zeros(3, np.int32))
    assert np.isinf(Features.load(tmp_path / "f.npz").values).all()


def spoil_some(data):
    """The file cut off and with single bytes changed, at places spread over it."""
    for place in range(0, len(data), 11):
        yield data[:place]
        for flipped in (data[place] ^ 0xFF, data[place] ^ 0x01, 0):
            yield data[:place] + bytes([flipped]) + data[place + 1 :]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_read_or_refused_and_nothing_else(tmp_path, save):
    path = tmp_path / "f.npz"
    save(path, **GOOD, meta=np.array("{}"))
    for data in spoil_some(path.read_bytes()):
        path.write_bytes(data)
        with contextlib.suppress(JaxtlError):
            read_npz(path, ("values", "labels"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: path.write_text("hello"), "not a readable .npz"),
        (lambda path: path.write_bytes(b""), "not a readable .npz"),
        (lambda path: path.write_bytes(b"PK\x03\x04"), "not a readable .npz"),
        (lambda path: path.with_suffix(".npy").rename(path), "a single .npy array"),
    ],
)
def test_what_is_no_npz_is_said_to_be_none(tmp_path, make, words):
    np.save(tmp_path / "f.npy", np.zeros(3))
    make(tmp_path / "f.npz")
    with pytest.raises(JaxtlError, match=words):
        Embedding.load(tmp_path / "f.npz")


def test_pickles_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        write_npz(tmp_path / "f.npz", {"values": PICKLED}, {})
    assert list(tmp_path.iterdir()) == []


def test_scores_come_back_as_they_were(tmp_path):
    scores = [
        Score("before", "features", "10-NN accuracy", 0.123457),
        Score("after", "tsne", 'a "quoted", metric', 0.9, 0.85, 0.95),
        Score("after", "lle", "m", 1.0, None, 1.0),
    ]
    save_scores(tmp_path / "scores.csv", scores)
    assert load_scores(tmp_path / "scores.csv") == scores
    with (tmp_path / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0] == {
        "stage": "before",
        "space": "features",
        "metric": "10-NN accuracy",
        "value": "0.123457",
        "low": "",
        "high": "",
    }


def test_a_history_comes_back_as_it_was(tmp_path):
    history = [
        dict(zip(HISTORY_COLUMNS, (1, 0.5, 0.25, 12.125, 0.5), strict=True)),
        dict(zip(HISTORY_COLUMNS, (2, 0.25, 0.75, 1e-6, 1.0), strict=True)),
    ]
    save_history(tmp_path / "history.csv", history)
    assert load_history(tmp_path / "history.csv") == history


@pytest.mark.parametrize("read", [load_scores, load_history])
@pytest.mark.parametrize(
    "text", ["", "\n", "a,b\n1,2\n", "\x00\xff", "stage,space,metric,value,low,high\na\n"]
)
def test_another_table_is_refused(tmp_path, read, text):
    (tmp_path / "table.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(JaxtlError, match=r"table\.csv: not a table with columns"):
        read(tmp_path / "table.csv")
    with pytest.raises(JaxtlError, match="no such file"):
        read(tmp_path / "none.csv")


# Files that are whole or absent.


def test_replacing_puts_the_new_file_in_place_of_the_old(tmp_path):
    path = tmp_path / "made" / "file.txt"
    for text in ("old", "new"):
        with replacing(path) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
        assert path.read_text() == text
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", ["old", None])
def test_a_failure_while_writing_changes_nothing(tmp_path, error, old):
    path = tmp_path / "file.txt"
    if old:
        path.write_text(old)

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert [file.read_text() for file in tmp_path.iterdir()] == ([old] if old else [])


def test_written_files_have_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "written.json", {})
    assert (tmp_path / "written.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("write", [check_writable, lambda path: write_json(path, {})])
def test_a_place_that_cannot_be_written_is_named(tmp_path, write):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "x.json", tmp_path / "file" / "deep" / "x.json", tmp_path / "folder"):
        with pytest.raises(OSError, match="directory") as refusal:
            write(path)
        assert (refusal.value.filename, refusal.value.filename2) == (str(path), None)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_folder_that_cannot_be_made_is_named_itself():
    with pytest.raises(FileNotFoundError, match="No folder can be made here: '/proc/x'"):
        check_writable("/proc/x/file.txt")


def test_asking_whether_a_file_can_be_written_does_not_touch_it(tmp_path):
    (tmp_path / "file.txt").write_text("old")
    check_writable(tmp_path / "file.txt")
    check_writable(tmp_path / "new" / "file.txt")
    assert (tmp_path / "file.txt").read_text() == "old"
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")) == ["file.txt", "new"]


def test_leftovers_are_those_of_one_file(tmp_path):
    gone, kept = (
        ".file-a1_b2c3d.txt",
        ["file.txt", ".file-a1_b2c3d.csv", ".file-short.txt", ".other-a1_b2c3d.txt"],
    )
    for name in (gone, *kept):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path / "file.txt")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(kept)


def test_names_that_are_no_text_are_written_escaped_and_json_gives_them_back(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_text(tmp_path / "a.txt", name)
    assert (tmp_path / "a.txt").read_text() == "caf\\udce9"
    write_json(tmp_path / "a.json", {"path": name})
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": name}
