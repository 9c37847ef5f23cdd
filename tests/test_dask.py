"""Tasks handed to Dask's workers: two of a local cluster, of which one may die."""

import contextlib
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from jaxtl.errors import JaxtlError
from jaxtl.machine import cluster
from jaxtl.machine.tasks import Outcomes, Task
from jaxtl.progress import Silent
from tests.test_tasks import Listener, enter, refused, writing

pytestmark = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="a local cluster has no more workers than cores"
)


@pytest.fixture(scope="module")
def told():
    return Listener()


@pytest.fixture(scope="module")
def workers(told, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    with cluster.executor("local:2", folder / "runs" / "new", told) as executor:
        # The probes of the shared folder are gone.
        assert not list(folder.iterdir())
        yield executor


def test_workers_do_tasks_side_by_side_with_cores_of_their_own(workers, told, tmp_path):
    listener, done = Listener(), []
    tasks = [writing(tmp_path, number) for number in range(4)]
    results = workers.run(tasks, listener, Outcomes(lambda task, result: done.append(task)))
    assert [(tmp_path / f"{number}").read_text() for number in range(4)] == [f"text {k}" for k in range(4)]
    assert sorted(task.name for task in done) == [f"task {number}" for number in range(4)]
    assert {f"task {k}: Writing text {k}" for k in range(4)} <= set(listener.lines)
    # A process serves several tasks; two have no core in common, and the variables of this one.
    cores = {result["process"]: frozenset(result["cores"]) for result in results}
    assert os.getpid() not in cores
    assert sum(map(len, cores.values())) == len(frozenset().union(*cores.values()))
    for name, value in results[0]["environment"].items():
        assert value == os.environ.get(name)
    assert told.lines[0].startswith("Dask: 2 workers, ")


def test_what_is_refused_there_is_refused_here(workers, tmp_path):
    with pytest.raises(JaxtlError, match=r"^x: is not y; do z$"):
        workers.run([refused("x: is not y; do z"), writing(tmp_path, 1)], Silent())
    assert (tmp_path / "1").exists()
    fault = Task("faulty", "tests.dask_tasks:fail", {"words": "a fault"})
    with pytest.raises(RuntimeError, match="a fault") as caught:
        workers.run([fault], Silent())
    assert "dask_tasks.py" in str(caught.value.__cause__)


def test_a_task_begins_when_those_that_it_follows_have_ended(workers, tmp_path):
    ended, errors = [], []
    outcomes = Outcomes(
        lambda task, result: ended.append(task.name), lambda task, error: errors.append(str(error))
    )
    late = replace(writing(tmp_path, 2), follows=("no", "task 1"))
    workers.run([refused("no"), writing(tmp_path, 1), late], Silent(), outcomes)
    assert (ended, errors) == (["task 1", "task 2"], ["no"])


def test_tasks_that_are_to_be_apart_have_a_process_each(workers, tmp_path):
    tasks = [replace(writing(tmp_path, number), apart=True) for number in range(3)]
    results = workers.run(tasks, Silent())
    assert len({result["process"] for result in results}) == 3
    assert (workers.workers, workers.beside) == (2, 2)


def test_a_task_whose_process_died_is_done_again(workers, tmp_path):
    listener = Listener()
    task = Task("dying", "tests.dask_tasks:die_once", {"path": str(tmp_path / "died")})
    assert workers.run([task], listener) == ["lived"]
    assert "dying: its process died; it goes on where that left it" in listener.lines


def test_a_task_whose_worker_died_is_done_by_another(workers, tmp_path):
    listener = Listener()
    arguments = {"path": str(tmp_path / "long"), "text": "long", "seconds": 1.0}
    thread = threading.Thread(target=kill_worker_of, args=(tmp_path / "long.begun", listener))
    thread.start()
    (result,) = workers.run([Task("long", "tests.dask_tasks:write", arguments)], listener)
    thread.join()
    assert (tmp_path / "long").read_text() == "long"
    assert int((tmp_path / "long.begun").read_text()) == result["process"]
    assert "long: its process died; it goes on where that left it" in listener.lines


def kill_worker_of(begun, listener):
    """Kill the worker of a task that is known to have begun, which is the parent of its process."""
    process = wait_for_number(begun)
    while not listener.lines:
        time.sleep(0.01)
    stat = Path(f"/proc/{process}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)


def wait_for_number(path):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if path.exists() and (text := path.read_text()):
            return int(text)
        time.sleep(0.01)
    raise AssertionError(f"no {path}")


def test_ctrl_c_ends_tasks_and_their_processes(workers, tmp_path):
    class Interrupted(Silent):
        def interruptible(self):
            return contextlib.nullcontext(self.check)

        def check(self):
            if (tmp_path / "endless.begun").exists():
                raise KeyboardInterrupt

    arguments = {"path": str(tmp_path / "endless"), "text": "", "seconds": 600.0}
    with pytest.raises(KeyboardInterrupt):
        workers.run([Task("endless", "tests.dask_tasks:write", arguments)], Interrupted())
    process = wait_for_number(tmp_path / "endless.begun")
    end = time.monotonic() + 30
    while Path(f"/proc/{process}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(f"/proc/{process}").exists()
    # And the workers go on with others.
    workers.run([writing(tmp_path, 1)], Silent())


def test_nobody_at_an_address_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxtl.machine.connection._CONNECT_SECONDS", 0.2)
    for address in ("tcp://127.0.0.1:1", "nonsense://x:1"):
        with pytest.raises(JaxtlError, match=f"^--dask {address}: no scheduler answers .* take local:N$"):
            enter(address, tmp_path)
