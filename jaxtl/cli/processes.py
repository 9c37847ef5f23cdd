"""Options of verbs at which several processes can work together, or that Dask's workers can do."""

from __future__ import annotations

import shlex
from typing import Any

import click

from jaxtl.cli import options
from jaxtl.errors import JaxtlError
from jaxtl.machine.together import Place

together = options.together(
    click.option(
        "--coordinator",
        metavar="HOST:PORT",
        help="Several processes do this together, on one machine or many: where process 0 listens. The same "
        "command is started as often, each with its own --process-id.",
    ),
    options.limit("--processes", "N", "How many processes there are in all."),
    options.limit("--process-id", "I", "Which of them this is, from 0."),
    click.option(
        "--distributed",
        is_flag=True,
        help="As the three above, where Slurm (srun) or Open MPI (mpirun) start the processes and tell them.",
    ),
)


def placed(settings: dict[str, Any]) -> Place:
    """The options of `together`, taken out of all that a command got."""
    names = ("coordinator", "processes", "process_id")
    return Place(*(settings.pop(name) for name in names), detects=settings.pop("distributed"))


dask = click.option(
    "--dask",
    metavar="ADDRESS|local:N",
    help="Have the work done by workers of Dask's, side by side: by N on this machine, each with its part of "
    "the cores or a GPU of its own, or by those of the scheduler at ADDRESS, such as tcp://host:8786.",
)


def check_dask(ctx: click.Context, dask: str | None) -> None:
    """Refuse options that Dask's workers do not heed. Raises JaxtlError."""
    if dask is None:
        return
    if ctx.params.get("forecast"):
        raise JaxtlError("--dask: has no effect with --forecast, which computes nothing; leave it out")
    if ctx.params.get("devices") is not None:
        raise JaxtlError(
            "--devices: has no effect with --dask, where each worker has a GPU of its own; leave it out"
        )


def gone_on(go_on: str, dask: str | None) -> str:
    """How work goes on, by the workers that it was begun with."""
    return f"{go_on} --dask {shlex.quote(dask)}" if dask else go_on
