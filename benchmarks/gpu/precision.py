"""What the reduced precisions do to features and to fine-tuning, against float32 on the same platform.

On a CPU operands are rounded as a GPU's tensor cores take them, so the errors mean something there; the
seconds do not.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from jaxtl.data import load
from jaxtl.machine.devices import PRECISIONS
from jaxtl.metrics import knn_accuracy
from jaxtl.models.weights import load_model
from jaxtl.network.extraction import extract
from jaxtl.network.finetuning import finetune
from jaxtl.settings import FinetuneConfig


def effects(samples: int, train_samples: int, epochs: int, seed: int = 0) -> list[dict[str, Any]]:
    """One row a precision: errors of features, their 10-NN accuracy, and what fine-tuning comes to.

    Args:
        samples: MNIST test images whose features are compared, the first ones.
        train_samples: training images to learn from, the first ones; all test images are reported on.
        epochs: passes over them; 0 leaves training out.
        seed: of the head and the shuffling.

    Returns:
        Rows with precision; max_error, the largest difference from "highest" over the largest feature;
        mean_error, the mean difference over the mean feature; knn_accuracy; extract_seconds with compilation;
        and after training loss and test_accuracy of the last epoch, and finetune_seconds.
    """
    model, digits = load_model(), load("mnist", "test")
    rows: list[dict[str, Any]] = []
    reference = None
    for precision in PRECISIONS:
        began = time.perf_counter()
        values = extract(model, digits.take(samples), precision=precision).values
        seconds = time.perf_counter() - began
        reference = values if reference is None else reference
        row = {"precision": precision, **_errors(values, reference), "extract_seconds": seconds}
        row["knn_accuracy"] = knn_accuracy(values, digits.labels[:samples])[0]
        if epochs:
            row |= _finetuned(model, train_samples, FinetuneConfig(epochs=epochs, seed=seed), precision)
        rows.append(row)
    return rows


def _errors(values: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    difference = np.abs(values.astype(np.float64) - reference)
    return {
        "max_error": float(difference.max() / np.abs(reference).max()),
        "mean_error": float(difference.mean() / np.abs(reference).mean()),
    }


def _finetuned(model, train_samples: int, config: FinetuneConfig, precision: str) -> dict[str, float]:
    train, test = load("mnist", "train").take(train_samples), load("mnist", "test")
    began = time.perf_counter()
    _, history = finetune(model, train, test, config, precision=precision)
    seconds = time.perf_counter() - began
    last = {name: history[-1][name] for name in ("loss", "test_accuracy")}
    return {**last, "finetune_seconds": seconds}
