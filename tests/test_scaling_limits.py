"""A trial over its limits, one that dies, and what is tried again."""

import contextlib
import os
from dataclasses import replace

import pytest

from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, TRUSTWORTHINESS
from jaxtl.scaling import measurement, quality, study, trials, watch
from jaxtl.scaling.settings import Limits
from jaxtl.scaling.trials import DONE, FAILED, NOT_TRIED, OUT_OF_MEMORY, OVER_MEMORY, OVER_TIME, Trial
from tests.studies import LIMITS, children, edit, made, request_of, stamps, table


@pytest.mark.slow
def test_over_time_is_recorded_and_larger_sizes_are_not_tried(copied_study):
    again = study.prepare(copied_study, {}, study.Grid("40,80", "pca", "jaxtl"), Limits(1e-4, 2**36))
    trial_of = {(p.method, p.backend, p.n): p for curve in again.run() for p in curve.trials}
    over, beyond = trial_of["pca", "jaxtl", 40], trial_of["pca", "jaxtl", 80]
    assert (over.status, over.note) == (OVER_TIME, "ended after 0.0001 s, the limit")
    assert (beyond.status, beyond.note) == (NOT_TRIED, "40 images were over time already")
    rows = {
        row["n"]: row for row in table(copied_study) if (row["method"], row["backend"]) == ("pca", "jaxtl")
    }
    assert (rows["40"]["status"], rows["40"]["metric"], rows["40"]["value"]) == (
        OVER_TIME,
        "seconds",
        "0.0001",
    )
    assert (rows["80"]["status"], rows["80"]["value"]) == (NOT_TRIED, "")
    # With a higher limit it is tried again, with the same one it is not.
    before = stamps(copied_study)
    study.prepare(copied_study, {}, study.Grid("40", "pca", "jaxtl"), Limits(1e-4, 2**36)).run()
    assert stamps(copied_study)["pca_jaxtl_40.json"] == before["pca_jaxtl_40.json"]
    trial_of = study.prepare(copied_study, {}, study.Grid("40", "pca", "jaxtl"), LIMITS).run()
    assert next(c for c in trial_of if (c.method, c.backend) == ("pca", "jaxtl")).trials[0].status == DONE


def test_over_memory_is_recorded(copied_study, jaxtl):
    one = ["--sizes", 40, "--methods", "pca", "--backends", "jaxtl"]
    code, _, err = jaxtl("scale", "--out", copied_study, *one, "--memory-limit", 0.01)
    assert code == 0, err
    assert "✗ PCA, jaxtl, 40 images" in err
    trial = trials.load(copied_study / "points" / "pca_jaxtl_40.json")
    assert trial.status == OVER_MEMORY
    assert trial.note.endswith("the limit is 0.01 GiB")
    assert trial.peak > 0.01 * 2**30


def test_a_process_that_fails_is_recorded_and_leaves_none_behind(finished_study, tmp_path):
    request = request_of(finished_study, tmp_path / "e.npz", "tsne", "opentsne", params={"perplexity": 99})
    new = Trial("tsne", "opentsne", 80)
    failed = watch.run(new, request, LIMITS, lambda fraction: None)
    assert failed.status == FAILED
    assert "perplexity 99 needs 298 rows" in failed.note
    started, others = set(), children(os.getpid())  # other tests may have some

    def stop(fraction):
        started.update(children(os.getpid()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch.run(new, request | {"params": {"perplexity": 5}}, LIMITS, stop)
    assert started - others
    assert children(os.getpid()) <= others


@pytest.mark.parametrize(
    ("code", "status", "note"),
    [
        (
            "import os; os.write(2, b'so ill\\n'); os._exit(3)",
            FAILED,
            "its process ended with exit code 3 (so ill)",
        ),
        (
            "import os; os.kill(os.getpid(), 9)",
            OUT_OF_MEMORY,
            "its process was ended by SIGKILL, often for want of memory",
        ),
        ("raise MemoryError('37 GiB')", OUT_OF_MEMORY, "MemoryError: 37 GiB"),
        (
            "raise RuntimeError('RESOURCE_EXHAUSTED: no room')",
            OUT_OF_MEMORY,
            "RuntimeError: RESOURCE_EXHAUSTED: no room",
        ),
        ("1 / 0", FAILED, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_trial_that_dies_says_how(code, status, note, finished_study, tmp_path, monkeypatch):
    """Its library, which only the trial's process has, is the code."""
    (tmp_path / "openTSNE").mkdir()
    (tmp_path / "openTSNE" / "__init__.py").touch()
    (tmp_path / "openTSNE" / "affinity.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    request = request_of(finished_study, tmp_path / "e.npz", "tsne", "opentsne", params={"perplexity": 5})
    trial = watch.run(Trial("tsne", "opentsne", 80), request, LIMITS, lambda fraction: None)
    assert (trial.status, trial.note) == (status, note)


def test_another_machine_in_a_curve_is_told(copied_study):
    class Told(study.Silent):
        def __init__(self):
            self.notes = []

        def notify(self, text):
            self.notes.append(text)

    def notes(methods="pca,lle"):
        told = Told()
        study.prepare(copied_study, {}, study.Grid("40,80", methods), LIMITS, told)
        return told.notes

    assert notes() == []
    path = copied_study / "points" / "pca_sklearn_40.json"
    trial = trials.load(path)
    assert {"jaxtl", "numpy", "scipy", "scikit-learn", "openTSNE"} <= set(trial.machine["versions"])
    versions = trial.machine["versions"]
    other = trial.machine | {"cores": 99, "versions": versions | {"numpy": "1.0"}}
    edit(copied_study, replace(trial, machine=other))
    cores, numpy = trial.machine["cores"], versions["numpy"]
    assert notes() == [f"Curves mix machines or versions: cores 99 and {cores}, numpy 1.0 and {numpy}"]
    assert notes("lle") == []
    # Points of before there were versions are read, and taken for no other.
    edit(copied_study, replace(trial, machine={"cpu": trial.machine["cpu"], "cores": cores}))
    assert notes() == []


@pytest.mark.slow
def test_a_peak_that_cannot_be_told_from_files_is_left_to_the_parent(finished_study, tmp_path, monkeypatch):
    request = request_of(
        finished_study, tmp_path / "e.npz", "pca", "jaxtl", params={"seed": 1}, streamed=True
    )

    def peaks(available, **changes):
        monkeypatch.setattr(measurement, "available_memory", lambda: available)
        measured = measurement.measure(request | changes, lambda message: None)
        return measured["peak"], measured["resident_peak"]

    whole, resident = peaks(2**40)
    assert 0 < whole < resident
    # 80 x 1280 float32 take 409,600 bytes.
    assert peaks(409_600)[0] is not None
    assert peaks(409_599)[0] is None
    # In memory the features are no file's.
    assert peaks(409_599, streamed=False)[0] is not None


@pytest.mark.parametrize(("said", "peak"), [(None, 7), (5, 7), (9, 9)])
def test_the_larger_peak_counts_and_one_that_is_not_told_is_that_seen_from_outside(said, peak, monkeypatch):
    class Measured(contextlib.AbstractContextManager):
        pid = 1

        def __init__(self, preload):
            pass

        def __exit__(self, *exception):
            pass

        def call(self, function, arguments, told, watch):
            watch()
            return {"seconds": [1.0], "peak": said, "resident_peak": 9, "device_peak": None, "machine": {}}

    monkeypatch.setattr(watch, "Child", Measured)
    monkeypatch.setattr(watch, "process_group", lambda leader: [leader])
    monkeypatch.setattr(watch, "private_memory", lambda pid: 7)
    trial = watch.run(Trial("pca", "jaxtl", 80), {"on_gpu": False}, LIMITS, lambda fraction: None)
    assert (trial.status, trial.peak, trial.resident_peak) == (DONE, peak, 9)


@pytest.mark.parametrize(
    ("status", "limits", "settled"),
    [
        (OVER_TIME, Limits(900, 2**34), True),
        (OVER_TIME, Limits(901, 2**34), False),
        (OVER_MEMORY, Limits(900, int(1.05 * 2**34)), True),
        (OVER_MEMORY, Limits(900, int(1.2 * 2**34)), False),
        (OUT_OF_MEMORY, Limits(950, int(1.05 * 2**34)), True),
        (OUT_OF_MEMORY, Limits(900, int(1.2 * 2**34)), False),
        (FAILED, Limits(900, 2**34), False),
        (NOT_TRIED, Limits(900, 2**34), False),
        (DONE, Limits(9000, 2**36), True),
    ],
)
def test_a_trial_is_tried_again_where_a_limit_is_higher(status, limits, settled):
    assert made("lle", 1000, 1.0, status).settled(limits) is settled


@pytest.mark.slow
def test_quality_found_with_more_memory_stays_and_what_is_missing_follows(copied_study, monkeypatch):
    grid, features = study.Grid("40", "pca,lle"), copied_study / "points" / "features_40.json"
    kept = features.read_bytes()
    pca, lle = (
        trials.load(copied_study / "points" / f"{name}_40.json") for name in ("pca_sklearn", "lle_jaxtl")
    )
    edit(copied_study, replace(pca, quality=None))
    monkeypatch.setattr(quality, "available_memory", lambda: 1000)
    study.prepare(copied_study, {}, grid, LIMITS).run()
    assert features.read_bytes() == kept
    scores = trials.load(copied_study / "points" / "pca_sklearn_40.json").quality
    assert LEAVE_ONE_OUT in scores
    assert TRUSTWORTHINESS not in scores
    # With as little it is not looked at again, with enough it is.
    before = stamps(copied_study)
    study.prepare(copied_study, {}, grid, LIMITS).run()
    assert stamps(copied_study) == before
    monkeypatch.undo()
    study.prepare(copied_study, {}, grid, LIMITS).run()
    assert trials.load(copied_study / "points" / "pca_sklearn_40.json").quality == pca.quality
    assert trials.load(copied_study / "points" / "lle_jaxtl_40.json") == lle


@pytest.mark.slow
def test_a_later_failure_is_tried_again_and_a_lost_map_made_again(copied_study):
    (copied_study / "maps" / "pca_sklearn_40.npz").unlink()
    trial = trials.load(copied_study / "points" / "pca_sklearn_80.json")
    edit(copied_study, replace(trial, status=FAILED, note="its process died", seconds=()))
    made_again = study.prepare(copied_study, {}, study.Grid("40,80", "pca"), LIMITS).run()
    assert all(p.status == DONE for curve in made_again for p in curve.trials)
    assert (copied_study / "maps" / "pca_sklearn_40.npz").is_file()
