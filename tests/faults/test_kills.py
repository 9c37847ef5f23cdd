"""SIGKILL at random moments: a run goes on to the same bytes, and its folder never says what is not so."""

import os
import random
import shutil
import signal
import time

import pytest

from jaxtl.runs import check
from tests.faults.damaged_runs import Tally

KILLS = int(os.environ.get("JAXTL_TEST_KILLS", "100"))
# As in `few_run`: blank figures, embeddings in the process itself.
FIRST = """
from jaxtl.experiment import embeddings, experiment
from tests.conftest import BlankFigures
experiment.Drawer = BlankFigures
embeddings.cpu_count = lambda: 1
"""


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_random_kills_lose_nothing(few_run, few_config, contents, launch, tmp_path):
    moments, tally, number = random.Random(0), Tally(), 0
    names = ("dataset", "image_size", "trainable", "epochs")
    settings = [w for n in names for w in (f"--{n.replace('_', '-')}", getattr(few_config, n))]
    settings += ["--samples", "all", "--methods", "pca", "--no-layers"]
    # What a life takes here and now: moments are spread over it, however busy the machine is.
    began = time.time()
    assert launch("run", *settings, "--out", tmp_path / "whole", first=FIRST).wait() == 0
    life = time.time() - began
    while tally.counts["tried"] < KILLS:
        folder, number = tmp_path / str(number), number + 1
        arguments = ["run", *settings, "--out", folder]
        while True:
            process = launch(*arguments, first=FIRST)
            if tally.counts["tried"] < KILLS:
                _wait(process, moments.uniform(0.0, life))
            ended = process.poll() is not None or tally.counts["tried"] >= KILLS
            if not ended:
                process.kill()
            _, said = process.communicate()
            if ended and process.returncode == 0:
                break
            # It may have ended by itself in the last moment.
            fine = process.returncode in (-signal.SIGKILL, 0) and _is_whole(folder)
            tally.note("survived" if fine else "failed", said)
            if (folder / "config.json").exists():
                arguments = ["run", "--resume", folder]
        wrong = _differing(contents(folder), contents(few_run))
        tally.note("failed" if wrong else "ended at the same bytes", f"{folder}: {', '.join(wrong)}")
        tally.counts["tried"] -= 1
        assert all(standing.is_fine for standing in check.look(folder))
        print(f"\n{dict(tally.counts)}", end="", flush=True)
        if not wrong:
            shutil.rmtree(folder)
    tally.close("Kills")


def _differing(one, other):
    """Files that are in one of two runs alone, or differ."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _wait(process, seconds):
    until = time.time() + seconds
    while process.poll() is None and time.time() < until:
        time.sleep(0.01)


def _is_whole(folder):
    """Whether what is recorded is there as it is recorded: a kill leaves what is not recorded, no more."""
    if not (folder / "manifest.json").exists():
        return True
    return {standing.state for standing in check.look(folder)} <= {"ok", "unmade", "unrecorded", "strange"}
