"""The memory that work with the network will take on a CPU, from its settings alone."""

from __future__ import annotations

from typing import NamedTuple

from jaxtl.errors import JaxtlError
from jaxtl.machine.engines import default_engine
from jaxtl.machine.memory import available_memory
from jaxtl.models.layers import NetworkConfig
from jaxtl.network.batches import BATCHES_AT_A_TIME, default_batch_size
from jaxtl.network.extraction import STREAMED
from jaxtl.network.finetuning import bytes_per_seed
from jaxtl.network.trunk import Trunk
from jaxtl.progress import counted
from jaxtl.records.rows import IN_MEMORY
from jaxtl.settings import FinetuneConfig, Images

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


def of_features(
    config: NetworkConfig, images: Images, count: int, batch_size: int, streamed: bool = False
) -> Footprint:
    """What the features of so many images will take alone; `streamed`: whether they go to disk by pieces."""
    passing = BATCHES_AT_A_TIME * batch_size * images.image_size**2 * _PER_PIXEL
    # They are copied where they are written.
    features = 2 * 4 * config.features
    fixed = _PROGRAMS + _PIECES + passing
    return Footprint(fixed, features, fixed + features * (min(count, STREAMED) if streamed else count))


def check_features(
    config: NetworkConfig, images: Images, count: int, batch_size: int | None, streamed: bool
) -> None:
    """Raises JaxtlError where the features of so many images would not fit into a CPU's memory."""
    if default_engine() != "cpu":
        return
    size = batch_size or default_batch_size(images)
    need = of_features(config, images, count, size, streamed)
    fewer = "give fewer with --samples, write them to an .npy file, or give a smaller --image-size"
    check(need, available_memory(), count, size, fewer)


def check_training(
    trunk: Trunk,
    classes: int,
    counts: tuple[int, ...],
    config: FinetuneConfig,
    fewer: str = "give fewer with --samples and --train-samples, or a smaller --image-size",
) -> None:
    """Raises JaxtlError where training, and tests, would not fit into a CPU's memory; see `footprint`."""
    if default_engine() == "cpu":
        need = footprint(trunk, classes, counts, config)
        together = f"training and test images together; {fewer}"
        check(need, available_memory(), sum(counts), config.batch_size, together)


def check(need: Footprint, available: int, images: int, batch_size: int, fewer: str) -> None:
    """Raises JaxtlError, with what fits, where so many images need more bytes than are available.

    `fewer`: how a user takes fewer images.
    """
    if need.total <= available:
        return
    said = (
        f"memory: {counted(images, 'image')} of this size need about {need.total / 2**30:.1f} GiB, and "
        f"{available / 2**30:.1f} GiB are free"
    )
    fit = (available - need.fixed) // need.per_image
    if fit < 1:
        raise JaxtlError(f"{said}: give a smaller --image-size, or a --batch-size below {batch_size}")
    raise JaxtlError(f"{said}: about {counted(fit, 'image fits', 'images fit')}, {fewer}")
