"""A sweep handed out to Dask's workers: the same files as without, whoever dies or ends it on the way."""

import csv
import os
import signal
import time
from pathlib import Path

import pytest

from jaxtl.sweeps.result import read_sweep
from tests.faults import struck
from tests.studies import parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        len(os.sched_getaffinity(0)) < 2, reason="a local cluster has no more workers than cores"
    ),
]
# Of a table, what tells of times and of one process.
TIMED = {"training_seconds", "seconds", "peak_memory_gib"}


@pytest.fixture(autouse=True)
def dask():
    pytest.importorskip("distributed")


def words_of(few_digits, folder, *more):
    small = "--samples 60 --train-samples 70 --epochs 1 --image-size 32 --trainable none,2"
    return ["sweep", "--dataset", few_digits, *small.split(), *more, "--out", folder]


def rows_of(folder):
    with (folder / "combinations.csv").open() as stream:
        return [
            {name: cell for name, cell in row.items() if name not in TIMED} for row in csv.DictReader(stream)
        ]


def test_combinations_by_two_workers_one_of_which_dies_leave_the_same_files(
    launch, few_digits, contents, tmp_path
):
    here, handed = tmp_path / "here", tmp_path / "handed"
    one_core = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    alone = launch(*words_of(few_digits, here), first=one_core)
    assert alone.wait() == 0, alone.communicate()
    process = launch(*words_of(few_digits, handed), "--dask", f"local:{len(os.sched_getaffinity(0))}")
    run = handed / "runs" / "32px-2"
    while not (run / "features" / "before.npz").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    # Who works in the folder is a child of its worker.
    os.kill(parent(int((run / ".jaxtl-lock").read_text().split()[1])), signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert "32px-2: its process died; it goes on where that left it" in err
    for part in ("runs", "predictions"):
        its, others = contents(handed / part), contents(here / part)
        assert its.keys() == others.keys()
        assert {Path(file).name for file in its if its[file] != others[file]} <= {"environment.json"}
    assert rows_of(handed) == rows_of(here)
    assert not (handed / "shared").exists()
    # A combination's memory is its own, though a worker did several.
    assert all(0 < row.peak_memory_gib < 4 for row in read_sweep(handed).rows)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_ended_goes_on_with_workers_or_without(few_digits, number, launch, tmp_path):
    folder = tmp_path / "sweep"
    life = struck.begin(" ".join(map(str, words_of(few_digits, folder, "--dask", "local:2"))))

    def works(life):
        return any((folder / "runs" / name / ".jaxtl-lock").exists() for name in ("32px-none", "32px-2"))

    outcome = struck.strike(life, works, (number,))
    assert not outcome.left
    if number == signal.SIGINT:
        assert outcome.is_right, outcome
        said = f"what is done is kept; go on with: jaxtl sweep --resume {folder} --dask local:2"
        assert said in outcome.errors.splitlines()[-1]
    more = ["--dask", "local:2"] if number == signal.SIGKILL else []
    again = launch("sweep", "--resume", folder, *more)
    _, err = again.communicate()
    assert again.returncode == 0, err
    assert [row.status for row in read_sweep(folder).rows] == ["done"] * 2
