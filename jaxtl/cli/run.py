"""The verb of the whole experiment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxtl.cli import headings, options, processes, screen
from jaxtl.cli.errors import resumable
from jaxtl.cli.values import Count, Number
from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import configure
from jaxtl.ranges import Range
from jaxtl.settings import MOST_SEEDS, RunConfig

if TYPE_CHECKING:
    from jaxtl.experiment.embeddings import EmbeddingOptions
    from jaxtl.experiment.experiment import Experiment
    from jaxtl.experiment.seeds import Seeds
    from jaxtl.machine.tasks import Executor
    from jaxtl.machine.terminal import Terminal
    from jaxtl.progress import Observer

_SEEDS = Number(Range(1, MOST_SEEDS, whole=True))


@click.command(cls=headings.Command, short_help="Features of your images before fine-tuning and after.")
@click.option(
    "--out",
    type=options.FOLDER,
    metavar="DIR",
    help="The run folder to write, new or empty.  [default: runs/DATASET-SAMPLES]",
)
@click.option(
    "--resume",
    type=options.FOLDER,
    metavar="DIR",
    help="Continue the stopped run in this folder, with the settings it was started with.",
)
@options.dataset
@options.selection
@options.setting(
    "--samples",
    RunConfig.samples,
    "How many test images to look at: the first N, or all.",
    type=Count(),
    metavar="N|all",
)
@options.train_samples
@options.images
@options.weights
@options.training
@options.embeddings
@options.computing
@options.setting(
    "--layers/--no-layers",
    RunConfig.layers,
    "Whether the features at the end of every block are scored too, on up to 4000 images.",
)
@options.seed
@options.setting(
    "--seeds",
    1,
    "Do the whole experiment R times, with the random seeds S, S+1, ... (S is --seed), for intervals over "
    "the seeds.",
    type=_SEEDS,
    metavar="R",
)
@processes.dask
@click.option("--repeats", "seeds", type=_SEEDS, hidden=True, expose_value=True)
@click.option(
    "--forecast",
    is_flag=True,
    help="Compute and write nothing: check all settings, and print how long the run would take.",
)
@screen.as_json
@screen.quiet
@click.pass_context
def run(
    ctx: click.Context,
    out: Path | None,
    resume: Path | None,
    backend: str,
    time_limit: float,
    devices: int | None,
    compilation_cache: Path,
    seeds: int,
    dask: str | None,
    forecast: bool,
    in_json: bool,
    **settings: Any,
) -> None:
    """Look at a network's features of your images, fine-tune the network on them, and look again.

    With no options, the founding experiment: MobileNetV2 with ImageNet weights computes 1280 features of each
    of 2000 handwritten digits (MNIST's test images, at 48x48), and PCA, t-SNE and LLE draw maps of them; the
    last 10 layers and a softmax head are trained on 60,000 other digits for 5 epochs; the same 2000 are
    mapped again. It ends by printing what it found, as jaxtl show does.

    \b
    The run folder then holds
      figures/     before, after, comparison, history, layers: .png, .svg, .pdf
      features/    STAGE.npz, train_STAGE.npz: values [n, 1280], labels, index
      neighbors/   STAGE.npz: the nearest neighbours of every image
      embeddings/  STAGE_METHOD.npz: coords [n, 2] and every parameter
      report.html  all of it on one page, to be opened in a browser
      scores.csv, classes.csv, images.csv, layers.csv, claims.json, measures.npz
      model.safetensors, history.csv
      config.json, environment.json, timings.json, manifest.json
    STAGE is before or after, METHOD pca, tsne or lle. With --seeds it holds
    seed-N/, each such a folder, and scores, claims and report of them all.

    \b
    Continue a stopped run:      jaxtl run --resume runs/mnist-2000
    See its results again:       jaxtl show runs/mnist-2000
    The full test set:           jaxtl run --samples all
    Your own images:             jaxtl run --dataset my-images --image-size 96
    Train more layers:           jaxtl run --trainable block_14_expand
    Maps made on the CPU:        jaxtl run --backend sklearn,opentsne
    How long would it take?      jaxtl run --samples all --forecast
    Two seeds at a time:         jaxtl run --seeds 4 --dask local:2
    """
    if not (resume or forecast or dask):
        _look_for_gpu(settings["deterministic"])
    from jaxtl.experiment import folders
    from jaxtl.experiment.embeddings import EmbeddingOptions

    observer, made_with = screen.observer(), EmbeddingOptions(backend, time_limit)
    if resume and out:
        raise JaxtlError("--resume continues in the run's own folder: leave out --out")
    if resume and forecast:
        raise JaxtlError("--forecast is of a new run: leave out --resume, which says what is left to do")
    processes.check_dask(ctx, dask)
    if dask and not resume and seeds == 1:
        raise JaxtlError("--dask: hands out the seeds of a run, and this is one; give --seeds, 2 or more")
    config = RunConfig(**settings)
    out = out if resume else _new_folder(out, config)
    configure(compilation_cache=compilation_cache, devices=devices, notify=observer.notify)
    if forecast:
        _print_forecast(config, seeds, out, observer, made_with, in_json)
        return
    if resume and options.given(ctx, "seeds"):
        raise JaxtlError("--resume continues with the seeds that the run has: leave out --seeds")
    with _workers(dask, resume or out, observer) as workers:
        if resume:
            asked = {name: value for name, value in settings.items() if options.given(ctx, name)}
            work = folders.resume(resume, asked, observer, made_with)
        else:
            work = _started(config, seeds, out, observer, made_with)
        work_off(work, observer, in_json, workers, dask)


def _look_for_gpu(deterministic: bool) -> None:
    """Have JAX's GPU set up, where there is one, while the work's modules are imported."""
    from jaxtl.machine import engines

    configure(deterministic=deterministic)
    engines.get_ready()


@contextlib.contextmanager
def _workers(dask: str | None, folder: Path, observer: Observer) -> Iterator[Executor | None]:
    """Who is to do the runs; None for this process."""
    from jaxtl.machine.cluster import executor
    from jaxtl.runs.folder import holds_run

    if dask is None:
        yield None
        return
    if holds_run(folder):
        raise JaxtlError(f"--dask: {folder} is one run, and seeds are handed out; leave --dask out")
    with executor(dask, folder, observer) as workers:
        yield workers


def _new_folder(out: Path | None, config: RunConfig) -> Path:
    """Where the run goes. Raises JaxtlError for a place that holds files or lies among the images."""
    from jaxtl.runs.folder import RunFolder
    from jaxtl.runs.naming import fresh_folder, run_name

    run = RunFolder(out or fresh_folder(run_name(config)))
    run.check_new()
    options.check_outputs([("--out", run.started.path)], **options.read_from(config.dataset, config.weights))
    return run.path


def _started(
    config: RunConfig, count: int, folder: Path, observer: Observer, made_with: EmbeddingOptions
) -> Experiment | Seeds:
    from jaxtl.experiment import opening, seeds

    if count > 1:
        return seeds.start(config, count, folder, observer, made_with)
    return opening.start(config, folder, observer, made_with)


def _print_forecast(
    config: RunConfig,
    count: int,
    folder: Path,
    observer: Observer,
    made_with: EmbeddingOptions,
    in_json: bool,
) -> None:
    from jaxtl.cli.tables import forecast_table
    from jaxtl.costs.forecast import SHARED
    from jaxtl.experiment import opening

    taken = opening.planned(config, folder, observer, made_with).forecast().times(count, SHARED)
    if in_json:
        screen.print_json(taken.as_dict())
        return
    screen.print_table(screen.results(), forecast_table(taken))
    click.echo(f"In all: {taken.total}, as on {taken.machine}")


def work_off(
    work: Experiment | Seeds,
    observer: Terminal,
    in_json: bool,
    workers: Executor | None = None,
    dask: str | None = None,
) -> None:
    """Run it, and print what came out and where it is.

    `workers`: who does the runs of several seeds, where that is not this process; `dask`, as it was typed.
    """
    from jaxtl.cli import results

    observer.path("Run folder", work.folder.path)
    with resumable(processes.gone_on(work.folder.go_on, dask)):
        if workers:
            work.run(workers)
        else:
            work.run()
    results.show(results.read(work.folder.path), in_json)
