"""torchvision's ResNets: which of their tensors are which of ours, in both directions, as functions of names.

torchvision and timm name the tensors of ResNet-18 to -152 alike: `conv1.weight`, `bn1.running_mean`,
`layer1.0.downsample.0.weight`, `fc.bias`. A network may stand within another, as in `backbone.conv1.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.models.layers import Layer
from jaxtl.models.resnet import DEPTHS, ResNetConfig
from jaxtl.models.weights import check_fit

# Our names of a layer's arrays, and torch's.
_KEYS = {
    "conv": {"kernel": "weight"},
    "dense": {"kernel": "weight", "bias": "bias"},
    "bn": {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
}
# Axes of ours among torch's [out, in, height, width] and [out, in], and the other way.
_TO_OURS, _TO_TORCH = {4: (2, 3, 1, 0), 2: (1, 0)}, {4: (3, 2, 0, 1), 2: (1, 0)}
# How many batches a normalisation has seen, which nothing depends on.
_COUNTER = "num_batches_tracked"
# Names that every ResNet has, and hardly another network.
_SIGNS = ("layer1.0.conv1.weight", "conv1.weight", "bn1.weight", "layer4.0.conv1.weight")
_STAGE = re.compile(r"layer([1-4])\.(\d{1,3})\.conv(\d)\.weight")


def prefixes(names: Iterable[str]) -> list[str]:
    """What stands before the names of each ResNet among some tensors' names, "" for one by itself.

    None for other networks, so that a checkpoint's family can be told.
    """
    known = set(names)
    ends = [name.removesuffix(_SIGNS[0]) for name in known if name.endswith(_SIGNS[0])]
    return sorted(prefix for prefix in ends if {prefix + sign for sign in _SIGNS} <= known)


def config_of(shapes: Mapping[str, tuple[int, ...]], where: str) -> ResNetConfig:
    """The network that tensors of torchvision's names belong to, from their names and shapes.

    Raises:
        JaxtlError: they are of no ResNet that jaxtl has, such as ResNeXt, Wide ResNet or one with attention.
    """
    if "" not in prefixes(shapes):
        raise JaxtlError(
            f"{where}: holds no ResNet of torchvision (conv1.weight, layer1.0.conv1.weight, ...)"
        )
    found = [match.groups() for match in map(_STAGE.fullmatch, shapes) if match]
    repeats = tuple(len({block for stage, block, _ in found if stage == str(n)}) for n in range(1, 5))
    bottleneck = any(number == "3" for *_, number in found)
    depths = [depth for depth, known in DEPTHS.items() if known == (repeats, 4 if bottleneck else 1)]
    if not depths:
        raise JaxtlError(
            f"{where}: a ResNet of {' + '.join(map(str, repeats))} blocks, which is none of "
            f"{', '.join(map(str, DEPTHS))} layers"
        )
    width, _, kernel = shapes["conv1.weight"][:3]
    head = {name for name in shapes if name.startswith("fc.")}
    classes = shapes["fc.weight"][0] if head == {"fc.weight", "fc.bias"} else None
    if classes is not None and classes < 2:
        classes = None
    return ResNetConfig(depth=depths[0], width=width / 64, classes=classes, stem_kernel=kernel)


def from_torchvision(
    tensors: Mapping[str, np.ndarray], where: str = "weights", head: bool | None = None
) -> tuple[ResNetConfig, dict[str, np.ndarray]]:
    """A ResNet and its arrays from torchvision's tensors.

    Args:
        tensors: float arrays by torchvision's names, such as those of `model.state_dict()`, perhaps all after
            one prefix. Counters of batches are passed over, and what has another prefix.
        where: what holds them, for messages.
        head: True asks for the softmax head, `fc`, and False for none; None keeps one that is a single linear
            layer. Whether it was kept is told by `classes` of the network.

    Returns:
        The network, and float32 arrays by our names, such as "layer1.0.conv1/kernel".

    Raises:
        JaxtlError: another network, several of them, no head where one is asked for, or tensors that are
            missing, left over or misshapen, all on one line.
    """
    places = prefixes(tensors)
    if len(places) > 1:
        raise JaxtlError(
            f"{where}: holds {len(places)} ResNets ({', '.join(places)}); save one of them alone"
        )
    prefix = places[0] if places else ""
    given = {
        name.removeprefix(prefix): array
        for name, array in tensors.items()
        if name.startswith(prefix) and not name.endswith(_COUNTER)
    }
    config = config_of({name: np.shape(array) for name, array in given.items()}, where)
    if head is False or config.classes is None:
        if head:
            raise JaxtlError(f"{where}: has no head that is one linear layer (fc.weight, fc.bias)")
        given = {name: array for name, array in given.items() if not name.startswith(f"{config.head}.")}
        config = replace(config, classes=None)
    names = torchvision_names(config)
    theirs = {name: ours for ours, name in names.items()}
    arrays = {theirs.get(name, name): _transposed(array, _TO_OURS) for name, array in given.items()}
    # Under our names, so that what is wrong is told as for any other weights.
    check_fit(config, arrays, where)
    return config, arrays


def to_torchvision(config: ResNetConfig, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors as `torchvision.models.resnet18().load_state_dict` takes them, counters of batches at 0."""
    names = torchvision_names(config)
    tensors = {name: _transposed(arrays[ours], _TO_TORCH) for ours, name in names.items()}
    counters = (layer.name for layer in config.layers if layer.kind == "bn")
    return {**tensors, **{f"{name}.{_COUNTER}": np.zeros((), np.int64) for name in counters}}


def torchvision_names(config: ResNetConfig) -> dict[str, str]:
    """torchvision's name of every array, by ours."""
    return dict(pair for layer in config.layers for pair in _names(layer))


def _names(layer: Layer) -> Iterator[tuple[str, str]]:
    for key in layer.parameters:
        yield f"{layer.name}/{key}", f"{layer.name}.{_KEYS[layer.kind][key]}"


def _transposed(array: np.ndarray, axes: Mapping[int, tuple[int, ...]]) -> np.ndarray:
    array = np.asarray(array, np.float32)
    return np.ascontiguousarray(array.transpose(axes[array.ndim]) if array.ndim in axes else array)
