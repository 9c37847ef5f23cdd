"""What only has the name of a file is not waited for, followed or replaced: pipes, devices, links."""

import os
import shutil

import numpy as np
import pytest

import jaxtl
from jaxtl.data.feature_files import read_features, read_labels
from jaxtl.data.parquet import read_parquet
from jaxtl.errors import JaxtlError
from jaxtl.machine.log import Logged
from jaxtl.models.weights import load_arrays
from jaxtl.progress import Silent
from jaxtl.records import store, tables
from jaxtl.records.files import leftovers, read_json_object, write_text
from jaxtl.runs.lock import Hold
from tests.faults.kept_files import KEPT
from tests.faults.outcomes import check_line, no_longer_than
from tests.faults.strangers import encoded
from tests.faults.swaps import SWAPS, pipe

READERS = {
    "features": ("f.npz", jaxtl.Features.load),
    "array": ("f.npy", read_features),
    "store": ("f.npy", store.load),
    "given": ("f.npz", read_features),
    "parquet": ("f.parquet", read_parquet),
    "json": ("f.json", read_json_object),
    "table": ("f.csv", tables.load_scores),
    "images": ("f.csv", tables.load_images),
    "weights": ("f.safetensors", load_arrays),
    "labels": ("f.npy", read_labels),
}


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("name", READERS)
def test_who_reads_a_file_takes_nothing_else(tmp_path, name, swap):
    suffix, read = READERS[name]
    if name == "parquet":
        pytest.importorskip("pyarrow")
    SWAPS[swap](tmp_path / suffix)
    with no_longer_than(10), pytest.raises(JaxtlError) as refusal:
        read(tmp_path / suffix)
    check_line(str(refusal.value))
    assert str(tmp_path) in str(refusal.value)


def test_labels_come_through_a_shell_s_pipe_too(tmp_path):
    # As <(cut -f2 table) is one.
    source, sink = os.pipe()
    os.write(sink, b"a\nb\n")
    os.close(sink)
    with no_longer_than(10):
        assert read_labels(f"/dev/fd/{source}").labels.tolist() == ["a", "b"]
    os.close(source)
    for swap in SWAPS:
        SWAPS[swap](tmp_path / swap)
        for read in (read_labels, tables.read_columns):
            with no_longer_than(10), pytest.raises(JaxtlError, match=r"give a"):
                read(tmp_path / swap)


@pytest.mark.parametrize("swap", SWAPS)
def test_a_store_of_many_files_lacks_what_is_none(tmp_path, swap):
    way = next(way for way in KEPT if way.name == "shards")
    way.make(tmp_path)
    SWAPS[swap](tmp_path / "f.shards" / "00001.f32")
    with no_longer_than(10), pytest.raises(JaxtlError, match=r"is not whole, 2 of 3 files are there"):
        way.read(tmp_path)


@pytest.mark.parametrize("swap", SWAPS)
def test_what_lies_among_images_and_is_none_is_told(tmp_path, swap):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.png").write_bytes(encoded("PNG", np.zeros((4, 4, 3), np.uint8)))
    SWAPS[swap](tmp_path / "a" / "2.png")
    (tmp_path / "t.csv").write_text("path,label\na/0.png,a\na/1.png,a\na/2.png,a\nb/0.png,b\nb/1.png,b\n")
    with no_longer_than(20):
        for name in (f"folder:{tmp_path}", f"csv:{tmp_path / 't.csv'}"):
            left_out = [
                image
                for split in ("train", "test")
                for image in jaxtl.load(name, split, image_size=4, skip_bad=True).origin["left_out"]
            ]
            # A folder of that name is looked into, where folders are.
            expected = [] if swap == "folder" and name.startswith("folder") else ["a/2.png"]
            assert [image["id"] for image in left_out] == expected


def test_folders_whose_links_lead_to_each_other_are_walked_once(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(2):
            (tmp_path / name / f"{number}.png").write_bytes(encoded("PNG", np.zeros((4, 4, 3), np.uint8)))
    # In every order there would be 10^13 ways.
    rooms = [tmp_path / "a" / f"room{k}" for k in range(16)]
    for room in rooms:
        room.mkdir()
        for other in rooms:
            (room / other.name).symlink_to(other)
    with no_longer_than(20):
        sets = [jaxtl.load(f"folder:{tmp_path}", split, image_size=4) for split in ("train", "test")]
    assert sum(map(len, sets)) == 4


@pytest.mark.slow
def test_folders_deeper_than_python_calls_itself(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(2):
            (tmp_path / name / f"{number}.png").write_bytes(encoded("PNG", np.zeros((4, 4, 3), np.uint8)))
    deep = [tmp_path / "a"]
    for _ in range(1500):
        deep.append(deep[-1] / "d")
        deep[-1].mkdir()
    (deep[-1] / "x.png").write_bytes(encoded("PNG", np.zeros((4, 4, 3), np.uint8)))
    sets = [jaxtl.load(f"folder:{tmp_path}", split, image_size=4) for split in ("train", "test")]
    assert sum(map(len, sets)) == 5
    # Nor does pytest get it away.
    (deep[-1] / "x.png").unlink()
    for folder in reversed(deep[1:]):
        folder.rmdir()


# What each command reads, of which nobody has one under such a name.
READ = {
    **{f"{verb} RUN": f"{verb} {{odd}}" for verb in ("show", "check", "score", "layers", "report", "plot")},
    "resume": "run --resume {odd}",
    "resume a sweep": "sweep --resume {odd}",
    "forecast": "scale --out {odd} --forecast 1000",
    "two runs": "report {few_run} {odd} --out {out}.html",
    "table": "export {odd} --to csv --out {out}.csv",
    "network": "export {odd} --to onnx --out {out}.onnx",
    "reduce": "reduce {odd} --method pca --out {out}.npz",
    "onto": "reduce {files}/good.npz --method pca --onto {odd} --out {out}.npz",
    "neighbors": "neighbors {odd} --out {out}.npz",
    "before": "compare {odd} {files}/good.npz --out {out}",
    "after": "compare {files}/good.npz {odd} --out {out}",
    "dataset": "extract --dataset {odd} --out {out}.npz",
    "weights": "finetune --weights {odd} --out {out}.safetensors",
}
ODD = (
    "/dev/null",
    "/dev/stdin",
    "{tmp}/pipe",
    "{tmp}/folder",
    "{tmp}/file",
    "-",
    "a\nb",
    "~nobody",
    "x" * 5000,
)


@pytest.mark.parametrize("name", READ)
def test_what_is_none_of_what_a_command_reads_is_told_in_a_line(
    name, few_run, files, tmp_path, jaxtl, monkeypatch
):
    pipe(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    monkeypatch.chdir(tmp_path)
    given = {"few_run": few_run, "files": files, "out": tmp_path / "out"}
    for odd in ODD:
        odd = odd.format(tmp=tmp_path)
        with no_longer_than(20):
            code, printed, said = jaxtl(*(word.format(odd=odd, **given) for word in READ[name].split()))
        assert (code, printed) == (2, ""), (odd, said)
        assert said.startswith("jaxtl: ")
        check_line(said.removesuffix("\n"))
        assert len(said) < 700, said
        # No file is made of it, and nobody is sent to make a run where none can be.
        assert "--out /dev/" not in said
        assert "report.html" not in said
        assert {path.name for path in tmp_path.iterdir()} == {"pipe", "folder", "file"}


# What is written.


@pytest.mark.parametrize("swap", ["folder", "pipe", "endless"])
def test_no_file_takes_the_place_of_what_is_none(tmp_path, swap):
    SWAPS[swap](tmp_path / "out.txt")
    with no_longer_than(10), pytest.raises(OSError, match=r"out\.txt"):
        write_text(tmp_path / "out.txt", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]
    assert not (tmp_path / "out.txt").is_file()


def test_standard_output_is_no_place_for_a_file(tmp_path):
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    with pytest.raises(OSError, match="the open file of a process"):
        write_text(tmp_path / "stdout", "x")
    assert (tmp_path / "stdout").is_symlink()


def test_a_file_whose_name_is_as_long_as_names_can_be(tmp_path):
    for name in ("x" * 251 + ".txt", "é" * 125 + ".txt"):
        write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_name_that_is_too_long_is_told_before_any_work(tmp_path, files, jaxtl, monkeypatch):
    monkeypatch.setattr("jaxtl.reduction.reduce", None)
    out = tmp_path / f"{'x' * 252}.npz"
    code, _, said = jaxtl("reduce", files / "good.npz", "--method", "pca", "--out", out)
    assert (code, said) == (2, f"jaxtl: {out}: File name too long; give another path\n")
    # That of the checkpoint beside it, too.
    code, _, said = jaxtl("finetune", "--out", tmp_path / f"{'x' * 243}.safetensors")
    assert (code, "checkpoint.npz: File name too long" in said) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_a_pattern_finds_no_leftovers_of_others(tmp_path):
    (tmp_path / ".other-0123abcd.npy").touch()
    (tmp_path / ".e[1]-0123abcd.npy").touch()
    assert leftovers(tmp_path / "*.npy") == []
    assert leftovers(tmp_path / "e[1].npy") == [tmp_path / ".e[1]-0123abcd.npy"]


def test_a_lock_that_is_a_link_harms_nothing(tmp_path):
    (tmp_path / "mine").write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    (run / ".jaxtl-lock").symlink_to(tmp_path / "mine")
    with pytest.raises(JaxtlError, match=r"\.jaxtl-lock: is a link, which no jaxtl made; delete it"):
        Hold(run)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_log_that_is_a_link_or_a_pipe_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "link.txt").symlink_to(tmp_path / "mine")
    pipe(tmp_path / "pipe.txt")
    for name in ("link.txt", "pipe.txt"):
        log = Logged(Silent(), tmp_path / name)
        with no_longer_than(10), log.opened():
            log.notify("echo")
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("home", [None, "/", "", "/home/me"])
def test_who_has_no_home_keeps_a_log_too(tmp_path, monkeypatch, home):
    """As the users of containers, of whom nothing is known but a number."""
    if home is None:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    else:
        monkeypatch.setenv("HOME", home)
    log = Logged(Silent(), tmp_path / "log.txt")
    with log.opened():
        log.notify("wrote /home/me/run and a/b")
    told = "wrote ~/run and a/b" if home == "/home/me" else "wrote /home/me/run and a/b"
    assert told in (tmp_path / "log.txt").read_text()


def test_weights_of_a_home_that_is_nobody_s(jaxtl, few_digits, tmp_path):
    code, _, said = jaxtl(
        "run", "--dataset", few_digits, "--weights", "~nobody-at-all/w", "--out", tmp_path / "r"
    )
    assert (code, said) == (2, "jaxtl: ~nobody-at-all/w: no such file\n")


def test_links_out_of_a_run_are_not_walked(few_run, tmp_path, jaxtl):
    run = shutil.copytree(few_run, tmp_path / "run")
    (run / "elsewhere").symlink_to("/usr")
    code, out, _ = jaxtl("check", run)
    assert code == 0
    assert "elsewhere: is no file of the run" in out
    assert "usr" not in out
    features = shutil.move(run / "features", tmp_path / "features")
    (run / "features").symlink_to(features)
    code, out, _ = jaxtl("check", run)
    assert (code, "features/before.npz: ok" in out) == (0, True)
