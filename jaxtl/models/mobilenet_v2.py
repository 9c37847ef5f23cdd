"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) in Flax NNX, layer by layer as Keras builds and names it.

The network is data first: `MobileNetV2Config.layers` lists its layers in Keras's order, under Keras's
names, and everything else (parameters, forward pass, folding, freezing, conversion of weights) reads
that list. A residual connection always adds the input of the block that it closes, so the state
between two layers is the running activation and at most one saved activation: `Carry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxtl.errors import JaxtlError
from jaxtl.models import ops

Kind = Literal["input", "conv", "bn", "relu6", "pad", "depthwise", "add", "pool", "dense"]

# Expansion, channels, repeats and stride of the first repeat: table 2 of the paper.
_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One layer: its Keras name, what it does, and its channels in and out.

    `stride` and `kernel_size` are those of convolutions and of the paddings before them; `adds` names
    the layer whose output an "add" adds.
    """

    name: str
    kind: Kind
    channels_in: int
    channels: int
    kernel_size: int = 1
    stride: int = 1
    adds: str | None = None

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each array that the layer holds, in Keras's layout."""
        if self.kind == "conv":
            return {"kernel": (self.kernel_size, self.kernel_size, self.channels_in, self.channels)}
        if self.kind == "depthwise":
            return {"depthwise_kernel": (self.kernel_size, self.kernel_size, self.channels, 1)}
        if self.kind == "bn":
            return dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (self.channels,))
        if self.kind == "dense":
            return {"kernel": (self.channels_in, self.channels), "bias": (self.channels,)}
        return {}


@dataclass(frozen=True)
class MobileNetV2Config:
    """Which MobileNetV2.

    Attributes:
        width: channel multiplier (Keras's alpha), > 0; 0.35 to 1.4 have published weights.
        classes: size of the softmax head after global average pooling; None for no top.
        bn_epsilon: 1e-3 as in Keras and TensorFlow; torchvision and timm use 1e-5.
        bn_momentum: decay of the moving statistics, 0.999 as in Keras.
        padding: of stride-2 convolutions; "keras" pads (0, 1) on even sizes and (1, 1) on odd ones,
            "symmetric" pads (1, 1) always, as torchvision does.
    """

    width: float = 1.0
    classes: int | None = None
    bn_epsilon: float = 1e-3
    bn_momentum: float = 0.999
    padding: Literal["keras", "symmetric"] = "keras"

    def __post_init__(self) -> None:
        if not 0 < self.width <= 8:
            raise JaxtlError(f"MobileNetV2: width must be in (0, 8], got {self.width}")
        if self.classes is not None and self.classes < 2:
            raise JaxtlError(f"MobileNetV2: a head needs at least 2 classes, got {self.classes}")
        if self.padding not in ("keras", "symmetric"):
            raise JaxtlError(f"MobileNetV2: padding must be 'keras' or 'symmetric', got {self.padding!r}")

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer in Keras's order, the input first, so that counts from the end are Keras's."""
        return tuple(_layers(self))

    @cached_property
    def backbone_layers(self) -> tuple[Layer, ...]:
        """The layers without pooling and head: those that 'the last N layers' counts."""
        return tuple(layer for layer in self.layers if layer.kind not in ("pool", "dense"))

    @property
    def features(self) -> int:
        """Length of the pooled feature vector: 1280 up to width 1."""
        return self.backbone_layers[-1].channels

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shape of every array by its name, such as "Conv1/kernel"."""
        return {f"{layer.name}/{key}": shape for layer in self.layers for key, shape in layer.parameters.items()}

    def position(self, name: str) -> int:
        """Index of a layer in `layers`. Raises JaxtlError for an unknown name."""
        for index, layer in enumerate(self.layers):
            if layer.name == name:
                return index
        raise JaxtlError(f"MobileNetV2 has no layer {name!r}; its layers are named as in Keras: "
                         "Conv1 ... block_16_project_BN ... out_relu")  # fmt: skip


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, never below 90 % of `channels` (as TensorFlow's slim does)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _layers(config: MobileNetV2Config):
    yield Layer("input", "input", 3, 3)
    channels = make_divisible(32 * config.width)
    yield Layer("Conv1", "conv", 3, channels, 3, 2)
    yield Layer("bn_Conv1", "bn", channels, channels)
    yield Layer("Conv1_relu", "relu6", channels, channels)
    last, number = "Conv1_relu", 0
    for expansion, width, repeats, stride in _STAGES:
        for repeat in range(repeats):
            out = make_divisible(int(width * config.width))
            prefix = f"block_{number}_" if number else "expanded_conv_"
            block = list(_block(prefix, channels, out, expansion, stride if repeat == 0 else 1, last))
            yield from block
            last, channels, number = block[-1].name, out, number + 1
    out = make_divisible(1280 * config.width) if config.width > 1 else 1280
    yield Layer("Conv_1", "conv", channels, out)
    yield Layer("Conv_1_bn", "bn", out, out)
    yield Layer("out_relu", "relu6", out, out)
    if config.classes is not None:
        yield Layer("global_average_pooling2d", "pool", out, out)
        yield Layer("predictions", "dense", out, config.classes)


def _block(prefix: str, channels: int, out: int, expansion: int, stride: int, before: str):
    """An inverted residual block; `before` names the layer whose output enters it."""
    wide = channels * expansion
    if expansion > 1:
        yield Layer(prefix + "expand", "conv", channels, wide)
        yield Layer(prefix + "expand_BN", "bn", wide, wide)
        yield Layer(prefix + "expand_relu", "relu6", wide, wide)
    if stride == 2:
        yield Layer(prefix + "pad", "pad", wide, wide, 3, stride)
    yield Layer(prefix + "depthwise", "depthwise", wide, wide, 3, stride)
    yield Layer(prefix + "depthwise_BN", "bn", wide, wide)
    yield Layer(prefix + "depthwise_relu", "relu6", wide, wide)
    yield Layer(prefix + "project", "conv", wide, out)
    yield Layer(prefix + "project_BN", "bn", out, out)
    if stride == 1 and channels == out:
        yield Layer(prefix + "add", "add", out, out, adds=before)
