"""The verb of fine-tuning, by one process or by several, which goes on where it was stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxtl.cli import headings, options, processes, screen
from jaxtl.cli.errors import resumable
from jaxtl.cli.steps import settled
from jaxtl.machine.devices import configure, devices_used
from jaxtl.machine.signals import at_signal
from jaxtl.machine.together import together
from jaxtl.progress import counted
from jaxtl.settings import FinetuneConfig, Images

if TYPE_CHECKING:
    from jaxtl.machine.together import Rank
    from jaxtl.models.network import Network
    from jaxtl.network.checkpoint import Unfinished
    from jaxtl.network.trunk import Trunk
    from jaxtl.progress import Observer
    from jaxtl.records.dataset import Dataset


@click.command(cls=headings.Command, short_help="Train a network's last layers on a data set.")
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
    help="A table to write: loss and accuracy of every epoch.",
)
@click.option(
    "--out", type=options.FILE, required=True, metavar="M.safetensors", help="The weights to write."
)
@processes.together
@screen.as_json
@screen.quiet
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
    engine: str,
    deterministic: bool,
    devices: int | None,
    compilation_cache: Path,
    history: Path | None,
    out: Path,
    in_json: bool,
    **training: Any,
) -> None:
    """Train a softmax head and the last layers of a network on a data set, and write the weights.

    Prints loss and accuracy of every epoch. The test images teach nothing; they are only for that. A training
    that was stopped goes on after its last whole epoch, by the same command: M.checkpoint.npz has what it
    needs until M.safetensors is there. Several processes divide every batch.
    """
    from jaxtl.models.weights import load_model
    from jaxtl.network.checkpoint import Unfinished, path_beside
    from jaxtl.network.engine import chosen_engine
    from jaxtl.network.trunk import Trunk, trainable_boundary

    options.check_suffix(out, ".safetensors")
    place = processes.placed(training)
    selection, config = options.selected(training), FinetuneConfig(**training)
    images = Images(image_size, preprocessing, antialias, orientation, alpha, fit)
    observer = screen.observer()
    kept = {"compilation_cache": compilation_cache, "notify": observer.notify}
    with together(place) as rank:
        written = {"--out": out, "--history": history, "the checkpoint of --out": path_beside(out)}
        there = [(name, path) for name, path in written.items() if path]
        options.check_outputs(there, **options.read_from(dataset, weights))
        with _alone(out, rank):
            configure(deterministic=deterministic, devices=devices, **kept)
            devices_used()
            engine = chosen_engine(engine, precision)
            network = load_model(weights, model)
            boundary = trainable_boundary(network.config, config.trainable)
            how = {"scratch": out.absolute().parent, "engine": engine}
            trunk = Trunk(network, boundary, settled(images, network, observer), precision, **how)
            data = _loaded(dataset, trunk, train_samples, selection, config, observer)
            told = _contents(*data) if rank.is_first else dict
            unfinished = Unfinished(path_beside(out), _decisive(trunk, *data, config), told)
            with resumable("the same command goes on after the last whole epoch"):
                tuned, rows = _tune(trunk, *data, config, rank, unfinished, observer)
                if rank.is_first:
                    _save(tuned, rows, out, history, dataset)
                    unfinished.remove()
    if in_json and rank.is_first:
        screen.print_json({"out": out, "history": rows})
    elif rank.is_first:
        _print_history(rows)


@contextlib.contextmanager
def _alone(out: Path, rank: Rank) -> Iterator[None]:
    """Inside, nobody else trains for this file; of processes together the first one writes.

    Raises JaxtlError where somebody does.
    """
    from jaxtl.runs.lock import Hold

    if not rank.is_first:
        yield
        return
    with Hold(out, "file") as hold, at_signal(hold.let_go):
        yield


def _loaded(
    dataset: str,
    trunk: Trunk,
    train_samples: int | None,
    selection: dict[str, Any],
    config: FinetuneConfig,
    observer: Observer,
) -> tuple[Dataset, Dataset]:
    """Images to train on and to test with, for which there is memory."""
    from jaxtl.data import load
    from jaxtl.network import footprint

    asked = {"image_size": trunk.images.image_size, **trunk.images.pixels, **selection}
    train = load(dataset, "train", samples=train_samples, **asked)
    test = load(dataset, "test", **asked)
    counts, fewer = (len(train), len(test)), "give fewer --train-samples, or a smaller --image-size"
    for note in (*dict.fromkeys((*train.notes, *test.notes)), *footprint.disk_notes(trunk, counts)):
        observer.notify(note)
    footprint.check_training(trunk, len(train.class_names), counts, config, fewer)
    return train, test


def _decisive(trunk: Trunk, train: Dataset, test: Dataset, config: FinetuneConfig) -> dict[str, Any]:
    """All that the result of a training depends on but the images, by name, as JSON has it."""
    from jaxtl.models.weights import arrays_of, tensor_digest

    return {
        **asdict(config),
        **asdict(trunk.images),
        "precision": trunk.precision,
        "engine": trunk.engine,
        "train_samples": len(train),
        "test_samples": len(test),
        "weights": tensor_digest(arrays_of(trunk.model)),
    }


def _contents(*splits: Dataset) -> Callable[[], dict[str, str]]:
    """A function that gives, by split, what tells all its images from any others.

    They are read by another thread, from now on: of large sets that takes a while, and nobody needs it
    before the end of the first epoch.
    """
    from concurrent.futures import ThreadPoolExecutor

    from jaxtl.runs.dataset import contents

    reading = ThreadPoolExecutor(1).submit(lambda: {data.split: contents(data) for data in splits})
    return reading.result


def _tune(
    trunk: Trunk,
    train: Dataset,
    test: Dataset,
    config: FinetuneConfig,
    rank: Rank,
    unfinished: Unfinished,
    observer: Observer,
) -> tuple[Network, list[dict[str, float]]]:
    """Train from the beginning or from where it was stopped; the first process keeps how far it is."""
    from jaxtl.machine.exchange import check_alike
    from jaxtl.network.finetuning import tune
    from jaxtl.runs.dataset import digest

    start = unfinished.checkpoint()
    if rank.count > 1:
        begun = {"devices": devices_used(), "epochs done": len(start.history) if start else 0}
        begun |= {"training images": digest(train), "test images": digest(test)}
        check_alike({**unfinished.settings, **begun, "checkpoint": start and start.digest()})
    if start:
        observer.notify(f"Goes on after epoch {len(start.history)}, from {unfinished.path}")
    with observer.step(f"Fine-tuning, {counted(config.epochs, 'epoch')}") as progress:
        how = {"progress": progress, "notify": observer.notify, "rank": rank, "start": start}
        return tune(trunk, train, test, config, on_epoch=unfinished.keep if rank.is_first else None, **how)


def _save(
    tuned: Network, rows: list[dict[str, float]], out: Path, history: Path | None, dataset: str
) -> None:
    from jaxtl.models.weights import arrays_of, save_weights
    from jaxtl.records.tables import save_history

    save_weights(out, tuned.config, arrays_of(tuned), {"made_by": "jaxtl finetune", "dataset": dataset})
    if history:
        save_history(history, rows)


def _print_history(rows: list[dict[str, float]]) -> None:
    from jaxtl.evaluation.catalogue import ACCURACY, LOSS, TEST_ACCURACY

    for row in rows:
        told = (f"{metric.label} {row[metric]:.4f}" for metric in (LOSS, ACCURACY, TEST_ACCURACY))
        click.echo(f"epoch {row['epoch']}: {', '.join(told)}")
