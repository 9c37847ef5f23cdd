"""What torchvision, timm and transformers make of narrow MobileNetV2s with random weights and statistics.

`python tests/torch_reference.py` writes `tests/data/torch_reference.npz` with those libraries: names and
shapes of their state_dicts, and outputs in float64, stored as float32. Values are drawn from each tensor's
name, so that a test makes the same checkpoint without them.
"""

import json
import zlib
from pathlib import Path

import numpy as np

PATH = Path(__file__).parent / "data" / "torch_reference.npz"
WIDTH, CLASSES, SIZES = 0.05, 3, (32, 33)
# transformers' first block has no residual connection, which narrower networks of the others have.
WIDTH_OF_TRANSFORMERS = 0.3
# The size at which a library's blocks are kept whole; at the other their averages over pixels are.
WHOLE = {"torchvision": 33, "timm": 33, "transformers": 32}
REPEATS = (1, 2, 3, 4, 3, 3, 1)
BLOCKS = {
    "torchvision": [f"features.{number}" for number in range(19)],
    "timm": ["bn1", *(f"blocks.{s}.{i}" for s, count in enumerate(REPEATS) for i in range(count)), "bn2"],
    "transformers": [
        *(f"mobilenet_v2.conv_stem{part}" for part in (".first_conv", "")),
        *(f"mobilenet_v2.layer.{number}" for number in range(16)),
        "mobilenet_v2.conv_1x1",
    ],
}


def drawn(name, shape):
    """Random values of a tensor: of a scale that keeps activations alive through 50 layers."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.array(7, np.int64)
    if len(shape) >= 2:
        return (rng.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)
    if name.endswith(("running_mean", "bias")):
        return (0.3 * rng.standard_normal(shape)).astype(np.float32)
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)


def state_dict(shapes):
    """A checkpoint's arrays by name."""
    return {name: drawn(name, tuple(shape)) for name, shape in shapes.items()}


def images(size):
    """float32 [1, 3, size, size] in [-1, 1]."""
    return np.random.default_rng(size).uniform(-1, 1, (1, 3, size, size)).astype(np.float32)


def networks():
    """The libraries' own classes."""
    import torchvision
    from timm.models.efficientnet import _gen_mobilenet_v2
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(depth_multiplier=WIDTH_OF_TRANSFORMERS, num_labels=CLASSES)
    return {
        "torchvision": torchvision.models.mobilenet_v2(width_mult=WIDTH, num_classes=CLASSES),
        "timm": _gen_mobilenet_v2("mobilenetv2_100", channel_multiplier=WIDTH, num_classes=CLASSES),
        "transformers": MobileNetV2ForImageClassification(config),
    }


def outputs(network, blocks, size):
    """Outputs [h, w, c] of the blocks, and the logits, in float64."""
    import torch

    outputs, modules = {}, dict(network.named_modules())
    hooks = [
        modules[name].register_forward_hook(lambda _, __, out, name=name: outputs.__setitem__(name, out))
        for name in blocks
    ]
    with torch.no_grad():
        logits = network(torch.from_numpy(images(size)).double())
    for hook in hooks:
        hook.remove()
    maps = [outputs[name][0].numpy().transpose(1, 2, 0) for name in blocks]
    return maps, getattr(logits, "logits", logits)[0].numpy()


def main():
    """Write the reference."""
    import torch

    arrays = {}
    for library, network in networks().items():
        shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        arrays[f"{library}/shapes"] = np.array(json.dumps(shapes))
        network.load_state_dict({k: torch.from_numpy(v) for k, v in state_dict(shapes).items()})
        network.double().eval()
        for size in SIZES:
            maps, logits = outputs(network, BLOCKS[library], size)
            for number, values in enumerate(maps):
                kept = values if size == WHOLE[library] else values.mean((0, 1))
                arrays[f"{library}/{size}/{number}"] = kept.astype(np.float32)
            arrays[f"{library}/{size}/logits"] = logits.astype(np.float32)
    np.savez_compressed(PATH, **arrays)


if __name__ == "__main__":
    main()
