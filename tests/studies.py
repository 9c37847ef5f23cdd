"""Small scaling studies, and what tells of their files."""

import contextlib
import csv
from pathlib import Path

from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT
from jaxtl.scaling import trials
from jaxtl.scaling.folder import StudyFolder, trial_name
from jaxtl.scaling.settings import Limits
from jaxtl.scaling.trials import DONE, Trial

SMALL = ["--image-size", 32, "--n-neighbors", 5]


LIMITS = Limits(300, 2**36)


def table(folder):
    with (folder / "scaling.csv").open() as stream:
        return list(csv.DictReader(stream))


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "points").iterdir()}


def children(pid):
    """Processes that a process has started and that live."""
    with contextlib.suppress(OSError):
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        return {int(child) for text in lists for child in text.split()}
    return set()


def parent(pid):
    """The process that has started a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def made(method, n, seconds, status=DONE, bytes_=2**30, **more):
    taken = (seconds,) if status == DONE else ()
    quality = {LEAVE_ONE_OUT: (0.5, 0.4, 0.6)} if status == DONE else None
    known = {"seconds": taken, "baseline": 0, "peak": bytes_, "quality": quality}
    return Trial(method, "jaxtl", n, status, limits={"seconds": 900.0, "memory": 2**34}, **known, **more)


def edit(study, trial):
    """Write a trial of a study over, as one that the study wrote."""
    trials.save(study / trials.FOLDER, trial)
    StudyFolder(study).record(trial_name(trial))


def request_of(study, out, method, backend, **more):
    """What the process of one trial is asked."""
    request = {"features": str(study / "features.npy"), "out": str(out), "method": method, "backend": backend}
    return {**request, "n": 80, "streamed": False, "on_gpu": False, **more}
