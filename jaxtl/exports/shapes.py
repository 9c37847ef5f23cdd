"""The size of what enters each layer, for files that state it."""

from __future__ import annotations

from jaxtl.exports.network import Network
from jaxtl.models.mobilenet_v2 import Layer, MobileNetV2Config, layer_padding, stride_padding
from jaxtl.models.ops import output_size


class _Sized:
    """Stands for an array of which the shape alone is asked."""

    def __init__(self, side: int, channels: int) -> None:
        self.shape = (1, side, side, channels)


def input_shapes(network: Network) -> dict[str, list[int]]:
    """[h, w, channels] of what enters each layer, [channels] for a head, by its name."""
    side, channels, shapes = network.image_size, 3, {}
    for layer in network.config.layers:
        shapes[layer.name] = [channels] if layer.kind == "dense" else [side, side, channels]
        side, channels = _side(network.config, layer, side, channels), layer.channels
    return shapes


def explicit_padding(
    config: MobileNetV2Config, layer: Layer, side: int, channels: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a convolution itself pads, of its square input."""
    return layer_padding(config, layer, _Sized(side, channels))


def _side(config: MobileNetV2Config, layer: Layer, side: int, channels: int) -> int:
    if layer.kind == "pad":
        return side + sum(stride_padding(config, side, side)[0])
    if layer.kind in ("conv", "depthwise"):
        padding = explicit_padding(config, layer, side, channels)[0]
        return output_size(side, layer.kernel_size, layer.stride, padding)
    return side
