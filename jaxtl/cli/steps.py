"""The verbs of single steps: features, an embedding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxtl.cli import headings, options, processes, screen
from jaxtl.cli.values import Count
from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import configure, devices_used
from jaxtl.machine.together import together
from jaxtl.methods import LIBRARIES, METHODS, library_label, method_label
from jaxtl.progress import counted
from jaxtl.ranges import shown
from jaxtl.settings import Images, told_preprocessing

if TYPE_CHECKING:
    from jaxtl.machine.together import Rank
    from jaxtl.models.network import Network
    from jaxtl.progress import Observer
    from jaxtl.records.dataset import Dataset


@click.command(cls=headings.Command, short_help="Images to features, with a network.")
@options.dataset
@options.selection
@options.setting(
    "--split", "test", "Whether training or test images are taken.", type=click.Choice(["train", "test"])
)
@options.setting(
    "--samples", "all", "How many images to take: the first N, or all.", type=Count(), metavar="N|all"
)
@options.images
@options.weights
@options.limit(
    "--batch-size",
    "N",
    "Images that pass through the network at a time.  [default: what is fastest here]",
)
@options.computing
@click.option(
    "--out",
    type=options.PATH,
    required=True,
    metavar="F.npz|F.npy|F.shards",
    help="The file to write: F.npz, or F.npy for more features than memory holds (labels go to F.rows.npz), "
    "or F.shards, a folder that several processes write together.",
)
@processes.together
@screen.as_json
@screen.quiet
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
    devices: int | None,
    compilation_cache: Path,
    out: Path,
    in_json: bool,
    **how: Any,
) -> None:
    """Write a network's features of images: the output of its last layer, averaged over each image.

    The file holds values float32 [n, d], labels int32 [n] and index int32 [n], each image's place in the set.
    """
    from jaxtl.records import shards, store

    options.check_suffix(out, ".npz", store.SUFFIX, shards.SUFFIX)
    place = processes.placed(how)
    if not place.is_alone and out.suffix != shards.SUFFIX:
        raise JaxtlError(f"--out {out}: several processes write a folder that ends in {shards.SUFFIX}")
    from jaxtl.data import load
    from jaxtl.models.weights import load_model
    from jaxtl.network import footprint
    from jaxtl.network.engine import chosen_engine

    images = Images(image_size, preprocessing, antialias, orientation, alpha, fit)
    asked = {"image_size": image_size, "samples": samples, **images.pixels, **options.selected(how)}
    observer = screen.observer()
    kept = {"compilation_cache": compilation_cache, "notify": observer.notify}
    with together(place) as rank:
        # A folder that was begun is gone on with.
        written = [] if out.suffix == shards.SUFFIX and out.is_dir() else [("--out", out)]
        written += [("the labels of --out", store.rows_path(out))] if out.suffix == store.SUFFIX else []
        options.check_outputs(written, **options.read_from(dataset, weights))
        configure(deterministic=deterministic, devices=devices, **kept)
        devices_used()
        how["engine"] = chosen_engine(how["engine"], how["precision"])
        network = load_model(weights, model)
        images = settled(images, network, observer)
        data = load(dataset, split, **asked)
        for note in data.notes:
            observer.notify(note)
        streamed = out.suffix != ".npz"
        footprint.check_features(network.config, images, len(data), how["batch_size"], streamed)
        with observer.step(f"Features of {counted(len(data), 'image')}") as progress:
            how |= {"progress": progress, "notify": observer.notify}
            _write_features(out, network, data, images, rank, how)
    if not rank.is_first:
        return
    if in_json:
        screen.print_json({"out": out, "images": len(data), "features": network.config.features})
        return
    click.echo(f"{out}: {len(data)} x {network.config.features} features")


def _write_features(
    out: Path, network: Network, data: Dataset, images: Images, rank: Rank, how: dict[str, Any]
) -> None:
    """By its suffix: in one file, or piece by piece in one, or in those of many that are this process's."""
    from jaxtl.network import extraction
    from jaxtl.records import shards, store
    from jaxtl.runs.dataset import soon_told

    if out.suffix == shards.SUFFIX:
        extraction.extract_to_shards(out, network, data, images, told=soon_told(data), rank=rank, **how)
    elif out.suffix == store.SUFFIX:
        extraction.extract_to_store(out, network, data, images, **how)
    else:
        extraction.extract(network, data, images, **how).save(out)


def settled(images: Images, network: Network, observer: Observer) -> Images:
    """With a preprocessing; says so where the weights decide it."""
    wanted = network.config.preprocessing
    if wanted and not images.preprocessing:
        observer.notify(told_preprocessing(wanted))
    return images.settled(wanted)


@click.command(cls=headings.Command, short_help="Features to two dimensions, by PCA, t-SNE or LLE.")
@click.argument("features", type=options.PATH, metavar="F.npz|F.npy|F.shards")
@click.option("--method", type=click.Choice(list(METHODS)), required=True, help="How they are reduced.")
@options.setting(
    "--backend",
    "auto",
    f"The library that does it: {', '.join(LIBRARIES)}, as far as it has the method. auto: cuML where there "
    "is a GPU for it; else intelex for t-SNE, where that extra is installed.",
    metavar="NAME",
)
@options.seed
@click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the method, such as perplexity=50; may be given several times. landmarks=5000 "
    "embeds 5000 images and places the others among them.",
)
@click.option(
    "--onto",
    type=options.FILE,
    metavar="B.npz",
    help="An embedding of the same images, such as before, to turn this one onto and to start t-SNE from.",
)
@click.option(
    "--neighbors",
    type=options.FILE,
    metavar="N.npz",
    help="Neighbours of these features, of jaxtl neighbors, that t-SNE or LLE on a CPU need not search for.",
)
@click.option("--out", type=options.FILE, required=True, metavar="E.npz", help="The embedding to write.")
@screen.as_json
@screen.quiet
def reduce(
    features: Path,
    method: str,
    backend: str,
    seed: int,
    parameters: tuple[str, ...],
    onto: Path | None,
    neighbors: Path | None,
    out: Path,
    in_json: bool,
) -> None:
    """Reduce features (of jaxtl extract, or your own) to two dimensions, and write the embedding.

    The file holds coords float32 [n, 2], and every parameter used. To look at it: jaxtl plot E.npz.
    """
    from jaxtl.records import store
    from jaxtl.records.arrays import Embedding, Neighbors
    from jaxtl.records.paths import check_size
    from jaxtl.reduction import defaults
    from jaxtl.reduction import reduce as reduce_features

    options.check_suffix(out, ".npz")
    chosen = dict(map(options.parse_parameter, parameters))
    known = [*defaults(method, backend), "landmarks"]
    for name in chosen:
        if name not in known:
            raise JaxtlError(
                f"--set {shown(name)[1:-1]}: {method} has no such parameter; it has {', '.join(known)}"
            )
    read = [("--onto", onto), ("--neighbors", neighbors)]
    given = [(name, path) for name, path in read if path]
    options.check_outputs([("--out", out)], [*store.named(features), *given])
    check_size(features)
    loaded = store.features_in(features, screen.observer().notify)
    target = None if onto is None else Embedding.load(onto)
    known = None if neighbors is None else Neighbors.load(neighbors)
    if known and len(known.indices) != len(loaded.values):
        raise JaxtlError(
            f"--neighbors {neighbors}: is of {counted(len(known.indices), 'image')}, {features} has "
            f"{len(loaded.values):,}; give those of jaxtl neighbors {features}"
        )
    title = f"{method_label(method)} of {counted(len(loaded.values), 'image')}"
    with screen.observer().step(title) as progress:
        given = {"onto": target, "known_neighbors": known, "progress": progress, "seed": seed, **chosen}
        embedding = reduce_features(loaded, method, backend, **given)
    embedding.save(out)
    if in_json:
        made = {name: getattr(embedding, name) for name in ("method", "backend", "params", "diagnostics")}
        screen.print_json({"out": out, **made})
        return
    told = [f"{method_label(method)} by {library_label(embedding.backend)}", *_spoken(embedding.diagnostics)]
    click.echo(f"{out}: {'; '.join(told)}")


def _spoken(diagnostics: Mapping[str, Any]) -> Iterator[str]:
    """What a library says of its embedding, in the catalogue's words; of what is in no catalogue, its own."""
    from jaxtl.evaluation.catalogue import DIAGNOSTICS, EXPLAINED_VARIANCE
    from jaxtl.reduction.cuml import RETRIED

    for name, value in diagnostics.items():
        if name in DIAGNOSTICS:
            yield f"{DIAGNOSTICS[name].label} {value:.4g}"
        elif name == "explained_variance_ratio":
            yield f"{EXPLAINED_VARIANCE.label} {sum(value):.3f} ({', '.join(f'{one:.3f}' for one in value)})"
        elif name == "of_landmarks":
            yield from (f"{said}, of the landmarks" for said in _spoken(value))
        elif name == "retried_after_nan":
            yield from [RETRIED] * bool(value)
        elif name == "placed":
            yield f"{counted(value, 'image')} placed among the landmarks"
        elif isinstance(value, str):
            yield value
