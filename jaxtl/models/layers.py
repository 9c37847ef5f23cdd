"""A network as data: the list of its layers, which everything else about it is read from.

Parameters, forward pass, folding, freezing, the depth profile and the conversion of weights all read
`NetworkConfig.layers`. It holds nothing of JAX.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from jaxtl.errors import JaxtlError
from jaxtl.settings import MODELS, mean_and_deviation

Kind = Literal["input", "conv", "bn", "relu", "relu6", "pad", "depthwise", "add", "maxpool", "pool", "dense"]
PADDINGS = ("keras", "symmetric")
# Of what a layer makes of one image: [height, width, channels], or [channels] at the top.
Shape = tuple[int, ...]
# Kinds that are no part of the backbone: "the last N layers" does not count them.
_TOP = ("pool", "dense")


@dataclass(frozen=True)
class Layer:
    """One layer: its name, what it does, and its channels in and out.

    Attributes:
        kernel_size, stride: those of convolutions, of max pooling and of the paddings before convolutions.
        adds: the layer whose output an "add" adds: the input of the residual block that it closes.
        on_skip: whether the layer works on that kept output instead of the running activation, as the
            projection of a residual block does.
        pads: whether a convolution pads its input itself; a "pad" layer before it does where it does not.
        padding: pixels before and after each side that a "pad" layer adds to maps of any size; None leaves
            them to `NetworkConfig.padding`.
    """

    name: str
    kind: Kind
    channels_in: int
    channels: int
    kernel_size: int = 1
    stride: int = 1
    adds: str | None = None
    on_skip: bool = False
    pads: bool = True
    padding: tuple[int, int] | None = None

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


class NetworkConfig:
    """Which network of a family: a subclass, a frozen dataclass, that has these fields and lists the layers.

    Attributes:
        width: channel multiplier, > 0.
        classes: size of the softmax head; None for no top: the network ends in global average pooling.
        bn_epsilon: added to variances under the root.
        bn_momentum: decay of the moving statistics: what stays of the old ones at a step.
        padding: of convolutions and max pooling with a stride; "keras" pads as little as gives
            ceil(size / stride) outputs, more after than before (TensorFlow's SAME): a kernel of 3 has
            (0, 1) on even sizes and (1, 1) on odd ones; "symmetric" pads half of the kernel on both sides.
        bn_variance: what goes into the moving variance: "biased" is the batch's own, as in Keras, "unbiased"
            that times n / (n - 1), as in torch.
        preprocessing: of pixels, that the weights want, as in `jaxtl.Images`; None where they do not say.
    """

    family: ClassVar[str]
    # Name of the softmax head, whether or not there is one.
    head: ClassVar[str]

    width: float
    classes: int | None
    bn_epsilon: float
    bn_momentum: float
    padding: Literal["keras", "symmetric"]
    bn_variance: Literal["biased", "unbiased"] = "biased"
    preprocessing: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.width <= 8:
            raise JaxtlError(f"{self.label}: width must be in (0, 8], got {self.width}")
        if self.classes is not None and self.classes < 2:
            raise JaxtlError(f"{self.label}: a head needs at least 2 classes, got {self.classes}")
        if self.padding not in PADDINGS:
            raise JaxtlError(f"{self.label}: padding must be 'keras' or 'symmetric', got {self.padding!r}")
        if not 0 < self.bn_epsilon < 1 or not 0 <= self.bn_momentum < 1:
            raise JaxtlError(
                f"{self.label}: bn_epsilon must be in (0, 1) and bn_momentum in [0, 1), got "
                f"{self.bn_epsilon} and {self.bn_momentum}"
            )
        if self.preprocessing is not None:
            mean_and_deviation(self.preprocessing)

    @property
    def name(self) -> str:
        """As `--model` has it: one of `jaxtl.settings.MODELS`."""
        return self.family

    @property
    def label(self) -> str:
        """As people write it, such as "MobileNetV2"."""
        return MODELS[self.name]

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer in the order of the peer whose names they have, the input first."""
        raise NotImplementedError

    @property
    def block_ends(self) -> tuple[str, ...]:
        """The last layer of the stem, of every block, and of the top: where the network can be cut."""
        raise NotImplementedError

    @cached_property
    def backbone_layers(self) -> tuple[Layer, ...]:
        """The layers without pooling and head: those that 'the last N layers' counts."""
        return tuple(layer for layer in self.layers if layer.kind not in _TOP)

    @property
    def features(self) -> int:
        """Length of the pooled feature vector."""
        return self.backbone_layers[-1].channels

    @property
    def pooled(self) -> int:
        """Number of layers up to and with the global average pooling."""
        return len(self.backbone_layers) + 1

    @property
    def pooling(self) -> str:
        """Name of the global average pooling, whose output are the features."""
        return self.layers[self.pooled - 1].name

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shape of every array by its name, such as "Conv1/kernel"."""
        return {
            f"{layer.name}/{key}": shape for layer in self.layers for key, shape in layer.parameters.items()
        }

    @cached_property
    def saved(self) -> frozenset[str]:
        """Layers whose output a later "add" adds."""
        return frozenset(layer.adds for layer in self.layers if layer.adds)

    def position(self, name: str) -> int:
        """Index of a layer in `layers`. Raises JaxtlError for an unknown name."""
        for index, layer in enumerate(self.layers):
            if layer.name == name:
                return index
        names = [layer.name for layer in self.layers]
        raise JaxtlError(
            f"{self.label} has no layer {name!r}; its layers are {', '.join(names[1:4])}, ..., "
            f"{', '.join(names[self.pooled - 4 : self.pooled])}"
        )

    def first_of(self, name: str) -> int:
        """Index of a layer, or of the first layer of a part such as "layer4" or "block_16"."""
        names = [layer.name for layer in self.layers]
        inside = [index for index, known in enumerate(names) if known.startswith((f"{name}.", f"{name}_"))]
        return inside[0] if inside and name not in names else self.position(name)

    def multiply_adds(self, image_size: int) -> Iterator[int]:
        """Of each layer, for one square image of so many pixels a side.

        Normalisation, activations, additions and pooling count nothing, as in the literature (Sandler et al.
        2018, table 4).
        """
        for layer, (main, skip) in zip(self.layers, self.shapes(image_size), strict=True):
            terms = 0
            if layer.kind in ("conv", "depthwise"):
                terms = layer.kernel_size**2 * (layer.channels_in if layer.kind == "conv" else 1)
            elif layer.kind == "dense":
                terms = layer.channels_in
            yield terms * math.prod(skip if layer.on_skip else main)

    def shapes(self, image_size: int) -> Iterator[tuple[Shape, Shape | None]]:
        """After each layer, for one square image: the shape of what comes out, and of what is kept for an
        "add", if anything."""
        main, skip = (image_size, image_size, 3), None
        for layer in self.layers:
            side = self.size_after(layer, (skip if layer.on_skip else main)[0])
            shape = (layer.channels,) if layer.kind in _TOP else (side, side, layer.channels)
            if layer.on_skip:
                skip = shape
            else:
                kept = None if layer.kind == "add" else skip
                main, skip = shape, shape if layer.name in self.saved else kept
            yield main, skip

    def size_after(self, layer: Layer, size: int) -> int:
        """Pixels a side of what a layer makes of a square map of so many."""
        around = sum(self.pads_with(layer, size)) if layer.pads else 0
        if layer.kind == "pad":
            return size + around
        if layer.kind not in ("conv", "depthwise", "maxpool"):
            return size
        return (size + around - layer.kernel_size) // layer.stride + 1

    def pads_with(self, layer: Layer, size: int) -> tuple[int, int]:
        """Pixels before and after one side of a map, of so many pixels, that a layer works on."""
        if layer.padding is not None:
            return layer.padding
        kernel, stride = layer.kernel_size, layer.stride
        if stride == 1 or self.padding == "symmetric":
            return kernel // 2, kernel // 2
        total = max(kernel - 1 - (size - 1) % stride, 0)
        return total // 2, total - total // 2
