"""A network as a state_dict for torchvision's own class, in safetensors, and a short module that loads it.

torchvision's classes pad stride-2 convolutions by half of the kernel on every side and their batch
normalisation has an epsilon of 1e-5; a network that Keras trained wants neither. The module therefore makes
torchvision's class with this network's epsilon and, where needed, pads before those convolutions as Keras
does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.numpy import save

from jaxtl.errors import JaxtlError
from jaxtl.exports.network import ExportedNetwork
from jaxtl.exports.torchvision import MADE_BY, SETTINGS, state_dict
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.resnet import ResNetConfig
from jaxtl.models.weights import with_metadata
from jaxtl.records.files import replacing, write_text
from jaxtl.settings import mean_and_deviation

_FIRST_LINE = '"""Made by jaxtl export: loads {weights} into torchvision\'s {label}."""'
_MARK = '"""Made by jaxtl export:'
# The padding before stride 2: none of the layer's own, but Keras's, which depends on the size.
_PADDED = """

def _pad(layer, inputs):
    kernel = layer.kernel_size if isinstance(layer.kernel_size, int) else layer.kernel_size[0]
    sides = []
    for size in reversed(inputs[0].shape[-2:]):
        total = max(kernel - 1 - (size - 1) % 2, 0)
        sides += [total // 2, total - total // 2]
    return torch.nn.functional.pad(inputs[0], sides)
"""
# Zeros before max pooling too: it follows a ReLU, so that they change no maximum.
_PAD = """    for layer in network.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.MaxPool2d)) and layer.stride in (2, (2, 2)):
            layer.padding = (0, 0)
            layer.register_forward_pre_hook(_pad)
"""
_MODULE = '''{first_line}

from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file

WEIGHTS = Path(__file__).with_name({weights!r})
IMAGE_SIZE = {image_size}
# Of R, G and B, for pixels in [0, 1].
MEAN = {mean}
DEVIATION = {deviation}
CLASS_NAMES = {class_names!r}
{padded}

def load():
    """torchvision's {label} in eval mode, of what `prepare` gives; it gives {gives}."""
    network = torchvision.models.{make}(num_classes={classes}{settings})
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eps, layer.momentum = {epsilon!r}, {momentum!r}
{changes}    network.load_state_dict(load_file(WEIGHTS))
    return network.eval()


def prepare(images):
    """The network's input, of uint8 images [n, h, w, 3] that are resized already."""
    pixels = torch.as_tensor(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)


def features(network, images):
    """The pooled features [n, {features}] that jaxtl computes of such images."""
    with torch.no_grad():
        return {pooled}
'''


class _Form(NamedTuple):
    """How torchvision makes a family's network.

    Attributes:
        make: its function, which is what the network is called there.
        settings: more of its arguments, as source.
        changes: lines of source that change the network before its weights are loaded.
        head: the module whose place is empty where there is no head.
        pooled: pooled features of `prepare(images)`, as source.
    """

    make: str
    settings: str
    changes: str
    head: str
    pooled: str


def write(network: ExportedNetwork, out: Path) -> list[Path]:
    """Write OUT.safetensors and OUT.py beside it.

    Raises JaxtlError where that OUT.py is another's, or where torchvision has no such network.
    """
    module = out.with_suffix(".py")
    if module.exists() and not module.read_text(errors="replace").startswith(_MARK):
        raise JaxtlError(f"{module}: is not jaxtl's, and would be overwritten; give another name with --out")
    config = network.config
    if config.family not in _FORMS:
        raise JaxtlError(f"torchvision has no {config.label}; export it with --to onnx or --to keras")
    form = _FORMS[config.family](config)
    tensors = save(state_dict(config, network.arrays))
    with replacing(out) as temporary:
        temporary.write_bytes(with_metadata(tensors, _metadata(network, module, form.make)))
    write_text(module, _module(network, out, form))
    return [out, module]


def _of_mobilenet_v2(config: MobileNetV2Config) -> _Form:
    pooled = "network.features(prepare(images)).mean((2, 3))"
    return _Form(config.name, f", width_mult={config.width!r}", "", "classifier", pooled)


def _of_resnet(config: ResNetConfig) -> _Form:
    if config.width != 1:
        raise JaxtlError(
            f"torchvision has no ResNet of width {config.width:g}; export it with --to onnx or --to keras"
        )
    changes = ""
    if (config.stem_kernel, config.stem_stride) != (7, 2):
        how = f"{config.stem_kernel}, {config.stem_stride}, {config.stem_kernel // 2}, bias=False"
        changes += f"    network.conv1 = torch.nn.Conv2d(3, 64, {how})\n"
    if not config.stem_pool:
        changes += "    network.maxpool = torch.nn.Identity()\n"
    pooled = "torch.nn.Sequential(*list(network.children())[:-1])(prepare(images)).flatten(1)"
    return _Form(config.name, "", changes, "fc", pooled)


# By family, of those that torchvision has.
_FORMS: dict[str, Callable[[Any], _Form]] = {"mobilenet_v2": _of_mobilenet_v2, "resnet": _of_resnet}


def _metadata(network: ExportedNetwork, module: Path, make: str) -> dict[str, str]:
    return {
        "format": "pt",
        "made_by": MADE_BY,
        "origin": network.origin,
        "architecture": f"torchvision.models.{make}",
        "loader": f"{module.name}: load()",
        "warning": "torchvision's class alone may compute with another padding and epsilon: see the loader",
        SETTINGS: json.dumps(asdict(network.config) | {"preprocessing": network.preprocessing}),
        "image_size": str(network.image_size),
        "class_names": json.dumps(network.class_names),
    }


def _module(network: ExportedNetwork, out: Path, form: _Form) -> str:
    config = network.config
    mean, deviation = mean_and_deviation(network.preprocessing)
    keras = config.padding == "keras"
    without_head = "" if config.classes else f"    network.{form.head} = torch.nn.Identity()\n"
    return _MODULE.format(
        first_line=_FIRST_LINE.format(weights=out.name, label=config.label),
        weights=out.name,
        image_size=network.image_size,
        mean=mean,
        deviation=deviation,
        class_names=network.class_names,
        padded=_PADDED if keras else "",
        label=config.label,
        gives=f"logits [n, {config.classes}]" if config.classes else f"features [n, {config.features}]",
        epsilon=config.bn_epsilon,
        # PyTorch counts what is new, Keras what stays.
        momentum=round(1 - config.bn_momentum, 9),
        make=form.make,
        settings=form.settings,
        classes=config.classes or 2,
        changes=form.changes + without_head + (_PAD if keras else ""),
        features=config.features,
        pooled=form.pooled,
    )
