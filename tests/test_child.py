"""The child process by itself; what a reduction in it does is in test_reduction_process.py."""

import os
import threading

import pytest

from jaxtl.errors import JaxtlError
from jaxtl.machine.child import Child, Silence


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
