"""What a run shows, and Ctrl-C while it works."""

import contextlib
import io
import signal
import sys

import pytest
from rich.console import Console

from jaxtl.terminal import TerminalReport


@pytest.fixture
def report():
    return TerminalReport(Console(file=io.StringIO(), force_terminal=False))


def test_a_finished_stage_leaves_one_line(report):
    with report.stage("Counting") as progress:
        progress(0.5)
    lines = report.console.file.getvalue().splitlines()
    assert len(lines) == 1
    assert "Counting" in lines[0]


def test_a_ctrl_c_that_somebody_swallows_stops_at_the_next_step(report):
    with pytest.raises(KeyboardInterrupt):
        swallow_and_go_on(report)
    assert report.console.file.getvalue() == ""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def swallow_and_go_on(report):
    with report.stage("Counting") as progress:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        progress(0.5)
        pytest.fail("the stage went on")


def test_a_ctrl_c_that_python_drops_stops_at_the_next_step_without_a_traceback(report, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))
    with pytest.raises(KeyboardInterrupt):
        drop_and_go_on(report)
    assert told == [ValueError]


def drop_and_go_on(report):
    with report.stage("Counting") as progress:
        for error in (KeyboardInterrupt, ValueError):
            Dropping(error)
        progress(0.5)
        pytest.fail("the stage went on")


class Dropping:
    """Raises where Python drops what is raised."""

    def __init__(self, error):
        self.error = error

    def __del__(self):
        if self.error is KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
        raise self.error


def test_a_caller_s_own_handler_stays(report):
    caught = []
    earlier = signal.signal(signal.SIGINT, lambda *_: caught.append("caught"))
    try:
        with report.stage("Counting") as progress:
            signal.raise_signal(signal.SIGINT)
            progress(0.5)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert caught == ["caught"]
