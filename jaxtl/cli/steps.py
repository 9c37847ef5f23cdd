"""The verbs of single steps: features, fine-tuning, an embedding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxtl.cli import options
from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import configure
from jaxtl.methods import METHODS
from jaxtl.settings import FinetuneConfig, Images, told_preprocessing

if TYPE_CHECKING:
    from jaxtl.models.network import Network
    from jaxtl.progress import Observer


@click.command()
@options.dataset
@options.selection
@options.setting("--split", "test", "Images to take.", type=click.Choice(["train", "test"]))
@options.setting(
    "--samples", "all", "Take the first N images, or all where there are fewer.", type=options.Count()
)
@options.images
@options.weights
@click.option(
    "--batch-size", type=click.IntRange(1), metavar="N", help="Images at a time.  [default: by platform]"
)
@options.computing
@click.option(
    "--out",
    type=options.FILE,
    required=True,
    metavar="F.npz|F.npy",
    help="F.npz, or F.npy for more features than memory holds (labels go to F.rows.npz).",
)
def extract(
    dataset: str,
    split: str,
    samples: int | None,
    image_size: int,
    preprocessing: str | None,
    model: str | None,
    antialias: str,
    orientation: str,
    alpha: str,
    fit: str,
    weights: str | None,
    deterministic: bool,
    compilation_cache: Path,
    out: Path,
    **how: Any,
) -> None:
    """Pooled features of images: an npz with values f32 [n, d], labels, index."""
    from jaxtl.data import load
    from jaxtl.machine.terminal import Terminal
    from jaxtl.models.weights import load_model
    from jaxtl.network.extraction import extract as extract_features
    from jaxtl.network.extraction import extract_to_store
    from jaxtl.records import store
    from jaxtl.records.files import check_writable

    options.check_suffix(out, ".npz", store.SUFFIX)
    observer = Terminal(options.console())
    configure(deterministic=deterministic, compilation_cache=compilation_cache, notify=observer.notify)
    network = load_model(weights, model)
    images = Images(image_size, preprocessing, antialias, orientation, alpha, fit)
    images = _settled(images, network, observer)
    asked = {"image_size": image_size, "samples": samples, **images.pixels, **options.selected(how)}
    data = load(dataset, split, **asked)
    for note in data.notes:
        observer.notify(note)
    check_writable(out)
    with observer.step(f"Features of {len(data):,} images") as progress:
        how |= {"progress": progress, "notify": observer.notify}
        if out.suffix == store.SUFFIX:
            extract_to_store(out, network, data, images, **how)
        else:
            extract_features(network, data, images, **how).save(out)
    click.echo(f"{out}: {len(data)} x {network.config.features} features")


def _settled(images: Images, network: Network, observer: Observer) -> Images:
    """With a preprocessing; says so where the weights decide it."""
    wanted = network.config.preprocessing
    if wanted and not images.preprocessing:
        observer.notify(told_preprocessing(wanted))
    return images.settled(wanted)


@click.command()
@options.dataset
@options.selection
@options.train_samples
@options.images
@options.weights
@options.training
@options.computing
@options.seed
@click.option(
    "--history",
    type=options.FILE,
    metavar="H.csv",
    help="Write loss and accuracy of every epoch here.",
)
@click.option(
    "--out", type=options.FILE, required=True, metavar="M.safetensors", help="Where to write the weights."
)
def finetune(
    dataset: str,
    train_samples: int | None,
    image_size: int,
    preprocessing: str | None,
    model: str | None,
    antialias: str,
    orientation: str,
    alpha: str,
    fit: str,
    weights: str | None,
    precision: str,
    deterministic: bool,
    compilation_cache: Path,
    history: Path | None,
    out: Path,
    **training: Any,
) -> None:
    """Train a softmax head and the last layers; the test images are used only to report the accuracy."""
    from jaxtl.data import load
    from jaxtl.evaluation.catalogue import ACCURACY, LOSS, TEST_ACCURACY
    from jaxtl.machine.terminal import Terminal
    from jaxtl.models.weights import arrays_of, load_model, save_weights
    from jaxtl.network.finetuning import finetune as tune
    from jaxtl.records.files import check_writable
    from jaxtl.records.tables import save_history

    options.check_suffix(out, ".safetensors")
    observer = Terminal(options.console())
    configure(deterministic=deterministic, compilation_cache=compilation_cache, notify=observer.notify)
    selection = options.selected(training)
    config, network = FinetuneConfig(**training), load_model(weights, model)
    images = Images(image_size, preprocessing, antialias, orientation, alpha, fit)
    images = _settled(images, network, observer)
    asked = {"image_size": image_size, **images.pixels, **selection}
    train = load(dataset, "train", samples=train_samples, **asked)
    test = load(dataset, "test", **asked)
    for note in dict.fromkeys((*train.notes, *test.notes)):
        observer.notify(note)
    for path in filter(None, (out, history)):
        check_writable(path)
    with observer.step(f"Fine-tuning, {config.epochs} epochs") as progress:
        how = {"precision": precision, "progress": progress, "notify": observer.notify}
        tuned, rows = tune(network, train, test, config, images, **how)
    save_weights(out, tuned.config, arrays_of(tuned), {"made_by": "jaxtl finetune", "dataset": dataset})
    if history:
        save_history(history, rows)
    for row in rows:
        told = (f"{metric.label} {row[metric]:.4f}" for metric in (LOSS, ACCURACY, TEST_ACCURACY))
        click.echo(f"epoch {row['epoch']}: {', '.join(told)}")


@click.command()
@click.argument("features", type=options.FILE, metavar="F.npz|F.npy")
@click.option("--method", type=click.Choice(list(METHODS)), required=True, help="How to reduce them.")
@options.setting("--backend", "auto", "The library that computes it.", metavar="NAME")
@options.seed
@click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the method, such as perplexity=50; may be repeated. landmarks=5000 embeds 5000 "
    "points and places the others among them.",
)
@click.option(
    "--onto",
    type=options.FILE,
    metavar="B.npz",
    help="An embedding of the same rows, such as before, to turn this one onto and to start t-SNE from.",
)
@click.option(
    "--out", type=options.FILE, required=True, metavar="E.npz", help="Where to write the embedding."
)
def reduce(
    features: Path,
    method: str,
    backend: str,
    seed: int,
    parameters: tuple[str, ...],
    onto: Path | None,
    out: Path,
) -> None:
    """Reduce features to two dimensions: an npz with coords f32 [n, 2] and every parameter used."""
    from jaxtl.machine.terminal import Terminal
    from jaxtl.records import store
    from jaxtl.records.arrays import Embedding, Features
    from jaxtl.records.files import check_writable
    from jaxtl.reduction import defaults
    from jaxtl.reduction import reduce as reduce_features

    options.check_suffix(out, ".npz")
    load = store.load if features.suffix == store.SUFFIX else Features.load
    loaded, chosen = load(features), dict(map(options.parse_parameter, parameters))
    known = [*defaults(method, backend), "landmarks"]
    for name in chosen:
        if name not in known:
            raise JaxtlError(f"--set {name}: {method} has no such parameter; it has {', '.join(known)}")
    check_writable(out)
    target = None if onto is None else Embedding.load(onto)
    with Terminal(options.console()).step(f"{method} of {len(loaded.values):,} points") as progress:
        given = {"onto": target, "progress": progress, "seed": seed, **chosen}
        embedding = reduce_features(loaded, method, backend, **given)
    embedding.save(out)
    click.echo(f"{out}: {method} by {embedding.backend}, {embedding.diagnostics}")
