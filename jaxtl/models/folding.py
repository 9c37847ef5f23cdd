"""Layers with fixed statistics as fewer, fused steps: batch normalisation joins the convolution before it.

The plan (`Step`s) is static and hashable, the arrays travel beside it, so one compiled function serves
every set of weights of the same network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.models import ops
from jaxtl.models.mobilenet_v2 import (
    Carry,
    Layer,
    MobileNetV2,
    MobileNetV2Config,
    apply_unweighted,
    layer_padding,
    stored,
)

Arrays = tuple[dict[str, jax.Array], ...]


@dataclass(frozen=True)
class Step:
    """One fused step: a layer, then bias and ReLU6 where set; `saves` keeps the result for a later "add"."""

    layer: Layer
    relu6: bool = False
    saves: bool = False


@dataclass(frozen=True)
class Plan:
    """The steps of a stretch of a network.

    `config` is that of the network without a head and preprocessing: the same layers are the same plan.
    """

    config: MobileNetV2Config
    steps: tuple[Step, ...]


def fold(model: MobileNetV2, start: int, stop: int) -> tuple[Plan, Arrays]:
    """Fuse layers `start` to `stop` (exclusive) of a model at its moving statistics.

    Products of the fold are formed in float64 and rounded once. Returns a plan and its arrays, one
    dictionary a step, for `run`.
    """
    config = model.config
    steps: list[Step] = []
    arrays: list[dict[str, np.ndarray]] = []
    for layer in config.layers[start:stop]:
        open_step = steps[-1] if steps and not (steps[-1].relu6 or steps[-1].saves) else None
        if layer.kind == "bn" and open_step and open_step.layer.kind in ("conv", "depthwise"):
            arrays[-1] = _fold_into(open_step.layer, arrays[-1], _affine(getattr(model, layer.name)))
        elif layer.kind == "relu6" and open_step:
            steps[-1] = replace(open_step, relu6=True)
        else:
            steps.append(Step(layer))
            arrays.append(_arrays(model, layer))
        if layer.name in config.saved:
            steps[-1] = replace(steps[-1], saves=True)
    as_float32 = tuple({name: a.astype(np.float32) for name, a in group.items()} for group in arrays)
    return Plan(replace(config, classes=None, preprocessing=None), tuple(steps)), jax.device_put(as_float32)


def run(
    plan: Plan, arrays: Arrays, carry: Carry, form: ops.Form, precision: ops.Precision = "highest"
) -> Carry:
    """What `MobileNetV2.run` gives for the same layers, up to rounding."""
    x, skip = carry
    for step, weights in zip(plan.steps, arrays, strict=True):
        if step.layer.kind == "add":
            x, skip = x + skip, None
        else:
            x = _apply(plan.config, step.layer, weights, x, form, precision)
        if step.relu6:
            x = jnp.clip(x, 0, 6)
        x = stored(step.layer, x, precision)
        if step.saves:
            skip = x
    return Carry(x, skip)


def _apply(
    config: MobileNetV2Config,
    layer: Layer,
    weights: dict,
    x: jax.Array,
    form: ops.Form,
    precision: ops.Precision,
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


def _arrays(model: MobileNetV2, layer: Layer) -> dict[str, np.ndarray]:
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
