"""Files of features, of whatever form they are."""

import csv

import numpy as np
import pytest

from jaxtl.data.feature_files import read_features
from jaxtl.errors import JaxtlError
from tests.feature_pairs import AFTER, BEFORE, IDS, LABELS, NAMES, labels_of, pair_of, save


def write_csv(path, separator=","):
    rows = [["id", "label", *(f"f{k}" for k in range(8))]]
    rows += [[i, NAMES[k], *map(repr, map(float, v))] for i, k, v in zip(IDS, LABELS, BEFORE, strict=True)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=separator).writerows(rows)


def write_parquet(path, wide):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    vectors = (
        {f"f{k}": column for k, column in enumerate(BEFORE.T)} if wide else {"embedding": BEFORE.tolist()}
    )
    parquet.write_table(pa.table({"id": IDS, "label": NAMES[LABELS], "caption": IDS, **vectors}), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("f.csv", write_csv),
        ("f.csv", lambda path: write_csv(path, ";")),
        ("f.parquet", lambda path: write_parquet(path, wide=True)),
        ("f.parquet", lambda path: write_parquet(path, wide=False)),
        ("f.npz", lambda path: save(path, embeddings=BEFORE, label=NAMES[LABELS], paths=IDS)),
        (
            "f.npz",
            lambda path: save(
                path, Features=BEFORE.astype("f2"), y=np.char.encode(NAMES[LABELS], "utf-8"), id=IDS
            ),
        ),
        ("f.npz", lambda path: save(path, whatever=BEFORE.astype("f8"), targets=NAMES[LABELS], ids=IDS)),
    ],
)
def test_every_form_of_file_gives_the_same(tmp_path, name, write):
    write(tmp_path / name)
    pair = pair_of(tmp_path / name, AFTER, labels=None)
    np.testing.assert_allclose(pair.before.values, BEFORE, atol=3e-3)
    assert pair.before.ids.tolist() == IDS.tolist()
    assert labels_of(pair) == NAMES[LABELS].tolist()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("f.txt", b"1 2", "features are read from .npz, .npy, .parquet, .csv"),
        ("f.npz", b"", "not a readable .npz"),
        ("f.npy", b"no", "not a readable .npy"),
        ("f.parquet", b"PAR1", "not a readable Parquet"),
        ("f.csv", b"", "first line must name the columns"),
        ("f.csv", b"0.1,0.2\n0.3,0.4\n", "first line holds numbers"),
        ("f.csv", b"a,b\n1\n", "row 2 has 1 cells, the header has 2"),
        ("f.csv", b"label,id\nx,y\n", "no columns of numbers"),
        ("f.csv", "a\nä".encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_file_of_another_kind_is_told_what_it_is(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(JaxtlError, match=words) as refusal:
        read_features(tmp_path / name)
    assert str(refusal.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("name", ["f.npz", "f.npy", "f.csv", "f.parquet"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(JaxtlError, match="no such file"):
        read_features(tmp_path / name)


def test_python_objects_that_nobody_needs_are_passed_over(tmp_path):
    path = save(tmp_path / "f.npz", values=BEFORE, arguments=np.array({"epochs": 3}))
    np.testing.assert_array_equal(read_features(path).values, BEFORE)


def test_arrays_that_nobody_can_tell_apart_are_listed(tmp_path):
    save(tmp_path / "f.npz", a=BEFORE, b=BEFORE)
    with pytest.raises(
        JaxtlError, match=r"no array values, features or embeddings .* \(it has a \[60, 8\], b"
    ):
        read_features(tmp_path / "f.npz")
