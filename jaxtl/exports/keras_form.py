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

from jaxtl.errors import JaxtlError, install
from jaxtl.exports.network import ExportedNetwork
from jaxtl.exports.shapes import entering
from jaxtl.models.layers import Layer, NetworkConfig
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


def write(network: ExportedNetwork, out: Path) -> list[Path]:
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


def _layers(network: ExportedNetwork) -> Iterator[_KerasLayer]:
    entries = entering(network)
    for layer in network.config.layers:
        layers, shape = entries[layer.name]
        if layer.kind == "input":
            yield from _scaling(network)
            continue
        # The running activation first: Keras numbers the arrays of layers that are equally far from the end
        # by the order in which it comes to them from there, which then is ours, a projection's last.
        takes = ["rescaling" if name == "input" else name for name in reversed(layers)]
        if width := _pads_around(network.config, layer):
            # Zeros before max pooling too: it follows a ReLU, so that they change no maximum.
            pad = f"{layer.name}_pad"
            yield _KerasLayer("ZeroPadding2D", pad, takes, [], shape, padding=[[width, width]] * 2)
            takes, shape = [pad], [shape[0] + 2 * width, shape[1] + 2 * width, shape[2]]
        yield _keras_layer(network, layer, takes, shape)


def _scaling(network: ExportedNetwork) -> Iterator[_KerasLayer]:
    """The input of pixels of 0 to 255, and what the network wants of them."""
    side = network.image_size
    yield _KerasLayer("InputLayer", "input", [], [], [], batch_shape=[None, side, side, 3], dtype="float32")
    mean, deviation = map(np.array, mean_and_deviation(network.preprocessing))
    scale, offset = _number(1 / (255 * deviation)), _number(-mean / deviation)
    yield _KerasLayer("Rescaling", "rescaling", ["input"], [], [side, side, 3], scale=scale, offset=offset)


def _pads_around(config: NetworkConfig, layer: Layer) -> int:
    """Pixels on every side that a layer of its own pads, where Keras's strided one itself would not."""
    strided = layer.kind in ("conv", "maxpool") and layer.stride > 1
    return layer.kernel_size // 2 if strided and config.padding == "symmetric" else 0


def _number(values: np.ndarray) -> float | list[float]:
    return float(values[0]) if len(set(values.tolist())) == 1 else values.tolist()


def _keras_layer(network: ExportedNetwork, layer: Layer, takes: list[str], shape: list[int]) -> _KerasLayer:
    """One of our layers as Keras's, which takes a [h, w, c] of `shape`."""
    config, name, arrays = network.config, layer.name, list(network.of(layer).values())
    strides = {"strides": [layer.stride] * 2, "padding": "same" if _pads_itself(config, layer) else "valid"}
    if layer.kind in ("conv", "depthwise"):
        kind = "Conv2D" if layer.kind == "conv" else "DepthwiseConv2D"
        size = {"kernel_size": [layer.kernel_size] * 2, "use_bias": False}
        filters = {"filters": layer.channels} if layer.kind == "conv" else {}
        return _KerasLayer(kind, name, takes, arrays, shape, **strides, **size, **filters)
    if layer.kind == "maxpool":
        size = {"pool_size": [layer.kernel_size] * 2}
        return _KerasLayer("MaxPooling2D", name, takes, arrays, shape, **strides, **size)
    if layer.kind == "bn":
        how = {"axis": -1, "epsilon": config.bn_epsilon, "momentum": config.bn_momentum}
        return _KerasLayer("BatchNormalization", name, takes, arrays, shape, **how)
    if layer.kind in ("relu", "relu6"):
        most = 6.0 if layer.kind == "relu6" else None
        return _KerasLayer("ReLU", name, takes, arrays, shape, max_value=most)
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


def _pads_itself(config: NetworkConfig, layer: Layer) -> bool:
    """Whether Keras's layer is to pad; else there is nothing to pad, or a layer before it has padded."""
    return layer.pads and (layer.stride == 1 or config.padding == "keras")


def _model(layers: list[_KerasLayer], network: ExportedNetwork) -> dict[str, Any]:
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "registered_name": "Functional",
        "config": {
            "name": network.config.name,
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
        raise JaxtlError(f"Keras files are written by h5py: {install('convert')}") from None
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
