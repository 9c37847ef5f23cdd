"""The command line: one thin command per verb. Heavy modules are imported by the verb that needs them."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

import jaxtl
from jaxtl.cli import headings, screen
from jaxtl.cli.check import check
from jaxtl.cli.compare import compare
from jaxtl.cli.doctor import doctor
from jaxtl.cli.errors import Stopped, advise, explain, unloaded
from jaxtl.cli.export import export
from jaxtl.cli.finetuning import finetune
from jaxtl.cli.finished import layers, plot, report, score
from jaxtl.cli.neighbors import neighbors
from jaxtl.cli.run import run
from jaxtl.cli.scaling import scale
from jaxtl.cli.show import show
from jaxtl.cli.steps import extract, reduce
from jaxtl.cli.sweep import sweep
from jaxtl.errors import JaxtlError, shown
from jaxtl.machine import signals, surroundings

_VERBS = (
    run,
    compare,
    extract,
    finetune,
    neighbors,
    reduce,
    plot,
    show,
    check,
    score,
    layers,
    report,
    export,
    sweep,
    scale,
    doctor,
)


@click.group(
    cls=headings.Group,
    invoke_without_command=True,
    context_settings={"max_content_width": 100},
)
@screen.quiet
@click.version_option(jaxtl.__version__, "-V", "--version", prog_name="jaxtl")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """What transfer learning does to a network's features, in pictures and in numbers.

    \b
    jaxtl run            the whole experiment on handwritten digits, in minutes
    jaxtl show RUN       what it found
    jaxtl COMMAND -h     what a command does, and its options

    Results go to standard output, progress and notes to standard error. Exit code 0 where all went well, 2
    after one line that says what to mend, 130 after Ctrl-C, 1 where jaxtl check or jaxtl doctor has
    something to tell, or after a fault of jaxtl's own.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _verb in _VERBS:
    cli.add_command(_verb)


def main() -> None:
    """What the command line says: exit 0, 2 with one line for what a user can mend, 130 after Ctrl-C."""
    try:
        surroundings.check_limits()
        cli(prog_name="jaxtl", standalone_mode=False)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "jaxtl"
        _fail(f"{error.format_message()} (see {command} --help)")
    except JaxtlError as error:
        _fail(str(error))
    except OSError as error:
        _fail(explain(error))
    except (KeyboardInterrupt, click.Abort, Stopped) as error:
        click.echo(f"jaxtl: {error if isinstance(error, Stopped) else signals.called()}", err=True)
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        _fail(advise(error))
    except ImportError as error:
        _fail(unloaded(error))


def _fail(message: str) -> NoReturn:
    signals.end_by_signal()
    click.echo(f"jaxtl: {shown(' '.join(message.split()))}", err=True)
    sys.exit(2)
