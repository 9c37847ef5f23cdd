"""A network as an ONNX graph: pixels of 0 to 255 [n, 3, h, w] to pooled features, and probabilities.

Every padding is written out for the network's image size, so that no reader has a rule of its own to apply.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError, install
from jaxtl.exports.network import ExportedNetwork
from jaxtl.exports.shapes import entering, explicit_padding
from jaxtl.models.layers import Layer
from jaxtl.records.files import replacing
from jaxtl.settings import mean_and_deviation

# Old enough for every runtime in use; Clip has its bounds as inputs since 11, Pad likewise.
_OPSET, _IR = 13, 8
PIXELS, FEATURES, PROBABILITIES = "pixels", "features", "probabilities"


def write(network: ExportedNetwork, out: Path) -> list[Path]:
    """Write OUT.onnx. Raises JaxtlError where the package onnx is not installed."""
    try:
        import onnx
    except ImportError:
        raise JaxtlError(f"ONNX is written by the package onnx: {install('onnx')}") from None
    model = _Graph(onnx, network).model()
    onnx.checker.check_model(model, full_check=True)
    with replacing(out) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return [out]


class _Graph:
    """Nodes and constants as they are added, layer by layer."""

    def __init__(self, onnx: Any, network: ExportedNetwork) -> None:
        self._onnx, self._network = onnx, network
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._entries = entering(network)

    def model(self) -> Any:
        helper, config = self._onnx.helper, self._network.config
        kind, side = self._onnx.TensorProto.FLOAT, self._network.image_size
        self._rescale()
        for layer in config.layers:
            if layer.kind != "input":
                self._add(layer)
        pixels = helper.make_tensor_value_info(PIXELS, kind, ["n", 3, side, side])
        ends = {FEATURES: config.features} | ({PROBABILITIES: config.classes} if config.classes else {})
        outputs = [helper.make_tensor_value_info(name, kind, ["n", size]) for name, size in ends.items()]
        graph = helper.make_graph(self._nodes, config.name, [pixels], outputs, self._constants)
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR, producer_name="jaxtl")
        helper.set_model_props(model, self._notes())
        return model

    def _notes(self) -> dict[str, str]:
        network = self._network
        names = "\n".join(network.class_names)
        return {"origin": network.origin, "preprocessing": network.preprocessing, "class_names": names}

    def _constant(self, name: str, values: Any) -> str:
        self._constants.append(self._onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def _node(self, operation: str, inputs: list[str], output: str, **attributes: Any) -> str:
        node = self._onnx.helper.make_node(operation, inputs, [output], name=output, **attributes)
        self._nodes.append(node)
        return output

    def _rescale(self) -> str:
        mean, deviation = (np.array(v) for v in mean_and_deviation(self._network.preprocessing))
        scale, offset = (
            self._constant(name, values.astype(np.float32).reshape(1, 3, 1, 1))
            for name, values in (("scale", 1 / (255 * deviation)), ("offset", -mean / deviation))
        )
        return self._node("Add", [self._node("Mul", [PIXELS, scale], "scaled"), offset], "input")

    def _add(self, layer: Layer) -> str:
        arrays, name = self._network.of(layer), layer.name
        layers, (side, *_) = self._entries[name]
        x = FEATURES if layer.kind == "dense" else layers[-1]
        if layer.kind in ("conv", "depthwise"):
            return self._convolution(layer, arrays, x, side)
        if layer.kind == "bn":
            inputs = [self._constant(f"{name}/{key}", array) for key, array in arrays.items()]
            return self._node(
                "BatchNormalization", [x, *inputs], name, epsilon=self._network.config.bn_epsilon
            )
        if layer.kind == "relu":
            return self._node("Relu", [x], name)
        if layer.kind == "maxpool":
            return self._node("MaxPool", [x], name, **self._window(layer, side))
        if layer.kind == "relu6":
            bounds = [self._constant(f"{name}/{end}", np.float32(v)) for end, v in (("low", 0), ("high", 6))]
            return self._node("Clip", [x, *bounds], name)
        if layer.kind == "pad":
            before, after = self._network.config.pads_with(layer, side)
            pads = np.array([0, 0, before, before, 0, 0, after, after], np.int64)
            return self._node("Pad", [x, self._constant(f"{name}/pads", pads)], name)
        if layer.kind == "add":
            return self._node("Add", list(layers), name)
        if layer.kind == "pool":
            return self._node("Flatten", [self._node("GlobalAveragePool", [x], name)], FEATURES)
        if layer.kind == "dense":
            kernel, bias = (self._constant(f"{name}/{key}", array) for key, array in arrays.items())
            return self._node("Softmax", [self._node("Gemm", [x, kernel, bias], name)], PROBABILITIES, axis=1)
        raise JaxtlError(f"layer {name}: a layer of kind {layer.kind} has no form in ONNX here yet")

    def _convolution(self, layer: Layer, arrays: dict[str, np.ndarray], x: str, side: int) -> str:
        ((key, kernel),) = arrays.items()
        axes = (3, 2, 0, 1) if layer.kind == "conv" else (2, 3, 0, 1)
        weights = self._constant(f"{layer.name}/{key}", np.ascontiguousarray(kernel.transpose(axes)))
        groups = 1 if layer.kind == "conv" else layer.channels_in
        return self._node("Conv", [x, weights], layer.name, **self._window(layer, side), group=groups)

    def _window(self, layer: Layer, side: int) -> dict[str, list[int]]:
        """How a convolution or max pooling goes over its input; ONNX pads pooling with minus infinity."""
        before, after = explicit_padding(self._network.config, layer, side)
        return {
            "kernel_shape": [layer.kernel_size] * 2,
            "strides": [layer.stride] * 2,
            "pads": [before, before, after, after],
        }
