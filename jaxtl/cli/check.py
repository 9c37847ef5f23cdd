"""The verb that compares a run's files with its manifest."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jaxtl.cli import headings, options, screen

if TYPE_CHECKING:
    from jaxtl.runs.check import Standing


@click.command(
    cls=headings.Command, short_help="Whether a run's files are what it wrote, and belong together."
)
@click.argument("folder", type=options.FOLDER, metavar="RUN")
@click.option(
    "--accept",
    is_flag=True,
    help="Take files that differ as they stand, such as those that you edited on purpose. What was made of "
    "them is made again by jaxtl run --resume.",
)
@screen.as_json
@screen.quiet
def check(folder: Path, accept: bool, in_json: bool) -> None:
    """Say of every file of a run whether it is what the run wrote, and made of what is there now.

    RUN is a folder of jaxtl run, compare, sweep or scale, or one of several seeds. Only that folder is
    read. Exit code 0 where all is well, 1 where a file differs, is missing, was made of other files, or is
    not made yet. Files of your own in the folder are told, and are no fault.

    \b
    jaxtl check runs/mnist-2000
    jaxtl run --resume runs/mnist-2000      make again what differs
    jaxtl check runs/mnist-2000 --accept    or take it as it stands
    """
    from jaxtl.runs import check as checking
    from jaxtl.runs.folder import holds_study
    from jaxtl.scaling.folder import StudyFolder

    study = StudyFolder(folder) if holds_study(folder) else None
    if accept:
        from jaxtl.runs.lock import Hold

        checking.look(folder, study)
        with Hold(folder):
            taken = checking.accept(folder, study)
        if not in_json:
            for name in taken:
                click.echo(f"{name}: taken as it stands")
    standings = checking.look(folder, study)
    is_well = all(standing.is_fine for standing in standings)
    if in_json:
        files = [standing._asdict() for standing in standings]
        screen.print_json({"folder": folder, "ok": is_well, "files": files})
    else:
        name = shlex.quote(str(folder))
        _print(name, f"jaxtl scale --out {name}" if study else f"jaxtl run --resume {name}", standings)
    if not is_well:
        sys.exit(1)


def _print(name: str, again: str, standings: list[Standing]) -> None:
    from jaxtl.progress import counted
    from jaxtl.runs.check import OK, STATES, STRANGE

    for standing in standings:
        why = f", as {standing.why} is another one now" if standing.why else ""
        said = "ok" if standing.state == OK else f"{STATES[standing.state]}{why}"
        click.echo(f"{standing.name}: {said}")
    of_run = [standing for standing in standings if standing.state != STRANGE]
    wrong = [standing for standing in of_run if not standing.is_fine]
    if not wrong:
        click.echo(f"{counted(len(of_run), 'file')}, all as the run wrote them")
        return
    click.echo(f"{len(wrong)} of {counted(len(of_run), 'file')} are not as they should be")
    click.echo(f"Make them again: {again}")
    if any(standing.state in ("changed", "unrecorded") for standing in wrong):
        click.echo(f"Or take them as they stand: jaxtl check {name} --accept")
