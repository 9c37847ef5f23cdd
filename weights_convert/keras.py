"""Keras's MobileNetV2 files into jaxtl's safetensors."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import jaxtl
from jaxtl.errors import JaxtlError
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.weights import check_fit, complaints, save_weights, tensor_digest
from weights_convert.hdf5 import Contents, Tensor, opened
from weights_convert.layouts import STATE, Backbone, locate
from weights_convert.sources import Source, read_source

PUBLISHED_WIDTHS = (1.0, 0.35, 0.5, 0.75, 1.3, 1.4)


@dataclass(frozen=True)
class Conversion:
    """What was converted: network, digest of its tensors, the paths that stayed behind, and the head's."""

    config: MobileNetV2Config
    digest: str
    left_out: tuple[str, ...]
    head: str | None


def convert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    width: str = "auto",
    head: bool = False,
    licence: str = "not stated",
    source: str | None = None,
) -> Conversion:
    """Convert a Keras MobileNetV2 to safetensors; the same input gives the same bytes.

    Args:
        path: a `.h5`, `.weights.h5` or `.keras` file.
        out: a path that ends in `.safetensors`; written whole or not at all.
        width: "auto" (from the tensors' shapes) or a number.
        head: convert the model's own Dense after the backbone's global average pooling as `predictions`.
            A file of weights alone does not tell its pooling, so there it is taken on trust.
        licence: of the weights, for the metadata.
        source: where the weights come from, for the metadata.

    Raises:
        JaxtlError: for a file that is unsafe, broken or another network, naming every tensor at fault,
            and where `out` cannot be written.
    """
    _check_output(Path(path), Path(out))
    origin = read_source(path)
    where = origin.path
    with opened(origin.hdf5, where, ("keras_version", "model_config")) as contents:
        backbone = locate(contents.tensors, where)
        dense = _find_head(backbone, contents, origin) if head else None
        tensors = {**backbone.found, **(dense or {})}
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        config = _config(width, shapes, where)
        _check_tensors(config, tensors, backbone.unknown, where)
        arrays = {name: tensor.read(where) for name, tensor in tensors.items()}
        version = origin.keras_version or contents.attributes.get("keras_version", "unknown")
    check_fit(config, arrays, where)
    _write(Path(out), config, arrays, _provenance(origin, version, licence, source))
    taken = {tensor.path for tensor in tensors.values()}
    return Conversion(
        config,
        tensor_digest(arrays),
        tuple(path for path in backbone.outside if path not in taken),
        dense["predictions/kernel"].path.rsplit("/", 1)[0] if dense else None,
    )


def _check_output(path: Path, out: Path) -> None:
    if out.suffix != ".safetensors":
        raise JaxtlError(f"{out}: the output is a safetensors file; give a name that ends in .safetensors")
    if out.is_dir():
        raise JaxtlError(f"{out}: a folder; give the name of a file to write")
    if path.exists() and out.exists() and path.samefile(out):
        raise JaxtlError(f"{out}: input and output are the same file; give another output")


def _write(out: Path, config: MobileNetV2Config, arrays: Mapping[str, np.ndarray], provenance: dict) -> None:
    try:
        save_weights(out, config, arrays, provenance)
    except OSError as error:
        raise JaxtlError(f"{out}: cannot be written ({error.strerror}); choose another folder") from None


def _provenance(origin: Source, version: str, licence: str, source: str | None) -> dict[str, str]:
    # The file's own word, so only what looks like a version.
    version = version if re.fullmatch(r"[\w.+-]{1,40}", version) else "unknown"
    record = {
        "source_file": Path(origin.path).name,
        "source_sha256": origin.sha256,
        "framework": f"Keras {version}",
        "converter": f"weights_convert {jaxtl.__version__}",
        "licence": licence,
    }
    return {**record, "source": source} if source else record


def _config(width: str, shapes: Mapping[str, tuple[int, ...]], where: str) -> MobileNetV2Config:
    kernel = shapes.get("predictions/kernel")
    try:
        return MobileNetV2Config(_width(width, shapes), classes=kernel[-1] if kernel else None)
    except JaxtlError as error:
        raise JaxtlError(f"{where}: {error}") from None


def _width(width: str, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """The width given, or the one whose shapes fit best; published ones first, since several may fit."""
    if width != "auto":
        try:
            return float(width)
        except ValueError:
            raise JaxtlError(f"width: must be auto or a number such as 0.35, got {width!r}") from None
    best, fewest = PUBLISHED_WIDTHS[0], len(shapes) + 1
    for candidate in (*PUBLISHED_WIDTHS, *(hundredth / 100 for hundredth in range(5, 401))):
        wanted = MobileNetV2Config(candidate).parameters
        wrong = sum(shapes[name] != shape for name, shape in wanted.items() if name in shapes)
        if wrong < fewest:
            best, fewest = candidate, wrong
        if not fewest:
            break
    return best


def _check_tensors(
    config: MobileNetV2Config, tensors: Mapping[str, Tensor], unknown: Iterable[str], where: str
) -> None:
    """Raises JaxtlError with all that is wrong before any value is read."""
    faults = complaints(config, {name: tensor.shape for name, tensor in tensors.items()})
    faults += [f"unexpected {path}" for path in unknown]
    faults += [f"{t.path} is {t.dtype}, needs float16, 32 or 64" for t in tensors.values() if not t.is_float]
    if faults:
        shown = "; ".join(faults[:6]) + (f"; and {len(faults) - 6} more" if len(faults) > 6 else "")
        raise JaxtlError(
            f"{where}: does not fit MobileNetV2 (width {config.width:g}): {shown}; "
            "check --width and that the file is whole and of Keras's own MobileNetV2"
        )


def _find_head(backbone: Backbone, contents: Contents, origin: Source) -> dict[str, Tensor]:
    """The one Dense outside the backbone, as `predictions`."""
    where = origin.path
    if "predictions/kernel" in backbone.found:
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
    return {"predictions/kernel": by_rank[2], "predictions/bias": by_rank[1]}


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
