"""How JAX is set up, what it computes on, and with which versions."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Literal, get_args

from jaxtl.errors import JaxtlError
from jaxtl.machine import cache, surroundings
from jaxtl.machine.host import cpu_count, describe, versions
from jaxtl.machine.memory import physical_memory
from jaxtl.progress import Notify
from jaxtl.ranges import RANGES

Precision = Literal["highest", "tf32", "bf16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

# XLA leaves out what is faster but not deterministic, and picks kernels without timing them.
_DETERMINISTIC = "--xla_gpu_deterministic_ops"
# How many devices are used, for this process and those that it starts.
DEVICES = "JAXTL_DEVICES"
# With any of these set, a user has decided about the card's memory.
_MEMORY_SETTINGS = (
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
)
# What a run's numbers can depend on; recorded in its environment.json.
_LIBRARIES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "scipy",
    "scikit-learn",
    "openTSNE",
    "scikit-learn-intelex",
    "matplotlib",
    "safetensors",
    "tensorflow-datasets",
    "ai-edge-litert",
    "openvino",
    "onnxruntime",
    "cuml-cu13",
    "cuml-cu12",
    "cupy-cuda13x",
    "cupy-cuda12x",
)


def configure(
    *,
    deterministic: bool = False,
    compilation_cache: str | os.PathLike[str] | None = None,
    devices: int | None = None,
    notify: Notify | None = None,
) -> None:
    """Set JAX up, before its first computation; whether it is imported already does not matter.

    Memory of a GPU is never taken in advance, unless the environment says otherwise.

    Args:
        deterministic: the same bits on every run on the same GPU, at some cost (XLA's flag
            `xla_gpu_deterministic_ops`); a CPU's results always are.
        compilation_cache: a folder, made where needed, that keeps every compiled function for later
            processes; "auto" takes a folder of jaxtl's own where there is a GPU, "none" keeps nothing, None
            leaves all as it is. This setting takes effect at any time.
        devices: how many of JAX's devices compute, the first ones of the default kind, here and in processes
            that this one starts; it takes effect at any time. None leaves it to the variable JAXTL_DEVICES,
            and without that all do.
        notify: called with one line where jaxtl's own folder cannot be written to.

    Raises:
        JaxtlError: a folder that cannot be written to; a number of devices that is none; or `deterministic`
            after JAX has made its devices, since a GPU would go on as it began.
    """
    if devices is not None:
        use_devices(devices)
    if compilation_cache is not None:
        cache.set_up(compilation_cache, notify)
    leave_device_memory()
    if not _has_devices():
        surroundings.check_threads(cpu_count())
    if deterministic:
        _make_deterministic()


def use_devices(count: int) -> None:
    """From now on so many compute, here and in processes that this one starts."""
    os.environ[DEVICES] = str(RANGES["devices"].checked("devices", count))


def check_precision(precision: str) -> None:
    """Raises JaxtlError unless it is one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise JaxtlError(f"precision: must be one of {', '.join(PRECISIONS)}, got {precision!r}")


def leave_device_memory() -> None:
    """Let JAX take memory of a GPU as it needs it; in vain once JAX has made its devices.

    By itself it takes 75 % of the card, which others, such as RAPIDS in the same process, need too.
    """
    if not any(os.environ.get(name) for name in _MEMORY_SETTINGS):
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"


def _make_deterministic() -> None:
    flags = os.environ.get("XLA_FLAGS", "").split()
    given = [flag for flag in flags if flag.partition("=")[0] == _DETERMINISTIC]
    if given and given[-1].partition("=")[2].lower() in ("", "true", "1"):
        return
    if _has_devices() and _on_gpu():
        raise JaxtlError(
            "deterministic: JAX has made its devices already; call jaxtl.machine.devices.configure "
            f"before the first computation, or start Python with XLA_FLAGS={_DETERMINISTIC}=true"
        )
    os.environ["XLA_FLAGS"] = " ".join([*flags, f"{_DETERMINISTIC}=true"])


def _has_devices() -> bool:
    # JAX has no public question for this that neither makes devices nor waits for a thread that does.
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bool(getattr(bridge, "_backends", None))


def _on_gpu() -> bool:
    import jax

    return jax.default_backend() == "gpu"


def devices_used() -> int:
    """How many devices compute: as many as `configure` was told, by default all of JAX's default kind here.

    One, where a device was chosen by JAX's own `jax_default_device`.

    Raises JaxtlError where there are fewer.
    """
    import jax

    leave_device_memory()
    there = 1 if jax.config.jax_default_device is not None else jax.local_device_count()
    given = os.environ.get(DEVICES)
    if not given:
        return there
    try:
        asked = RANGES["devices"].read(given)
    except JaxtlError as error:
        raise JaxtlError(f"{DEVICES}: {error}") from None
    if asked > there:
        kind = jax.local_devices()[0].device_kind
        raise JaxtlError(
            f"devices: {asked} are asked for, and JAX has {there} here ({kind}); give --devices {there}"
        )
    return asked


def device_memory() -> int:
    """Bytes of memory of each device that JAX computes on; those of a CPU share its memory."""
    import jax

    leave_device_memory()
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or physical_memory() // devices_used()


def environment() -> dict[str, Any]:
    """Versions, hardware and settings, the same for every run on the same machine and installation."""
    import jax

    leave_device_memory()
    devices = [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
    return {
        **describe(),
        "devices": devices,
        "devices_used": devices_used(),
        "versions": versions(_LIBRARIES),
        "settings": surroundings.recorded(),
    }


def moved(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """A line on how this machine and its versions differ from those that work began with; empty where not.

    Args:
        recorded, now: as `environment` gave it then, and gives it.
    """
    unlike = surroundings.moved(recorded, now) if recorded else ""
    return unlike and f"Not as it was begun: {unlike}; numbers may differ from those of a run made in one go"
