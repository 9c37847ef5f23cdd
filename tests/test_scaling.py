"""The scaling study as a user meets it: what it leaves, how it goes on, what limits do, what it refuses."""

import contextlib
import csv
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, RECONSTRUCTION_ERROR, TRUSTWORTHINESS
from jaxtl.records import store
from jaxtl.records.arrays import Embedding
from jaxtl.reduction import reduce
from jaxtl.scaling import measurement, plan, plots, quality, study, trials, watch
from jaxtl.scaling.curves import curves
from jaxtl.scaling.settings import Limits, Settings
from jaxtl.scaling.source import Source
from jaxtl.scaling.trials import DONE, FAILED, NOT_TRIED, OUT_OF_MEMORY, OVER_MEMORY, OVER_TIME, Trial

SMALL = ["--image-size", 32, "--n-neighbors", 5]
LIMITS = Limits(300, 2**36)


@pytest.fixture(scope="module")
def asked(few_digits):
    return ["scale", "--dataset", few_digits, *SMALL, "--sizes", "40,80", "--methods", "pca,lle"]


@pytest.fixture(scope="module")
def finished(few_digits, tmp_path_factory):
    """A study of 40, 80 and 120 images; tests copy it before they change anything."""
    folder = tmp_path_factory.mktemp("studies") / "finished"
    settings = {"dataset": few_digits, "image_size": 32, "n_neighbors": 5}
    study.prepare(folder, settings, study.Grid("40,80,120", "pca,lle,pca@50", "auto"), LIMITS).run()
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "study")


def table(folder):
    with (folder / "scaling.csv").open() as stream:
        return list(csv.DictReader(stream))


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "points").iterdir()}


# What it leaves.


def test_every_number_stands_in_one_long_table(finished):
    rows = table(finished)
    seen = {(row["method"], row["backend"], int(row["n"])) for row in rows if row["metric"] == "seconds"}
    whole = {(m, b, n) for m, b in (("pca", "sklearn"), ("lle", "jaxtl")) for n in (40, 80, 120)}
    assert seen == whole | {("pca@50", "sklearn", 80), ("pca@50", "sklearn", 120)}
    for row in rows:
        assert row["status"] == DONE
        if row["metric"] in (LEAVE_ONE_OUT, TRUSTWORTHINESS):
            assert 0 <= float(row["low"]) <= float(row["value"]) <= float(row["high"]) <= 1
        assert float(row["value"]) >= 0
    of_features = [row for row in rows if row["method"] == "features"]
    assert [int(row["n"]) for row in of_features] == [40, 80, 120]
    assert {row["n"] for row in rows if row["metric"] == RECONSTRUCTION_ERROR} == {"40", "80", "120"}


def test_power_laws_pictures_and_maps_are_there(finished):
    with (finished / "fits.csv").open() as stream:
        fits = list(csv.DictReader(stream))
    assert {(row["method"], row["metric"]) for row in fits} >= {("pca", "seconds"), ("lle", "seconds")}
    for row in fits:
        assert float(row["low"]) <= float(row["exponent"]) <= float(row["high"])
        assert (row["smallest"], row["largest"], row["sizes"]) == ("40", "120", "3")
    for name in ("seconds", "memory", "quality", "maps"):
        for suffix in ("png", "svg"):
            assert (finished / "figures" / f"{name}.{suffix}").stat().st_size > 1000
    embedding = Embedding.load(finished / "maps" / "lle_jaxtl_80.npz")
    assert (len(embedding.coords), embedding.params["n_neighbors"]) == (80, 5)


def test_maps_are_those_that_reduce_makes(finished):
    features = store.load(finished / "features.npy", 80)
    for method, name, params in (("lle", "lle_jaxtl_80", {"n_neighbors": 5}), ("pca", "pca_sklearn_80", {}),
                                 ("pca", "pca@50_sklearn_80", {"landmarks": 50})):  # fmt: skip
        found = Embedding.load(finished / "maps" / f"{name}.npz")
        again = reduce(features, method, found.backend, seed=1, **params)
        # In another process, and on all cores.
        np.testing.assert_allclose(found.coords, again.coords, atol=1e-4)
        np.testing.assert_array_equal(found.labels, features.labels)


def test_sizes_are_nested_samples_of_all_images(finished, few_digits):
    images = {split: load(few_digits, split) for split in ("train", "test")}
    labels = np.concatenate([images["train"].labels, images["test"].labels])
    features = store.load(finished / "features.npy")
    assert len(set(features.index)) == 120
    np.testing.assert_array_equal(labels[features.index], features.labels)
    np.testing.assert_array_equal(
        Embedding.load(finished / "maps/pca_sklearn_40.npz").index, features.index[:40]
    )


def test_a_trial_tells_time_memory_and_machine(finished):
    trial = trials.load(finished / "points" / "pca_sklearn_120.json")
    assert 0 < min(trial.seconds) <= trial.typical_seconds <= max(trial.seconds)
    assert len(trial.seconds) == 3
    assert trial.start_seconds > 0
    assert trial.machine["cores"] >= 1
    # Python and NumPy alone are 30 MB; the features of 120 images 0.6 MB in float32.
    assert 2**24 < trial.baseline < trial.peak < trial.resident_peak < 2**31
    assert trial.limits == {"seconds": 300, "memory": 2**36}


# How it goes on.


def test_the_same_command_again_does_nothing_again(copied, jaxtl, asked):
    before = stamps(copied)
    code, _, err = jaxtl(*asked, "--out", copied)
    assert code == 0, err
    assert stamps(copied) == before
    assert "PCA, scikit-learn, 40" not in err
    assert "What maps cost" in err


def test_more_sizes_and_methods_are_added(copied, jaxtl):
    before, features = stamps(copied), np.load(copied / "features.npy")
    more = ["--sizes", 130, "--methods", "pca", "--backends", "jaxtl"]
    code, _, err = jaxtl("scale", "--out", copied, *more)
    assert code == 0, err
    assert set(stamps(copied)) - set(before) == {"pca_jaxtl_130.json", "features_130.json"}
    assert stamps(copied).items() >= before.items()
    grown = np.load(copied / "features.npy")
    assert len(grown) == 130
    np.testing.assert_array_equal(grown[:120], features)
    asked = json.loads((copied / "config.json").read_text())["asked"]
    assert asked == {"sizes": "130", "methods": "pca", "backends": "jaxtl"}
    assert {row["n"] for row in table(copied) if row["backend"] == "sklearn"} == {"40", "80", "120"}


def test_killed_it_goes_on_where_it_was(launch, jaxtl, asked, finished, tmp_path):
    folder = tmp_path / "study"
    process = launch(*asked, "--out", folder)
    first = folder / "points" / "lle_jaxtl_40.json"
    _wait(first.is_file)
    under_way = _children(process.pid)
    process.kill()
    process.wait()
    # The process of the trial under way ends with it.
    _wait(lambda: all(map(_gone, under_way)))
    kept = first.read_bytes()
    code, _, err = jaxtl("scale", "--out", folder)
    assert code == 0, err
    assert json.loads(first.read_bytes())["seconds"] == json.loads(kept)["seconds"]
    whole = (finished / "points").iterdir()
    done = {path.name for path in whole if "@" not in path.name and "120" not in path.name}
    assert {path.name for path in (folder / "points").iterdir()} == done
    assert not list(folder.rglob(".*"))
    np.testing.assert_array_equal(np.load(folder / "features.npy"), np.load(finished / "features.npy")[:80])


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(launch, asked, tmp_path):
    folder = tmp_path / "a study"
    process = launch(*asked, "--time-limit", 77, "--out", folder)
    _wait((folder / "points" / "pca_sklearn_40.json").is_file)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == (
        f"jaxtl: stopped, what is done is kept; go on with: jaxtl scale --out '{folder}' --time-limit 77"
    )
    assert "Traceback" not in err
    assert {row["method"] for row in table(folder)} >= {"pca"}


def _children(pid):
    """Processes that a process has started and that live."""
    with contextlib.suppress(OSError):
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        return {int(child) for text in lists for child in text.split()}
    return set()


def _gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _wait(there, seconds=120):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)


# What limits do.


def test_over_time_is_recorded_and_larger_sizes_are_not_tried(copied):
    again = study.prepare(copied, {}, study.Grid("40,80", "pca", "jaxtl"), Limits(1e-4, 2**36))
    found = {(p.method, p.backend, p.n): p for curve in again.run() for p in curve.trials}
    over, beyond = found["pca", "jaxtl", 40], found["pca", "jaxtl", 80]
    assert (over.status, over.note) == (OVER_TIME, "ended after 0.0001 s, the limit")
    assert (beyond.status, beyond.note) == (NOT_TRIED, "40 images were over time already")
    rows = {row["n"]: row for row in table(copied) if (row["method"], row["backend"]) == ("pca", "jaxtl")}
    assert (rows["40"]["status"], rows["40"]["metric"], rows["40"]["value"]) == (
        OVER_TIME,
        "seconds",
        "0.0001",
    )
    assert (rows["80"]["status"], rows["80"]["value"]) == (NOT_TRIED, "")
    # With a higher limit it is tried again, with the same one it is not.
    before = stamps(copied)
    study.prepare(copied, {}, study.Grid("40", "pca", "jaxtl"), Limits(1e-4, 2**36)).run()
    assert stamps(copied)["pca_jaxtl_40.json"] == before["pca_jaxtl_40.json"]
    found = study.prepare(copied, {}, study.Grid("40", "pca", "jaxtl"), LIMITS).run()
    assert next(c for c in found if (c.method, c.backend) == ("pca", "jaxtl")).trials[0].status == DONE


def test_over_memory_is_recorded(copied, jaxtl):
    code, _, err = jaxtl("scale", "--out", copied, "--sizes", 40, "--methods", "pca", "--backends", "jaxtl",
                         "--memory-limit", 0.01)  # fmt: skip
    assert code == 0, err
    assert "✗ PCA, jaxtl, 40 images" in err
    trial = trials.load(copied / "points" / "pca_jaxtl_40.json")
    assert trial.status == OVER_MEMORY
    assert trial.note.endswith("the limit is 0.01 GiB")
    assert trial.peak > 0.01 * 2**30


def test_a_process_that_fails_is_recorded_and_leaves_none_behind(finished, tmp_path):
    request = {"features": str(finished / "features.npy"), "out": str(tmp_path / "e.npz"), "method": "tsne",
               "backend": "opentsne", "params": {"perplexity": 99}, "n": 80, "streamed": False,
               "on_gpu": False}  # fmt: skip
    new = Trial("tsne", "opentsne", 80)
    failed = watch.run(new, request, LIMITS, lambda fraction: None)
    assert failed.status == FAILED
    assert "perplexity 99 needs 298 rows" in failed.note
    started, others = set(), _children(os.getpid())  # other tests may have some

    def stop(fraction):
        started.update(_children(os.getpid()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch.run(new, request | {"params": {"perplexity": 5}}, LIMITS, stop)
    assert started - others
    assert _children(os.getpid()) <= others


@pytest.mark.parametrize(
    ("code", "status", "note"),
    [
        ("import os; os.write(2, b'so ill\\n'); os._exit(3)", FAILED,
         "its process ended with exit code 3 (so ill)"),
        ("import os; os.kill(os.getpid(), 9)", OUT_OF_MEMORY,
         "its process was ended by SIGKILL, often for want of memory"),
        ("raise MemoryError('37 GiB')", OUT_OF_MEMORY, "MemoryError: 37 GiB"),
        ("raise RuntimeError('RESOURCE_EXHAUSTED: no room')", OUT_OF_MEMORY,
         "RuntimeError: RESOURCE_EXHAUSTED: no room"),
        ("1 / 0", FAILED, "ZeroDivisionError: division by zero"),
    ],
)  # fmt: skip
def test_a_trial_that_dies_says_how(code, status, note, finished, tmp_path, monkeypatch):
    """Its library, which only the trial's process has, is the code."""
    (tmp_path / "openTSNE").mkdir()
    (tmp_path / "openTSNE" / "__init__.py").touch()
    (tmp_path / "openTSNE" / "affinity.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    request = {"features": str(finished / "features.npy"), "out": str(tmp_path / "e.npz"), "method": "tsne",
               "backend": "opentsne", "params": {"perplexity": 5}, "n": 80, "streamed": False,
               "on_gpu": False}  # fmt: skip
    trial = watch.run(Trial("tsne", "opentsne", 80), request, LIMITS, lambda fraction: None)
    assert (trial.status, trial.note) == (status, note)


def test_another_machine_in_a_curve_is_told(copied):
    class Told(study.Silent):
        def __init__(self):
            self.notes = []

        def notify(self, text):
            self.notes.append(text)

    def notes(methods="pca,lle"):
        told = Told()
        study.prepare(copied, {}, study.Grid("40,80", methods), LIMITS, told)
        return told.notes

    assert notes() == []
    path = copied / "points" / "pca_sklearn_40.json"
    trial = trials.load(path)
    assert {"jaxtl", "numpy", "scipy", "scikit-learn", "openTSNE"} <= set(trial.machine["versions"])
    versions = trial.machine["versions"]
    other = trial.machine | {"cores": 99, "versions": versions | {"numpy": "1.0"}}
    trials.save(copied / "points", replace(trial, machine=other))
    cores, numpy = trial.machine["cores"], versions["numpy"]
    assert notes() == [f"Curves mix machines or versions: cores 99 and {cores}, numpy 1.0 and {numpy}"]
    assert notes("lle") == []
    # Points of before there were versions are read, and taken for no other.
    trials.save(copied / "points", replace(trial, machine={"cpu": trial.machine["cpu"], "cores": cores}))
    assert notes() == []


def test_a_peak_that_cannot_be_told_from_files_is_left_to_the_parent(finished, tmp_path, monkeypatch):
    request = {"features": str(finished / "features.npy"), "out": str(tmp_path / "e.npz"), "method": "pca",
               "backend": "jaxtl", "params": {"seed": 1}, "n": 80, "streamed": True,
               "on_gpu": False}  # fmt: skip

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


def test_quality_found_with_more_memory_stays_and_what_is_missing_follows(copied, monkeypatch):
    grid, features = study.Grid("40", "pca,lle"), copied / "points" / "features_40.json"
    kept = features.read_bytes()
    pca, lle = (trials.load(copied / "points" / f"{name}_40.json") for name in ("pca_sklearn", "lle_jaxtl"))
    trials.save(copied / "points", replace(pca, quality=None))
    monkeypatch.setattr(quality, "available_memory", lambda: 1000)
    study.prepare(copied, {}, grid, LIMITS).run()
    assert features.read_bytes() == kept
    found = trials.load(copied / "points" / "pca_sklearn_40.json").quality
    assert LEAVE_ONE_OUT in found
    assert TRUSTWORTHINESS not in found
    # With as little it is not looked at again, with enough it is.
    before = stamps(copied)
    study.prepare(copied, {}, grid, LIMITS).run()
    assert stamps(copied) == before
    monkeypatch.undo()
    study.prepare(copied, {}, grid, LIMITS).run()
    assert trials.load(copied / "points" / "pca_sklearn_40.json").quality == pca.quality
    assert trials.load(copied / "points" / "lle_jaxtl_40.json") == lle


def test_a_later_failure_is_tried_again_and_a_lost_map_made_again(copied):
    (copied / "maps" / "pca_sklearn_40.npz").unlink()
    trial = trials.load(copied / "points" / "pca_sklearn_80.json")
    trials.save(copied / "points", replace(trial, status=FAILED, note="its process died", seconds=()))
    found = study.prepare(copied, {}, study.Grid("40,80", "pca"), LIMITS).run()
    assert all(p.status == DONE for curve in found for p in curve.trials)
    assert (copied / "maps" / "pca_sklearn_40.npz").is_file()


# What it refuses.


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--n-neighbors", 6], "was made with n_neighbors 5, not 6, which all its trials share"),
        (["--seed", 2], "was made with seed 1, not 2"),
        (["--dataset", "mnist"], "not mnist, which all its trials share"),
        (["--sizes", "40,many"], "sizes: 'many' is not a whole number; give some such as 500,1000,2000"),
        (["--sizes", "5"], "sizes: 5 is outside 22 to 1,000,000; leave it out"),
        (["--sizes", "131"], "has 130 images, training and test together; take smaller sizes (only"),
        (["--methods", "pca,umap"], "unknown method 'umap'; the methods are pca, tsne, lle, and"),
        (["--methods", "pca@3"], "unknown method 'pca@3'"),
        (["--methods", "pca@120"], "pca@120: no size is above its landmarks; add a larger one to --sizes"),
        (["--methods", "tsne"], "size 40: tsne: perplexity 30 needs 91 rows, the features have 40"),
        (["--backends", "torch"], "unknown backend 'torch'"),
        (["--backends", "cuml"], "backend cuml cannot work"),
        (["--time-limit", "0"], "--time-limit"),
        (["--dataset", "infinite:99"], "not infinite:99"),
    ],
)  # fmt: skip
def test_what_cannot_go_on_is_refused_in_one_line(jaxtl, finished, given, said):
    before = stamps(finished)
    code, out, err = jaxtl("scale", "--out", finished, *given)
    assert (code, out) == (2, "")
    assert err.startswith("jaxtl: ")
    assert err.count("\n") == 1
    assert said in err
    assert stamps(finished) == before


def test_other_folders_are_left_alone(jaxtl, tmp_path, asked):
    (tmp_path / "thesis.txt").write_text("words")
    code, _, err = jaxtl(*asked, "--out", tmp_path)
    assert (code, err) == (
        2,
        f"jaxtl: {tmp_path}: holds something else than a study; give a new folder with --out\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_edited_settings_and_damaged_trials_are_refused(copied, jaxtl):
    config = copied / "config.json"
    config.write_text(config.read_text().replace('"seed": 1', '"seed": 3'))
    code, _, err = jaxtl("scale", "--out", copied)
    assert code == 2
    assert "was edited since the study started" in err
    config.write_text(config.read_text().replace('"seed": 3', '"seed": 1'))
    trial = copied / "points" / "pca_sklearn_40.json"
    trial.write_text("{}")
    code, _, err = jaxtl("scale", "--out", copied)
    assert (code, err.count("\n")) == (2, 1)
    assert "not a trial of a study" in err


def test_what_was_asked_for_may_be_edited_but_sensibly(copied, jaxtl):
    config = copied / "config.json"
    text = config.read_text()
    for edited in (
        text.replace('"sizes": ', '"size": '),
        text.replace('"sizes": "40,80,120"', '"sizes": 40'),
        json.dumps(json.loads(text) | {"asked": ["40"]}),
    ):
        config.write_text(edited)
        code, _, err = jaxtl("scale", "--out", copied)
        assert (code, err.count("\n")) == (2, 1)
        assert "asked must have sizes, methods, backends, each a text or null" in err


def test_a_study_of_endless_digits_says_how(jaxtl, tmp_path):
    code, _, err = jaxtl("scale", "--dataset", "infinite:1000000", "--out", tmp_path / "new")
    said = "dataset infinite:1000000: a study of endless digits is --dataset mnist with larger --sizes"
    assert (code, err) == (2, f"jaxtl: {said}\n")
    assert not (tmp_path / "new").exists()


def test_a_disk_too_small_is_refused_before_work(few_digits, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(study.shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    with pytest.raises(JaxtlError, match=r"features of 60 images need 0.3 GiB of disk, 0.0 GiB are free"):
        study.prepare(tmp_path / "new", {"dataset": few_digits}, study.Grid("60", "pca"), LIMITS)


# Its parts.


def test_beyond_the_data_set_digits_go_on_without_end():
    source = Source(Settings(seed=7))
    source.check(1_000_000)
    assert len(set(source.index(70_100))) == 70_100
    np.testing.assert_array_equal(source.labels(70_100)[:70_000], source.labels(70_000))
    images = source.images(69_990, 70_050)
    np.testing.assert_array_equal(images[:10], source.images(69_990, 70_000))
    np.testing.assert_array_equal(images[10:], source.images(70_000, 70_050))
    np.testing.assert_array_equal(images[40:], source.images(70_030, 70_050))
    assert source.labels(70_050).shape == (70_050,)


def test_series_are_one_for_each_method_and_library_that_has_it():
    methods = plan.parse_methods("pca, tsne@5000,lle")
    found = [(s.method.name, s.backend, s.streamed) for s in plan.series_of(methods, "sklearn,jaxtl")]
    assert found == [
        ("pca", "sklearn", False), ("pca", "jaxtl", True), ("tsne@5000", "opentsne", True),
        ("lle", "sklearn", False), ("lle", "jaxtl", False),
    ]  # fmt: skip
    assert methods[1].params(Settings()) == {"seed": 1, "landmarks": 5000, "perplexity": 30.0}
    assert [methods[1].has(n) for n in (5000, 5001)] == [False, True]


def made(method, n, seconds, status=DONE, bytes_=2**30, **more):
    taken = (seconds,) if status == DONE else ()
    found = {LEAVE_ONE_OUT: (0.5, 0.4, 0.6)} if status == DONE else None
    return Trial(method, "jaxtl", n, status, seconds=taken, baseline=0, peak=bytes_,
                 limits={"seconds": 900.0, "memory": 2**34}, quality=found, **more)  # fmt: skip


def test_curves_are_fitted_where_constants_have_faded():
    known = [
        made("lle", n, 1 + 1e-6 * n**2, bytes_=2**20 + 8 * n**2) for n in (100, 1000, 10_000, 30_000, 70_000)
    ]
    curve = curves([*known, made("lle", 100_000, 0, OVER_TIME)])[0]
    assert (curve.seconds.smallest, curve.seconds.largest, curve.seconds.count) == (10_000, 70_000, 3)
    assert curve.seconds.exponent == pytest.approx(2, abs=0.01)
    assert curve.memory.exponent == pytest.approx(2, abs=0.01)
    assert curves(known[:2])[0].seconds is None


def test_accuracy_of_the_features_is_leave_one_out(finished):
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

    features = store.load(finished / "features.npy", 120)
    own = quality.look(finished / "features.npy", features.labels, seed=1).own[LEAVE_ONE_OUT]
    theirs = cross_val_score(KNeighborsClassifier(10), features.values, features.labels, cv=LeaveOneOut())
    # Ties between classes are settled differently: by distance here, by label there. Such rows may differ.
    near = NearestNeighbors(n_neighbors=10).fit(features.values).kneighbors(return_distance=False)
    votes = np.stack([np.bincount(features.labels[each], minlength=10) for each in near])
    tied = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1
    assert tied.mean() < 0.3
    sure = (votes.argmax(axis=1) == features.labels)[~tied].sum() / len(votes)
    assert sure - 1e-12 <= own[0] <= sure + tied.mean() + 1e-12
    assert abs(own[0] - theirs.mean()) <= tied.mean() + 1e-12
    assert own[1] < own[0] < own[2]


def test_pictures_show_exponents_limits_and_what_is_missing(finished):
    known = [made("tsne@500", n, 1e-3 * n) for n in (1000, 2000, 4000)]
    found = curves([*known, made("tsne@500", 8000, 0, OVER_TIME), made("tsne@500", 16_000, 0, NOT_TRIED)])
    text = plots.seconds_figure(found).legends[0].get_texts()[0].get_text()
    assert text == "t-SNE with 500 landmarks, jaxtl: n^1.00 [1.00, 1.00]"
    coords = np.random.default_rng(0).normal(size=(16_000, 2)).astype(np.float32)
    labels = np.arange(16_000, dtype=np.int32) % 10
    figure = plots.maps_figure(found, lambda p: (coords[: p.n], labels[: p.n]), tuple("0123456789"))
    shown = [axes.texts[0].get_text() for axes in figure.axes if axes.texts]
    assert shown == [OVER_TIME, NOT_TRIED]
    assert [axes.get_title() for axes in figure.axes] == [
        f"n = {n:,}" for n in (1000, 2000, 4000, 8000, 16_000)
    ]
    plots.memory_figure(found)
    plots.quality_figure(found, {1000: {LEAVE_ONE_OUT: (0.8, 0.7, 0.9)}})


def test_maps_of_a_strip_lie_on_one_another():
    rng = np.random.default_rng(0)
    before = rng.normal(size=(50, 2))
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1, -1])
    more = np.concatenate([before, rng.normal(size=(10, 2))]) @ turn
    np.testing.assert_allclose(plots._turned(more, before, free=True)[:50], before, atol=1e-9)
    mirrored = before * [-1, 1]
    np.testing.assert_allclose(plots._turned(mirrored, before, free=False), before)
