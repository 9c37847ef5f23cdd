"""A network as a `.keras` archive, with Keras's names and layers, written without Keras.

A `.keras` file is a zip of the model's layers as JSON, its weights as HDF5, and a note of the version. Pixels
of 0 to 255 enter, since a Rescaling layer is the model's first.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.exports.network import Network
from jaxtl.exports.shapes import input_shapes
from jaxtl.models.layers import Layer
from jaxtl.records.files import replacing
from jaxtl.settings import mean_and_deviation

# Whose form of a model this is: the oldest version that reads it, for all that is known.
_VERSION = "3.0.0"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_STORED_AS = {
    "Conv2D": "conv2d",
    "DepthwiseConv2D": "depthwise_conv2d",
    "BatchNormalization": "batch_normalization",
    "Dense": "dense",
}


def write(network: Network, out: Path) -> list[Path]:
    """Write OUT.keras. Raises JaxtlError where h5py is not installed."""
    layers = list(_layers(network))
    members = {
        "metadata.json": json.dumps({"keras_version": _VERSION, "date_saved": ""}).encode(),
        "config.json": json.dumps(_model(layers, network)).encode(),
        "model.weights.h5": _weights(layers),
    }
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return [out]


class _KerasLayer:
    """A layer as Keras describes it: class, settings, the layers it takes, and its arrays in order."""

    def __init__(
        self,
        kind: str,
        name: str,
        takes: list[str],
        arrays: list[np.ndarray],
        shape: list[int],
        **settings: Any,
    ) -> None:
        self.kind, self.name, self.takes, self.arrays, self.shape = kind, name, takes, arrays, shape
        self.settings = settings


def _layers(network: Network) -> Iterator[_KerasLayer]:
    last, shapes = "input", input_shapes(network)
    for layer in network.config.layers:
        taken, shape = [last], shapes[layer.name]
        if layer.kind == "input":
            side = network.image_size
            yield _KerasLayer(
                "InputLayer", "input", [], [], [], batch_shape=[None, side, side, 3], dtype="float32"
            )
            mean, deviation = map(np.array, mean_and_deviation(network.preprocessing))
            yield _KerasLayer(
                "Rescaling",
                "rescaling",
                ["input"],
                [],
                [side, side, 3],
                scale=_number(1 / (255 * deviation)),
                offset=_number(-mean / deviation),
            )
            last = "rescaling"
            continue
        if layer.kind == "conv" and layer.stride == 2 and network.config.padding == "symmetric":
            yield _KerasLayer("ZeroPadding2D", "Conv1_pad", taken, [], shape, padding=[[1, 1], [1, 1]])
            taken, shape = ["Conv1_pad"], [shape[0] + 2, shape[1] + 2, shape[2]]
        if layer.adds:
            taken = [layer.adds, last]
        yield _keras_layer(network, layer, taken, shape)
        last = layer.name


def _number(values: np.ndarray) -> float | list[float]:
    return float(values[0]) if len(set(values.tolist())) == 1 else values.tolist()


def _keras_layer(network: Network, layer: Layer, takes: list[str], shape: list[int]) -> _KerasLayer:
    """One of our layers as Keras's, which takes a [h, w, c] of `shape`."""
    config, name, arrays = network.config, layer.name, list(network.of(layer).values())
    if layer.kind in ("conv", "depthwise"):
        kind = "Conv2D" if layer.kind == "conv" else "DepthwiseConv2D"
        size = {"kernel_size": [layer.kernel_size] * 2, "strides": [layer.stride] * 2, "use_bias": False}
        # Before a depthwise convolution of stride 2 there is a layer that pads.
        own = layer.stride == 1 or (layer.kind == "conv" and config.padding == "keras")
        filters = {"filters": layer.channels} if layer.kind == "conv" else {}
        return _KerasLayer(
            kind, name, takes, arrays, shape, padding="same" if own else "valid", **size, **filters
        )
    if layer.kind == "bn":
        how = {"axis": -1, "epsilon": config.bn_epsilon, "momentum": config.bn_momentum}
        return _KerasLayer("BatchNormalization", name, takes, arrays, shape, **how)
    if layer.kind == "relu6":
        return _KerasLayer("ReLU", name, takes, arrays, shape, max_value=6.0)
    if layer.kind == "pad":
        padding = [list(sides) for sides in (config.pads_with(layer, size) for size in shape[:2])]
        return _KerasLayer("ZeroPadding2D", name, takes, arrays, shape, padding=padding)
    if layer.kind == "add":
        return _KerasLayer("Add", name, takes, arrays, shape)
    if layer.kind == "pool":
        return _KerasLayer("GlobalAveragePooling2D", name, takes, arrays, shape)
    if layer.kind == "dense":
        how = {"units": layer.channels, "activation": "softmax"}
        return _KerasLayer("Dense", name, takes, arrays, shape, **how)
    raise JaxtlError(f"layer {name}: a layer of kind {layer.kind} has no form in Keras's files yet")


def _model(layers: list[_KerasLayer], network: Network) -> dict[str, Any]:
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "registered_name": "Functional",
        "config": {
            "name": "mobilenet_v2",
            "trainable": True,
            "layers": [_described(layer) for layer in layers],
            "input_layers": [[layers[0].name, 0, 0]],
            "output_layers": [[layers[-1].name, 0, 0]],
        },
        "build_config": {"input_shape": None},
    }


def _described(layer: _KerasLayer) -> dict[str, Any]:
    tensors = [_tensor(name, layer.shape) for name in layer.takes]
    arguments = [tensors] if layer.kind == "Add" else tensors
    described = {
        "module": "keras.layers",
        "class_name": layer.kind,
        "config": {"name": layer.name, **layer.settings},
        "registered_name": None,
        "name": layer.name,
        "inbound_nodes": [{"args": arguments, "kwargs": {}}] if layer.takes else [],
    }
    shape = [None, *layer.shape]
    built = {"input_shape": [shape, shape] if layer.kind == "Add" else shape}
    return {**described, "build_config": built} if layer.takes else described


def _tensor(name: str, shape: list[int]) -> dict[str, Any]:
    settings = {"shape": [None, *shape], "dtype": "float32", "keras_history": [name, 0, 0]}
    return {"class_name": "__keras_tensor__", "config": settings}


def _weights(layers: list[_KerasLayer]) -> bytes:
    """Keras 3 counts layers by class, and an array's place in its layer; it notes each layer's own name."""
    try:
        import h5py
    except ImportError:
        raise JaxtlError('Keras files are written by h5py: pip install "jaxtl[convert]"') from None
    stream, counts = io.BytesIO(), Counter[str]()
    with h5py.File(stream, "w", track_order=False) as file:
        for layer in layers:
            if layer.arrays:
                kind = _STORED_AS[layer.kind]
                place = f"layers/{kind}_{counts[kind]}" if counts[kind] else f"layers/{kind}"
                counts[kind] += 1
                group = file.create_group(f"{place}/vars")
                group.attrs["name"] = layer.name
                for number, array in enumerate(layer.arrays):
                    group[str(number)] = array
    return stream.getvalue()
