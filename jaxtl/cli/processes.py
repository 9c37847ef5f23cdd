"""Options of verbs at which several processes can work together."""

from __future__ import annotations

from typing import Any

import click

from jaxtl.cli import options
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
