"""A network of any family as a Flax NNX module that runs the list of its layers.

A residual connection always adds the input of the block that it closes, or what a projection makes of it, so
the state between two layers is the running activation and at most one saved activation: `Carry`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxtl.errors import JaxtlError
from jaxtl.models import ops
from jaxtl.models.layers import Layer, NetworkConfig
from jaxtl.records.summaries import Summary, Told


class Carry(NamedTuple):
    """All that one layer hands to the next: [n, h, w, c] activations, and those kept for an "add" ahead."""

    x: jax.Array
    skip: jax.Array | None = None


# What a layer makes of the activation that it works on.
Work = Callable[[jax.Array], jax.Array]


def _drawn(shape: tuple[int, ...], rngs: nnx.Rngs | None) -> jax.Array:
    return jnp.zeros(shape) if rngs is None else nnx.initializers.glorot_uniform()(rngs.params(), shape)


class Conv(nnx.Module):
    """Convolution without bias; `kernel` [k, k, channels_in, channels], glorot-uniform as in Keras."""

    def __init__(self, layer: Layer, rngs: nnx.Rngs | None) -> None:
        self.stride = layer.stride
        shape = layer.parameters["kernel"]
        self.kernel = nnx.Param(_drawn(shape, rngs))

    def __call__(
        self, x: jax.Array, padding: ops.Padding, form: ops.Form, precision: ops.Precision
    ) -> jax.Array:
        return ops.convolve(x, self.kernel[...], self.stride, padding, form, precision)


class DepthwiseConv(nnx.Module):
    """Depthwise convolution without bias; `depthwise_kernel` [k, k, channels, 1]."""

    def __init__(self, layer: Layer, rngs: nnx.Rngs | None) -> None:
        self.stride = layer.stride
        shape = layer.parameters["depthwise_kernel"]
        self.depthwise_kernel = nnx.Param(_drawn(shape, rngs))

    def __call__(
        self, x: jax.Array, padding: ops.Padding, form: ops.Form, precision: ops.Precision
    ) -> jax.Array:
        return ops.convolve_depthwise(x, self.depthwise_kernel[...], self.stride, padding, form, precision)


class BatchNorm(nnx.Module):
    """Batch normalisation; into the moving variance goes the batch's, as `config.bn_variance` has it."""

    def __init__(self, layer: Layer, config: NetworkConfig) -> None:
        self.epsilon, self.momentum = config.bn_epsilon, config.bn_momentum
        self.unbiased = config.bn_variance == "unbiased"
        self.gamma = nnx.Param(jnp.ones(layer.channels))
        self.beta = nnx.Param(jnp.zeros(layer.channels))
        self.moving_mean = nnx.BatchStat(jnp.zeros(layer.channels))
        self.moving_variance = nnx.BatchStat(jnp.ones(layer.channels))

    def __call__(self, x: jax.Array, train: bool, counted: jax.Array | None = None) -> jax.Array:
        x = ops.widened(x)
        if not train:
            return self._normalise(x, self.moving_mean[...], self.moving_variance[...])
        mean = _mean_of(x, counted)
        variance = _mean_of(jnp.square(x - mean), counted)
        self.moving_mean[...] = self._decay(self.moving_mean[...], mean)
        seen = _unbiased(variance, x, counted) if self.unbiased else variance
        self.moving_variance[...] = self._decay(self.moving_variance[...], seen)
        return self._normalise(x, mean, variance)

    def _normalise(self, x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        scale = self.gamma[...] * jax.lax.rsqrt(variance + self.epsilon)
        return x * scale + (self.beta[...] - mean * scale)

    def _decay(self, moving: jax.Array, batch: jax.Array) -> jax.Array:
        return moving * self.momentum + jax.lax.stop_gradient(batch) * (1 - self.momentum)


def _mean_of(x: jax.Array, counted: jax.Array | None) -> jax.Array:
    """Of each channel over rows and pixels, over the rows that count."""
    if counted is None:
        return x.mean((0, 1, 2))
    return jnp.sum(x * counted[:, None, None, None], axis=(0, 1, 2)) / _values_counted(x, counted)


def _unbiased(variance: jax.Array, x: jax.Array, counted: jax.Array | None) -> jax.Array:
    """The variance with one less in its divisor than there are rows and pixels that count."""
    if counted is None:
        count = x.size // x.shape[-1]
        return variance * (count / max(count - 1, 1))
    count = _values_counted(x, counted)
    return variance * (count / jnp.maximum(count - 1, 1))


def _values_counted(x: jax.Array, counted: jax.Array) -> jax.Array:
    return counted.sum() * (x.shape[1] * x.shape[2])


class Dense(nnx.Module):
    """The head: `kernel` [features, classes] glorot-uniform, `bias` [classes] zero; gives logits."""

    def __init__(self, layer: Layer, rngs: nnx.Rngs | None) -> None:
        shape = layer.parameters["kernel"]
        self.kernel = nnx.Param(_drawn(shape, rngs))
        self.bias = nnx.Param(jnp.zeros(layer.channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.matmul(x, self.kernel[...], precision=ops.PRECISION) + self.bias[...]


class Network(Told, nnx.Module):
    """A network; its layers with parameters are attributes under their names. A family is a subclass.

    Args:
        config: which network.
        rngs: seeds the initial weights, as `nnx.Rngs(0)`; None makes them 0, where others take their place.
    """

    config: NetworkConfig

    def __init__(self, config: NetworkConfig, *, rngs: nnx.Rngs | None) -> None:
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

    def summary(self) -> Summary:
        """What is shown of it instead of its weights."""
        config = self.config
        values = sum(math.prod(shape) for shape in config.parameters.values())
        rows = [
            ("width", f"{config.width:g}"),
            ("layers", f"{len(config.backbone_layers)}"),
            ("features", f"{config.features:,}"),
            ("classes", f"{config.classes}" if config.classes else "none, without a head"),
            ("weights", f"{values:,}"),
            *([("preprocessing", config.preprocessing)] if config.preprocessing else []),
        ]
        return Summary(config.label, rows)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits [n, classes] where there is a head, else pooled features [n, features].

        Args:
            x: float32 [n, h, w, 3], preprocessed; h and w at least 32.
            train: normalise with the batch's own statistics and move the moving ones.
        """
        self._check_images(x)
        return self.run(Carry(x), 0, len(self.config.layers), train=train).x

    def intermediates(self, x: jax.Array, names: Sequence[str]) -> dict[str, jax.Array]:
        """Outputs of the named layers, by name, at fixed statistics. Raises JaxtlError for unknown names."""
        self._check_images(x)
        outputs, carry, start = {}, Carry(x), 0
        for stop in sorted({self.config.position(name) + 1 for name in names}):
            carry = self.run(carry, start, stop)
            layer = self.config.layers[stop - 1]
            outputs[layer.name] = carry.skip if layer.on_skip else carry.x
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
        counted: jax.Array | None = None,
    ) -> Carry:
        """Layers `start` to `stop` (exclusive) of `config.layers`, from what `start - 1` left.

        `counted`: float32 [n], 1 for rows that are in the batch's statistics and 0 for those that only fill
        it up; None where all are.
        """
        form = form or ops.default_form()
        for layer in self.config.layers[start:stop]:
            work = self._on(layer, train, form, precision, counted)
            saves = layer.name in self.config.saved
            carry = advanced(layer, carry, work, saves, precision)
        return carry

    def _on(
        self,
        layer: Layer,
        train: bool,
        form: ops.Form,
        precision: ops.Precision,
        counted: jax.Array | None,
    ) -> Work:
        """What a layer makes of the activation that it works on."""
        if layer.kind in ("conv", "depthwise"):
            convolve = getattr(self, layer.name)
            return lambda x: convolve(x, layer_padding(self.config, layer, x), form, precision)
        if layer.kind == "bn":
            return lambda x: getattr(self, layer.name)(x, train, counted)
        if layer.kind == "dense":
            return getattr(self, layer.name)
        return lambda x: apply_unweighted(self.config, layer, x)

    def _check_images(self, x: jax.Array) -> None:
        if x.ndim != 4 or x.shape[3] != 3 or min(x.shape[1:3]) < 32:
            raise JaxtlError(
                f"{self.config.label} takes images [n, h, w, 3] with h and w at least 32, got {list(x.shape)}"
            )


def advanced(layer: Layer, carry: Carry, work: Work, saves: bool, precision: ops.Precision) -> Carry:
    """The state after a layer, whose work an "add" does on the sum; `saves` keeps what comes out."""
    x, skip = carry
    if layer.on_skip:
        return Carry(x, stored(layer, work(skip), precision))
    if layer.kind == "add":
        x, skip = x + skip, None
    x = stored(layer, work(x), precision)
    return Carry(x, x if saves else skip)


def layer_padding(config: NetworkConfig, layer: Layer, x: jax.Array) -> ops.Padding:
    """What a convolution or a max pooling itself pads."""
    return _padding(config, layer, x) if layer.pads else ops.NO_PADDING


def _padding(config: NetworkConfig, layer: Layer, x: jax.Array) -> ops.Padding:
    height, width = x.shape[1:3]
    return config.pads_with(layer, height), config.pads_with(layer, width)


def stored(layer: Layer, x: jax.Array, precision: ops.Precision) -> jax.Array:
    """A layer's output as the next one finds it; pooled features and logits stay float32."""
    return x if layer.kind in ("pool", "dense") else ops.stored(x, precision)


def apply_unweighted(config: NetworkConfig, layer: Layer, x: jax.Array) -> jax.Array:
    """The layers that hold no parameters and look at nothing but `x`."""
    if layer.kind in ACTIVATIONS:
        return ACTIVATIONS[layer.kind](x)
    if layer.kind == "pad":
        return ops.pad(x, _padding(config, layer, x))
    if layer.kind == "maxpool":
        return ops.max_pool(x, layer.kernel_size, layer.stride, _padding(config, layer, x))
    if layer.kind == "pool":
        return ops.widened(x).mean((1, 2))
    return x


# Elementwise kinds; with fixed statistics they join the layer before them. At 0 the gradient of "relu" is 0.
ACTIVATIONS: dict[str, Work] = {"relu": jax.nn.relu, "relu6": lambda x: jnp.clip(x, 0, 6)}
