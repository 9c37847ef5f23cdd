"""ResNet (He et al. 2016, arXiv:1512.03385), built and named as torchvision does it.

The names are those that `torchvision.models.feature_extraction` gives the layers, "layer1.0.relu_1" among
them. Bottlenecks have their stride in the 3x3 convolution, as torchvision's have ("ResNet v1.5").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from flax import nnx

from jaxtl.errors import JaxtlError
from jaxtl.models.layers import Layer, NetworkConfig
from jaxtl.models.network import Network

# Blocks of each of the four stages, by depth, and how many times wider a block's output is than its inside:
# table 1 of the paper. Those that widen are bottlenecks of three convolutions, the others have two.
DEPTHS = {
    18: ((2, 2, 2, 2), 1),
    34: ((3, 4, 6, 3), 1),
    50: ((3, 4, 6, 3), 4),
    101: ((3, 4, 23, 3), 4),
    152: ((3, 8, 36, 3), 4),
}
_WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class ResNetConfig(NetworkConfig):
    """Which ResNet; the defaults are torchvision's.

    Attributes:
        depth: 18, 34, 50, 101 or 152.
        width: multiplier of all channels, > 0; published weights have 1.
        classes: size of the softmax head; None for no top: the network ends in global average pooling.
        bn_epsilon: 1e-5 as in torchvision; Keras's and TensorFlow's checkpoints have 1.001e-5.
        bn_momentum: decay of the moving statistics, 0.9, which torch calls 0.1.
        padding: of convolutions and max pooling with a stride; "symmetric" pads half of the kernel on both
            sides, as torchvision does; "keras" is TensorFlow's SAME.
        bn_variance: what goes into the moving variance; "unbiased" is the batch's n / (n - 1) times, as in
            torch, "biased" the batch's own, as in Keras.
        stem_kernel, stem_stride: of the first convolution.
        stem_pool: whether 3x3 max pooling of stride 2 follows it; networks for CIFAR's images have none.
        preprocessing: of pixels, that the weights want, as in `jaxtl.Images`; None where they do not say.
    """

    family: ClassVar[str] = "resnet"
    head: ClassVar[str] = "fc"

    depth: int = 18
    width: float = 1.0
    classes: int | None = None
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.9
    padding: Literal["keras", "symmetric"] = "symmetric"
    bn_variance: Literal["biased", "unbiased"] = "unbiased"
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    preprocessing: str | None = None

    def __post_init__(self) -> None:
        if self.depth not in DEPTHS:
            raise JaxtlError(f"ResNet: depth must be one of {', '.join(map(str, DEPTHS))}, got {self.depth}")
        if self.stem_kernel not in (1, 3, 5, 7) or self.stem_stride not in (1, 2):
            raise JaxtlError(
                f"{self.label}: stem_kernel must be 1, 3, 5 or 7 and stem_stride 1 or 2, got "
                f"{self.stem_kernel} and {self.stem_stride}"
            )
        if self.bn_variance not in ("biased", "unbiased"):
            raise JaxtlError(
                f"{self.label}: bn_variance must be 'biased' or 'unbiased', got {self.bn_variance!r}"
            )
        super().__post_init__()

    @property
    def name(self) -> str:
        return f"resnet{self.depth}"

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer in torchvision's order, the input first."""
        return tuple(_layers(self))

    @property
    def block_ends(self) -> tuple[str, ...]:
        """The last layer of the stem and of every block: where the network can be cut."""
        positions = [index for index, layer in enumerate(self.layers) if layer.kind == "add"]
        stem = "maxpool" if self.stem_pool else "relu"
        return (stem, *(self.layers[index + 1].name for index in positions))


class ResNet(Network):
    """A ResNet; its layers with parameters are attributes under torchvision's names."""

    config: ResNetConfig

    def __init__(self, config: ResNetConfig = ResNetConfig(), *, rngs: nnx.Rngs | None) -> None:
        super().__init__(config, rngs=rngs)


def _layers(config: ResNetConfig) -> Iterator[Layer]:
    channels = _scaled(64, config)
    yield Layer("input", "input", 3, 3)
    yield Layer("conv1", "conv", 3, channels, config.stem_kernel, config.stem_stride)
    yield Layer("bn1", "bn", channels, channels)
    yield Layer("relu", "relu", channels, channels)
    if config.stem_pool:
        yield Layer("maxpool", "maxpool", channels, channels, 3, 2)
    repeats, widening = DEPTHS[config.depth]
    last = "maxpool" if config.stem_pool else "relu"
    for stage, (count, width) in enumerate(zip(repeats, _WIDTHS, strict=True), 1):
        inner = _scaled(width, config)
        for number in range(count):
            stride = 2 if stage > 1 and number == 0 else 1
            block = list(_block(f"layer{stage}.{number}.", channels, inner, widening, stride, last))
            yield from block
            last, channels = block[-1].name, inner * widening
    yield Layer("avgpool", "pool", channels, channels)
    if config.classes is not None:
        yield Layer("fc", "dense", channels, config.classes)


def _scaled(channels: int, config: ResNetConfig) -> int:
    return max(1, round(channels * config.width))


def _block(
    prefix: str, channels: int, inner: int, widening: int, stride: int, before: str
) -> Iterator[Layer]:
    """A residual block; `before` names the layer whose output enters it."""
    out = inner * widening
    # Channels in and out, size of kernel, stride.
    convolutions = [(channels, inner, 3, stride), (inner, out, 3, 1)]
    if widening > 1:
        convolutions = [(channels, inner, 1, 1), (inner, inner, 3, stride), (inner, out, 1, 1)]
    for number, (into, wide, kernel, step) in enumerate(convolutions, 1):
        yield Layer(f"{prefix}conv{number}", "conv", into, wide, kernel, step)
        yield Layer(f"{prefix}bn{number}", "bn", wide, wide)
        if number < len(convolutions):
            yield Layer(_relu(prefix, number), "relu", wide, wide)
    if stride > 1 or channels != out:
        yield Layer(f"{prefix}downsample.0", "conv", channels, out, 1, stride, on_skip=True)
        yield Layer(f"{prefix}downsample.1", "bn", out, out, on_skip=True)
    yield Layer(f"{prefix}add", "add", out, out, adds=before)
    yield Layer(_relu(prefix, len(convolutions)), "relu", out, out)


def _relu(prefix: str, number: int) -> str:
    # One module in torchvision, which its feature extraction counts from the second use on.
    return f"{prefix}relu" if number == 1 else f"{prefix}relu_{number - 1}"
