"""The command line: one thin command per verb. Heavy modules are imported by the verb that needs them."""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import jaxtl
from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import PRECISIONS, configure
from jaxtl.scaling.settings import SIZES, TIME_LIMIT
from jaxtl.settings import METHODS, PREPROCESSING, FinetuneConfig, Images, RunConfig

_RUN, _TUNE, _IMAGES = RunConfig(), FinetuneConfig(), Images()


class Count(click.ParamType):
    """A number of images, or "all"; None stands for all."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value is None or isinstance(value, int):
            return value
        if value.lower() == "all":
            return None
        if not value.isdecimal() or int(value) < 1:
            self.fail(f"{value!r} is neither a number from 1 nor all", param, ctx)
        return int(value)


def _options(*options: Callable) -> Callable:
    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_dataset = click.option(
    "--dataset", default=_RUN.dataset, show_default=True, metavar="NAME",
    help="mnist (comes with jaxtl), infinite:N (its digits, deformed anew), idx:FOLDER, "
    "folder:PATH (PATH/train/CLASS/*.png), or tfds:NAME.",
)  # fmt: skip
_weights = click.option(
    "--weights", type=click.Path(dir_okay=False), metavar="FILE",
    help="Safetensors weights to start from.  [default: ImageNet, which come with jaxtl]",
)  # fmt: skip
_image_options = _options(
    click.option("--image-size", default=_IMAGES.image_size, show_default=True, metavar="PIXELS",
                 help="Images are resized to this height and width, 32 to 1024."),
    click.option("--preprocessing", type=click.Choice(PREPROCESSING), default=_IMAGES.preprocessing,
                 show_default=True, help="unit: [0, 1]; keras: [-1, 1], as ImageNet was learnt."),
)  # fmt: skip
_train_samples = click.option(
    "--train-samples", type=Count(), default="all", show_default=True, help="Training images, the first ones."
)
_training_options = _options(
    click.option("--trainable", default=_TUNE.trainable, show_default=True, metavar="LAYERS",
                 help="What learns besides the head: the last LAYERS layers as Keras counts them, all, none, "
                 "or the name of the first trainable layer, such as block_16_expand_BN."),
    click.option("--epochs", default=_TUNE.epochs, show_default=True, metavar="N"),
    click.option("--batch-size", default=_TUNE.batch_size, show_default=True, metavar="N"),
    click.option("--learning-rate", default=_TUNE.learning_rate, show_default=True, metavar="X"),
)  # fmt: skip
_seed = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=_RUN.seed, show_default=True, metavar="N",
    help="The same seed, the same bytes.",
)  # fmt: skip
_computing = _options(
    click.option("--precision", type=click.Choice(PRECISIONS), default=_RUN.precision, show_default=True,
                 help="Of the network's products: highest is float32; the others are faster on some GPUs."),
    click.option("--deterministic", is_flag=True,
                 help="The same bits on every run on the same GPU, at some cost; a CPU's always are."),
    click.option("--compilation-cache", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
                 default="auto", show_default=True,
                 help="Keep what JAX compiles here, for the next process. auto: in the user's cache folder "
                 "where there is a GPU; none: nowhere."),
)  # fmt: skip


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(jaxtl.__version__, prog_name="jaxtl")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """What transfer learning does to a network's features, in pictures and in numbers.

    \b
    jaxtl run            the whole experiment: features before, fine-tuning, features after
    jaxtl COMMAND -h     the settings of one step
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="The run folder, new or empty.  [default: runs/DATASET-SAMPLES]")  # fmt: skip
@click.option("--resume", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Go on with a stopped run, with the settings it was started with.")  # fmt: skip
@_dataset
@click.option("--samples", type=Count(), default=_RUN.samples, show_default=True,
              help="Test images to map, the first ones.")  # fmt: skip
@_train_samples
@_image_options
@_weights
@_training_options
@click.option(
    "--methods", default=",".join(METHODS), show_default=True, metavar="M,...", help="Maps to make."
)
@click.option("--perplexity", default=_RUN.perplexity, show_default=True, metavar="X", help="Of t-SNE.")
@click.option("--n-neighbors", default=_RUN.n_neighbors, show_default=True, metavar="K", help="Of LLE.")
@click.option("--backend", default="auto", show_default=True, metavar="NAME,...",
              help="Libraries to prefer for the maps: cuml, sklearn, opentsne, jaxtl. "
              "auto takes cuML where it works.")  # fmt: skip
@click.option("--time-limit", type=click.FloatRange(0, min_open=True), default=900.0, show_default=True,
              metavar="SECONDS", help="For one map by cuML; one that takes longer is given up.")  # fmt: skip
@_computing
@click.option("--layers/--no-layers", default=True, show_default=True,
              help="Look at the end of every block too, on up to 4000 images.")  # fmt: skip
@_seed
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, metavar="R",
    help="The whole with R seeds, from --seed on: all numbers with intervals over them.",
)  # fmt: skip
@click.option("--repeats", "seeds", type=click.IntRange(1, 1000), hidden=True, expose_value=True)
@click.pass_context
def run(
    ctx: click.Context, out: Path | None, resume: Path | None, methods: str, backend: str, time_limit: float,
    compilation_cache: Path, seeds: int, **settings: Any,
) -> None:  # fmt: skip
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
    from jaxtl.cli.terminal import Terminal, claims_table, history_table, score_table
    from jaxtl.experiment import experiment
    from jaxtl.experiment import seeds as several
    from jaxtl.experiment.embeddings import EmbeddingOptions
    from jaxtl.runs.folder import holds_seeds

    settings["methods"] = tuple(name.strip() for name in methods.split(",") if name.strip())
    console = _console()
    observer = Terminal(console)
    if resume and out:
        raise JaxtlError("--resume goes on in its own folder: leave out --out")
    configure(compilation_cache=compilation_cache, notify=observer.notify)
    options = EmbeddingOptions(backend, time_limit)
    if resume:
        if _given(ctx, "seeds"):
            raise JaxtlError("--resume goes on with as many seeds as there are: leave out --seeds")
        given = {name: settings[name] for name in settings if _given(ctx, name)}
        resumed = several.resume if holds_seeds(resume) else experiment.resume
        work = resumed(resume, given, observer, options)
    else:
        config = RunConfig(**settings)
        out = out or _fresh_folder(config)
        if seeds > 1:
            work = several.start(config, seeds, out, observer, options)
        else:
            work = experiment.start(config, out, observer, options)
    observer.path("Run folder", work.folder.path)
    try:
        scores = work.run()
    except KeyboardInterrupt:
        raise Stopped(f"stopped; {work.folder.go_on}") from None
    except OSError as error:
        raise JaxtlError(f"{_explain(error)}; {work.folder.go_on}") from None
    console.print(history_table(scores), score_table(scores), claims_table(work.folder.claims.read()))
    if isinstance(work, experiment.Experiment):
        observer.path("Pictures", work.folder.figures["comparison"][0].path)
    observer.path("Report", work.folder.report.path)


@cli.command()
@_dataset
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True)
@click.option("--samples", type=Count(), default="all", show_default=True, help="The first N images.")
@_image_options
@_weights
@click.option(
    "--batch-size", type=click.IntRange(1), metavar="N", help="Images per step.  [default: by platform]"
)
@_computing
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="F.npz|F.npy",
              help=".npy: written piece by piece, and mapped by who reads it, for more features than memory "
              "holds; labels and index are beside it in F.rows.npz.")  # fmt: skip
def extract(
    dataset: str, split: str, samples: int | None, image_size: int, preprocessing: str, weights: str | None,
    batch_size: int | None, precision: str, deterministic: bool, compilation_cache: Path, out: Path,
) -> None:  # fmt: skip
    """Pooled features of images: an npz with values f32 [n, 1280], labels, index."""
    from jaxtl.cli.terminal import Terminal
    from jaxtl.data import load
    from jaxtl.models.weights import load_model
    from jaxtl.network.extraction import extract as extract_features
    from jaxtl.network.extraction import extract_to_store
    from jaxtl.records import store
    from jaxtl.records.files import check_writable

    _check_suffix(out, ".npz", store.SUFFIX)
    observer = Terminal(_console())
    configure(deterministic=deterministic, compilation_cache=compilation_cache, notify=observer.notify)
    images, model = Images(image_size, preprocessing), load_model(weights)
    data = load(dataset, split, image_size=image_size)
    data = data if samples is None else data.take(samples)
    check_writable(out)
    with observer.step(f"Features of {len(data):,} images") as progress:
        how = {
            "batch_size": batch_size,
            "precision": precision,
            "progress": progress,
            "notify": observer.notify,
        }
        if out.suffix == store.SUFFIX:
            extract_to_store(out, model, data, images, **how)
        else:
            extract_features(model, data, images, **how).save(out)
    click.echo(f"{out}: {len(data)} x {model.config.features} features")


@cli.command()
@_dataset
@_train_samples
@_image_options
@_weights
@_training_options
@_computing
@_seed
@click.option("--history", type=click.Path(dir_okay=False, path_type=Path), metavar="H.csv",
              help="Write loss and accuracy of every epoch here.")  # fmt: skip
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="M.safetensors"
)
def finetune(
    dataset: str, train_samples: int | None, image_size: int, preprocessing: str, weights: str | None,
    precision: str, deterministic: bool, compilation_cache: Path, seed: int, history: Path | None,
    out: Path, **training: Any,
) -> None:  # fmt: skip
    """Train a softmax head and the last layers; the test images are only reported on."""
    from jaxtl.cli.terminal import Terminal
    from jaxtl.data import load
    from jaxtl.models.weights import arrays_of, load_model, save_weights
    from jaxtl.network.finetuning import finetune as tune
    from jaxtl.records.files import check_writable
    from jaxtl.records.tables import save_history

    _check_suffix(out, ".safetensors")
    observer = Terminal(_console())
    configure(deterministic=deterministic, compilation_cache=compilation_cache, notify=observer.notify)
    config, images, model = (
        FinetuneConfig(**training, seed=seed),
        Images(image_size, preprocessing),
        load_model(weights),
    )
    train, test = (load(dataset, split, image_size=image_size) for split in ("train", "test"))
    train = train if train_samples is None else train.take(train_samples)
    for path in filter(None, (out, history)):
        check_writable(path)
    with observer.step(f"Fine-tuning, {config.epochs} epochs") as progress:
        tuned, rows = tune(
            model, train, test, config, images, precision=precision, progress=progress, notify=observer.notify
        )
    save_weights(out, tuned.config, arrays_of(tuned), {"made_by": "jaxtl finetune", "dataset": dataset})
    if history:
        save_history(history, rows)
    for row in rows:
        click.echo(f"epoch {row['epoch']}: loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}, "
                   f"test accuracy {row['test_accuracy']:.4f}")  # fmt: skip


@cli.command()
@click.argument("features", type=click.Path(dir_okay=False, path_type=Path), metavar="F.npz|F.npy")
@click.option("--method", type=click.Choice(METHODS), required=True)
@click.option(
    "--backend", default="auto", show_default=True, metavar="NAME", help="The library that computes it."
)
@_seed
@click.option("--set", "params", multiple=True, metavar="NAME=VALUE",
              help="A parameter of the method, such as perplexity=50; may be repeated. landmarks=5000 maps "
              "5000 points and places the others among them.")  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="E.npz")
def reduce(features: Path, method: str, backend: str, seed: int, params: tuple[str, ...], out: Path) -> None:
    """Map features to the plane: an npz with coords f32 [n, 2] and every parameter used."""
    from jaxtl.cli.terminal import Terminal
    from jaxtl.records import store
    from jaxtl.records.arrays import Features
    from jaxtl.records.files import check_writable
    from jaxtl.reduction import defaults
    from jaxtl.reduction import reduce as reduce_features

    _check_suffix(out, ".npz")
    load = store.load if features.suffix == store.SUFFIX else Features.load
    loaded, chosen = load(features), dict(map(_parse_setting, params))
    known = [*defaults(method, backend), "landmarks"]
    for name in chosen:
        if name not in known:
            raise JaxtlError(f"--set {name}: {method} has no such parameter; it has {', '.join(known)}")
    check_writable(out)
    with Terminal(_console()).step(f"{method} of {len(loaded.values):,} points") as progress:
        embedding = reduce_features(loaded, method, backend, progress=progress, **{"seed": seed, **chosen})
    embedding.save(out)
    click.echo(f"{out}: {method} by {embedding.backend}, {embedding.diagnostics}")


@cli.command()
@click.argument("source", type=click.Path(path_type=Path), metavar="RUN|E.npz")
@click.option("--out", type=click.Path(path_type=Path), metavar="PATH",
              help="For a map, the picture (.png, .svg, .pdf); for a run, the folder.  "
              "[default: E.png; RUN/figures]")  # fmt: skip
def plot(source: Path, out: Path | None) -> None:
    """Draw one map, or the figures of a finished run again."""
    from jaxtl.plots import maps as plots

    if source.is_dir():
        from jaxtl.runs.figures import save_figures

        written = save_figures(source, out)
    else:
        from jaxtl.metrics import knn_accuracy
        from jaxtl.records.arrays import Embedding

        embedding = Embedding.load(source)
        written = [out or source.with_suffix(".png")]
        try:
            accuracy, _ = knn_accuracy(embedding.coords, embedding.labels)
        except JaxtlError as error:
            click.echo(f"drawn without an accuracy: {error}", err=True)
            accuracy = None
        plots.save(plots.embedding_figure(embedding, accuracy), written[0])
    for path in written:
        click.echo(str(path))


@cli.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="RUN")
def score(folder: Path) -> None:
    """All numbers of a finished run again, the claims, the figures and the page."""
    from jaxtl.cli.terminal import Terminal, claims_table, number_table
    from jaxtl.experiment import experiment

    console = _console()
    work = experiment.resume(folder, observer=Terminal(console))
    scores = work.redo("scores", "figures", "report")
    console.print(number_table(scores), claims_table(work.folder.claims.read()))


@cli.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="RUN")
def layers(folder: Path) -> None:
    """Where in the network a finished run's task is solved, and what fine-tuning moved.

    At the end of every block: 10-NN accuracy, accuracy of a ridge probe, effective rank, and the linear CKA
    of before and after. Where accuracy falls before fine-tuning, blocks are worth unfreezing.
    """
    from jaxtl.cli.terminal import Terminal, layer_table
    from jaxtl.experiment import experiment

    console = _console()
    work = experiment.resume(folder, observer=Terminal(console))
    if not work.config.layers:
        raise JaxtlError(f"{folder}: was made with --no-layers; make a new run without that")
    work.redo("layers", "figures", "report")
    console.print(layer_table(work.folder.layers.read()))
    console.print(f"Picture: {work.folder.figures['layers'][0]}", highlight=False, soft_wrap=True)


@cli.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="F.html",
              help="[default: report.html, in the run's folder if there is one run]")  # fmt: skip
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """One page of a finished run, or of several to compare, that opens offline in any browser."""
    from jaxtl.report.document import write_report
    from jaxtl.runs.folder import RunFolder, run_folders

    # Several runs are shown on a page of the working directory's.
    path = out or RunFolder(runs[0] if len(runs) == 1 else ".").report.path
    _check_suffix(path, ".html")
    write_report([folder for run in runs for folder in run_folders(run)], path)
    click.echo(str(path))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--to", "form", type=click.Choice(["tensorboard", "parquet", "csv"]), required=True,
              help="Embedding projector; Embedding Atlas; one table.")  # fmt: skip
@click.option("--stage", type=click.Choice(["before", "after", "both"]), default="both", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="PATH",
              help="A file .parquet or .csv; for tensorboard a folder.")  # fmt: skip
def export(folder: Path, form: str, stage: str, out: Path) -> None:
    """A finished run for other tools: one row an image, with its class, predictions and maps.

    \b
    jaxtl export RUN --to tensorboard --out projector     then: tensorboard --logdir projector
    jaxtl export RUN --to parquet --out run.parquet       then: embedding-atlas run.parquet --image image
            --x after_tsne_x --y after_tsne_y --neighbors neighbors_after
    """
    from jaxtl.runs.export import export as export_run

    if form != "tensorboard":
        _check_suffix(out, f".{form}")
    written, notes = export_run(folder, form, out, stage)
    for note in notes:
        click.echo(note, err=True)
    for path in written:
        click.echo(str(path))


@cli.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The study's folder: new, or a study that goes on.  [default: runs/scale-DATASET]",
)
@click.option("--sizes", metavar="N,...", help="Numbers of images, each the first of one shuffle.  "
              f"[default: what was asked for last, else {','.join(map(str, SIZES))}]")  # fmt: skip
@click.option("--methods", metavar="M,...", help="pca, tsne, lle, or with landmarks such as tsne@5000, which "
              "maps 5000 images and places the others.  [default: likewise, else pca,tsne,lle]")  # fmt: skip
@click.option("--backends", metavar="NAME,...", help="Libraries, a curve for each that has the method: "
              "sklearn, opentsne, jaxtl, cuml, auto.  [default: likewise, else auto]")  # fmt: skip
@click.option("--time-limit", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help=f"For one map.  [default: {TIME_LIMIT:g}]")  # fmt: skip
@click.option("--memory-limit", type=click.FloatRange(0, min_open=True), metavar="GIB",
              help="For the process of one map.  [default: 80 % of what is available]")  # fmt: skip
@click.option(
    "--forecast",
    type=click.IntRange(3),
    metavar="N",
    help="Only tell what maps of N images would take (by --methods and --backends, within --memory-limit), "
    "by the study in DIR, else by reference curves.",
)
@_dataset
@_image_options
@_weights
@click.option("--perplexity", default=_RUN.perplexity, show_default=True, metavar="X", help="Of t-SNE.")
@click.option("--n-neighbors", default=_RUN.n_neighbors, show_default=True, metavar="K", help="Of LLE.")
@_seed
@click.pass_context
def scale(
    ctx: click.Context, out: Path | None, sizes: str | None, methods: str | None, backends: str | None,
    time_limit: float | None, memory_limit: float | None, forecast: int | None, **settings: Any,
) -> None:  # fmt: skip
    """What happens to time, memory and a map's worth as the number of images grows.

    Training and test images together, in one shuffled order of which every size takes the first; beyond
    MNIST's 70,000 its digits go on, deformed anew each time. Every map is made in a process of its own, which
    is ended where it goes over a limit: that is recorded, and larger sizes of its curve are not tried.

    \b
    The folder then holds
      scaling.csv    every number: seconds, bytes, 10-NN accuracy, trustworthiness, ..., one a row
      fits.csv       power laws of seconds and bytes, exponents with their intervals
      figures/       seconds, memory, quality, maps: .png, .svg
      maps/          METHOD_BACKEND_N.npz: coords [n, 2] and every parameter
      features.npy   [n, 1280], to be mapped: jaxtl reduce DIR/features.npy --set landmarks=5000 ...

    \b
    The same command again goes on:   jaxtl scale --out DIR
    More of the same study:           jaxtl scale --out DIR --sizes 100000 --methods pca,tsne@5000
    What would a million take?        jaxtl scale --out DIR --forecast 1000000
    """
    usual = Path("runs") / f"scale-{_folder_name(settings['dataset'])}"
    if forecast is not None:
        _check_forecast(ctx)
        _forecast(out, usual, forecast, methods, backends, memory_limit)
        return
    console, out = _console(), out or usual
    from jaxtl.cli.terminal import Terminal
    from jaxtl.scaling import study
    from jaxtl.scaling.tables import laws_table, points_table

    configure()
    observer = Terminal(console)
    given = {name: value for name, value in settings.items() if _given(ctx, name)}
    limits = study.default_limits(time_limit, memory_limit)
    work = study.prepare(out, given, study.Grid(sizes, methods, backends), limits, observer)
    observer.path("Study", out)
    again = {"--time-limit": time_limit, "--memory-limit": memory_limit}
    words = [f"{name} {value:g}" for name, value in again.items() if value is not None]
    go_on = " ".join(["go on with: jaxtl scale --out", shlex.quote(str(out)), *words])
    try:
        curves = work.run()
    except KeyboardInterrupt:
        raise Stopped(f"stopped, what is done is kept; {go_on}") from None
    except OSError as error:
        raise JaxtlError(f"{_explain(error)}; {go_on}") from None
    console.print(points_table(curves))
    if any(curve.seconds or curve.memory for curve in curves):
        console.print(laws_table(curves))
    observer.path("Tables", out / study.TABLE)
    observer.path("Pictures", out / study.FIGURES)


@cli.command()
@click.option("--json", "in_json", is_flag=True, help="The same as one JSON object.")
def doctor(in_json: bool) -> None:
    """What this machine computes with, what does not work, and what to do about it.

    Exit code 0 where all that is installed works (a machine without a GPU is healthy), else 1.
    """
    from jaxtl.doctor.report import as_json, examine, lines

    findings = examine()
    click.echo(as_json(findings) if in_json else "\n".join(lines(findings)))
    if not findings.healthy:
        sys.exit(1)


def _check_forecast(ctx: click.Context) -> None:
    """Refuse options that a forecast would not heed; --dataset names the folder where --out does not."""
    heeded = {"out", "methods", "backends", "memory_limit", "forecast"}
    heeded |= set() if _given(ctx, "out") else {"dataset"}
    for name in ctx.params:
        if name not in heeded and _given(ctx, name):
            raise JaxtlError(
                f"--{name.replace('_', '-')}: has no bearing on --forecast, which takes a study's curves as "
                "they are; leave it out"
            )


def _forecast(
    folder: Path | None, usual: Path, n: int, methods: str | None, backends: str | None, gib: float | None
) -> None:
    """Print what maps of n images would take, by a study's curves where there are some."""
    from rich.console import Console

    from jaxtl.costs import table as costs
    from jaxtl.machine.memory import available_memory
    from jaxtl.scaling.plan import CONFIG
    from jaxtl.scaling.reference import chosen, costs_of
    from jaxtl.scaling.tables import beyond, forecast_table

    if folder is None and not (usual / CONFIG).is_file():
        known = costs.reference()
        source = f"By reference curves from another machine, {known.machine}; for your own: jaxtl scale"
    else:
        known = costs_of(folder or usual)
        source = f"By the study in {folder or usual} on {known.machine}"
    shown = chosen(known, methods, backends)
    available = available_memory() if gib is None else int(gib * 2**30)
    Console().print(forecast_table(known, n, available, shown))
    for line in filter(None, (source, beyond(shown, n))):
        click.echo(line)


class Stopped(Exception):
    """Ctrl-C, with what to tell."""


def main() -> None:
    """Entry point: exit 0, 2 with one line on standard error for what a user can mend, 130 after Ctrl-C."""
    try:
        cli(prog_name="jaxtl", standalone_mode=False)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "jaxtl"
        _fail(f"{error.format_message()} (see {command} --help)")
    except JaxtlError as error:
        _fail(str(error))
    except OSError as error:
        _fail(_explain(error))
    except (KeyboardInterrupt, click.Abort, Stopped) as error:
        click.echo(f"jaxtl: {error if isinstance(error, Stopped) else 'stopped'}", err=True)
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        _fail(_advise(error))


def _fail(message: str) -> None:
    click.echo(f"jaxtl: {' '.join(message.split())}", err=True)
    sys.exit(2)


def _explain(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    advice = _ADVICE.get(error.errno)
    return f"{where}{error.strerror or error}{f'; {advice}' if advice else ''}"


_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on file sizes",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT),
        "give another path",
    ),
}


def _advise(error: MemoryError | RuntimeError) -> str:
    # JAX raises RuntimeErrors for what its devices refuse; another one is a fault of jaxtl's.
    text = str(error)
    if isinstance(error, MemoryError) or text.startswith("RESOURCE_EXHAUSTED"):
        return "out of memory; take fewer --samples or --train-samples, or a smaller --image-size"
    if "Unable to initialize backend" in text:
        return f"JAX cannot compute: {text}; change JAX_PLATFORMS"
    raise error


def _console():
    from rich.console import Console

    return Console(stderr=True)


def _given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _fresh_folder(config: RunConfig) -> Path:
    """The first of runs/NAME, runs/NAME-2, ... that is not there."""
    base = f"{_folder_name(config.dataset)}-{config.samples or 'all'}"
    number, folder = 1, Path("runs") / base
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{base}-{number}"
    return folder


def _folder_name(dataset: str) -> str:
    return dataset.replace(":", "-").replace("/", "-")


def _check_suffix(path: Path, *suffixes: str) -> None:
    if path.suffix not in suffixes:
        raise JaxtlError(f"--out {path}: must end in {' or '.join(suffixes)}")


def _parse_setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise JaxtlError(f"--set {text}: must be NAME=VALUE")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value
