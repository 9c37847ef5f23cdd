"""What enters each layer, and its size, for files that state them."""

from __future__ import annotations

from typing import NamedTuple

from jaxtl.exports.network import ExportedNetwork
from jaxtl.models.layers import Layer, NetworkConfig


class Entering(NamedTuple):
    """What enters a layer.

    Attributes:
        layers: names of those whose output it takes: one, none for the input, and for an "add" the two, of
            which the residual connection is the first.
        shape: [h, w, channels] of each, [channels] for a head.
    """

    layers: tuple[str, ...]
    shape: list[int]


class _At(NamedTuple):
    """An activation: the layer that made it, its size and its channels."""

    layer: str
    side: int
    channels: int


def entering(network: ExportedNetwork) -> dict[str, Entering]:
    """What enters each layer, by the layer's name."""
    config, entries = network.config, {}
    # As `jaxtl.models.network.Carry` has it: the running activation, and the one kept for an "add".
    running = kept = _At("", network.image_size, 3)
    for layer in config.layers:
        taken = kept if layer.on_skip else running
        layers = (kept.layer, running.layer) if layer.kind == "add" else (taken.layer,)
        shape = [taken.channels] if layer.kind == "dense" else [taken.side, taken.side, taken.channels]
        entries[layer.name] = Entering(layers if layer.kind != "input" else (), shape)
        after = _At(layer.name, config.size_after(layer, taken.side), layer.channels)
        if layer.on_skip:
            kept = after
            continue
        running = after
        if layer.name in config.saved:
            kept = after
    return entries


def explicit_padding(config: NetworkConfig, layer: Layer, side: int) -> tuple[int, int]:
    """What a convolution or max pooling itself pads each side of its square input with, before and after."""
    return config.pads_with(layer, side) if layer.pads else (0, 0)
