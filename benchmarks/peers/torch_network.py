"""torchvision's MobileNetV2 with jaxtl's weights, as `jaxtl export` makes it: whole or cut in two."""

from __future__ import annotations

import runpy
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers.network import IMAGES, export

_CLASSES = 10


class Enter(nn.Module):
    """uint8 [n, h, w, 1] to float32 [n, 3, size, size] in [0, 1], channels last in memory."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size = (IMAGES.image_size, IMAGES.image_size)
        x = F.interpolate(images.permute(0, 3, 1, 2).float(), size, mode="bilinear", align_corners=False)
        return (x / 255).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def backbone() -> nn.Module:
    """Without a head; padded and normalised as Keras's is."""
    with tempfile.TemporaryDirectory() as folder:
        return runpy.run_path(str(export("torch", Path(folder, "network.safetensors"))))["load"]()


def halves() -> tuple[nn.Module, nn.Module]:
    """The frozen layers, up to block 16's expansion, and those that learn, with a fresh head, in training."""
    *blocks, last, final = backbone().features
    expand, *behind = last.conv[0]
    head = nn.Linear(final[0].out_channels, _CLASSES)
    nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)
    ends = nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    frozen = _Frozen(nn.Sequential(Enter(), *blocks, expand))
    return frozen, nn.Sequential(*behind, *last.conv[1:], final, *ends).train()


class _Frozen(nn.Module):
    """Layers at their fixed statistics, without gradients, whatever mode the whole is in."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> nn.Module:
        del mode
        return super().train(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)
