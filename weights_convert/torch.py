"""Checkpoints of torchvision, timm and transformers into jaxtl's safetensors, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.exports.torchvision import to_ours
from jaxtl.models.weights import check_fit, tensor_digest
from weights_convert.architectures import name_architecture
from weights_convert.conversion import Conversion, check_output, check_shapes, provenance, write
from weights_convert.tensors import Tensor
from weights_convert.torch_layouts import LAYOUTS, Layout, our_shapes
from weights_convert.torch_source import TorchSource, read_torch

_COUNTER = "num_batches_tracked"
_HEAD = ("predictions/kernel", "predictions/bias")


@dataclass(frozen=True)
class _Backbone:
    """A network in a file: whose names, after which prefix; its tensors by our names, and the rest."""

    layout: Layout
    prefix: str
    tensors: dict[str, Tensor]
    rest: dict[str, Tensor]


def convert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    key: str | None = None,
    width: str = "auto",
    head: bool | None = None,
    preprocessing: str | None = None,
    epsilon: float | None = None,
    padding: str | None = None,
    licence: str = "not stated",
    source: str | None = None,
) -> Conversion:
    """Convert a checkpoint to safetensors; the same input gives the same bytes.

    Args:
        path: a safetensors file, or what `torch.save` wrote.
        out: a path that ends in `.safetensors`; written whole or not at all.
        key: which of a checkpoint's dictionaries, such as "state_dict_ema"; None takes the usual one.
        width: "auto" (from the tensors' shapes) or a number.
        head: True asks for a head and False for none; None keeps one that is a single linear layer on the
            pooled features.
        preprocessing: what the weights want of pixels, as in `jaxtl.Images`; None takes what the files
            beside `path` say, or what the library's own weights want.
        epsilon, padding: as `bn_epsilon` and `padding` of `jaxtl.MobileNetV2Config`, where they are not the
            library's usual ones.
        licence: of the weights, for the metadata.
        source: where the weights come from, for the metadata.

    Raises:
        JaxtlError: for a file that is broken, unsafe or another network, naming every tensor at fault, and
            where `out` cannot be written.
    """
    check_output(Path(path), Path(out))
    origin = read_torch(path, key)
    backbone = _locate(origin)
    found_head, note = (None, "the head was left out") if head is False else _find_head(backbone)
    if head and not found_head:
        raise JaxtlError(f"{origin.path}: --head: {note}; leave out --head")
    tensors = {**backbone.tensors, **(found_head or {})}
    given = {"preprocessing": preprocessing, "bn_epsilon": epsilon, "padding": padding}
    config = _config(backbone, origin, width, tensors, {k: v for k, v in given.items() if v is not None})
    arrays = _read(config, backbone, tensors, origin)
    framework = f"PyTorch, names of {backbone.layout.library}"
    write(Path(out), config, arrays, provenance(origin.path, origin.sha256, framework, licence, source))
    taken = {id(tensor) for tensor in tensors.values()}
    left = tuple(name for name, t in backbone.rest.items() if id(t) not in taken and not _is_counter(name))
    place = next((name for name, t in backbone.rest.items() if t is tensors.get(_HEAD[0])), None)
    return Conversion(
        config,
        tensor_digest(arrays),
        left,
        place and place.removesuffix(".weight"),
        tuple(_notes(config, backbone, origin, note, preprocessing)),
    )


def _locate(origin: TorchSource) -> _Backbone:
    """The one backbone in a file: most of its layout's names are there, after one prefix."""
    candidates = []
    for layout in LAYOUTS:
        names = layout.names()
        for name in origin.tensors:
            if name == layout.signature or name.endswith(f".{layout.signature}"):
                prefix = name.removesuffix(layout.signature)
                mine = {
                    ours: origin.tensors[prefix + theirs]
                    for ours, (theirs, _) in names.items()
                    if prefix + theirs in origin.tensors and ours not in _HEAD
                }
                if len(mine) > len(names) // 2:
                    candidates.append((layout, prefix, mine))
    if not candidates:
        raise JaxtlError(f"{origin.path}: {name_architecture(origin.tensors)}")
    if len(candidates) > 1:
        places = ", ".join(f"{prefix or 'at the top'} ({layout.library})" for layout, prefix, _ in candidates)
        raise JaxtlError(
            f"{origin.path}: holds {len(candidates)} backbones: {places}; save one of them alone"
        )
    layout, prefix, mine = candidates[0]
    taken = {id(tensor) for tensor in mine.values()}
    rest = {name: t for name, t in sorted(origin.tensors.items()) if id(t) not in taken}
    return _Backbone(layout, prefix, mine, rest)


def _find_head(backbone: _Backbone) -> tuple[dict[str, Tensor] | None, str]:
    """The one linear layer beside the backbone, as `predictions`, and a line about it."""
    features = backbone.tensors["Conv_1/kernel"].shape[:1] if "Conv_1/kernel" in backbone.tensors else ()
    rest = {name: t for name, t in backbone.rest.items() if t.is_float and not _in_backbone(name, backbone)}
    if not rest:
        return None, "there is no head"
    some = ", ".join(list(rest)[:4]) + (", ..." if len(rest) > 4 else "")
    weights = [(name, t) for name, t in rest.items() if name.endswith("weight") and len(t.shape) == 2]
    name, weight = weights[0] if len(weights) == 1 else ("", None)
    bias = rest.get(f"{name.removesuffix('weight')}bias")
    if weight is None or bias is None or len(rest) != 2 or weight.shape[1:] != features:
        return None, f"the head was left out: it is not one linear layer on the pooled features ({some})"
    if weight.shape[0] < 2:
        return None, f"the head was left out: it has one class only ({some})"
    return dict(zip(_HEAD, (weight, bias), strict=True)), (
        f"the head of {weight.shape[0]} classes was kept: {name.removesuffix('.weight')}"
    )


def _in_backbone(name: str, backbone: _Backbone) -> bool:
    """Whether a tensor stands within the backbone's own modules, where it must be known."""
    inside = name.removeprefix(backbone.prefix)
    first = {
        theirs.split(".")[0] for ours, (theirs, _) in backbone.layout.names().items() if ours not in _HEAD
    }
    return name.startswith(backbone.prefix) and inside.split(".")[0] in first


def _is_counter(name: str) -> bool:
    return name.endswith(_COUNTER)


def _config(
    backbone: _Backbone,
    origin: TorchSource,
    width: str,
    tensors: Mapping[str, Tensor],
    given: Mapping[str, Any],
) -> Any:
    layout = backbone.layout
    try:
        shapes = _shapes(backbone, tensors)
        config = layout.told(layout.config(width, shapes, layout.usual), *origin.beside)
        classes = shapes[_HEAD[0]][-1] if _HEAD[0] in shapes else None
        return replace(config, classes=classes, **given)
    except JaxtlError as error:
        raise JaxtlError(f"{origin.path}: {error}") from None
    except (TypeError, ValueError) as error:
        raise JaxtlError(
            f"{origin.path}: config.json beside it is damaged ({error}); mend or move it"
        ) from None


def _shapes(backbone: _Backbone, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    names = backbone.layout.names()
    by_theirs = {names[ours][0]: tensor.shape for ours, tensor in tensors.items()}
    return our_shapes(names, by_theirs)


def _read(
    config: Any, backbone: _Backbone, tensors: Mapping[str, Tensor], origin: TorchSource
) -> dict[str, np.ndarray]:
    """Values by our names and in our form. Raises JaxtlError with all that is wrong."""
    names = backbone.layout.names()
    more = [
        f"unexpected {name} {list(t.shape)}"
        for name, t in backbone.rest.items()
        if _in_backbone(name, backbone) and not _is_counter(name)
    ]
    more += [f"{names[n][0]} is {t.dtype}, needs a float" for n, t in tensors.items() if not t.is_float]
    more += [f"{names[n][0]} {fault}" for n, t in tensors.items() if (fault := t.fault())]
    remedy = f"check --width, and that the file is whole and of {backbone.layout.library}'s own MobileNetV2"
    check_shapes(config, _shapes(backbone, tensors), more, origin.path, remedy)
    arrays = {ours: to_ours(tensor.read(), names[ours][1]) for ours, tensor in tensors.items()}
    check_fit(config, arrays, origin.path)
    return arrays


def _notes(
    config: Any, backbone: _Backbone, origin: TorchSource, head: str, preprocessing: str | None
) -> list[str]:
    usual = backbone.layout.usual
    why = (
        "as you say"
        if preprocessing
        else f"as the weights of {backbone.layout.library} want; --preprocessing says otherwise"
        if config.preprocessing == usual.preprocessing
        else "by the files beside it"
    )
    place = f" at {backbone.prefix.removesuffix('.')}" if backbone.prefix else ""
    notes = [
        f"names of {backbone.layout.library}{place}, padding {config.padding}, epsilon {config.bn_epsilon:g}",
        f"preprocessing {config.preprocessing}, {why}",
        head,
    ]
    if origin.others:
        where = origin.key or "the top"
        notes.append(f"taken from {where}; there are tensors too at {', '.join(origin.others)} (--key)")
    return notes
