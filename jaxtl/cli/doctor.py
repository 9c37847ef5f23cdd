"""The verb that looks at the machine."""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def doctor(in_json: bool) -> None:
    """What this machine computes with, what does not work, and what to do about it.

    Exit code 0 where all that is installed works (a machine without a GPU is healthy), else 1.
    """
    from jaxtl.doctor.report import as_json, examine, lines

    findings = examine()
    click.echo(as_json(findings) if in_json else "\n".join(lines(findings)))
    if not findings.healthy:
        sys.exit(1)
