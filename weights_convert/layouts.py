"""Which tensor of a Keras file is which parameter of MobileNetV2, by name alone.

Layouts: legacy HDF5 (weights alone, or a whole model with the backbone in it) names tensors after
layers; Keras 3 (`.weights.h5`, `.keras`) numbers layers by class. Both hold convolution kernels as
[k, k, channels_in, channels], as jaxtl does, so a name is all that changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtl.errors import JaxtlError
from jaxtl.models.layers import Layer
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from weights_convert.hdf5 import Tensor

_LAYERS = {layer.name: layer for layer in MobileNetV2Config(classes=2).layers if layer.parameters}
_BLOCK = r"(?:expanded_conv|block_\d+)_(?:expand|depthwise|project)(?:_BN)?"
_LAYER = rf"Conv1|bn_Conv1|{_BLOCK}|Conv_1|Conv_1_bn|predictions|Logits"
_KINDS = {"conv2d": "conv", "depthwise_conv2d": "depthwise", "batch_normalization": "bn", "dense": "dense"}
_BY_KIND = {kind: [layer for layer in _LAYERS.values() if layer.kind == kind] for kind in _KINDS.values()}

# The whole naming of each layout. `container` is what encloses the backbone, `layer` a layer's name,
# `key` the parameter's name, `slot` its number, `kind` and `number` the class-wise count of layers.
_RULES = (
    # Legacy: "Conv1/Conv1/kernel:0", nested "mobilenetv2_1.00_224/Conv1/kernel:0"; Keras 3 omits ":0".
    re.compile(
        rf"(?P<container>(?:.*?/)??)(?P<layer>{_LAYER})/(?:(?:[^/]+/)*(?P=layer)/)?(?P<key>[^/:]+)(?::0)?"
    ),
    # Keras 3: "layers/conv2d_3/vars/0", nested "layers/functional/layers/conv2d_3/vars/0".
    re.compile(
        rf"(?P<container>(?:.*/)?)layers/(?P<kind>{'|'.join(_KINDS)})"
        r"(?:_(?P<number>\d{1,4}))?/vars/(?P<slot>\d{1,4})"
    ),
)
# Keras's names before it settled on today's, and its one name for both kinds of kernel since Keras 3.
_LAYER_ALIASES = {"Logits": "predictions"}
_KEY_ALIASES = {("depthwise", "kernel"): "depthwise_kernel"}
STATE = ("optimizer/", "optimizer_weights/")
_FLAT = ("", "model_weights/")


@dataclass(frozen=True)
class Backbone:
    """The tensors of one MobileNetV2 in a file by our names, those that have no place in it, and the rest."""

    found: dict[str, Tensor]
    unknown: dict[str, Tensor]
    outside: dict[str, Tensor]


def locate(tensors: Mapping[str, Tensor], where: str) -> Backbone:
    """Group tensors by what encloses them; the backbone is the one group with most of a MobileNetV2."""
    groups: dict[str, dict[str, list[Tensor]]] = {}
    for tensor in tensors.values():
        address = None if tensor.path.startswith(STATE) else _address(tensor)
        if address:
            container, name = address
            groups.setdefault(container, {}).setdefault(name, []).append(tensor)
    known = MobileNetV2Config().parameters
    backbones = [c for c, names in groups.items() if len(names.keys() & known.keys()) > len(known) // 2]
    if not backbones:
        some = ", ".join(sorted(tensors)[:3]) or "none at all"
        raise JaxtlError(
            f"{where}: holds no MobileNetV2; its tensors are {some}, ...; give a file of MobileNetV2"
        )
    if len(backbones) > 1:
        places = ", ".join(sorted(backbones))
        raise JaxtlError(f"{where}: holds {len(backbones)} backbones ({places}); save one of them alone")
    return _split(tensors, backbones[0], groups[backbones[0]], where)


def _split(
    tensors: Mapping[str, Tensor], container: str, names: dict[str, list[Tensor]], where: str
) -> Backbone:
    twice = [" and ".join(t.path for t in group) for group in names.values() if len(group) > 1]
    if twice:
        raise JaxtlError(f"{where}: several tensors for one parameter: {'; '.join(twice[:3])}; save it again")
    named = {name: group[0] for name, group in names.items()}
    taken = {tensor.path for tensor in named.values()}
    rest = {path: t for path, t in sorted(tensors.items()) if path not in taken}
    nested = container not in _FLAT
    unknown = {path: t for path, t in rest.items() if nested and path.startswith(container)}
    return Backbone(named, unknown, {path: t for path, t in rest.items() if path not in unknown})


def _address(tensor: Tensor) -> tuple[str, str] | None:
    """What encloses a tensor, and its name among ours; None for what belongs to no MobileNetV2."""
    for rule in _RULES:
        match = rule.fullmatch(tensor.path)
        if match:
            parts = match.groupdict()
            name = _named(parts) if parts.get("layer") else _numbered(parts, tensor.label)
            return (parts["container"], name) if name else None
    return None


def _named(parts: Mapping[str, str]) -> str:
    name = _LAYER_ALIASES.get(parts["layer"], parts["layer"])
    kind = _LAYERS[name].kind if name in _LAYERS else None
    return f"{name}/{_KEY_ALIASES.get((kind, parts['key']), parts['key'])}"


def _numbered(parts: Mapping[str, str], label: str | None) -> str | None:
    layer = _layer_of(_KINDS[parts["kind"]], int(parts["number"] or 0), label)
    if layer is None:
        return None
    keys, slot = list(layer.parameters), int(parts["slot"])
    return f"{layer.name}/{keys[slot] if slot < len(keys) else slot}"


def _layer_of(kind: str, number: int, label: str | None) -> Layer | None:
    if label is not None:
        layer = _LAYERS.get(_LAYER_ALIASES.get(label, label))
        return layer if layer and layer.kind == kind else None
    # Up to 3.5 at least, Keras 3 notes no names; without one, a Dense may be the user's own head.
    layers = _BY_KIND[kind]
    return layers[number] if number < len(layers) and kind != "dense" else None
