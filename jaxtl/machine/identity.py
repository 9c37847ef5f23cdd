"""What a point was computed on and with, and where points differ in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jaxtl
from jaxtl.machine.devices import _version, cpu_count, cpu_name

# What two points of one machine have in common.
MACHINE = ("cpu", "cores", "device")
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "openTSNE")
_GPU_LIBRARIES = ("cuml-cu13", "cuml-cu12", "jax")


def machine(on_gpu: bool) -> dict[str, Any]:
    """Processor, cores, and versions of what times hang on."""
    names = _LIBRARIES + _GPU_LIBRARIES * on_gpu
    found = {name: version for name in names if (version := _version(name))}
    return {"cpu": cpu_name(), "cores": cpu_count(), "versions": {"jaxtl": jaxtl.__version__, **found}}


def differing(machines: Sequence[dict[str, Any]], names: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """What machines have different values of, and these; what one does not tell cannot differ.

    Args:
        machines: as `machine` gives them; older points have no versions.
        names: some of `MACHINE` and libraries; all by default.
    """
    flat = [{**each, **each.get("versions", {})} for each in machines]
    names = names or [
        name for name in dict.fromkeys(key for each in flat for key in each) if name != "versions"
    ]
    found = {name: list(dict.fromkeys(each[name] for each in flat if name in each)) for name in names}
    return {name: values for name, values in found.items() if len(values) > 1}


def spoken(found: dict[str, list[Any]]) -> str:
    """Such as "cores 2 and 4, numpy 2.0.1 and 2.1.0"."""
    return ", ".join(f"{name} {' and '.join(map(str, values))}" for name, values in found.items())
