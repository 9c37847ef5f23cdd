"""The verb that compares what to freeze, at what size, with which weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxtl.cli import headings, options, processes, screen
from jaxtl.cli.errors import resumable
from jaxtl.cli.values import Count, Names, Number, Numbers
from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import configure
from jaxtl.ranges import RANGES
from jaxtl.settings import MODELS
from jaxtl.sweeps.settings import BUNDLED, SEEDS, TRAINABLE, USUAL, Asked, Grid

if TYPE_CHECKING:
    from jaxtl.machine.terminal import Terminal
    from jaxtl.sweeps.sweep import Sweep

_GRID = ("trainable", "image_size", "weights")


@click.command(cls=headings.Command, short_help="Which layers to train, at which size, from which weights.")
@click.option(
    "--out",
    type=options.FOLDER,
    metavar="DIR",
    help="The folder to write, new or empty.  [default: runs/sweep-DATASET-SAMPLES]",
)
@click.option(
    "--resume",
    type=options.FOLDER,
    metavar="DIR",
    help="Continue the stopped sweep in this folder; new values of --trainable, --image-size and --weights "
    "are added to it.",
)
@options.setting(
    "--trainable",
    ",".join(TRAINABLE),
    "Which layers to train besides the head, one experiment each: numbers, counted from the end; all; none; "
    "or the first layer or part to train, such as block_14_expand or layer4.",
    type=Names(),
    metavar="LAYERS,...",
)
@options.setting(
    "--image-size",
    "48",
    "Height and width that images are resized to.",
    type=Numbers(RANGES["image_size"]),
    metavar="PIXELS,...",
)
@options.setting(
    "--weights",
    BUNDLED,
    f"Weights to start from: files, .safetensors; {BUNDLED} for those that come with jaxtl.",
    type=Names(),
    metavar="FILE,...",
)
@click.option(
    "--model",
    type=click.Choice(list(MODELS)),
    help="The network that all weights must be of.  [default: that of the weights]",
)
@options.setting(
    "--seeds",
    1,
    "Do each experiment R times, with the random seeds S, S+1, ... (S is --seed), for intervals over the "
    "seeds.",
    type=Number(SEEDS),
    metavar="R",
)
@options.dataset
@options.selection
@options.setting(
    "--samples",
    USUAL.samples,
    "How many test images to look at: the first N, or all. Of sets that come as arrays, all are tested.",
    type=Count(),
    metavar="N|all",
)
@options.train_samples
@options.pixels
@options.schedule
@options.maps_of(USUAL.methods)
@options.computing
@options.setting(
    "--layers/--no-layers",
    USUAL.layers,
    "Whether the features at the end of every block are scored too, on up to 4000 images.",
)
@options.seed
@processes.dask
@click.option(
    "--forecast",
    is_flag=True,
    help="Compute and write nothing: check all settings, and print how long it would take.",
)
@screen.as_json
@screen.quiet
@click.pass_context
def sweep(
    ctx: click.Context,
    out: Path | None,
    resume: Path | None,
    seeds: int,
    backend: str,
    time_limit: float,
    devices: int | None,
    compilation_cache: Path,
    dask: str | None,
    forecast: bool,
    in_json: bool,
    **settings: Any,
) -> None:
    """Do the experiment of jaxtl run for every combination of layers, sizes and weights, and compare them.

    It ends with a table, a picture and a page: the test accuracy of every combination with its 95 % interval
    over seeds and test images, what it costs, which is best, and which is the cheapest that cannot be told
    from it. What runs have in common (outputs of layers that all freeze, features before and what is made of
    them) is computed once. Each combination is worked on by a process of its own: one that is refused, or
    runs out of memory, is a line in the table and costs the others nothing.

    \b
    The folder then holds
      combinations.csv, combinations.json, figures/sweep.png, .svg, .pdf
      report.html          the answer, and the runs side by side
      runs/COMBINATION/    a run folder each, as of jaxtl run (--seeds)
      predictions/         classes of all test images by every network

    \b
    What to freeze?  jaxtl sweep --trainable none,10,block_14,all --seeds 3
    At what size?    jaxtl sweep --dataset my-images --image-size 48,96
    Which backbone?  jaxtl sweep --weights imagenet,resnet18.safetensors
    Continue:        jaxtl sweep --resume runs/sweep-mnist-2000
    How long?        jaxtl sweep --forecast
    Two at a time:   jaxtl sweep --dask local:2
    """
    from jaxtl.machine.cluster import executor
    from jaxtl.runs.folder import SweepFolder
    from jaxtl.settings import RunConfig
    from jaxtl.sweeps import sweep as sweeping

    configure(devices=devices)
    observer, setting = screen.observer(), (backend, time_limit, str(compilation_cache))
    if resume and out:
        raise JaxtlError("--resume continues in the sweep's own folder: leave out --out")
    if resume and forecast:
        raise JaxtlError("--forecast is of a new sweep: leave out --resume, which says what is left to do")
    processes.check_dask(ctx, dask)
    if resume:
        SweepFolder(resume).check()
        asked = {name: value for name, value in settings.items() if options.given(ctx, name)}
        asked |= {"seeds": seeds} if options.given(ctx, "seeds") else {}
        with executor(dask, resume, observer) as workers:
            work = sweeping.resume(resume, asked, observer, setting, workers)
            _work_off(work, observer, in_json, dask)
        return
    grid = Grid(**{name: settings.pop(name) for name in _GRID})
    wanted = Asked(RunConfig(**settings), grid, seeds)
    folder = _new_folder(out, wanted)
    if forecast:
        _print_forecast(sweeping.planned(wanted, folder, observer, setting), in_json)
        return
    with executor(dask, folder, observer) as workers:
        work = sweeping.start(wanted, folder, observer, setting, workers)
        _work_off(work, observer, in_json, dask)


def _new_folder(out: Path | None, wanted: Asked) -> Path:
    """Where the sweep goes. Raises JaxtlError for a place that holds files or lies among the images."""
    from jaxtl.runs.folder import SweepFolder
    from jaxtl.runs.naming import fresh_folder, run_name

    run = SweepFolder(out or fresh_folder(f"sweep-{run_name(wanted.config)}"))
    run.check_new()
    for weights in wanted.grid.weights:
        read = options.read_from(wanted.config.dataset, weights)
        options.check_outputs([("--out", run.asked.path)], **read)
    return run.path


def _print_forecast(work: Sweep, in_json: bool) -> None:
    from jaxtl.cli.tables import forecast_table

    taken = work.forecast()
    if in_json:
        screen.print_json(taken.as_dict())
        return
    screen.print_table(screen.results(), forecast_table(taken))
    click.echo(f"In all: {taken.total}, as on {taken.machine}")


def _work_off(work: Sweep, observer: Terminal, in_json: bool, dask: str | None) -> None:
    """Run it, and print what came out and where it is; `dask` as it was typed."""
    observer.path("Sweep", work.folder.path)
    with resumable(processes.gone_on(work.folder.go_on, dask), ", what is done is kept"):
        work.run()
    show_sweep(work.folder.path, in_json)


def show_sweep(path: Path, in_json: bool) -> None:
    """Print what a sweep found, from its files alone."""
    from jaxtl.runs.folder import SweepFolder
    from jaxtl.sweeps.result import read_sweep
    from jaxtl.sweeps.tables import as_record, faults, rows_table

    found, folder = read_sweep(path), SweepFolder(path)
    files = {"table": folder.table.path, "picture": folder.figures[0].path, "report": folder.report.path}
    if in_json:
        screen.print_json({"folder": path, **as_record(found.rows, found.test_images), "files": files})
        return
    console = screen.results()
    screen.print_table(console, rows_table(found.rows))
    for line in faults(found.rows):
        click.echo(line)
    if found.words:
        console.print(found.words)
    for name, file in files.items():
        screen.print_path(name.capitalize(), file)
