"""MobileNetV2 as Keras, torchvision, timm and transformers name it and compute it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.exports.torchvision import mobilenet_v2_modules, named_modules, torch_names
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from weights_convert.conversion import width_of
from weights_convert.keras_layout import KerasLayout
from weights_convert.layout import (
    Layout,
    Shapes,
    as_it_is,
    check_fixed,
    our_shapes,
    told_by_processor,
    told_by_timm,
)

# Repeats of each of the paper's seven groups of blocks (its table 2), by which timm numbers them.
_REPEATS = (1, 2, 3, 4, 3, 3, 1)
_PLACES = [(stage, index) for stage, repeats in enumerate(_REPEATS) for index in range(repeats)]
_TIMM_FIRST = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
_TIMM = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
_HF = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}


def _timm_modules(config: MobileNetV2Config) -> dict[str, str]:
    def in_block(number: int, part: str, bn: bool) -> str:
        stage, index = _PLACES[number]
        return f"blocks.{stage}.{index}.{(_TIMM if number else _TIMM_FIRST)[part][bn]}"

    return named_modules(config.layers, _ends("conv_stem", "bn1", "conv_head", "bn2"), in_block)


def _transformers_modules(config: MobileNetV2Config) -> dict[str, str]:
    kinds = ("convolution", "normalization")

    def in_block(number: int, part: str, bn: bool) -> str:
        return f"{f'layer.{number - 1}' if number else 'conv_stem'}.{_HF[part]}.{kinds[bn]}"

    first, last = ([f"{name}.{kind}" for kind in kinds] for name in ("conv_stem.first_conv", "conv_1x1"))
    return named_modules(config.layers, _ends(*first, *last), in_block)


def _ends(*modules: str) -> dict[str, str]:
    return dict(zip(("Conv1", "bn_Conv1", "Conv_1", "Conv_1_bn"), modules, strict=True))


# Settings of transformers' MobileNetV2 of which jaxtl has one value only.
_FIXED = {
    "hidden_act": "relu6",
    "expand_ratio": 6,
    "output_stride": 32,
    "depth_divisible_by": 8,
    "min_depth": 8,
    "first_layer_is_expansion": True,
    "num_channels": 3,
}


def _transformers_told(
    config: MobileNetV2Config, beside: dict[str, Any], processor: dict[str, Any]
) -> MobileNetV2Config:
    check_fixed(_FIXED, beside, config.label)
    if "expanded_conv_add" in {layer.name for layer in config.layers}:
        raise JaxtlError(
            f"at width {config.width:g} jaxtl's MobileNetV2 adds the first block's input, as Keras and "
            "torchvision do, and that of transformers does not"
        )
    padding = "keras" if beside.get("tf_padding", True) else "symmetric"
    config = replace(config, padding=padding, bn_epsilon=beside.get("layer_norm_eps", config.bn_epsilon))
    return told_by_processor(config, processor)


def _layout(library: str, signature: str, modules: Any, usual: MobileNetV2Config, told: Any) -> Layout:
    # Names depend on no width, so those of the usual network tell which tensors there are.
    names = torch_names(usual.layers, modules(usual))

    def sized(width: str, shapes: Shapes, usual: MobileNetV2Config) -> MobileNetV2Config:
        return replace(usual, width=width_of(width, our_shapes(names, shapes), usual))

    return Layout(library, signature, modules, usual, sized, told)


KERAS = KerasLayout(MobileNetV2Config(), {"Logits": "predictions"})
# PyTorch's batch normalisation moves its statistics by 0.1 a step, TensorFlow's slim by 0.003.
_TORCH = MobileNetV2Config(bn_epsilon=1e-5, bn_momentum=0.9, padding="symmetric", preprocessing="imagenet")
_SLIM = MobileNetV2Config(bn_momentum=0.997, preprocessing="keras")
LAYOUTS = (
    _layout("torchvision", "features.0.0.weight", mobilenet_v2_modules, _TORCH, as_it_is),
    _layout("timm", "conv_stem.weight", _timm_modules, _TORCH, told_by_timm),
    _layout(
        "transformers",
        "conv_stem.first_conv.convolution.weight",
        _transformers_modules,
        _SLIM,
        _transformers_told,
    ),
)
