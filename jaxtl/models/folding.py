"""Layers with fixed statistics as fewer, fused steps: batch normalisation joins the convolution before it.

The plan (`Step`s) is static and hashable, the arrays travel beside it, so one compiled function serves
every set of weights of the same network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.machine.remembered import Remembered
from jaxtl.models import ops
from jaxtl.models.layers import Layer, NetworkConfig
from jaxtl.models.network import ACTIVATIONS, Carry, Network, advanced, apply_unweighted, layer_padding

Arrays = tuple[dict[str, jax.Array], ...]
# Before and after fine-tuning; one takes 40 ms, as long as some dozens of images.
_KEPT = 2


@dataclass(frozen=True)
class Step:
    """One fused step: a layer, then bias and an activation where set; `saves` keeps the result for an "add".

    `activation` is one of `jaxtl.models.network.ACTIVATIONS`.
    """

    layer: Layer
    activation: str | None = None
    saves: bool = False

    def takes(self, layer: Layer) -> bool:
        """Whether a layer right behind it can join it."""
        if self.activation or self.saves or self.layer.on_skip != layer.on_skip:
            return False
        convolves = self.layer.kind in ("conv", "depthwise")
        return layer.kind in ACTIVATIONS or (layer.kind == "bn" and convolves)


@dataclass(frozen=True)
class Plan:
    """The steps of a stretch of a network.

    `config` is that of the network without a head and preprocessing: the same layers are the same plan.
    """

    config: NetworkConfig
    steps: tuple[Step, ...]


def fold(model: Network, start: int, stop: int) -> tuple[Plan, Arrays]:
    """Fuse layers `start` to `stop` (exclusive) of a model at its moving statistics.

    Products of the fold are formed in float64 and rounded once. Returns a plan and its arrays, one
    dictionary a step, for `run`. While a model has the same arrays, so has its fold.
    """
    return fold_stretches(model, (start, stop))[0]


def fold_stretches(model: Network, cuts: Sequence[int]) -> list[tuple[Plan, Arrays]]:
    """`fold` of every stretch from one number of layers to the next."""
    layers = model.config.layers[cuts[0] : cuts[-1]]
    variables = (getattr(getattr(model, layer.name), name) for layer in layers for name in layer.parameters)
    # As they are held: a value that can change in its place is then none of JAX's arrays.
    arrays = [variable.get_raw_value() for variable in variables]
    # Another device is where the fold would go.
    key = model.config, tuple(cuts), jax.config.jax_default_device
    return _folds.of(key, arrays, lambda: [_folded(model, *stretch) for stretch in pairwise(cuts)])


_folds: Remembered[list[tuple[Plan, Arrays]]] = Remembered(_KEPT)


def _folded(model: Network, start: int, stop: int) -> tuple[Plan, Arrays]:
    config = model.config
    steps: list[Step] = []
    arrays: list[dict[str, np.ndarray]] = []
    for layer in config.layers[start:stop]:
        if not (steps and steps[-1].takes(layer)):
            steps.append(Step(layer))
            arrays.append(_arrays(model, layer))
        elif layer.kind == "bn":
            arrays[-1] = _fold_into(steps[-1].layer, arrays[-1], _affine(getattr(model, layer.name)))
        else:
            steps[-1] = replace(steps[-1], activation=layer.kind)
        if layer.name in config.saved:
            steps[-1] = replace(steps[-1], saves=True)
    as_float32 = tuple({name: a.astype(np.float32) for name, a in group.items()} for group in arrays)
    return Plan(replace(config, classes=None, preprocessing=None), tuple(steps)), jax.device_put(as_float32)


def run(
    plan: Plan, arrays: Arrays, carry: Carry, form: ops.Form, precision: ops.Precision = "highest"
) -> Carry:
    """What `Network.run` gives for the same layers, up to rounding."""
    for step, weights in zip(plan.steps, arrays, strict=True):
        work = partial(_apply, plan.config, step, weights, form, precision)
        carry = advanced(step.layer, carry, work, step.saves, precision)
    return carry


def _apply(
    config: NetworkConfig,
    step: Step,
    weights: dict[str, jax.Array],
    form: ops.Form,
    precision: ops.Precision,
    x: jax.Array,
) -> jax.Array:
    x = _without_activation(config, step.layer, weights, form, precision, x)
    return ACTIVATIONS[step.activation](x) if step.activation else x


def _without_activation(
    config: NetworkConfig,
    layer: Layer,
    weights: dict[str, jax.Array],
    form: ops.Form,
    precision: ops.Precision,
    x: jax.Array,
) -> jax.Array:
    if layer.kind == "bn":
        return x * weights["scale"] + weights["bias"]
    if layer.kind == "dense":
        return jnp.matmul(x, weights["kernel"], precision=ops.PRECISION) + weights["bias"]
    if layer.kind not in ("conv", "depthwise"):
        return apply_unweighted(config, layer, x)
    convolve = ops.convolve if layer.kind == "conv" else ops.convolve_depthwise
    x = convolve(x, weights["kernel"], layer.stride, layer_padding(config, layer, x), form, precision)
    return x + weights["bias"] if "bias" in weights else x


def _arrays(model: Network, layer: Layer) -> dict[str, np.ndarray]:
    if layer.kind == "bn":
        scale, bias = _affine(getattr(model, layer.name))
        return {"scale": scale, "bias": bias}
    if layer.kind == "depthwise":
        return {"kernel": _host(getattr(model, layer.name).depthwise_kernel)}
    return {name: _host(getattr(getattr(model, layer.name), name)) for name in layer.parameters}


def _affine(bn) -> tuple[np.ndarray, np.ndarray]:
    scale = _host(bn.gamma) / np.sqrt(_host(bn.moving_variance) + bn.epsilon)
    return scale, _host(bn.beta) - _host(bn.moving_mean) * scale


def _fold_into(
    layer: Layer, weights: dict[str, np.ndarray], affine: tuple[np.ndarray, np.ndarray]
) -> dict[str, np.ndarray]:
    scale, bias = affine
    # Output channels lie last in a full kernel and third in a depthwise one.
    scale = scale if layer.kind == "conv" else scale[:, None]
    return {"kernel": weights["kernel"] * scale, "bias": bias}


def _host(variable) -> np.ndarray:
    return np.asarray(variable.get_value(), np.float64)
