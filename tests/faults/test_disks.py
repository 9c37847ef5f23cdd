"""Disks that are full, read-only or not one's own: one line, nothing lost, and a run goes on from it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxtl.runs import check
from tests.faults.damaged_runs import Tally
from tests.run_files import stamps

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
# What is written of one file, into a folder that has others.
WRITERS = {
    "reduce": ["reduce", "{files}/good.npz", "--method", "pca", "--out", "{out}/e.npz"],
    "export": ["export", "{run}", "--to", "csv", "--out", "{out}/t.csv"],
    "plot": ["plot", "{run}/embeddings/after_pca.npz", "--out", "{out}/p.png"],
    "plot pdf": ["plot", "{run}/embeddings/after_pca.npz", "--out", "{out}/p.pdf"],
    "export parquet": ["export", "{run}", "--to", "parquet", "--out", "{out}/t.parquet"],
    "report": ["report", "{run}", "--out", "{out}/r.html"],
    "compare": [
        "compare",
        "{files}/good.npz",
        "{files}/no_labels.npz",
        "--out",
        "{out}/run",
        "--methods",
        "pca",
    ],
    "projector": ["export", "{run}", "--to", "tensorboard", "--out", "{out}/projector"],
    "figures": ["plot", "{run}", "--out", "{out}/figures"],
    "neighbors": ["neighbors", "{files}/good.npz", "--n-neighbors", "5", "--out", "{out}/n.npz"],
    "extract": ["extract", "--dataset", "{few}", "--image-size", "32", "--out", "{out}/f.npy"],
    "shards": ["extract", "--dataset", "{few}", "--image-size", "32", "--out", "{out}/f.shards"],
    "finetune": [
        *("finetune", "--dataset", "{few}", "--image-size", "32", "--trainable", "none", "--epochs", "1"),
        *("--out", "{out}/m.safetensors", "--history", "{out}/h.csv"),
    ],
    "run": ["run", "--dataset", "{few}", "--image-size", "32", "--out", "{out}/run"],
    "sweep": ["sweep", "--dataset", "{few}", "--image-size", "32", "--out", "{out}/sweep"],
    "scale": ["scale", "--dataset", "{few}", "--out", "{out}/study", "--sizes", "40", "--methods", "pca"],
}
QUICK = ("reduce", "export", "plot", "plot pdf")
READERS = (["show", "{run}"], ["check", "{run}"], ["export", "{run}", "--to", "csv", "--out", "{tmp}/t.csv"])
# What works in the run's own folder.
WORKERS = (["plot", "{run}"], ["report", "{run}"], ["score", "{run}"], ["check", "{run}", "--accept"])


class Disk:
    """A file system of its own, of so many bytes."""

    def __init__(self, path):
        self.path = path

    def become(self, size, how="rw"):
        done = subprocess.run(
            ["mount", "-o", f"remount,size={size},{how}", self.path], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    @property
    def names(self):
        return {path.relative_to(self.path).as_posix() for path in self.path.rglob("*")}


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", path], capture_output=True)
    if made.returncode:
        pytest.skip("no file system may be mounted here")
    yield Disk(path)
    subprocess.run(["umount", "-l", path], check=True)


def told(said, folder):
    """Whether an error's last line is jaxtl's one, and names a file of the folder."""
    lines = [line for line in said.splitlines() if line.startswith("jaxtl: ")]
    return len(lines) == 1 and said.splitlines()[-1] == lines[0] and str(folder) in lines[0]


def filled(disk):
    """Fill a disk to the last byte."""
    with (disk.path / "filler").open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(4096)):
                pass
        except OSError:
            pass


@pytest.mark.parametrize(
    "name",
    [
        *QUICK,
        *(pytest.param(name, marks=pytest.mark.slow) for name in WRITERS if name not in QUICK),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(name, disk, few_run, few_digits, files, jaxtl):
    disk.become("64k")
    filled(disk)
    words = [word.format(files=files, run=few_run, out=disk.path, few=few_digits) for word in WRITERS[name]]
    code, _, said = jaxtl(*words)
    assert code == 2
    assert told(said, disk.path), said
    # A study asks for room beforehand.
    assert "No space left on device" in said or "free some space" in said
    assert not {name for name in disk.names if Path(name).name.startswith(".")}


def goes_on(disk, size, config, whole, contents, jaxtl, tally):
    """A run on a disk of so many bytes, and on a larger one."""
    folder = disk.path / "run"
    disk.become(size)
    names = ("dataset", "image_size", "trainable", "epochs")
    settings = [word for n in names for word in (f"--{n.replace('_', '-')}", getattr(config, n))]
    code, _, said = jaxtl(
        "run", *settings, "--samples", "all", "--methods", "pca", "--no-layers", "--out", folder
    )
    fine = code == 0 or (code == 2 and told(said, folder) and "No space left" in said)
    disk.become("64m")
    begun = (folder / "config.json").exists()
    # Where not even the settings had room, it begins.
    again = (
        ["--resume", folder]
        if begun
        else [*settings, "--samples", "all", "--methods", "pca", "--no-layers", "--out", folder]
    )
    code, _, later = jaxtl("run", *again)
    same = code == 0 and contents(folder) == contents(whole)
    well = same and all(standing.is_fine for standing in check.look(folder))
    tally.note(
        "went on to the same bytes" if fine and well else "failed", f"{size}: {said[-300:]} | {later[-300:]}"
    )
    shutil.rmtree(folder)


@pytest.mark.slow
def test_a_run_goes_on_from_a_disk_of_any_size(disk, few_config, few_run, contents, jaxtl, without_figures):
    tally = Tally()
    with without_figures():
        for kib in (4, 8, 16, 32, 64, 256, 700, 1200, 1800, 2000, 3000, 6000, 9000, 10_000, 11_000, 12_000):
            goes_on(disk, f"{kib}k", few_config, few_run, contents, jaxtl, tally)
    tally.close("Full disks")


@pytest.mark.slow
def test_what_works_in_a_run_on_a_full_disk_loses_nothing(disk, few_run, contents, jaxtl, without_figures):
    tally = Tally()
    for words in WORKERS:
        run = Path(shutil.copytree(few_run, disk.path / "run"))
        filled(disk)
        with without_figures():
            code, _, said = jaxtl(*(word.format(run=run) for word in words))
            fine = code == 0 or (code == 2 and told(said, run) and "No space left" in said)
            (disk.path / "filler").unlink()
            again, _, later = jaxtl("run", "--resume", run)
        # What was drawn again is drawn, and the others of `few_run` are blank.
        same = {n: held for n, held in contents(run).items() if not n.startswith("figures/")}
        whole = {n: held for n, held in contents(few_run).items() if not n.startswith("figures/")}
        well = again == 0 and same == whole and all(standing.is_fine for standing in check.look(run))
        tally.note("went on" if fine and well else "failed", f"{words}: {said[-300:]} | {later[-300:]}")
        shutil.rmtree(run)
    tally.close("Work in a run on a full disk")


def test_a_disk_that_may_only_be_read(disk, few_run, jaxtl, tmp_path):
    run = Path(shutil.copytree(few_run, disk.path / "run"))
    disk.become("64m", "ro")
    before = stamps(run)
    for words in READERS:
        assert jaxtl(*(word.format(run=run, tmp=tmp_path) for word in words))[0] == 0
    for words in WORKERS:
        code, _, said = jaxtl(*(word.format(run=run) for word in words))
        # To take what is right already is nothing to be written.
        assert code == 2 or words[0] == "check"
        assert code == 0 or told(said, run), said
    code, _, said = jaxtl("run", "--resume", run)
    assert code == 0 or told(said, run), said
    assert stamps(run) == before


@pytest.mark.slow
def test_folders_that_are_not_one_s_own(few_run, files, tmp_path):
    """By a process without the rights of root over other people's files."""
    dropped = [
        "setpriv",
        "--inh-caps=-dac_override,-dac_read_search",
        "--bounding-set=-dac_override,-dac_read_search",
    ]
    before = dropped if os.geteuid() == 0 else []
    if before and not shutil.which("setpriv"):
        pytest.skip("root cannot give away its rights here")
    tally = Tally()
    run = Path(shutil.copytree(few_run, tmp_path / "run"))
    out = tmp_path / "out"
    out.mkdir()
    for kind, folders, inside in (
        ("read-only", 0o555, 0o444),
        ("unreadable", 0o555, 0o000),
        ("closed", 0o000, 0o444),
    ):
        close(run, folders, inside)
        out.chmod(folders)
        commands = [
            *READERS,
            *WORKERS,
            ["run", "--resume", "{run}"],
            *(WRITERS[name] for name in ("reduce", "export", "plot")),
        ]
        for words in commands:
            given = [word.format(run=run, tmp=tmp_path, out=out, files=files) for word in words]
            ended = subprocess.run(
                [*before, sys.executable, "-m", "jaxtl", *given], capture_output=True, text=True
            )
            fine = ended.returncode in (0, 1, 2) and "Traceback" not in ended.stderr
            refused = ended.returncode != 2 or (told(ended.stderr, run) or told(ended.stderr, out))
            kind_of = "answered" if ended.returncode in (0, 1) else "refused"
            tally.note(kind_of if fine and refused else "failed", f"{kind} {words}: {ended.stderr[-400:]}")
        close(run, 0o755, 0o644)
        out.chmod(0o755)
    tally.close("Folders that are not one's own")


def close(run, folders, inside):
    """Set the rights of a folder, and of what is in it."""
    run.chmod(0o755)
    for path in sorted(run.rglob("*")):
        path.chmod(0o755 if path.is_dir() else inside)
    for path in sorted((path for path in run.rglob("*") if path.is_dir()), reverse=True):
        path.chmod(folders)
    run.chmod(folders)
