"""Layers from the images on by another engine than JAX, on a CPU: OpenVINO or ONNX Runtime.

Each batch is on one core, from start to end, and as many are under way as there are cores: so a batch's bytes
do not hang on the number of cores.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any

import jax
import numpy as np

from jaxtl.errors import JaxtlError, install
from jaxtl.machine.host import cpu_count
from jaxtl.models import folding
from jaxtl.models.layers import NetworkConfig
from jaxtl.models.network import Carry
from jaxtl.network.onnx_plan import PIXELS, Stretches
from jaxtl.settings import Images, check_engine

# Precisions of `jaxtl.machine.devices` that each has.
_PRECISIONS = {"openvino": ("highest", "bf16"), "onnxruntime": ("highest",)}
# What "auto" takes where it is installed: ONNX Runtime was no faster than JAX with batches of 32 and more.
_PREFERRED = "openvino"
# Compiled passes that stay for the next call, the last ones.
_KEPT = 4
Plans, Weights = tuple[folding.Plan, ...], tuple[folding.Arrays, ...]
# Adds layers and outputs to a graph, and returns a tree of the outputs' numbers.
Outline = Callable[[Stretches], Any]
Run = Callable[[np.ndarray], Sequence[np.ndarray]]
# Of all passes: where two threads are the first to call OpenVINO 2026.4, each waits for the other for ever.
_first = threading.RLock()
_passes: dict[Any, Pass] = {}


def chosen_engine(engine: str, precision: str) -> str:
    """The engine that is taken: "jax", "openvino" or "onnxruntime".

    "auto" is OpenVINO where it is installed, JAX computes on a CPU too, and the precision is "highest"; else
    JAX.

    Raises JaxtlError for an unknown engine, one that is not installed or has no such precision, or one that
    computes on a CPU where JAX has something faster.
    """
    check_engine(engine)
    if engine == "auto":
        usable = precision == "highest" and _is_installed(_PREFERRED) and jax.default_backend() == "cpu"
        return _PREFERRED if usable else "jax"
    if engine == "jax":
        return engine
    if not _is_installed(engine):
        raise JaxtlError(f"engine {engine}: is not installed; {install(engine)}, or take engine jax")
    if precision not in _PRECISIONS[engine]:
        has = " and ".join(_PRECISIONS[engine])
        raise JaxtlError(f"engine {engine}: has precision {has}, not {precision}; take engine jax")
    if jax.default_backend() != "cpu":
        raise JaxtlError(f"engine {engine}: computes on CPUs, and JAX has a GPU here; take engine jax")
    return engine


def _is_installed(engine: str) -> bool:
    return find_spec(engine) is not None and find_spec("onnx") is not None


def named_engine(engine: str) -> str:
    """With the version that is installed, for records: other versions round otherwise."""
    return f"{engine} {version(engine)}"


class Pass:
    """uint8 batches [n, h, w, 1 or 3] to a tree of float32 arrays; any number of threads may call it.

    Args:
        engine: "openvino" or "onnxruntime".
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
        """What computes batches of one shape; both libraries are faster where they know it."""
        with _first:
            if shape not in self._compiled:
                import onnx

                graph = Stretches(onnx, self._config, shape, self._images)
                tree = self._outline(graph)
                run = _COMPILERS[self._engine](graph.serialized(), self._precision)
                run(np.zeros(shape, np.uint8))
                self._compiled[shape] = run, tree
            return self._compiled[shape]


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


_COMPILERS: dict[str, Callable[[bytes, str], Run]] = {
    "openvino": _with_openvino,
    "onnxruntime": _with_onnxruntime,
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
    digest = hashlib.blake2b()
    for array in jax.tree.leaves(arrays):
        digest.update(np.asarray(array))
    key = engine, plans, images, precision, outline, blocks, digest.digest()
    with _first:
        made = _passes.pop(key, None)
        if made is None:
            made = Pass(engine, plans[0].config, images, precision, partial(outline, plans, arrays, blocks))
        _passes[key] = made  # the last one
        while len(_passes) > _KEPT:
            del _passes[next(iter(_passes))]
        return made


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
    averages, carry = [], Carry(0)
    for plan, weights in zip(plans, arrays, strict=True):
        graph.run(plan, weights)
        if len(averages) < blocks:
            averages.append(graph.average(graph.state.x))
            carry = _handed_on(graph, plan)
    return (carry if len(plans) == blocks else _handed_on(graph, plans[-1])), (averages, carry)


def _handed_on(graph: Stretches, plan: folding.Plan) -> Carry:
    is_map = plan.steps[-1].layer.kind not in ("pool", "dense")
    x, skip = graph.state.x, graph.state.skip
    return Carry(graph.hand_out(x, is_map), None if skip is None else graph.hand_out(skip, True))
