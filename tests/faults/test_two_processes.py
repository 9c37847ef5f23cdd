"""One folder, one process: a second one is refused and harms nothing; the lock of a dead one is none."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from jaxtl.errors import JaxtlError
from jaxtl.experiment import opening
from jaxtl.runs.lock import Hold
from jaxtl.scaling import study
from tests.faults.damaged_runs import is_one_line
from tests.run_files import finish, stamps

# Holds a folder until its input ends.
HOLDS = """
import sys
from pathlib import Path
from jaxtl.runs.lock import Hold
from jaxtl.errors import JaxtlError
try:
    hold = Hold(Path(sys.argv[1]))
except JaxtlError as error:
    sys.exit(str(error))
print("held", flush=True)
sys.stdin.read()
"""


def holder(folder):
    return subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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
