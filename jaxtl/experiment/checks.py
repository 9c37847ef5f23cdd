"""What is refused, and what is expected, before any work of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from jaxtl.costs import table as costs
from jaxtl.costs.words import spoken
from jaxtl.errors import JaxtlError
from jaxtl.experiment.embeddings import Embedder
from jaxtl.experiment.shared import Shared
from jaxtl.machine import cuda
from jaxtl.methods import METHODS
from jaxtl.metrics import check_knn
from jaxtl.models.weights import imagenet_path
from jaxtl.network.trunk import trainable_boundary
from jaxtl.reduction import check_settings as check_method
from jaxtl.runs.folder import RunFolder
from jaxtl.runs.formats import Started
from jaxtl.settings import RunConfig

# The first thing that a setting bears on, for the message when a resumed run is given another value.
_BEARS_ON = {
    "train_samples": "finetune",
    "trainable": "finetune",
    "epochs": "finetune",
    "batch_size": "finetune",
    "learning_rate": "finetune",
    "methods": "the maps",
    **{setting: f"the {method.label} maps" for method in METHODS.values() for setting in method.settings},
    "precision": "the features",
    "layers": "the depth profile",
    "seed": "finetune, the maps",
}


def check_settings(config: RunConfig, shared: Shared, embedder: Embedder) -> None:
    """Raises JaxtlError where settings cannot work on the data or on this machine."""
    trainable_boundary(shared.model.config, config.trainable)
    if len(np.unique(shared.train.labels)) < 2:
        raise JaxtlError(
            f"dataset {config.dataset} (train): all {len(shared.train):,} images are of one class, and "
            "there is nothing to learn; take more --train-samples, or data with two classes"
        )
    n = len(shared.sample)
    check_knn(shared.sample.labels[:, None], shared.sample.labels)
    for method in config.methods:
        check_method(method, n, config, embedder.choices[method].name)


def check_given(run: RunFolder, config: RunConfig, given: Mapping[str, Any]) -> None:
    """Raises JaxtlError where a setting that is insisted on differs from the run's."""
    known = asdict(config)
    for name, value in given.items():
        if known[name] != value:
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


def expectation(
    config: RunConfig, shared: Shared, embedder: Embedder, learns: bool, embeddings: Mapping[str, int]
) -> str:
    """What the main steps that are left will take, one line; nothing where nothing is left or known.

    Args:
        learns: whether fine-tuning is left.
        embeddings: how many of each method are left.
    """
    known = costs.reference()
    network: list[tuple[str, float | None]] = []
    # The costs are a CPU's.
    if learns and cuda.jax_gpu_fault():
        train, test = len(shared.train), len(shared.test)
        taken = costs.network_seconds(
            known, train + test, config.epochs * train, config.image_size, config.trainable
        )
        network = list(zip(("features", "fine-tuning"), taken, strict=True))
    forecast = spoken([*network, *embedder.expected(embeddings, known)])
    return forecast and f"Expect about: {forecast} (as on {known.machine})"
