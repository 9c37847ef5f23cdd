"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) in Flax NNX, built and named as Keras does it.

The network is data first: `MobileNetV2Config.layers` lists its layers in Keras's order, under Keras's
names, and everything else (parameters, forward pass, folding, freezing, conversion of weights) reads
that list. A residual connection always adds the input of the block that it closes, so the state
between two layers is the running activation and at most one saved activation: `Carry`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxtl.errors import JaxtlError
from jaxtl.models import ops
from jaxtl.settings import mean_and_deviation

Kind = Literal["input", "conv", "bn", "relu6", "pad", "depthwise", "add", "pool", "dense"]

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
        classes: size of the softmax head; None for no top: the network ends in global average pooling.
        bn_epsilon: 1e-3 as in Keras and TensorFlow; torchvision and timm use 1e-5.
        bn_momentum: decay of the moving statistics, 0.999 as in Keras.
        padding: of stride-2 convolutions; "keras" pads (0, 1) on even sizes and (1, 1) on odd ones,
            "symmetric" pads (1, 1) always, as torchvision does.
        preprocessing: of pixels, that the weights want, as in `jaxtl.Images`; None where they do not say.
    """

    width: float = 1.0
    classes: int | None = None
    bn_epsilon: float = 1e-3
    bn_momentum: float = 0.999
    padding: Literal["keras", "symmetric"] = "keras"
    preprocessing: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.width <= 8:
            raise JaxtlError(f"MobileNetV2: width must be in (0, 8], got {self.width}")
        if self.classes is not None and self.classes < 2:
            raise JaxtlError(f"MobileNetV2: a head needs at least 2 classes, got {self.classes}")
        if self.padding not in ("keras", "symmetric"):
            raise JaxtlError(f"MobileNetV2: padding must be 'keras' or 'symmetric', got {self.padding!r}")
        if not 0 < self.bn_epsilon < 1 or not 0 <= self.bn_momentum < 1:
            raise JaxtlError(
                "MobileNetV2: bn_epsilon must be in (0, 1) and bn_momentum in [0, 1), got "
                f"{self.bn_epsilon} and {self.bn_momentum}"
            )
        if self.preprocessing is not None:
            mean_and_deviation(self.preprocessing)

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
    def pooled(self) -> int:
        """Number of layers up to and with the global average pooling."""
        return len(self.backbone_layers) + 1

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

    @property
    def block_ends(self) -> tuple[str, ...]:
        """The last layer of the stem, of every block, and of the top: where the network can be cut."""
        names = (layer.name for layer in self.layers)
        blocks = (name for name in names if name.startswith(("expanded_conv_", "block_")))
        last = {"_".join(name.split("_")[:2]): name for name in blocks}
        return ("Conv1_relu", *last.values(), "out_relu")

    def position(self, name: str) -> int:
        """Index of a layer in `layers`. Raises JaxtlError for an unknown name."""
        for index, layer in enumerate(self.layers):
            if layer.name == name:
                return index
        raise JaxtlError(
            f"MobileNetV2 has no layer {name!r}; its layers are named as in Keras: "
            "Conv1 ... block_16_project_BN ... out_relu"
        )


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
    yield Layer(prefix + "depthwise", "depthwise", wide, wide, 3, stride)
    yield Layer(prefix + "depthwise_BN", "bn", wide, wide)
    yield Layer(prefix + "depthwise_relu", "relu6", wide, wide)
    yield Layer(prefix + "project", "conv", wide, out)
    yield Layer(prefix + "project_BN", "bn", out, out)
    if stride == 1 and channels == out:
        yield Layer(prefix + "add", "add", out, out, adds=before)


def stride_padding(config: MobileNetV2Config, height: int, width: int) -> ops.Padding:
    """What is padded before a 3x3 convolution of stride 2."""
    before = [1 if config.padding == "symmetric" else size % 2 for size in (height, width)]
    return ((before[0], 1), (before[1], 1))


class Carry(NamedTuple):
    """All that one layer hands to the next: [n, h, w, c] activations, and those kept for an "add" ahead."""

    x: jax.Array
    skip: jax.Array | None = None


class Conv(nnx.Module):
    """Convolution without bias; `kernel` [k, k, channels_in, channels], glorot-uniform as in Keras."""

    def __init__(self, layer: Layer, rngs: nnx.Rngs) -> None:
        self.stride = layer.stride
        shape = layer.parameters["kernel"]
        self.kernel = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), shape))

    def __call__(
        self, x: jax.Array, padding: ops.Padding, form: ops.Form, precision: ops.Precision
    ) -> jax.Array:
        return ops.convolve(x, self.kernel[...], self.stride, padding, form, precision)


class DepthwiseConv(nnx.Module):
    """Depthwise 3x3 convolution without bias; `depthwise_kernel` [3, 3, channels, 1]."""

    def __init__(self, layer: Layer, rngs: nnx.Rngs) -> None:
        self.stride = layer.stride
        shape = layer.parameters["depthwise_kernel"]
        self.depthwise_kernel = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), shape))

    def __call__(
        self, x: jax.Array, padding: ops.Padding, form: ops.Form, precision: ops.Precision
    ) -> jax.Array:
        return ops.convolve_depthwise(x, self.depthwise_kernel[...], self.stride, padding, form, precision)


class BatchNorm(nnx.Module):
    """Batch normalisation as Keras 3 does it: the biased variance goes into the moving one too."""

    def __init__(self, layer: Layer, config: MobileNetV2Config) -> None:
        self.epsilon, self.momentum = config.bn_epsilon, config.bn_momentum
        self.gamma = nnx.Param(jnp.ones(layer.channels))
        self.beta = nnx.Param(jnp.zeros(layer.channels))
        self.moving_mean = nnx.BatchStat(jnp.zeros(layer.channels))
        self.moving_variance = nnx.BatchStat(jnp.ones(layer.channels))

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = ops.widened(x)
        if not train:
            return self._normalise(x, self.moving_mean[...], self.moving_variance[...])
        mean = x.mean((0, 1, 2))
        variance = jnp.square(x - mean).mean((0, 1, 2))
        self.moving_mean[...] = self._decay(self.moving_mean[...], mean)
        self.moving_variance[...] = self._decay(self.moving_variance[...], variance)
        return self._normalise(x, mean, variance)

    def _normalise(self, x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        scale = self.gamma[...] * jax.lax.rsqrt(variance + self.epsilon)
        return x * scale + (self.beta[...] - mean * scale)

    def _decay(self, moving: jax.Array, batch: jax.Array) -> jax.Array:
        return moving * self.momentum + jax.lax.stop_gradient(batch) * (1 - self.momentum)


class Dense(nnx.Module):
    """The head: `kernel` [features, classes] glorot-uniform, `bias` [classes] zero; gives logits."""

    def __init__(self, layer: Layer, rngs: nnx.Rngs) -> None:
        shape = layer.parameters["kernel"]
        self.kernel = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(layer.channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.matmul(x, self.kernel[...], precision=ops.PRECISION) + self.bias[...]


class MobileNetV2(nnx.Module):
    """MobileNetV2; its layers with parameters are attributes under Keras's names.

    Args:
        config: which network.
        rngs: seeds the initial weights, as `nnx.Rngs(0)`.
    """

    def __init__(self, config: MobileNetV2Config = MobileNetV2Config(), *, rngs: nnx.Rngs) -> None:
        self.config = config
        for layer in config.layers:
            if layer.kind == "conv":
                setattr(self, layer.name, Conv(layer, rngs))
            elif layer.kind == "depthwise":
                setattr(self, layer.name, DepthwiseConv(layer, rngs))
            elif layer.kind == "bn":
                setattr(self, layer.name, BatchNorm(layer, config))
            elif layer.kind == "dense":
                setattr(self, layer.name, Dense(layer, rngs))

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits [n, classes] where there is a head, else pooled features [n, features].

        Args:
            x: float32 [n, h, w, 3], preprocessed; h and w at least 32.
            train: normalise with the batch's own statistics and move the moving ones.
        """
        _check_images(x)
        return self.run(Carry(x), 0, len(self.config.layers), train=train).x

    def intermediates(self, x: jax.Array, names: Sequence[str]) -> dict[str, jax.Array]:
        """Outputs of the named layers, by name, at fixed statistics. Raises JaxtlError for unknown names."""
        _check_images(x)
        outputs, carry, start = {}, Carry(x), 0
        for stop in sorted({self.config.position(name) + 1 for name in names}):
            carry = self.run(carry, start, stop)
            outputs[self.config.layers[stop - 1].name] = carry.x
            start = stop
        return {name: outputs[name] for name in names}

    def run(
        self,
        carry: Carry,
        start: int,
        stop: int,
        *,
        train: bool = False,
        form: ops.Form | None = None,
        precision: ops.Precision = "highest",
    ) -> Carry:
        """Layers `start` to `stop` (exclusive) of `config.layers`, from what `start - 1` left."""
        x, skip = carry
        form = form or ops.default_form()
        for layer in self.config.layers[start:stop]:
            if layer.kind == "add":
                x, skip = x + skip, None
            else:
                x = self._apply(layer, x, train, form, precision)
            x = stored(layer, x, precision)
            if layer.name in self.config.saved:
                skip = x
        return Carry(x, skip)

    def _apply(
        self, layer: Layer, x: jax.Array, train: bool, form: ops.Form, precision: ops.Precision
    ) -> jax.Array:
        if layer.kind in ("conv", "depthwise"):
            return getattr(self, layer.name)(x, layer_padding(self.config, layer, x), form, precision)
        if layer.kind == "bn":
            return getattr(self, layer.name)(x, train)
        if layer.kind == "dense":
            return getattr(self, layer.name)(x)
        return apply_unweighted(self.config, layer, x)


def layer_padding(config: MobileNetV2Config, layer: Layer, x: jax.Array) -> ops.Padding:
    """What a convolution itself pads: a depthwise one of stride 2 has a "pad" layer before it."""
    if layer.kernel_size == 1 or (layer.kind == "depthwise" and layer.stride == 2):
        return ops.NO_PADDING
    return stride_padding(config, *x.shape[1:3]) if layer.stride == 2 else ((1, 1), (1, 1))


def stored(layer: Layer, x: jax.Array, precision: ops.Precision) -> jax.Array:
    """A layer's output as the next one finds it; pooled features and logits stay float32."""
    return x if layer.kind in ("pool", "dense") else ops.stored(x, precision)


def apply_unweighted(config: MobileNetV2Config, layer: Layer, x: jax.Array) -> jax.Array:
    """The layers that hold no parameters and look at nothing but `x`."""
    if layer.kind == "relu6":
        return jnp.clip(x, 0, 6)
    if layer.kind == "pad":
        return ops.pad(x, stride_padding(config, *x.shape[1:3]))
    if layer.kind == "pool":
        return ops.widened(x).mean((1, 2))
    return x


def _check_images(x: jax.Array) -> None:
    if x.ndim != 4 or x.shape[3] != 3 or min(x.shape[1:3]) < 32:
        raise JaxtlError(
            f"MobileNetV2 takes images [n, h, w, 3] with h and w at least 32, got {list(x.shape)}"
        )
