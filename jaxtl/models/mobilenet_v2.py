"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), built and named as Keras does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from flax import nnx

from jaxtl.models.layers import Layer, NetworkConfig
from jaxtl.models.network import Network

# Expansion, channels, repeats and stride of the first repeat: table 2 of the paper.
_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@dataclass(frozen=True)
class MobileNetV2Config(NetworkConfig):
    """Which MobileNetV2.

    Attributes:
        width: channel multiplier (Keras's alpha), > 0; 0.35 to 1.4 have published weights.
        classes: size of the softmax head; None for no top: the network ends in global average pooling.
        bn_epsilon: 1e-3 as in Keras and TensorFlow; torchvision and timm use 1e-5.
        bn_momentum: decay of the moving statistics, 0.999 as in Keras.
        padding: of stride-2 convolutions; "keras" pads (0, 1) on even sizes and (1, 1) on odd ones,
            "symmetric" pads (1, 1) always, as torchvision does.
        preprocessing: of pixels, that the weights want, as in `jaxtl.Images`; None where they do not say.
    """

    family: ClassVar[str] = "mobilenet_v2"
    head: ClassVar[str] = "predictions"

    width: float = 1.0
    classes: int | None = None
    bn_epsilon: float = 1e-3
    bn_momentum: float = 0.999
    padding: Literal["keras", "symmetric"] = "keras"
    preprocessing: str | None = None

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer in Keras's order, the input first, so that counts from the end are Keras's."""
        return tuple(_layers(self))

    @property
    def block_ends(self) -> tuple[str, ...]:
        """The last layer of the stem, of every block, and of the top: where the network can be cut."""
        names = (layer.name for layer in self.layers)
        blocks = (name for name in names if name.startswith(("expanded_conv_", "block_")))
        last = {"_".join(name.split("_")[:2]): name for name in blocks}
        return ("Conv1_relu", *last.values(), "out_relu")


class MobileNetV2(Network):
    """MobileNetV2; its layers with parameters are attributes under Keras's names."""

    config: MobileNetV2Config

    def __init__(self, config: MobileNetV2Config = MobileNetV2Config(), *, rngs: nnx.Rngs | None) -> None:
        super().__init__(config, rngs=rngs)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, never below 90 % of `channels` (as TensorFlow's slim does)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _layers(config: MobileNetV2Config) -> Iterator[Layer]:
    yield Layer("input", "input", 3, 3)
    channels = make_divisible(32 * config.width)
    yield Layer("Conv1", "conv", 3, channels, 3, 2)
    yield Layer("bn_Conv1", "bn", channels, channels)
    yield Layer("Conv1_relu", "relu6", channels, channels)
    last, number = "Conv1_relu", 0
    for expansion, width, repeats, stride in _BLOCKS:
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
    yield Layer("global_average_pooling2d", "pool", out, out)
    if config.classes is not None:
        yield Layer("predictions", "dense", out, config.classes)


def _block(prefix: str, channels: int, out: int, expansion: int, stride: int, before: str) -> Iterator[Layer]:
    """An inverted residual block; `before` names the layer whose output enters it."""
    wide = channels * expansion
    if expansion > 1:
        yield Layer(prefix + "expand", "conv", channels, wide)
        yield Layer(prefix + "expand_BN", "bn", wide, wide)
        yield Layer(prefix + "expand_relu", "relu6", wide, wide)
    if stride == 2:
        yield Layer(prefix + "pad", "pad", wide, wide, 3, stride)
    yield Layer(prefix + "depthwise", "depthwise", wide, wide, 3, stride, pads=stride == 1)
    yield Layer(prefix + "depthwise_BN", "bn", wide, wide)
    yield Layer(prefix + "depthwise_relu", "relu6", wide, wide)
    yield Layer(prefix + "project", "conv", wide, out)
    yield Layer(prefix + "project_BN", "bn", out, out)
    if stride == 1 and channels == out:
        yield Layer(prefix + "add", "add", out, out, adds=before)
