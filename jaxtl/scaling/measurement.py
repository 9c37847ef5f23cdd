"""One point of a study, in a process of its own: `python -m jaxtl.scaling.measurement REQUEST`, in JSON.

It answers in JSON lines: how ready it is, how far, how long each repetition took, and how it ended. Little is
imported, so that what it weighs is the method's.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.child import dying_with_parent, send, take_channels
from jaxtl.machine.devices import peak_memory
from jaxtl.machine.identity import machine as machine_now
from jaxtl.machine.memory import available_memory
from jaxtl.progress import Progress
from jaxtl.records import store
from jaxtl.records.arrays import Features
from jaxtl.reduction import reduce

# Rows of the tiny map that has everything imported and compiled beforehand.
_WARM_ROWS = 256
# So that quick maps, whose times vary most, are timed again: within these seconds, so often at most.
_REPEAT_SECONDS, _REPEATS = 10.0, 3
_SHORT = {"tsne": {"early_exaggeration_iter": 5, "n_iter": 5}}


def main(request: dict[str, Any]) -> None:
    began = time.monotonic()
    requests, answers = take_channels()
    with contextlib.suppress(OSError):
        # Where memory runs out, Linux is to end this process and not the study.
        Path("/proc/self/oom_score_adj").write_text("1000")
    with dying_with_parent(requests.fileno()):
        send(answers, _answer(request, lambda message: send(answers, message), began))


def _answer(request: dict[str, Any], tell: Callable[[dict[str, Any]], None], began: float) -> dict[str, Any]:
    try:
        return _measure(request, tell, began)
    except JaxtlError as error:
        return {"failed": str(error)}
    except MemoryError as error:
        return {"out_of_memory": str(error) or "MemoryError"}
    except Exception as error:
        traceback.print_exc()
        line = " ".join("".join(traceback.format_exception_only(error)).split())[:300]
        return {"out_of_memory" if "RESOURCE_EXHAUSTED" in line else "failed": line}


def _measure(request: dict[str, Any], tell: Callable[[dict[str, Any]], None], began: float) -> dict[str, Any]:
    _warm_up(request)
    baseline = _resident("RssAnon")
    _forget_peak()
    tell({"ready": time.monotonic() - began, "baseline": baseline})
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
    return {"done": {"seconds": seconds, **peaks, "device_peak": device, "machine": machine}}


def _reduce(request: dict[str, Any], features: Features, progress: Progress | None, **changes: Any) -> Any:
    params = {**request["params"], **changes}
    return reduce(features, request["method"], request["backend"], progress=progress, **params)


def _load(request: dict[str, Any], n: int) -> Features:
    """The first n images: from the file as they are asked for, or in memory as a run has them."""
    found = store.load(request["features"], n)
    return found if request["streamed"] else replace(found, values=np.array(found.values))


def _warm_up(request: dict[str, Any]) -> None:
    # JAX compiles for every size anew: there a first map of all images is not counted.
    whole = request["on_gpu"] and request["backend"] == "jaxtl"
    n = request["n"] if whole else min(request["n"], _WARM_ROWS)
    changes = dict(_SHORT.get(request["method"], {}))
    if "perplexity" in request["params"]:
        changes["perplexity"] = max(1.0, min(request["params"]["perplexity"], (n // 2 - 1) / 3))
    if "landmarks" in request["params"]:
        changes["landmarks"] = min(request["params"]["landmarks"], n // 2)
    # What is wrong with the request the real map will say.
    with contextlib.suppress(JaxtlError):
        _reduce(request, _load(request, n), None, **changes)
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        # What glibc keeps for later would hide as much of what the method takes.
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peaks(whole: bool) -> dict[str, int | None]:
    """Peak of all that was resident, and of what is no file's; the latter only if files fit beside it."""
    highest = _resident("VmHWM") or peak_memory()
    # Pages of files that were touched stay while there is memory for them, and then this is never too much.
    # Of a larger file the system takes pages back, which would be counted as the method's: there what is
    # seen from outside has to do.
    return {"resident_peak": highest, "peak": highest - (_resident("RssFile") or 0) if whole else None}


def _resident(name: str) -> int | None:
    """Bytes of a line of /proc/self/status; where there is none, None, and the peak so far for RssAnon."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/self/status").read_text()
        return int(text.split(f"{name}:", 1)[1].split(None, 1)[0]) * 1024
    return peak_memory() if name == "RssAnon" else None


def _device(request: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
    """Peak of JAX's own memory on a GPU, and what was computed on and with."""
    machine = machine_now(request["on_gpu"])
    jax = sys.modules.get("jax")
    if not request["on_gpu"] or request["backend"] != "jaxtl" or jax is None:
        return None, machine
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    return stats.get("peak_bytes_in_use"), machine | {"device": device.device_kind}


if __name__ == "__main__":
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    main(json.loads(sys.argv[1]))
