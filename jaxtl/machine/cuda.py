"""What CUDA offers on this machine, or why it offers nothing; without JAX, CuPy or cuML."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from jaxtl.errors import install
from jaxtl.machine.child import Child
from jaxtl.machine.process import Silence


class Fault(NamedTuple):
    """Why something does not work on the GPU.

    Attributes:
        what: the cause, one line.
        remedy: what to do about it, one line.
        broken: False where it is simply not there (no GPU in the machine, a library not installed); True
            where it is there and cannot work, which the user is always told.
    """

    what: str
    remedy: str
    broken: bool


class Gpu(NamedTuple):
    """One GPU, as CUDA numbers them: memory in bytes, compute capability as (major, minor)."""

    name: str
    memory: int
    capability: tuple[int, int]


class Driver(NamedTuple):
    """A driver that answers: the newest CUDA it can run as (major, minor), and its GPUs, at least one."""

    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]


# CUDA's major version and least compute capability of each wheel: the platform support page of RAPIDS 25.10
# to 26.10, and JAX's installation page. CUDA 13 itself ended with Volta, 7.0.
_CUML = {"cuml-cu13": (13, (7, 5)), "cuml-cu12": (12, (7, 0))}
_JAX_PLUGINS = {"jax-cuda13-plugin": (13, (7, 5)), "jax-cuda12-plugin": (12, (5, 2))}
_DRIVERS = {13: 580, 12: 535}  # the first driver branch that RAPIDS supports for each
ABSENT = Fault("no NVIDIA GPU in this machine", "nothing to do: everything runs on the CPU", False)
SECONDS = 60
QUESTION = "jaxtl.machine.cuda:ask_driver"
# Who asks while another thread does waits for its answer.
_asking = threading.Lock()

# Codes of the driver API (CUresult) that cuInit gives, in words.
_NO_DEVICE = 100
_CODES = {
    2: ("CUDA cannot get memory", "free some memory of this machine or of the GPU"),
    3: (
        "CUDA was already in use in the process that this one was forked from",
        "start processes by multiprocessing's spawn",
    ),
    34: (
        "libcuda.so.1 is the CUDA toolkit's stub, not the driver",
        "take the stubs folder out of LD_LIBRARY_PATH",
    ),
    _NO_DEVICE: (
        "CUDA finds no GPU, though the NVIDIA driver is there",
        "see what nvidia-smi says; check CUDA_VISIBLE_DEVICES and the container's GPU option",
    ),
    101: ("CUDA_VISIBLE_DEVICES names a GPU that is not there", "correct or unset CUDA_VISIBLE_DEVICES"),
    304: (
        "the operating system keeps CUDA from the GPU",
        "check the permissions of /dev/nvidia* and that nvidia-uvm is loaded: sudo modprobe nvidia-uvm",
    ),
    802: (
        "the GPUs are not ready: the fabric manager does not run",
        "sudo systemctl start nvidia-fabricmanager, of the driver's own version",
    ),
    803: (
        "the loaded kernel driver and libcuda.so.1 are of different versions",
        "restart the machine after a driver update; in a container, take CUDA's compat folder out of "
        "LD_LIBRARY_PATH",
    ),
    804: (
        "CUDA's forward compatibility libraries do not work with this GPU",
        "take CUDA's compat folder out of LD_LIBRARY_PATH, or update the driver",
    ),
    805: (
        "the CUDA multi-process service (MPS) does not answer",
        "start it: nvidia-cuda-mps-control -d; or unset CUDA_MPS_PIPE_DIRECTORY",
    ),
    999: (
        "the NVIDIA driver fails without a reason",
        "reload it (sudo modprobe -r nvidia_uvm && sudo modprobe nvidia_uvm) or restart the machine",
    ),
}


def gpu_fault() -> Fault | None:
    """Why CUDA has no GPU here; None where the driver answers and has at least one.

    The answer is kept for the life of the process.
    """
    answer = _answer()
    return answer if isinstance(answer, Fault) else None


def driver() -> Driver | None:
    """The driver and its GPUs; None where `gpu_fault` has something to say."""
    answer = _answer()
    return answer if isinstance(answer, Driver) else None


def cuml_fault() -> Fault | None:
    """Why cuML cannot be used; None where its wheel, the driver and the first GPU go together.

    A machine without a GPU comes before a missing cuML, and that before a broken driver. cuML is not
    imported.
    """
    fault, wheels = gpu_fault(), installed_wheels(_CUML)
    if fault and not fault.broken:
        return fault
    if not wheels:
        return Fault("cuML is not installed", install(extra()), False)
    if len(wheels) > 1:
        return Fault(
            f"{' and '.join(wheels)} are both installed and overwrite each other", _fresh(extra()), True
        )
    return fault or _misfit(wheels[0], *_CUML[wheels[0]])


def jax_gpu_fault() -> Fault | None:
    """Why JAX cannot use the GPU; None where its plugin, the driver and the first GPU go together.

    JAX is not imported: whether it does find the GPU, only JAX can say.
    """
    fault, wheels = gpu_fault(), installed_wheels(_JAX_PLUGINS)
    if fault and not fault.broken:
        return fault
    if not wheels:
        return Fault("JAX has no CUDA plugin installed", install(extra()), False)
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & {name.strip() for name in platforms.split(",")}:
        return Fault(f"JAX_PLATFORMS={platforms} keeps JAX off the GPU", "unset JAX_PLATFORMS", False)
    # Of two plugins JAX uses either; one that fits will do here.
    return fault or _misfit(wheels[-1], *_JAX_PLUGINS[wheels[-1]])


def extra() -> str:
    """jaxtl's extra for this driver and its first GPU, "cuda13" or "cuda12"."""
    have = driver()
    new = have is None or (have.cuda[0] >= 13 and have.gpus[0].capability >= (7, 5))
    return "cuda13" if new else "cuda12"


def _misfit(wheel: str, cuda: int, capability: tuple[int, int]) -> Fault | None:
    have = driver()
    if have.cuda[0] < cuda:
        remedy = f"update the NVIDIA driver to {_DRIVERS[cuda]} or later"
        if have.cuda[0] >= min(_DRIVERS):
            remedy += f"; or {_fresh(extra())}"
        what = f"{wheel} needs a driver for CUDA {cuda}, this one is for CUDA {_dotted(have.cuda)}"
        return Fault(what, remedy, True)
    gpu = have.gpus[0]
    if gpu.capability < capability:
        has = _dotted(gpu.capability)
        what = f"{wheel} needs compute capability {_dotted(capability)}, {gpu.name} has {has}"
        older = cuda == 13 and gpu.capability >= (7, 0)
        return Fault(what, _fresh("cuda12") if older else "use the CPU, or a newer GPU", True)
    return None


def _fresh(name: str) -> str:
    # Wheels of the two CUDA versions share folders: uninstalling the one damages the other.
    return f"make a fresh virtual environment and in it {install(name)}"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def installed_wheels(names: dict[str, Any]) -> list[str]:
    from importlib import metadata

    return [name for name in names if any(metadata.distributions(name=name))]


def _answer() -> Driver | Fault:
    with _asking:
        return look_for_driver()


@functools.cache
def look_for_driver() -> Driver | Fault:
    """Ask, the cheapest first: on a machine without a driver this takes no time at all."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return fault_without_library(str(error), _device_files(), _kernel_driver())
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    # CUDA reads the list up to the first entry that it does not know; Slurm writes NoDevFiles.
    if hidden is not None and hidden.partition(",")[0].strip() in ("", "-1", "NoDevFiles"):
        remedy = "unset CUDA_VISIBLE_DEVICES to use the GPU"
        return Fault(f'CUDA_VISIBLE_DEVICES="{hidden}" hides every GPU', remedy, False)
    return judge_answer(ask_apart(), _device_files())


def fault_without_library(error: str, devices: bool, kernel: bool) -> Fault:
    there = "libcuda.so.1" not in error or "no such file" not in error.lower()
    if there and sys.platform == "linux":
        return Fault(
            f"NVIDIA's driver library cannot be loaded: {error}", "install the NVIDIA driver again", True
        )
    if devices:
        return Fault(
            "an NVIDIA GPU is there, but not the driver's library libcuda.so.1",
            "install the driver's CUDA part (libcuda1 or nvidia-driver-cuda); in a container, set "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
            True,
        )
    if kernel:
        # A container on a machine with GPUs sees the kernel's driver; to have been given none is no fault.
        what = "the machine has an NVIDIA driver, but this container was given no GPU"
        return Fault(what, "to use the GPU, start the container with --gpus all", False)
    return ABSENT


def judge_answer(answer: dict[str, Any], devices: bool) -> Driver | Fault:
    if "died" in answer:
        return Fault(
            f"the NVIDIA driver {answer['died']}", "restart the machine or install the driver again", True
        )
    code = answer["code"] or (0 if answer["gpus"] else _NO_DEVICE)
    if code == _NO_DEVICE and not devices:
        return ABSENT
    if code:
        what, remedy = _CODES.get(
            code, ("CUDA cannot be used", "see what nvidia-smi says, restart the machine")
        )
        return Fault(f"{what} (CUDA error {code})", remedy, True)
    gpus = [Gpu(name, memory, tuple(capability)) for name, memory, capability in answer["gpus"]]
    version = answer["version"]
    return Driver((version // 1000, version % 1000 // 10), tuple(gpus))


def ask_apart() -> dict[str, Any]:
    """The driver's answer, asked in a process of its own.

    cuInit is what JAX and cuML begin with, so that it fails where they would; NVML answers also where CUDA
    cannot work, and does not heed CUDA_VISIBLE_DEVICES. But a process that has called cuInit can no longer
    fork children that use CUDA, and a sick driver may hang or crash in it: hence elsewhere, with a limit.
    """
    with Child() as child:
        try:
            return child.call(QUESTION, {}, SECONDS)
        except Silence as silence:
            late = f"gives no answer within {SECONDS} s"
            return {"died": late if silence.late else f"crashes ({silence})"}
        except (OSError, RuntimeError) as error:
            return {"died": f"fails ({error})"}


def ask_driver() -> dict[str, Any]:
    """What NVIDIA's driver answers; for a process of its own, see `ask_apart`."""
    return ask_library(ctypes.CDLL("libcuda.so.1"))


def ask_library(library: Any) -> dict[str, Any]:
    """Version and GPUs that the driver API has; `code` is the first error, or 0.

    Neither makes a context nor takes memory of a device.
    """
    version, count = ctypes.c_int(), ctypes.c_int()
    code = library.cuInit(0) or library.cuDriverGetVersion(ctypes.byref(version))
    code = code or library.cuDeviceGetCount(ctypes.byref(count))
    gpus = []
    for index in range(0 if code else count.value):
        name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        code = (
            code
            or library.cuDeviceGet(ctypes.byref(device), index)
            or library.cuDeviceGetName(name, 256, device)
            or library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
            # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
            or library.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
            or library.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        )
        gpus.append([name.value.decode(errors="replace"), memory.value, [major.value, minor.value]])
    return {"code": code, "version": version.value, "gpus": gpus}


def _device_files() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/nvidiactl").exists()


def _kernel_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists()
