"""The verb of the scaling study, and of forecasts by one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxtl.cli import headings, options, processes, screen
from jaxtl.cli.errors import resumable
from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import configure
from jaxtl.methods import LIBRARIES, METHODS
from jaxtl.scaling.settings import SIZES
from jaxtl.settings import TIME_LIMIT

if TYPE_CHECKING:
    from jaxtl.costs.table import Cost
    from jaxtl.machine.terminal import Terminal
    from jaxtl.scaling.study import Study


@click.command(cls=headings.Command, short_help="How time, memory and quality of maps grow with the images.")
@click.option(
    "--out",
    type=options.FOLDER,
    metavar="DIR",
    help="The study's folder: new, or a study to continue.  [default: runs/scale-DATASET]",
)
@click.option(
    "--sizes",
    metavar="N,...",
    help="Numbers of images, 22 to 1,000,000; each takes the first of one shuffled order.  "
    f"[default: as in the last call, else {','.join(map(str, SIZES))}]",
)
@click.option(
    "--methods",
    metavar="M,...",
    help=f"{', '.join(METHODS)}, or with landmarks such as tsne@5000, which embeds 5000 images and places "
    f"the others.  [default: as in the last call, else {','.join(METHODS)}]",
)
@click.option(
    "--backends",
    metavar="NAME,...",
    help=f"Libraries to measure, each with the methods that it has: {', '.join(LIBRARIES)}, auto.  "
    "[default: as in the last call, else auto]",
)
@options.limit("--time-limit", "SECONDS", f"Time that one map may take.  [default: {TIME_LIMIT:g}]")
@options.limit("--memory-limit", "GIB", "Memory that one map may take.  [default: 80 % of what is available]")
@options.limit(
    "--forecast",
    "N",
    "Compute nothing; print the time and memory that N images would take (by --methods and --backends, "
    "within --memory-limit), by the study in DIR, else by curves measured on another machine.",
)
@options.dataset
@options.study_selection
@options.images
@options.weights
@options.method_settings
@options.seed
@processes.dask
@screen.as_json
@screen.quiet
@click.pass_context
def scale(
    ctx: click.Context,
    out: Path | None,
    sizes: str | None,
    methods: str | None,
    backends: str | None,
    time_limit: float | None,
    memory_limit: float | None,
    forecast: int | None,
    dask: str | None,
    in_json: bool,
    **settings: Any,
) -> None:
    """Measure how time, memory and quality of maps change as the number of images grows.

    Training and test images together, in one shuffled order; a size n takes the first n. Beyond MNIST's
    70,000 its digits are taken again, each with a random deformation, fixed by the seed. Every embedding is
    computed in a process of its own, which is stopped if it exceeds a limit: that is recorded, and larger
    sizes of its curve are not tried.

    With --dask workers make the trials and judge the maps, each curve from its smallest size on. That is for
    quality and bytes. Seconds are those of a worker's machine, which its trial names, and of its part of the
    cores: trials at a time on one machine disturb each other, which tables and picture say.

    \b
    The folder then holds
      scaling.csv   seconds, bytes, 10-NN accuracy, ...: one number in each row
      fits.csv      power laws of seconds and bytes, exponents with intervals
      figures/      seconds, memory, quality, maps: .png, .svg
      maps/         METHOD_BACKEND_N.npz: coords [n, 2] and every parameter
      features.npy  [n, 1280], which jaxtl reduce takes too

    \b
    Continue a stopped study:    jaxtl scale --out DIR
    More of the same study:      jaxtl scale --out DIR --sizes 100000
    What would a million take?   jaxtl scale --out DIR --forecast 1000000
    """
    from jaxtl.machine.cluster import executor
    from jaxtl.runs.naming import folder_name

    _check_names(sizes, methods, backends)
    usual = Path("runs") / f"scale-{folder_name(settings['dataset'])}"
    if forecast is not None:
        _check_forecast(ctx)
        _forecast(out, usual, forecast, methods, backends, memory_limit, in_json)
        return
    from jaxtl.scaling import study
    from jaxtl.scaling.folder import CONFIG
    from jaxtl.scaling.plan import Grid

    study_file = (out or usual) / CONFIG
    read = options.read_from(settings["dataset"], settings["weights"])
    options.check_outputs([("--out", study_file)], **read, but=study_file)
    configure()
    observer = screen.observer()
    asked = {name: value for name, value in settings.items() if options.given(ctx, name)}
    limits = study.default_limits(time_limit, memory_limit)
    grid = Grid(sizes, methods, backends)
    again = {"--time-limit": time_limit, "--memory-limit": memory_limit, "--dask": dask}
    with executor(dask, out or usual, observer) as workers:
        own_memory = dask is not None and memory_limit is None
        work = study.prepare(out or usual, asked, grid, limits, observer, workers, own_memory)
        _work_off(
            work, observer, {name: value for name, value in again.items() if value is not None}, in_json
        )


def _work_off(work: Study, observer: Terminal, again: dict[str, float | str], in_json: bool) -> None:
    """Run a study, and show what came out and where it is; `again` has options that it goes on with."""
    from jaxtl.scaling.folder import FIGURES, TABLE
    from jaxtl.scaling.tables import laws_table, trials_table

    observer.path("Study", work.folder)
    words = [f"{name} {shlex.quote(_typed(value))}" for name, value in again.items()]
    go_on = " ".join(["go on with: jaxtl scale --out", shlex.quote(str(work.folder)), *words])
    with resumable(go_on, ", what is done is kept"):
        curves = work.run()
    files = {"tables": work.folder / TABLE, "pictures": work.folder / FIGURES}
    if in_json:
        screen.print_json({"curves": curves, "files": files})
        return
    console = screen.results()
    screen.print_table(console, trials_table(curves))
    if any(curve.seconds or curve.memory for curve in curves):
        screen.print_table(console, laws_table(curves))
    for name, path in files.items():
        screen.print_path(name.capitalize(), path)


def _typed(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _check_names(sizes: str | None, methods: str | None, backends: str | None) -> None:
    """Refuse lists that cannot be read, before any weights or images are."""
    from jaxtl.reduction.choice import parse_libraries
    from jaxtl.scaling.plan import parse_methods, parse_sizes

    for parse, text in ((parse_sizes, sizes), (parse_methods, methods), (parse_libraries, backends)):
        if text is not None:
            parse(text)


def _check_forecast(ctx: click.Context) -> None:
    """Refuse options that a forecast would not heed; --dataset names the folder where --out does not."""
    heeded = {"out", "methods", "backends", "memory_limit", "forecast", "in_json", "quiet"}
    heeded |= set() if options.given(ctx, "out") else {"dataset"}
    for name in ctx.params:
        if name not in heeded and options.given(ctx, name):
            raise JaxtlError(
                f"--{name.replace('_', '-')}: has no effect with --forecast, which takes a study's curves as "
                "they are; leave it out"
            )


def _forecast(
    folder: Path | None,
    usual: Path,
    n: int,
    methods: str | None,
    backends: str | None,
    gib: float | None,
    in_json: bool,
) -> None:
    """Print what embeddings of n images would take, by a study's curves where there are some."""
    from jaxtl.costs import table as costs
    from jaxtl.machine.memory import available_memory
    from jaxtl.scaling.folder import CONFIG
    from jaxtl.scaling.reference import chosen, costs_of
    from jaxtl.scaling.tables import beyond, forecast_table

    if folder is None and not (usual / CONFIG).is_file():
        known = costs.reference()
        source = f"By curves measured on another machine, {known.machine}; for your own: jaxtl scale"
    else:
        known = costs_of(folder or usual)
        source = f"By the study in {folder or usual} on {known.machine}"
    shown = chosen(known, methods, backends)
    available = available_memory() if gib is None else int(gib * 2**30)
    if in_json:
        maps = [_forecast_of(cost, n, available) for cost in shown]
        record = {"images": n, "bytes_available": available, "machine": known.machine, "maps": maps}
        screen.print_json(record)
        return
    screen.print_table(screen.results(), forecast_table(known, n, available, shown))
    for line in filter(None, (source, beyond(shown, n))):
        click.echo(line)


def _forecast_of(cost: Cost, n: int, available: int) -> dict[str, Any]:
    return {
        "method": cost.method,
        "backend": cost.backend,
        "seconds": cost.seconds_at(n),
        "bytes": cost.bytes_at(n) if cost.memory else None,
        "fits": cost.fits(n, available),
    }
