"""A network in the form of another library, in one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxtl.models.layers import Layer, NetworkConfig
from jaxtl.settings import NETWORKS


@dataclass(frozen=True)
class Network:
    """What is exported.

    Attributes:
        config: its layers; with classes where there is a head.
        arrays: by our names, as `jaxtl.models.weights` has them.
        image_size: height and width of its images, in pixels.
        preprocessing: of pixels, as in `jaxtl.Images`.
        class_names: of the head's classes; empty where there is none.
        origin: where it comes from, one line.
    """

    config: NetworkConfig
    arrays: Mapping[str, np.ndarray]
    image_size: int
    preprocessing: str
    class_names: tuple[str, ...] = ()
    origin: str = ""

    def of(self, layer: Layer) -> dict[str, np.ndarray]:
        """A layer's own arrays, by their names."""
        return {key: np.asarray(self.arrays[f"{layer.name}/{key}"], np.float32) for key in layer.parameters}


def export_network(network: Network, to: str, out: Path) -> list[Path]:
    """Write a network as "keras" (`.keras`), "torch" (`.safetensors`, and a `.py` that loads it) or "onnx".

    Returns the files written. Raises JaxtlError where a library is not installed, and OSError where a file
    cannot be written.
    """
    from jaxtl.exports import keras_form, onnx_form, torch_form

    forms: dict[str, Callable[[Network, Path], list[Path]]] = {
        "keras": keras_form.write,
        "torch": torch_form.write,
        "onnx": onnx_form.write,
    }
    assert set(forms) == set(NETWORKS)
    return forms[to](network, out)
