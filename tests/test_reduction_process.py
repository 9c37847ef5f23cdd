"""Reductions in another process: the same bytes, and an end in order whatever happens to it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.records.arrays import Features
from jaxtl.reduction import reduce
from jaxtl.reduction.process import Reducer, Reducers

SHORT = {"early_exaggeration_iter": 40, "n_iter": 40, "n_jobs": 1, "seed": 3}


@pytest.fixture
def source(tmp_path):
    """A file of features."""
    values = np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32)
    features = Features(values, np.arange(120, dtype=np.int32) % 3, np.arange(120, dtype=np.int32), {"a": 1})
    features.save(tmp_path / "features.npz")
    return tmp_path / "features.npz"


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A function that gives the other process an openTSNE that is the code told.

    It stands in the import path, which the other process takes over; this process has its own openTSNE.
    """
    folder = tmp_path / "library"
    (folder / "openTSNE").mkdir(parents=True)
    (folder / "openTSNE" / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder)

    def become(code):
        (folder / "openTSNE" / "affinity.py").write_text(code)

    return become


def gone(process_id):
    """Whether a process has ended; one that nobody waits for yet has."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_same_bytes_as_in_this_process_and_the_same_progress(source, tmp_path):
    here, there = [], []
    reduce(Features.load(source), "tsne", progress=here.append, **SHORT).save(tmp_path / "here.npz")
    with Reducer(60) as reducer:
        embedding = reducer.reduce(source, tmp_path / "there.npz", "tsne", "opentsne", SHORT, there.append)
    assert (tmp_path / "there.npz").read_bytes() == (tmp_path / "here.npz").read_bytes()
    assert there == here
    assert len(there) > 5
    assert embedding.params["seed"] == 3


def test_one_process_serves_many_calls_and_what_it_imported_stays(source, tmp_path, library):
    library("")
    count = tmp_path / "library" / "counted.py"
    count.write_text(f"open({str(tmp_path / 'log')!r}, 'a').write('x'); print('not an answer')")
    with Reducer(60, ("counted", "no_such_module")) as reducer:
        for method in ("pca", "lle", "pca"):
            assert reducer.reduce(source, tmp_path / "out.npz", method, "auto", {}).method == method
    assert (tmp_path / "log").read_text() == "x"


def test_a_script_without_a_guard_is_not_run_again(source, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('started', flush=True)\n"
        "from jaxtl.reduction.process import Reducer\n"
        "with Reducer(60) as reducer:\n"
        f"    print(reducer.reduce({str(source)!r}, 'out.npz', 'pca', 'auto', {{}}).method)\n"
    )
    # A module of the working directory must not stand in for a library either.
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "sklearn.py").write_text("raise SystemExit('the wrong one')")
    ended = subprocess.run(
        [sys.executable, script], cwd=tmp_path / "work", capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["started", "pca"]
    assert (tmp_path / "work" / "out.npz").exists()


ENDS = {
    "import os; os.write(2, b'first\\nno room\\n\\n'); os._exit(3)": r"ended with exit code 3 \(no room\)",
    "import ctypes; ctypes.string_at(0)": "was ended by SIGSEGV",
    "import os; os.kill(os.getpid(), 9)": "was ended by SIGKILL, often for want of memory",
}


@pytest.mark.parametrize("code", ENDS)
def test_a_death_is_told_in_one_line(source, tmp_path, library, code):
    library(code)
    message = (
        rf"^tsne \(opentsne\): its process {ENDS[code]}; take fewer images( or take --backend intelex)?$"
    )
    with Reducer(60) as reducer, pytest.raises(JaxtlError, match=message):
        reducer.reduce(source, tmp_path / "out.npz", "tsne", "opentsne", SHORT)


def test_after_a_death_the_next_call_has_another_process(source, tmp_path, library):
    library("import os; os._exit(3)")
    with Reducer(60) as reducer:
        with pytest.raises(JaxtlError, match="exit code 3"):
            reducer.reduce(source, tmp_path / "out.npz", "tsne", "auto", SHORT)
        assert reducer.reduce(source, tmp_path / "out.npz", "pca", "auto", {}).method == "pca"


HANGS = {
    "sleeping": "import time; time.sleep(600)",
    # A C function that keeps the interpreter's lock.
    "locked": "import ctypes; ctypes.PyDLL(None).sleep(600)",
}


def test_a_hang_ends_at_the_time_limit(source, tmp_path, library):
    library(HANGS["locked"])
    with Reducer(2) as reducer:
        child = reducer.pid
        message = (
            r"^tsne \(auto\): no result within 2 s; take fewer images, raise --time-limit or take --backend "
        )
        with pytest.raises(JaxtlError, match=message):
            reducer.reduce(source, tmp_path / "out.npz", "tsne", "auto", SHORT)
        assert gone(child)


def test_endless_progress_is_no_result(source, tmp_path, library):
    library(
        "import inspect\n"
        "scopes = [frame.frame.f_locals for frame in inspect.stack()]\n"
        "progress = next(scope['progress'] for scope in scopes if 'progress' in scope)\n"
        "while True: progress(0.5)"
    )
    with Reducer(2) as reducer, pytest.raises(JaxtlError, match="no result within 2 s"):
        reducer.reduce(source, tmp_path / "out.npz", "tsne", "auto", SHORT, lambda fraction: None)


def test_a_hanging_import_counts_as_the_call_that_waits_for_it(source, tmp_path, library):
    library("")
    (tmp_path / "library" / "hangs.py").write_text("import time; time.sleep(600)")
    with Reducer(1, ("hangs",)) as reducer, pytest.raises(JaxtlError, match="no result within 1 s"):
        reducer.reduce(source, tmp_path / "out.npz", "pca", "auto", {})


def test_a_users_error_arrives_as_it_was_raised(source, tmp_path):
    with pytest.raises(JaxtlError) as here:
        reduce(Features.load(source), "tsne", perplexity=99)
    with Reducer(60) as reducer, pytest.raises(JaxtlError) as there:
        reducer.reduce(source, tmp_path / "out.npz", "tsne", "auto", {"perplexity": 99})
    assert str(there.value) == str(here.value)


def test_an_unwritable_folder_is_named(source, tmp_path):
    (tmp_path / "file").touch()
    with Reducer(60) as reducer, pytest.raises(NotADirectoryError) as caught:
        reducer.reduce(source, tmp_path / "file" / "out.npz", "pca", "auto", {})
    assert caught.value.filename == str(tmp_path / "file" / "out.npz")


@pytest.mark.parametrize(
    ("code", "kind"), [("1 / 0", RuntimeError), ("raise MemoryError('37 GiB')", MemoryError)]
)
def test_any_other_error_keeps_its_traceback(source, tmp_path, library, code, kind):
    library(code)
    with Reducer(60) as reducer, pytest.raises(kind, match=r"division by zero|37 GiB") as caught:
        reducer.reduce(source, tmp_path / "out.npz", "tsne", "auto", SHORT)
    assert not isinstance(caught.value, JaxtlError)
    assert "\n" not in str(caught.value)
    assert "affinity.py" in str(caught.value.__cause__)


def test_parameters_that_json_cannot_hold_leave_the_process_as_it_was(source, tmp_path):
    with Reducer(60) as reducer:
        with pytest.raises(TypeError):
            reducer.reduce(source, tmp_path / "out.npz", "pca", "auto", {"seed": object()})
        assert reducer.reduce(source, tmp_path / "out.npz", "pca", "auto", {}).method == "pca"


def test_a_stop_in_the_callback_leaves_no_process_and_no_file(source, tmp_path, library):
    library("")
    (tmp_path / "library" / "names.py").write_text(
        f"import os; open({str(tmp_path / 'id')!r}, 'w').write(str(os.getpid()))"
    )

    def stop(fraction):
        raise KeyboardInterrupt

    with Reducer(60, ("names",)) as reducer:
        with pytest.raises(KeyboardInterrupt):
            reducer.reduce(source, tmp_path / "out.npz", "pca", "auto", {}, stop)
        assert gone(int((tmp_path / "id").read_text()))
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


PARENT = """
import json, sys, time
from jaxtl.reduction.process import Reducer, Reducers
sys.path.insert(0, sys.argv[1])
with Reducer(600) as reducer:
    reducer.reduce(sys.argv[2], sys.argv[3], "tsne", "auto", {})
"""


@pytest.mark.parametrize("hang", HANGS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_end_of_the_parent_is_its_end(source, tmp_path, library, hang, number):
    library(f"import os; open({str(tmp_path / 'id')!r}, 'w').write(str(os.getpid()))\n{HANGS[hang]}")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path / "library", source, tmp_path / "out.npz"],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with parent:
        wait_until(lambda: (tmp_path / "id").exists() and (tmp_path / "id").read_text())
        # As a terminal does at Ctrl-C: to the whole group.
        os.killpg(parent.pid, number)
        told = parent.communicate()[1].decode()
    wait_until(lambda: gone(int((tmp_path / "id").read_text())))
    assert parent.returncode == -number
    assert number == signal.SIGKILL or told.rstrip().endswith("KeyboardInterrupt")


def test_an_idle_process_ends_with_its_parent(tmp_path):
    code = (
        "import time; from jaxtl.reduction.process import Reducer\n"
        "reducer = Reducer(60); print(reducer.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    with parent:
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        assert not gone(child)
        parent.kill()
    wait_until(lambda: gone(child))


@pytest.mark.parametrize("lasting", [False, True])
def test_processes_are_kept_for_the_next_who_reduces(lasting):
    kept = Reducers(lasting)
    first = kept.take("cpu", 60.0, ())
    second = kept.take("cpu", 60.0, ())
    pids = first.pid, second.pid
    assert len(set(pids)) == 2
    kept.give_back("cpu", first)
    assert kept.take("cpu", 60.0, ()).pid == pids[0]
    # What is at work ends when the run does, and what outlasts it when it is closed.
    kept.give_back("cpu", first)
    kept.stop()
    wait_until(lambda: gone(pids[1]))
    assert gone(pids[0]) != lasting
    kept.close()
    wait_until(lambda: gone(pids[0]))
    second.close()
