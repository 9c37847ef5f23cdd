"""What a Keras model does to pixels before its backbone: Rescaling, Normalization, and plain arithmetic."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxtl.settings import spelled
from weights_convert.hdf5 import Tensor

SAYS_NOTHING = (
    "the file does not say how pixels are scaled; Keras's own weights were trained with --preprocessing keras"
)
# These leave an image as it is once the model is trained, or change its size alone.
_IDLE = (
    "InputLayer",
    "Random",
    "Dropout",
    "SpatialDropout",
    "GaussianNoise",
    "Resizing",
    "CenterCrop",
)
_MODELS = ("Functional", "Sequential", "Model")
_OPERATIONS = {
    "TrueDivide": "/",
    "Divide": "/",
    "Multiply": "*",
    "Subtract": "-",
    "Add": "+",
    "math.truediv": "/",
    "math.divide": "/",
    "math.multiply": "*",
    "math.subtract": "-",
    "math.add": "+",
    "__operators__.add": "+",
}


class _Unknown(Exception):
    """A layer before the backbone whose effect on pixels is not known; its text names it."""


def find_preprocessing(
    model_config: str | None, first: str, tensors: Mapping[str, Tensor]
) -> tuple[str | None, str | None]:
    """What a model's own layers want of pixels, as in `jaxtl.Images`, and a line for the user.

    Args:
        model_config: JSON, None where a file holds weights alone.
        first: name of the backbone's first layer.
        tensors: of the file, where an adapted Normalization keeps its mean and variance.

    Returns:
        None and a reason where the layers do not say, or do what no mean and deviation can do.
    """
    if model_config is None:
        return None, None
    try:
        scale, offset = np.ones(3), np.zeros(3)
        with np.errstate(all="ignore"):  # what becomes infinite is seen below
            for layer in _layers_before(first, json.loads(model_config)):
                factor, shift = _affine(layer, tensors)
                scale, offset = scale * factor, offset * factor + shift
    except _Unknown as error:
        return (
            None,
            f"{error} before the backbone is not understood; say --preprocessing, if it scales pixels",
        )
    except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError, RecursionError):
        return None, None  # a description of another form than Keras's says nothing
    if np.allclose(scale, 1) and np.allclose(offset, 0):
        return None, None
    with np.errstate(all="ignore"):
        deviation = 1 / (255 * scale)
        mean = -offset * deviation
    if not (np.isfinite(mean).all() and np.isfinite(deviation).all() and (deviation > 0).all()):
        return None, (
            "the layers before the backbone turn pixels round, or beyond all numbers; say --preprocessing"
        )
    name = spelled(tuple(map(float, mean)), tuple(map(float, deviation)))
    return name, f"preprocessing {name}, as the file's own layers before the backbone do it"


def _layers_before(first: str, model: Any) -> list[dict[str, Any]]:
    """The layers of a model's description that an image passes before the backbone."""
    layers = []
    for layer in _flattened(model):
        if layer["config"].get("name") == first:
            return layers
        layers.append(layer)
    return []


def _flattened(model: Any) -> Iterator[dict[str, Any]]:
    for layer in model["config"]["layers"]:
        if layer["class_name"] in _MODELS:
            yield from _flattened(layer)
        else:
            yield layer


def _affine(layer: dict[str, Any], tensors: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """What a layer multiplies R, G and B by, and then adds."""
    kind, config = layer["class_name"], layer["config"]
    if kind.startswith(_IDLE):
        return np.ones(3), np.zeros(3)
    if kind == "Rescaling":
        return _three(config["scale"]), _three(config.get("offset", 0.0))
    if kind == "Normalization" and not config.get("invert"):
        mean, variance = _moments(config, tensors)
        deviation = np.maximum(np.sqrt(variance), 1e-7)
        return 1 / deviation, -mean / deviation
    sign = _OPERATIONS.get(config.get("function", kind))
    number = _operand(layer.get("inbound_nodes"))
    if sign is None or number is None:
        raise _Unknown(f"layer {config.get('name')} ({kind})")
    return {
        "/": lambda: (np.full(3, 1 / number), np.zeros(3)),
        "*": lambda: (np.full(3, number), np.zeros(3)),
        "-": lambda: (np.ones(3), np.full(3, -number)),
        "+": lambda: (np.ones(3), np.full(3, number)),
    }[sign]()


def _moments(config: dict[str, Any], tensors: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    if config.get("mean") is not None:
        return _three(config["mean"]), _three(config["variance"])
    # Adapted: in Keras 3 the layer's variables are numbered, before they have names.
    name, pair = config["name"], {}
    for path, tensor in tensors.items():
        *_, above, last = ("", "", *path.split("/"))
        owner = tensor.label or (path.split("/")[-3:][0] if above == "vars" else above)
        key = {"0": "mean", "1": "variance"}.get(last, last.removesuffix(":0"))
        if owner == name and key in ("mean", "variance"):
            pair[key] = _three(tensor.read(path))
    if len(pair) != 2:
        raise _Unknown(f"layer {name} (Normalization without a mean)")
    return pair["mean"], pair["variance"]


def _three(value: Any) -> np.ndarray:
    """A number for all of R, G and B, or one for each."""
    if isinstance(value, dict):  # an array as Keras 3 writes it
        value = value["config"]["value"]
    numbers = np.asarray(value, np.float64).reshape(-1)
    if len(numbers) not in (1, 3):
        raise _Unknown("a scaling of another number of channels")
    return np.broadcast_to(numbers, 3)


def _operand(nodes: Any) -> float | None:
    """The one number that an operation is called with besides its input."""
    numbers, pending = [], [nodes]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if item.get("class_name") == "__keras_tensor__":
                continue
            # Keras 2 has {"y": 127.5, "name": null} at the end of a node [layer, 0, 0, {...}].
            pending += [v for k, v in item.items() if k in ("args", "kwargs", "x1", "x2", "x", "y")]
        elif isinstance(item, list):
            is_node = len(item) > 3 and isinstance(item[0], str)
            pending += item[3:] if is_node else item
        elif isinstance(item, float | int) and not isinstance(item, bool):
            numbers.append(float(item))
    return numbers[0] if len(numbers) == 1 else None
