"""The same work on one device and on several: started by tests/test_devices.py, as a process of its own.

`python -m tests.several_devices OUT.npz` keeps what each number of devices gives; "all" after it has more.
"""

import sys
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from jaxtl.doctor.probes import use_jax
from jaxtl.machine.devices import configure, device_memory, environment
from jaxtl.metrics import device, distances
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.weights import arrays_of, build
from jaxtl.neighbors import exact_neighbors, ring
from jaxtl.network.batches import default_batch_size
from jaxtl.network.division import Common, Own, divided_sources
from jaxtl.network.extraction import extract
from jaxtl.network.finetuning import train_tail, train_tails
from jaxtl.network.layers import run_layers
from jaxtl.network.trunk import Trunk
from jaxtl.records.dataset import Dataset
from jaxtl.settings import FinetuneConfig, Images
from tests.random_weights import random_arrays

COUNTS, MORE_COUNTS = (1, 8), (3,)
# Eight devices cannot divide a batch. Adam's first steps move a weight by the learning rate, whatever its
# gradient is, by another sign too where rounding has it: so little that this is within what is compared, and
# so much that other gradients are not.
TRAINING = FinetuneConfig(epochs=1, batch_size=31, learning_rate=1e-4)
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Short(MobileNetV2Config):
    """MobileNetV2's stem and first block, which compile in a moment."""

    @cached_property
    def layers(self):
        first = super().layers[:9]
        top = [layer for layer in super().layers if layer.kind in ("pool", "dense")]
        return (*first, *(replace(layer, channels_in=first[-1].channels) for layer in top))

    @property
    def block_ends(self):
        return ("Conv1_relu", "expanded_conv_project_BN")


CONFIG = Short(0.35)
TRUNK = Trunk(build(CONFIG, random_arrays(CONFIG)), CONFIG.position("expanded_conv_project"), Images(32))
POINTS = RNG.normal(size=(301, 20)).astype(np.float32)


def drawn(count, split):
    """Images of three classes, of which one is brighter than the other."""
    labels = np.arange(count, dtype=np.int32) % 3
    images = RNG.integers(0, 86, (count, 32, 32, 1)) + 80 * labels[:, None, None, None]
    return Dataset(images.astype(np.uint8), labels, ("a", "b", "c"), split, "drawn")


TRAIN, TEST = drawn(62, "train"), drawn(20, "test")


def frozen(split, **how):
    """What the layers that learn start from."""
    return run_layers(TRUNK.model, 0, TRUNK.boundary, split.images, TRUNK.images, 7, **how)


def features():
    model, pooled, kept = TRUNK.model, CONFIG.pooled, frozen(TEST, on_device=True)
    return {
        **{f"features: {split.split}": frozen(split).x for split in (TRAIN, TEST)},
        "features": extract(model, TEST, TRUNK.images, batch_size=7).values,
        "features, from the device": run_layers(model, TRUNK.boundary, pooled, kept, batch_size=7).x,
    }


def more_features():
    last = "expanded_conv_depthwise_relu"
    return {
        "features, large batches": extract(TRUNK.model, TEST, TRUNK.images).values,
        "features of a layer": extract(TRUNK.model, TEST, TRUNK.images, layer=last).values,
    }


def trained(**how):
    together, config = how.pop("together", 1), replace(TRAINING, **how)
    configs = [replace(config, seed=seed) for seed in range(together)]
    data = [part for split in (TRAIN, TEST) for part in (split, frozen(split))]
    named = f"trained {config.batch_norm} {together}"
    for seed, (model, history) in enumerate(train_tails(TRUNK, *data, configs, together=together)):
        yield from ((f"{named}, {seed}: {name}", value) for name, value in arrays_of(model).items())
        yield f"{named}, {seed}: history", [list(row.values()) for row in history]


def trained_by_shares(**how):
    """As many processes train, by one with all its devices: it alone has rows of its own, which are all."""
    config = replace(TRAINING, seed=0, **how)
    train, test = divided_sources(TRUNK, TRAIN.images, TEST.images)
    # From the same numbers: what differs by rounding alone, Adam's first steps may blow up.
    sources = Common(frozen(TRAIN)), Own(frozen(TEST))
    model, history = train_tail(TRUNK, TRAIN, sources[0], TEST, sources[1], config)
    named = f"trained {config.batch_norm} 1, 0"
    return {
        "by shares, features: train": train.rows.x,
        "by shares, features: test": test.rows.x,
        **{f"by shares, {named}: {name}": value for name, value in arrays_of(model).items()},
        f"by shares, {named}: history": [list(row.values()) for row in history],
    }


def numbers_by(engine):
    """Neighbours and products: by the processor, in float64, or by all devices."""
    by_jax = engine is device
    neighbors = exact_neighbors(POINTS, 12, engine="jax" if by_jax else "cpu")
    times, transposed = device.products(POINTS) if by_jax else (POINTS.__matmul__, POINTS.T.__matmul__)
    return {
        "neighbours": neighbors.indices,
        "their distances": neighbors.distances,
        "product": times(np.ones((20, 3), np.float32)),
        "transposed product": transposed(POINTS[:, :3].copy()),
    }


def more_numbers_by(engine):
    ranks = engine.anchor_ranks(POINTS, np.arange(0, 301, 7))
    counts = device.agreement(ranks, ranks[:, ::-1].copy(), 5, np.array([5, 10]), np.linspace(0, 1, 301))
    return {
        "distances by class": engine.class_distances(POINTS, np.arange(301) % 3, 3),
        "ranks": ranks,
        "neighbours, in a ring": ring.search(POINTS, 12).indices,
        **{f"agreement {number}": count for number, count in enumerate(counts)},
    }


def main(out, *more):
    """`more`: "all" for more numbers of devices and more kinds of training."""
    kept = {}
    for count in (*COUNTS, *MORE_COUNTS) if more else COUNTS:
        configure(devices=count)
        engine = distances if count == 1 else device
        made = {**features(), **dict(trained()), **numbers_by(engine), **use_jax()}
        if count > 1 and not more:
            made |= trained_by_shares()
        if more:
            made |= trained_by_shares(batch_norm="recalibrated", epochs=2, batch_size=23)
            made |= {**more_numbers_by(engine), **more_features(), **dict(trained(together=2))}
            made |= dict(trained(batch_norm="recalibrated", epochs=2, batch_size=23))
        about = {
            "used": environment()["devices_used"],
            "batch": default_batch_size(),
            "memory": device_memory(),
        }
        kept |= {f"{count}/{name}": np.asarray(value) for name, value in {**made, **about}.items()}
    np.savez(out, **kept)


if __name__ == "__main__":
    main(*sys.argv[1:])
