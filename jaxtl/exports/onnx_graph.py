"""The parts of a graph of ONNX: nodes and constants as they are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxtl.models.layers import Layer, NetworkConfig
from jaxtl.settings import mean_and_deviation

# Old enough for every runtime in use; Clip has its bounds as inputs since 11, Pad likewise.
_OPSET, _IR = 13, 8


class Graph:
    """Nodes and constants; activations are [n, c, h, w].

    Args:
        onnx: the package, which whoever makes a graph imports.
        config: the network's.
    """

    def __init__(self, onnx: Any, config: NetworkConfig) -> None:
        self._onnx, self._config = onnx, config
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def model(self, name: str, kind: str, shape: Sequence[int | str], outputs: Mapping[str, Any]) -> Any:
        """A model with one input of a kind, such as "FLOAT", and float32 outputs of these names and shapes;
        a shape of None is left to the reader."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        pixels = helper.make_tensor_value_info(name, getattr(kinds, kind), shape)
        ends = [helper.make_tensor_value_info(end, kinds.FLOAT, size) for end, size in outputs.items()]
        graph = helper.make_graph(self._nodes, self._config.name, [pixels], ends, self._constants)
        opset = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=_IR, producer_name="jaxtl")

    def constant(self, name: str, values: Any) -> str:
        self._constants.append(self._onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, operation: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        node = self._onnx.helper.make_node(operation, inputs, [output], name=output, **attributes)
        self._nodes.append(node)
        return output

    def rescale(self, pixels: str, preprocessing: str, output: str) -> str:
        """Pixels of 0 to 255 as a preprocessing of `jaxtl.Images` wants them."""
        mean, deviation = (np.array(v) for v in mean_and_deviation(preprocessing))
        scale, offset = (
            self.constant(name, values.astype(np.float32).reshape(1, 3, 1, 1))
            for name, values in (("scale", 1 / (255 * deviation)), ("offset", -mean / deviation))
        )
        return self.node("Add", [self.node("Mul", [pixels, scale], "scaled"), offset], output)

    def convolution(
        self, layer: Layer, kernel: np.ndarray, x: str, side: int, output: str, bias: str | None = None
    ) -> str:
        """A "conv" or "depthwise" layer on a map of so many pixels a side; `kernel` in Keras's layout."""
        (key,) = layer.parameters
        axes = (3, 2, 0, 1) if layer.kind == "conv" else (2, 3, 0, 1)
        weights = self.constant(f"{layer.name}/{key}", np.ascontiguousarray(kernel.transpose(axes)))
        groups = 1 if layer.kind == "conv" else layer.channels_in
        inputs = [x, weights, *([bias] if bias else [])]
        return self.node("Conv", inputs, output, **self.window(layer, side), group=groups)

    def window(self, layer: Layer, side: int) -> dict[str, list[int]]:
        """How a convolution or max pooling goes over its input; ONNX pads pooling with minus infinity."""
        before, after = self._config.pads_with(layer, side) if layer.pads else (0, 0)
        return {
            "kernel_shape": [layer.kernel_size] * 2,
            "strides": [layer.stride] * 2,
            "pads": [before, before, after, after],
        }

    def activation(self, kind: str, x: str, output: str) -> str:
        """One of `jaxtl.models.network.ACTIVATIONS`."""
        if kind == "relu":
            return self.node("Relu", [x], output)
        bounds = [self.constant(f"{output}/{end}", np.float32(v)) for end, v in (("low", 0), ("high", 6))]
        return self.node("Clip", [x, *bounds], output)

    def pad(self, layer: Layer, x: str, side: int, output: str) -> str:
        """A "pad" layer on a map of so many pixels a side."""
        before, after = self._config.pads_with(layer, side)
        return self.surround(x, (before, before), (after, after), output)

    def surround(self, x: str, before: tuple[int, int], after: tuple[int, int], output: str) -> str:
        """Zeros above and left, and below and right."""
        pads = np.array([0, 0, *before, 0, 0, *after], np.int64)
        return self.node("Pad", [x, self.constant(f"{output}/pads", pads)], output)
