"""The memory that the network's part of a run will take on a CPU, from its settings alone."""

from __future__ import annotations

from typing import NamedTuple

from jaxtl.errors import JaxtlError
from jaxtl.network.batches import BATCHES_AT_A_TIME, default_batch_size
from jaxtl.network.finetuning import bytes_per_seed
from jaxtl.network.trunk import Trunk
from jaxtl.records.rows import IN_MEMORY
from jaxtl.settings import FinetuneConfig

# By measurement (JAX 0.10 on two cores): what compiled programs and their libraries take beside the data.
_PROGRAMS = 600 * 2**20
# Bytes for each pixel of an image that is on its way through the network: its largest outputs, at 224 pixels.
_PER_PIXEL = 230
# Of the upper bound for a GPU, which keeps every output several times: at 224 pixels a third was taken.
_TRAINING_SHARE = 0.5
# Pieces of 64 MiB that are read ahead, in use, and handed over.
_PIECES = 3 * 2**26


class Footprint(NamedTuple):
    """Bytes at the peak: those that any number of images takes, those of each image, and those of all."""

    fixed: int
    per_image: int
    total: int


def footprint(trunk: Trunk, classes: int, counts: tuple[int, ...], config: FinetuneConfig) -> Footprint:
    """What a run will take beyond what it has taken by now.

    Args:
        counts: images of each split; what the frozen layers make of a split is in memory up to 1 GiB.
    """
    size = trunk.images.image_size
    passing = BATCHES_AT_A_TIME * default_batch_size(trunk.images) * size**2 * _PER_PIXEL
    keep = trunk.keeps(sum(counts))
    training = int(_TRAINING_SHARE * bytes_per_seed(trunk, classes, config, keep))
    fixed = _PROGRAMS + _PIECES + max(passing, training)
    # Features before and after, and copies of them while they are looked at.
    features = 4 * 4 * trunk.model.config.features
    row = trunk.bytes_per_image() if keep else 3 * size**2
    kept = sum(min(count * row, IN_MEMORY) for count in counts)
    return Footprint(fixed, features + row, fixed + sum(counts) * features + kept)


def check(need: Footprint, available: int, images: int, batch_size: int) -> None:
    """Raises JaxtlError, with what fits, where so many images need more bytes than are available."""
    if need.total <= available:
        return
    said = (
        f"memory: {images:,} images of this size need about {need.total / 2**30:.1f} GiB, and "
        f"{available / 2**30:.1f} GiB are free"
    )
    fit = (available - need.fixed) // need.per_image
    if fit < 1:
        raise JaxtlError(f"{said}: give a smaller --image-size, or a --batch-size below {batch_size}")
    raise JaxtlError(
        f"{said}: about {fit:,} images fit, training and test images together; "
        "give fewer with --samples and --train-samples, or a smaller --image-size"
    )
