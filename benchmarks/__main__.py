"""Command line of the benchmarks: `python -m benchmarks --help`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks import suite, tables
from benchmarks.cases import CASES
from benchmarks.gpu import cases as gpu_cases
from benchmarks.gpu import run as gpu_benchmark
from benchmarks.manifest import Manifest, load_manifest, shipped
from benchmarks.workers import Deadline
from jaxtl.errors import JaxtlError
from jaxtl.records.files import check_writable, read_json_object, write_json, write_text

OUT = Path("runs") / "benchmarks"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """How fast is jaxtl, against what one would use instead, on this machine?

    \b
    python -m benchmarks smoke                   does it work? under 2 minutes
    python -m benchmarks cpu                     15 minutes
    python -m benchmarks cpu --only tsne,lle
    python -m benchmarks full --only whole       the experiment against Keras and scikit-learn
    python -m benchmarks table runs/benchmarks/cpu.json
    python -m benchmarks compare OLD.json NEW.json

    Nothing else should run meanwhile.
    """


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _options(command: Callable) -> Callable:
    """What all suites take."""
    for option in (
        click.option("--resume", is_flag=True, help="Go on with a stopped run of the same revision in DIR."),
        click.option("--limit", type=click.FloatRange(0, min_open=True), metavar="MINUTES",
                     help="What has not begun by then is left out.  [default: the manifest's]"),
        click.option("--only", metavar="CASE,...", help="Cases to run.  [default: the manifest's]"),
        click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", default=OUT,
                     show_default=True, help="Where SUITE.json and SUITE.md go."),
    ):  # fmt: skip
        command = option(command)
    return command


def _run(path: Path, out: Path, only: str | None, limit: float | None, resume: bool) -> None:
    manifest = load_manifest(path)
    if only is not None:
        manifest = manifest.only(_names(only))
    if manifest.device == "gpu":
        gpu_benchmark.check_gpu()
    paths = [out / f"{manifest.name}.json", out / f"{manifest.name}.md"]
    deadline = Deadline(60 * (limit or manifest.limit_minutes))
    record = _begin(manifest, paths[0], deadline, resume)
    for each in paths:
        check_writable(each)

    def save(record: dict[str, Any]) -> None:
        write_json(paths[0], record)
        write_text(paths[1], tables.render(record))

    suite.run(manifest, record, deadline, save)
    for each in paths:
        click.echo(str(each))


def _begin(manifest: Manifest, path: Path, deadline: Deadline, resume: bool) -> dict[str, Any]:
    """A new record, or the one of a stopped run where all that its times depend on is the same."""
    record = suite.begin(manifest, deadline)
    if not path.exists():
        return record
    old = _record(path)
    if not resume:
        raise JaxtlError(f"{path}: holds a result already; go on with --resume, or give another --out")
    if record["git"]["revision"] is None:
        raise JaxtlError(
            f"--resume: {path}: without git nobody knows which code it is of; give another --out"
        )
    for what in ("git", "machine", "device", "threads"):
        if old[what] != record[what]:
            raise JaxtlError(f"--resume: {path}: was measured with another {what}; give another --out")
    if old["manifest"]["seed"] != manifest.seed:
        raise JaxtlError(f"--resume: {path}: was measured with another seed; give another --out")
    return old


@cli.command()
@_options
def smoke(**options: Any) -> None:
    """Small sizes: shows that it works; its times mean nothing. Under 2 minutes."""
    _run(shipped("smoke"), **options)


@cli.command()
@_options
def cpu(**options: Any) -> None:
    """Network, maps, neighbours, metrics and start-up on the CPU. 15 minutes on two cores."""
    _run(shipped("cpu"), **options)


@cli.command()
@_options
def full(**options: Any) -> None:
    """The CPU at larger sizes, and the whole experiment against Keras and scikit-learn. Hours."""
    _run(shipped("full"), **options)


@cli.command("run")
@click.argument("manifest", type=click.Path(dir_okay=False, path_type=Path))
@_options
def run_manifest(manifest: Path, **options: Any) -> None:
    """A manifest of your own; benchmarks/manifest.py says what it may hold."""
    _run(manifest, **options)


@cli.command()
@click.option("--part", type=click.IntRange(1, len(gpu_benchmark.PARTS)), metavar="N",
              help="1, 2 or 3, the most valuable first.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", default=OUT,
              show_default=True, help="Where part-N.json and part-N.md go.")  # fmt: skip
@click.option("--only", metavar="CASE,...", help="Cases of the part, or of all.  [default: all of the part]")
@click.option("--quick", is_flag=True, help="Small sizes: shows that it works; its times mean nothing.")
@click.option("--cpu", is_flag=True, help="On the CPU, without what needs a GPU: to try the steps out.")
@click.option("--thorough", is_flag=True, help="With openTSNE at 70,000 points, which takes 5 minutes.")
@click.option("--limit", type=click.FloatRange(0, min_open=True), default=gpu_benchmark.LIMIT_SECONDS,
              show_default=True, metavar="SECONDS", help="When a part is ended.")  # fmt: skip
def gpu(
    part: int | None, out: Path, only: str | None, quick: bool, cpu: bool, thorough: bool, limit: float
) -> None:
    """jaxtl on an NVIDIA GPU, in three parts of at most 4 minutes each.

    The files are written after every step: a cut loses nothing. Exit code 1 where a check does not pass or a
    step fails.

    \b
    1  whole        jaxtl run, cold and warm
       programs     training and frozen layers: forms, XLA's options
    2  maps         LLE, neighbours, t-SNE, PCA: seconds and parts
       tsne         t-SNE beside openTSNE's
       torch        PyTorch, compiled, in CUDA graphs
       roofline     network and training beside the card's own rates
       variants_of_tsne
    3  network      features and training against the CPU
       agreement    PCA, LLE, neighbours and t-SNE against CPU peers
       processes    JAX beside cuML, a killed process
       determinism  the same bytes twice
       seeds        several seeds beside one
       precision    what TF32 and bfloat16 do
       variants     forms and precisions of the extraction
    """
    if part is None and only is None:
        raise click.UsageError("give --part 1, 2 or 3, or --only CASE,...")
    sizes = gpu_cases.QUICK if quick else gpu_cases.FULL
    cases = None if only is None else _names(only)
    paths, failed = gpu_benchmark.run(out, sizes, part, cases, limit, on_gpu=not cpu, thorough=thorough)
    for path in paths:
        click.echo(str(path))
    for line in failed:
        click.echo(f"benchmarks: failed: {line}", err=True)
    if failed:
        sys.exit(1)


_RESULT = click.Path(dir_okay=False, path_type=Path)


@cli.command()
@click.argument("results", nargs=-1, required=True, type=_RESULT, metavar="RESULT...")
def table(results: tuple[Path, ...]) -> None:
    """Results as GitHub Markdown, on standard output."""
    records = [_record(path) for path in results]
    click.echo("\n".join(tables.render(record) for record in records), nl=False)


@cli.command()
@click.argument("results", nargs=-1, required=True, type=_RESULT, metavar="RESULT...")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=OUT, show_default=True,
              metavar="DIR", help="Where SUITE-FAMILY.png and .svg go.")  # fmt: skip
def plot(results: tuple[Path, ...], out: Path) -> None:
    """Results as figures: one for each family of cases, as PNG and SVG."""
    from benchmarks.plots import draw

    for record in [_record(path) for path in results]:
        for path in draw(record, out):
            click.echo(str(path))


@cli.command()
@click.argument("before", type=_RESULT)
@click.argument("after", type=_RESULT)
@click.option("--against", metavar="PEER", help="Take times as multiples of this peer's in the same round, "
              "which takes out what the machine did differently.")  # fmt: skip
@click.option("--level", type=click.FloatRange(0.5, 0.9999), default=0.99, show_default=True,
              help="Of the intervals.")  # fmt: skip
@click.option("--threshold", type=click.FloatRange(0), default=0.05, show_default=True,
              help="A smaller change is none.")  # fmt: skip
@click.option("--fail", is_flag=True, help="Exit code 1 where something got slower or worse.")
def compare(
    before: Path, after: Path, against: str | None, level: float, threshold: float, fail: bool
) -> None:
    """What got slower, or worse, from one result to another of the same suite."""
    from benchmarks import compare as comparison

    records = _record(before), _record(after)
    changes = comparison.compare(*records, level, threshold, against)
    click.echo(comparison.render(*records, changes, level), nl=False)
    if fail and any(change.bad for change in changes):
        sys.exit(1)


def _record(path: Path) -> dict[str, Any]:
    """A result of a suite.

    Raises:
        JaxtlError: no such file, or something else than a result.
    """
    record = read_json_object(path)
    wanted = {"suite", "rows", "ceilings", "peers", "machine", "git", "manifest", "device", "threads"}
    if record.get("format") != suite.FORMAT or not wanted <= set(record):
        raise JaxtlError(f"{path}: not a result of this benchmark; make one: python -m benchmarks cpu")
    unknown = {row["case"] for row in record["rows"]} - set(CASES)
    if unknown:
        raise JaxtlError(f"{path}: has cases of another version: {', '.join(sorted(unknown))}; measure again")
    return record


def main() -> None:
    """Exit 0; 1 where a check fails or --fail finds something; 2 with one line; 130 after Ctrl-C."""
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
        click.echo("benchmarks: stopped; rounds that were done are written", err=True)
        sys.exit(130)


def _fail(message: str) -> None:
    click.echo(f"benchmarks: {message}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
