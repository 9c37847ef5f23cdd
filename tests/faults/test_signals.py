"""Signals at any moment of a command's life: one line, its exit code, nothing left running, nothing lost."""

import contextlib
import os
import shlex
import signal
import sys
import time
from collections import Counter

import pytest

from tests.command_lines import SMALL
from tests.faults.struck import BEFORE, CRIES, DONE, ENDED, WORDS, after, begin, strike, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

RUN = f"run --trainable none --epochs 1 --methods pca --no-layers {' '.join(map(str, SMALL))}"
NUMPY = "_multiarray_umath"


@pytest.fixture(autouse=True)
def hearing():
    """Tests that run under nohup, or in a script's background, start processes that hear signals."""
    earlier = {number: signal.getsignal(number) for number in WORDS}
    for number, handler in earlier.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


def heard(life):
    return life.hears


def numpy_loads(life):
    return life.has_loaded(NUMPY)


def says_something(life):
    """At its end, where all that is left to be done is to end."""
    return bool(life.process.stdout.read(1))


@pytest.mark.parametrize(
    ("words", "program", "moment", "number"),
    [
        ("--help", "script", heard, signal.SIGINT),
        ("--help", "module", heard, signal.SIGTERM),
        ("show {finished} --all", "script", numpy_loads, signal.SIGINT),
        ("show {finished}", "module", numpy_loads, signal.SIGHUP),
    ],
)
def test_a_signal_while_things_are_imported(finished, words, program, moment, number):
    outcome = strike(begin(words.format(finished=finished), program), moment, (number,))
    assert (outcome.kind, outcome.left) == (ENDED, []), outcome.errors
    assert len(outcome.errors.splitlines()) == 1


def test_a_signal_at_the_end_leaves_a_line_or_comes_too_late():
    outcome = strike(begin("--help"), says_something)
    assert outcome.kind in (ENDED, DONE), outcome.errors


def test_two_signals_are_as_one():
    outcome = strike(begin("--help"), heard, (signal.SIGINT, signal.SIGINT))
    assert outcome.kind == ENDED, outcome.errors
    assert outcome.errors == "jaxtl: interrupted\n"


WORKS = """
import sys, time
from jaxtl.machine import signals
signals.hear()
from jaxtl.machine.child import Child
from jaxtl.records.files import replacing
signals.tell(lambda: "; go on")
with Child(), replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_half_written_goes_and_processes_end(tmp_path, number):
    (tmp_path / "a").write_text("from before")
    outcome = strike(begin(str(tmp_path / "a"), code=WORKS), says_something, (number,))
    assert (outcome.kind, outcome.left) == (ENDED, [])
    assert outcome.errors == f"jaxtl: {WORDS[number]}; go on\n"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["from before"]


HANGS = """
import time
from jaxtl.machine import signals
signals.hear()
with signals.at_signal(lambda: time.sleep(60)):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_who_does_not_want_to_wait_presses_again():
    outcome = strike(begin("", code=HANGS), says_something, (signal.SIGINT, signal.SIGINT), pause=1.2)
    assert (outcome.kind, outcome.errors) == (ENDED, "jaxtl: interrupted\n")


NO_THREADS = """
import _thread, sys, time
from jaxtl.machine import signals
signals.hear()
def refuse(*args): raise RuntimeError("can't start new thread")
_thread.start_new_thread = refuse
with signals.at_signal(lambda: sys.stderr.write("first\\n") and sys.stderr.flush()):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_where_no_thread_more_may_be_a_signal_is_not_lost():
    outcome = strike(begin("", code=NO_THREADS), says_something)
    assert (outcome.kind, outcome.errors) == (ENDED, "first\njaxtl: interrupted\n")


def test_who_was_started_deaf_to_a_signal_stays_so():
    # As nohup does.
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        life = begin("--version")
    finally:
        signal.signal(signal.SIGHUP, earlier)
    outcome = strike(life, heard, (signal.SIGHUP,))
    assert (outcome.kind, outcome.errors) == (DONE, "")


# How many moments of each command are struck in the long form.
MOST = int(os.environ.get("JAXTL_TEST_SIGNALS", "40"))
MOMENTS = {"help": 40, "show": 40, "reduce": 60, "run": MOST}
MOMENTS |= {"compare": MOST // 2, "sweep": MOST // 2, "finetune": MOST // 2, "scale": MOST // 2}
# How each goes on where it was stopped; another goes on by the same command.
RESUMED = {"run": "run --resume {out}", "compare": "run --resume {out}", "sweep": "sweep --resume {out}"}
# Where tables and pictures tell of seconds, what is the same however it was stopped.
SAME = {"scale": ("features.", "maps/"), "sweep": ("runs/", "predictions/")}
WORKS_ON = {*RESUMED, "finetune", "scale"}
# How many runs lose a process in the long form.
CHILDREN = 8


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("name", MOMENTS)
def test_signals_over_a_whole_life(name, few_digits, finished, files, tmp_path, contents):
    """Moments spread over what the command takes undisturbed; a run then goes on to the same bytes."""
    commands = {
        "help": "--help",
        "show": f"show {finished} --all",
        "reduce": f"reduce {files}/good.npz --method pca --out {{out}}.npz",
        "run": f"{RUN} --dataset {few_digits} --out {{out}}",
        "compare": f"compare {finished}/features/before.npz {finished}/features/after.npz --methods pca,tsne "
        "--perplexity 5 --out {out}",
        "sweep": f"sweep --dataset {few_digits} --image-size 32 --trainable none,1 --epochs 1 --seeds 1 "
        "--out {out}",
        "finetune": f"finetune --dataset {few_digits} --image-size 32 --trainable 2 --epochs 6 "
        "--out {out}.safetensors",
        "scale": f"scale --dataset {few_digits} --image-size 32 --sizes 40,60 --methods pca --out {{out}}",
    }
    whole = tmp_path / "whole"
    undisturbed = strike(begin(commands[name].format(out=whole)), lambda life: False)
    assert undisturbed.kind == DONE, undisturbed.errors
    life = _seconds(commands[name], tmp_path / "timed")
    counts, wrong = Counter(), []
    for k in range(MOMENTS[name]):
        out = tmp_path / f"struck-{k}"
        number = (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[k % 4]
        twice = (number, signal.SIGINT) if k % 5 == 4 else (number,)
        program = ("module", "script")[k % 2]
        moment = after(1.05 * life * k / (MOMENTS[name] - 1))
        outcome = strike(begin(commands[name].format(out=out), program), moment, twice, pause=0.002)
        kind = outcome.kind if not outcome.left else "left something running"
        again = RESUMED.get(name, commands[name]).format(out=shlex.quote(str(out)))
        if outcome.is_right and name in ("reduce", "finetune") and list(tmp_path.glob(".*")):
            kind = "left a file"
        elif outcome.is_right and name in WORKS_ON and not _goes_on(out, whole, contents, again):
            kind = "other bytes"
        counts[kind] += 1
        if kind not in (BEFORE, ENDED, DONE):
            wrong.append((k, kind, outcome))
    print(f"\n{name}, {life:.1f} s: {sum(counts.values())} signals: {dict(counts)}")
    assert not wrong


def _seconds(words, out):
    began = time.monotonic()
    strike(begin(words.format(out=out)), lambda life: False)
    return time.monotonic() - began


def _goes_on(out, whole, contents, again):
    """Whether what is there is nothing yet, or goes on to the bytes of what was never stopped."""
    file, expected = (path.with_name(f"{path.name}.safetensors") for path in (out, whole))
    if "--resume" in again and not any((out / name).exists() for name in ("config.json", "sweep.json")):
        return True
    resumed = strike(begin(again), lambda life: False)
    if expected.exists():
        return resumed.kind == DONE and file.read_bytes() == expected.read_bytes()
    beginnings = SAME.get(again.split()[0], ("",))
    made, once = (
        {name: held for name, held in contents(folder).items() if name.startswith(beginnings)}
        for folder in (out, whole)
    )
    return resumed.kind == DONE and made == once


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_a_process_of_a_run_that_somebody_ends_costs_no_other_step(few_digits, tmp_path, contents):
    """One line or none, and the run goes on to the same bytes."""
    words, whole = f"{RUN} --dataset {few_digits} --out ", tmp_path / "whole"
    began = time.monotonic()
    assert strike(begin(f"{words}{whole}"), lambda life: False).kind == DONE
    seconds, counts, wrong = time.monotonic() - began, Counter(), []
    for k in range(CHILDREN):
        out = tmp_path / f"run-{k}"
        life = begin(f"{words}{out}")
        moment = after(seconds * (k + 1) / (CHILDREN + 1))
        wait_for(life, lambda life, moment=moment: moment(life) and bool(life.descendants()))
        for pid in list(life.descendants())[k % 2 :][:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, (signal.SIGKILL, signal.SIGTERM)[k % 3 == 0])
        outcome = strike(life, lambda life: False)
        last = outcome.errors.splitlines()[-1]
        kind = {0: "went on", 2: "one line"}.get(outcome.code, f"exit code {outcome.code}")
        if any(cry in outcome.errors for cry in CRIES) or (outcome.code == 2 and "jaxtl: " not in last):
            kind = f"another line: {last}"
        if outcome.code == 2 and sum("jaxtl: " in line for line in outcome.errors.splitlines()) != 1:
            kind = "several lines"
        if not _goes_on(out, whole, contents, f"run --resume {shlex.quote(str(out))}"):
            kind = "other bytes"
        counts[kind] += 1
        if kind not in ("went on", "one line") or outcome.left:
            wrong.append((k, kind, outcome))
    print(f"\n{CHILDREN} processes of runs ended: {dict(counts)}")
    assert not wrong
