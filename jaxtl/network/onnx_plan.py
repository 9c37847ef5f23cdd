"""Fused steps of a network as a graph of ONNX that begins with uint8 images, for other engines than JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxtl.data.resize import averaging_matrix, interpolation_matrix, placed
from jaxtl.errors import JaxtlError
from jaxtl.exports.onnx_graph import Graph
from jaxtl.models.folding import Arrays, Plan, Step
from jaxtl.models.layers import Layer, NetworkConfig
from jaxtl.settings import Images

PIXELS = "pixels"


class State(NamedTuple):
    """`jaxtl.models.network.Carry` in a graph: names of what two layers hand on, and pixels a side."""

    x: str
    skip: str | None
    side: int
    skip_side: int


class Stretches:
    """The graph of some stretches of a network, one after the other, and their outputs.

    Args:
        onnx: the package.
        config: the network's.
        shape: of the uint8 images, [n, height, width, 1 or 3].
        images: how they become the network's input, its preprocessing settled.
    """

    def __init__(self, onnx: Any, config: NetworkConfig, shape: Sequence[int], images: Images) -> None:
        self._graph, self._onnx, self._config = Graph(onnx, config), onnx, config
        self._shape, self._outputs = list(shape), 0
        pixels = self._resized(shape, images)
        # Not by broadcasting what scales them, which OpenVINO 2026.4 fuses into a convolution of one channel.
        pixels = self._graph.node("Concat", [pixels] * 3, "rgb", axis=1) if shape[3] == 1 else pixels
        entered = self._graph.rescale(pixels, images.preprocessing, "entered")
        self.state = State(entered, None, images.image_size, 0)

    def run(self, plan: Plan, arrays: Arrays) -> None:
        """Add what `jaxtl.models.folding.run` does."""
        for step, weights in zip(plan.steps, arrays, strict=True):
            self._step(step, {name: np.asarray(array) for name, array in weights.items()})

    def hand_out(self, tensor: str, is_map: bool) -> int:
        """Make a tensor the next output, maps as [n, h, w, c]; the output's number."""
        moved = ("Transpose", {"perm": [0, 2, 3, 1]}) if is_map else ("Identity", {})
        self._graph.node(moved[0], [tensor], str(self._outputs), **moved[1])
        self._outputs += 1
        return self._outputs - 1

    def average(self, tensor: str) -> int:
        """Make the averages of a map over its pixels the next output, [n, c]; the output's number."""
        average = self._graph.node("GlobalAveragePool", [tensor], f"average/{self._outputs}")
        return self.hand_out(self._graph.node("Flatten", [average], f"{average}/flat"), False)

    def serialized(self) -> bytes:
        """The model; its outputs are named "0", "1", ..."""
        names = {str(k): None for k in range(self._outputs)}
        return self._graph.model(PIXELS, "UINT8", self._shape, names).SerializeToString(deterministic=True)

    def _step(self, step: Step, arrays: dict[str, np.ndarray]) -> None:
        """As `jaxtl.models.network.advanced` has it."""
        layer, (x, skip, side, skip_side) = step.layer, self.state
        if layer.kind == "input":
            return
        if layer.kind == "add":
            x, skip = self._graph.node("Add", [x, skip], layer.name), None
        worked_on, size = (skip, skip_side) if layer.on_skip else (x, side)
        made = self._layer(layer, arrays, worked_on, size)
        if step.activation:
            made = self._graph.activation(step.activation, made, f"{layer.name}/{step.activation}")
        size = self._config.size_after(layer, size)
        if layer.on_skip:
            self.state = State(x, made, side, size)
        else:
            kept = (made, size) if step.saves else (skip, skip_side)
            self.state = State(made, kept[0], size, kept[1])

    def _layer(self, layer: Layer, arrays: dict[str, np.ndarray], x: str, side: int) -> str:
        graph, name = self._graph, layer.name
        if layer.kind == "add":
            return x
        if layer.kind in ("conv", "depthwise"):
            bias = graph.constant(f"{name}/bias", arrays["bias"]) if "bias" in arrays else None
            return graph.convolution(layer, arrays["kernel"], x, side, name, bias)
        if layer.kind == "bn":
            parts = (graph.constant(f"{name}/{key}", arrays[key][:, None, None]) for key in ("scale", "bias"))
            scale, bias = parts
            return graph.node("Add", [graph.node("Mul", [x, scale], f"{name}/scaled"), bias], name)
        if layer.kind in ("relu", "relu6"):
            return graph.activation(layer.kind, x, name)
        if layer.kind == "maxpool":
            return graph.node("MaxPool", [x], name, **graph.window(layer, side))
        if layer.kind == "pad":
            return graph.pad(layer, x, side, name)
        if layer.kind == "pool":
            return graph.node("Flatten", [graph.node("GlobalAveragePool", [x], f"{name}/map")], name)
        if layer.kind == "dense":
            kernel, bias = (graph.constant(f"{name}/{key}", arrays[key]) for key in ("kernel", "bias"))
            return graph.node("Gemm", [x, kernel, bias], name)
        raise JaxtlError(f"layer {name}: a layer of kind {layer.kind} has no form in ONNX here yet")

    def _resized(self, shape: Sequence[int], images: Images) -> str:
        """From uint8 [n, height, width, c] to float32 [n, c, side, side], as `jaxtl.data.preprocess`."""
        graph, side = self._graph, images.image_size
        whole = graph.node("Transpose", [PIXELS], "channels_first", perm=[0, 3, 1, 2])
        x = graph.node("Cast", [whole], "values", to=self._onnx.TensorProto.FLOAT)
        if tuple(shape[1:3]) == (side, side):
            return x
        taken, place = placed(shape[1], shape[2], side, images.fit)
        if images.fit == "crop":
            ends = taken.top + taken.height, taken.left + taken.width
            bounds = {"starts": (taken.top, taken.left), "ends": ends, "axes": (2, 3)}
            limits = [graph.constant(f"crop/{key}", np.array(at, np.int64)) for key, at in bounds.items()]
            x = graph.node("Slice", [x, *limits], "cropped")
        weights = averaging_matrix if images.antialias == "on" else interpolation_matrix
        down = graph.constant("down", weights(taken.height, place.height))
        across = graph.constant("across", np.ascontiguousarray(weights(taken.width, place.width).T))
        x = graph.node("MatMul", [graph.node("MatMul", [down, x], "rows"), across], "resized")
        # Weights of a pixel can sum to 1 + 1e-7.
        x = graph.node("Min", [x, graph.constant("white", np.float32(255))], "within")
        if images.fit != "pad":
            return x
        below, right = side - place.top - place.height, side - place.left - place.width
        return graph.surround(x, (place.top, place.left), (below, right), "padded")
