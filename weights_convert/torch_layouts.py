"""How each library of PyTorch's names a network's tensors, and computes with them.

A family of networks joins by rows of `LAYOUTS`: one for each library that names it in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.exports.torchvision import mobilenet_v2_modules, named_modules, our_shape, torch_names
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.settings import spelled
from weights_convert.conversion import width_of

Shapes = Mapping[str, tuple[int, ...]]
# Repeats of each of the paper's seven groups of blocks (its table 2), by which timm numbers them.
_REPEATS = (1, 2, 3, 4, 3, 3, 1)
_PLACES = [(stage, index) for stage, repeats in enumerate(_REPEATS) for index in range(repeats)]
_TIMM_FIRST = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
_TIMM = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
_HF = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}


@dataclass(frozen=True)
class Layout:
    """One library's names for one family of networks.

    Attributes:
        library: "torchvision", "timm" or "transformers".
        signature: name of the tensor by which the backbone's place in a file is told.
        modules: the library's module for each of our layers that holds arrays, by a network's config.
        usual: what the library's networks of this family compute like, where nothing beside the file says
            otherwise; its width and classes play no part.
        config: `usual` with the size that tensors of these shapes have; the first argument is the width
            asked for, or "auto", and shapes have our names.
        told: changes to a config by `config.json` and `preprocessor_config.json` beside the file, both {}
            where they are not there. Raises JaxtlError for a network that jaxtl does not have.
    """

    library: str
    signature: str
    modules: Callable[[Any], dict[str, str]]
    usual: Any
    config: Callable[[str, Shapes, Any], Any]
    told: Callable[[Any, dict[str, Any], dict[str, Any]], Any]

    def names(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """As `torch_names`, head included, for a network of whatever size."""
        config = replace(self.usual, classes=2)
        return torch_names(config.layers, self.modules(config))


def our_shapes(
    names: Mapping[str, tuple[str, tuple[int, ...]]], shapes: Shapes
) -> dict[str, tuple[int, ...]]:
    """Shapes by our names, of those tensors that `names` knows, from shapes by the library's."""
    return {
        ours: our_shape(shapes[theirs], axes) for ours, (theirs, axes) in names.items() if theirs in shapes
    }


def _sized(width: str, shapes: Shapes, usual: MobileNetV2Config) -> MobileNetV2Config:
    return replace(usual, width=width_of(width, shapes))


def _timm_modules(config: MobileNetV2Config) -> dict[str, str]:
    def in_block(number: int, part: str, bn: bool) -> str:
        stage, index = _PLACES[number]
        return f"blocks.{stage}.{index}.{(_TIMM if number else _TIMM_FIRST)[part][bn]}"

    ends = ("conv_stem", "bn1", "conv_head", "bn2", "classifier")
    return named_modules(config.layers, _ends(*ends), in_block)


def _transformers_modules(config: MobileNetV2Config) -> dict[str, str]:
    kinds = ("convolution", "normalization")

    def in_block(number: int, part: str, bn: bool) -> str:
        return f"{f'layer.{number - 1}' if number else 'conv_stem'}.{_HF[part]}.{kinds[bn]}"

    first, last = ([f"{name}.{kind}" for kind in kinds] for name in ("conv_stem.first_conv", "conv_1x1"))
    return named_modules(config.layers, _ends(*first, *last, "classifier"), in_block)


def _ends(*modules: str) -> dict[str, str]:
    return dict(zip(("Conv1", "bn_Conv1", "Conv_1", "Conv_1_bn", "predictions"), modules, strict=True))


def _as_it_is(config: Any, beside: dict[str, Any], processor: dict[str, Any]) -> Any:
    return config


def _timm_told(
    config: MobileNetV2Config, beside: dict[str, Any], processor: dict[str, Any]
) -> MobileNetV2Config:
    settings = beside.get("pretrained_cfg", beside)
    if "mean" in settings and "std" in settings:
        return replace(config, preprocessing=_spelled(settings["mean"], settings["std"]))
    return config


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
    for name, value in _FIXED.items():
        if beside.get(name, value) != value:
            raise JaxtlError(f"config.json has {name} {beside[name]!r}; jaxtl's MobileNetV2 has {value!r}")
    if "expanded_conv_add" in {layer.name for layer in config.layers}:
        raise JaxtlError(
            f"at width {config.width:g} jaxtl's MobileNetV2 adds the first block's input, as Keras and "
            "torchvision do, and that of transformers does not"
        )
    padding = "keras" if beside.get("tf_padding", True) else "symmetric"
    config = replace(config, padding=padding, bn_epsilon=beside.get("layer_norm_eps", config.bn_epsilon))
    if processor.get("do_normalize") is False:
        return replace(config, preprocessing="unit")
    if "image_mean" in processor and "image_std" in processor:
        return replace(config, preprocessing=_spelled(processor["image_mean"], processor["image_std"]))
    return config


def _spelled(mean: Any, deviation: Any) -> str:
    try:
        return spelled(*(tuple(float(number) for number in numbers) for numbers in (mean, deviation)))
    except (TypeError, ValueError):
        raise JaxtlError("the mean and deviation beside it are no numbers; say --preprocessing") from None


# PyTorch's batch normalisation moves its statistics by 0.1 a step, TensorFlow's slim by 0.003.
_TORCH = MobileNetV2Config(bn_epsilon=1e-5, bn_momentum=0.9, padding="symmetric", preprocessing="imagenet")
_SLIM = MobileNetV2Config(bn_momentum=0.997, preprocessing="keras")
LAYOUTS = (
    Layout("torchvision", "features.0.0.weight", mobilenet_v2_modules, _TORCH, _sized, _as_it_is),
    Layout("timm", "conv_stem.weight", _timm_modules, _TORCH, _sized, _timm_told),
    Layout(
        "transformers",
        "conv_stem.first_conv.convolution.weight",
        _transformers_modules,
        _SLIM,
        _sized,
        _transformers_told,
    ),
)
