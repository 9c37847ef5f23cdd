"""What a trial's process does: it makes the embedding, and measures what that takes.

Little is imported, so that what it weighs is the method's.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.identity import machine as machine_now
from jaxtl.machine.memory import available_memory, forget_peak, peak_memory, resident, share_among
from jaxtl.progress import Progress
from jaxtl.records import store
from jaxtl.records.arrays import Embedding, Features
from jaxtl.reduction import reduce

# Rows of the tiny embedding that has everything imported and compiled beforehand.
_WARM_ROWS = 256
# So that quick embeddings, whose times vary most, are timed again: within these seconds, so often at most.
_REPEAT_SECONDS, _REPEATS = 10.0, 3
_SHORT = {"tsne": {"early_exaggeration_iter": 5, "n_iter": 5}}


def measure(request: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Make an embedding, save it, and say what it took.

    Args:
        request: `features`, a store; `out`, the embedding's path; `method`, `backend` and `params` of
            `jaxtl.reduce`; `n`, so many images; `streamed`, whether features are read as they are asked for;
            `on_gpu`; `beside`, how many such processes share the machine's memory, 1 by default.
        tell: called with {"ready": bytes of the process so far}, {"progress": fraction of an embedding} and
            {"run": seconds of an embedding}.

    Returns:
        The fields of `jaxtl.scaling.trials.Trial` that the process can tell.
    """
    share_among(request.get("beside", 1))
    _warm_up(request)
    baseline = resident("RssAnon") or peak_memory()
    forget_peak()
    tell({"ready": baseline})
    features = _load(request, request["n"])
    whole = features.values.nbytes <= available_memory() or not request["streamed"]
    seconds, used, embedding, peaks = [], 0.0, None, {}
    while not seconds or (used + seconds[-1] < _REPEAT_SECONDS and len(seconds) < _REPEATS):
        started = time.perf_counter()
        made = _reduce(request, features, lambda fraction: tell({"progress": float(fraction)}))
        seconds.append(time.perf_counter() - started)
        used += seconds[-1]
        tell({"run": seconds[-1]})
        if embedding is None:
            # Later repetitions only find memory more in pieces.
            embedding, peaks = made, _peaks(whole)
    embedding.save(request["out"])
    device, machine = _device(request)
    return {"seconds": seconds, **peaks, "device_peak": device, "machine": machine}


def _reduce(
    request: dict[str, Any], features: Features, progress: Progress | None, **changes: Any
) -> Embedding:
    params = {**request["params"], **changes}
    return reduce(features, request["method"], request["backend"], progress=progress, **params)


def _load(request: dict[str, Any], n: int) -> Features:
    """The first n images: from the file as they are asked for, or in memory as a run has them."""
    features = store.load(request["features"], n)
    return features if request["streamed"] else replace(features, values=np.array(features.values))


def _warm_up(request: dict[str, Any]) -> None:
    # JAX compiles for every size anew: there a first embedding of all images is not counted.
    whole = request["on_gpu"] and request["backend"] == "jaxtl"
    n = request["n"] if whole else min(request["n"], _WARM_ROWS)
    changes = dict(_SHORT.get(request["method"], {}))
    if "perplexity" in request["params"]:
        changes["perplexity"] = max(1.0, min(request["params"]["perplexity"], (n // 2 - 1) / 3))
    if "landmarks" in request["params"]:
        changes["landmarks"] = min(request["params"]["landmarks"], n // 2)
    # What is wrong with the request the real embedding will say.
    with contextlib.suppress(JaxtlError):
        _reduce(request, _load(request, n), None, **changes)
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        # What glibc keeps for later would hide as much of what the method takes.
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _peaks(whole: bool) -> dict[str, int | None]:
    """Peak of all that was resident, and of what is no file's; the latter only if files fit beside it."""
    highest = resident("VmHWM") or peak_memory()
    # Pages of files that were touched stay while there is memory for them, and then this is never too much.
    # Of a larger file the system takes pages back, which would be counted as the method's: there what is
    # seen from outside has to do.
    return {"resident_peak": highest, "peak": highest - (resident("RssFile") or 0) if whole else None}


def _device(request: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
    """Peak of JAX's own memory on a GPU, and what was computed on and with."""
    machine = machine_now(request["on_gpu"])
    jax = sys.modules.get("jax")
    if not request["on_gpu"] or request["backend"] != "jaxtl" or jax is None:
        return None, machine
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    return stats.get("peak_bytes_in_use"), machine | {"device": device.device_kind}
