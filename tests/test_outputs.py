"""What a command would write over is refused before its work, and what it cannot write too."""

import os
import shutil

import pytest

from jaxtl.models.weights import imagenet_path
from jaxtl.records.paths import check_outputs, is_within, same
from tests.command_lines import words

# What each command names as an output although it is something else: an input, another output, a run's file.
LOST = {
    "reduce {mine}/f.npz --method pca --out {mine}/f.npz": "--out {mine}/f.npz: is the features too",
    "reduce {mine}/link.npz --method pca --out {mine}/f.npz": "is the features too",
    "reduce {mine}/f.npz --method pca --out {mine}/hard.npz": "is the features too",
    "reduce {mine}/f.npz --method pca --out {mine}/../mine/f.npz": "is the features too",
    "reduce {mine}/f.npz --method pca --onto {mine}/e.npz --out {mine}/e.npz": "is --onto too",
    "reduce {mine}/s.npy --method pca --out {mine}/s.rows.npz": "is the features' labels too",
    "reduce {mine}/f.npz --method pca --out {run}/features/before.npz": "is a file of the run {run}",
    "reduce {mine}/f.npz --method pca --out {run}/embeddings/after_tsne.npz": "is a file of the run {run}",
    "reduce {mine}/f.npz --method pca --neighbors {mine}/e.npz --out {mine}/e.npz": "is --neighbors too",
    "neighbors {mine}/f.npz --out {mine}/f.npz": "is the features too",
    "neighbors {mine}/s.npy --out {mine}/s.rows.npz": "is the features' labels too",
    "extract --dataset {mine}/f.npz --out {mine}/f.npz": "is --dataset too",
    "extract --dataset {images} --out {images}/f.npz": "lies in the folder of --dataset",
    "extract --dataset {images} --out {images}/cat/f.npy": "lies in the folder of --dataset",
    "extract --dataset {few} --out {run}/measures.npz": "is a file of the run {run}",
    "finetune --dataset {few} --out {mine}/m.safetensors --history {mine}/m.safetensors": "is --out too",
    "finetune --dataset {few} --out {mine}/m.safetensors --history {mine}/M.safetensors": "is --out too",
    "finetune --dataset {few} --weights {mine}/w.safetensors --out {mine}/w.safetensors": "is --weights too",
    "finetune --dataset {few} --out {bundled}": "is --weights too",
    "finetune --dataset {few} --out {mine}/m.safetensors --history {run}/history.csv": "is a file of the run",
    "finetune --dataset {few} --out {mine}/m.safetensors --history {mine}/m.checkpoint.npz": "--history too",
    "plot {mine}/e.npz --out {mine}/e.npz": "cannot write a figure as .npz",
    "plot {mine}/e.png --out {mine}/e.png": "is the embedding too",
    "plot {mine}/e.npz --out {run}/figures/before.png": "is a file of the run",
    "plot {run} --out {other}/figures": "is a file of the run {other}",
    "report {run} --out {other}/report.html": "is a file of the run {other}",
    "export {run} --to csv --out {run}/scores.csv": "is a file of the run",
    "export {run} --to torch --out {run}/model.safetensors": "is a file of the run",
    "export {run} --to tensorboard --out {run}/features": "is a folder of the run's own files",
    "export {mine}/w.safetensors --to torch --image-size 32 --out {mine}/w.safetensors": "is the network to",
    "compare {mine}/f.npz {mine}/f.npz --out {new}": "is {mine}/f.npz too; give two files",
    "compare {mine}/f.npz {mine}/link.npz --out {new}": "too; give two files",
    "run --dataset {images} --out {images}/run": "lies in the folder of --dataset",
    "scale --dataset {images} --out {images}/study": "lies in the folder of --dataset",
}
# Places that nothing can be written to.
NOWHERE = {
    "reduce {mine}/f.npz --method pca --out {mine}/f.npz/e.npz": "Not a directory",
    "neighbors {mine}/f.npz --out {mine}/f.npz/n.npz": "Not a directory",
    "extract --dataset {few} --out /proc/jaxtl/f.npz": "/proc/jaxtl: No folder can be made",
    "finetune --dataset {few} --out {mine}/m.safetensors --history /proc/jaxtl/h.csv": "/proc/jaxtl: No ",
    "plot {mine}/e.npz --out /proc/jaxtl/e.png": "/proc/jaxtl: No folder can be made",
    "plot {run} --out /proc/jaxtl": "/proc/jaxtl: No folder can be made",
    "report {run} --out /proc/jaxtl/r.html": "/proc/jaxtl: No folder can be made",
    "export {run} --to csv --out /proc/jaxtl/r.csv": "/proc/jaxtl: No folder can be made",
    "export {run} --to tensorboard --out /proc/jaxtl/r": "/proc/jaxtl/r",
    "compare {mine}/f.npz {mine}/e.npz --out /proc/jaxtl/r": "/proc/jaxtl/r",
    "run --dataset {few} --out /proc/jaxtl/r": "/proc/jaxtl/r",
    "scale --dataset {few} --out /proc/jaxtl/r": "/proc/jaxtl/r",
}


@pytest.fixture(scope="module")
def names(tmp_path_factory, few_digits):
    base = tmp_path_factory.mktemp("outputs")
    mine, images = base / "mine", base / "images"
    mine.mkdir()
    for name in ("f.npz", "e.npz", "e.png", "s.npy", "s.rows.npz", "w.safetensors"):
        (mine / name).write_text(f"my {name}")
    (mine / "link.npz").symlink_to(mine / "f.npz")
    os.link(mine / "f.npz", mine / "hard.npz")
    for name in ("cat", "dog"):
        (images / name).mkdir(parents=True)
        (images / name / "a.png").write_text("no picture")
    for name in ("run", "other"):
        (base / name).mkdir()
        (base / name / "config.json").write_text("{}")
    folders = {name: base / name for name in ("run", "other")}
    copy = base / imagenet_path().name
    return {
        "mine": mine,
        "images": images,
        "few": few_digits,
        "new": base / "new",
        "bundled": copy,
        **folders,
    }


def stand(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("command", [*LOST, *NOWHERE])
def test_nothing_is_lost_and_nothing_begun(jaxtl, names, monkeypatch, command):
    def work(*args, **kwargs):
        raise AssertionError("work was begun")

    for place in ("jaxtl.data.load", "jaxtl.models.weights.load_model", "jaxtl.machine.devices.configure"):
        monkeypatch.setattr(place, work)
    # Were it not refused, only a copy would be lost.
    monkeypatch.setattr("jaxtl.models.weights.imagenet_path", lambda: names["bundled"])
    base = names["mine"].parent
    before = stand(base)
    code, out, err = jaxtl(*words(command, **names))
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert (LOST | NOWHERE)[command].format(**names) in err
    assert stand(base) == before


def test_the_figures_and_the_page_of_a_run_may_be_made_again(names):
    from jaxtl.cli.options import check_outputs as check

    page = names["run"] / "report.html"
    check([("--out", page)], but=page)
    assert not page.exists()


def test_where_a_run_goes_by_itself_is_looked_at_too(jaxtl, names, monkeypatch):
    monkeypatch.chdir(names["images"])
    code, _, err = jaxtl("run", "--dataset", ".")
    assert (code, err.count("\n")) == (2, 1)
    assert "--out runs/folder-images-2000/config.json: lies in the folder of --dataset" in err


def test_paths_are_told_apart_through_links_and_case(tmp_path):
    (tmp_path / "a").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "way").symlink_to(tmp_path / "folder")
    assert same(tmp_path / "a", tmp_path / "link")
    assert same(tmp_path / "new", tmp_path / "folder" / ".." / "NEW")
    assert not same(tmp_path / "a", tmp_path / "b")
    # A disk that tells them apart has one of them and not the other.
    assert same(tmp_path / "a", tmp_path / "A") == (tmp_path / "A").exists()
    assert is_within(tmp_path / "way" / "x", tmp_path / "folder")
    assert not is_within(tmp_path / "x", tmp_path / "folder")


def test_a_trial_leaves_no_folders(tmp_path):
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    check_outputs([("--out", tmp_path / "x" / "y" / "z.npz")])
    assert not list(tmp_path.iterdir())


def test_what_memory_cannot_hold_is_not_read(jaxtl, files, monkeypatch, tmp_path):
    monkeypatch.setattr("jaxtl.records.paths.available_memory", lambda: 100)
    code, _, err = jaxtl("reduce", files / "good.npz", "--method", "pca", "--out", tmp_path / "e.npz")
    assert (code, err.count("\n")) == (2, 1)
    assert "good.npz: holds 0 MiB, and 0 MiB of memory are free" in err
