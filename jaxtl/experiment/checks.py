"""What is refused, and what is expected, before any work of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np

from jaxtl.costs import table as costs
from jaxtl.data import absolute
from jaxtl.data.pairs import LEAST_ROWS, Pair
from jaxtl.errors import JaxtlError
from jaxtl.evaluation import footprint as numbers
from jaxtl.experiment.embeddings import Embedder
from jaxtl.experiment.shared import TRAINING_FEATURES, Shared
from jaxtl.machine import cuda
from jaxtl.machine.devices import devices_used
from jaxtl.methods import METHODS
from jaxtl.models.families import FAMILIES
from jaxtl.models.weights import BUNDLED, imagenet_path, wanted_preprocessing
from jaxtl.network import footprint
from jaxtl.network.engine import chosen_engine
from jaxtl.network.trunk import trainable_boundary
from jaxtl.progress import Observer, counted
from jaxtl.records.paths import absolute_path
from jaxtl.reduction import check_settings as check_method
from jaxtl.reduction import footprint as embedding
from jaxtl.reduction.choice import Choice
from jaxtl.reduction.tsne import largest_perplexity
from jaxtl.runs.folder import RunFolder
from jaxtl.runs.formats import Started
from jaxtl.settings import ComparisonConfig, RunConfig, told_preprocessing

# The first thing that a setting bears on, for the message when a resumed run is given another value.
_BEARS_ON = {
    "train_samples": "finetune",
    "trainable": "finetune",
    "epochs": "finetune",
    "batch_size": "finetune",
    "learning_rate": "finetune",
    "batch_norm": "finetune",
    "methods": "the maps",
    **{setting: f"the {method.label} maps" for method in METHODS.values() for setting in method.settings},
    "align": "the maps after",
    "precision": "the features",
    "engine": "the features",
    "layers": "the depth profile",
    "seed": "finetune, the maps",
}


def fitted(config: RunConfig, n: int) -> RunConfig:
    """The settings with a perplexity that n images allow, where that is less than what is asked for."""
    most = largest_perplexity(n)
    # What is no number, or infinite, is refused later.
    if "tsne" not in config.methods or not most < config.perplexity < np.inf or most < 1:
        return config
    return replace(config, perplexity=most)


def notes(config: RunConfig, shared: Shared) -> list[str]:
    """What is worth knowing of the images before they are worked on, in lines."""
    told = list(dict.fromkeys((*shared.train.notes, *shared.test.notes)))
    for what, wanted, there in (
        ("training image", config.train_samples, len(shared.train)),
        ("test image", config.samples, len(shared.test)),
    ):
        if wanted is not None and there < wanted:
            told.append(f"{counted(there, what)}, all that there are, instead of {wanted:,}")
    fitting = fitted(config, len(shared.sample))
    if fitting != config:
        images = f"{len(shared.sample):,} images"
        told.append(
            f"perplexity {fitting.perplexity:g} instead of {config.perplexity:g}: {images} allow no more"
        )
    return told + footprint.disk_notes(shared.trunk, (len(shared.train), len(shared.test)))


def check_settings(config: RunConfig, shared: Shared, embedder: Embedder) -> None:
    """Raises JaxtlError where settings cannot work on the data or on this machine."""
    devices_used()
    trainable_boundary(shared.model.config, config.trainable)
    if len(np.unique(shared.train.labels)) < 2:
        raise JaxtlError(
            f"dataset {config.dataset} (train): all {len(shared.train):,} images are of one class, and "
            "there is nothing to learn; take more --train-samples, or data with two classes"
        )
    n, classes = len(shared.sample), len(np.unique(shared.sample.labels))
    what = f"dataset {config.dataset} (test)"
    if n < LEAST_ROWS:
        raise JaxtlError(
            f"{what}: {counted(n, 'image')}, and a run looks at no fewer than {LEAST_ROWS}; give more "
            "--samples, a larger --test-share, or more images"
        )
    if classes in (1, n):
        same = "are of one class" if classes == 1 else "are classes of their own"
        raise JaxtlError(f"{what}: all {n:,} images {same}; take more --samples, or a larger --test-share")
    for method in config.methods:
        check_method(method, n, config, embedder.choices[method].name)


def settled(config: RunConfig, observer: Observer) -> RunConfig:
    """The settings with the preprocessing that the weights want, where the user asks for none; says so.

    Paths are absolute in it, so that the run goes on from any working directory, and the engine is the one
    that "auto" takes here.
    """
    engine = chosen_engine(config.engine, config.precision)
    if engine != config.engine and engine != "jax":
        observer.notify(f"Frozen layers by {engine}, which is installed; --engine jax takes JAX")
    paths = {"dataset": absolute(config.dataset), "weights": absolute_path(config.weights)}
    config = replace(config, engine=engine, **paths)
    if config.preprocessing:
        return config
    wanted = wanted_preprocessing(config.weights)
    if wanted:
        observer.notify(told_preprocessing(wanted))
    return replace(config, preprocessing=config.images.settled(wanted).preprocessing)


# Settings that are paths, which one may write in several ways.
_SPELLED: dict[str, Callable[[Any], Any]] = {"dataset": absolute, "weights": absolute_path}


def check_network_memory(config: RunConfig, shared: Shared) -> None:
    """Raises JaxtlError where a run's network, or its scores, would not fit into a CPU's memory."""
    counts = len(shared.train), len(shared.test)
    footprint.check_training(shared.trunk, len(shared.train.class_names), counts, config.finetuning)
    d, classes = shared.model.config.features, len(shared.train.class_names)
    training = min(TRAINING_FEATURES, len(shared.train))
    numbers.check(len(shared.sample), (d, d), training, classes, "give so many with --samples")


def check_given(run: RunFolder, config: RunConfig, given: Mapping[str, Any]) -> None:
    """Raises JaxtlError where a setting that is insisted on differs from the run's."""
    known = asdict(config)
    for name, value in given.items():
        if (name, value) == ("engine", "auto"):
            continue  # what it took is recorded
        spell = _SPELLED.get(name, lambda value: value)
        if spell(known[name]) != spell(value):
            raise JaxtlError(
                f"{run}: was made with {name} {known[name]}, not {value}; that bears on "
                f"{_BEARS_ON.get(name, 'the features')} and all that follows: leave it out to go on, "
                "or give a new folder with --out"
            )


def check_weights(run: RunFolder, started: Started, shared: Shared) -> None:
    """Raises JaxtlError where the weights to start from are no longer those that the run began with."""
    if shared.weights_digest != started.weights_digest:
        raise JaxtlError(
            f"{started.config.weights or imagenet_path()}: not the weights that {run} was started with; "
            "restore that file"
        )


def _work(shared: Shared) -> float:
    """Multiply-adds of the network for an image, divided by those of the one that costs are known of."""
    size, measured = shared.config.image_size, FAMILIES[BUNDLED].config()
    return sum(shared.model.config.multiply_adds(size)) / sum(measured.multiply_adds(size))


def expected(
    config: RunConfig, shared: Shared, embedder: Embedder, embeddings: Mapping[str, int], learns: bool
) -> tuple[dict[str, float | None], list[tuple[str, float | None]], str]:
    """Seconds of the network, and of the embeddings that are left, as far as they are known, and where.

    Args:
        embeddings: how many of each method are left.
        learns: whether fine-tuning is left.
    """
    known = costs.reference()
    network: dict[str, float | None] = {}
    # The costs are a CPU's.
    if learns and cuda.jax_gpu_fault():
        train, test = len(shared.train), len(shared.test)
        taken = costs.network_seconds(
            known, train + test, config.epochs * train, config.image_size, config.trainable, _work(shared)
        )
        network = dict(zip(("features", "fine-tuning"), taken, strict=True))
    return network, embedder.expected(embeddings, known), known.machine


def check_comparison_memory(
    config: ComparisonConfig, pair: Pair, training: Pair | None, choices: Mapping[str, Choice]
) -> None:
    """Raises JaxtlError where the maps or the scores of these features would not fit into a CPU's memory."""
    shapes = [features.values.shape for features in pair[:2]]
    for method, shape in product(config.methods, shapes):
        if not choices[method].on_gpu:
            embedding.check(method, choices[method].name, shape, config.reduction(method))
    known = len(training.before.values) if training else 0
    dimensions = shapes[0][1], shapes[1][1]
    numbers.check(config.points, dimensions, known, config.classes, "give so many in both files")
