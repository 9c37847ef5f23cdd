"""Libraries at work, each in a process of its own: a hang, a crash or memory taken stays there.

Each `use_` does a small piece of the work that the library is there for, and returns facts of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.machine.child import Child
from jaxtl.machine.devices import devices_used

SECONDS = 120
# By default JAX ends a traceback with a remark on the traceback, where the error itself should be.
_ENVIRONMENT = {"JAX_TRACEBACK_FILTERING": "off"}
# The function that lets each library work.
_FUNCTIONS = {
    "CPU libraries": "jaxtl.doctor.probes:use_cpu_libraries",
    "JAX": "jaxtl.doctor.probes:use_jax",
    "CuPy": "jaxtl.doctor.probes:use_cupy",
    "cuML": "jaxtl.doctor.probes:use_cuml",
    "LiteRT": "jaxtl.doctor.probes:use_litert",
    "OpenVINO": "jaxtl.doctor.probes:use_openvino",
    "ONNX Runtime": "jaxtl.doctor.probes:use_onnx_runtime",
    "scikit-learn-intelex": "jaxtl.doctor.probes:use_intelex",
}


@dataclass(frozen=True)
class Probe:
    """What a library did in a process of its own.

    Attributes:
        name: the library.
        seconds: from the start of the process to its end.
        facts: versions, devices, threads; empty where it failed.
        error: the last line of what it said; "" where it worked.
        said: the last line on its standard error, where it worked.
    """

    name: str
    seconds: float
    facts: dict[str, Any]
    error: str = ""
    said: str = ""


def try_library(name: str) -> Probe:
    """Let a library work: one of those in `_FUNCTIONS`."""
    began, facts, error = time.monotonic(), {}, ""
    with Child(environment=_ENVIRONMENT) as child:
        try:
            facts = child.call(_FUNCTIONS[name], {}, SECONDS)
        except (JaxtlError, MemoryError, RuntimeError) as failure:
            error = last_line(str(failure))
        except OSError as failure:
            error = f"{type(failure).__name__}: {last_line(str(failure))}"
        seconds = round(time.monotonic() - began, 1)
        return Probe(name, seconds, facts, error, "" if error else last_line(child.said))


def last_line(text: str) -> str:
    """The last that is not blank; empty where all is."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def probe_line(probe: Probe) -> str:
    """Whether a library works, and its facts."""
    name = f"{probe.name} {probe.facts['version']}" if "version" in probe.facts else probe.name
    if probe.error:
        return f"{name}: does not work: {probe.error} (after {probe.seconds} s)"
    facts = [f"{key} {value}" for key, value in probe.facts.items() if key != "version"]
    return "; ".join([f"{name}: works (in {probe.seconds} s)", *facts])


def use_cpu_libraries() -> dict[str, str]:
    import numpy
    import openTSNE
    import scipy
    import sklearn
    import threadpoolctl

    _ = numpy.ones((64, 64)) @ numpy.ones((64, 64))
    blas = {
        f"{library['internal_api']} {library['version']}, threads: {library['num_threads']}"
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    }
    return {
        "NumPy": numpy.__version__,
        "SciPy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "openTSNE": openTSNE.__version__,
        "BLAS": "; ".join(sorted(blas)),
    }


def use_jax() -> dict[str, str]:
    import jax
    import jaxlib

    # The product is cuBLAS's, the convolution cuDNN's: the two that fail most often where JAX does start.
    x = jax.numpy.ones((1, 1, 64, 64))
    y = jax.lax.conv(x @ x, jax.numpy.ones((1, 1, 3, 3)), (1, 1), "SAME").block_until_ready()
    assert float(y[0, 0, 9, 9]) == 576, "a convolution of ones is wrong"
    devices = [
        device.platform
        if device.device_kind == device.platform
        else f"{device.platform}: {device.device_kind}"
        for device in jax.devices()
    ]
    versions = {"version": jax.__version__, "jaxlib": jaxlib.__version__}
    try:
        used = f"{devices_used()} of {len(devices)}"
    except JaxtlError as error:
        # More than there are: no fault of JAX's.
        used = str(error)
    return {**versions, "devices": "; ".join(devices), "devices used": used}


def use_cupy() -> dict[str, Any]:
    import cupy

    x = cupy.ones((64, 64), cupy.float32)
    assert float((x @ x).sum()) == 64**3, "a product of ones is wrong"
    return {"version": cupy.__version__, "CUDA runtime": cupy.cuda.runtime.runtimeGetVersion()}


def use_cuml() -> dict[str, str]:
    import cuml
    import cupy
    from cuml.decomposition import PCA

    x = cupy.sin(cupy.arange(512, dtype=cupy.float32)).reshape(64, 8)
    coords = cupy.asarray(PCA(n_components=2).fit_transform(x))
    assert coords.shape == (64, 2), "a PCA is wrong"
    assert bool(cupy.isfinite(coords).all()), "a PCA is wrong"
    return {"version": cuml.__version__}


def use_litert() -> dict[str, str]:
    return _use_engine("litert")


def use_openvino() -> dict[str, str]:
    return _use_engine("openvino")


def use_onnx_runtime() -> dict[str, str]:
    return _use_engine("onnxruntime")


def use_intelex() -> dict[str, str]:
    import numpy

    from jaxtl.metrics import knn_accuracy
    from jaxtl.reduction import reduce

    groups = numpy.arange(60) % 2
    rows = numpy.random.default_rng(0).normal(size=(60, 4)) + 20 * groups[:, None]
    embedding = reduce(rows, "tsne", "intelex", perplexity=5, n_jobs=1)
    assert knn_accuracy(embedding.coords, groups)[0] == 1, "a map of two groups is wrong"
    return {"version": embedding.params["versions"]["scikit-learn-intelex"]}


def _use_engine(engine: str) -> dict[str, str]:
    """Images as the network takes them: a graph is made, read and computed, without a network's weights."""
    import numpy

    from jaxtl.models.mobilenet_v2 import MobileNetV2Config
    from jaxtl.network.engine import Pass, named_engine
    from jaxtl.settings import Images

    def entered(graph: Any) -> int:
        return graph.hand_out(graph.state.x, True)

    enter = Pass(engine, MobileNetV2Config(), Images(32, "unit"), "highest", entered)
    white = enter(numpy.full((1, 28, 28, 1), 255, numpy.uint8))
    assert white.shape == (1, 32, 32, 3), "a resized image is wrong"
    assert abs(white - 1).max() < 1e-5, "a resized image is wrong"
    return {"version": named_engine(engine).split()[1]}
