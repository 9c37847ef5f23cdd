"""What every conversion does: where it writes, what it notes, which width, and whether all tensors fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import jaxtl
from jaxtl.errors import JaxtlError
from jaxtl.models.layers import NetworkConfig
from jaxtl.models.weights import complaints, save_weights

PUBLISHED_WIDTHS = (1.0, 0.35, 0.5, 0.75, 1.3, 1.4)


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        config: the network.
        digest: of its tensors.
        left_out: paths of the tensors that stayed behind.
        head: path of the tensors that became the head; None where there is none, or it stayed behind.
        notes: lines that a user should read.
    """

    config: NetworkConfig
    digest: str
    left_out: tuple[str, ...]
    head: str | None
    notes: tuple[str, ...] = ()


def check_output(path: Path, out: Path) -> None:
    """Raises JaxtlError where `out` is no place for what `path` becomes."""
    if out.suffix != ".safetensors":
        raise JaxtlError(f"{out}: the output is a safetensors file; give a name that ends in .safetensors")
    if out.is_dir():
        raise JaxtlError(f"{out}: a folder; give the name of a file to write")
    if path.exists() and out.exists() and path.samefile(out):
        raise JaxtlError(f"{out}: input and output are the same file; give another output")


def write(
    out: Path, config: NetworkConfig, arrays: Mapping[str, np.ndarray], provenance: Mapping[str, str]
) -> None:
    """Raises JaxtlError where the file cannot be written."""
    try:
        save_weights(out, config, arrays, provenance)
    except OSError as error:
        raise JaxtlError(f"{out}: cannot be written ({error.strerror}); choose another folder") from None


def provenance(path: str, sha256: str, framework: str, licence: str, source: str | None) -> dict[str, str]:
    """What is noted of where weights come from."""
    record = {
        "source_file": Path(path).name,
        "source_sha256": sha256,
        "framework": framework,
        "converter": f"weights_convert {jaxtl.__version__}",
        "licence": licence,
    }
    return {**record, "source": source} if source else record


def width_of(width: str, shapes: Mapping[str, tuple[int, ...]], usual: NetworkConfig) -> float:
    """The width given, or the one whose shapes fit best; published ones first, since several may fit.

    `shapes` by our names, `usual` a network of their family. Raises JaxtlError for what
    is no number.
    """
    if width != "auto":
        try:
            return float(width)
        except ValueError:
            raise JaxtlError(f"width: must be auto or a number such as 0.35, got {width!r}") from None
    network: Any = usual
    best, fewest = PUBLISHED_WIDTHS[0], len(shapes) + 1
    for candidate in (*PUBLISHED_WIDTHS, *(hundredth / 100 for hundredth in range(5, 401))):
        wanted = replace(network, width=candidate, classes=None).parameters
        wrong = sum(shapes[name] != shape for name, shape in wanted.items() if name in shapes)
        if wrong < fewest:
            best, fewest = candidate, wrong
        if not fewest:
            break
    return best


def check_shapes(
    config: NetworkConfig,
    shapes: Mapping[str, tuple[int, ...]],
    more: Iterable[str],
    where: str,
    remedy: str,
) -> None:
    """Raises JaxtlError with all that is wrong before any value is read.

    Args:
        shapes: by our names.
        more: what is wrong besides.
    """
    wrong = [*complaints(config, shapes), *more]
    if wrong:
        shown = "; ".join(wrong[:6]) + (f"; and {len(wrong) - 6} more" if len(wrong) > 6 else "")
        raise JaxtlError(f"{where}: does not fit {config.label} (width {config.width:g}): {shown}; {remedy}")
