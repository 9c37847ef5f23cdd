"""What a trial was computed on and with, and where trials differ in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtl.machine.host import describe, versions

# What two trials of one machine have in common, whose times can be told together.
MACHINE = ("cpu", "cores", "device", "beside")
# What tells nothing of times, and what messages call the others.
_NO_PART = ("versions", "host")
_WORDS = {"beside": "trials at a time"}
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "openTSNE", "scikit-learn-intelex")
_GPU_LIBRARIES = ("cuml-cu13", "cuml-cu12", "jax")


def machine(on_gpu: bool) -> dict[str, Any]:
    """Processor, cores, and versions of what times hang on."""
    about = describe()
    libraries = versions(_LIBRARIES + _GPU_LIBRARIES * on_gpu)
    return {
        "cpu": about["cpu"],
        "cores": about["cores"],
        "versions": {"jaxtl": about["jaxtl"], **libraries},
    }


def differing(machines: Sequence[dict[str, Any]], names: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """What machines have different values of, and these; what one does not tell cannot differ.

    Args:
        machines: as `machine` gives them; older trials have no versions.
        names: some of `MACHINE` and libraries; all by default.
    """
    flat = [{**facts, **facts.get("versions", {})} for facts in machines]
    names = names or [
        name for name in dict.fromkeys(key for facts in flat for key in facts) if name not in _NO_PART
    ]
    seen = {name: list(dict.fromkeys(facts[name] for facts in flat if name in facts)) for name in names}
    return {name: values for name, values in seen.items() if len(values) > 1}


def spoken(mixed: dict[str, list[Any]]) -> str:
    """Such as "cores 2 and 4, numpy 2.0.1 and 2.1.0"."""
    return ", ".join(
        f"{_WORDS.get(name, name)} {' and '.join(map(str, values))}" for name, values in mixed.items()
    )
