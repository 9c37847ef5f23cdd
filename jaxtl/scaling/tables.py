"""A study on a terminal: its trials and its power laws."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from jaxtl.costs.power_law import PowerLaw
from jaxtl.costs.table import Cost, Costs
from jaxtl.costs.words import duration, gib
from jaxtl.errors import shown
from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, TRUSTWORTHINESS
from jaxtl.methods import library_label, method_label
from jaxtl.scaling.curves import Curve, most_at_a_time
from jaxtl.scaling.trials import DONE, Trial


def trials_table(curves: Sequence[Curve]) -> Table:
    """One row a trial: its cost and its quality, or why it is missing."""
    most = most_at_a_time(curves)
    beside = f"Up to {most} trials at a time on one machine: times are no measure" if most > 1 else None
    title = "What maps cost, and what they are worth"
    table = Table(title=title, title_justify="left", caption=beside, caption_justify="left")
    table.add_column("map", no_wrap=True)
    # A word a line: the full name in a narrow column.
    accuracy = LEAVE_ONE_OUT.label.replace(" ", "\n")
    for heading in ("images", "time", "memory", accuracy, TRUSTWORTHINESS.short):
        table.add_column(heading, justify="right")
    several = any(len(curve.trials) > 1 for curve in curves)
    for curve in curves:
        for number, trial in enumerate(curve.trials):
            name = _name(curve) if not number else ""
            table.add_row(
                name, f"{trial.n:,}", *_cells(trial), end_section=several and trial is curve.trials[-1]
            )
    return table


def _name(curve: Curve | Cost) -> str:
    """As users write the method, with its library: narrow enough for a terminal."""
    base, at, landmarks = curve.method.partition("@")
    return f"{method_label(base)}{at}{landmarks}, {library_label(curve.backend)}"


def _cells(trial: Trial) -> tuple[str | Text, ...]:
    if trial.status != DONE:
        return (Text(shown(trial.status), style="red" if trial.limits else ""), "", "", "")
    scores = trial.quality or {}
    quality = (
        f"{scores[name][0]:.3f}" if name in scores else "" for name in (LEAVE_ONE_OUT, TRUSTWORTHINESS)
    )
    return (duration(trial.typical_seconds), gib(trial.memory) if trial.memory is not None else "", *quality)


def laws_table(curves: Sequence[Curve]) -> Table:
    """The exponents of seconds and memory in n."""
    table = Table(title="Fitted power laws, with 95 % intervals", title_justify="left")
    for heading, justify in (
        ("map", "left"),
        ("seconds", "right"),
        ("memory", "right"),
        ("fitted from", "right"),
    ):
        table.add_column(heading, justify=justify)
    for curve in curves:
        if curve.seconds or curve.memory:
            law = curve.seconds or curve.memory
            sizes = f"{law.smallest:,.0f} to {law.largest:,.0f}"
            table.add_row(_name(curve), _exponent(curve.seconds), _exponent(curve.memory), sizes)
    return table


def _exponent(law: PowerLaw | None) -> str:
    return "" if law is None else f"n^{law.exponent:.2f} \\[{law.low:.2f}, {law.high:.2f}]"


def forecast_table(costs: Costs, n: int, available: int, shown: Sequence[Cost]) -> Table:
    """What embeddings of n images would take, by method and library, and what would fit where they do not.

    Args:
        costs: what else would fit is taken from.
        shown: some of them.
    """
    title = f"A map of {n:,} images; {gib(available)} of memory are available"
    table = Table(title=title, title_justify="left")
    table.add_column("map")
    for heading in ("time", "95 % interval", "memory"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for cost in shown:
        taken, needed = cost.seconds_at(n), cost.bytes_at(n).value
        interval = f"{duration(taken.low)} to {_bound(taken.high)}"
        memory = gib(needed) if cost.memory else "unknown"
        verdict = _verdict(costs, cost, n, available)
        table.add_row(_name(cost), duration(taken.value), interval, memory, verdict)
    return table


def _verdict(costs: Costs, cost: Cost, n: int, available: int) -> str | Text:
    fits = cost.fits(n, available)
    if fits is None:
        return "unknown"
    if fits:
        return "fits"
    return Text.assemble(("does not fit", "red"), f"; would: {costs.remedies(cost, n, available).in_study()}")


def _bound(seconds: float) -> str:
    # Three points that hardly lie on a line allow anything.
    return duration(seconds) if seconds < 1e8 else "any time"


def beyond(shown: Sequence[Cost], n: int) -> str:
    """How far n is from what was measured; empty where it is not."""
    largest = min(cost.seconds.largest for cost in shown)
    if n <= largest:
        return ""
    return f"{n:,} is {n / largest:.3g} times the largest size measured for every method, {largest:,.0f}"
