"""Command line of the benchmarks: `python -m benchmarks --help`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks import suite, tables
from benchmarks.cases import CASES
from benchmarks.manifest import SUITES, about, load_manifest, shipped
from benchmarks.workers import Deadline
from jaxtl.cli.errors import explain
from jaxtl.cli.headings import Command
from jaxtl.cli.values import Names, Number
from jaxtl.errors import JaxtlError
from jaxtl.machine import cuda
from jaxtl.ranges import Range
from jaxtl.records.files import read_json_object, write_json, write_text
from jaxtl.records.paths import check_outputs

OUT = Path("runs") / "benchmarks"
_RESULT = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """How fast is jaxtl, against what one would use instead, on this machine?

    \b
    python -m benchmarks smoke                   does it work? under 3 minutes
    python -m benchmarks cpu                     40 minutes
    python -m benchmarks cpu --only tsne,metrics
    python -m benchmarks full --only whole       the experiment against Keras and scikit-learn
    python -m benchmarks gpu --part 1            four minutes of a card, the most valuable
    python -m benchmarks table runs/benchmarks/cpu.json
    python -m benchmarks compare OLD.json NEW.json

    Nothing else should run meanwhile.
    """


@cli.command("run", cls=Command)
@click.argument("manifest", type=_RESULT)
@click.option("--resume", is_flag=True, help="Go on with a stopped run of the same code in DIR.")
@click.option(
    "--limit",
    type=Number(Range(0, 1_000_000, above=True)),
    metavar="MINUTES",
    help="What has not begun by then is left out.  [default: the manifest's]",
)
@click.option(
    "--part",
    type=Number(Range(1, 1000, whole=True)),
    metavar="N",
    help="This part of the manifest alone, into SUITE-N.json.  [default: all]",
)
@click.option("--only", type=Names(), metavar="NAME,...", help="Cases or families.  [default: all]")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    default=OUT,
    show_default=True,
    help="Where SUITE.json and SUITE.md go.",
)
def run_manifest(
    manifest: Path,
    out: Path,
    part: int | None,
    only: tuple[str, ...] | None,
    limit: float | None,
    resume: bool,
) -> None:
    """A manifest of your own; benchmarks/manifest.py says what it may hold."""
    path, manifest = manifest, load_manifest(manifest)
    if part is not None:
        manifest = manifest.in_part(part)
    if only is not None:
        manifest = manifest.only(only)
    if manifest.device == "gpu" and (fault := cuda.gpu_fault() or cuda.jax_gpu_fault()):
        raise JaxtlError(f"no GPU to measure: {fault.what}; {fault.remedy}")
    paths = [out / f"{manifest.name}.json", out / f"{manifest.name}.md"]
    old = _record(paths[0]) if paths[0].exists() else None
    if old and not resume:
        raise JaxtlError(f"{paths[0]}: holds a result already; go on with --resume, or give another --out")
    check_outputs([("--out", file) for file in paths], [("the manifest", path)])
    deadline = Deadline(60 * (limit or manifest.limit_minutes))
    record = suite.begin(manifest, deadline, suite.describe_machine(manifest.device))
    if old:
        _check_same(paths[0], old, record)

    def save(record: dict[str, Any]) -> None:
        write_json(paths[0], record)
        write_text(paths[1], tables.render(record))

    suite.run(manifest, old or record, deadline, save)
    for file in paths:
        click.echo(str(file))


def _check_same(path: Path, old: dict[str, Any], record: dict[str, Any]) -> None:
    """Raises JaxtlError where anything that times depend on is not that of a stopped run."""
    if record["git"]["revision"] is None:
        raise JaxtlError(
            f"--resume: {path}: without git nobody knows which code it is of; give another --out"
        )
    pairs = {what: (old.get(what), record[what]) for what in ("git", "machine", "devices", "threads")}
    pairs["seed"] = old["manifest"]["seed"], record["manifest"]["seed"]
    for what, (was, now) in pairs.items():
        if was != now:
            raise JaxtlError(f"--resume: {path}: was measured with another {what}; give another --out")


for _name in SUITES:
    _work = partial(run_manifest.callback, shipped(_name))
    cli.add_command(Command(_name, callback=_work, params=run_manifest.params[1:], help=about(_name)))


@cli.command(cls=Command)
@click.argument("results", nargs=-1, required=True, type=_RESULT, metavar="RESULT...")
def table(results: tuple[Path, ...]) -> None:
    """Results as GitHub Markdown, on standard output."""
    records = [_record(path) for path in results]
    click.echo("\n".join(tables.render(record) for record in records), nl=False)


@cli.command(cls=Command)
@click.argument("before", type=_RESULT)
@click.argument("after", type=_RESULT)
@click.option(
    "--against",
    metavar="PEER",
    help="Take out what the machine did differently, by this peer's times in the same rounds.",
)
@click.option(
    "--threshold",
    type=Number(Range(0, 1000)),
    metavar="X",
    default=0.05,
    show_default=True,
    help="A smaller change is none.",
)
def compare(before: Path, after: Path, against: str | None, threshold: float) -> None:
    """What got slower, by pyperf's test, or worse, from one result to another of the same suite."""
    from benchmarks import comparison

    comparison.compare(_record(before), _record(after), threshold, against)


def _record(path: Path) -> dict[str, Any]:
    """A result of a suite.

    Raises:
        JaxtlError: no such file, or something else than a result.
    """
    record = read_json_object(path)
    wanted = {"suite", "rows", "ceilings", "peers", "machine", "git", "manifest", "device", "threads"}
    if record.get("format") != suite.FORMAT or not wanted <= set(record):
        raise JaxtlError(f"{path}: not a result of this benchmark; make one: python -m benchmarks cpu")
    known = [row for row in record["rows"] if row["case"] in CASES]
    if others := {row["case"] for row in record["rows"]} - set(CASES):
        click.echo(f"{path}: left out, of another version: {', '.join(sorted(others))}", err=True)
    return record | {"rows": known}


def main(program: click.Group = cli) -> None:
    """Exit 0; 2 with one line; 130 after Ctrl-C."""
    try:
        program(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
    except (click.UsageError, JaxtlError, OSError) as error:
        told = error.format_message() if isinstance(error, click.UsageError) else str(error)
        click.echo(f"benchmarks: {explain(error) if isinstance(error, OSError) else told}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("benchmarks: stopped; rounds that were done are written", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
