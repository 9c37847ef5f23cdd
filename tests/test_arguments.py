"""What no argument may be is refused in one line before any work, in every option of every command."""

import collections
import contextlib
import io
import sys

import pytest

from benchmarks.__main__ import main as benchmarks
from jaxtl.cli.main import main as jaxtl_main
from tests.faults import arguments
from weights_convert.__main__ import run as weights_convert

PROGRAMS = {"jaxtl": jaxtl_main, "benchmarks": benchmarks, "weights_convert": weights_convert}


class Began(Exception):
    """Work was begun."""


# Where each command's work begins.
WORK = (
    "jaxtl.data.load",
    "jaxtl.models.weights.load_model",
    "jaxtl.experiment.opening.planned",
    "jaxtl.experiment.comparison.read",
    "jaxtl.records.arrays.Features.load",
    "jaxtl.records.arrays.Embedding.load",
    "jaxtl.scaling.study.prepare",
    "jaxtl.machine.devices.leave_device_memory",
    # What it sets stays set in this process.
    "jaxtl.machine.cache.set_up",
    "jaxtl.machine.devices.use_devices",
    "benchmarks.suite.run",
    "benchmarks.suite.describe_machine",
)


@pytest.fixture
def outcome(monkeypatch, few_digits, files, tmp_path):
    """A function of a `Case`: exit code, or `Began`, and standard error."""
    for place in WORK:
        monkeypatch.setattr(place, _begin)
    names = {"few": few_digits, "files": files, "new": tmp_path / "new"}

    def run(case):
        monkeypatch.setattr(sys, "argv", ["program", *case.line(**names)])
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                PROGRAMS[case.program]()
            except SystemExit as end:
                return end.code, said.getvalue()
            except Began:
                return Began, said.getvalue()
        return 0, said.getvalue()

    return run


def _begin(*args, **kwargs):
    raise Began


def refused(case, outcome):
    code, said = outcome(case)
    assert code == 2, (case.command, case.option, case.value[:30], code, said[-300:])
    assert said.count("\n") == 1, (case.command, case.option, said[:300])
    return said


def test_all_commands_are_looked_at():
    for program, group in arguments.PROGRAMS.items():
        assert {*arguments.COMMANDS[program]} | arguments.IDLE >= {*group.commands}
    assert len(arguments.numbers()) > 300


def test_no_option_takes_a_number_that_is_none(outcome, tmp_path):
    for case in arguments.numbers():
        said = refused(case, outcome)
        assert case.option in said or case.called in said, said
        assert len(said) < 400, said
    assert not list(tmp_path.iterdir())


def test_nothing_empty_is_taken_for_a_default(outcome, tmp_path):
    for case in arguments.blanks():
        said = refused(case, outcome)
        assert case.option in said or case.called in said, said
    assert not list(tmp_path.iterdir())


def test_very_long_texts_end_in_no_traceback(outcome, tmp_path):
    for case in arguments.texts():
        code, said = outcome(case)
        assert code in (2, Began), (case, said[-300:])
        assert said.count("\n") <= 1, (case.command, case.option, said[:200])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_random_texts_are_refused_in_one_line_or_taken(outcome, tmp_path):
    counts = collections.Counter()
    for case in (*arguments.numbers(), *arguments.blanks(), *arguments.texts(), *arguments.random(10_000)):
        code, said = outcome(case)
        kind = {2: "refused in one line", Began: "taken", 0: "taken"}.get(code, "failed")
        kind = "failed" if said.count("\n") > 1 else kind
        counts[kind] += 1
        assert kind != "failed", (case, code, said[-300:])
    print(f"{counts.total():,} arguments: {dict(counts)}")
    assert not list(tmp_path.iterdir())
