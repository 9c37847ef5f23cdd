"""Which network a checkpoint is of, where it is none that can be converted: told by names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable

# The first that fits; names as torchvision, timm and transformers have them, after any prefix.
_SIGNS = (
    (
        r"blocks\.\d+\.\d+\.conv_pwl\.weight$",
        "an EfficientNet, a MobileNetV3 or a deeper MobileNetV2 of timm",
    ),
    (r"features\.\d+\.block\.\d", "a MobileNetV3 or EfficientNet of torchvision"),
    (r"features\.1\.0\.block\.0\.0", "an EfficientNet of torchvision"),
    (r"layer1\.0\.conv1\.weight$", "a part or a relative of ResNet"),
    (r"encoder\.stages\.0\.layers\.0\.layer", "a RegNet, or a part of a ResNet of transformers"),
    (r"visual\.|text_model\.|vision_model\.", "a CLIP or SigLIP"),
    (r"patch_embed|patch_embeddings|encoder_layer_0|cls_token|class_token", "a vision transformer"),
    (r"denseblock1", "a DenseNet"),
    (r"stages\.0\.blocks\.0|dwconv", "a ConvNeXt"),
    (r"features\.(0|28)\.weight$", "a VGG or AlexNet"),
    (r"Mixed_5b|Mixed_7a", "an Inception"),
    (r"(down_blocks|mid_block)\.", "a diffusion model"),
    (r"embed_tokens|word_embeddings|wte\.", "a language model"),
    (r"lora_(A|B|up|down)", "a LoRA adapter, not a network"),
    (r"exp_avg|momentum_buffer", "the state of an optimizer, not weights"),
)


def name_architecture(names: Iterable[str]) -> str:
    """What a file holds instead of a network that can be converted, and what to do."""
    names = list(names)
    some = ", ".join(names[:3]) or "none at all"
    kind = next((kind for sign, kind in _SIGNS if any(re.search(sign, name) for name in names)), None)
    told = f"it looks like {kind}" if kind else f"its tensors are {some}, ..."
    return (
        f"holds no MobileNetV2 or ResNet of torchvision, timm or transformers; {told}; compute its features "
        "with its own library and give them to jaxtl compare"
    )
