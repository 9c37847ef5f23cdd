"""Layers from the images on by another engine than JAX, on a CPU: LiteRT, OpenVINO or ONNX Runtime.

Each batch is on one core, from start to end, and as many are under way as there are cores: so a batch's bytes
do not hang on the number of cores.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxtl.errors import JaxtlError, install
from jaxtl.machine.host import cpu_count
from jaxtl.machine.remembered import Remembered
from jaxtl.machine.warned import unsaid
from jaxtl.models import folding
from jaxtl.models.layers import NetworkConfig
from jaxtl.models.network import Carry
from jaxtl.network.onnx_plan import PIXELS, OnnxGraph
from jaxtl.network.stretches import Graph, Stretches
from jaxtl.network.tflite_graph import TfliteGraph
from jaxtl.settings import PREFERRED_ENGINES, Images, check_engine

# What LiteRT tells everybody on standard error, once.
_ANNOUNCED = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
_announced = threading.Event()
# Compiled passes that stay for the next call, the last ones.
_KEPT = 4
Plans, Weights = tuple[folding.Plan, ...], tuple[folding.Arrays, ...]
# Adds layers and outputs to a graph, and returns a tree of the outputs' numbers.
Outline = Callable[[Stretches], Any]
Run = Callable[[np.ndarray], Sequence[np.ndarray]]
# Of all passes: where two threads are the first to call OpenVINO 2026.4, each waits for the other for ever.
_first = threading.RLock()
_passes: dict[Any, Pass] = {}
_digests: Remembered[bytes] = Remembered(_KEPT)


def chosen_engine(engine: str, precision: str) -> str:
    """The engine that is taken: "jax", "litert", "openvino" or "onnxruntime".

    "auto" is the first of `PREFERRED_ENGINES` that is installed, where JAX computes on a CPU too and the
    precision is "highest"; else JAX.

    Raises JaxtlError for an unknown engine, one that is not installed or has no such precision, or one that
    computes on a CPU where JAX has something faster.
    """
    check_engine(engine)
    if engine == "auto":
        usable = precision == "highest" and jax.default_backend() == "cpu"
        return next((name for name in PREFERRED_ENGINES if usable and _is_installed(name)), "jax")
    if engine == "jax":
        return engine
    if not _is_installed(engine):
        raise JaxtlError(f"engine {engine}: is not installed; {install(engine)}, or take engine jax")
    if precision not in _ENGINES[engine].precisions:
        has = " and ".join(_ENGINES[engine].precisions)
        raise JaxtlError(f"engine {engine}: has precision {has}, not {precision}; take engine jax")
    if jax.default_backend() != "cpu":
        raise JaxtlError(f"engine {engine}: computes on CPUs, and JAX has a GPU here; take engine jax")
    return engine


def _is_installed(engine: str) -> bool:
    # A folder that happens to have the name, in the working directory say, has no file of its own.
    specs = map(find_spec, _ENGINES[engine].modules)
    return all(spec is not None and spec.origin is not None for spec in specs)


def named_engine(engine: str) -> str:
    """With the version that is installed, for records: other versions round otherwise."""
    try:
        return f"{engine} {version(_ENGINES[engine].distribution)}"
    except PackageNotFoundError:  # as for onnxruntime-gpu, which has the same module
        return f"{engine} {import_module(_ENGINES[engine].modules[0]).__version__}"


class Pass:
    """uint8 batches [n, h, w, 1 or 3] to a tree of float32 arrays; any number of threads may call it.

    Args:
        engine: "litert", "openvino" or "onnxruntime".
        config: the network's.
        images: how they become the network's input, the preprocessing settled.
        precision: one that the engine has.
        outline: what is computed of them.
    """

    def __init__(
        self, engine: str, config: NetworkConfig, images: Images, precision: str, outline: Outline
    ) -> None:
        self._engine, self._config, self._images = engine, config, images
        self._precision, self._outline = precision, outline
        self._compiled: dict[tuple[int, ...], tuple[Run, Any]] = {}

    def __call__(self, batch: np.ndarray) -> Any:
        run, tree = self._for(batch.shape)
        arrays = run(np.ascontiguousarray(batch))
        return jax.tree.map(lambda number: arrays[number], tree)

    def _for(self, shape: tuple[int, ...]) -> tuple[Run, Any]:
        """What computes batches of one shape; the libraries are faster where they know it."""
        with _first:
            if shape not in self._compiled:
                try:
                    self._compiled[shape] = self._compile(shape)
                except (ImportError, OSError) as error:
                    told = f"is installed and does not work: {' '.join(str(error).split())}"
                    remedy = "take engine jax, or install it again"
                    raise JaxtlError(f"engine {self._engine}: {told}; {remedy}") from None
            return self._compiled[shape]

    def _compile(self, shape: tuple[int, ...]) -> tuple[Run, Any]:
        engine = _ENGINES[self._engine]
        graph = engine.graph(self._config, shape)
        tree = self._outline(Stretches(graph, self._config, shape, self._images))
        run = engine.compile(graph.serialized(), self._precision)
        run(np.zeros(shape, np.uint8))
        return run, tree


def openvino_core() -> Any:
    """OpenVINO's own, without what tells its makers, in a process that it forks, that somebody imports it."""
    telemetry = "openvino_telemetry"
    if telemetry in sys.modules:
        import openvino
    else:
        sys.modules[telemetry] = None  # as if it were not installed, which OpenVINO allows for
        try:
            import openvino
        finally:
            del sys.modules[telemetry]
    return openvino.Core()


def _with_openvino(graph: bytes, precision: str) -> Run:
    core, cores = openvino_core(), cpu_count()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise JaxtlError("engine openvino: this processor has no bfloat16; take precision highest")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "NUM_STREAMS": cores,
        "INFERENCE_NUM_THREADS": cores,
        # Two processes would otherwise take turns on the same cores while others are idle.
        "ENABLE_CPU_PINNING": False,
    }
    compiled, requests = core.compile_model(core.read_model(graph), "CPU", settings), SimpleQueue()
    for _ in range(cores):
        requests.put(compiled.create_infer_request())

    def run(batch: np.ndarray) -> Sequence[np.ndarray]:
        request = requests.get()
        try:
            return tuple(request.infer({PIXELS: batch}, share_inputs=True).values())
        finally:
            requests.put(request)

    return run


def _with_onnxruntime(graph: bytes, precision: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; it warns of what it finds no GPU by
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {PIXELS: batch})


def _with_litert(graph: bytes, precision: str) -> Run:
    # Each has packed weights of its own, so there are no more than batches were ever under way together.
    idle, cores = SimpleQueue(), threading.Semaphore(cpu_count())

    def run(batch: np.ndarray) -> Sequence[np.ndarray]:
        with cores:
            try:
                used = idle.get_nowait()
            except Empty:
                used = _interpreter(graph)
            try:
                return _interpreted(*used, batch)
            finally:
                idle.put(used)

    return run


def _interpreter(graph: bytes) -> tuple[Any, int, list[int]]:
    """One of a single thread, and the numbers of its input and of its outputs."""
    from ai_edge_litert.interpreter import Interpreter

    with _first:
        with contextlib.nullcontext() if _announced.is_set() else unsaid(_ANNOUNCED):
            interpreter = Interpreter(model_content=graph, num_threads=1)
            interpreter.allocate_tensors()
        _announced.set()
    (entry,), ends = interpreter.get_input_details(), interpreter.get_output_details()
    return interpreter, entry["index"], [end["index"] for end in ends]


def _interpreted(interpreter: Any, entry: int, ends: Sequence[int], batch: np.ndarray) -> list[np.ndarray]:
    interpreter.set_tensor(entry, batch)
    interpreter.invoke()
    # Copies. What `tensor` shows instead is the interpreter's own memory: the next batch writes there, and is
    # refused for as long as somebody looks.
    return [interpreter.get_tensor(end) for end in ends]


class _Engine(NamedTuple):
    """What an engine needs and can do.

    Attributes:
        distribution: the package, whose version is recorded.
        modules: that are there where it is installed.
        precisions: of those of `jaxtl.machine.devices`.
        graph: what its graphs are written with, of a network's config and the shape of a batch.
        compile: from a graph and a precision to what computes it.
    """

    distribution: str
    modules: tuple[str, ...]
    precisions: tuple[str, ...]
    graph: Callable[[NetworkConfig, Sequence[int]], Graph]
    compile: Callable[[bytes, str], Run]


_ENGINES = {
    "litert": _Engine(
        "ai-edge-litert", ("ai_edge_litert", "flatbuffers"), ("highest",), TfliteGraph, _with_litert
    ),
    "openvino": _Engine("openvino", ("openvino", "onnx"), ("highest", "bf16"), OnnxGraph, _with_openvino),
    "onnxruntime": _Engine(
        "onnxruntime", ("onnxruntime", "onnx"), ("highest",), OnnxGraph, _with_onnxruntime
    ),
}


def pass_of(
    engine: str,
    plans: Plans,
    arrays: Weights,
    images: Images,
    precision: str,
    outline: Callable[[Plans, Weights, int, Stretches], Any],
    blocks: int = 0,
) -> Pass:
    """A pass through plans, the first of which begins with the images; kept, with what it compiled.

    Args:
        engine, images, precision: as of `Pass`.
        plans, arrays: as `folding.fold` gives them, of one stretch after the other.
        outline: `hand_on`, `average` or `average_blocks`.
        blocks: how many plans, the first ones, end a block.
    """
    leaves = jax.tree.leaves(arrays)
    digest = _digests.of(None, leaves, lambda: _digest_of(leaves))
    key = engine, plans, images, precision, outline, blocks, digest
    with _first:
        made = _passes.pop(key, None)
        if made is None:
            made = Pass(engine, plans[0].config, images, precision, partial(outline, plans, arrays, blocks))
        _passes[key] = made  # the last one
        while len(_passes) > _KEPT:
            del _passes[next(iter(_passes))]
        return made


def _digest_of(arrays: Sequence[Any]) -> bytes:
    digest = hashlib.blake2b()
    for array in arrays:
        digest.update(np.asarray(array))
    return digest.digest()


def hand_on(plans: Plans, arrays: Weights, blocks: int, graph: Stretches) -> Carry:
    """What the last plan hands on."""
    for plan, weights in zip(plans, arrays, strict=True):
        graph.run(plan, weights)
    return _handed_on(graph, plans[-1])


def average(plans: Plans, arrays: Weights, blocks: int, graph: Stretches) -> list[int]:
    """Averages [n, channels] of the last layer of each plan."""
    averages = []
    for plan, weights in zip(plans, arrays, strict=True):
        graph.run(plan, weights)
        on_skip = plan.steps[-1].layer.on_skip
        averages.append(graph.average(graph.state.skip if on_skip else graph.state.x))
    return averages


def average_blocks(
    plans: Plans, arrays: Weights, blocks: int, graph: Stretches
) -> tuple[Carry, tuple[list[int], Carry]]:
    """What the last plan hands on; averages at the ends of blocks, and what the last of these hands on."""
    averages = []
    for number, (plan, weights) in enumerate(zip(plans, arrays, strict=True), 1):
        graph.run(plan, weights)
        if number <= blocks:
            averages.append(graph.average(graph.state.x))
        # The others are not handed out: engines join their layers, and copy nothing.
        if number == blocks:
            carry = _handed_on(graph, plan)
    return _handed_on(graph, plans[-1]), (averages, carry)


def _handed_on(graph: Stretches, plan: folding.Plan) -> Carry:
    is_map = plan.steps[-1].layer.kind not in ("pool", "dense")
    x, skip = graph.state.x, graph.state.skip
    return Carry(graph.hand_out(x, is_map), None if skip is None else graph.hand_out(skip, True))
