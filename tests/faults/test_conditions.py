"""Commands under conditions that nobody thought of: they do what they do elsewhere, or say why not."""

import os
import resource
import shlex
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from jaxtl.cli import screen, tables
from jaxtl.errors import JaxtlError
from jaxtl.machine import surroundings
from jaxtl.machine.terminal import Terminal
from tests.faults.conditions import CONDITIONS, Condition, is_possible, under
from tests.faults.damaged_runs import Tally

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and devices of Linux")

# What each writes under {out} is the same under all conditions.
COMMANDS = {
    "help": "--help",
    "show": "show {run} --all",
    "show --json": "show {run} --json",
    "check": "check {run}",
    "score": "score {run}",
    "reduce": "reduce {files}/good.npz --method pca --out {out}/e.npz",
    "tsne": "reduce {files}/good.npz --method tsne --set perplexity=5 --out {out}/e.npz",
    "plot": "plot {run}/embeddings/after_pca.npz --out {out}/p.pdf",
    "export": "export {run} --to csv --out {out}/t.csv",
    "report": "report {run} --out {out}/r.html",
    "compare": "compare {files}/good.npz {files}/no_labels.npz --methods pca --out {out}/run",
    "refused": "reduce {files}/nan.npz --method pca --out {out}/e.npz",
    "run": "run --dataset {few} --image-size 32 --trainable none --epochs 1 --methods pca,tsne "
    "--perplexity 5 --no-layers --out {out}/run",
}
# Where libraries find no memory.
FEW_ADDRESSES = ("600 MB of addresses", "1 GB of addresses")
# Of files that tell of times.
TIMED = {"r.html", "report.html", "timings.json", "manifest.json", "log.txt", "environment.json"}


def made(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in TIMED
    }


@pytest.fixture
def start(few_run, files, few_digits, tmp_path):
    """A function of a command's name and a condition: how it ended, and what it wrote."""

    def started(name, condition):
        out = tmp_path / "out"
        for folder in (out, tmp_path / "run"):
            shutil.rmtree(folder, ignore_errors=True)
        out.mkdir()
        run = shutil.copytree(few_run, tmp_path / "run")
        words = shlex.split(COMMANDS[name].format(run=run, files=files, few=few_digits, out=out))
        ending = under(condition, words)
        return ending, made(out)

    return started


@pytest.mark.parametrize(
    ("name", "condition"),
    [("show", "nothing open"), ("show", "output on a full device")],
)
def test_what_is_closed_or_full_is_no_fault(start, name, condition):
    ending, written = start(name, CONDITIONS[condition])
    assert not ending.fault(CONDITIONS[condition]), ending.errors
    assert not written
    if condition == "output on a full device":
        assert ending.code == 2
        assert "No space left on device" in ending.errors


@pytest.mark.parametrize("most", [3, 100, resource.RLIM_INFINITY])
def test_where_few_threads_are_allowed_it_is_said_before_jax_ends_the_process(most, monkeypatch):
    running = threading.active_count()

    def start(thread):
        if threading.active_count() >= running + most:
            raise RuntimeError("can't start new thread")
        begin(thread)

    begin = threading.Thread.start
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (most, most))
    if most != resource.RLIM_INFINITY:
        monkeypatch.setattr(threading.Thread, "start", start)
    if most != 3:
        surroundings.check_threads(2)
    else:
        with pytest.raises(JaxtlError, match=r"limited to 3, and JAX starts about 16; .* \(ulimit -u\)"):
            surroundings.check_threads(2)


@pytest.mark.parametrize("width", [1, 2, 7, 30])
def test_tables_and_bars_fit_any_terminal(width, capsys):
    console = Console(width=width, force_terminal=True, markup=False)
    names = ("a name of a class", "🔬" * 9, "[bold]", "語")
    rows = [tables.Score(stage, name, name, 0.5) for stage in ("before", "after") for name in names]
    screen.print_table(console, tables.number_table(rows))
    screen.print_table(console, tables.score_table([]))
    terminal = Terminal(Console(width=width, force_terminal=True, stderr=True))
    with terminal.step("[/] a title"), terminal.attempt("other") as attempt:
        attempt.progress(0.5)
        attempt.failure = "[/] why"
    terminal.notify("[/]")
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err


@pytest.mark.slow
@pytest.mark.timeout(2 * 3600)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_under_every_condition(start, name):
    tally = Tally()
    code = 2 if name == "refused" else 0
    plain, written = start(name, Condition(codes=(code,)))
    assert not plain.fault(Condition(codes=(code,))), plain.errors
    assert plain.code == code
    for title, usual in CONDITIONS.items():
        condition = replace(usual, codes=(*usual.codes, code))
        if not is_possible(condition):
            tally.counts["not possible here"] += 1
            continue
        ending, other = start(name, condition)
        fault = ending.fault(condition)
        if not fault and ending.code == 0 and other != written:
            fault = f"other bytes: {[n for n in {*other, *written} if other.get(n) != written.get(n)]}"
        if not fault and ending.code and any(Path(n).name.startswith(".") for n in other):
            fault = f"left {list(other)}"
        kind = "failed" if fault else "as ever" if ending.code == code else f"exit code {ending.code}"
        # It ends the process itself, which nobody can catch.
        if title in FEW_ADDRESSES and "OpenBLAS error: Memory allocation" in ending.errors:
            fault, kind = "", "OpenBLAS gave up"
        if fault:
            print(f"\n{name}, {title}: {fault} | {ending.errors[-1500:]}", flush=True)
        tally.note(kind, f"{name}, {title}: {fault} | {ending.errors[-600:]}")
    tally.close(f"{name} under conditions")


def test_the_clock_of_who_wrote_a_run_plays_no_part(few_run, tmp_path, jaxtl):
    run = Path(shutil.copytree(few_run, tmp_path / "run"))
    export = ["export", run, "--to", "csv", "--out"]
    for when in (0, 4_000_000_000):
        for path in run.rglob("*"):
            os.utime(path, (when, when))
        for words in (["check", run], ["show", run], [*export, tmp_path / "t.csv"]):
            assert jaxtl(*words)[0] == 0
        # Nothing is made again.
        code, _, said = jaxtl("run", "--resume", run)
        assert (code, "made again" in said) == (0, False)
        assert (run / "scores.csv").stat().st_mtime == when
