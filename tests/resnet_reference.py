"""What torchvision's own ResNets compute, for tests where torch is not installed.

`python -m tests.resnet_reference` writes `references/resnet.npz` anew, where torch and torchvision are there.
Weights and images are drawn by NumPy from seeds, so the file holds results alone: of every layer some
values, and the largest one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxtl.exports.torchvision import resnet_modules, state_dict, torch_names
from jaxtl.models.resnet import ResNetConfig

FILE = Path(__file__).parent / "references" / "resnet.npz"
CLASSES = 10
# Depth and image size: two convolutions a block and three, even and odd maps.
CASES = ((18, 48), (50, 51))
# The layers that learn in the training step, and its images.
TRAINED, TRAINED_FROM, BATCH = (18, 48), "layer4.0.conv2", 8
_SAMPLED = 64


def drawn(depth, classes=CLASSES, width=1.0, seed=0):
    """A network and arrays by our names: weights that neither let activations vanish nor overflow."""
    config = ResNetConfig(depth=depth, width=width, classes=classes)
    rng = np.random.default_rng(seed)
    draw = {
        "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
        "beta": lambda shape: rng.normal(0, 0.3, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.3, shape),
        "moving_variance": lambda shape: rng.uniform(0.5, 2, shape),
        "bias": lambda shape: rng.normal(0, 0.3, shape),
        "kernel": lambda shape: rng.normal(0, (1.5 / np.prod(shape[:-1])) ** 0.5, shape),
    }
    shapes = config.parameters
    return config, {name: draw[name.split("/")[1]](shapes[name]).astype(np.float32) for name in shapes}


def images(size, n=2, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (n, size, size, 3)).astype(np.float32)


def labels(n=BATCH):
    return (np.arange(n) * 3 % CLASSES).astype(np.int32)


def sampled(array):
    """Some values of an array, as float32, at places that its size decides."""
    flat = np.asarray(array, np.float32).ravel()
    return flat[np.random.default_rng(flat.size).integers(0, flat.size, _SAMPLED)]


def torchvision_outputs(config, arrays, x):
    """The outputs of every layer of torchvision's network, [n, h, w, channels], by their names."""
    import torch
    from torchvision.models.feature_extraction import create_feature_extractor

    names = [layer.name for layer in config.layers[1:]]
    network = create_feature_extractor(_torch_network(config, arrays).eval(), names)
    with torch.no_grad():
        outputs = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    return {name: _channels_last(outputs[name].numpy(), name == config.pooling) for name in names}


def torchvision_step(config, arrays, x, first):
    """Loss, gradients and moved statistics of one batch, by our names; layers from `first` on learn."""
    import torch

    network = _torch_network(config, arrays).eval()
    learning = config.layers[config.position(first) :]
    modules = dict(network.named_modules())
    for layer in learning:
        if layer.kind == "bn":
            modules[layer.name].train()
    logits = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels(len(x)).astype(np.int64)))
    loss.backward()
    state, tensors = network.state_dict(), dict(network.named_parameters())
    names = torch_names(config.layers, resnet_modules(config))
    result = {"loss": np.float32(loss.item())}
    for name in (f"{layer.name}/{key}" for layer in learning for key in layer.parameters):
        moving = name.split("/")[1].startswith("moving")
        tensor = (state[names[name][0]] if moving else tensors[names[name][0]].grad).numpy()
        result[name] = tensor.transpose(_AXES[tensor.ndim]) if tensor.ndim in _AXES else tensor
    return result


_AXES = {4: (2, 3, 1, 0), 2: (1, 0)}


def _torch_network(config, arrays):
    import torch
    import torchvision

    network = getattr(torchvision.models, config.name)(num_classes=config.classes)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in state_dict(config, arrays).items()})
    for module in network.modules():
        if isinstance(module, torch.nn.ReLU):
            # Else it would overwrite the outputs of the layers before it.
            module.inplace = False
    return network


def _channels_last(array, pooled):
    if array.ndim < 4:
        return array
    return array[:, :, 0, 0] if pooled else array.transpose(0, 2, 3, 1)


def main():
    record = {}
    for depth, size in CASES:
        for name, output in torchvision_outputs(*drawn(depth), images(size)).items():
            record[f"{depth} {size} {name}"] = np.append(sampled(output), np.abs(output).max())
    depth, size = TRAINED
    for name, array in torchvision_step(*drawn(depth), images(size, BATCH), TRAINED_FROM).items():
        record[f"step {name}"] = np.append(sampled(array), np.abs(array).max())
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **record)


if __name__ == "__main__":
    main()
