"""The frozen trunk: a pure function of the image, so its output is computed once and kept where it fits.

Training and the extractions before and after it all start from what the trunk hands on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import Precision, device_memory
from jaxtl.models import ops
from jaxtl.models.mobilenet_v2 import Carry, MobileNetV2, MobileNetV2Config
from jaxtl.network.batches import prepare_device_rows
from jaxtl.network.blocks import (
    Blocks,
    average_layers,
    block_ends,
    prepare_averages,
    prepare_blocks,
    run_blocks,
)
from jaxtl.network.layers import prepare_layers, run_layers
from jaxtl.progress import Notify, Progress
from jaxtl.settings import Images

# Of the device's whole memory, not of what is free now, so that a repeated run decides the same.
_MEMORY_SHARE = 0.3

# What the layers after the trunk start from: the trunk's kept outputs, or the images themselves.
Source = Carry | np.ndarray


def trainable_boundary(config: MobileNetV2Config, trainable: str) -> int:
    """Index in `config.layers` of the first layer that training may change.

    Args:
        trainable: a number of layers counted from the end of the backbone as Keras counts them ("10" is
            block_16_expand_BN to out_relu; "0" or "none" trains the head alone), "all", or the name of the
            first trainable layer. The head is always trained.

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
        return config.position(trainable)
    if not 0 < count <= len(layers):
        raise JaxtlError(f"trainable: MobileNetV2 has {len(layers)} layers without its head, got {count}")
    return len(layers) - count


@dataclass(frozen=True)
class Trunk:
    """Layers 0 to `boundary` (exclusive) of a model, how images enter it, and how it is computed.

    What follows the trunk, training included, is computed in the same way. `precision` is one of
    `jaxtl.machine.devices.PRECISIONS`; `form` None takes the convolutions that are fastest on the platform.
    """

    model: MobileNetV2
    boundary: int
    images: Images
    precision: Precision = "highest"
    form: ops.Form | None = None

    def __post_init__(self) -> None:
        ops.check(self.precision, self.form)
        object.__setattr__(self, "images", self.images.settled(self.model.config.preprocessing))

    @property
    def _how(self) -> dict[str, Any]:
        return {"precision": self.precision, "form": self.form}

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
        image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
        out = jax.eval_shape(lambda x: self.model.run(Carry(x), 0, stop), image)
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), out)

    def prepare(self, image_shape: tuple[int, int, int], counts: Sequence[int] = ()) -> None:
        """Have what `source` needs compiled in threads, for sets of so many images of this shape."""
        prepare_blocks(self.model, self.boundary, self._row(image_shape, False), self.images, **self._how)
        if jax.default_backend() != "cpu":
            for n in dict.fromkeys(counts):
                prepare_device_rows(n, self._spec(self.boundary))

    def prepare_then(
        self, model: MobileNetV2, stop: int, image_shape: tuple[int, int, int], keep: bool
    ) -> None:
        """Have what `then` needs compiled in a thread; `keep` as in `source`."""
        start, images = (self.boundary, None) if keep else (0, self.images)
        prepare_layers(model, start, stop, self._row(image_shape, keep), images, **self._how)

    def prepare_averages(self, image_shape: tuple[int, int, int], keep: bool) -> None:
        """Have what `averages` needs compiled in a thread; `keep` as in `source_and_blocks`."""
        passed = block_ends(self.model, 0, self.boundary) if keep else []
        start, images, row = (
            (passed[-1], None, self._spec(passed[-1]))
            if passed
            else (0, self.images, self._row(image_shape, False))
        )
        ends = block_ends(self.model, start, self.model.config.pooled)
        prepare_averages(self.model, start, ends, row, images, **self._how)

    def keeps(self, n: int) -> bool:
        """Whether the outputs for n images are kept: they fit, and they save work."""
        return self.boundary > 1 and n * self.bytes_per_image() <= _MEMORY_SHARE * device_memory()

    def source(
        self,
        images: np.ndarray,
        keep: bool,
        progress: Progress | None = None,
        notify: Notify | None = None,
    ) -> Source:
        """The trunk's outputs where they are kept, else the images.

        The outputs stay in the memory of the device, where training and tests take them from; a CPU's is
        the host's.
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
            # Training draws any of them again and again: digits made when asked for are made once.
            images = np.asarray(images)
            return images, Blocks({}, 0, images[:first])
        on_device = jax.default_backend() != "cpu"
        how = {**self._how, "progress": progress, "notify": notify, "on_device": on_device}
        return run_blocks(self.model, self.boundary, images, self.images, first, **how)

    def averages(
        self, model: MobileNetV2, blocks: Blocks, notify: Notify | None = None
    ) -> dict[str, np.ndarray]:
        """`extract_layers` of all blocks' ends, for a model that shares this trunk."""
        images = None if isinstance(blocks.source, Carry) else self.images
        ends = block_ends(model, blocks.start, model.config.pooled)
        behind = average_layers(model, blocks.start, ends, blocks.source, images, notify=notify, **self._how)
        return {**blocks.averages, **behind}

    def then(
        self,
        model: MobileNetV2,
        stop: int,
        source: Source,
        progress: Progress | None = None,
        notify: Notify | None = None,
    ) -> np.ndarray:
        """Outputs of layer `stop - 1` of a model that shares this trunk, float32 [n, ...]."""
        start, images = (self.boundary, None) if isinstance(source, Carry) else (0, self.images)
        how = {**self._how, "progress": progress, "notify": notify}
        return run_layers(model, start, stop, source, images, **how).x
