"""What a network's steps are in ONNX, from uint8 images on, for ONNX Runtime and OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxtl.data.resize import Box
from jaxtl.exports import onnx_graph
from jaxtl.models.layers import Layer, NetworkConfig

PIXELS = "pixels"


class OnnxGraph(onnx_graph.Graph):
    """A `jaxtl.network.stretches.Graph` of ONNX; maps are [n, c, h, w], outputs are named "0", "1", ...

    Args:
        config: the network's.
        shape: of the uint8 images, [n, height, width, 1 or 3].
    """

    def __init__(self, config: NetworkConfig, shape: Sequence[int]) -> None:
        import onnx

        super().__init__(onnx, config)
        self._shape, self._outputs = list(shape), 0

    def values(self) -> str:
        whole = self.node("Transpose", [PIXELS], "channels_first", perm=[0, 3, 1, 2])
        return self.node("Cast", [whole], "values", to=self._onnx.TensorProto.FLOAT)

    def crop(self, x: str, taken: Box) -> str:
        ends = taken.top + taken.height, taken.left + taken.width
        bounds = {"starts": (taken.top, taken.left), "ends": ends, "axes": (2, 3)}
        limits = [self.constant(f"crop/{key}", np.array(at, np.int64)) for key, at in bounds.items()]
        return self.node("Slice", [x, *limits], "cropped")

    def resize(self, x: str, down: np.ndarray, across: np.ndarray) -> str:
        rows = self.node("MatMul", [self.constant("down", down), x], "rows")
        turned = self.constant("across", np.ascontiguousarray(across.T))
        x = self.node("MatMul", [rows, turned], "resized")
        # Weights of a pixel can sum to 1 + 1e-7.
        return self.node("Min", [x, self.constant("white", np.float32(255))], "within")

    def enter(self, pixels: str, preprocessing: str) -> str:
        # Not by broadcasting what scales them, which OpenVINO 2026.4 fuses into a convolution of one channel.
        pixels = self.node("Concat", [pixels] * 3, "rgb", axis=1) if self._shape[3] == 1 else pixels
        return self.rescale(pixels, preprocessing, "entered")

    def convolve(self, layer: Layer, arrays: dict[str, np.ndarray], x: str, side: int) -> str:
        name = layer.name
        bias = self.constant(f"{name}/bias", arrays["bias"]) if "bias" in arrays else None
        return self.convolution(layer, arrays["kernel"], x, side, name, bias)

    def normalise(self, x: str, scale: np.ndarray, bias: np.ndarray, output: str) -> str:
        scale, bias = (
            self.constant(f"{output}/{key}", values[:, None, None])
            for key, values in (("scale", scale), ("bias", bias))
        )
        return self.node("Add", [self.node("Mul", [x, scale], f"{output}/scaled"), bias], output)

    # What joins what is the engine's to see.
    activated = onnx_graph.Graph.activation

    def max_pool(self, layer: Layer, x: str, side: int) -> str:
        return self.node("MaxPool", [x], layer.name, **self.window(layer, side))

    def add(self, x: str, other: str, output: str) -> str:
        return self.node("Add", [x, other], output)

    def average(self, x: str, output: str) -> str:
        return self.node("Flatten", [self.node("GlobalAveragePool", [x], f"{output}/map")], output)

    def dense(self, x: str, kernel: np.ndarray, bias: np.ndarray, output: str) -> str:
        parts = (("kernel", kernel), ("bias", bias))
        constants = [self.constant(f"{output}/{key}", values) for key, values in parts]
        return self.node("Gemm", [x, *constants], output)

    def hand_out(self, x: str, is_map: bool) -> None:
        moved: dict[str, Any] = {"perm": [0, 2, 3, 1]} if is_map else {}
        self.node("Transpose" if is_map else "Identity", [x], str(self._outputs), **moved)
        self._outputs += 1

    def serialized(self) -> bytes:
        names = {str(number): None for number in range(self._outputs)}
        model = self.model(PIXELS, "UINT8", self._shape, names)
        return model.SerializeToString(deterministic=True)
