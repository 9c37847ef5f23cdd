"""Independent work: what a task says, who does it, and with which part of the machine."""

import errno
import fcntl
import os
import platform
from dataclasses import replace

import pytest

from jaxtl.errors import JaxtlError
from jaxtl.machine import cluster, connection, memory, shares
from jaxtl.machine.process import Silence
from jaxtl.machine.tasks import InTurn, Named, Outcomes, Task, packed, unpacked
from jaxtl.progress import Silent
from jaxtl.runs.lock import Hold, wait_until_free


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.lines = []

    def step(self, title):
        self.lines.append(title)
        return super().step(title)

    def attempt(self, title):
        self.lines.append(title)
        return super().attempt(title)

    def notify(self, text):
        self.lines.append(text)


def writing(folder, number):
    arguments = {"path": str(folder / f"{number}"), "text": f"text {number}"}
    return Task(f"task {number}", "tests.dask_tasks:write", arguments)


def refused(words):
    return Task(words, "tests.dask_tasks:refuse", {"words": words})


def test_in_turn_does_one_after_another_in_this_process(tmp_path):
    listener, done = Listener(), []
    tasks = [writing(tmp_path, number) for number in range(3)]
    with cluster.executor(None, tmp_path, listener) as executor:
        outcomes = Outcomes(lambda task, result: done.append((task, result)), begun=listener.lines.append)
        results = executor.run(tasks, listener, outcomes)
    assert {result["process"] for result in results} == {os.getpid()}
    assert [(tmp_path / f"{number}").read_text() for number in range(3)] == ["text 0", "text 1", "text 2"]
    assert done == list(zip(tasks, results, strict=True))
    assert listener.lines[:4] == [tasks[0], "Writing text 0", "wrote text 0", tasks[1]]


def test_a_task_that_is_to_be_apart_has_a_process_of_its_own(tmp_path):
    listener, errors = Listener(), []
    apart = replace(writing(tmp_path, 1), apart=True)
    dying = Task("dying", "tests.dask_tasks:kill_itself", {}, apart=True)
    outcomes = Outcomes(failed=lambda task, error: errors.append(error))
    result, nothing = InTurn().run([apart, dying], listener, outcomes)
    assert result["process"] != os.getpid()
    assert listener.lines == ["Writing text 1", "wrote text 1"]
    assert (nothing, [type(error) for error in errors]) == (None, [Silence])
    assert str(errors[0]).startswith("dying: its process was killed, most likely for want of memory; end")


def test_what_only_this_process_has_is_given_to_all_tasks(tmp_path):
    task = Task("held", "tests.dask_tasks:write", {"path": str(tmp_path / "1")}, apart=True)
    (result,) = InTurn({"text": "given"}).run([task], Silent())
    assert (result["process"], (tmp_path / "1").read_text()) == (os.getpid(), "given")


def test_what_is_told_among_others_begins_with_the_task_s_name_once():
    listener = Listener()
    named = Named(listener, "PCA, 40 images")
    for text in ("a note", "PCA, 40 images"):
        named.notify(text)
        with named.step(text):
            pass
    assert listener.lines == [*["PCA, 40 images: a note"] * 2, *["PCA, 40 images"] * 2]


def test_a_task_that_is_refused_costs_no_other(tmp_path):
    tasks = [refused("no: mend it"), writing(tmp_path, 1), refused("nor this")]
    with (
        cluster.executor(None, tmp_path, Silent()) as executor,
        pytest.raises(JaxtlError, match="no: mend it"),
    ):
        executor.run(tasks, Silent())
    assert (tmp_path / "1").read_text() == "text 1"


def test_who_asks_is_told_of_each_error_and_the_rest_is_done(tmp_path):
    told, done = [], []
    outcomes = Outcomes(
        done=lambda task, result: done.append(task),
        failed=lambda task, error: told.append((task.name, str(error))),
    )
    fault = Task("faulty", "tests.dask_tasks:fail", {"words": "a fault"})
    with cluster.executor(None, tmp_path, Silent()) as executor:
        results = executor.run([fault, refused("no"), writing(tmp_path, 1)], Silent(), outcomes)
    assert told == [("faulty", "a fault"), ("no", "no")]
    assert [task.name for task in done] == ["task 1"]
    assert results[:2] == [None, None]


def test_errors_are_the_same_elsewhere():
    full = OSError(errno.ENOSPC, "No space left on device", "/there/model.safetensors")
    for error in (JaxtlError("x: is not y; do z"), full, MemoryError("16 GB"), RuntimeError("a fault")):
        other = unpacked(packed(error))
        assert (type(other), str(other)) == (type(error), str(error))


def had(cores, gpus=()):
    return {"cores": cores, "gpus": list(gpus)}


def test_cores_are_divided_among_the_workers_of_a_machine():
    eight = list(range(8))
    parts = shares.divided({"a": had(eight), "b": had(eight), "c": had(eight)})
    assert [parts[name].cores for name in "abc"] == [(0, 1), (2, 3, 4), (5, 6, 7)]
    assert {share.beside for share in parts.values()} == {3}
    # Who is held to some cores by a batch system keeps them all.
    apart = shares.divided({"a": had([0, 1]), "b": had([2, 3])})
    assert [apart[name].cores for name in "ab"] == [(0, 1), (2, 3)]
    # More workers than cores share some.
    assert [share.cores for share in shares.divided({name: had([4, 5]) for name in "abc"}).values()] == [
        (4,),
        (4,),
        (5,),
    ]


def test_no_gpu_is_two_workers_own():
    # As dask-cuda names them: all, each worker's own first.
    rotated = shares.divided({"a": had([0, 1], "01"), "b": had([0, 1], "10")})
    assert [rotated[name].gpu for name in "ab"] == ["0", "1"]
    alike = shares.divided({name: had([0, 1], "01") for name in "abc"})
    assert [share and share.gpu for share in alike.values()] == ["0", "1", None]
    assert alike["c"] is None


def test_processes_that_a_pinned_thread_starts_have_its_cores():
    before = os.sched_getaffinity(0)
    with shares.pinned([min(before)]):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_memory_is_shared_with_who_works_beside(monkeypatch):
    monkeypatch.setattr(memory, "_system", lambda: [12 * 2**30])
    monkeypatch.setattr(memory, "_left_by_groups", list)
    monkeypatch.setattr(memory, "_left_by_limits", list)
    try:
        memory.share_among(3)
        assert memory.available_memory() == 4 * 2**30
    finally:
        memory.share_among(1)
    assert memory.available_memory() == 12 * 2**30


@pytest.mark.parametrize("dask", ["local", "local:", "local:0", "local:two", "local:100000"])
def test_a_number_of_local_workers_is_one_that_the_machine_has(dask, tmp_path):
    cores = len(os.sched_getaffinity(0))
    with pytest.raises(JaxtlError, match=rf"^--dask {dask}: must be local:N, N from 1 to {cores}, as"):
        enter(dask, tmp_path)


def enter(dask, folder):
    with cluster.executor(dask, folder, Silent()):
        pass


def test_without_dask_there_is_one_line_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(connection, "find_spec", lambda name: None)
    lacking = r'^--dask local:1: Dask is not installed; run pip install "\.\[dask\]"'
    with pytest.raises(JaxtlError, match=lacking):
        enter("local:1", tmp_path)


def test_a_folder_is_waited_for(tmp_path):
    wait_until_free(tmp_path, 0)
    held = Hold(tmp_path)
    # Within one process it is no other's.
    wait_until_free(tmp_path, 0)
    held.let_go()
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_machine_that_is_down_can_be_taken_away(tmp_path):
    """A file system that does not let go of it by itself, as if another machine had locked a file."""
    path = tmp_path / ".jaxtl-lock"
    path.write_text("process 12 on far.example")
    with path.open("r+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(JaxtlError, match=rf"; where far.example is down, delete {path}$"):
            wait_until_free(tmp_path, 0)
        path.write_text(f"process 12 on {platform.node()}")
        with pytest.raises(JaxtlError, match=r"or give another folder$"):
            Hold(tmp_path)
