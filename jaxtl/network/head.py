"""The softmax head: how it starts, and what a model with one makes of a set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jaxtl.models.network import Network
from jaxtl.models.weights import arrays_of, build
from jaxtl.network.division import Own, numbers_of_own, of_all
from jaxtl.network.trunk import Source, Trunk
from jaxtl.progress import Notify
from jaxtl.settings import USUAL_PREPROCESSING


def with_head(model: Network, classes: int, seed: int, preprocessing: str | None = None) -> Network:
    """A copy of a model's backbone under a fresh softmax head (glorot-uniform, zero bias, as in Keras).

    `preprocessing`: with which it will learn, and which it then wants; None for what it wants now.
    """
    wanted = model.config.preprocessing
    if (preprocessing or USUAL_PREPROCESSING) != (wanted or USUAL_PREPROCESSING):
        wanted = preprocessing or wanted
    config = replace(model.config, classes=classes, preprocessing=wanted)
    arrays = {name: a for name, a in arrays_of(model).items() if not name.startswith(f"{config.head}/")}
    shape = (config.features, classes)
    arrays[f"{config.head}/kernel"] = _glorot_uniform(shape, np.uint32(seed % 2**32))
    arrays[f"{config.head}/bias"] = np.zeros(classes, np.float32)
    return build(config, arrays)


def _glorot_uniform(shape: tuple[int, int], seed: np.uint32) -> np.ndarray:
    """What Flax's initialiser draws with `jax.random.key(seed)`, to the bit.

    JAX would compile a program of its own for it, for as long as a hundred training steps take.
    """
    places = np.arange(np.prod(shape), dtype=np.uint64)
    ones = _threefry(np.uint32(0), seed, (places >> 32).astype(np.uint32), places.astype(np.uint32))
    # The upper 23 bits after the binary point of numbers from 1 to 2.
    drawn = (ones >> 9 | np.float32(1).view(np.uint32)).view(np.float32) * 2 - 3
    return (drawn * np.sqrt(3 * np.float32(2 / sum(shape)))).reshape(shape)


def _threefry(key: np.uint32, other_key: np.uint32, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011) of counters uint32 [n], both words as one."""
    keys = [key, other_key, key ^ other_key ^ np.uint32(0x1BD11BDA)]
    x, y = x + keys[0], y + keys[1]
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = (y << turn | y >> 32 - turn) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x ^ y


def evaluate(
    trunk: Trunk, model: Network, source: Source | Own, labels: np.ndarray, notify: Notify | None = None
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of a model with a head, at its moving statistics.

    Of many processes all call it, each with its `Own` source and all labels.
    """
    if isinstance(source, Own):
        own = _judged(trunk, model, source.rows, labels[numbers_of_own(len(labels))], notify)
        log_likelihood, right = (of_all(part, len(labels)) for part in own)
    else:
        log_likelihood, right = _judged(trunk, model, source, labels, notify)
    return float(-log_likelihood.mean()), float(right.mean())


def _judged(
    trunk: Trunk, model: Network, source: Source, labels: np.ndarray, notify: Notify | None
) -> tuple[np.ndarray, np.ndarray]:
    """Of each image the logarithm of its class's probability, float64 [n], and whether it is named so."""
    logits = trunk.then(model, len(model.config.layers), source, notify=notify).astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    log_likelihood = shifted[np.arange(len(labels)), labels] - np.log(np.exp(shifted).sum(1))
    return log_likelihood, logits.argmax(1) == labels


def named(trunk: Trunk, model: Network, source: Source, notify: Notify | None = None) -> np.ndarray:
    """The class that a model with a head names each image by, int32 [n]; arguments as of `evaluate`."""
    logits = trunk.then(model, len(model.config.layers), source, notify=notify)
    return logits.argmax(1).astype(np.int32)
