"""Fused steps of a network as a graph that begins with uint8 images, for other engines than JAX.

The steps are gone through here, once for all engines; a `Graph` writes what each is in an engine's own form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxtl.data.resize import Box, averaging_matrix, interpolation_matrix, placed
from jaxtl.errors import JaxtlError
from jaxtl.models.folding import Arrays, Plan, Step
from jaxtl.models.layers import Layer, NetworkConfig
from jaxtl.settings import Images

# What a graph tells a tensor by.
Tensor = Any


class Graph(Protocol):
    """A graph that is being written: each method adds to it, and most return the tensor that is made.

    `output` is a name that no other tensor has. Maps are laid out as the engine likes it.
    """

    def values(self) -> Tensor:
        """The images, float32."""

    def crop(self, x: Tensor, taken: Box) -> Tensor: ...

    def resize(self, x: Tensor, down: np.ndarray, across: np.ndarray) -> Tensor:
        """Columns by `down`, [height, old height], rows by `across`, [width, old width]; at most 255."""

    def surround(self, x: Tensor, before: tuple[int, int], after: tuple[int, int], output: str) -> Tensor:
        """Zeros above and left, and below and right."""

    def enter(self, pixels: Tensor, preprocessing: str) -> Tensor:
        """Pixels of 0 to 255, in one channel or three, as a preprocessing of `jaxtl.Images` wants them."""

    def convolve(self, layer: Layer, arrays: dict[str, np.ndarray], x: Tensor, side: int) -> Tensor:
        """A "conv" or "depthwise" layer on a map of so many pixels a side, with its bias if it has one."""

    def normalise(self, x: Tensor, scale: np.ndarray, bias: np.ndarray, output: str) -> Tensor:
        """x * scale + bias, by channels."""

    def activation(self, kind: str, x: Tensor, output: str) -> Tensor:
        """One of `jaxtl.models.network.ACTIVATIONS`."""

    def activated(self, kind: str, x: Tensor, output: str) -> Tensor:
        """`activation` of what the last operation made, which nothing else will ask for."""

    def max_pool(self, layer: Layer, x: Tensor, side: int) -> Tensor:
        """What it pads is never the largest."""

    def add(self, x: Tensor, other: Tensor, output: str) -> Tensor: ...

    def average(self, x: Tensor, output: str) -> Tensor:
        """Of a map over its pixels, [n, channels]."""

    def dense(self, x: Tensor, kernel: np.ndarray, bias: np.ndarray, output: str) -> Tensor: ...

    def hand_out(self, x: Tensor, is_map: bool) -> None:
        """Make a tensor the next output; maps as [n, h, w, c]."""

    def serialized(self) -> bytes:
        """The whole, as its engine reads it."""


class State(NamedTuple):
    """`jaxtl.models.network.Carry` in a graph: tensors that two layers hand on, and pixels a side."""

    x: Tensor
    skip: Tensor | None
    side: int
    skip_side: int


class Stretches:
    """Some stretches of a network, one after the other, and their outputs, in a graph.

    Args:
        graph: that nothing was added to yet.
        config: the network's.
        shape: of the uint8 images, [n, height, width, 1 or 3].
        images: how they become the network's input, its preprocessing settled.
    """

    def __init__(self, graph: Graph, config: NetworkConfig, shape: Sequence[int], images: Images) -> None:
        self._graph, self._config = graph, config
        self._numbers: dict[Tensor, int] = {}
        entered = graph.enter(self._resized(shape, images), images.preprocessing)
        self.state = State(entered, None, images.image_size, 0)

    def run(self, plan: Plan, arrays: Arrays) -> None:
        """Add what `jaxtl.models.folding.run` does."""
        for step, weights in zip(plan.steps, arrays, strict=True):
            self._step(step, {name: np.asarray(array) for name, array in weights.items()})

    def hand_out(self, tensor: Tensor, is_map: bool) -> int:
        """Make a tensor an output, maps as [n, h, w, c]; the output's number."""
        if tensor not in self._numbers:
            self._graph.hand_out(tensor, is_map)
            self._numbers[tensor] = len(self._numbers)
        return self._numbers[tensor]

    def average(self, tensor: Tensor) -> int:
        """Make the averages of a map over its pixels an output, [n, c]; the output's number."""
        return self.hand_out(self._graph.average(tensor, f"average/{len(self._numbers)}"), False)

    def _step(self, step: Step, arrays: dict[str, np.ndarray]) -> None:
        """As `jaxtl.models.network.advanced` has it."""
        layer, (x, skip, side, skip_side) = step.layer, self.state
        if layer.kind == "input":
            return
        if layer.kind == "add":
            x, skip = self._graph.add(x, skip, layer.name), None
        worked_on, size = (skip, skip_side) if layer.on_skip else (x, side)
        made = self._layer(layer, arrays, worked_on, size)
        if step.activation:
            made = self._graph.activated(step.activation, made, f"{layer.name}/{step.activation}")
        size = self._config.size_after(layer, size)
        if layer.on_skip:
            self.state = State(x, made, side, size)
        else:
            kept = (made, size) if step.saves else (skip, skip_side)
            self.state = State(made, kept[0], size, kept[1])

    def _layer(self, layer: Layer, arrays: dict[str, np.ndarray], x: Tensor, side: int) -> Tensor:
        graph, name = self._graph, layer.name
        if layer.kind == "add":
            return x
        if layer.kind in ("conv", "depthwise"):
            return graph.convolve(layer, arrays, x, side)
        if layer.kind == "bn":
            return graph.normalise(x, arrays["scale"], arrays["bias"], name)
        if layer.kind in ("relu", "relu6"):
            return graph.activation(layer.kind, x, name)
        if layer.kind == "maxpool":
            return graph.max_pool(layer, x, side)
        if layer.kind == "pad":
            before, after = self._config.pads_with(layer, side)
            return graph.surround(x, (before, before), (after, after), name)
        if layer.kind == "pool":
            return graph.average(x, name)
        if layer.kind == "dense":
            return graph.dense(x, arrays["kernel"], arrays["bias"], name)
        raise JaxtlError(f"layer {name}: a layer of kind {layer.kind} has no form for other engines here yet")

    def _resized(self, shape: Sequence[int], images: Images) -> Tensor:
        """From uint8 [n, height, width, c] to float32 maps, as `jaxtl.data.preprocess`."""
        graph, side = self._graph, images.image_size
        x = graph.values()
        if tuple(shape[1:3]) == (side, side):
            return x
        taken, place = placed(shape[1], shape[2], side, images.fit)
        if images.fit == "crop":
            x = graph.crop(x, taken)
        weights = averaging_matrix if images.antialias == "on" else interpolation_matrix
        x = graph.resize(x, weights(taken.height, place.height), weights(taken.width, place.width))
        if images.fit != "pad":
            return x
        below, right = side - place.top - place.height, side - place.left - place.width
        return graph.surround(x, (place.top, place.left), (below, right), "padded")
