"""Where a command's words go: results to standard output, all else to standard error. Light to import."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxtl.errors import shown

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from jaxtl.machine.terminal import Terminal

_QUIET = "jaxtl.quiet"
# A file has no edge: lines are as long as what they hold.
_ENDLESS = 100_000


def _hush(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    # Contexts of a group and of its command share it, so that -q may stand before the verb or behind it.
    ctx.meta[_QUIET] = value or is_quiet(ctx)


quiet = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_hush,
    help="Show no progress and no notes, only results and errors.",
)
as_json: Callable[..., Any] = click.option(
    "--json", "in_json", is_flag=True, help="Print the result as one JSON object."
)


def is_quiet(ctx: click.Context | None = None) -> bool:
    """Whether the user asked for results and errors alone."""
    ctx = ctx or click.get_current_context(silent=True)
    return bool(ctx and ctx.meta.get(_QUIET))


def console() -> Console:
    """Where progress and notes go: standard error, and nowhere where -q was given."""
    from rich.console import Console

    return Console(stderr=True, quiet=is_quiet())


def observer() -> Terminal:
    """Shows progress and notes."""
    from jaxtl.machine.terminal import Terminal

    return Terminal(console())


def tell(note: str) -> None:
    """A line worth knowing that is no result."""
    if not is_quiet():
        click.echo(shown(note), err=True)


def results() -> Console:
    """Where results go: standard output. In a file or a pipe no line is broken, unless COLUMNS says where."""
    from rich.console import Console

    free = sys.stdout.isatty() or "COLUMNS" in os.environ
    # What is in tables is a stranger's: no markup, no names of pictures. Styles come with rich's own objects.
    return Console(width=None if free else _ENDLESS, highlight=False, markup=False, emoji=False)


def print_table(console: Console, table: RenderableType) -> None:
    """A table and an empty line. What fills lines up to its width is left out where nobody sees it."""
    if console.is_terminal:
        console.print(table)
    else:
        with console.capture() as captured:
            console.print(table)
        for line in captured.get().splitlines():
            click.echo(line.rstrip())
    click.echo()


def print_path(title: str, path: Path) -> None:
    """A result that is a file: in one piece, to be copied."""
    click.echo(f"{title}: {path}")


def print_json(record: Mapping[str, Any]) -> None:
    """A result for other programs: one object. Records are objects too, what is not finite is null."""
    text = json.dumps(_plain(record), indent=2, ensure_ascii=False)
    # JSON spells few of the letters that a terminal obeys; it may spell all.
    click.echo("\n".join(map(_spelled, text.split("\n"))))


def _spelled(line: str) -> str:
    return (
        line
        if shown(line) == line
        else "".join(letter if shown(letter) == letter else json.dumps(letter)[1:-1] for letter in line)
    )


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({part.name: getattr(value, part.name) for part in fields(value)})
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        # A metric is a text with a definition; bytes of a name that are no UTF-8 are spelled.
        return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    return value if value is None or isinstance(value, int) else str(value)
