"""A network as a file of ONNX: pixels of 0 to 255 [n, 3, h, w] to pooled features, and probabilities.

Every padding is written out for the network's image size, so that no reader has a rule of its own to apply.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError, install
from jaxtl.exports.network import ExportedNetwork
from jaxtl.exports.onnx_graph import Graph
from jaxtl.exports.shapes import entering
from jaxtl.models.layers import Layer
from jaxtl.models.network import ACTIVATIONS
from jaxtl.records.files import replacing

PIXELS, FEATURES, PROBABILITIES = "pixels", "features", "probabilities"


def write(network: ExportedNetwork, out: Path) -> list[Path]:
    """Write OUT.onnx. Raises JaxtlError where the package onnx is not installed."""
    try:
        import onnx
    except ImportError:
        raise JaxtlError(f"ONNX is written by the package onnx: {install('onnx')}") from None
    model = _model(onnx, network)
    onnx.checker.check_model(model, full_check=True)
    with replacing(out) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return [out]


def _model(onnx: Any, network: ExportedNetwork) -> Any:
    config, side, graph = network.config, network.image_size, Graph(onnx, network.config)
    graph.rescale(PIXELS, network.preprocessing, "input")
    entries = entering(network)
    for layer in config.layers:
        if layer.kind != "input":
            layers, (size, *_) = entries[layer.name]
            _add(graph, network, layer, layers, size)
    ends = {FEATURES: config.features} | ({PROBABILITIES: config.classes} if config.classes else {})
    outputs = {name: ["n", size] for name, size in ends.items()}
    model = graph.model(PIXELS, "FLOAT", ["n", 3, side, side], outputs)
    names = "\n".join(network.class_names)
    notes = {"origin": network.origin, "preprocessing": network.preprocessing, "class_names": names}
    onnx.helper.set_model_props(model, notes)
    return model


def _add(graph: Graph, network: ExportedNetwork, layer: Layer, layers: tuple[str, ...], side: int) -> str:
    """A layer on the outputs of `layers`, maps of so many pixels a side."""
    arrays, name = network.of(layer), layer.name
    x = FEATURES if layer.kind == "dense" else layers[-1]
    if layer.kind in ("conv", "depthwise"):
        (kernel,) = arrays.values()
        return graph.convolution(layer, kernel, x, side, name)
    if layer.kind == "bn":
        inputs = [graph.constant(f"{name}/{key}", array) for key, array in arrays.items()]
        return graph.node("BatchNormalization", [x, *inputs], name, epsilon=network.config.bn_epsilon)
    if layer.kind in ACTIVATIONS:
        return graph.activation(layer.kind, x, name)
    if layer.kind == "maxpool":
        return graph.node("MaxPool", [x], name, **graph.window(layer, side))
    if layer.kind == "pad":
        return graph.pad(layer, x, side, name)
    if layer.kind == "add":
        return graph.node("Add", list(layers), name)
    if layer.kind == "pool":
        return graph.node("Flatten", [graph.node("GlobalAveragePool", [x], name)], FEATURES)
    if layer.kind == "dense":
        kernel, bias = (graph.constant(f"{name}/{key}", array) for key, array in arrays.items())
        return graph.node("Softmax", [graph.node("Gemm", [x, kernel, bias], name)], PROBABILITIES, axis=1)
    raise JaxtlError(f"layer {name}: a layer of kind {layer.kind} has no form in ONNX here yet")
