"""Keras's files into jaxtl's safetensors."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.models.layers import NetworkConfig
from jaxtl.models.weights import check_fit, tensor_digest
from weights_convert.conversion import Conversion, check_output, check_shapes, provenance, width_of, write
from weights_convert.hdf5 import Contents, Tensor, opened
from weights_convert.keras_inputs import SAYS_NOTHING, find_preprocessing
from weights_convert.keras_layout import KerasLayout
from weights_convert.keras_layouts import STATE, Backbone, locate
from weights_convert.layout import Shapes
from weights_convert.sources import Source, read_source


def convert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    width: str = "auto",
    head: bool = False,
    preprocessing: str | None = None,
    licence: str = "not stated",
    source: str | None = None,
) -> Conversion:
    """Convert a network of Keras's to safetensors; the same input gives the same bytes.

    Args:
        path: a `.h5`, `.weights.h5` or `.keras` file.
        out: a path that ends in `.safetensors`; written whole or not at all.
        width: "auto" (from the tensors' shapes) or a number.
        head: convert the model's own Dense after the backbone's global average pooling as the network's.
            A file of weights alone does not tell its pooling, so there it is taken on trust.
        preprocessing: what the weights want of pixels, as in `jaxtl.Images`; None takes what the file's own
            layers before the backbone do, such as a Rescaling.
        licence: of the weights, for the metadata.
        source: where the weights come from, for the metadata.

    Raises:
        JaxtlError: for a file that is unsafe, broken or another network, naming every tensor at fault,
            and where `out` cannot be written.
    """
    check_output(Path(path), Path(out))
    origin = read_source(path)
    where = origin.path
    with opened(origin.hdf5, where, ("keras_version", "model_config")) as contents:
        backbone = locate(contents.tensors, where)
        dense = _find_head(backbone, contents, origin) if head else None
        tensors = {**backbone.found, **(dense or {})}
        described = origin.model_config or contents.attributes.get("model_config")
        wanted, note = find_preprocessing(described, backbone.layout.usual.layers[1].name, contents.tensors)
        if preprocessing:
            wanted, note = preprocessing, f"preprocessing {preprocessing}, as you say"
        shapes = _shapes(backbone.layout, tensors)
        config = _config(backbone.layout, width, shapes, wanted, where)
        _check_tensors(config, tensors, shapes, backbone.unknown, where)
        arrays = {name: _read(tensor, shapes[name], where) for name, tensor in tensors.items()}
        framework = f"Keras {_version(origin, contents.attributes)}"
    check_fit(config, arrays, where)
    write(Path(out), config, arrays, provenance(where, origin.sha256, framework, licence, source))
    taken = {tensor.path for tensor in tensors.values()}
    return Conversion(
        config,
        tensor_digest(arrays),
        tuple(path for path in backbone.outside if path not in taken),
        dense[backbone.layout.head[0]].path.rsplit("/", 1)[0] if dense else None,
        (note or SAYS_NOTHING,),
    )


def _version(origin: Source, attributes: Mapping[str, str]) -> str:
    version = origin.keras_version or attributes.get("keras_version", "unknown")
    # The file's own word, so only what looks like a version.
    return version if re.fullmatch(r"[\w.+-]{1,40}", version) else "unknown"


def _shapes(layout: KerasLayout, tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: layout.shape(name, tensor.shape) for name, tensor in tensors.items()}


def _read(tensor: Tensor, shape: tuple[int, ...], where: str) -> np.ndarray:
    return tensor.read(where).reshape(shape)


def _config(
    layout: KerasLayout, width: str, shapes: Shapes, preprocessing: str | None, where: str
) -> NetworkConfig:
    kernel = shapes.get(layout.head[0])
    usual: Any = layout.usual
    try:
        return replace(
            usual,
            width=width_of(width, shapes, usual),
            classes=kernel[-1] if kernel else None,
            preprocessing=preprocessing,
        )
    except JaxtlError as error:
        raise JaxtlError(f"{where}: {error}") from None


def _check_tensors(
    config: NetworkConfig,
    tensors: Mapping[str, Tensor],
    shapes: Shapes,
    unknown: Iterable[str],
    where: str,
) -> None:
    more = [f"unexpected {path}" for path in unknown]
    more += [f"{t.path} is {t.dtype}, needs float16, 32 or 64" for t in tensors.values() if not t.is_float]
    remedy = f"check --width and that the file is whole and of Keras's own {config.label}"
    check_shapes(config, shapes, more, where, remedy)


def _find_head(backbone: Backbone, contents: Contents, origin: Source) -> dict[str, Tensor]:
    """The one Dense outside the backbone, by our names of the head."""
    where, (kernel, bias) = origin.path, backbone.layout.head
    if kernel in backbone.found:
        raise JaxtlError(
            f"{where}: the backbone has its own top, which is converted anyway; leave out --head"
        )
    _check_pooling(origin.model_config or contents.attributes.get("model_config"), where)
    rest = [t for p, t in backbone.outside.items() if t.is_float and not p.startswith(STATE)]
    by_rank = {len(tensor.shape): tensor for tensor in rest}
    groups = {tensor.path.rsplit("/", 1)[0] for tensor in rest}
    if len(rest) != 2 or set(by_rank) != {1, 2} or len(groups) != 1:
        names = ", ".join(tensor.path for tensor in rest[:6]) or "nothing"
        raise JaxtlError(f"{where}: --head needs one Dense with a bias outside the backbone, found {names}")
    return {kernel: by_rank[2], bias: by_rank[1]}


def _check_pooling(model_config: str | None, where: str) -> None:
    """Only where the file describes its layers: weights alone show a Dense, not what comes before it."""
    if model_config is None:
        return
    try:
        pending, classes = [json.loads(model_config)], set()
    except (ValueError, RecursionError):
        raise JaxtlError(f"{where}: its model config is not JSON; save the model again") from None
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            classes.add(str(item.get("class_name")))
        pending.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
    pools = {name for name in classes if "Pooling" in name}
    if pools != {"GlobalAveragePooling2D"}:
        pooling = ", ".join(sorted(pools)) or "no pooling"
        raise JaxtlError(
            f"{where}: --head needs GlobalAveragePooling2D alone before the Dense, the model has {pooling}; "
            "convert the backbone alone"
        )
