"""What this machine is: processor, cores, memory, system, and versions of what is installed; without JAX."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import jaxtl
from jaxtl.machine.memory import physical_memory


def describe() -> dict[str, Any]:
    """jaxtl, Python, system, processor, cores and memory: the same on every day of this machine."""
    return {
        "jaxtl": jaxtl.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": cpu_count(),
        "memory_gib": round(physical_memory() / 2**30, 1),
    }


def cpu_count() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's model, as the system names it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions(names: Iterable[str]) -> dict[str, str]:
    """Of those distributions that are installed."""
    return {name: version for name in names if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
