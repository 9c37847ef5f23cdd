"""What a network's steps are in TFLite's form, from uint8 images on, for LiteRT.

By the classes of TFLite's schema, which come with LiteRT: what TensorFlow's converter would make of a Keras
model, without TensorFlow. Every operation is one that LiteRT leaves to XNNPACK, but for the cast of pixels
and the padding of max pooling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxtl.data.resize import Box
from jaxtl.models.layers import Layer, NetworkConfig
from jaxtl.settings import mean_and_deviation

# By kinds of `jaxtl.models.network.ACTIVATIONS`: the operation.
_ACTIVATIONS = {"relu": "RELU", "relu6": "RELU6"}
_VERSION, _IDENTIFIER = 3, b"TFL3"
# For what is not weights, with room to spare.
_DESCRIPTION_BYTES = 2**16


class TfliteGraph:
    """A `jaxtl.network.stretches.Graph` of TFLite; maps are [n, h, w, c], tensors are told by their numbers.

    Args:
        config: the network's.
        shape: of the uint8 images, [n, height, width, 1 or 3].
    """

    def __init__(self, config: NetworkConfig, shape: Sequence[int]) -> None:
        from ai_edge_litert import schema_py_generated

        self._schema, self._config = schema_py_generated, config
        # The first buffer is that of all tensors which are computed.
        self._tensors, self._buffers = [], [self._part("Buffer")]
        self._operators, self._codes = [], {}
        self._outputs: list[int] = []
        self._pixels = self._tensor("pixels", shape, "UINT8")

    def values(self) -> int:
        kinds = self._schema.TensorType
        types = {"inDataType": kinds.UINT8, "outDataType": kinds.FLOAT32}
        return self._made("CAST", [self._pixels], self._shape(self._pixels), "values", "CastOptions", **types)

    def crop(self, x: int, taken: Box) -> int:
        n, _, _, channels = self._shape(x)
        begin = self._constant("crop/begin", np.array([0, taken.top, taken.left, 0], np.int32))
        size = [n, taken.height, taken.width, channels]
        sizes = self._constant("crop/size", np.array(size, np.int32))
        return self._made("SLICE", [x, begin, sizes], size, "cropped", "SliceOptions")

    def resize(self, x: int, down: np.ndarray, across: np.ndarray) -> int:
        # A product is over the last axis: the columns', then the rows'.
        x = self._product(self._transposed(x, (0, 3, 2, 1), "columns"), down, "down")
        x = self._product(self._transposed(x, (0, 1, 3, 2), "rows"), across, "across")
        # Weights of a pixel can sum to 1 + 1e-7.
        white = self._constant("white", np.float32([255]))
        x = self._made("MINIMUM", [x, white], self._shape(x), "within", "MaximumMinimumOptions")
        return self._transposed(x, (0, 2, 3, 1), "resized")

    def surround(self, x: int, before: tuple[int, int], after: tuple[int, int], output: str) -> int:
        return self._padded("PAD", x, before, after, output)

    def enter(self, pixels: int, preprocessing: str) -> int:
        """By a convolution of one pixel: all channels at once, and a gray one three times."""
        mean, deviation = (np.array(values) for values in mean_and_deviation(preprocessing))
        *sizes, channels = self._shape(pixels)
        scale = 1 / (255 * deviation)
        kernel = np.diag(scale) if channels == 3 else scale[:, None]
        parts = (kernel[:, None, None, :], -mean / deviation)
        constants = [
            self._constant(f"entered/{key}", values.astype(np.float32))
            for key, values in zip(("kernel", "bias"), parts, strict=True)
        ]
        window = {"padding": self._schema.Padding.VALID, "strideH": 1, "strideW": 1}
        inputs = [pixels, *constants]
        return self._made("CONV_2D", inputs, [*sizes, 3], "entered", "Conv2DOptions", **window)

    def convolve(self, layer: Layer, arrays: dict[str, np.ndarray], x: int, side: int) -> int:
        name, kernel = layer.name, arrays["kernel"]
        # From [h, w, in, out], and of a depthwise one from [h, w, channels, 1].
        weights = self._constant(f"{name}/kernel", kernel.transpose((3, 0, 1, 2)))
        bias = self._constant(f"{name}/bias", arrays.get("bias", np.zeros(layer.channels, np.float32)))
        x, window = self._windowed(layer, x, side, "PAD")
        inputs, shape = [x, weights, bias], self._after(layer, x, side)
        if layer.kind == "conv":
            return self._made("CONV_2D", inputs, shape, name, "Conv2DOptions", **window)
        window |= {"depthMultiplier": 1}
        return self._made("DEPTHWISE_CONV_2D", inputs, shape, name, "DepthwiseConv2DOptions", **window)

    def normalise(self, x: int, scale: np.ndarray, bias: np.ndarray, output: str) -> int:
        scale, bias = (
            self._constant(f"{output}/{key}", values) for key, values in (("scale", scale), ("bias", bias))
        )
        x = self._made("MUL", [x, scale], self._shape(x), f"{output}/scaled", "MulOptions")
        return self.add(x, bias, output)

    def activation(self, kind: str, x: int, output: str) -> int:
        return self._made(_ACTIVATIONS[kind], [x], self._shape(x), output)

    def activated(self, kind: str, x: int, output: str) -> int:
        options = self._operators[-1].builtinOptions
        if not hasattr(options, "fusedActivationFunction"):
            return self.activation(kind, x, output)
        options.fusedActivationFunction = getattr(self._schema.ActivationFunctionType, _ACTIVATIONS[kind])
        return x

    def max_pool(self, layer: Layer, x: int, side: int) -> int:
        x, window = self._windowed(layer, x, side, "PADV2")
        window |= {"filterHeight": layer.kernel_size, "filterWidth": layer.kernel_size}
        shape = self._after(layer, x, side)
        return self._made("MAX_POOL_2D", [x], shape, layer.name, "Pool2DOptions", **window)

    def add(self, x: int, other: int, output: str) -> int:
        return self._made("ADD", [x, other], self._shape(x), output, "AddOptions")

    def average(self, x: int, output: str) -> int:
        axes = self._constant(f"{output}/axes", np.array([1, 2], np.int32))
        n, _, _, channels = self._shape(x)
        return self._made("MEAN", [x, axes], [n, channels], output, "ReducerOptions", keepDims=False)

    def dense(self, x: int, kernel: np.ndarray, bias: np.ndarray, output: str) -> int:
        return self._product(x, kernel.T, output, bias)

    def hand_out(self, x: int, is_map: bool) -> None:
        self._outputs.append(x)

    def serialized(self) -> bytes:
        import flatbuffers

        graph = self._part(
            "SubGraph",
            tensors=self._tensors,
            inputs=[self._pixels],
            outputs=self._outputs,
            operators=self._operators,
            name=self._config.name,
        )
        codes = [self._code(name) for name in self._codes]
        model = self._part(
            "Model",
            version=_VERSION,
            description="jaxtl",
            operatorCodes=codes,
            subgraphs=[graph],
            buffers=self._buffers,
        )
        weights = sum(buffer.data.nbytes for buffer in self._buffers[1:])
        builder = flatbuffers.Builder(weights + _DESCRIPTION_BYTES)
        builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
        return bytes(builder.Output())

    def _transposed(self, x: int, axes: Sequence[int], output: str) -> int:
        shape = [self._shape(x)[axis] for axis in axes]
        order = self._constant(f"{output}/axes", np.array(axes, np.int32))
        return self._made("TRANSPOSE", [x, order], shape, output, "TransposeOptions")

    def _product(self, x: int, weights: np.ndarray, output: str, bias: np.ndarray | None = None) -> int:
        """Rows [..., in] with weights [out, in]."""
        values = np.zeros(len(weights), np.float32) if bias is None else bias
        constants = self._constant(f"{output}/weights", weights), self._constant(f"{output}/bias", values)
        shape = [*self._shape(x)[:-1], len(weights)]
        inputs = [x, *constants]
        return self._made("FULLY_CONNECTED", inputs, shape, output, "FullyConnectedOptions", keepNumDims=True)

    def _windowed(self, layer: Layer, x: int, side: int, pad: str) -> tuple[int, dict[str, int]]:
        """How a convolution or max pooling goes over a map, which is padded first where TFLite has no word
        for it."""
        before, after = self._config.pads_with(layer, side) if layer.pads else (0, 0)
        stride = {"strideH": layer.stride, "strideW": layer.stride}
        total = max((math.ceil(side / layer.stride) - 1) * layer.stride + layer.kernel_size - side, 0)
        if before + after and (before, after) == (total // 2, total - total // 2):
            return x, {"padding": self._schema.Padding.SAME, **stride}
        if before + after:
            x = self._padded(pad, x, (before, before), (after, after), f"{layer.name}/padded")
        return x, {"padding": self._schema.Padding.VALID, **stride}

    def _padded(self, pad: str, x: int, before: tuple[int, int], after: tuple[int, int], output: str) -> int:
        """By PAD with zeros, by PADV2 with minus infinity."""
        around = [(0, 0), *zip(before, after, strict=True), (0, 0)]
        shape = [size + sum(pads) for size, pads in zip(self._shape(x), around, strict=True)]
        inputs = [x, self._constant(f"{output}/pads", np.array(around, np.int32))]
        if pad == "PAD":
            return self._made(pad, inputs, shape, output, "PadOptions")
        inputs.append(self._constant(f"{output}/least", np.float32([-np.inf])))
        return self._made(pad, inputs, shape, output, "PadV2Options")

    def _after(self, layer: Layer, x: int, side: int) -> list[int]:
        size = self._config.size_after(layer, side)
        return [self._shape(x)[0], size, size, layer.channels]

    def _shape(self, x: int) -> list[int]:
        return self._tensors[x].shape

    def _made(
        self,
        operation: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        output: str,
        options: str = "",
        **fields: Any,
    ) -> int:
        """Add an operation with options of the schema's, and the float32 tensor that it makes."""
        made = self._tensor(output, shape, "FLOAT32")
        code = self._codes.setdefault(operation, len(self._codes))
        operator = self._part("Operator", opcodeIndex=code, inputs=list(inputs), outputs=[made])
        if options:
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)
            operator.builtinOptions = self._part(options, **fields)
        self._operators.append(operator)
        return made

    def _constant(self, name: str, values: np.ndarray) -> int:
        values = np.ascontiguousarray(values)
        self._buffers.append(self._part("Buffer", data=values.reshape(-1).view(np.uint8)))
        kind = {"float32": "FLOAT32", "int32": "INT32"}[values.dtype.name]
        return self._tensor(name, values.shape, kind, len(self._buffers) - 1)

    def _tensor(self, name: str, shape: Sequence[int], kind: str, buffer: int = 0) -> int:
        sizes = [int(size) for size in shape]
        kind = getattr(self._schema.TensorType, kind)
        self._tensors.append(self._part("Tensor", name=name, shape=sizes, type=kind, buffer=buffer))
        return len(self._tensors) - 1

    def _code(self, operation: str) -> Any:
        number = getattr(self._schema.BuiltinOperator, operation)
        # Readers that know no more than 127 operations take the other field.
        return self._part(
            "OperatorCode", builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=1
        )

    def _part(self, name: str, /, **fields: Any) -> Any:
        """An object of the schema's."""
        part = getattr(self._schema, f"{name}T")()
        for key, value in fields.items():
            setattr(part, key, value)
        return part
