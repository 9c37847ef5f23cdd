"""MobileNetV2 in plain PyTorch, as a user would write it: with jaxtl's weights, on the card or a CPU.

Both peers start from uint8 images in host memory and end with features there; both resize on the device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.gpu_results import Result, timing
from jaxtl.data import load
from jaxtl.models.mobilenet_v2 import Layer, MobileNetV2Config, stride_padding
from jaxtl.models.weights import imagenet_path, load_arrays
from jaxtl.settings import FinetuneConfig, Images
from jaxtl.trunk import trainable_boundary

IMAGES = Images()
_CLASSES = 10


class Enter(nn.Module):
    """uint8 [n, h, w, 1] to float32 [n, 3, size, size] in [0, 1], channels last in memory."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.permute(0, 3, 1, 2).float()
        size = (IMAGES.image_size, IMAGES.image_size)
        x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=False) / 255
        return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


class Residual(nn.Sequential):
    """What a block computes, and its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x)


class Pool(nn.Module):
    """Global average pooling."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def network(start: int, stop: int, classes: int | None = None) -> tuple[nn.Sequential, dict[str, nn.Module]]:
    """Layers `start` to `stop` (exclusive), on the device, with a head of `classes`; and each layer by name.

    It takes uint8 images where it starts with the input, else activations [n, c, h, w].
    """
    config, arrays, _ = load_arrays(imagenet_path())
    size, stack = IMAGES.image_size, {}
    for position, layer in enumerate(config.layers[:stop]):
        module = _module(config, layer, arrays, size)
        size = -(-size // layer.stride) if layer.kind in ("conv", "depthwise") else size
        if position >= start:
            stack[layer.name] = module
    named = dict(stack)
    for layer in config.layers[start:stop]:
        if layer.kind == "add":
            names = list(stack)
            inside = names[names.index(layer.adds) + 1 : names.index(layer.name)]
            stack[layer.name] = Residual(*(stack.pop(name) for name in inside))
    head = [nn.Linear(config.features, classes)] if classes else []
    whole = nn.Sequential(*stack.values(), *head)
    return whole.to(_device(), memory_format=torch.channels_last), named


def _module(config: MobileNetV2Config, layer: Layer, arrays: dict[str, np.ndarray], size: int) -> nn.Module:
    plain = {"input": Enter, "relu6": nn.ReLU6, "pool": Pool, "add": nn.Identity}
    if layer.kind in plain:
        return plain[layer.kind]()
    if layer.kind == "pad":
        return _padding(config, size)
    own = {name: torch.tensor(arrays[f"{layer.name}/{name}"]) for name in layer.parameters}
    if layer.kind == "bn":
        module = nn.BatchNorm2d(layer.channels, config.bn_epsilon, 1 - config.bn_momentum)
        state = {"weight": own["gamma"], "bias": own["beta"],
                 "running_mean": own["moving_mean"], "running_var": own["moving_variance"]}  # fmt: skip
        module.load_state_dict(state, strict=False)
        return module
    module = _convolution(layer, next(iter(own.values())))
    # A depthwise convolution of stride 2 has a "pad" before it, the first full one pads by itself.
    pads = layer.kind == "conv" and layer.stride == 2
    return nn.Sequential(_padding(config, size), module) if pads else module


def _convolution(layer: Layer, kernel: torch.Tensor) -> nn.Conv2d:
    depthwise = layer.kind == "depthwise"
    module = nn.Conv2d(
        layer.channels_in, layer.channels, layer.kernel_size, layer.stride,
        padding=1 if depthwise and layer.stride == 1 else 0,
        groups=layer.channels if depthwise else 1, bias=False,
    )  # fmt: skip
    # [k, k, in, out] for a full one, [k, k, channels, 1] for a depthwise one.
    module.load_state_dict({"weight": kernel.permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))})
    return module


def _padding(config: MobileNetV2Config, size: int) -> nn.Module:
    (top, bottom), (left, right) = stride_padding(config, size, size)
    return nn.ZeroPad2d((left, right, top, bottom))


def features(n: int) -> np.ndarray:
    """float32 [n, 1280] of the first test images, TF32 off."""
    _allow_tf32(False)
    return _extract(_pooled(), _images("test", n), min(n, 1024))


def forward(n: int, batch_size: int, repeats: int, tf32: bool, compiled: bool) -> Result:
    """Images/s of the network at fixed statistics."""
    _allow_tf32(tf32)
    predict = _compile(_pooled()) if compiled else _pooled()
    images = _images("test", n)
    what = f"PyTorch {_mode(compiled)}, TF32 {'on' if tf32 else 'off'}, batch {batch_size}"
    return {"times": [timing(what, lambda: _extract(predict, images, batch_size), repeats, n)]}


def train_tail(n: int, steps: int, repeats: int, compiled: bool) -> Result:
    """Steps of the layers that learn and the head over the trunk's outputs, which are on the device."""
    _allow_tf32(False)
    config, boundary = _boundary()
    trunk = network(0, boundary)[0].eval()
    with torch.no_grad():
        source = torch.cat([trunk(batch) for batch in _batches(_images("train", n), min(n, 1024))])[:n]
    tail = network(boundary, config.pooled, _CLASSES)[0].train()
    what = f"PyTorch {_mode(compiled)}, training the tail, {steps} steps"
    return {"times": [_training(what, tail, source, steps, repeats, compiled)]}


def train_whole(n: int, steps: int, repeats: int, compiled: bool) -> Result:
    """The same, with every image through the whole network in every step; the frozen layers stay fixed."""
    _allow_tf32(False)
    config, boundary = _boundary()
    whole, named = network(0, config.pooled, _CLASSES)
    for layer in config.layers[:boundary]:
        named[layer.name].eval().requires_grad_(False)
    source = torch.from_numpy(np.ascontiguousarray(_images("train", n))).to(_device())
    what = f"PyTorch {_mode(compiled)}, training through the whole network, {steps} steps"
    return {"times": [_training(what, whole, source, steps, repeats, compiled)]}


def _training(
    what: str, model: nn.Module, source: torch.Tensor, steps: int, repeats: int, compiled: bool
) -> Result:
    config = FinetuneConfig()
    labels = torch.from_numpy(load("mnist", "train").labels[: len(source)]).long().to(_device())
    learning = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=config.learning_rate, eps=1e-7)
    predict = _compile(model) if compiled else model
    generator = torch.Generator().manual_seed(config.seed)

    def work() -> None:
        order = torch.randint(len(source), (steps, config.batch_size), generator=generator).to(_device())
        for rows in order:
            optimizer.zero_grad(set_to_none=True)
            batch = source[rows]
            if batch.is_floating_point():  # a selection may forget how its source lay in memory
                batch = batch.contiguous(memory_format=torch.channels_last)
            F.cross_entropy(predict(batch), labels[rows]).backward()
            optimizer.step()
        _wait()

    return timing(what, work, repeats, steps * config.batch_size)


def _boundary() -> tuple[MobileNetV2Config, int]:
    config = load_arrays(imagenet_path())[0]
    return config, trainable_boundary(config, FinetuneConfig().trainable)


@torch.no_grad()
def _extract(predict: Callable[[Any], Any], images: np.ndarray, batch_size: int) -> np.ndarray:
    found = torch.cat([predict(batch) for batch in _batches(images, batch_size)])
    return found[: len(images)].cpu().numpy()


def _batches(images: np.ndarray, size: int) -> Iterator[torch.Tensor]:
    """All of one size, for one compiled network; the last is filled up with the last image."""
    for start in range(0, len(images), size):
        rows = np.minimum(np.arange(start, start + size), len(images) - 1)
        yield torch.from_numpy(images[rows]).to(_device(), non_blocking=True)


def _pooled() -> nn.Module:
    return network(0, load_arrays(imagenet_path())[0].pooled)[0].eval()


def _compile(model: nn.Module) -> Callable[[Any], Any]:
    torch._dynamo.reset()  # what was compiled for other settings
    # A graph in pieces would be no peer; this refuses one.
    return torch.compile(model, fullgraph=True)


def _mode(compiled: bool) -> str:
    return "compiled" if compiled else "eager"


@cache
def _device() -> torch.device:
    # Where no card is hidden on purpose, a PyTorch without CUDA has to fail, not to fall back.
    return torch.device("cpu" if os.environ.get("CUDA_VISIBLE_DEVICES") == "" else "cuda")


def _wait() -> None:
    if _device().type == "cuda":
        torch.cuda.synchronize()


def _allow_tf32(allowed: bool) -> None:
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def _images(split: str, n: int) -> np.ndarray:
    return load("mnist", split).take(n).images


def describe() -> Result:
    """Where PyTorch computes."""
    card = torch.cuda.get_device_name() if _device().type == "cuda" else "cpu"
    return {"numbers": {"version": torch.__version__, "CUDA": str(torch.version.cuda), "device": card}}
