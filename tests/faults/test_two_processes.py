"""One folder, one process: a second one is refused and harms nothing; the lock of a dead one is none."""

import dataclasses
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from jaxtl.errors import JaxtlError
from jaxtl.experiment import opening
from jaxtl.runs import check
from jaxtl.runs.folder import holds_run, holds_seeds
from jaxtl.runs.lock import Hold
from jaxtl.scaling import study
from tests.faults.damaged_runs import Tally, is_one_line
from tests.faults.struck import CRIES, DONE, begin, strike
from tests.run_files import finish, stamps

# What works on one run, or makes one in one place, by what it is called here.
SHORT = "--dataset {few} --image-size 32 --trainable none --epochs 2 --methods pca --no-layers"
AT_ONCE = {
    "resume": "run --resume {run}",
    "score": "score {run}",
    "layers": "layers {run}",
    "report": "report {run}",
    "plot": "plot {run}",
    "export": "export {run} --to tensorboard --out {out}/projector",
    "accept": "check {run} --accept",
    "run": f"run {SHORT} --out {{out}}/new",
    "seeds": f"run {SHORT} --seeds 2 --out {{out}}/new",
    "sweep": "sweep --dataset {few} --image-size 32 --trainable none,1 --epochs 1 --seeds 1 --out {out}/new",
    "compare": "compare {run}/features/before.npz {run}/features/after.npz --methods pca --out {out}/new",
    "scale": "scale --dataset {few} --image-size 32 --sizes 40,60 --methods pca --out {out}/new",
    "finetune": "finetune --dataset {few} --image-size 32 --trainable 2 --epochs 3 --out {out}/m.safetensors",
}
# Holds a folder until its input ends.
HOLDS = """
import sys
from pathlib import Path
from jaxtl.runs.lock import Hold
from jaxtl.errors import JaxtlError
try:
    hold = Hold(Path(sys.argv[1]), *sys.argv[2:])
except JaxtlError as error:
    sys.exit(str(error))
print("held", flush=True)
sys.stdin.read()
"""


def holder(*what):
    return subprocess.Popen(
        [sys.executable, "-c", HOLDS, *map(str, what)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_one_file_is_trained_for_by_one_process(tmp_path, jaxtl, few_digits):
    out = tmp_path / "new" / "m.safetensors"
    process = holder(out, "file")
    try:
        assert process.stdout.readline() == "held\n"
        before = list(out.parent.iterdir())
        finetune = ["finetune", "--dataset", few_digits, "--image-size", 32, "--epochs", 1, "--out", out]
        code, printed, said = jaxtl(*finetune)
        assert (code, printed) == (2, "")
        assert said.splitlines()[-1].startswith(
            f"jaxtl: {out}: another jaxtl writes it (process {process.pid} on {os.uname().nodename}); wait "
            "until it has ended, or give another file"
        )
        assert list(out.parent.iterdir()) == before
        # Another one beside it is another's, and so is the folder.
        for other, what in ((out.with_name("n.safetensors"), "file"), (out.parent, "folder")):
            Hold(other, what).let_go()
    finally:
        process.communicate()
    # The folder was made for it, and goes with it.
    assert not out.parent.exists()


def test_who_comes_second_is_refused_in_one_line_and_harms_nothing(copied_few, jaxtl, few_digits):
    process = holder(copied_few)
    try:
        assert process.stdout.readline() == "held\n"
        before = stamps(copied_few)
        for command in (
            ["run", "--resume", copied_few],
            ["run", "--dataset", few_digits, "--out", copied_few],
            ["score", copied_few],
            ["plot", copied_few],
            ["report", copied_few],
            ["check", copied_few, "--accept"],
        ):
            code, _, said = jaxtl(*command)
            assert code == 2, command
            assert is_one_line(said, copied_few), said
            assert f"another jaxtl works in it (process {process.pid} on {os.uname().nodename})" in said
        # Who only reads needs no lock.
        assert jaxtl("show", copied_few)[0] == 0
        assert jaxtl("check", copied_few)[0] == 0
        assert stamps(copied_few) == before
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (copied_few / ".jaxtl-lock").exists()
        finish(copied_few)
        assert not (copied_few / ".jaxtl-lock").exists()
    finally:
        process.kill()
        process.communicate()


def test_of_many_that_begin_at_once_one_wins(tmp_path):
    folder = tmp_path / "new" / "run"
    processes = [holder(folder) for _ in range(4)]
    # Who was refused has ended; the winner ends with its input.
    for process in processes:
        if process.stdout.readline() == "held\n":
            winner = process
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes].count(0) == 1
    assert winner.returncode == 0
    assert sum(f"(process {winner.pid} on" in text or "another jaxtl" in text for text in said) == 3
    # What was made for nothing goes.
    assert not folder.exists()
    assert not folder.parent.exists()


def test_a_lock_lasts_from_the_start_to_the_end_of_a_run(few, tmp_path):
    folder = tmp_path / "run"
    begun = opening.start(few, folder)
    other = holder(folder)
    assert "another jaxtl works in it" in other.communicate()[1]
    del begun
    # Within one process a folder may be taken up again, and a refused run lets go of it.
    with pytest.raises(JaxtlError, match="holds files already"):
        opening.start(few, folder)
    opening.resume(folder)


def test_a_study_s_folder_is_one_process_s_too(tmp_path, few_digits):
    process = holder(tmp_path / "study")
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(JaxtlError, match="another jaxtl works in it"):
            study.prepare(tmp_path / "study", {"dataset": few_digits}, study.Grid("40", "pca", "auto"))
    finally:
        process.kill()
        process.communicate()


def test_a_process_that_is_started_does_not_keep_the_lock(tmp_path):
    code = textwrap.dedent("""
        import subprocess, sys
        from pathlib import Path
        from jaxtl.runs.lock import Hold
        hold = Hold(Path(sys.argv[1]))
        print(subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"]).pid, flush=True)
        import os; os._exit(0)
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child = int(parent.stdout.readline())
    parent.wait()
    os.kill(child, 0)
    Hold(tmp_path).let_go()
    parent.communicate()


@pytest.fixture(scope="module")
def layered(few_config, once, without_figures):
    def make(folder):
        with without_figures():
            opening.start(dataclasses.replace(few_config, layers=True), folder).run()

    return once("layered", make)


PAIRS = [*itertools.combinations_with_replacement([name for name in AT_ONCE if "{run}" in AT_ONCE[name]], 2)]
PAIRS += itertools.combinations_with_replacement(("run", "seeds", "sweep", "compare", "scale"), 2)
PAIRS += [("finetune", "finetune")]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("share", range(4))
def test_every_two_commands_at_once(layered, few_digits, contents, tmp_path, share):
    """Each does what it does alone, or is refused in one line; what is left is whole, or goes on to that."""
    tally, moments = Tally(), random.Random(share)
    for one, other in PAIRS[share::4]:
        run, out = tmp_path / "run", tmp_path / "out"
        for folder in (run, out):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(layered, run)
        out.mkdir()
        if "resume" in (one, other):
            (run / "scores.csv").unlink()
        names = {"run": run, "out": out, "few": few_digits}
        lives = []
        for name in (one, other):
            lives.append(begin(AT_ONCE[name].format(**names)))
            time.sleep(moments.uniform(0, 2))
        endings = [_ending(life) for life in lives]
        faults = [said for fine, said in endings if not fine]
        faults += [f"left {left}" for left in tmp_path.rglob(".jaxtl-lock*")]
        made = [folder for folder in (run, out / "new") if holds_run(folder) or holds_seeds(folder)]
        for folder in made:
            resumed = strike(begin(f"run --resume {folder}"), lambda life: False)
            faults += [] if resumed.kind == DONE else [resumed.errors]
            faults += [str(standing) for standing in check.look(folder) if not standing.is_fine]
        if not _same_numbers(run, layered):
            faults.append("other numbers in the run")
        if one == "finetune":
            faults += [] if [path.name for path in out.iterdir()] == ["m.safetensors"] else ["not one file"]
        tally.note("failed" if faults else "well", f"{one} and {other}: {faults}")
        tally.counts["refused"] += sum("another jaxtl" in said for _, said in endings)
    tally.close("Pairs of commands")


def _ending(life):
    """Whether a command ended well or with one line, and what it said."""
    outcome = strike(life, lambda life: False)
    last = (outcome.errors.splitlines() or [""])[-1]
    cries = [cry for cry in CRIES if cry in outcome.errors]
    fine = outcome.code in (0, 1) or (outcome.code == 2 and last.startswith("jaxtl: "))
    return fine and not cries and not outcome.left, outcome.errors[-600:]


def _same_numbers(folder, whole):
    names = ("scores.csv", "layers.csv", "claims.json", "measures.npz", "model.safetensors", "config.json")
    return all((folder / name).read_bytes() == (whole / name).read_bytes() for name in names)
