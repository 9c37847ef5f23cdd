"""The verb that reads a finished run, and writes nothing."""

from __future__ import annotations

from pathlib import Path

import click

from jaxtl.cli import headings, options, screen
from jaxtl.errors import shown


@click.command(cls=headings.Command, short_help="What a finished run found; reads, and writes nothing.")
@click.argument("folder", type=options.FOLDER, metavar="RUN")
@click.option("--all", "every", is_flag=True, help="Show every score, not the accuracies alone.")
@screen.as_json
@screen.quiet
def show(folder: Path, every: bool, in_json: bool) -> None:
    """Print what a finished run found: its training, its claims, and its accuracies with 95 % intervals.

    RUN is a folder of jaxtl run or jaxtl compare, or one of several seeds. Only that folder is read, so that
    neither its data set nor a network is needed. --json gives all of it: settings, scores, claims and files.
    Of a sweep its table is shown.

    \b
    jaxtl show runs/mnist-2000
    jaxtl show runs/mnist-2000 --json | jq '.claims[] | {text, verdict}'
    """
    from jaxtl.cli import results
    from jaxtl.cli.sweep import show_sweep
    from jaxtl.runs.folder import holds_sweep

    if holds_sweep(folder):
        show_sweep(folder, in_json)
        return
    found = results.read(folder)
    if not in_json:
        click.echo(shown(results.headline(found)))
    results.show(found, in_json, every)
