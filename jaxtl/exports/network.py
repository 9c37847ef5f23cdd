"""What of a network is exported, whatever the form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxtl.models.layers import Layer, NetworkConfig


@dataclass(frozen=True)
class ExportedNetwork:
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
