"""How the network is handed to its peers, and how all are asked for a pass through it.

Images go in as they come, uint8 [n, 28, 28, 1]: each peer resizes them in its own graph, within the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from benchmarks.peers import data, quality
from benchmarks.peers.timing import Result, measured
from jaxtl.exports.forms import export_network
from jaxtl.exports.network import ExportedNetwork
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.network.trunk import trainable_boundary
from jaxtl.settings import FinetuneConfig, Images

IMAGES = Images()
# A peer's best batch is one of these, which `forward` measures too; each may take a minute to compile.
BATCHES = (32, 256, 1024)
_TRIED = 1024  # images that decide it
_CONFIG = MobileNetV2Config()
LAST_FROZEN = _CONFIG.layers[trainable_boundary(_CONFIG, FinetuneConfig.trainable) - 1].name

# From images and a batch size to features, or to what the frozen layers hand on.
Run = Callable[[np.ndarray, int], Any]
Clock = Callable[[], float] | None


def export(to: str, path: Path) -> Path:
    """MobileNetV2 with jaxtl's weights as `jaxtl export` writes it; the file to open."""
    network = ExportedNetwork(_CONFIG, load_file(data.imagenet_file()), IMAGES.image_size, "unit")
    return export_network(network, to, path)[-1]


def batches(source: Any, size: int, fill: bool = True) -> Iterator[Any]:
    """Batches of one size, for one compiled network; the last is filled up with the last row, or smaller."""
    for start in range(0, len(source), size):
        rows = np.minimum(np.arange(start, start + size), len(source) - 1)
        yield source[rows] if fill and rows[0] + size > len(source) else source[start : start + size]


def forward(run: Run, batch_size: int, n: int, exact: bool = True, clock: Clock = None) -> Result:
    """Features of n test images; `exact` as of `quality.of_features`."""
    images = data.images("test", n).images
    return measured(lambda: run(images, batch_size), lambda x: quality.of_features(x, exact), compiled=clock)


def extract(run: Run, n: int, exact: bool = True, clock: Clock = None) -> Result:
    """The same as a user has it who knows the peer's best batch, which is told with the quality."""
    size = best_batch(run, n)
    result = forward(run, size, n, exact, clock)
    return result | {"quality": result["quality"] | {"batch": float(size)}}


def trunk(
    run: Run,
    n: int,
    size: int | None = None,
    exact: bool = True,
    clock: Clock = None,
    fetched: Callable[[Any], np.ndarray] = np.asarray,
) -> Result:
    """What the frozen layers hand on for n training images, [n, h, w, c] once it is fetched."""
    images, size = data.images("train", n).images, size or best_batch(run, n)
    judge = lambda outputs: quality.of_trunk(fetched(outputs), exact)  # noqa: E731
    return measured(lambda: run(images, size), judge, compiled=clock)


@cache
def best_batch(run: Run, n: int) -> int:
    """The batch, of those that n images fill, in which a peer has most images a second once compiled."""
    images, seconds = data.images("test", _TRIED).images, {}
    for size in [size for size in BATCHES if size <= n] or BATCHES[:1]:
        run(images[:size], size)
        began = time.perf_counter()
        run(images, size)
        seconds[size] = time.perf_counter() - began
    return min(seconds, key=seconds.__getitem__)
