"""Command line of the benchmarks: `python -m benchmarks experiment`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.experiment import CASES, FULL, QUICK, run
from jaxtl.errors import JaxtlError

RESULTS = Path(__file__).parent / "results"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Time jaxtl against its peers, interleaved, on this machine."""


@cli.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Where experiment.json and experiment.md go.  "
              "[default: benchmarks/results, with --quick benchmarks/results/quick]")  # fmt: skip
@click.option("--only", default=",".join(CASES), show_default=True, metavar="CASE,...", help="Cases to run.")
@click.option("--quick", is_flag=True, help="Small sizes: shows that it works; its numbers mean nothing.")
@click.option("--repeats", type=click.IntRange(1), metavar="N",
              help=f"Rounds of the forward pass.  [default: {FULL.repeats}]")  # fmt: skip
@click.option("--runs", type=click.IntRange(1), metavar="N",
              help=f"jaxtl's runs in finetune and whole; Keras has one.  [default: {FULL.runs}]")  # fmt: skip
@click.option("--limit", type=click.FloatRange(1), default=60.0, show_default=True, metavar="MINUTES",
              help="Stop then, with the cases that are done.")  # fmt: skip
def experiment(
    out: Path | None, only: str, quick: bool, repeats: int | None, runs: int | None, limit: float
) -> None:
    """The founding experiment on the CPU: jaxtl against Keras on TensorFlow, and scikit-learn.

    \b
    forward    features of test images: jaxtl.extract and Keras's predict
    finetune   five epochs on 60,000 images: jaxtl.finetune and Keras's fit
    whole      jaxtl run and a plain script of Keras and scikit-learn, as processes
    """
    sizes = (QUICK if quick else FULL).with_given(repeats, runs)
    cases = tuple(name.strip() for name in only.split(",") if name.strip())
    for path in run(out or (RESULTS / "quick" if quick else RESULTS), sizes, cases, limit * 60):
        click.echo(str(path))


def main() -> None:
    """Exit 0; 2 with one line for what a user can mend; 130 after Ctrl-C."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
    except click.UsageError as error:
        _fail(error.format_message())
    except JaxtlError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")
    except (KeyboardInterrupt, click.Abort):
        click.echo("benchmarks: stopped", err=True)
        sys.exit(130)


def _fail(message: str) -> None:
    click.echo(f"benchmarks: {message}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
