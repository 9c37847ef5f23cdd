"""Exports of a run, read back as the tools that they are for would."""

import csv
import dataclasses
import io
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from PIL import Image
from pyarrow import parquet

from jaxtl.cli.main import cli
from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.records.arrays import Embedding, Features
from jaxtl.records.files import write_json, write_npz
from jaxtl.runs import export as module
from jaxtl.runs.export import export
from tests.browser.synthetic import maps_of, measures_of

N = 30
NAMES = ("tab\there", "line\nend", "return\rhere", "a, comma", 'a "quote"', "back\\slash", "ü", " ", "8", "9")


@pytest.fixture(scope="module")
def digits():
    return load("mnist", "test").take(N)


@pytest.fixture
def folder(digits, tmp_path):
    return made(tmp_path / "run", digits)


@pytest.fixture(autouse=True)
def quick_images(digits, monkeypatch):
    """The dataset is read once, not for every run that is loaded."""
    monkeypatch.setattr("jaxtl.runs.data.load", lambda name, *_, **__: _known(name, digits))


def _known(name, digits):
    if name != "mnist":
        raise JaxtlError(f"dataset {name}: is not there")
    return dataclasses.replace(digits, class_names=NAMES)


def made(folder, digits, dataset="mnist"):
    draw = np.random.default_rng(0)
    write_json(folder / "config.json", {"dataset": dataset, "image_size": 48})
    for (stage, method), map_ in maps_of(digits.labels, digits.index, draw).items():
        map_ = Embedding(map_.coords, map_.labels, map_.index, method, "x", {}, {}, {"class_names": NAMES})
        map_.save(folder / "embeddings" / f"{stage}_{method}.npz")
    for stage in ("before", "after"):
        values = draw.normal(size=(N, 7)).astype(np.float32)
        Features(values, digits.labels, digits.index).save(folder / "features" / f"{stage}.npz")
    write_npz(folder / "measures.npz", measures_of(digits.labels, 10, draw), {})
    return folder


def coords(folder, stage, method):
    return Embedding.load(folder / "embeddings" / f"{stage}_{method}.npz").coords


def measures(folder):
    with np.load(folder / "measures.npz") as arrays:
        return dict(arrays)


def features(folder, stage):
    return Features.load(folder / "features" / f"{stage}.npz").values


def rows_of_csv(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def parsed(text):
    """Messages of a text protobuf, each a list of (field, value), by a parser of its own."""
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[{}]|[a-z_]+:?|\d+', text)

    def message(at):
        values = []
        while at < len(tokens) and tokens[at] != "}":
            name, at = tokens[at], at + 1
            if name.endswith(":"):
                value = tokens[at]
                values.append((name[:-1], value[1:-1] if value.startswith('"') else int(value)))
                at += 1
            else:
                assert tokens[at] == "{"
                value, at = message(at + 1)
                values.append((name, value))
                at += 1
        return values, at

    return message(0)[0]


def tsv(path):
    return [line.split("\t") for line in path.read_bytes().decode().removesuffix("\n").split("\n")]


def test_csv_gives_everything_back(folder, digits, tmp_path):
    written, notes = export(folder, "csv", tmp_path / "run.csv")
    assert (written, notes) == ([tmp_path / "run.csv"], [])
    rows = rows_of_csv(written[0])
    assert len(rows) == N
    assert list(rows[0])[:3] == ["index", "label", "class"]
    assert [int(row["index"]) for row in rows] == digits.index.tolist()
    assert [row["class"] for row in rows] == [NAMES[label] for label in digits.labels]
    known = measures(folder)
    for name in ("knn_before", "head_after", "head_probability"):
        assert [np.float32(row[name]) for row in rows] == known[name].tolist()
    for stage in ("before", "after"):
        for method in ("pca", "tsne", "lle"):
            xy = [[np.float32(row[f"{stage}_{method}_{axis}"]) for axis in "xy"] for row in rows]
            np.testing.assert_array_equal(xy, coords(folder, stage, method))


@pytest.mark.parametrize(("stage", "other"), [("before", "after"), ("after", "before")])
def test_one_stage_holds_nothing_of_the_other(folder, tmp_path, stage, other):
    export(folder, "csv", tmp_path / "t.csv", stage)
    export(folder, "parquet", tmp_path / "t.parquet", stage)
    export(folder, "tensorboard", tmp_path / "t", stage)
    names = [*rows_of_csv(tmp_path / "t.csv")[0], *parquet.read_schema(tmp_path / "t.parquet").names]
    names += [path.name for path in (tmp_path / "t").iterdir()]
    assert any(stage in name for name in names)
    assert not any(other in name for name in names)
    assert other not in (tmp_path / "t" / "projector_config.pbtxt").read_text()


def test_parquet_is_what_embedding_atlas_reads(folder, digits, tmp_path):
    export(folder, "parquet", tmp_path / "run.parquet")
    table = parquet.read_table(tmp_path / "run.parquet")
    assert table.schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert table["class"].to_pylist() == [NAMES[label] for label in digits.labels]
    np.testing.assert_array_equal(table["after_lle_y"].to_numpy(), coords(folder, "after", "lle")[:, 1])
    for row, image in zip(table["image"].to_pylist(), digits.images, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["bytes"]))), image[..., 0])
    values, near = features(folder, "before"), table["neighbors_before"].to_pylist()
    assert [row["ids"] for row in near] == measures(folder)["neighbors_before"].tolist()
    expected = [[np.linalg.norm(values[i] - values[j]) for j in row["ids"]] for i, row in enumerate(near)]
    np.testing.assert_allclose([row["distances"] for row in near], expected, rtol=1e-6)


def test_projector_config_names_files_that_are_there(folder, tmp_path):
    written, notes = export(folder, "tensorboard", tmp_path / "p")
    assert sorted(written) == sorted((tmp_path / "p").iterdir())
    assert notes == []
    config = parsed((tmp_path / "p" / "projector_config.pbtxt").read_text())
    assert {name for name, _ in config} == {"embeddings"}
    columns = {dict(fields)["tensor_name"]: fields for _, fields in config}
    spaces = ("features", "pca", "tsne", "lle")
    assert set(columns) == {f"{space}_{stage}" for space in spaces for stage in ("before", "after")}
    for name, fields in columns.items():
        values = np.array(tsv(tmp_path / "p" / dict(fields)["tensor_path"]), np.float32)
        assert [value for field, value in fields if field == "tensor_shape"] == list(values.shape)
        space, stage = name.split("_")
        if space == "features":
            np.testing.assert_array_equal(values, features(folder, stage))
        else:
            np.testing.assert_array_equal(values[:, :2], coords(folder, stage, space))
            assert not values[:, 2:].any()
        assert dict(fields)["metadata_path"] == "metadata.tsv"
        assert dict(fields)["sprite"] == [
            ("image_path", "sprite.png"),
            ("single_image_dim", 28),
            ("single_image_dim", 28),
        ]


def test_projector_metadata_has_one_line_an_image(folder, digits, tmp_path):
    export(folder, "tensorboard", tmp_path / "p")
    header, *rows = tsv(tmp_path / "p" / "metadata.tsv")
    assert header[:4] == ["index", "label", "class", "knn_before"]
    assert {"head_after", "head_probability", "outcome_probe", "kept", "moved"} <= set(header)
    assert len(rows) == N
    assert {len(row) for row in rows} == {len(header)}
    # Escapes as JSON and Python have them.
    unescaped = [
        re.sub(r"\\(.)", lambda m: {"t": "\t", "n": "\n", "r": "\r"}.get(m[1], m[1]), row[2]) for row in rows
    ]
    assert unescaped == [NAMES[label] for label in digits.labels]


def test_a_tile_of_the_sprite_is_its_image(folder, digits, tmp_path):
    export(folder, "tensorboard", tmp_path / "p")
    sprite = np.asarray(Image.open(tmp_path / "p" / "sprite.png"))
    assert sprite.shape == (6 * 28, 6 * 28)
    for i, image in enumerate(digits.images):
        y, x = 28 * (i // 6), 28 * (i % 6)
        np.testing.assert_array_equal(sprite[y : y + 28, x : x + 28], image[..., 0])


def test_sprite_shrinks_to_what_the_projector_takes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SPRITE_SIDE", 100)
    export(folder, "tensorboard", tmp_path / "p")
    with Image.open(tmp_path / "p" / "sprite.png") as sprite:
        assert sprite.size == (96, 96)
    assert (
        "single_image_dim: 16 single_image_dim: 16" in (tmp_path / "p" / "projector_config.pbtxt").read_text()
    )


def test_a_run_without_extras_is_exported_without_them(digits, tmp_path):
    folder = made(tmp_path / "run", digits, dataset="folder:gone")
    (folder / "measures.npz").unlink()
    (folder / "features" / "before.npz").unlink()
    written, notes = export(folder, "tensorboard", tmp_path / "p")
    assert not any(path.name in ("sprite.png", "features_before.tsv") for path in written)
    assert "sprite" not in (tmp_path / "p" / "projector_config.pbtxt").read_text()
    assert [note.split(":")[0] for note in notes] == [
        "without predictions and neighbours",
        "without the features of stage before",
        "without images",
    ]
    assert not any("\n" in note for note in notes)
    export(folder, "parquet", tmp_path / "run.parquet")
    assert not {"image", "neighbors_after"} & set(parquet.read_schema(tmp_path / "run.parquet").names)


def test_what_cannot_be_exported_is_told_in_one_line(folder, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dir.csv").mkdir()
    other = Features(np.zeros((2, 3), np.float32), np.zeros(2, np.int32), np.arange(2, dtype=np.int32))
    for arguments, words in (
        ((tmp_path / "none", "csv", tmp_path / "t.csv"), "no run folder"),
        ((folder, "csv", tmp_path / "dir.csv"), "a folder; csv is one file"),
        ((folder, "tensorboard", tmp_path / "file"), "a file; tensorboard takes a folder"),
        ((folder, "arrow", tmp_path / "t"), "to must be one of"),
        ((folder, "csv", tmp_path / "t.csv", "during"), "stage must be"),
    ):
        with pytest.raises(JaxtlError, match=words) as raised:
            export(*arguments)
        assert "\n" not in str(raised.value)
    assert (tmp_path / "file").read_text() == "mine"
    other.save(folder / "features" / "after.npz")
    with pytest.raises(JaxtlError, match="of other images than the maps"):
        export(folder, "tensorboard", tmp_path / "p")
    for method in ("pca", "tsne", "lle"):
        (folder / "embeddings" / f"after_{method}.npz").unlink()
    with pytest.raises(JaxtlError, match=r"no maps of stage after.*--resume"):
        export(folder, "csv", tmp_path / "t.csv", "after")


def test_without_pyarrow_parquet_says_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(JaxtlError, match=r'run pip install "\.\[parquet\]"'):
        export(folder, "parquet", tmp_path / "run.parquet")
    assert list(tmp_path.iterdir()) == [folder]


def test_export_does_not_import_pyarrow_uncalled():
    code = "import sys, jaxtl.runs.export; sys.exit('pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_command_prints_files_and_what_is_left_out(folder, tmp_path):
    (folder / "measures.npz").unlink()
    out = tmp_path / "run.csv"
    ended = CliRunner().invoke(cli, ["export", str(folder), "--to", "csv", "--out", str(out)])
    assert (ended.exit_code, ended.stdout) == (0, f"{out}\n")
    assert ended.stderr.startswith("without predictions")
    ended = CliRunner().invoke(cli, ["export", str(folder), "--to", "parquet", "--out", str(out)])
    assert isinstance(ended.exception, JaxtlError)
    assert "must end in .parquet" in str(ended.exception)
