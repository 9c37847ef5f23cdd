"""How much a network computes, in floating-point operations: two for each multiply-add."""

from __future__ import annotations

from itertools import islice

from jaxtl.models.layers import NetworkConfig


def forward_flops(config: NetworkConfig, image_size: int, start: int = 0, stop: int | None = None) -> int:
    """Floating-point operations of layers `start` to `stop` for one image: two for each multiply-add."""
    return 2 * sum(islice(config.multiply_adds(image_size), start, stop))


def training_flops(config: NetworkConfig, image_size: int, boundary: int) -> int:
    """Operations to train the layers from `boundary` on with one image.

    Three times the forward pass: gradients for weights and for inputs cost as much each. Where a trainable
    normalisation comes first, as with Keras's last 10 layers, the first convolution too needs its input's
    gradient.
    """
    return 3 * forward_flops(config, image_size, boundary)
