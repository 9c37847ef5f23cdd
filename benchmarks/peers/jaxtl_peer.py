"""jaxtl, on whatever device JAX has: every case with its default settings and the backends it takes itself.

The environment may say otherwise: BENCHMARK_PRECISION, BENCHMARK_FORM, of the convolutions, and
BENCHMARK_ENGINE name one of jaxtl's; with BENCHMARK_XLA "default", programs are compiled with XLA's own
options, with "untuned" with jaxtl's where it would take XLA's own, with "loops without graphs" with loops
launched step by step.

Where another peer leaves something out that jaxtl cannot leave out, its time is in jaxtl's: every metric
comes with a 95 % interval, t-SNE with an exact divergence, LLE with its residual and connected components.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.peers import data, metrics, network, quality, work
from benchmarks.peers.data import open_data as open_data
from benchmarks.peers.network import IMAGES
from benchmarks.peers.timing import Result, jax_clock, measured
from jaxtl import metrics as ours
from jaxtl.machine import programs
from jaxtl.machine.devices import leave_device_memory
from jaxtl.machine.host import cpu_count
from jaxtl.models.network import Network
from jaxtl.models.weights import load_model
from jaxtl.neighbors import exact_neighbors
from jaxtl.network.engine import chosen_engine
from jaxtl.network.extraction import extract as extract_features
from jaxtl.network.finetuning import finetune as finetune_model
from jaxtl.network.head import evaluate, with_head
from jaxtl.network.layers import run_layers
from jaxtl.network.training import Trainer
from jaxtl.network.trunk import Source, Trunk, trainable_boundary
from jaxtl.records.arrays import Embedding, Features
from jaxtl.reduction import reduce
from jaxtl.reduction.choice import choose
from jaxtl.settings import FinetuneConfig

_TEST_SPLIT = 10_000
# Test images that judge a tail.
_JUDGES = 1000

_PRECISION = os.environ.get("BENCHMARK_PRECISION", "highest")
_FORM = os.environ.get("BENCHMARK_FORM")
# Only JAX has forms; "auto" is what a user gets who says nothing.
_ENGINE = os.environ.get("BENCHMARK_ENGINE", "jax" if _FORM else "auto")
_EXACT = _PRECISION == "highest"

_CLOCK = jax_clock()
leave_device_memory()
_options = ExitStack()  # of the process, as long as it lives
if _xla := os.environ.get("BENCHMARK_XLA"):
    _chosen: dict[str, programs.Options] = {
        "default": {},
        "untuned": programs.options(),
        "loops without graphs": programs.options(loops_in_graphs=False),
    }
    _options.enter_context(programs.chosen(_chosen[_xla]))


def settings() -> dict[str, Any]:
    device = f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind}"
    how = {"precision": _PRECISION, "form": _FORM or "fastest", "engine": chosen_engine(_ENGINE, _PRECISION)}
    return {"device": device, "threads": cpu_count(), **how}


def write_data(folder: str, n: int) -> None:
    """The files that `open_data` takes: features of the first n of all test, then training images."""
    splits = {"test": min(n, _TEST_SPLIT), "train": n - _TEST_SPLIT}
    parts = [data.images(split, count) for split, count in splits.items() if count > 0]
    values = [extract_features(_model(), part, IMAGES, engine="jax").values for part in parts]
    np.save(Path(folder) / "features.npy", np.concatenate(values))
    np.save(Path(folder) / "labels.npy", np.concatenate([part.labels for part in parts]))


def forward(batch_size: int, n: int) -> Result:
    """From uint8, one batch size; features as NumPy has them."""
    result = network.forward(_features, batch_size, n, _EXACT, _CLOCK)
    return result | {"work": _forward_work(n, 0, _model().config.pooled)}


def extract(n: int) -> Result:
    """`jaxtl.extract` as its users call it: in batches that it chooses, with the record of what made them."""
    dataset = data.images("test", n)
    return measured(
        lambda: extract_features(_model(), dataset, IMAGES, precision=_PRECISION, engine=_ENGINE).values,
        lambda values: quality.of_features(values, _EXACT),
        _forward_work(n, 0, _model().config.pooled),
        _CLOCK,
    )


def trunk(n: int) -> Result:
    """Outputs of the frozen layers for n training images; on a GPU they stay there, where training is."""
    images, frozen = data.images("train", n).images, _trunk()
    return measured(
        lambda: jax.block_until_ready(frozen.source(images, keep=True)),
        lambda source: quality.of_trunk(np.asarray(source.x), _EXACT),
        _forward_work(n, 0, frozen.boundary),
        _CLOCK,
    )


def tail(n: int, epochs: int, batch_size: int) -> Result:
    """Training of the last 10 layers and the head on the trunk's outputs for n images, and no tests.

    The quality is the last epoch's loss, and the accuracy on the first 1,000 test images. What is compiled is
    kept from call to call.
    """
    trainer, source = _trainer(n, batch_size)

    def work() -> Any:
        state = trainer.initial()
        for epoch in range(epochs):
            state, loss, _ = trainer.run_epoch(state, *source, epoch, lambda fraction: None)
        return jax.block_until_ready(state), loss

    def judge(trained: Any) -> dict[str, float]:
        model, labels = trainer.model(trained[0]), data.images("test", _JUDGES).labels
        accuracy = evaluate(_trunk(), model, _source("test", _JUDGES), labels)[1]
        return {"test_accuracy": accuracy, "loss": trained[1]}

    count = n * epochs
    amount = {"flops": count * _training_flops(), "bytes": count * _trunk().bytes_per_image()}
    return measured(work, judge, amount, _CLOCK)


def finetune(train: int, test: int, epochs: int, seed: int) -> Result:
    """`jaxtl.finetune` from uint8: trunk, training, and the test images after every epoch.

    Everything is compiled anew, as in a user's process.
    """
    jax.clear_caches()
    model, config = _model(), FinetuneConfig(epochs=epochs, seed=seed)
    images = data.images("train", train), data.images("test", test)
    once = (train + test) * work.forward_flops(model.config, IMAGES.image_size, 0, _trunk().boundary)
    tests = epochs * test * work.forward_flops(model.config, IMAGES.image_size, _trunk().boundary)
    pixels = sum(part.images.nbytes for part in images)
    return measured(
        lambda: finetune_model(model, *images, config, IMAGES, precision=_PRECISION, engine=_ENGINE)[1],
        lambda history: {"test_accuracy": history[-1]["test_accuracy"], "loss": history[-1]["loss"]},
        {"flops": once + tests + epochs * train * _training_flops(), "bytes": pixels},
        _CLOCK,
    )


def pca(n: int) -> Result:
    """Exact, in float64."""
    return measured(
        _reduction(n, "pca"),
        lambda made: quality.of_pca(made.coords, made.diagnostics["explained_variance_ratio"]),
        work.principal(*data.features(n).shape),
    )


def tsne(n: int) -> Result:
    """Exact neighbours, 250 iterations at exaggeration 12 and 500 without."""
    descend = _reduction(n, "tsne", perplexity=quality.PERPLEXITY)
    return measured(descend, lambda embedding: quality.of_tsne(embedding.coords))


def lle(n: int, method: str = "standard") -> Result:
    """12 neighbours; `method` is "standard" or "modified"."""
    return measured(
        _reduction(n, "lle", n_neighbors=quality.LLE_NEIGHBORS, variant=method),
        lambda made: quality.of_lle(made.coords, made.diagnostics["reconstruction_error"]),
        compiled=_CLOCK,
    )


def neighbors(n: int, k: int, space: str = "features") -> Result:
    """Exact, proven in float64."""
    values = data.space(space, n)
    return measured(
        lambda: exact_neighbors(values, k, engine=_engine()),
        lambda neighbors: quality.of_neighbors(neighbors.indices, values),
        work.distances(*values.shape, out=8 * n * k),
        _CLOCK,
    )


def metric(name: str, n: int, space: str = "features") -> Result:
    """As `jaxtl.metrics` offers it: with its neighbours and its 95 % interval."""
    return metrics.measure(_FUNCTIONS, name, n, space, _CLOCK)


def _features(images: np.ndarray, size: int) -> np.ndarray:
    model = _model()
    how = {"precision": _PRECISION, "form": _FORM, "engine": chosen_engine(_ENGINE, _PRECISION)}
    enter = IMAGES.settled(model.config.preprocessing)
    return run_layers(model, 0, model.config.pooled, images, enter, size, **how).x


def _forward_work(n: int, start: int, stop: int) -> dict[str, int]:
    pixels, out = data.images("test", 1).images.nbytes, 4 * _model().config.features
    count = work.forward_flops(_model().config, IMAGES.image_size, start, stop)
    return {"flops": n * count, "bytes": n * (pixels + out)}


def _training_flops() -> int:
    return work.training_flops(_model().config, IMAGES.image_size, _trunk().boundary)


@cache
def _model() -> Network:
    return load_model()


@cache
def _trunk() -> Trunk:
    model = _model()
    boundary = trainable_boundary(model.config, FinetuneConfig().trainable)
    return Trunk(model, boundary, IMAGES, _PRECISION, _FORM, engine=_ENGINE)


def _source(split: str, n: int) -> Source:
    return _trunk().source(data.images(split, n).images, keep=True)


@lru_cache(maxsize=1)
def _trainer(n: int, batch_size: int) -> tuple[Trainer, tuple[Source, jax.Array]]:
    """Kept from call to call, and with it what is compiled."""
    config, images = FinetuneConfig(batch_size=batch_size), data.images("train", n)
    head = with_head(_model(), len(images.class_names), config.seed)
    return Trainer(_trunk(), head, config), jax.device_put((_source("train", n), images.labels))


def _engine() -> str:
    """Of jaxtl's own methods: JAX's GPU where there is one, as for LLE."""
    return "jax" if choose("lle").on_gpu else "cpu"


def _reduction(n: int, method: str, **given: object) -> Callable[[], Embedding]:
    features = Features(data.features(n), data.labels(n), np.arange(n, dtype=np.int32))
    return lambda: reduce(features, method, seed=0, **given)


def _leave_one_out_knn(values: np.ndarray, labels: np.ndarray) -> float:
    """10 neighbours, searched anew. Of equally many votes the nearest neighbour decides."""
    return ours.leave_one_out_knn(exact_neighbors(values, 10, engine=_engine()), labels).accuracy.value


def _kmeans_agreement(values: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """As many clusters as classes, 4 starts, one thread: the clusters must not depend on the machine."""
    agreement = ours.kmeans_agreement(values, labels, n_init=4, seed=0)
    return agreement.nmi.value, agreement.ari.value


def _trustworthiness(values: np.ndarray, coords: np.ndarray) -> float:
    """For 10 neighbours, from 2,000 anchors; with continuity, Shepard's and Q_NX."""
    return ours.faithfulness(values, coords, 10, engine=_engine()).trustworthiness.value


_FUNCTIONS = {
    "knn_accuracy": lambda values, labels: ours.knn_accuracy(values, labels)[0],
    "leave_one_out_knn": _leave_one_out_knn,
    "silhouette": lambda values, labels: ours.silhouette(values, labels, engine=_engine()).mean.value,
    "davies_bouldin": lambda values, labels: ours.davies_bouldin(values, labels).value,
    "calinski_harabasz": lambda values, labels: ours.calinski_harabasz(values, labels).value,
    "kmeans_agreement": _kmeans_agreement,
    "trustworthiness": _trustworthiness,
    # Ten penalties by exact leave-one-out.
    "ridge_probe": lambda *arrays: ours.ridge_probe(*arrays).accuracy.value,
    # C of four by a held-out fifth of at most 4,000 rows.
    "logistic_probe": lambda *arrays: ours.logistic_probe(*arrays).accuracy.value,
}
