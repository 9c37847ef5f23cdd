"""What a run shows, and Ctrl-C while it works."""

import contextlib
import io
import re
import signal
import sys
import threading
from itertools import pairwise

import pytest
from rich.console import Console

from jaxtl.cli import tables
from jaxtl.evaluation import catalogue
from jaxtl.machine.terminal import Terminal
from jaxtl.records.tables import LayerRow, Score


@pytest.fixture
def observer():
    return Terminal(Console(file=io.StringIO(), force_terminal=False))


def test_a_finished_stage_leaves_one_line(observer):
    with observer.step("Counting") as progress:
        progress(0.5)
    lines = observer.console.file.getvalue().splitlines()
    assert len(lines) == 1
    assert "Counting" in lines[0]


@pytest.fixture
def screen():
    return Terminal(Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None))


def kept(observer):
    """The lines that stay, and all the bars ever drawn, of which each is erased or drawn over."""
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", observer.console.file.getvalue()).replace("\r", "\n")
    lines = [line.rstrip() for line in lines.splitlines() if line.strip()]
    return [line for line in lines if line[0] in "✓✗·"], [line for line in lines if line[0] not in "✓✗·"]


SLOW, QUICK = "Fine-tuning on 60,000 images, 5 epochs", "t-SNE of 10,000 images before, openTSNE"


def in_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_stages_of_several_threads_share_one_display(screen):
    begun, over = threading.Event(), threading.Event()

    def slow():
        with screen.step(SLOW) as progress:
            progress(0.25)
            begun.set()
            over.wait(10)
            progress(0.75)

    thread = in_a_thread(slow)
    begun.wait(10)
    with screen.step(QUICK) as progress:
        progress(0.5)
        screen.notify("worth knowing")
    over.set()
    thread.join()
    lines, bars = kept(screen)
    assert [line[0] for line in lines] == ["·", "✓", "✓"]
    assert lines[0] == "· worth knowing"
    assert QUICK in lines[1]
    assert SLOW in lines[2]
    # Both at once, the one that began first above, both titles whole on 80 columns.
    assert any(SLOW in first and QUICK in second for first, second in pairwise(bars))
    assert max(map(len, bars)) <= 80


def test_a_stage_that_raises_closes_its_own_bar_only(screen):
    def fail():
        with contextlib.suppress(ValueError), screen.step(QUICK) as progress:
            progress(0.5)
            raise ValueError

    with screen.step(SLOW) as progress:
        progress(0.5)
        in_a_thread(fail).join()
        before = len(kept(screen)[1])
        screen.notify("after the failure")
        after = kept(screen)[1][before:]
    assert [line[0] for line in kept(screen)[0]] == ["·", "✓"]
    assert any(SLOW in line for line in after)
    assert not any(QUICK in line for line in after)


def test_many_stages_at_once_leave_a_line_each(screen):
    def work(name):
        for k in range(5):
            with screen.step(f"{name} {k}") as progress:
                progress(0.5)

    for thread in [in_a_thread(lambda name=name: work(name)) for name in "abcd"]:
        thread.join()
    titles = [re.fullmatch(r"✓ (\w \d) [0-9.]+ s", line)[1] for line in kept(screen)[0]]
    assert sorted(titles) == [f"{name} {k}" for name in "abcd" for k in range(5)]
    assert [title for title in titles if title[0] == "a"] == [f"a {k}" for k in range(5)]


def test_a_main_thread_that_waits_for_others_learns_of_a_swallowed_ctrl_c(observer):
    beside = []

    def work():
        with observer.step("Counting") as progress:
            progress(0.5)
            beside.append("went on")

    with observer.interruptible() as check:
        check()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        in_a_thread(work).join()
        with pytest.raises(KeyboardInterrupt):
            check()
        with pytest.raises(KeyboardInterrupt), observer.step("Within"):
            pass
    assert beside == ["went on"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_ctrl_c_that_somebody_swallows_stops_at_the_next_step(observer):
    with pytest.raises(KeyboardInterrupt):
        swallow_and_go_on(observer)
    assert observer.console.file.getvalue() == ""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def swallow_and_go_on(observer):
    with observer.step("Counting") as progress:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        progress(0.5)
        pytest.fail("the stage went on")


def test_a_ctrl_c_that_python_drops_stops_at_the_next_step_without_a_traceback(observer, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))
    with pytest.raises(KeyboardInterrupt):
        drop_and_go_on(observer)
    assert told == [ValueError]


def drop_and_go_on(observer):
    with observer.step("Counting") as progress:
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


def test_a_caller_s_own_handler_stays(observer):
    caught = []
    earlier = signal.signal(signal.SIGINT, lambda *_: caught.append("caught"))
    try:
        with observer.step("Counting") as progress:
            signal.raise_signal(signal.SIGINT)
            progress(0.5)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert caught == ["caught"]


def shown(table):
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()


def test_a_table_of_numbers_says_which_way_is_better():
    scores = [
        Score("before", "tsne", catalogue.DAVIES_BOULDIN, 4.6, 3.7, 5.5),
        Score("after", "tsne", catalogue.DAVIES_BOULDIN, 0.5),
        Score("both", "features", catalogue.LINEAR_CKA, 0.5, 0.4, 0.6),
        Score("epoch 1", "model", catalogue.TEST_ACCURACY, 0.9),
    ]
    text = shown(tables.number_table(scores))
    assert re.search(r"t-SNE +Davies-Bouldin ↓ +4\.600 \[3\.700, 5\.500\] +0\.500\n", text)
    assert re.search(r"linear CKA +0\.500 \[0\.400, 0\.600\]\n", text)
    assert "test" not in text
    assert "test accuracy" in shown(tables.history_table(scores))


def test_a_profile_s_columns_have_the_metrics_full_names():
    metrics = (catalogue.LEAVE_ONE_OUT, catalogue.RIDGE_PROBE_FOLDS, catalogue.EFFECTIVE_RANK)
    rows = [LayerRow(stage, "a", m, 0.5, 0.4, 0.6) for stage in ("before", "after") for m in metrics]
    text = shown(tables.layer_table([*rows, LayerRow("both", "a", catalogue.LINEAR_CKA, 1.0, 1.0, 1.0)]))
    for metric in (*metrics, catalogue.LINEAR_CKA):
        assert metric.label in text
    assert text.count("0.500 → 0.500") == 3
