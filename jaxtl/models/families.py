"""The families of networks: their classes, their networks, and where weights of them are had."""

from __future__ import annotations

from typing import NamedTuple

from jaxtl.models.layers import NetworkConfig
from jaxtl.models.mobilenet_v2 import MobileNetV2, MobileNetV2Config
from jaxtl.models.network import Network
from jaxtl.models.resnet import DEPTHS, ResNet, ResNetConfig


class Checkpoints(NamedTuple):
    """Files of weights that become jaxtl's: whose, the subcommand of `weights_convert`, how they end."""

    library: str
    command: str
    suffix: str


class Family(NamedTuple):
    """A family.

    Attributes:
        config, network: its classes.
        members: its networks, one for each `--model`, as their checkpoints have them.
        checkpoints: those that a user is told to convert.
    """

    config: type[NetworkConfig]
    network: type[Network]
    members: tuple[NetworkConfig, ...]
    checkpoints: Checkpoints


_KERAS = Checkpoints("Keras", "keras", ".h5")
_TORCHVISION = Checkpoints("torchvision", "torch", ".pth")


# By `NetworkConfig.family`, which files of weights name.
FAMILIES = {
    "mobilenet_v2": Family(MobileNetV2Config, MobileNetV2, (MobileNetV2Config(),), _KERAS),
    "resnet": Family(ResNetConfig, ResNet, tuple(map(ResNetConfig, DEPTHS)), _TORCHVISION),
}
