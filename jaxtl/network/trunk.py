"""The frozen trunk: a pure function of the image, so its output is computed once and kept where it fits.

Training and the extractions before and after it all start from what the trunk hands on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import Precision, device_memory
from jaxtl.models import ops
from jaxtl.models.layers import NetworkConfig
from jaxtl.models.network import Carry, Network
from jaxtl.network.batches import default_batch_size, place_in, prepare_device_rows
from jaxtl.network.blocks import (
    Blocks,
    average_layers,
    block_ends,
    prepare_averages,
    prepare_blocks,
    run_blocks,
)
from jaxtl.network.engine import chosen_engine
from jaxtl.network.layers import prepare_layers, run_layers
from jaxtl.progress import Notify, Progress
from jaxtl.records.rows import IN_MEMORY, StoredRows, disk_takes, first_rows, is_in_memory
from jaxtl.settings import Images

# Of the device's whole memory, not of what is free now, so that a repeated run decides the same.
_MEMORY_SHARE = 0.3
# Bytes of images that are copied at a time.
_PIECE = 2**26

# What the layers after the trunk start from: the trunk's kept outputs, or the images themselves.
Source = Carry | Any


def trainable_boundary(config: NetworkConfig, trainable: str) -> int:
    """Index in `config.layers` of the first layer that training may change.

    Args:
        trainable: a number of layers counted from the end of the backbone, as `config.layers` lists them
            ("0" or "none" trains the head alone), "all", or the name of the first trainable layer or part,
            such as "layer4" for the first layer in it. The head is always trained.

    Raises:
        JaxtlError: more layers than there are, or an unknown name.
    """
    layers = config.backbone_layers
    if trainable in ("none", "0"):
        return config.pooled
    if trainable == "all":
        return 0
    try:
        count = int(trainable)
    except ValueError:
        return config.first_of(trainable)
    if not 0 < count <= len(layers):
        raise JaxtlError(f"trainable: {config.label} has {len(layers)} layers without its head, got {count}")
    return len(layers) - count


@dataclass(frozen=True)
class Trunk:
    """Layers 0 to `boundary` (exclusive) of a model, how images enter it, and how it is computed.

    What follows the trunk, training included, is computed in the same way. `precision` is one of
    `jaxtl.machine.devices.PRECISIONS`; `form` None takes the convolutions that are fastest on the platform.
    `engine`, one of `jaxtl.settings.ENGINES`, computes layers from the images on, the others are JAX's.
    `scratch` is the folder for what memory should not hold; None takes the system's for temporary files.
    """

    model: Network
    boundary: int
    images: Images
    precision: Precision = "highest"
    form: ops.Form | None = None
    scratch: Path | None = None
    engine: str = "jax"

    def __post_init__(self) -> None:
        ops.check(self.precision, self.form)
        object.__setattr__(self, "engine", chosen_engine(self.engine, self.precision))
        object.__setattr__(self, "images", self.images.settled(self.model.config.preprocessing))

    def how(self, images: Images | None) -> dict[str, Any]:
        """How stretches of it are computed, for those who compute some: see `run_layers`.

        Args:
            images: how images enter, for stretches that begin with them; None for those of what it keeps.
        """
        engine = self.engine if images else "jax"
        size = default_batch_size(self.images, engine)
        return {"precision": self.precision, "form": self.form, "batch_size": size, "engine": engine}

    def bytes_per_image(self) -> int:
        """Size of what the trunk hands on for one image."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self._spec(self.boundary)))

    def source_spec(self, n: int, image_shape: tuple[int, int, int], keep: bool) -> Source:
        """Shapes of `source` for n images [height, width, channels]."""
        row = self._row(image_shape, keep)
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct((n, *a.shape), a.dtype), row)

    def _row(self, image_shape: tuple[int, int, int], keep: bool) -> Any:
        return self._spec(self.boundary) if keep else jax.ShapeDtypeStruct(image_shape, np.uint8)

    def _spec(self, stop: int) -> Carry:
        """Shapes of what layer `stop - 1` hands on for one image, without the first axis."""
        size = self.images.image_size
        shapes = [((size, size, 3), None), *self.model.config.shapes(size)][stop]
        return Carry(*(shape and jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes))

    def prepare(self, image_shape: tuple[int, int, int], counts: Sequence[int] = ()) -> None:
        """Have what `source` needs compiled in threads, for sets of so many images of this shape."""
        row, how = self._row(image_shape, False), self.how(self.images)
        prepare_blocks(self.model, self.boundary, row, self.images, **how)
        if jax.default_backend() != "cpu":
            for n in dict.fromkeys(counts):
                prepare_device_rows(n, self._spec(self.boundary), default_batch_size(self.images))

    def prepare_then(self, model: Network, stop: int, image_shape: tuple[int, int, int], keep: bool) -> None:
        """Have what `then` needs compiled in a thread; `keep` as in `source`."""
        start, images = (self.boundary, None) if keep else (0, self.images)
        prepare_layers(model, start, stop, self._row(image_shape, keep), images, **self.how(images))

    def prepare_averages(self, image_shape: tuple[int, int, int], keep: bool) -> None:
        """Have what `averages` needs compiled in a thread; `keep` as in `source_and_blocks`."""
        passed = block_ends(self.model, 0, self.boundary) if keep else []
        start, images, row = (
            (passed[-1], None, self._spec(passed[-1]))
            if passed
            else (0, self.images, self._row(image_shape, False))
        )
        ends = block_ends(self.model, start, self.model.config.pooled)
        prepare_averages(self.model, start, ends, row, images, **self.how(images))

    def keeps(self, *counts: int) -> bool:
        """Whether the outputs for splits of so many images are kept: they save work, and there is room.

        That is a share of a GPU's memory: it computes them anew faster than a disk hands them on. A CPU has
        the larger splits on disk.
        """
        if self.boundary <= 1 or jax.default_backend() == "cpu":
            return self.boundary > 1 and disk_takes(self.bytes_on_disk(*counts), self.scratch)
        return sum(counts) * self.bytes_per_image() <= _MEMORY_SHARE * device_memory()

    def bytes_on_disk(self, *counts: int) -> int:
        """What outputs that are kept for splits of so many images take of a CPU's disk."""
        sizes = (count * self.bytes_per_image() for count in counts)
        return sum(size for size in sizes if size > IN_MEMORY)

    def streams(self, images: Any, keep: bool) -> bool:
        """Whether `source` of these images is on disk, or in their files, and not in memory."""
        if keep:
            return jax.default_backend() == "cpu" and len(images) * self.bytes_per_image() > IN_MEMORY
        return not is_in_memory(images) and images.nbytes > IN_MEMORY

    def source(
        self,
        images: np.ndarray,
        keep: bool,
        progress: Progress | None = None,
        notify: Notify | None = None,
    ) -> Source:
        """The trunk's outputs where they are kept, else the images.

        The outputs stay in the memory of the device, where training and tests take them from; a CPU's is
        the host's, or where they are large a file's (`jaxtl.records.rows`).
        """
        return self.source_and_blocks(images, keep, 0, progress, notify)[0]

    def source_and_blocks(
        self,
        images: np.ndarray,
        keep: bool,
        first: int,
        progress: Progress | None = None,
        notify: Notify | None = None,
    ) -> tuple[Source, Blocks]:
        """`source`, and in the same pass what `averages` needs of the first images."""
        if not keep:
            # Training draws any of them again and again: what is made or read when asked for is so once.
            images = self._fetched(images)
            return images, Blocks({}, 0, first_rows(images, first))
        on_device = jax.default_backend() != "cpu"
        where = {"on_device": on_device, "place": place_in(self.scratch)}
        how = {**self.how(self.images), **where, "progress": progress, "notify": notify}
        return run_blocks(self.model, self.boundary, images, self.images, first, **how)

    def continued(
        self,
        start: int,
        before: Carry,
        progress: Progress | None = None,
        notify: Notify | None = None,
    ) -> Carry:
        """`source` of images of which layers 0 to `start` (exclusive) made `before`."""
        on_device = jax.default_backend() != "cpu"
        where = {"on_device": on_device, "place": place_in(self.scratch)}
        how = {**self.how(None), **where, "progress": progress, "notify": notify}
        return run_layers(self.model, start, self.boundary, before, None, **how)

    def prepare_continued(self, start: int) -> None:
        """Have what `continued` needs compiled in a thread."""
        prepare_layers(self.model, start, self.boundary, self._spec(start), None, **self.how(None))

    def _fetched(self, images: Any) -> Any:
        """Images in memory, or in one file where they are large; as they are where the disk is too small."""
        if isinstance(images, StoredRows):
            return images
        if not self.streams(images, keep=False):
            return np.asarray(images)
        if not disk_takes(images.nbytes, self.scratch):
            return images
        stored = StoredRows.empty(images.shape, images.dtype, self.scratch)
        step = max(1, _PIECE * len(images) // images.nbytes)
        for start in range(0, len(images), step):
            stored.write(start, images[start : start + step])
        return stored

    def averages(self, model: Network, blocks: Blocks, notify: Notify | None = None) -> dict[str, np.ndarray]:
        """`extract_layers` of all blocks' ends, for a model that shares this trunk."""
        images = None if isinstance(blocks.source, Carry) else self.images
        ends = block_ends(model, blocks.start, model.config.pooled)
        how = {"notify": notify, **self.how(images)}
        behind = average_layers(model, blocks.start, ends, blocks.source, images, **how)
        return {**blocks.averages, **behind}

    def then(
        self,
        model: Network,
        stop: int,
        source: Source,
        progress: Progress | None = None,
        notify: Notify | None = None,
    ) -> np.ndarray:
        """Outputs of layer `stop - 1` of a model that shares this trunk, float32 [n, ...]."""
        start, images = (self.boundary, None) if isinstance(source, Carry) else (0, self.images)
        how = {**self.how(images), "progress": progress, "notify": notify}
        return run_layers(model, start, stop, source, images, **how).x
