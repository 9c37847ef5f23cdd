"""The size of what enters each layer, for files that state it."""

from __future__ import annotations

from jaxtl.exports.network import Network
from jaxtl.models.layers import Layer, NetworkConfig
from jaxtl.models.ops import output_size


def input_shapes(network: Network) -> dict[str, list[int]]:
    """[h, w, channels] of what enters each layer, [channels] for a head, by its name."""
    side, channels, shapes = network.image_size, 3, {}
    for layer in network.config.layers:
        shapes[layer.name] = [channels] if layer.kind == "dense" else [side, side, channels]
        side, channels = _side(network.config, layer, side), layer.channels
    return shapes


def explicit_padding(config: NetworkConfig, layer: Layer, side: int) -> tuple[int, int]:
    """What a convolution itself pads each side of its square input with, before and after."""
    return config.pads_with(layer, side) if layer.pads else (0, 0)


def _side(config: NetworkConfig, layer: Layer, side: int) -> int:
    if layer.kind == "pad":
        return side + sum(config.pads_with(layer, side))
    if layer.kind in ("conv", "depthwise"):
        return output_size(side, layer.kernel_size, layer.stride, explicit_padding(config, layer, side))
    return side
