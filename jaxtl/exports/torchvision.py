"""torchvision's names and forms of a network's arrays, for weights that go out and for those that come in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from jaxtl.models.layers import Layer, NetworkConfig

# For each kind of layer: our name of an array, PyTorch's, and the order of our axes in PyTorch's form.
_PARAMETERS = {
    "conv": {"kernel": ("weight", (3, 2, 0, 1))},
    "depthwise": {"depthwise_kernel": ("weight", (2, 3, 0, 1))},
    "bn": {
        "gamma": ("weight", (0,)),
        "beta": ("bias", (0,)),
        "moving_mean": ("running_mean", (0,)),
        "moving_variance": ("running_var", (0,)),
    },
    "dense": {"kernel": ("weight", (1, 0)), "bias": ("bias", (0,))},
}
# Metadata of the files that are exported: who made them, and the network's settings, by which they come back.
MADE_BY, SETTINGS = "jaxtl export", "settings"
_IN_BLOCK = re.compile(r"(?:expanded_conv|block_(?P<number>\d+))_(?P<part>[a-z]+?)(?P<bn>_BN)?")
# Module and its batch normalisation within a block; the first block has no expansion.
_FIRST = {"depthwise": ("0.0", "0.1"), "project": ("1", "2")}
_OTHERS = {"expand": ("0.0", "0.1"), "depthwise": ("1.0", "1.1"), "project": ("2", "3")}
_ENDS = {
    "Conv1": "features.0.0",
    "bn_Conv1": "features.0.1",
    "Conv_1": "features.18.0",
    "Conv_1_bn": "features.18.1",
    "predictions": "classifier.1",
}


def mobilenet_v2_modules(config: NetworkConfig) -> dict[str, str]:
    """torchvision's module for each of our layers that holds arrays, such as "features.1.conv.0.0"."""
    return named_modules(config.layers, _ENDS, _in_block)


def resnet_modules(config: NetworkConfig) -> dict[str, str]:
    """The same for a ResNet, whose names are torchvision's."""
    return {layer.name: layer.name for layer in config.layers if layer.parameters}


# By family, of those that torchvision has.
MODULES: dict[str, Callable[[NetworkConfig], dict[str, str]]] = {
    "mobilenet_v2": mobilenet_v2_modules,
    "resnet": resnet_modules,
}


def state_dict(config: NetworkConfig, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays as torchvision's network takes them in `load_state_dict`: float32, counters of batches at 0.

    Args:
        arrays: by our names, as `jaxtl.models.weights` has them.
    """
    names = torch_names(config.layers, MODULES[config.family](config))
    state = {
        theirs: np.ascontiguousarray(np.asarray(arrays[ours], np.float32).transpose(axes))
        for ours, (theirs, axes) in names.items()
    }
    norms = [name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean")]
    state |= {f"{name}.num_batches_tracked": np.array(0, np.int64) for name in norms}
    return dict(sorted(state.items()))


def _in_block(number: int, part: str, bn: bool) -> str:
    return f"features.{number + 1}.conv.{(_OTHERS if number else _FIRST)[part][bn]}"


def named_modules(
    layers: Iterable[Layer], ends: dict[str, str], in_block: Callable[[int, str, bool], str]
) -> dict[str, str]:
    """A library's module for each layer that holds arrays.

    Args:
        ends: of the layers outside the blocks.
        in_block: the module of a block's number, "expand", "depthwise" or "project", and whether it is the
            batch normalisation after that convolution.
    """
    modules = {}
    for layer in layers:
        if layer.parameters:
            match = _IN_BLOCK.fullmatch(layer.name)
            modules[layer.name] = (
                in_block(int(match["number"] or 0), match["part"], match["bn"] is not None)
                if match
                else ends[layer.name]
            )
    return modules


def torch_names(layers: Iterable[Layer], modules: dict[str, str]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """PyTorch's name, and the order of our axes in its form, for each of our arrays by its name."""
    return {
        f"{layer.name}/{key}": (f"{modules[layer.name]}.{name}", axes)
        for layer in layers
        if layer.parameters
        for key, (name, axes) in _PARAMETERS[layer.kind].items()
    }


def to_ours(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """An array in PyTorch's form in ours, whose `axes` are as of `torch_names`."""
    return np.ascontiguousarray(array.transpose(np.argsort(axes)))


def our_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that `to_ours` gives; one with another number of axes stays, to be refused."""
    return tuple(shape[k] for k in np.argsort(axes)) if len(shape) == len(axes) else shape
