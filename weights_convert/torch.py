"""Checkpoints of torchvision, timm and transformers into jaxtl's safetensors, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.exports.torchvision import MADE_BY, SETTINGS, to_ours, torch_names
from jaxtl.models.weights import check_fit, tensor_digest
from jaxtl.records.documents import parsed
from weights_convert.architectures import name_architecture
from weights_convert.conversion import Conversion, check_output, check_shapes, provenance, write
from weights_convert.layout import Layout, Names, our_shapes
from weights_convert.resnet import STEMS
from weights_convert.tensors import Tensor
from weights_convert.torch_layouts import LAYOUTS
from weights_convert.torch_source import TorchSource, read_torch

_COUNTER = "num_batches_tracked"
# Networks beside each other in a file, of ensembles: each is looked for among all tensors.
_MOST_PLACES = 100


@dataclass(frozen=True)
class _Backbone:
    """A network in a file.

    Attributes:
        layout: whose names it has, after `prefix`.
        config: the network without a head, as its tensors tell it.
        tensors: by our names.
        rest: all other tensors of the file, by their names.
    """

    layout: Layout
    prefix: str
    config: Any
    tensors: dict[str, Tensor]
    rest: dict[str, Tensor]

    @property
    def names(self) -> Names:
        return self.layout.names(self.config)

    @property
    def head(self) -> tuple[str, str]:
        """Our names of the head's arrays, whether or not there is one."""
        return f"{self.config.head}/kernel", f"{self.config.head}/bias"


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
    stem: str | None = None,
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
        stem: of a ResNet, one of `weights_convert.resnet.STEMS`; None goes by the size of the first kernel.
        licence: of the weights, for the metadata.
        source: where the weights come from, for the metadata.

    Raises:
        JaxtlError: for a file that is broken, unsafe or another network, naming every tensor at fault, and
            where `out` cannot be written.
    """
    check_output(Path(path), Path(out))
    origin = read_torch(path, key)
    backbone = _locate(origin, width)
    own_head, note = (None, "the head was left out") if head is False else _find_head(backbone)
    if head and not own_head:
        raise JaxtlError(f"{origin.path}: --head: {note}; leave out --head")
    given = {"preprocessing": preprocessing, "bn_epsilon": epsilon, "padding": padding}
    given = {name: value for name, value in given.items() if value is not None}
    config = _config(backbone, origin, own_head, {**given, **_stem(stem, backbone, origin)})
    tensors = {**backbone.tensors, **(own_head or {})}
    arrays = _read(config, backbone, tensors, origin)
    framework = f"PyTorch, names of {backbone.layout.library}"
    write(Path(out), config, arrays, provenance(origin.path, origin.sha256, framework, licence, source))
    taken = {id(tensor) for tensor in tensors.values()}
    left = tuple(name for name, t in backbone.rest.items() if id(t) not in taken and not _is_counter(name))
    place = next((name for name, t in backbone.rest.items() if t is tensors.get(backbone.head[0])), None)
    return Conversion(
        config,
        tensor_digest(arrays),
        left,
        place and place.removesuffix(".weight"),
        tuple(_notes(config, backbone, origin, note, preprocessing)),
    )


def _locate(origin: TorchSource, width: str) -> _Backbone:
    """The one backbone in a file: most of its layout's names are there, after one prefix."""
    places = [(layout, prefix) for layout in LAYOUTS for prefix in layout.prefixes(origin.tensors)]
    if len(places) > _MOST_PLACES:
        raise JaxtlError(
            f"{origin.path}: {len(places):,} of its tensors begin a network; save one network alone"
        )
    try:
        candidates = [
            backbone for layout, prefix in places if (backbone := _backbone(origin, layout, prefix, width))
        ]
    except JaxtlError as error:
        raise JaxtlError(f"{origin.path}: {error}") from None
    if not candidates:
        raise JaxtlError(f"{origin.path}: {name_architecture(origin.tensors)}")
    if len(candidates) > 1:
        places = ", ".join(f"{b.prefix or 'at the top'} ({b.layout.library})" for b in candidates)
        raise JaxtlError(
            f"{origin.path}: holds {len(candidates)} backbones: {places}; save one of them alone"
        )
    return candidates[0]


def _backbone(origin: TorchSource, layout: Layout, prefix: str, width: str) -> _Backbone | None:
    """What stands after a prefix, if it is a network of a layout."""
    inside = {name.removeprefix(prefix): t for name, t in origin.tensors.items() if name.startswith(prefix)}
    config = layout.config(width, {name: t.shape for name, t in inside.items()}, layout.usual)
    names = layout.names(config)
    mine = {ours: inside[theirs] for ours, (theirs, _) in names.items() if theirs in inside}
    if len(mine) <= len(names) // 2:
        return None
    taken = {id(tensor) for tensor in mine.values()}
    rest = {name: t for name, t in sorted(origin.tensors.items()) if id(t) not in taken}
    return _Backbone(layout, prefix, config, mine, rest)


def _stem(stem: str | None, backbone: _Backbone, origin: TorchSource) -> dict[str, Any]:
    if stem is None:
        return {}
    if not hasattr(backbone.config, "stem_pool"):
        raise JaxtlError(f"{origin.path}: --stem is for ResNets, and this is {backbone.config.label}")
    if stem not in STEMS:
        raise JaxtlError(f"stem must be one of {', '.join(STEMS)}, got {stem!r}")
    return STEMS[stem]


def _find_head(backbone: _Backbone) -> tuple[dict[str, Tensor] | None, str]:
    """The one linear layer beside the backbone, by our names, and a line about it."""
    features = (backbone.config.features,)
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
    return dict(zip(backbone.head, (weight, bias), strict=True)), (
        f"the head of {weight.shape[0]} classes was kept: {name.removesuffix('.weight')}"
    )


def _in_backbone(name: str, backbone: _Backbone) -> bool:
    """Whether a tensor stands within the backbone's own modules, where it must be known."""
    inside = name.removeprefix(backbone.prefix)
    first = {theirs.split(".")[0] for theirs, _ in backbone.names.values()}
    return name.startswith(backbone.prefix) and inside.split(".")[0] in first


def _is_counter(name: str) -> bool:
    return name.endswith(_COUNTER)


def _config(backbone: _Backbone, origin: TorchSource, head: Any, given: Mapping[str, Any]) -> Any:
    """The network: as its tensors tell it, then the files beside it, then the file itself, then the user."""
    try:
        config = backbone.layout.told(backbone.config, *origin.beside)
        config = replace(config, **_settings(config, origin.metadata))
        classes = head[backbone.head[0]].shape[0] if head else None
        return replace(config, classes=classes, **given)
    except JaxtlError as error:
        raise JaxtlError(f"{origin.path}: {error}") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise JaxtlError(
            f"{origin.path}: the settings in it or in config.json beside it are damaged ({error}); mend or "
            "move them"
        ) from None


def _settings(config: Any, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What `jaxtl export` noted of a network beyond what its tensors tell."""
    if metadata.get("made_by") != MADE_BY:
        return {}
    noted = parsed(metadata.get(SETTINGS, "{}"))
    by_tensors = ("width", "classes", "depth", "stem_kernel")
    return {name: value for name, value in noted.items() if hasattr(config, name) and name not in by_tensors}


def _read(
    config: Any, backbone: _Backbone, tensors: Mapping[str, Tensor], origin: TorchSource
) -> dict[str, np.ndarray]:
    """Values by our names and in our form. Raises JaxtlError with all that is wrong."""
    layers, modules = config.layers, backbone.layout.modules(replace(config, classes=None))
    in_file = next((name for name, t in backbone.rest.items() if t is tensors.get(backbone.head[0])), "")
    names = torch_names(layers, {**modules, config.head: in_file.removesuffix(".weight")})
    more = [
        f"unexpected {name} {list(t.shape)}"
        for name, t in backbone.rest.items()
        if _in_backbone(name, backbone) and not _is_counter(name)
    ]
    more += [f"{names[n][0]} is {t.dtype}, needs a float" for n, t in tensors.items() if not t.is_float]
    more += [f"{names[n][0]} {fault}" for n, t in tensors.items() if (fault := t.fault())]
    remedy = (
        f"check --width, and that the file is whole and a {config.label} as {backbone.layout.library} has it"
    )
    shapes = our_shapes(names, {names[ours][0]: tensor.shape for ours, tensor in tensors.items()})
    check_shapes(config, shapes, more, origin.path, remedy)
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
        else "by what jaxtl noted in it"
        if origin.metadata.get("made_by") == MADE_BY
        else "by the files beside it"
    )
    place = f" at {backbone.prefix.removesuffix('.')}" if backbone.prefix else ""
    notes = [
        f"names of {backbone.layout.library}{place}, padding {config.padding}, epsilon {config.bn_epsilon:g}",
        f"preprocessing {config.preprocessing}, {why}",
        *backbone.layout.notes(config),
        head,
    ]
    if origin.others:
        where = origin.key or "the top"
        notes.append(f"taken from {where}; there are tensors too at {', '.join(origin.others)} (--key)")
    return notes
