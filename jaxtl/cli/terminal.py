"""What a run shows on a terminal: bars while it works, a table when it is done."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from jaxtl.evaluation.depth import CKA
from jaxtl.methods import method_label
from jaxtl.progress import Attempt
from jaxtl.records.tables import LayerRow, Score
from jaxtl.settings import STAGES

# Stages that are over sooner get a line, no bar.
_BAR_AFTER_SECONDS = 1.0


class Terminal:
    """The `Report` of an experiment on a rich console: on a terminal bars, elsewhere one line a stage.

    Stages may be open in several threads at once: their bars stand below one another in the order in which
    they began, and what is printed meanwhile goes above them.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = _Bars(console) if console.is_terminal else None
        self._check: Callable[[], None] | None = None

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        with self.attempt(title) as attempt:
            yield attempt.progress

    @contextlib.contextmanager
    def attempt(self, title: str) -> Iterator[Attempt]:
        """A stage that may fail and leaves the rest to go on: it says so in the attempt's `failure`."""
        began = time.monotonic()
        bar = self._bars.bar(title) if self._bars else contextlib.nullcontext(lambda fraction: None)
        with self.interruptible() as check, bar as draw:

            def report(fraction: float) -> None:
                check()
                draw(fraction)

            attempt = Attempt(report)
            yield attempt
            check()
        mark = "[red]✗[/]" if attempt.failure else "[green]✓[/]"
        why = f" {escape(attempt.failure)}" if attempt.failure else ""
        took = time.monotonic() - began
        self.console.print(f"{mark} {title} [dim]{took:.1f} s[/]{why}", highlight=False)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[Callable[[], None]]:
        """Yield a check that raises KeyboardInterrupt where a Ctrl-C was pressed and lost since.

        For a main thread that waits for stages in others: it calls the check between short waits, and
        tells them to stop. Ctrl-C comes to the main thread only: in others the check does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield lambda: None
        elif self._check:
            yield self._check
        else:
            with _lasting_ctrl_c() as self._check:
                try:
                    yield self._check
                finally:
                    self._check = None

    def notify(self, text: str) -> None:
        self.console.print(f"[dim]· {text}[/]", highlight=False)

    def path(self, title: str, path: Path) -> None:
        """A path in one piece, to be copied: neither broken over lines nor read as markup."""
        self.console.print(f"{title}: [bold]{escape(str(path))}[/]", highlight=False, soft_wrap=True)


class _Bars:
    """The bars of all open stages in one display, since a console takes one at a time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._progress = self._empty()

    @contextlib.contextmanager
    def bar(self, title: str) -> Iterator[Progress]:
        """A bar while the block is entered; takes the fraction done, 0 to 1."""
        began = time.monotonic()
        with self._lock:
            progress = self._progress
            task = progress.add_task(title, total=None)
            progress.start()

        def draw(fraction: float) -> None:
            long = time.monotonic() - began > _BAR_AFTER_SECONDS
            if long or 0 < fraction < 1:
                progress.update(task, total=1.0, completed=fraction)

        try:
            yield draw
        finally:
            with self._lock:
                progress.remove_task(task)
                progress.refresh()  # else it stays for a tenth of a second, under its own last line
                if not progress.task_ids:
                    progress.stop()
                    self._progress = self._empty()

    def _empty(self) -> Progress:
        # Titles come first: on 80 columns they have 42, since the bar gives way.
        bar = min(40, max(10, self._console.width - 66))
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar), TimeElapsedColumn(),
            TextColumn("[dim]left"), TimeRemainingColumn(),
        )  # fmt: skip
        return Progress(*columns, console=self._console, transient=True)


@contextlib.contextmanager
def _lasting_ctrl_c() -> Iterator[Callable[[], None]]:
    """Yield a check that raises KeyboardInterrupt again where an earlier one was lost. In the main thread.

    Python drops an exception raised in the callback of a weak reference or of the garbage collector, of
    which JAX has many, so that a Ctrl-C that falls into one would do nothing but print a traceback.
    """
    pressed, tell = False, sys.unraisablehook

    def press(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    def tell_of_others(dropped: Any) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            tell(dropped)

    # A handler that is not Python's own, or "ignore", is the caller's wish.
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check
        return
    signal.signal(signal.SIGINT, press)
    sys.unraisablehook = tell_of_others
    try:
        yield check
    finally:
        sys.unraisablehook = tell
        signal.signal(signal.SIGINT, signal.default_int_handler)


def score_table(scores: list[Score]) -> Table:
    """10-NN accuracy by space, before and after, with its 95 % interval."""
    found = {(score.space, score.stage): score for score in scores if score.metric == "10-NN accuracy"}
    table = Table(title="10-NN accuracy (5-fold), with 95 % intervals", title_justify="left")
    for heading, justify in (("space", "left"), ("before", "right"), ("after", "right"), ("gain", "right")):
        table.add_column(heading, justify=justify)
    for space in dict.fromkeys(space for space, _ in found):
        before, after = found[space, "before"], found[space, "after"]
        gain = f"{after.value - before.value:+.3f}"
        table.add_row(method_label(space), _with_interval(before), _with_interval(after), gain)
    return table


def number_table(scores: list[Score]) -> Table:
    """Every number but the history's, before and after, with intervals where there are some."""
    found = {(score.space, score.metric, score.stage): score for score in scores if score.space != "model"}
    table = Table(title="Numbers, with 95 % intervals", title_justify="left")
    for heading, justify in (("space", "left"), ("metric", "left"), ("before", "right"), ("after", "right")):
        table.add_column(heading, justify=justify)
    for space, metric in dict.fromkeys((space, metric) for space, metric, _ in found):
        both = found.get((space, metric, "both"))
        pair = ["", _with_interval(both)] if both else [
            _with_interval(found.get((space, metric, stage))) for stage in STAGES
        ]  # fmt: skip
        table.add_row(method_label(space), metric, *pair)
    return table


def _with_interval(score: Score | None) -> str:
    if score is None:
        return ""
    interval = "" if score.low is None else f" [{score.low:.3f}, {score.high:.3f}]"
    return f"{score.value:.3f}{interval}"


def layer_table(rows: list[LayerRow]) -> Table:
    """The profile of a network, one row for the end of each block."""
    found = {(row.layer, row.metric, row.stage): row.value for row in rows}
    metrics = [name for name in dict.fromkeys(row.metric for row in rows) if name != CKA]
    table = Table(title="At the end of every block, before -> after", title_justify="left")
    for heading in ("layer", *metrics, CKA):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for layer in dict.fromkeys(row.layer for row in rows):
        pairs = [[found[layer, metric, stage] for stage in STAGES] for metric in metrics]
        cells = [f"{before:.3f} -> {after:.3f}" for before, after in pairs]
        table.add_row(layer, *cells, f"{found[layer, CKA, 'both']:.3f}")
    return table


def claims_table(claims: list[dict[str, Any]]) -> Table:
    """Every claim with its verdict and what decided it."""
    table = Table(title="Claims", title_justify="left")
    for heading in ("claim", "verdict", "statistic"):
        table.add_column(heading)
    for claim in claims:
        interval = f"{claim['value']:.3f} ({claim['low']:.3f} to {claim['high']:.3f})"
        table.add_row(claim["text"], claim["verdict"], f"{claim['statistic']}: {interval}")
    return table


def history_table(scores: list[Score]) -> Table:
    """Loss and accuracy epoch by epoch."""
    table = Table(title="Fine-tuning", title_justify="left")
    epochs: dict[str, dict[str, float]] = {}
    for score in scores:
        if score.space == "model":
            epochs.setdefault(score.stage, {})[score.metric] = score.value
    names = list(next(iter(epochs.values()), {}))
    for heading in ("epoch", *names):
        table.add_column(heading.replace("_", " "), justify="right")
    for epoch, row in epochs.items():
        table.add_row(epoch.removeprefix("epoch "), *(f"{row[name]:.4f}" for name in names))
    return table
