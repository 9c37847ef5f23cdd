"""How much a network computes: multiply-adds of its convolutions and head."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from jaxtl.models.mobilenet_v2 import MobileNetV2Config


def multiply_adds(config: MobileNetV2Config, image_size: int) -> Iterator[int]:
    """Of each layer, for one square image.

    Normalisation, ReLU6, additions and pooling count nothing, as in the literature (Sandler et al. 2018,
    table 4).
    """
    size = image_size
    for layer in config.layers:
        terms = 0
        if layer.kind in ("conv", "depthwise"):
            size = -(-size // layer.stride)  # with either padding; "pad" layers carry a stride too
            terms = layer.kernel_size**2 * (layer.channels_in if layer.kind == "conv" else 1)
        elif layer.kind == "dense":
            size, terms = 1, layer.channels_in
        yield size * size * terms * layer.channels if terms else 0


def forward_flops(config: MobileNetV2Config, image_size: int, start: int = 0, stop: int | None = None) -> int:
    """Floating-point operations of layers `start` to `stop` for one image: two for each multiply-add."""
    return 2 * sum(islice(multiply_adds(config, image_size), start, stop))


def training_flops(config: MobileNetV2Config, image_size: int, boundary: int) -> int:
    """Operations to train the layers from `boundary` on with one image.

    Three times the forward pass: gradients for weights and for inputs cost as much each. Where a trainable
    normalisation comes first, as with Keras's last 10 layers, the first convolution too needs its input's
    gradient.
    """
    return 3 * forward_flops(config, image_size, boundary)
