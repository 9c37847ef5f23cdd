"""The verb of the whole experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxtl.cli import options
from jaxtl.cli.errors import resumable
from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import configure
from jaxtl.methods import LIBRARIES, METHODS
from jaxtl.settings import RunConfig

if TYPE_CHECKING:
    from jaxtl.experiment.embeddings import EmbeddingOptions
    from jaxtl.experiment.experiment import Experiment
    from jaxtl.experiment.seeds import Seeds
    from jaxtl.progress import Observer

_SEEDS = click.IntRange(1, 1000)


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
    help="Go on with a stopped run, with the settings it was started with.",
)
@options.dataset
@options.setting("--samples", RunConfig.samples, "Test images to map, the first ones.", type=options.Count())
@options.train_samples
@options.images
@options.weights
@options.training
@options.setting("--methods", ",".join(METHODS), "Maps to make.", metavar="M,...")
@options.method_settings
@options.setting(
    "--backend",
    "auto",
    f"Libraries to prefer for the maps: {', '.join(LIBRARIES)}. auto takes cuML where it works.",
    metavar="NAME,...",
)
@options.limit(
    "--time-limit",
    "SECONDS",
    "For one map by cuML; one that takes longer is given up.",
    default=900.0,
    show_default=True,
)
@options.computing
@options.setting(
    "--layers/--no-layers", RunConfig.layers, "Look at the end of every block too, on up to 4000 images."
)
@options.seed
@options.setting(
    "--seeds",
    1,
    "The whole with R seeds, from --seed on: all numbers with intervals over them.",
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
    """The experiment: maps of a network's features before and after transfer learning.

    With no options, the founding experiment: MobileNetV2 with ImageNet weights looks at MNIST at 48x48. The
    1280 pooled features of 2000 test images are mapped by PCA, t-SNE and LLE; the last 10 layers and a
    softmax head learn the digits from 60,000 images in 5 epochs; the same images are mapped again.

    \b
    The run folder then holds
      figures/     before, after, comparison, history: .png, .svg, .pdf
      features/    before.npz, after.npz: values [n, 1280], labels, index
      embeddings/  STAGE_METHOD.npz: coords [n, 2] and every parameter
      report.html  all of it on one page, to be opened in a browser
      scores.csv, classes.csv, claims.json, layers.csv, measures.npz
      model.safetensors, history.csv
      config.json, environment.json, timings.json
    With --seeds it holds seed-N/, each such a folder, and scores.csv, claims.json and report.html over all.

    \b
    A stopped run loses nothing:      jaxtl run --resume runs/mnist-2000
    The full test set:                jaxtl run --samples all
    Your own images:                  jaxtl run --dataset folder:my-images --image-size 96
    Learn deeper:                     jaxtl run --trainable block_14_expand
    Maps on the CPU:                  jaxtl run --backend sklearn,opentsne
    """
    from jaxtl.cli.terminal import Terminal
    from jaxtl.experiment.embeddings import EmbeddingOptions

    settings["methods"] = options.parse_names(methods)
    observer = Terminal(options.console())
    if resume and out:
        raise JaxtlError("--resume goes on in its own folder: leave out --out")
    configure(compilation_cache=compilation_cache, notify=observer.notify)
    made_with = EmbeddingOptions(backend, time_limit)
    if resume:
        if options.given(ctx, "seeds"):
            raise JaxtlError("--resume goes on with as many seeds as there are: leave out --seeds")
        asked = {name: value for name, value in settings.items() if options.given(ctx, name)}
        work = _resumed(resume, asked, observer, made_with)
    else:
        work = _started(RunConfig(**settings), seeds, out, observer, made_with)
    _work_off(work, observer)


def _resumed(
    folder: Path, asked: dict[str, Any], observer: Observer, made_with: EmbeddingOptions
) -> Experiment | Seeds:
    from jaxtl.experiment import experiment, seeds
    from jaxtl.runs.folder import holds_seeds

    resume = seeds.resume if holds_seeds(folder) else experiment.resume
    return resume(folder, asked, observer, made_with)


def _started(
    config: RunConfig, count: int, out: Path | None, observer: Observer, made_with: EmbeddingOptions
) -> Experiment | Seeds:
    from jaxtl.experiment import experiment, seeds

    folder = out or fresh_folder(config)
    if count > 1:
        return seeds.start(config, count, folder, observer, made_with)
    return experiment.start(config, folder, observer, made_with)


def _work_off(work: Experiment | Seeds, observer: Any) -> None:
    """Run it, and show what came out and where it lies; `observer` is a Terminal."""
    from jaxtl.cli.tables import claims_table, history_table, score_table
    from jaxtl.experiment.experiment import Experiment

    observer.path("Run folder", work.folder.path)
    with resumable(work.folder.go_on):
        scores = work.run()
    observer.console.print(
        history_table(scores), score_table(scores), claims_table(work.folder.claims.read())
    )
    if isinstance(work, Experiment):
        observer.path("Pictures", work.folder.figures["comparison"][0].path)
    observer.path("Report", work.folder.report.path)


def fresh_folder(config: RunConfig) -> Path:
    """The first of runs/NAME, runs/NAME-2, ... that is not there."""
    base = f"{options.folder_name(config.dataset)}-{config.samples or 'all'}"
    number, folder = 1, Path("runs") / base
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{base}-{number}"
    return folder
