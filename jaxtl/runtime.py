"""The machine: what JAX computes on, how much memory there is, what is installed."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jaxtl

# What a run's numbers can depend on; recorded in its environment.json.
_LIBRARIES = (
    "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "openTSNE", "matplotlib",
    "safetensors", "tensorflow-datasets", "cuml-cu13", "cuml-cu12", "cupy-cuda13x", "cupy-cuda12x",
)  # fmt: skip


def physical_memory() -> int:
    """Bytes of memory of this machine, or of its control group where that allows less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, int(text)) if text.isdigit() else total


def device_memory() -> int:
    """Bytes of memory of the device that JAX computes on."""
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or physical_memory()


def peak_memory() -> int:
    """Bytes of the largest resident size that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cpu_count() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """Versions and hardware, the same for every run on the same machine and installation."""
    import jax

    return {
        "jaxtl": jaxtl.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": cpu_count(),
        "memory_gib": round(physical_memory() / 2**30, 1),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "versions": {name: version for name in _LIBRARIES if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
