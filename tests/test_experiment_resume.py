"""No kill, full disk or deleted file can spoil a run: it goes on to the same bytes."""

import errno
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from jaxtl.errors import JaxtlError
from jaxtl.experiment import analysis, embeddings, experiment, opening
from jaxtl.machine.child import Child, Pool
from jaxtl.machine.process import Silence
from jaxtl.runs import figures
from tests.run_files import FIGURES, FILES, Notes, finish, stamps

# Numbers that are kept until all are there.
KEPT = {f"scores_{part}_{stage}.npz" for part in ("features", "embeddings") for stage in ("before", "after")}


KEPT.add("scores_change.npz")


class Killed(BaseException):
    """Stands for SIGKILL: nothing in jaxtl may catch it."""


@pytest.fixture
def kill_after(monkeypatch):
    """A function that makes writing the second file that was not there yet die, as SIGKILL would.

    The file's temporary stays, as it does after SIGKILL.
    """
    real = Path.replace
    new_files = []

    def replace(self, target):
        if not target.exists():
            new_files.append(target)
        if new_files[1:] == [target]:
            shutil.copy(self, target.with_name(f".{target.stem}-killed_0{target.suffix}"))
            raise Killed(str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)

    return new_files.clear


def test_a_run_killed_at_every_write_ends_as_if_it_never_was(
    few, few_run, contents, kill_after, monkeypatch, tmp_path
):
    """Between any two files, and within every step, since a step is killed where it writes."""
    # One step at a time: of those under way at the same time, the others would go on and write.
    monkeypatch.setattr(experiment, "cpu_count", lambda: 1)
    # As on one core, where this process makes all embeddings: others do not die with what dies here.
    monkeypatch.setattr(embeddings, "cpu_count", lambda: 1)
    folder, deaths = tmp_path / "run", []
    while True:
        kept = stamps(folder)
        kill_after()
        try:
            if (folder / "config.json").exists():
                finish(folder)
            else:
                opening.start(few, folder).run()
            break
        except Killed as death:
            deaths.append(str(Path(str(death)).relative_to(folder)))
        # Of a step with several files the first ones are made again where it was killed before the last.
        parts = {"history.csv", "classes.csv", "images.csv", "claims.json", "measures.npz", *FIGURES}
        unfinished = {"timings.json", "manifest.json", "checkpoint.npz", *KEPT, *parts}
        for name in kept.keys() - unfinished:
            if "killed_0" not in name:
                assert stamps(folder)[name] == kept[name], f"{name} was made again"
    files = set(stamps(few_run))
    assert set(deaths) == (files | {"checkpoint.npz"} | KEPT) - {"config.json"}
    assert contents(folder) == contents(few_run)


@pytest.mark.slow  # four processes, each of which compiles anew; the test above kills at every write
def test_sigkill_at_any_moment_changes_no_byte(config, finished, contents, launch, tmp_path):
    folder, moments = tmp_path / "run", random.Random(0)
    names = ("dataset", "samples", "trainable", "epochs", "perplexity")
    args = ["--out", folder, "--no-layers"]
    for name in names:
        args += [f"--{name.replace('_', '-')}", getattr(config, name)]
    for file in ("timings.json", "checkpoint.npz", "embeddings/before_pca.npz"):
        process = launch("run", *args)
        while process.poll() is None and not (folder / file).exists():
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.communicate()
        args = ["--resume", folder]
    process = launch("run", *args)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert contents(folder) == contents(finished)


def test_a_finished_run_is_left_alone(copy):
    before = stamps(copy)
    finish(copy)
    assert stamps(copy) == before


def test_what_was_deleted_is_made_again_and_nothing_else(copy, finished, contents):
    gone = {"environment.json", "history.csv", "features/before.npz", "embeddings/after_lle.npz", FIGURES[4]}
    for name in gone:
        (copy / name).unlink()
    before = stamps(copy)
    finish(copy)
    after = stamps(copy)
    made_together = {"history.csv", "model.safetensors", *FIGURES, "timings.json", "manifest.json"}
    for name in FILES - gone - made_together:
        assert after[name] == before[name], name
    assert contents(copy) == contents(finished)


def test_only_the_figure_of_which_a_file_is_missing_is_drawn_again(copy, finished, contents):
    (copy / "figures" / "after.svg").unlink()
    before, observer = stamps(copy), Notes()
    opening.resume(copy, observer=observer).run()
    again = {name for name, stamp in stamps(copy).items() if stamp != before.get(name)}
    assert again == {
        "timings.json",
        "manifest.json",
        *(f"figures/after.{kind}" for kind in ("png", "svg", "pdf")),
    }
    assert observer.titles == ["Figure after"]
    assert contents(copy) == contents(finished)


@pytest.mark.slow
def test_a_figure_whose_process_dies_costs_no_other(copy, finished, contents, monkeypatch):
    call = Child.call

    def die(child, function, arguments, *others, **more):
        if arguments.get("name") == "comparison":
            os.kill(child.pid, signal.SIGKILL)
        return call(child, function, arguments, *others, **more)

    monkeypatch.setattr(figures, "cpu_count", lambda: 2)
    monkeypatch.setattr(Child, "call", die)
    shutil.rmtree(copy / "figures")
    told = rf"^{copy}/figures/comparison: its process .*SIGKILL.*; go on with: jaxtl run --resume {copy}$"
    with pytest.raises(JaxtlError, match=told):
        finish(copy)
    assert not list((copy / "figures").glob("*comparison*"))
    assert len(list((copy / "figures").iterdir())) == 9
    monkeypatch.undo()
    finish(copy)
    assert contents(copy) == contents(finished)


@pytest.mark.slow
def test_the_processes_that_draw_end_with_the_run(copy, monkeypatch):
    started, begin = [], Child.__init__

    def note(child, *preload):
        begin(child, *preload)
        started.append(child.pid)

    monkeypatch.setattr(figures, "cpu_count", lambda: 2)
    monkeypatch.setattr(Child, "__init__", note)
    shutil.rmtree(copy / "figures")
    finish(copy)
    assert len(started) == 2
    for process in started:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_leftovers_of_a_kill_go_and_other_files_stay(copy):
    leftovers = [copy / ".config-abc123_z.json", copy / "features" / ".before-00000000.npz"]
    others = [
        copy / ".notes-settings.txt",
        copy / "mine" / ".before-00000000.npz",
        copy / "features" / ".keep",
    ]
    (copy / "mine").mkdir()
    for path in leftovers + others:
        path.write_text("x")
    finish(copy)
    assert not any(path.exists() for path in leftovers)
    assert all(path.exists() for path in others)


def test_a_run_killed_before_its_config_was_whole_can_start_again(few, tmp_path):
    (tmp_path / ".config-abcd1234.json").write_text("{")
    with pytest.raises(JaxtlError, match="no run folder"):
        opening.resume(tmp_path)
    opening.start(few, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "dataset.json", "manifest.json"}


def test_a_full_disk_loses_nothing_that_was_done(few, few_run, monkeypatch, contents, tmp_path):
    """The device refuses to keep anything as large as the model: what was written before stays, whole."""
    folder, real = tmp_path / "run", os.fsync

    def fsync(handle):
        if os.fstat(handle).st_size > 5e6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match=r"No space left on device.*/model\.safetensors"):
            opening.start(few, folder).run()
    done = {
        "config.json",
        "dataset.json",
        "manifest.json",
        "timings.json",
        "history.csv",
        "features/before.npz",
        "features/train_before.npz",
    }
    # And what was made at the same time.
    beside = {
        "checkpoint.npz",
        "environment.json",
        "neighbors/before.npz",
        "embeddings/before_pca.npz",
        *KEPT,
    }
    assert done <= set(stamps(folder)) <= done | beside
    before = stamps(folder)
    finish(folder)
    after = stamps(folder)
    assert all(
        after[name] == before[name]
        for name in before.keys() - {"timings.json", "manifest.json", "history.csv", "checkpoint.npz", *KEPT}
    )
    assert contents(folder) == contents(few_run)


def test_nothing_is_done_again_in_a_run_that_is_not_finished(copy):
    (copy / "history.csv").unlink()
    before = stamps(copy)
    with pytest.raises(
        JaxtlError, match=r"is not finished \(history\.csv is missing\); go on with: jaxtl run"
    ):
        opening.resume(copy).redo("scores", "figures", "report")
    assert stamps(copy) == before


def test_a_process_for_numbers_that_dies_says_where_and_how_to_go_on(few_run, tmp_path, monkeypatch):
    def die(*_):
        raise Silence("its process was ended by SIGKILL")

    folder = shutil.copytree(few_run, tmp_path / "run")
    (folder / "scores.csv").unlink()
    monkeypatch.setattr(analysis, "default_engine", lambda: "jax")
    monkeypatch.setattr(Pool, "call", die)
    with pytest.raises(JaxtlError) as told:
        opening.resume(folder).run()
    assert str(told.value).startswith(f"{folder}: ")
    assert str(told.value).endswith(f"ended by SIGKILL; go on with: jaxtl run --resume {folder}")
