"""A network as a state_dict for torchvision's own class, in safetensors, and a short module that loads it.

torchvision's class pads stride-2 convolutions by a pixel on every side and its batch normalisation has an
epsilon of 1e-5; a network that Keras trained wants neither. The module therefore makes torchvision's class
with this network's epsilon and, where needed, pads before those convolutions as Keras does.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from jaxtl.errors import JaxtlError
from jaxtl.exports.network import Network
from jaxtl.exports.torchvision import mobilenet_v2_modules, torch_names
from jaxtl.models.weights import with_metadata
from jaxtl.records.files import replacing, write_text
from jaxtl.settings import mean_and_deviation

_FIRST_LINE = '"""Made by jaxtl export: loads {weights} into torchvision\'s MobileNetV2."""'
_MARK = '"""Made by jaxtl export:'
# The padding before stride 2: none of the convolution's own, but Keras's (0, 1) on even sizes, (1, 1) on odd.
_PADDED = """

def _pad(convolution, inputs):
    height, width = inputs[0].shape[-2:]
    return torch.nn.functional.pad(inputs[0], (width % 2, 1, height % 2, 1))
"""
_PAD = """    for convolution in network.modules():
        if isinstance(convolution, torch.nn.Conv2d) and convolution.stride == (2, 2):
            convolution.padding = (0, 0)
            convolution.register_forward_pre_hook(_pad)
"""
_MODULE = '''{first_line}

from functools import partial
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
    """torchvision's MobileNetV2 in eval mode, of what `prepare` gives; it gives {gives}."""
    norm = partial(torch.nn.BatchNorm2d, eps={epsilon!r}, momentum={momentum!r})
    network = torchvision.models.mobilenet_v2(width_mult={width!r}, num_classes={classes}, norm_layer=norm)
{head}{pad}    network.load_state_dict(load_file(WEIGHTS))
    return network.eval()


def prepare(images):
    """The network's input, of uint8 images [n, h, w, 3] that are resized already."""
    pixels = torch.as_tensor(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)


def features(network, images):
    """The pooled features [n, {features}] that jaxtl computes of such images."""
    with torch.no_grad():
        return network.features(prepare(images)).mean((2, 3))
'''


def write(network: Network, out: Path) -> list[Path]:
    """Write OUT.safetensors and OUT.py beside it.

    Raises JaxtlError where that OUT.py is another's, or where OUT is no name of a Python module.
    """
    module = out.with_suffix(".py")
    if module.exists() and not module.read_text(errors="replace").startswith(_MARK):
        raise JaxtlError(f"{module}: is not jaxtl's, and would be overwritten; give another name with --out")
    with replacing(out) as temporary:
        temporary.write_bytes(with_metadata(save(_state(network)), _metadata(network, module)))
    write_text(module, _module(network, out))
    return [out, module]


def _state(network: Network) -> dict[str, np.ndarray]:
    layers = network.config.layers
    names = torch_names(layers, mobilenet_v2_modules(network.config))
    state = {
        theirs: np.ascontiguousarray(np.asarray(network.arrays[ours], np.float32).transpose(axes))
        for ours, (theirs, axes) in names.items()
    }
    norms = [name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean")]
    state |= {f"{name}.num_batches_tracked": np.array(0, np.int64) for name in norms}
    return dict(sorted(state.items()))


def _metadata(network: Network, module: Path) -> dict[str, str]:
    config = network.config
    return {
        "format": "pt",
        "made_by": "jaxtl export",
        "origin": network.origin,
        "architecture": "torchvision.models.mobilenet_v2",
        "loader": f"{module.name}: load()",
        "warning": "torchvision's class alone computes with another padding and epsilon: see the loader",
        "bn_epsilon": repr(config.bn_epsilon),
        "bn_momentum": repr(config.bn_momentum),
        "padding": config.padding,
        "preprocessing": network.preprocessing,
        "image_size": str(network.image_size),
        "class_names": json.dumps(network.class_names),
    }


def _module(network: Network, out: Path) -> str:
    config = network.config
    mean, deviation = mean_and_deviation(network.preprocessing)
    keras = config.padding == "keras"
    return _MODULE.format(
        first_line=_FIRST_LINE.format(weights=out.name),
        weights=out.name,
        image_size=network.image_size,
        mean=mean,
        deviation=deviation,
        class_names=network.class_names,
        padded=_PADDED if keras else "",
        pad=_PAD if keras else "",
        gives=f"logits [n, {config.classes}]" if config.classes else f"features [n, {config.features}]",
        epsilon=config.bn_epsilon,
        # PyTorch counts what is new, Keras what stays.
        momentum=round(1 - config.bn_momentum, 9),
        width=config.width,
        classes=config.classes or 2,
        head="" if config.classes else "    network.classifier = torch.nn.Identity()\n",
        features=config.features,
    )
