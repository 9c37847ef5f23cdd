"""Seeds handed out as tasks: the same files as without, whoever dies on the way."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from jaxtl.experiment import seeds as several
from jaxtl.machine.tasks import InTurn
from jaxtl.runs.lock import wait_until_free
from tests.faults import struck

TWO_CORES = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="a local cluster has no more workers than cores"
)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "--dask: hands out the seeds of a run, and this is one; give --seeds, 2 or more"),
        (
            ["run", "--seeds", 2, "--forecast"],
            "--dask: has no effect with --forecast, which computes nothing",
        ),
    ],
)
def test_what_is_not_handed_out_is_refused(jaxtl, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = jaxtl(*words, "--dask", "local:1")
    assert (code, err.splitlines()[-1].startswith(f"jaxtl: {said}")) == (2, True), err
    assert not list(tmp_path.iterdir())


def test_one_run_is_not_handed_out(jaxtl, finished):
    code, _, err = jaxtl("run", "--resume", finished, "--dask", "local:1")
    assert (code, err.splitlines()[-1]) == (
        2,
        f"jaxtl: --dask: {finished} is one run, and seeds are handed out; leave --dask out",
    )


@pytest.mark.slow
def test_seeds_as_tasks_leave_the_same_files(few, contents, tmp_path):
    here, handed = (tmp_path / name for name in ("here", "handed"))
    several.start(few, 2, here).run()
    scores = several.start(few, 2, handed).run(InTurn())
    for name in ("seed-1", "seed-2"):
        assert contents(handed / name) == contents(here / name)
    assert (handed / "scores.csv").read_bytes() == (here / "scores.csv").read_bytes()
    assert scores
    # Nothing is left to do, and nothing is done again.
    assert several.resume(handed).run(InTurn()) == scores


def words_of(few_digits, folder, *more):
    small = (
        "--samples 60 --train-samples 70 --epochs 1 --perplexity 8 --image-size 32 --trainable 2 --no-layers"
    )
    return ["run", "--dataset", few_digits, *small.split(), "--seeds", 3, *more, "--out", folder]


@TWO_CORES
@pytest.mark.slow
def test_seeds_by_two_workers_one_of_which_dies_leave_the_same_files(launch, few_digits, contents, tmp_path):
    pytest.importorskip("distributed")
    one_core = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    alone = launch(*words_of(few_digits, tmp_path / "here"), first=one_core)
    assert alone.wait() == 0, alone.communicate()
    cores = len(os.sched_getaffinity(0))
    handed = launch(*words_of(few_digits, tmp_path / "handed", "--dask", f"local:{cores}"))
    lock = tmp_path / "handed" / "seed-2" / ".jaxtl-lock"
    while not (tmp_path / "handed" / "seed-2" / "features" / "before.npz").exists():
        assert handed.poll() is None, handed.communicate()
        time.sleep(0.02)
    # Who works in the folder is a child of its worker.
    child = int(lock.read_text().split()[1])
    os.kill(int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    _, err = handed.communicate()
    assert handed.returncode == 0, err
    assert "seed-2: its process died; it goes on where that left it" in err
    assert "done already" in err
    for name in ("seed-1", "seed-2", "seed-3"):
        its, others = contents(tmp_path / "handed" / name), contents(tmp_path / "here" / name)
        assert its.keys() == others.keys()
        assert {file for file in its if its[file] != others[file]} <= {"environment.json"}
    for name in ("scores.csv", "claims.json", "summary.md"):
        assert (tmp_path / "handed" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


@TWO_CORES
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_workers_and_tasks_too(few_digits, number, tmp_path):
    pytest.importorskip("distributed")
    folder = tmp_path / "run"
    command = map(str, words_of(few_digits, folder, "--epochs", 100_000, "--dask", "local:2"))
    life = struck.begin(" ".join(command))

    def trains(life):
        return any((folder / f"seed-{k}" / "checkpoint.npz").exists() for k in (1, 2, 3))

    outcome = struck.strike(life, trains, (number,))
    assert not outcome.left
    if number != signal.SIGKILL:
        assert outcome.is_right, outcome
        assert f"go on with: jaxtl run --resume {folder}" in outcome.errors.splitlines()[-1]
    # And the folder goes on, in whatever way, once what worked in it has heard of a kill.
    for seed in (1, 2):
        wait_until_free(folder / f"seed-{seed}", 30)
    shutil.rmtree(folder / "seed-3", ignore_errors=True)
    assert several.resume(folder).folders[0].started.is_there
