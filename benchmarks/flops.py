"""How much a network computes: multiply-adds of its convolutions and head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from jaxtl.models.mobilenet_v2 import Layer, MobileNetV2Config


class Work(NamedTuple):
    """One layer that multiplies: its output pixels, and products summed for one value of its output."""

    layer: Layer
    pixels: int
    terms: int

    @property
    def multiply_adds(self) -> int:
        return self.pixels * self.terms * self.layer.channels


def work(config: MobileNetV2Config, image_size: int, start: int = 0, stop: int | None = None) -> list[Work]:
    """The convolutions and the head of layers `start` to `stop` (exclusive), for one square image.

    Normalisation, ReLU6, additions and pooling are left out, as the literature counts (Sandler et al.
    2018, table 4).
    """
    inside = {layer.name for layer in config.layers[start:stop]}
    return [each for each in _all_work(config, image_size) if each.layer.name in inside]


def _all_work(config: MobileNetV2Config, size: int) -> Iterator[Work]:
    for layer in config.layers:
        if layer.kind in ("conv", "depthwise"):
            size = -(-size // layer.stride)  # with either padding; "pad" layers carry a stride too
            channels_in = layer.channels_in if layer.kind == "conv" else 1
            yield Work(layer, size * size, layer.kernel_size**2 * channels_in)
        elif layer.kind == "dense":
            yield Work(layer, 1, layer.channels_in)


def forward_flops(config: MobileNetV2Config, image_size: int, start: int = 0, stop: int | None = None) -> int:
    """Floating-point operations for one image: two for each multiply-add."""
    return 2 * sum(each.multiply_adds for each in work(config, image_size, start, stop))


def training_flops(config: MobileNetV2Config, image_size: int, boundary: int) -> int:
    """Operations to train the layers from `boundary` on with one image.

    Three times the forward pass: gradients for weights and for inputs cost as much each. Where a trainable
    normalisation comes first, as with Keras's last 10 layers, the first convolution too needs its input's
    gradient.
    """
    return 3 * forward_flops(config, image_size, boundary)
