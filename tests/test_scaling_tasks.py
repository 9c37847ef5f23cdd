"""A study's work as tasks: what they say, in which order, and what is told of trials made at a time."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxtl.scaling import curves, plots, reference, study, tables, trials, work
from jaxtl.scaling.trials import NOT_TRIED, OVER_TIME
from tests.faults import struck
from tests.studies import LIMITS, edit, made, parent, table
from tests.test_tasks import Listener


class Stopped(Exception):
    pass


class Reading:
    """An executor of three workers, two of them on a machine, that reads what it is to do and stops."""

    workers, beside = 3, 2

    def run(self, tasks, observer, outcomes=None):
        self.tasks = tasks
        raise Stopped


def read(folder, *grid, **how):
    executor, listener = Reading(), Listener()
    with pytest.raises(Stopped):
        study.prepare(folder, {}, study.Grid(*grid), LIMITS, listener, executor, **how).run()
    return executor.tasks, listener.lines


def test_each_curve_begins_with_its_smallest_size_and_maps_are_judged_when_they_are_there(copied_study):
    tasks, lines = read(copied_study, "40,60,100", "pca,lle,pca@50")
    told = {task.name: task.follows for task in tasks}
    assert told == {
        "PCA, scikit-learn, 60 images": (),
        "LLE, jaxtl, 60 images": (),
        "PCA with 50 landmarks, scikit-learn, 60 images": (),
        "Quality of maps of 60 images": tuple(told)[:3],
        "PCA, scikit-learn, 100 images": ("PCA, scikit-learn, 60 images",),
        "LLE, jaxtl, 100 images": ("LLE, jaxtl, 60 images",),
        "PCA with 50 landmarks, scikit-learn, 100 images": tuple(told)[2:3],
        "Quality of maps of 100 images": tuple(told)[4:7],
    }
    for task in tasks:
        assert json.loads(json.dumps(task.arguments)) == task.arguments
        assert not task.apart
    assert "Up to 2 trials at a time share a machine: their seconds are more than of one alone" in lines[-1]


def test_who_makes_a_trial_may_take_its_own_memory(copied_study):
    assert read(copied_study, "60", "pca")[0][0].arguments["memory"] == LIMITS.memory
    assert read(copied_study, "60", "pca", own_memory=True)[0][0].arguments["memory"] is None


def test_a_trial_that_a_smaller_one_makes_hopeless_is_not_made(copied_study, tmp_path):
    over = made("pca", 40, 1.0, OVER_TIME)
    trials.save(tmp_path, over)
    files = [str(tmp_path / f"{name}.json") for name in ("not_there", over.name)]
    request = {"backend": "jaxtl", "n": 80}
    record = work.measure("title", "pca", request, 9.0, None, files, Listener())
    trial = trials.Trial.of_record(json.loads(json.dumps(record)))
    assert (trial.status, trial.note) == (NOT_TRIED, "40 images were over time already")
    # Nor is there a task where that is known beforehand.
    edit(copied_study, replace(over, backend="sklearn", limits={"seconds": 300.0, "memory": 2**36}))
    tasks, _ = read(copied_study, "40,60", "pca,lle")
    assert [task.name for task in tasks] == ["LLE, jaxtl, 60 images", "Quality of maps of 60 images"]
    left_out = trials.load(copied_study / "points" / "pca_sklearn_60.json")
    assert (left_out.status, left_out.note) == (NOT_TRIED, "40 images were over time already")


def test_maps_are_judged_from_files_alone(copied_study):
    names = ("pca_sklearn_40", "lle_jaxtl_40")
    known = {name: trials.load(copied_study / "points" / f"{name}.json") for name in names}
    edit(copied_study, replace(known["lle_jaxtl_40"], quality=None))
    given = {"folder": str(copied_study), "n": 40, "seed": 1, "names": [*names, "pca_sklearn_41"]}
    found = work.judge("title", **given, own=False, observer=Listener())
    assert set(found["maps"]) == {"lle_jaxtl_40"}
    assert trials.scores_of(found["maps"]["lle_jaxtl_40"]) == known["lle_jaxtl_40"].quality
    own = json.loads((copied_study / "points" / "features_40.json").read_text())
    assert json.loads(json.dumps(found["own"])) == own
    edit(copied_study, known["lle_jaxtl_40"])
    assert work.judge("title", **given, own=False, observer=Listener())["own"] is None


def test_times_of_trials_beside_others_are_told_as_such(tmp_path):
    place = {"cpu": "c", "cores": 1, "host": "node1", "beside": 2}
    shown = curves.curves([replace(made("pca", n, 1e-3 * n), machine=place) for n in (100, 200, 400)])
    elsewhere = replace(made("lle", 100, 1.0), machine={**place, "host": "node2", "beside": 1})

    def notes(*more):
        curves.save_table(tmp_path / "scaling.csv", [*shown, *curves.curves(more)], {})
        return {row["note"] for row in table(tmp_path) if row["metric"] == "seconds"}

    assert notes() == {"2 trials at a time"}
    assert notes(elsewhere) == {"2 trials at a time, on node1", "on node2"}
    assert tables.trials_table(shown).caption.startswith("Up to 2 trials at a time")
    figure = plots.seconds_figure(shown)
    assert figure.axes[0].get_ylabel() == "seconds of one map, up to 2 at a time"
    alone = curves.curves([elsewhere])
    assert tables.trials_table(alone).caption is None


def test_a_forecast_says_that_trials_were_beside_others_and_takes_none_together_that_were_not(copied_study):
    known = study.StudyFolder(copied_study).trials()
    for trial in known:
        edit(copied_study, replace(trial, machine=trial.machine | {"beside": 2}))
    assert reference.costs_of(copied_study).machine.endswith(" cores, 2 at a time")
    edit(copied_study, known[0])
    with pytest.raises(study.JaxtlError, match=r"more than one machine \(trials at a time [12] and [12]\)"):
        reference.costs_of(copied_study)


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a local cluster has no more workers than cores")
def test_a_study_by_two_workers_one_of_which_dies_has_the_same_maps(finished_study, launch, tmp_path):
    pytest.importorskip("distributed")
    here, handed = (Path(shutil.copytree(finished_study, tmp_path / name)) for name in ("here", "handed"))
    more = "--sizes 60,100 --methods pca,lle,pca@50"
    one_core = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    alone = launch("scale", "--out", here, *more.split(), first=one_core)
    assert alone.wait() == 0, alone.communicate()
    cores = len(os.sched_getaffinity(0))
    life = struck.begin(f"scale --out {handed} {more} --dask local:{cores}")
    os.kill(worker_of_a_trial(life), signal.SIGKILL)
    _, err = life.process.communicate(timeout=600)
    assert life.process.returncode == 0, err
    assert "its process died; it goes on where that left it" in err
    assert not life.descendants()
    names = {path.name for path in (here / "maps").iterdir()}
    assert names == {path.name for path in (handed / "maps").iterdir()}
    for name in names:
        assert (here / "maps" / name).read_bytes() == (handed / "maps" / name).read_bytes()
    for path in (here / "points").glob("*_[16]0*.json"):
        ours, theirs = (json.loads((folder / "points" / path.name).read_text()) for folder in (here, handed))
        if "machine" not in ours:
            assert ours == theirs
            continue
        assert ours["quality"] == theirs["quality"]
        assert (ours["machine"]["beside"], theirs["machine"]["beside"]) == (1, cores)
        assert ours["machine"]["host"] == theirs["machine"]["host"] == os.uname().nodename
    assert f"{cores} trials at a time" in {row["note"] for row in table(handed)}
    np.testing.assert_array_equal(np.load(here / "features.npy"), np.load(handed / "features.npy"))


def worker_of_a_trial(life):
    """The worker of Dask's whose child's child makes a trial."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for pid, words in life.descendants().items():
            if words.rstrip().endswith("jaxtl.scaling.measurement"):
                return parent(parent(pid))
        time.sleep(0.01)
    raise AssertionError(life.process.communicate())
