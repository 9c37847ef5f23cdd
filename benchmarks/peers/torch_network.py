"""timm's MobileNetV2 with jaxtl's weights, padded and normalised as Keras's: whole or cut in two."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from torch import nn

from benchmarks.peers import data
from jaxtl.settings import Images

IMAGES = Images()
_CLASSES = 10
# Keras's, in PyTorch's terms.
_BN_EPSILON, _BN_MOMENTUM = 1e-3, 1e-3
_STATISTICS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class Enter(nn.Module):
    """uint8 [n, h, w, 1] to float32 [n, 3, size, size] in [0, 1], channels last in memory."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size = (IMAGES.image_size, IMAGES.image_size)
        x = F.interpolate(images.permute(0, 3, 1, 2).float(), size, mode="bilinear", align_corners=False)
        return (x / 255).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def backbone() -> nn.Module:
    """timm's network, padded and normalised as Keras's is, without a head."""
    model = timm.create_model(
        "mobilenetv2_100", num_classes=0, pad_type="same", bn_eps=_BN_EPSILON, bn_momentum=_BN_MOMENTUM
    )
    modules = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    arrays = load_file(data.imagenet_file())
    for name, module in zip(_layer_names(), modules, strict=True):
        state = {"num_batches_tracked": torch.tensor(0)} if isinstance(module, nn.BatchNorm2d) else {}
        own = [key for key in arrays if key.startswith(f"{name}/")]
        module.load_state_dict(state | dict(_converted(key, arrays.pop(key)) for key in own))
    if arrays:
        raise ValueError(f"timm's MobileNetV2 has no {', '.join(arrays)}")
    return model


def _layer_names() -> Iterator[str]:
    """Keras's names of the layers with weights, in the order of the network, which is timm's too."""
    yield from ("Conv1", "bn_Conv1")
    for block in ("expanded_conv", *(f"block_{number}" for number in range(1, 17))):
        for part in ("expand", "depthwise", "project")[block == "expanded_conv" :]:
            yield from (f"{block}_{part}", f"{block}_{part}_BN")
    yield from ("Conv_1", "Conv_1_bn")


def _converted(name: str, array: np.ndarray) -> tuple[str, torch.Tensor]:
    kind = name.rpartition("/")[2]
    # [k, k, in, out] for a full convolution, [k, k, channels, 1] for a depthwise one.
    axes = {"kernel": (3, 2, 0, 1), "depthwise_kernel": (2, 3, 0, 1)}
    if kind in axes:
        return "weight", torch.tensor(np.ascontiguousarray(array.transpose(axes[kind])))
    return _STATISTICS[kind], torch.tensor(array)


def halves() -> tuple[nn.Module, nn.Module]:
    """The frozen layers, up to block 16's expansion, and those that learn, with a fresh head, in training."""
    whole = backbone()
    last = whole.blocks[6][0]
    frozen = nn.Sequential(Enter(), whole.conv_stem, whole.bn1, whole.blocks[:6], last.conv_pw)
    head = nn.Linear(whole.num_features, _CLASSES)
    nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)
    learning = nn.Sequential(
        last.bn1,
        last.conv_dw,
        last.bn2,
        last.conv_pwl,
        last.bn3,
        whole.conv_head,
        whole.bn2,
        whole.global_pool,
        head,
    )
    return _Frozen(frozen), learning.train()


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
