"""The network in an inference engine: ONNX Runtime, OpenVINO or LiteRT, as BENCHMARK_ENGINE names it.

The graph is jaxtl's ONNX export behind a cast, a bilinear resize and the gray channel three times, so that
the engine takes uint8 as it comes; for LiteRT the Keras peer's, by TensorFlow's converter. OpenVINO
and LiteRT are made for one size of batches, ONNX Runtime for any. OpenVINO has more in the environment: with
BENCHMARK_HINT "throughput" it works asynchronously, on as many batches at a time as it sees fit; with
BENCHMARK_PRECISION "bf16" in bfloat16, on processors that multiply it (AMX), and is not held to jaxtl's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import network
from benchmarks.peers.data import open_data as open_data
from benchmarks.peers.network import IMAGES, LAST_FROZEN, batches
from jaxtl.exports.onnx_form import FEATURES, PIXELS
from jaxtl.machine.host import cpu_count

ENGINE = os.environ.get("BENCHMARK_ENGINE", "onnxruntime")
HINT = os.environ.get("BENCHMARK_HINT", "latency")
PRECISION = os.environ.get("BENCHMARK_PRECISION", "highest")
_EXACT = PRECISION == "highest"
_SHAPE = (28, 28, 1)
_IMAGES = "images"

# From batches of one size to the outputs of each.
Predict = Callable[[Iterable[np.ndarray]], list[np.ndarray]]


def settings() -> dict[str, Any]:
    return {"device": "cpu", "threads": cpu_count(), "hint": HINT, "precision": PRECISION}


def _features(images: np.ndarray, size: int) -> np.ndarray:
    return _run(FEATURES, images, size)


def _frozen(images: np.ndarray, size: int) -> np.ndarray:
    """[n, h, w, c]: a view, where the engine has the channels first."""
    outputs = _run(LAST_FROZEN, images, size)
    return outputs if ENGINE == "litert" else outputs.transpose(0, 2, 3, 1)


forward = partial(network.forward, _features, exact=_EXACT)
extract = partial(network.extract, _features, exact=_EXACT)
trunk = partial(network.trunk, _frozen, exact=_EXACT)


def _run(end: str, images: np.ndarray, size: int) -> np.ndarray:
    inputs = batches(images, size, fill=ENGINE != "onnxruntime")
    return np.concatenate(_loaded(end, size)(inputs))[: len(images)]


@cache
def _loaded(end: str, size: int) -> Predict:
    """The network up to `end`, the name of an output, ready for batches of a size."""
    return {"onnxruntime": _onnxruntime, "openvino": _openvino, "litert": _litert}[ENGINE](end, size)


def _onnxruntime(end: str, size: int) -> Predict:
    import onnxruntime

    del size
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpu_count()
    session = onnxruntime.InferenceSession(_graph(end), options, providers=["CPUExecutionProvider"])
    return lambda inputs: [session.run([end], {_IMAGES: batch})[0] for batch in inputs]


def _openvino(end: str, size: int) -> Predict:
    import openvino

    if not _EXACT and not _has_amx():
        raise ImportError("bfloat16 is for processors with AMX; this one would only emulate it")
    core = openvino.Core()
    model = core.read_model(_graph(end))
    model.reshape([size, *_SHAPE])
    how = {"INFERENCE_PRECISION_HINT": "f32" if _EXACT else "bf16", "INFERENCE_NUM_THREADS": cpu_count()}
    compiled = core.compile_model(model, "CPU", how | {"PERFORMANCE_HINT": HINT.upper()})
    if HINT == "latency":
        return lambda inputs: [compiled(batch)[0] for batch in inputs]
    return partial(_in_queue, openvino.AsyncInferQueue(compiled))


def _in_queue(queue: Any, inputs: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Outputs of an AsyncInferQueue, in the order of the inputs."""
    outputs: dict[int, np.ndarray] = {}
    queue.set_callback(lambda made, number: outputs.update({number: made.get_output_tensor().data.copy()}))
    for number, batch in enumerate(inputs):
        queue.start_async({0: batch}, number)
    queue.wait_all()
    return [outputs[number] for number in range(len(outputs))]


def _has_amx() -> bool:
    told = Path("/proc/cpuinfo")
    return told.exists() and "amx_bf16" in told.read_text()


def _litert(end: str, size: int) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=_flatbuffer(end), num_threads=cpu_count())
    entry, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(entry, [size, *_SHAPE])
    interpreter.allocate_tensors()

    def predict(batch: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(entry, batch)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return lambda inputs: [predict(batch) for batch in inputs]


@cache
def _graph(end: str) -> bytes:
    """ONNX from uint8 [n, 28, 28, 1] to one output of jaxtl's export."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        graph = onnx.load(network.export("onnx", Path(folder, "network.onnx")))
    graph = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(graph)).extract_model([PIXELS], [end])
    float32, (height, width, _) = onnx.TensorProto.FLOAT, _SHAPE
    side = IMAGES.image_size
    down, right = side / height, side / width
    resized = onnx.parser.parse_graph(f"""
        enter (uint8[n, {height}, {width}, 1] {_IMAGES}) => (float[n, 3, {side}, {side}] resized)
        <int64[4] gray = {{0, 1, {height}, {width}}}, float[4] scales = {{1, 1, {down}, {right}}}>
        {{
            values = Cast<to = {float32}>({_IMAGES})
            image = Reshape(values, gray)
            larger = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(image, , scales)
            resized = Concat<axis = 1>(larger, larger, larger)
        }}""")
    entry = onnx.helper.make_model(resized, opset_imports=graph.opset_import, ir_version=graph.ir_version)
    return onnx.compose.merge_models(entry, graph, [("resized", PIXELS)]).SerializeToString()


@cache
def _flatbuffer(end: str) -> bytes:
    """Keras's own network with jaxtl's weights, as the Keras peer has it, converted."""
    import tensorflow as tf

    from benchmarks.peers.keras_peer import ending_at

    model = ending_at(None if end == FEATURES else end)
    return tf.lite.TFLiteConverter.from_keras_model(model).convert()
