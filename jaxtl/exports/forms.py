"""A network in the form of another library, by the form's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jaxtl.exports import keras_form, onnx_form, torch_form
from jaxtl.exports.network import ExportedNetwork

# By the names in `jaxtl.settings.NETWORKS`.
_FORMS: dict[str, Callable[[ExportedNetwork, Path], list[Path]]] = {
    "keras": keras_form.write,
    "torch": torch_form.write,
    "onnx": onnx_form.write,
}


def export_network(network: ExportedNetwork, to: str, out: Path) -> list[Path]:
    """Write a network as "keras" (`.keras`), "torch" (`.safetensors`, and a `.py` that loads it) or "onnx".

    Returns the files written. Raises JaxtlError where a library is not installed, and OSError where a file
    cannot be written.
    """
    return _FORMS[to](network, out)
