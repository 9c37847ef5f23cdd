"""The verb of the whole experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxtl.cli import options
from jaxtl.cli.errors import resumable
from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import configure
from jaxtl.settings import MOST_SEEDS, RunConfig

if TYPE_CHECKING:
    from jaxtl.experiment.embeddings import EmbeddingOptions
    from jaxtl.experiment.experiment import Experiment
    from jaxtl.experiment.seeds import Seeds
    from jaxtl.progress import Observer

_SEEDS = click.IntRange(1, MOST_SEEDS)


@click.command()
@click.option(
    "--out",
    type=options.FOLDER,
    metavar="DIR",
    help="The run folder, new or empty.  [default: runs/DATASET-SAMPLES]",
)
@click.option(
    "--resume",
    type=options.FOLDER,
    metavar="DIR",
    help="Continue a stopped run, with the settings it was started with.",
)
@options.dataset
@options.selection
@options.setting(
    "--samples",
    RunConfig.samples,
    "Embed the first N test images, or all where there are fewer.",
    type=options.Count(),
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
    "Also score the features at the end of every block, on up to 4000 images.",
)
@options.seed
@options.setting(
    "--seeds",
    1,
    "Do the whole experiment R times, with seeds S, S+1, ...; scores get intervals over the seeds. "
    "S is --seed.",
    type=_SEEDS,
    metavar="R",
)
@click.option("--repeats", "seeds", type=_SEEDS, hidden=True, expose_value=True)
@click.pass_context
def run(
    ctx: click.Context,
    out: Path | None,
    resume: Path | None,
    methods: str,
    backend: str,
    time_limit: float,
    compilation_cache: Path,
    seeds: int,
    **settings: Any,
) -> None:
    """The experiment: embeddings of a network's features before and after transfer learning.

    With no options, the founding experiment: MobileNetV2 with ImageNet weights computes features of MNIST at
    48x48. The 1280 pooled features of 2000 test images are embedded by PCA, t-SNE and LLE; the last 10 layers
    and a softmax head are trained on 60,000 images for 5 epochs; the same images are embedded again.

    \b
    The run folder then holds
      figures/     before, after, comparison, history, layers: .png, .svg, .pdf
      features/    STAGE.npz, train_STAGE.npz: values [n, 1280], labels, index
      neighbors/   STAGE.npz: the nearest neighbours of every image
      embeddings/  STAGE_METHOD.npz: coords [n, 2] and every parameter
      report.html  all of it on one page, to be opened in a browser
      scores.csv, classes.csv, claims.json, layers.csv, measures.npz
      model.safetensors, history.csv
      config.json, environment.json, timings.json
    With --seeds it holds seed-N/, each such a folder, and scores.csv, claims.json and report.html over all.

    \b
    Continue a stopped run:           jaxtl run --resume runs/mnist-2000
    The full test set:                jaxtl run --samples all
    Your own images:                  jaxtl run --dataset my-images --image-size 96
    Train more layers:                jaxtl run --trainable block_14_expand
    Embeddings on the CPU:            jaxtl run --backend sklearn,opentsne
    """
    from jaxtl.experiment import folders
    from jaxtl.experiment.embeddings import EmbeddingOptions
    from jaxtl.machine.terminal import Terminal

    settings["methods"] = options.parse_names(methods)
    observer = Terminal(options.console())
    if resume and out:
        raise JaxtlError("--resume continues in the run's own folder: leave out --out")
    configure(compilation_cache=compilation_cache, notify=observer.notify)
    made_with = EmbeddingOptions(backend, time_limit)
    if resume:
        if options.given(ctx, "seeds"):
            raise JaxtlError("--resume continues with the seeds that the run has: leave out --seeds")
        asked = {name: value for name, value in settings.items() if options.given(ctx, name)}
        work = folders.resume(resume, asked, observer, made_with)
    else:
        work = _started(RunConfig(**settings), seeds, out, observer, made_with)
    work_off(work, observer)


def _started(
    config: RunConfig, count: int, out: Path | None, observer: Observer, made_with: EmbeddingOptions
) -> Experiment | Seeds:
    from jaxtl.experiment import experiment, seeds
    from jaxtl.runs.folder import fresh_folder, run_name

    folder = out or fresh_folder(run_name(config))
    if count > 1:
        return seeds.start(config, count, folder, observer, made_with)
    return experiment.start(config, folder, observer, made_with)


def work_off(work: Experiment | Seeds, observer: Any) -> None:
    """Run it, and show what came out and where it is; `observer` is a Terminal."""
    from jaxtl.cli.tables import result_tables
    from jaxtl.experiment.experiment import Experiment

    observer.path("Run folder", work.folder.path)
    with resumable(work.folder.go_on):
        scores = work.run()
    observer.console.print(*result_tables(scores, work.folder.claims.read()))
    if isinstance(work, Experiment):
        observer.path("Pictures", work.folder.figures["comparison"][0].path)
    observer.path("Report", work.folder.report.path)
