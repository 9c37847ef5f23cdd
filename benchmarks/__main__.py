"""Command line of the benchmarks: `python -m benchmarks experiment`, `python -m benchmarks gpu`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks import gpu as gpu_benchmark
from benchmarks import gpu_cases, lle
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


@cli.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, metavar="DIR",
              help="Where gpu.json and gpu.md go.")  # fmt: skip
@click.option(
    "--only", default=",".join(gpu_cases.CASES), metavar="CASE,...", help="Cases to run.  [default: all]"
)
@click.option("--quick", is_flag=True, help="Small sizes: shows that it works; its times mean nothing.")
@click.option("--cpu", is_flag=True, help="On the CPU, without what needs a GPU: to try the steps out.")
@click.option("--limit", type=click.FloatRange(0, min_open=True), default=8.0, show_default=True,
              metavar="MINUTES", help="What has not begun by then is left out.")  # fmt: skip
def gpu(out: Path, only: str, quick: bool, cpu: bool, limit: float) -> None:
    """jaxtl on an NVIDIA GPU: agreement with the CPU, times, and PyTorch and cuML on the same card.

    The files are written after every step. Exit code 1 where a check does not pass or a step fails.

    \b
    device       what the card reaches      network      features and training against the CPU
    extraction   features, by size          finetune     the default fine-tuning, in parts
    roofline     the forward pass           maps         PCA, t-SNE, LLE, neighbours against CPU peers
    processes    JAX beside cuML            reductions   times of the maps
    torch        PyTorch, two modes         whole        jaxtl run
    variants     forms, precisions, batches precision    what TF32 and bfloat16 do
    determinism  the same bytes twice
    """
    sizes = gpu_cases.QUICK if quick else gpu_cases.FULL
    cases = tuple(name.strip() for name in only.split(",") if name.strip())
    paths, failed = gpu_benchmark.run(out, sizes, cases, limit * 60, on_gpu=not cpu)
    for path in paths:
        click.echo(str(path))
    for line in failed:
        click.echo(f"benchmarks: failed: {line}", err=True)
    if failed:
        sys.exit(1)


@cli.command("lle")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", default=RESULTS,
              help="Where lle.json and lle.md go.  [default: benchmarks/results]")  # fmt: skip
@click.option("--sizes", "points", default="2000,10000", show_default=True, metavar="N,...",
              help="Points, up to 70,000.")  # fmt: skip
@click.option("--variants", default=",".join(lle.VARIANTS), show_default=True, metavar="V,...")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, metavar="N",
              help="Turns of each peer.")  # fmt: skip
@click.option("--limit", type=click.FloatRange(1), default=60.0, show_default=True, metavar="MINUTES",
              help="Stop then, with the cases that are done.")  # fmt: skip
def compare_lle(out: Path, points: str, variants: str, rounds: int, limit: float) -> None:
    """Locally linear embedding on the CPU: jaxtl against scikit-learn, in processes that take turns."""
    try:
        sizes = tuple(int(each) for each in points.split(","))
    except ValueError:
        raise JaxtlError(f"--sizes: must be whole numbers with commas between, got {points!r}") from None
    chosen = tuple(name.strip() for name in variants.split(",") if name.strip())
    for path in lle.run(out, lle.Sizes(sizes, rounds), chosen, limit * 60):
        click.echo(str(path))


def main() -> None:
    """Exit 0; 1 where the GPU's checks fail; 2 with one line for what a user can mend; 130 after Ctrl-C."""
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
