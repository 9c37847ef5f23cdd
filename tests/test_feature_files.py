"""Files of features, of whatever form they are."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl.data.feature_files import given_features, read_features, read_labels
from jaxtl.errors import JaxtlError
from tests.feature_pairs import AFTER, BEFORE, IDS, LABELS, NAMES, N, labels_of, pair_of, save


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
        ("f.csv", b'label,f0\nx,1\ny,"2\n', r"unexpected end of data, line 3\); mend its quotes"),
        (
            "f.csv",
            b'label,f0\nx,1\ny,"' + b"2" * 200_000,
            r"a cell of more than 131,072 letters, line 3\); mend its quotes or save it again",
        ),
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


# Tables.


def write_table(path, values, **columns):
    """A CSV file of columns by name, behind them those of values."""
    columns |= {f"f{k}": values[:, k] for k in range(values.shape[1])}
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    path.write_text("\n".join(",".join(map(str, row)) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_row_numbers_that_pandas_wrote_are_no_feature(tmp_path, name):
    order = np.random.default_rng(0).permutation(N)
    one = write_table(tmp_path / "b.csv", BEFORE, **{name: np.arange(N)})
    two = write_table(tmp_path / "a.csv", AFTER[order], **{name: np.arange(N)[order]})
    pair = pair_of(one, two)
    assert pair.before.values.shape == (N, 8)
    np.testing.assert_allclose(pair.after.values, AFTER, rtol=1e-6)
    assert any("taken for row numbers" in note for note in pair.notes)


def test_names_of_rows_without_a_name_are_ids(tmp_path):
    path = write_table(tmp_path / "b.csv", BEFORE, **{"": IDS})
    assert read_features(path).ids.tolist() == IDS.tolist()


def test_ids_of_digits_keep_their_zeros(tmp_path):
    ids = [f"{k:03}" for k in range(N)]
    path = write_table(tmp_path / "b.csv", BEFORE, image_id=ids)
    assert pair_of(path, {"values": AFTER, "ids": ids}).before.ids.tolist() == ids


def test_a_number_that_is_missing_is_found_and_an_empty_column_is_none(tmp_path):
    cells = BEFORE.astype(str)
    cells[4, 2] = "NA"
    path = write_table(tmp_path / "b.csv", cells, note=[""] * N)
    with pytest.raises(JaxtlError, match="in 1 of 60 rows, the first in row 4"):
        pair_of(path, AFTER)
    assert read_features(write_table(tmp_path / "b.csv", BEFORE, note=[""] * N)).values.shape == (N, 8)


NESTED = [[[1.0, 2.0]]] * N


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"embedding": NESTED}, r"features \(it has embedding \(list<.*list<.*\)\); save these as numbers"),
        ({"embedding": [{"a": 1.0}] * N}, r"\(it has embedding \(struct<a: double>\)\)"),
        ({"label": [[1, 2]] * N}, r"no columns of numbers to take as features \(it has label\)"),
        ({"f0": BEFORE[:, 0], "f1": BEFORE[:, 1], "label": [[1]] * N}, r"labels are \[60, 1\] for 60 rows"),
    ],
)
def test_columns_that_are_no_features_are_named(columns, words):
    table = pytest.importorskip("pyarrow").table(columns)
    with pytest.raises(JaxtlError, match=words):
        pair_of(table, AFTER)


def test_columns_of_other_kinds_are_said_to_be_passed_over():
    pa = pytest.importorskip("pyarrow")
    when = pa.array(np.arange(N).astype("M8[s]"))
    pair = pair_of(pa.table({"f0": BEFORE[:, 0], "f1": BEFORE[:, 1], "label": when}), AFTER)
    assert any(note.endswith("not looked at: label (timestamp[s])") for note in pair.notes)


def test_tables_in_python_are_read_as_their_files():
    pa = pytest.importorskip("pyarrow")
    columns = {f"f{k}": column for k, column in enumerate(BEFORE.T)}
    kinds = pa.array(NAMES[LABELS]).dictionary_encode()
    table = pa.table({"id": IDS, "label": kinds, "__index_level_0__": np.arange(N), **columns})
    pair = pair_of(table, AFTER)
    np.testing.assert_array_equal(pair.before.values, BEFORE)
    assert (pair.before.ids.tolist(), labels_of(pair)) == (IDS.tolist(), NAMES[LABELS].tolist())
    with pytest.raises(JaxtlError, match="columns of numbers"):
        given_features(pa.table({"id": IDS}), "before")


def test_rows_that_pandas_counted_are_matched_by_their_numbers():
    pa = pytest.importorskip("pyarrow")
    order = np.random.default_rng(0).permutation(N)
    noted = {"index_columns": [{"kind": "range", "name": None, "start": 0, "stop": N, "step": 1}]}
    one = pa.table({"features": BEFORE.tolist()}).replace_schema_metadata({"pandas": json.dumps(noted)})
    two = pa.table({"features": AFTER[order].tolist(), "__index_level_0__": order})
    np.testing.assert_allclose(pair_of(one, two).after.values, AFTER)
    damaged = one.replace_schema_metadata({"pandas": '{"index_columns": [{"kind": "range"}]}'})
    assert given_features(damaged, "before").index is None


# Arrays and labels in Python.


def test_arrays_of_other_libraries_are_taken_and_what_is_none_is_refused():
    pair = pair_of(jnp.asarray(BEFORE, jnp.bfloat16), AFTER.astype(">f8").tolist())
    np.testing.assert_allclose(pair.before.values, BEFORE, rtol=4e-3)
    np.testing.assert_array_equal(pair.after.values, AFTER)
    for source in ([[1.0, 2.0], [3.0]], np.ma.masked_equal(BEFORE, BEFORE[0, 0]), {"values": [[1], [2, 3]]}):
        with pytest.raises(JaxtlError, match=r"before: (features|values) ") as refusal:
            given_features(source, "before")
        assert "\n" not in str(refusal.value)


def test_labels_may_be_objects_and_none_of_them_missing():
    names = NAMES[LABELS].astype(object)
    pair = pair_of(BEFORE, AFTER, labels=names)
    assert labels_of(pair) == NAMES[LABELS].tolist()
    for nothing in (None, float("nan")):
        names[3] = nothing
        with pytest.raises(JaxtlError, match="1 labels are missing"):
            pair_of(BEFORE, AFTER, labels=names)


def test_labels_of_a_table_are_matched_by_ids(tmp_path):
    order = np.random.default_rng(0).permutation(N)
    rows = [f"{IDS[k]},{NAMES[LABELS[k]]}" for k in order]
    path = tmp_path / "labels.csv"

    def labelled(lines):
        path.write_text("\n".join(lines), encoding="utf-8")
        return labels_of(pair_of({"values": BEFORE, "ids": IDS}, AFTER, labels=read_labels(path)))

    assert labelled(["path,species,class", *(row.replace(",", ",x,") for row in rows)]) == (
        NAMES[LABELS].tolist()
    )
    for lines, words in (
        (["id,label", *rows[1:]], f"no label for 1 of 60 ids of before, such as {IDS[order[0]]}"),
        (["id,label", *rows, rows[0]], "1 ids stand there more than once"),
        (["id,species", *rows], "no column is called label or class"),
    ):
        with pytest.raises(JaxtlError, match=words):
            labelled(lines)
    assert labelled(NAMES[LABELS]) == NAMES[LABELS].tolist()
