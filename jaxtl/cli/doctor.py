"""The verb that looks at the machine."""

from __future__ import annotations

import sys

import click

from jaxtl.cli import headings, screen


@click.command(cls=headings.Command, short_help="What works on this machine, and what to do about the rest.")
@screen.as_json
@screen.quiet
def doctor(in_json: bool) -> None:
    """Print what this machine computes with, what does not work, and what to do about it.

    Exit code 0 where all that is installed works (a machine without a GPU is healthy), else 1.
    """
    from jaxtl.doctor.report import as_json, examine, lines

    findings = examine()
    click.echo(as_json(findings) if in_json else "\n".join(lines(findings)))
    if not findings.healthy:
        sys.exit(1)
