"""The memory that work with the network will take on a CPU, from its settings alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from jaxtl.errors import JaxtlError
from jaxtl.machine.engines import default_engine
from jaxtl.machine.memory import available_memory, largest_count, spoken_bytes
from jaxtl.models.layers import NetworkConfig
from jaxtl.network.batches import batch_size_for, bytes_of_batches, default_batch_size
from jaxtl.network.extraction import STREAMED
from jaxtl.network.finetuning import bytes_per_seed
from jaxtl.network.trunk import Trunk
from jaxtl.progress import counted
from jaxtl.ranges import IMAGE_SIZE
from jaxtl.records.rows import IN_MEMORY, free_disk
from jaxtl.settings import FinetuneConfig, Images

# By measurement (JAX 0.10 on two cores): what compiled programs and their libraries take beside the data.
_PROGRAMS = 600 * 2**20
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
        counts: images of each split, those to train on first; what the frozen layers make of a split is in
            memory up to 1 GiB.
    """
    keep = trunk.keeps(*counts)
    # A batch has no more images than there are to train on.
    config = replace(config, batch_size=min(config.batch_size, counts[0]))
    return _with_training(trunk, counts, keep, bytes_per_seed(trunk, classes, config, keep))


def _with_training(trunk: Trunk, counts: tuple[int, ...], keep: bool, training: int) -> Footprint:
    passing = bytes_of_batches(trunk.images, default_batch_size(trunk.images))
    fixed = _PROGRAMS + _PIECES + max(passing, int(_TRAINING_SHARE * training))
    # Features before and after, and copies of them while they are looked at.
    features = 4 * 4 * trunk.model.config.features
    row = trunk.bytes_per_image() if keep else 3 * trunk.images.image_size**2
    # Larger splits are on disk, and read in pieces.
    in_memory = sum(count * row for count in counts if count * row <= IN_MEMORY)
    each = features + (row if in_memory else 0)
    return Footprint(fixed, each, fixed + sum(counts) * features + in_memory)


def of_features(
    config: NetworkConfig, images: Images, count: int, batch_size: int, streamed: bool = False
) -> Footprint:
    """What the features of so many images will take alone; `streamed`: whether they go to disk by pieces."""
    passing = bytes_of_batches(images, batch_size)
    # They are copied where they are written.
    features = 2 * 4 * config.features
    fixed = _PROGRAMS + _PIECES + passing
    return Footprint(fixed, features, fixed + features * (min(count, STREAMED) if streamed else count))


def check_features(
    config: NetworkConfig, images: Images, count: int, batch_size: int | None, streamed: bool
) -> None:
    """Raises JaxtlError where the features of so many images would not fit into a CPU's memory.

    Batches are no reason: they are as small as they must be (`jaxtl.network.batches.batch_size_for`).
    """
    if default_engine() != "cpu":
        return

    def of_size(pixels: int) -> Footprint:
        smaller = replace(images, image_size=pixels)
        return of_features(config, smaller, count, batch_size_for(smaller, batch_size), streamed)

    free, fewer = available_memory(), "give so many with --samples, or write them to an .npy file"
    need = of_size(images.image_size)
    check(need, free, count, fewer, lambda: _smaller(lambda pixels: of_size(pixels).fixed, images, free))


def check_training(
    trunk: Trunk,
    classes: int,
    counts: tuple[int, ...],
    config: FinetuneConfig,
    fewer: str = "give fewer with --samples and --train-samples, or a smaller --image-size",
) -> None:
    """Raises JaxtlError where training, and tests, would not fit into a CPU's memory; see `footprint`."""
    if default_engine() != "cpu":
        return
    need, free = footprint(trunk, classes, counts, config), available_memory()

    def smaller() -> str:
        batch = _batch_that_fits(trunk, classes, counts, config, free)
        if batch:
            return f"give a --batch-size of at most {batch:,}"

        def of_size(pixels: int) -> int:
            images = replace(trunk.images, image_size=pixels)
            return footprint(replace(trunk, images=images), classes, counts, config).total

        return f"{_smaller(of_size, trunk.images, free)}, or fewer --trainable layers"

    check(need, free, sum(counts), f"training and test images together; {fewer}", smaller)


def disk_notes(trunk: Trunk, counts: tuple[int, ...]) -> list[str]:
    """A line about the disk that training on a CPU will take for so many images of splits, or lacks."""
    if default_engine() != "cpu" or trunk.boundary <= 1:
        return []
    needed, free = trunk.bytes_on_disk(*counts), spoken_bytes(free_disk(trunk.scratch))
    if not trunk.keeps(*counts):
        return [
            f"what the frozen layers hand on would take {spoken_bytes(needed)} of disk, and {free} are free: "
            "they work anew in every epoch, which takes longer; give --out on a disk with more room"
        ]
    taken = f"what the frozen layers hand on takes {spoken_bytes(needed)} of disk until the network is tuned"
    return [f"{taken}; {free} are free"] if needed else []


def _batch_that_fits(
    trunk: Trunk, classes: int, counts: tuple[int, ...], config: FinetuneConfig, free: int
) -> int:
    """Training images of a step for which there is memory, 0 where there is for none."""
    keep = trunk.keeps(*counts)
    # What training takes is a line in the size of its batches, and every point of it takes a trace.
    one, two = (bytes_per_seed(trunk, classes, replace(config, batch_size=size), keep) for size in (1, 2))

    def of_batch(size: int) -> int:
        return _with_training(trunk, counts, keep, one + (size - 1) * (two - one)).total

    return largest_count(of_batch, min(config.batch_size, counts[0]) - 1, free)


def _smaller(needed: Callable[[int], int], images: Images, free: int) -> str:
    """Which --image-size fits, where one does."""
    least = IMAGE_SIZE.low
    more = largest_count(lambda more: needed(least + more), images.image_size - least, free)
    if needed(least) > free:
        return f"a machine with {spoken_bytes(needed(least))} is the least"
    return f"give an --image-size of at most {least + more}"


def check(need: Footprint, available: int, images: int, fewer: str, smaller: Callable[[], str]) -> None:
    """Raises JaxtlError, with what fits, where so many images need more bytes than are available.

    Args:
        fewer: how a user takes fewer images.
        smaller: what to do where no number of images fits.
    """
    if need.total <= available:
        return
    said = (
        f"memory: {counted(images, 'image')} of this size need about {spoken_bytes(need.total)}, and "
        f"{spoken_bytes(available)} are free"
    )
    fit = (available - need.fixed) // need.per_image
    if fit < 1:
        raise JaxtlError(f"{said}: {smaller()}")
    raise JaxtlError(f"{said}: about {counted(min(fit, images), 'image fits', 'images fit')}, {fewer}")
