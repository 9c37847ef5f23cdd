"""The command line as a user meets it: what verbs write, and one clear line for every mistake."""

import errno
import json
from pathlib import Path

import click
import numpy as np
import pytest

import jaxtl as package
from jaxtl.cli import headings
from jaxtl.evaluation.catalogue import (
    EXPLAINED_VARIANCE,
    KL_DIVERGENCE,
    LEAVE_ONE_OUT,
    RECONSTRUCTION_ERROR,
)
from jaxtl.methods import LIBRARIES, METHODS
from jaxtl.models.weights import load_arrays
from jaxtl.records.arrays import Embedding, Features
from jaxtl.records.tables import HISTORY_COLUMNS, load_history, load_scores
from tests.command_lines import REDUCE, RUN, SMALL, words

# What a library says of its embedding, by method.
TOLD = {"pca": EXPLAINED_VARIANCE, "tsne": KL_DIVERGENCE, "lle": RECONSTRUCTION_ERROR}


def test_alone_it_helps(jaxtl):
    code, out, err = jaxtl()
    assert (code, err) == (0, "")
    assert out == jaxtl("--help")[1]
    for verb in ("run", "extract", "finetune", "reduce", "plot"):
        assert verb in out
        assert jaxtl(verb, "-h")[1].startswith(f"Usage: jaxtl {verb}")


def test_a_verb_helps_whoever_asked_it_first(capsys):
    # click keeps the names of an option for help as they were where it was first asked for.
    verb = headings.Command("verb", help="Words.")
    with verb.make_context("verb", []):
        pass
    for name in ("-h", "--help"):
        with pytest.raises(click.exceptions.Exit):
            verb.make_context("verb", [name])
        assert "Words." in capsys.readouterr().out


def test_it_tells_its_version(jaxtl):
    assert jaxtl("--version") == (0, f"jaxtl, version {package.__version__}\n", "")


def test_features_then_maps_then_pictures(jaxtl, tmp_path):
    features, chart = tmp_path / "f.npz", tmp_path / "new" / "map.svg"
    code, out, _ = jaxtl("extract", *SMALL, "--samples", 60, "--out", features)
    assert (code, out) == (0, f"{features}: 60 x 1280 features\n")
    with np.load(features) as archive:
        kinds = {name: (archive[name].dtype, archive[name].shape) for name in archive.files if name != "meta"}
        rows = (np.int32, (60,))
        assert kinds == {"values": (np.float32, (60, 1280)), "labels": rows, "index": rows}
        assert archive["labels"][:5].tolist() == [7, 2, 1, 0, 4]
        assert json.loads(str(archive["meta"]))["split"] == "test"
    for method, setting in (
        ("pca", ()),
        ("tsne", ("perplexity=10",)),
        ("lle", ("n_neighbors=8", "reg=0.01")),
    ):
        out = tmp_path / f"{method}.npz"
        given = [f"--set={parameter}" for parameter in setting]
        code, said, err = jaxtl(
            "reduce", features, *words(f"--method {method} --seed 3"), *given, "--out", out
        )
        assert code == 0, err
        with np.load(out) as archive:
            assert (archive["coords"].dtype, archive["coords"].shape) == (np.float32, (60, 2))
        embedding = Embedding.load(out)
        assert said.startswith(f"{out}: {METHODS[method].label} by {LIBRARIES[embedding.backend]}; ")
        assert TOLD[method].label in said
        chosen = {"seed": 3} | {name: float(value) for name, value in (name.split("=") for name in setting)}
        assert chosen.items() <= embedding.params.items()
    assert jaxtl("plot", tmp_path / "pca.npz")[:2] == (0, f"{tmp_path / 'pca.png'}\n")
    assert (tmp_path / "pca.png").read_bytes().startswith(b"\x89PNG")
    assert jaxtl("plot", tmp_path / "tsne.npz", "--out", chart)[0] == 0
    assert chart.read_text().startswith("<?xml")


def test_weights_from_one_command_serve_the_next(jaxtl, few_digits, tmp_path):
    weights, history = tmp_path / "m.safetensors", tmp_path / "h.csv"
    common = ["--dataset", few_digits, *SMALL]
    training = words("--trainable none --epochs 2 --train-samples 64")
    code, out, err = jaxtl("finetune", *common, *training, "--out", weights, "--history", history)
    assert code == 0, err
    rows = load_history(history)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [line.split(":")[0] for line in out.splitlines()] == ["epoch 1", "epoch 2"]
    assert load_arrays(weights)[0].classes == 10
    code, _, err = jaxtl(
        "extract", *common, "--weights", weights, "--split", "train", "--out", tmp_path / "f.npz"
    )
    assert code == 0, err
    features = Features.load(tmp_path / "f.npz")
    assert features.values.shape == (70, 1280)
    assert features.meta["weights_digest"] == load_arrays(weights)[2]["tensor_digest"]
    assert features.meta["split"] == "train"


@pytest.mark.slow
def test_a_run_and_its_figures_again(jaxtl, few_digits, tmp_path, monkeypatch):
    """In a folder of the command's own choosing; the tables tell what the files hold."""
    monkeypatch.chdir(tmp_path)
    args = ["--dataset", few_digits, "--samples", "ALL", *SMALL, "--trainable", 2, "--epochs", 1]
    code, out, err = jaxtl("run", *args, "--methods", "pca, lle", "--no-layers")
    assert code == 0, err
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"Run folder: {folder.relative_to(tmp_path)}" in err.splitlines()
    shown = (LEAVE_ONE_OUT, *HISTORY_COLUMNS)
    for score in (score for score in load_scores(folder / "scores.csv") if score.metric in shown):
        assert f"{score.value:.{4 if score.space == 'model' else 3}f}" in out
    code, out, err = jaxtl("plot", folder, "--out", "again")
    assert code == 0, err
    figures = sorted((folder / "figures").iterdir())
    assert sorted(out.split()) == [str(Path("again") / figure.name) for figure in figures]
    for figure in figures:
        assert (tmp_path / "again" / figure.name).read_bytes() == figure.read_bytes()
    # Resumed, it has nothing left to do; a setting that it has is welcome, another one is not.
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert jaxtl("run", "--resume", folder, "--epochs", 1, "--methods", "pca,lle")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    code, _, err = jaxtl("run", "--resume", folder, "--epochs", 2)
    assert (code, err.count("\n")) == (2, 1)
    assert "epochs 1, not 2" in err


def test_each_run_gets_a_folder_of_its_own(monkeypatch, tmp_path):
    from jaxtl.runs.naming import fresh_folder, run_name
    from jaxtl.settings import RunConfig

    monkeypatch.chdir(tmp_path)
    digests = []
    for config in (RunConfig(), RunConfig(), RunConfig(dataset="tfds:emnist/letters", samples=None)):
        digests.append(fresh_folder(run_name(config)))
        digests[-1].mkdir(parents=True)
    assert [str(digest) for digest in digests] == [
        "runs/mnist-2000",
        "runs/mnist-2000-2",
        "runs/tfds-emnist-letters-all",
    ]


def test_a_path_is_shown_in_one_piece_and_as_it_is(capsys):
    from jaxtl.cli.screen import observer

    path = Path("[red]" + "long " * 40 + "[/b]")
    observer().path("Run folder", path)
    assert capsys.readouterr().err == f"Run folder: {path}\n"


def test_a_map_without_an_accuracy_is_drawn_all_the_same(jaxtl, tmp_path):
    labels = np.zeros(5, np.int32)
    np.savez(tmp_path / "e.npz", coords=np.eye(5, 2), labels=labels, index=labels)
    code, out, err = jaxtl("plot", tmp_path / "e.npz")
    assert (code, out) == (0, f"{tmp_path / 'e.png'}\n")
    assert err.startswith("drawn without its 10-NN accuracy, leave one out: neighbours")


TUNE = "finetune --dataset {few} --image-size 32 --out {new}.safetensors "


EXTRACT = "extract --dataset {few} --image-size 32 --out {new}.npz "


BAD = [
    ("rum", "No such command 'rum'"),
    ("--sampels 3", "No such option"),
    (RUN + "--sampels 3", "--sampels"),
    (RUN + "extra", "unexpected extra argument"),
    (RUN + "--dataset mnits", "unknown dataset 'mnits'; known are mnist"),
    (RUN + "--dataset idx:{files}/empty", "{files}/empty: has neither"),
    (RUN + "--dataset folder:{files}/empty", "{files}/empty: holds no images and has no class folders"),
    (RUN + "--samples 0", "'0' is neither a whole number from 1 to 1,000,000,000 nor all"),
    (RUN + "--samples -1", "'-1' is neither"),
    (RUN + "--samples abc", "'abc' is neither"),
    (RUN + "--samples ²", "'²' is neither"),
    (RUN + "--samples 1.5", "'1.5' is neither"),
    (RUN + "--samples 11", "11 images, and a run looks at no fewer than 13; give more --samples"),
    (RUN + "--perplexity nan", "'nan' is not a number above 0"),
    (RUN + "--perplexity 5 --n-neighbors 60", "lle: n_neighbors 60 needs more than 60 rows"),
    (RUN + "--perplexity 5 --n-neighbors 2", "lle: n_neighbors must be"),
    (RUN + "--epochs 0", "'--epochs': '0' is not a whole number from 1 to 1,000,000"),
    (RUN + "--epochs 1.5", "'1.5' is not a whole number"),
    (RUN + "--batch-size 0", "'--batch-size': '0' is not a whole number from 1"),
    *(
        (RUN + f"--learning-rate {rate}", f"'--learning-rate': '{rate}' is not a number from 1e-30")
        for rate in ("nan", "inf", "0", "-1")
    ),
    (RUN + "--learning-rate fast", "'fast' is not a number from 1e-30"),
    (RUN + "--image-size 8", "'--image-size': '8' is not a whole number from 32 to 1024"),
    (RUN + "--image-size 9999999", "'9999999' is not a whole number from 32 to 1024"),
    (RUN + "--preprocessing caffe", "'caffe' is not one of 'unit', 'keras'"),
    (RUN + "--methods umap", "got umap; the methods are pca, tsne, lle"),
    (RUN + "--methods ,", "'--methods': ',' names none"),
    (RUN + "--trainable block_99", "no layer 'block_99'"),
    (RUN + "--trainable 500", "154 layers"),
    (RUN + "--seed -1", "'-1' is not a whole number from 0"),
    (RUN + "--weights {files}/text.safetensors", "text.safetensors: not a whole safetensors file"),
    (RUN + "--weights {new}", "no such file"),
    (
        RUN + "--out {files}/file/run --perplexity 5",
        "{files}/file/run/config.json: Not a directory; give another",
    ),
    (RUN + "--out {files}/file", "is a file"),
    (RUN + "--out {files} --perplexity 5", "{files}: holds files already (it is no run folder)"),
    (RUN + "--out /proc/jaxtl --perplexity 5", "/proc/jaxtl: No folder can be made here; give another"),
    (RUN + "--resume {new}", "leave out --out"),
    ("run --resume {new}", "{new}: no run folder (it has no config.json); start one with --out"),
    ("run --resume {files}", "{files}: no run folder"),
    ("run --resume {files}/file", "is a file"),
    (TUNE + "--learning-rate nan", "'nan' is not a number from 1e-30"),
    (TUNE + "--seed 4294967296", "is not a whole number from 0 to 4,294,967,295"),
    (TUNE + "--trainable 500", "154 layers"),
    (TUNE + "--out {new}.h5", "must end in .safetensors"),
    (
        TUNE + "--out {files}/file/m.safetensors",
        "{files}/file/m.safetensors: Not a directory; give another path",
    ),
    (TUNE + "--history {files}/file/h.csv", "{files}/file/h.csv: Not a directory; give another path"),
    (TUNE + "--weights {files}/text.safetensors", "not a whole safetensors file"),
    (EXTRACT + "--split val", "'val' is not one of"),
    (EXTRACT + "--batch-size 0", "'0' is not a whole number from 1"),
    (EXTRACT + "--out {new}", "must end in .npz"),
    (EXTRACT + "--out {files}/empty", "must end in .npz, .npy or .shards"),
    (EXTRACT + "--out {files}/file/f.npz", "{files}/file/f.npz: Not a directory; give another path"),
    (EXTRACT + "--out /proc/jaxtl/f.npz", "/proc/jaxtl: No folder can be made here; "),
    ("extract", "Missing option '--out'"),
    (REDUCE + "--method umap", "'umap' is not one of"),
    (REDUCE + "--backend cuda", "pca has no backend 'cuda'"),
    (
        REDUCE + "--set perplexity=5",
        "--set perplexity: pca has no such parameter; it has svd_solver, n_components, seed",
    ),
    *(
        (REDUCE + f"--set {name}=1", f"--set {name}: pca has no such")
        for name in ("progress", "features", "method")
    ),
    (REDUCE + "--set perplexity", "--set perplexity: must be NAME=VALUE"),
    (REDUCE + "--set svd_solver=5", "svd_solver must be one of"),
    (REDUCE + "--method tsne", "tsne: perplexity 30 needs 91 rows, the features have 40"),
    (REDUCE + "--method tsne --set perplexity=many", "perplexity must be a number"),
    (REDUCE + "--method lle --set n_neighbors=40", "n_neighbors 40 needs more than 40 rows"),
    (REDUCE + "--out {files}/file/e.npz", "{files}/file/e.npz: Not a directory; give another path"),
    ("reduce --method pca --out {new}.npz", "Missing argument"),
    *(
        (f"reduce {{files}}/{name}.npz --method pca --out {{new}}.npz", text)
        for name, text in {
            "nowhere": "nowhere.npz: no such file",
            "text": "text.npz: not a readable .npz file",
            "truncated": "truncated.npz: not a readable .npz file",
            "alone": "alone.npz: a single .npy array",
            "pickled": "pickled.npz: not a readable .npz file (array values: it holds Python objects",
            "nan": "1 NaN or infinite values in 1 of 40 rows, the first in row 7",
            "one_row": "a map needs at least 3 rows",
            "flat": "rows of the features are equal",
        }.items()
    ),
    ("plot {new}.npz", "no such file"),
    ("plot {files}/text.npz", "not a readable .npz file"),
    ("plot {files}/good.npz", "good.npz: has no array coords"),
    ("plot {files}/empty", "no run folder"),
]


@pytest.mark.parametrize(("command", "expected"), BAD, ids=[command for command, _ in BAD])
def test_a_mistake_gets_one_line_before_any_work(
    jaxtl, monkeypatch, few_digits, files, tmp_path, command, expected
):
    def work(*args, **kwargs):
        raise AssertionError("work was begun")

    for name in (
        "jaxtl.network.extraction.run_layers",
        "jaxtl.network.trunk.run_layers",
        "jaxtl.network.finetuning.Trainer",
    ):
        monkeypatch.setattr(name, work)
    names = {"few": few_digits, "files": files, "new": tmp_path / "new"}
    before = sorted(files.rglob("*"))
    code, out, err = jaxtl(*words(command, **names))
    lines = [line for line in err.splitlines() if not line.startswith("✓")]
    assert (code, out, len(lines)) == (2, "", 1), err
    assert lines[0].startswith("jaxtl: ")
    assert expected.format(**names) in lines[0]
    assert sorted(files.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


def test_as_a_process_too_there_is_one_line_and_no_traceback(launch):
    process = launch("run", "--dataset", "mnits")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err == (
        "jaxtl: unknown dataset 'mnits'; known are mnist, idx:FOLDER, tfds:NAME, folder:PATH, infinite:N, "
        "csv:FILE, parquet:FILE, arrays:FILE.npz, hf:FOLDER, and paths to what exists\n"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), "out of memory; take fewer --samples"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), "out of memory; take fewer"),
        (RuntimeError("Unable to initialize backend 'cuda': no GPU\n(more)"), "change JAX_PLATFORMS"),
        (OSError("1310720 requested and 0 written"), "1310720 requested and 0 written"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x"),
            "/x: Permission denied; give another path",
        ),
    ],
)
def test_what_a_machine_lacks_is_said_in_one_line(jaxtl, monkeypatch, files, tmp_path, error, expected):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("jaxtl.reduction.reduce", fail)
    code, out, err = jaxtl(*words(REDUCE, files=files, new=tmp_path / "new"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert expected in err


def test_a_fault_of_its_own_is_not_hidden(jaxtl, monkeypatch, files, tmp_path):
    def fail(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr("jaxtl.reduction.reduce", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        jaxtl(*words(REDUCE, files=files, new=tmp_path / "new"))
