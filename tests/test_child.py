"""The child process by itself, and that nothing else starts one.

What a reduction in it does is in test_reduction_process.py.
"""

import ast
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import jaxtl
from jaxtl.errors import JaxtlError
from jaxtl.machine.child import Child
from jaxtl.machine.process import Silence, run_command


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A function that writes the module `told`, which children find."""
    monkeypatch.syspath_prepend(tmp_path)
    return (tmp_path / "told.py").write_text


def test_what_a_function_returns_comes_back_with_what_it_told(module):
    module(
        "def double(values, progress=None):\n    progress and progress(1)\n    return [2 * v for v in values]"
    )
    told = []
    with Child(("told",)) as child:
        assert child.call("told:double", {"values": [1, 2.5]}) == [2, 5.0]
        assert child.call("told:double", {"values": []}, 60, told.append) == []
    assert told == [1.0]


def test_it_is_another_process_and_the_same_one_for_every_call():
    with Child() as child:
        assert [child.call("os:getpid", {}) for _ in range(2)] == [child.pid] * 2
        assert child.pid != os.getpid()
        with pytest.raises(RuntimeError, match="no attribute 'nothing'"):
            child.call("os:nothing", {})
        assert child.pid is None
        assert child.call("os:getpid", {}) == child.pid


def test_no_answer_is_refused_in_one_line_that_says_whether_it_was_late():
    with Child() as child:
        with pytest.raises(Silence, match=r"^no result within 0\.5 s$") as late:
            child.call("signal:pause", {}, 0.5)
        with pytest.raises(JaxtlError, match=r"^its process ended with exit code 3$") as dead:
            child.call("os:_exit", {"status": 3})
    assert (late.value.late, dead.value.late) == (True, False)


def test_another_thread_ends_a_call():
    with Child() as child:
        assert child.call("os:getpid", {})
        timer = threading.Timer(0.2, child.interrupt)
        timer.start()
        with pytest.raises(Silence, match="SIGKILL"):
            child.call("signal:pause", {})
        timer.join()


def test_a_function_tells_more_than_how_far_it_is(module):
    module("def work(tell):\n    tell({'ready': [1, 2]})\n    tell('done soon')\n    return None")
    messages = []
    with Child() as child:
        assert child.call("told:work", {}, told=messages.append) is None
    assert messages == [{"ready": [1, 2]}, "done soon"]


def test_who_watches_ends_the_work_though_it_is_silent():
    looked = []

    def watch():
        looked.append(child.pid)
        if len(looked) == 5:
            raise RuntimeError("seen enough")

    with Child() as child:
        started = child.pid
        with pytest.raises(RuntimeError, match="seen enough"):
            child.call("signal:pause", {}, watch=watch)
        assert child.pid is None
    assert looked == [started] * 5


def test_one_that_is_watched_is_late_too():
    with Child() as child, pytest.raises(Silence, match=r"^no result within 0\.3 s$"):
        child.call("signal:pause", {}, 0.3, watch=lambda: None)


def test_it_works_in_a_place_of_its_own(tmp_path):
    with Child(environment={"TOLD": "yes"}, folder=tmp_path) as child:
        assert child.call("os:getcwd", {}) == str(tmp_path)
        assert child.call("os:getenv", {"key": "TOLD"}) == "yes"


PRINTS = "import os\n\ndef work(end):\n    print('a word', flush=True)\n    end and os._exit(4)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_is_ended_while_it_has_nothing_to_do_costs_nothing(number):
    with Child() as child:
        for _ in range(2):  # before its first call, and after it
            ended = child.pid
            os.kill(ended, number)
            os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
            assert child.call("os:getpid", {}) == child.pid != ended


def test_what_it_prints_is_kept_and_told_when_it_dies(module, tmp_path):
    module(PRINTS)
    log = tmp_path / "log.txt"
    with Child(log=log) as child:
        child.call("told:work", {"end": False})
        assert child.said == "a word\n"
        with pytest.raises(Silence, match=r"exit code 4 \(a word\)$") as dead:
            child.call("told:work", {"end": True})
        assert child.said == ""
    assert (dead.value.code, dead.value.said) == (4, "a word\n" * 2)
    assert log.read_text() == "a word\n" * 2


def test_a_request_that_comes_while_it_works_does_not_end_it():
    """Nor does the kernel's late word that one has come: only the end of the lifeline tells of the parent."""
    its_end, own_end = os.pipe()
    words = [sys.executable, "-P", "-m", "jaxtl.machine.service", str(its_end)]
    request = json.dumps({"function": "os:getpid", "arguments": {}, "callbacks": []}).encode() + b"\n"
    channels = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, pass_fds=(its_end,), **channels) as service:
        service.stdin.write(3 * request)
        service.stdin.flush()
        answers = [json.loads(service.stdout.readline()) for _ in range(4)]
        assert answers == [{"ready": True}, *[{"done": service.pid}] * 3]
        os.close(its_end)
        os.close(own_end)
        assert service.wait(30) == -signal.SIGIO


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_though_its_parent_is_deaf_to_them(number):
    """As under nohup, and in the background of a script."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Child() as child:
            assert child.call("os:getpid", {}) == child.pid
            timer = threading.Timer(0.2, os.kill, (child.pid, number))
            timer.start()
            with pytest.raises(Silence, match=signal.Signals(number).name):
                child.call("signal:pause", {}, 30)
            timer.join()
    finally:
        signal.signal(number, before)


# Programs.


def test_a_program_tells_what_it_wrote_and_took():
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    ended = run_command([sys.executable, "-c", code])
    assert (ended.code, ended.output, ended.errors) == (3, "out\n", "err\n")
    assert ended.cpu_seconds > 0
    assert 0 < ended.seconds < 60
    assert ended.peak_memory > 2**20


def test_a_program_works_in_its_place_and_prints_to_its_log(tmp_path):
    told = "os.getcwd(), os.environ['TOLD'], sys.stdin.read() == ''"
    code = f"import os, sys; print({told}, flush=True); os.abort()"
    log = tmp_path / "log.txt"
    ended = run_command([sys.executable, "-c", code], 60, {"TOLD": "yes"}, tmp_path, log)
    assert (ended.code, ended.output, ended.errors) == (-signal.SIGABRT, "", "")
    assert log.read_text().split("\n")[0] == f"{tmp_path} yes True"


def test_a_program_that_hangs_ends_with_what_it_started(tmp_path):
    child = tmp_path / "child"
    with pytest.raises(Silence, match=r"^sh: no result within 0\.5 s$") as late:
        run_command(["sh", "-c", f"sleep 600 & echo $! > {child}; echo 'a word' >&2; wait"], 0.5)
    assert late.value.late
    assert late.value.said == "a word\n"
    end = time.monotonic() + 30
    while _lives(int(child.read_text())):
        assert time.monotonic() < end
        time.sleep(0.02)


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="no_such_program"):
        run_command(["no_such_program"])


# Nothing else starts a process.

ROOT = Path(jaxtl.__file__).parent.parent
HOUSES = ("jaxtl", "weights_convert")
MODULES = {"subprocess", "multiprocessing", "pty", "loky", "joblib"}
# Of os and of concurrent.futures.
STARTERS = ("fork", "spawn", "posix_spawn", "exec", "system", "popen", "startfile", "ProcessPoolExecutor")


def starts(source):
    """What in a piece of Python could start a process, a line each."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [f"{node.value.id}.{node.attr}"]
        for name in names:
            last = name.rpartition(".")[2]
            starter = name.startswith(("os.", "concurrent.", "futures.")) and last.startswith(STARTERS)
            if name.partition(".")[0] in MODULES or starter:
                yield f"{node.lineno}: {name}"


@pytest.mark.parametrize("house", HOUSES)
def test_one_module_alone_starts_processes(house):
    files = sorted((ROOT / house).rglob("*.py"))
    assert files
    places = {str(path.relative_to(ROOT)): list(starts(path.read_text(encoding="utf-8"))) for path in files}
    assert {name for name, lines in places.items() if lines} <= {"jaxtl/machine/process.py"}


def test_that_test_finds_what_it_looks_for():
    ways = (
        "import subprocess",
        "from subprocess import run",
        "import multiprocessing.pool",
        "def f():\n    import multiprocessing as m",
        "import os\nos.fork()",
        "import os\nos.posix_spawn('a', [], {})",
        "from os import execv",
        "from concurrent.futures import ProcessPoolExecutor",
    )
    assert all(list(starts(way)) for way in ways)
    assert not list(starts("import os\nos.getpid()\nfrom concurrent.futures import ThreadPoolExecutor"))
    assert list(starts((ROOT / "jaxtl" / "machine" / "process.py").read_text(encoding="utf-8")))
