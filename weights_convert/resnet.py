"""ResNet as torchvision, timm and transformers name it and compute it.

torchvision and timm name the tensors of ResNet-18 to -152 alike, and so do we. Relatives share many of these
names: ResNeXt, Wide ResNet, and networks with attention are told apart and refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.exports.torchvision import resnet_modules
from jaxtl.models.resnet import DEPTHS, ResNetConfig
from weights_convert.layout import Layout, Shapes, check_fixed, told_by_processor, told_by_timm

# What the first layers do, which no tensor tells: networks for ImageNet's images, and for CIFAR's of 32x32.
STEMS: dict[str, dict[str, Any]] = {
    "imagenet": {"stem_stride": 2, "stem_pool": True},
    "cifar": {"stem_stride": 1, "stem_pool": False},
}
_STAGE = re.compile(r"layer([1-4])\.(\d{1,3})\.conv(\d)\.weight")
_BLOCK = re.compile(r"layer(?P<stage>[1-4])\.(?P<block>\d+)\.(?P<part>conv|bn|downsample\.)(?P<number>\d)")
_INSTEAD = "; compute its features with its own library and give them to jaxtl compare"


def _transformers_modules(config: ResNetConfig) -> dict[str, str]:
    return {name: _transformers_module(name) for name in resnet_modules(config)}


def _transformers_module(name: str) -> str:
    match = _BLOCK.fullmatch(name)
    if not match:
        return f"embedder.embedder.{'convolution' if name == 'conv1' else 'normalization'}"
    projects = match["part"] == "downsample."
    convolves = match["number"] == "0" if projects else match["part"] == "conv"
    within = "shortcut" if projects else f"layer.{int(match['number']) - 1}"
    kind = "convolution" if convolves else "normalization"
    return f"encoder.stages.{int(match['stage']) - 1}.layers.{match['block']}.{within}.{kind}"


def _sized(width: str, shapes: Shapes, usual: ResNetConfig) -> ResNetConfig:
    """By torchvision's names."""
    places = [match.groups() for match in map(_STAGE.fullmatch, shapes) if match]
    repeats = tuple(len({block for stage, block, _ in places if stage == str(n)}) for n in range(1, 5))
    first = shapes.get("conv1.weight", ())
    if all(repeats) and "conv1.0.weight" in shapes:
        raise JaxtlError(
            "a ResNet whose first convolution is three (ResNet-D, ResNet-T), which jaxtl does not have"
            f"{_INSTEAD}"
        )
    if not all(repeats) or len(first) != 4:
        return usual  # of which too little is there
    bottleneck = any(number == "3" for *_, number in places)
    depths = [depth for depth, known in DEPTHS.items() if known == (repeats, 4 if bottleneck else 1)]
    if not depths:
        kind = "three" if bottleneck else "two"
        raise JaxtlError(
            f"a ResNet of {' + '.join(map(str, repeats))} blocks of {kind} convolutions, which is none of "
            f"{', '.join(map(str, DEPTHS))} layers{_INSTEAD}"
        )
    if relative := _relative(shapes):
        raise JaxtlError(f"{relative}, which jaxtl does not have{_INSTEAD}")
    stem = STEMS["cifar" if first[2] == 3 else "imagenet"]
    return replace(usual, depth=depths[0], width=_width(width, first[0]), stem_kernel=first[2], **stem)


def _width(width: str, channels: int) -> float:
    try:
        return channels / 64 if width == "auto" else float(width)
    except ValueError:
        raise JaxtlError(f"width: must be auto or a number such as 0.5, got {width!r}") from None


def _relative(shapes: Shapes) -> str | None:
    """Which relative of ResNet's has tensors of these shapes; None for a ResNet."""
    if any(".se." in name or ".attn." in name or ".eca." in name for name in shapes):
        return "a ResNet with attention (SE-ResNet, ECA-ResNet or the like)"
    first, second = (shapes.get(f"layer1.0.conv{number}.weight", ()) for number in (1, 2))
    if len(first) == len(second) == 4 and second[1] != first[0]:
        return "a ResNeXt, whose convolutions are in groups"
    if len(first) == 4 and shapes["conv1.weight"][0] < first[0]:
        return "a Wide ResNet"
    return None


def _transformers_sized(width: str, shapes: Shapes, usual: ResNetConfig) -> ResNetConfig:
    # Of every depth's names those that are there, as torchvision has them.
    deepest = {_transformers_module(name): name for name in _all_modules()}
    theirs = {
        f"{deepest[module]}.{key}": shape
        for module, _, key, shape in ((*name.rpartition("."), shape) for name, shape in shapes.items())
        if module in deepest
    }
    return _sized(width, theirs, usual)


def _all_modules() -> set[str]:
    return {name for depth in DEPTHS for name in resnet_modules(replace(_TORCH, depth=depth))}


def _told_by_timm(config: ResNetConfig, beside: dict[str, Any], processor: dict[str, Any]) -> ResNetConfig:
    architecture = beside.get("architecture")
    # Their blurring before a stride has no tensors.
    if isinstance(architecture, str) and architecture.startswith(("resnetaa", "resnetblur")):
        raise JaxtlError(f"config.json says {architecture}, which jaxtl does not have{_INSTEAD}")
    return told_by_timm(config, beside, processor)


# Settings of transformers' ResNet of which jaxtl has one value only.
_FIXED = {
    "hidden_act": "relu",
    "downsample_in_bottleneck": False,
    "downsample_in_first_stage": False,
    "num_channels": 3,
}


def _transformers_told(
    config: ResNetConfig, beside: dict[str, Any], processor: dict[str, Any]
) -> ResNetConfig:
    check_fixed(_FIXED, beside, config.label)
    return told_by_processor(config, processor)


def _notes(config: ResNetConfig) -> list[str]:
    if config.stem_kernel == 7:
        return []
    does = f"stride {config.stem_stride} and {'a' if config.stem_pool else 'no'} max pooling behind it"
    return [
        f"the first convolution is {config.stem_kernel}x{config.stem_kernel}: taken with {does}, which no "
        "tensor tells (--stem)"
    ]


_TORCH = ResNetConfig(preprocessing="imagenet")
LAYOUTS = (
    Layout(
        "torchvision and timm",
        "layer1.0.conv1.weight",
        resnet_modules,
        _TORCH,
        _sized,
        _told_by_timm,
        _notes,
    ),
    Layout(
        "transformers",
        "embedder.embedder.convolution.weight",
        _transformers_modules,
        _TORCH,
        _transformers_sized,
        _transformers_told,
        _notes,
    ),
)
