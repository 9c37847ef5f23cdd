"""A sweep: runs like any other, what they share, what is missing made, refusals that cost nothing else."""

import importlib
import inspect
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import jaxtl as package
from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import LOGISTIC_PROBE
from jaxtl.experiment import checks, opening
from jaxtl.experiment.shared import Shared
from jaxtl.experiment.taken import take_over
from jaxtl.machine.process import Silence
from jaxtl.machine.tasks import InTurn
from jaxtl.records.tables import load_history
from jaxtl.runs import check
from jaxtl.runs.folder import RunFolder, SweepFolder
from jaxtl.runs.formats import Predictions
from jaxtl.sweeps import sweep as sweeping
from jaxtl.sweeps import tasks
from jaxtl.sweeps.result import read_sweep
from jaxtl.sweeps.settings import Asked, Grid
from tests.command_lines import words
from tests.test_tasks import Listener

SETTING = ("auto", 900.0, None)


@pytest.fixture(scope="module")
def settings(few_config):
    return replace(few_config, epochs=1)


@pytest.fixture(scope="module")
def pair(few_digits):
    return load(few_digits, "train"), load(few_digits, "test")


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def done(few_config, few_run, tmp_path_factory):
    """A sweep that was stopped before its second combination and gone on with; its third has no room.

    Its runs are copies of one that is finished.
    """
    folder = SweepFolder(tmp_path_factory.mktemp("sweep") / "sweep")
    grid = Grid(("none", "2", "all"), (32,))
    faults = ("", "", "memory: not for all layers")
    known = {
        one.name: {
            "parameters": count,
            "multiply_adds": 9 * count,
            "fault": fault,
            "forecast": [("PCA", 2.0)],
            "machine": "here",
        }
        for one, count, fault in zip(grid.combinations, (12_810, 15_370, 2_202_570), faults, strict=True)
    }
    looked = {"combinations": known, "stops": {"32px": 143}, "notes": [], "test_images": 60}

    class Copying:
        """An executor that ends before its tasks are done, where it is told how many it may do."""

        workers = beside = 1

        def __init__(self, stop):
            self.stop = stop

        def run(self, left, observer, outcomes=None):
            if left[0].function.endswith(":look"):
                return [looked]
            for task in left[: self.stop]:
                outcomes.begin(task)
                if task.name in known:
                    copy_run(folder, few_run, task.name)
                outcomes.keep(task, None)
            if self.stop is not None:
                raise Stopped

    with pytest.raises(Stopped):
        sweeping.start(Asked(few_config, grid, 1), folder.path, executor=Copying(2)).run()
    half = folder.rows.read()
    again = sweeping.resume(folder.path, executor=Copying(None))
    left = [task.name for task in again.left]
    again.run()
    return folder.path, half, left


def copy_run(folder, run, name):
    """A combination whose network is right where the run's own was, and for another wrong twice as often."""
    shutil.copytree(run, folder.run_of(name).path)
    last = load_history(run / "history.csv")[-1]["test_accuracy"]
    labels = np.arange(60, dtype=np.int32) % 10
    wrong = round((1 - last) * 60) + (3 if name.endswith("none") else 0)
    named = np.where(np.arange(60) < wrong, labels + 1, labels)
    folder.predictions_of(name).write(Predictions(labels, named[None].astype(np.int32)))


def test_what_is_missing_is_made_and_no_more(done):
    _, half, left = done
    assert [row["status"] for row in half["rows"]] == ["done", "not run yet", "refused"]
    # What runs share is not made for one that is alone.
    assert left == ["32px-2"]


def test_a_refusal_is_a_line_in_the_table(done):
    found = read_sweep(done[0])
    assert [row.status for row in found.rows] == ["done", "done", "refused"]
    assert found.rows[2].note == "memory: not for all layers"
    assert (found.rows[2].test_accuracy, found.rows[2].parameters) == (None, 2_202_570)


def test_numbers_are_those_of_the_runs(done):
    folder, _, _ = done
    found = read_sweep(folder)
    for row in found.rows[:2]:
        run = RunFolder(folder / "runs" / row.name)
        assert (row.seconds, row.training_seconds) == tuple(
            run.timings.read()[n] for n in ("run", "finetune")
        )
        scores = {(s.stage, s.metric): s for s in run.scores.read() if s.space == "features"}
        before, after = (scores[stage, LOGISTIC_PROBE] for stage in ("before", "after"))
        assert (row.probe_before.value, row.probe_after.low) == (before.value, after.low)
    worse, better = found.rows[:2]
    last = load_history(folder / "runs" / "32px-2" / "history.csv")[-1]["test_accuracy"]
    assert better.test_accuracy.value == pytest.approx(last, abs=1e-6)
    assert 0 <= better.test_accuracy.low < better.test_accuracy.value < better.test_accuracy.high <= 1
    assert found.best == better
    assert worse.behind.value == pytest.approx(3 / 60)
    assert worse.behind.low < 0 < worse.behind.high
    assert found.cheapest == worse
    assert found.words.startswith("Best: last 2, test accuracy")


def test_the_page_begins_with_the_answer_and_leads_to_the_runs(done):
    page = (done[0] / "report.html").read_text()
    assert page.index("What to train") < page.index("How the runs differ")
    assert "href='runs/32px-2/report.html'" in page
    assert "memory: not for all layers" in page
    assert (done[0] / "figures" / "sweep.pdf").is_file()


def test_a_sweep_is_shown_and_checked(done, jaxtl):
    code, out, _ = jaxtl("show", done[0])
    assert (code, "head alone" in out, "Best: " in out) == (0, True, True)
    code, out, _ = jaxtl("show", done[0], "--json")
    assert [row["name"] for row in json.loads(out)["rows"]][:2] == ["32px-none", "32px-2"]
    code, out, _ = jaxtl("check", done[0])
    assert (code, "predictions/32px-2.npz: ok" in out, "runs/32px-2/scores.csv: ok" in out) == (0, True, True)
    code, _, err = jaxtl("run", "--resume", done[0])
    assert (code, f"go on with: jaxtl sweep --resume {done[0]}" in err) == (2, True)


def test_a_sweep_is_told_in_a_notebook(done):
    found = read_sweep(done[0])
    assert "2 of 3 done" in repr(found)
    assert "head alone" in found._repr_html_()


def test_other_settings_are_refused(done):
    for insisted, said in (({"epochs": 7}, "epochs 2, not 7"), ({"seeds": 4}, "begun with 1 seed")):
        with pytest.raises(JaxtlError, match=said):
            sweeping.resume(done[0], insisted)


def test_new_values_are_added_to_a_sweep(done, tmp_path):
    folder = Path(shutil.copytree(done[0], tmp_path / "sweep"))
    seen = []

    class Refusing:
        def run(self, left, observer, outcomes=None):
            seen.append(Asked.of_record(left[0].arguments["asked"]).grid)
            raise JaxtlError("enough")

    with pytest.raises(JaxtlError, match="enough"):
        sweeping.resume(folder, {"trainable": ("none", "5"), "image_size": (64,)}, executor=Refusing())
    assert seen == [Grid(("none", "2", "all", "5"), (32, 64))]
    # What is refused changes nothing.
    assert (folder / "sweep.json").read_bytes() == (done[0] / "sweep.json").read_bytes()


def test_tasks_are_told_apart_and_any_process_can_be_told_of_them(few_config, tmp_path):
    asked = Asked(few_config, Grid(("none", "2"), (32, 64)), 2)
    setting = (str(tmp_path), "auto", 900.0, None)
    left = tasks.tasks_of(asked, setting, {"32px": 9}, asked.grid.combinations)
    names = [task.name for task in left]
    assert len(set(names)) == len(left) == 6
    for number, task in enumerate([*left, tasks.look(asked, setting)]):
        assert set(task.follows) <= set(names[:number])
        assert task.apart
        told = json.loads(json.dumps(task.arguments))
        assert Asked.of_record(told.pop("asked")) == asked
        module, _, function = task.function.partition(":")
        inspect.signature(getattr(importlib.import_module(module), function)).bind(
            asked=None, observer=None, **told
        )


def test_a_combination_that_is_not_done_says_why_and_whose_fault_it_is(done, tmp_path):
    folder = Path(shutil.copytree(done[0], tmp_path / "sweep"))
    for name in ("none", "2"):
        SweepFolder(folder).predictions_of(f"32px-{name}").remove()
    looked = {"combinations": {}, "stops": {}, "notes": [], "test_images": 60}
    row = {"parameters": 1, "multiply_adds": 1, "fault": "", "forecast": [], "machine": ""}
    looked["combinations"] = {f"32px-{name}": row for name in ("none", "2", "all")}

    class Failing:
        workers = beside = 2

        def run(self, left, observer, outcomes=None):
            if left[0].function.endswith(":look"):
                return [looked]
            errors = (
                MemoryError("5 GiB"),
                JaxtlError("no room"),
                Silence("32px-2: it died"),
                OSError("full"),
            )
            for task, error in zip(left, errors, strict=True):
                outcomes.keep_error(task, error)

    listener = Listener()
    with pytest.raises(JaxtlError, match="no combination could be run; the first: no room"):
        sweeping.resume(folder, observer=listener, executor=Failing()).run()
    rows = {row["name"]: (row["status"], row["note"]) for row in SweepFolder(folder).rows.read()["rows"]}
    assert rows == {
        "32px-none": ("refused", "no room"),
        "32px-2": ("failed", "it died"),
        "32px-all": ("failed", "full"),
    }
    assert "32px, shared: each combination makes its own, as out of memory (5 GiB)" in listener.lines


def test_a_record_that_was_edited_is_refused(tmp_path):
    (tmp_path / "sweep.json").write_text('{"digest": "x"}')
    with pytest.raises(JaxtlError, match="was edited since the sweep started"):
        sweeping.resume(tmp_path)


@pytest.mark.slow
def test_layers_that_no_network_has_are_refused_before_any_work(settings, pair, tmp_path):
    asked = Asked(replace(settings, dataset="given:few"), Grid(("none", "block_77"), (32,)), 1)
    with pytest.raises(JaxtlError, match="trainable block_77: MobileNetV2 has no layer 'block_77'"):
        sweeping.start(asked, tmp_path / "sweep", None, SETTING, InTurn({"given": pair}))
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sweep --out {new} --weights imagenet,{new}/no.safetensors", "no.safetensors: no such file"),
        ("sweep --out {new} --image-size 48,16", "--image-size"),
        ("sweep --out {new} --image-size 48,x", "--image-size"),
        ("sweep --out {new} --seeds 0", "--seeds"),
        ("sweep --out {new} --seed 4294967295 --seeds 3", "seed"),
        ("sweep --out {new} --dataset nowhere", "unknown dataset"),
        ("sweep --resume {new}", "no sweep (it has no sweep.json)"),
        ("sweep --resume {new} --out {new}", "leave out --out"),
        ("sweep --out {new} --forecast --dask local:1", "--dask: has no effect with --forecast"),
        ("sweep --out {new} --devices 1 --dask local:1", "--devices: has no effect with --dask"),
        ("sweep --out {new} --dask local:0", "--dask local:0: must be local:N, N from 1"),
        ("sweep --out {full}", "holds files already"),
    ],
)
def test_what_cannot_work_is_refused_in_a_line(jaxtl, tmp_path, line, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    code, out, err = jaxtl(*words(line, new=tmp_path / "new", full=tmp_path / "full"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def real(settings, pair, tmp_path_factory, without_figures):
    """A sweep whose work is done; its third combination has no room."""
    folder = tmp_path_factory.mktemp("real") / "sweep"
    roomy = checks.check_network_memory

    def check_room(config, shared):
        if config.trainable == "all":
            raise JaxtlError("memory: not for all layers")
        roomy(config, shared)

    with without_figures(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "check_network_memory", check_room)
        how = {"trainable": ("none", 2, "all"), "image_size": (32,), "out": folder}
        return package.sweep(settings, pair, **how)


@pytest.mark.slow
def test_every_combination_is_a_run_like_any_other(real, settings, pair, without_figures, tmp_path):
    for name in ("32px-none", "32px-2"):
        assert {standing.state for standing in check.look(real.path / "runs" / name)} == {"ok"}
    with without_figures():
        package.run(replace(settings, trainable="2"), pair, out=tmp_path / "alone")
    of_sweep, alone = RunFolder(real.path / "runs" / "32px-2"), RunFolder(tmp_path / "alone")
    # Frozen layers from what the sweep shares, in two stretches: to the bit what they are in one.
    for name in ("history.csv", "model.safetensors", "features/after.npz"):
        assert (of_sweep.path / name).read_bytes() == (alone.path / name).read_bytes()
    before = [run.features["before"].read().values for run in (of_sweep, alone)]
    # Within rounding: alone, a boundary between a convolution and its normalisation parts the two.
    np.testing.assert_allclose(before[0], before[1], atol=1e-5 * np.abs(before[1]).max())


@pytest.mark.slow
def test_what_does_not_depend_on_what_learns_is_made_once(real):
    runs = [RunFolder(real.path / "runs" / name) for name in ("32px-none", "32px-2")]
    for file in ("features", "training_features", "neighbors"):
        assert os.path.samefile(*(getattr(run, file)["before"].path for run in runs))
    assert os.path.samefile(*(run.embeddings["before", "pca"].path for run in runs))
    assert not any("before" in run.timings.read() for run in runs)


@pytest.mark.slow
def test_a_run_that_lacks_its_page_takes_nothing_that_was_for_its_scores(real, pair, tmp_path):
    folder = SweepFolder(Path(shutil.copytree(real.path, tmp_path / "sweep")))
    run = folder.run_of("32px-2")
    run.report.remove()
    work = opening.resume(run.path, shared=Shared(run.started.read().config, given=pair))
    assert take_over(work, folder.shared_of("32px", 1)) == 0
    assert not any(file.is_there for file in run.files if file.kept)


@pytest.mark.slow
def test_all_test_images_are_named_by_every_network(real):
    assert [row.status for row in real.rows] == ["done", "done", "refused"]
    # The last two layers hold no weights but those of a normalisation; all, those of MobileNetV2.
    assert [row.parameters for row in real.rows] == [12_810, 12_810 + 2 * 1280, 2_223_872 + 12_810]
    for row in real.rows[:2]:
        run = RunFolder(real.path / "runs" / row.name)
        last = run.history.read()[-1]["test_accuracy"]
        assert row.test_accuracy.value == pytest.approx(last, abs=1e-6)
        tested = SweepFolder(real.path).predictions_of(row.name).read()
        assert tested.named.shape == (1, 60)
        assert (tested.named[0] == tested.labels).mean() == row.test_accuracy.value


@pytest.mark.slow
def test_a_combination_whose_process_is_killed_costs_the_others_nothing(few_digits, launch, tmp_path):
    """Each is in a process of its own, where memory may run out."""
    kill = (
        "import os, signal, jaxtl.machine.tasks as tasks\n"
        "class Killed(tasks.Child):\n"
        "    def call(self, function, arguments, told):\n"
        "        def hear(message):\n"
        "            if arguments['arguments'].get('name') == '32px-2':\n"
        "                os.kill(self.pid, signal.SIGKILL)\n"
        "            told(message)\n"
        "        return super().call(function, arguments, told=hear)\n"
        "tasks.Child = Killed"
    )
    small = ["--image-size", "32", "--epochs", "1", "--dataset", few_digits]
    command = ["sweep", "--trainable", "none,2", *small, "--out", tmp_path / "sweep"]
    _, err = launch(*command, first=kill).communicate(timeout=600)
    found = read_sweep(tmp_path / "sweep")
    assert [row.status for row in found.rows] == ["done", "failed"], err
    assert "its process was killed, most likely for want of memory" in found.rows[1].note
    _, err = launch("sweep", "--resume", tmp_path / "sweep").communicate(timeout=600)
    found = read_sweep(tmp_path / "sweep")
    assert [row.status for row in found.rows] == ["done", "done"], err
    assert not (tmp_path / "sweep" / "shared").exists()
