"""The families of networks, each by its classes."""

from __future__ import annotations

from typing import NamedTuple

from jaxtl.models.layers import NetworkConfig
from jaxtl.models.mobilenet_v2 import MobileNetV2, MobileNetV2Config
from jaxtl.models.network import Network
from jaxtl.models.resnet import ResNet, ResNetConfig


class Family(NamedTuple):
    """The classes of a family."""

    config: type[NetworkConfig]
    network: type[Network]


# By `NetworkConfig.family`, which files of weights name.
FAMILIES = {
    "mobilenet_v2": Family(MobileNetV2Config, MobileNetV2),
    "resnet": Family(ResNetConfig, ResNet),
}
