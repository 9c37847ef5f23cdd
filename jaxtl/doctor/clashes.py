"""Libraries of CUDA that are there twice, as distributions and on LD_LIBRARY_PATH."""

from __future__ import annotations

import re
from pathlib import Path

from jaxtl.errors import install
from jaxtl.machine.cuda import Fault

# Files of CUDA's libraries and the wheels that bring them: nvidia-NAME (CUDA 13) or nvidia-NAME-cu12.
_FILES = {
    "libcublas": "cublas",
    "libcublaslt": "cublas",
    "libcudnn": "cudnn",
    "libcusolver": "cusolver",
    "libcusparse": "cusparse",
    "libcufft": "cufft",
    "libcurand": "curand",
    "libnvjitlink": "nvjitlink",
    "libcudart": "cuda-runtime",
    "libnvrtc": "cuda-nvrtc",
    "libcupti": "cuda-cupti",
    "libnccl": "nccl",
}
_OVERWRITING = (r"cuml-cu1\d", r"cupy(-cuda1\dx)?", r"jax-cuda1\d-plugin")


def clashes(installed: dict[str, str], library_path: str) -> list[Fault]:
    """What is there twice.

    Args:
        installed: version by distribution, lower case with dashes.
        library_path: folders with colons between, as LD_LIBRARY_PATH.

    Returns:
        Faults that are not broken: every one of them can also work.
    """
    return [*_twice_installed(installed), *_unequal_plugins(installed), *_shadowed(installed, library_path)]


def _twice_installed(installed: dict[str, str]) -> list[Fault]:
    fresh = f"make a fresh virtual environment with only one, cuda13 or cuda12: {install('cuda13')}"
    faults = []
    for pattern in _OVERWRITING:
        names = sorted(name for name in installed if re.fullmatch(pattern, name))
        if len(names) > 1:
            faults.append(
                Fault(f"{' and '.join(names)} are both installed and get in each other's way", fresh, False)
            )
    for library, names in _nvidia_wheels(installed).items():
        if len(names) > 1:
            both = ", ".join(f"{name} {installed[name]}" for name in names)
            faults.append(
                Fault(f"{library} is installed twice: {both}", f"if something fails: {fresh}", False)
            )
    return faults


def _nvidia_wheels(installed: dict[str, str]) -> dict[str, list[str]]:
    wheels: dict[str, list[str]] = {}
    for name in sorted(installed):
        if match := re.fullmatch(r"nvidia-(.+?)(-cu1\d)?", name):
            wheels.setdefault(match[1], []).append(name)
    return wheels


def _unequal_plugins(installed: dict[str, str]) -> list[Fault]:
    wanted = installed.get("jaxlib")
    return [
        Fault(
            f"{name} {version} is installed beside jaxlib {wanted}, which it was not built with",
            f'pip install --upgrade "jax[{name.split("-")[1]}]=={installed.get("jax", wanted)}"',
            False,
        )
        for name, version in installed.items()
        if re.fullmatch(r"jax-cuda1\d-(plugin|pjrt)", name) and version != wanted
    ]


def _shadowed(installed: dict[str, str], library_path: str) -> list[Fault]:
    wheels, first, faults = _nvidia_wheels(installed), {}, []
    for folder in dict.fromkeys(filter(None, library_path.split(":"))):
        held = _libraries_in(Path(folder))
        remedy = f"take {folder} out of LD_LIBRARY_PATH"
        if shadowed := sorted({wheels[library][0] for library in held if library in wheels}):
            what = f"LD_LIBRARY_PATH: libraries in {folder} can come before those of {', '.join(shadowed)}"
            faults.append(Fault(what, remedy, False))
        for library in sorted(held & first.keys()):
            what = f"LD_LIBRARY_PATH: {library} is in {first[library]} and in {folder}"
            faults.append(Fault(what, f"{remedy}, or {first[library]}", False))
        first |= dict.fromkeys(held - first.keys(), folder)
        # The driver's own library is where the loader finds it anyway; these two only stand in for it.
        if {"stubs", "compat"} & set(Path(folder).parts) and any(Path(folder).glob("libcuda.so*")):
            what = f"LD_LIBRARY_PATH: libcuda.so in {folder} takes the place of the driver's own"
            faults.append(Fault(what, remedy, False))
    return faults


def _libraries_in(folder: Path) -> set[str]:
    try:
        files = [path.name.lower() for path in folder.iterdir()]
    except OSError:
        return set()
    return {_FILES[stem] for name in files if ".so" in name and (stem := name.partition(".")[0]) in _FILES}
