"""How Keras names the tensors of a family of networks whose names are Keras's.

Legacy HDF5 (weights alone, or a whole model with the backbone in it) names tensors after layers; Keras 3
(`.weights.h5`, `.keras`) numbers layers by class. Both hold convolution kernels as
[k, k, channels_in, channels], as jaxtl does, so a name is all that changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from jaxtl.models.layers import Layer, NetworkConfig
from weights_convert.hdf5 import Tensor

_KINDS = {"conv2d": "conv", "depthwise_conv2d": "depthwise", "batch_normalization": "bn", "dense": "dense"}
# Keras's one name for both kinds of kernel since Keras 3.
_KEY_ALIASES = {("depthwise", "kernel"): "depthwise_kernel"}
# Keras 3: "layers/conv2d_3/vars/0", nested "layers/functional/layers/conv2d_3/vars/0". `container` is what
# encloses the backbone, `kind` and `number` the class-wise count of layers, `slot` a parameter's number.
_NUMBERED = re.compile(
    rf"(?P<container>(?:.*/)?)layers/(?P<kind>{'|'.join(_KINDS)})"
    r"(?:_(?P<number>\d{1,4}))?/vars/(?P<slot>\d{1,4})"
)


@dataclass(frozen=True)
class KerasLayout:
    """Keras's names for one family of networks; they are ours.

    Attributes:
        usual: the network as Keras makes it; its width and classes play no part.
        aliases: names that layers had before Keras settled on today's, and today's.
    """

    usual: NetworkConfig
    aliases: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def known(self) -> frozenset[str]:
        """Our names of a backbone's arrays."""
        return frozenset(_with_classes(self.usual, None).parameters)

    @property
    def head(self) -> tuple[str, str]:
        """Our names of the head's arrays, whether or not there is one."""
        return f"{self.usual.head}/kernel", f"{self.usual.head}/bias"

    def address(self, tensor: Tensor) -> tuple[str, str] | None:
        """What encloses a tensor, and its name among ours; None for what belongs to no such network."""
        if match := self._named.fullmatch(tensor.path):
            return match["container"], self._name(match["layer"], match["key"])
        if match := _NUMBERED.fullmatch(tensor.path):
            layer = self._layer_of(_KINDS[match["kind"]], int(match["number"] or 0), tensor.label)
            return (match["container"], _slot(layer, int(match["slot"]))) if layer else None
        return None

    def shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of an array of ours: where Keras's head is a 1x1 convolution, its kernel loses two axes."""
        return shape[2:] if name == self.head[0] and shape[:-2] == (1, 1) else shape

    @cached_property
    def _layers(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in _with_classes(self.usual, 2).layers if layer.parameters}

    @cached_property
    def _named(self) -> re.Pattern[str]:
        # "Conv1/Conv1/kernel:0", nested "mobilenetv2_1.00_224/Conv1/kernel:0"; Keras 3 omits ":0". A block of
        # any number is the network's, so that one too many is found and refused.
        names = [re.escape(name) for name in (*self._layers, *self.aliases)]
        layer = "|".join(sorted({re.sub(r"(?<=_)\d+", r"\\d+", name) for name in names}))
        return re.compile(
            rf"(?P<container>(?:.*?/)??)(?P<layer>{layer})/(?:(?:[^/]+/)*(?P=layer)/)?(?P<key>[^/:]+)(?::0)?"
        )

    def _name(self, layer: str, key: str) -> str:
        name = self.aliases.get(layer, layer)
        kind = self._layers[name].kind if name in self._layers else ""
        return f"{name}/{_KEY_ALIASES.get((kind, key), key)}"

    def _layer_of(self, kind: str, number: int, label: str | None) -> Layer | None:
        if label is not None:
            layer = self._layers.get(self.aliases.get(label, label))
            return layer if layer and kind in _stored_as(layer) else None
        # Up to 3.5 at least, Keras 3 notes no names; without one, a Dense may be the user's own head.
        layers = [layer for layer in self._layers.values() if layer.kind == kind]
        return layers[number] if number < len(layers) and kind != "dense" else None


def _with_classes(config: NetworkConfig, classes: int | None) -> NetworkConfig:
    network: Any = config
    return replace(network, classes=classes)


def _stored_as(layer: Layer) -> tuple[str, ...]:
    return ("dense", "conv") if layer.kind == "dense" else (layer.kind,)


def _slot(layer: Layer, slot: int) -> str:
    keys = list(layer.parameters)
    return f"{layer.name}/{keys[slot] if slot < len(keys) else slot}"
