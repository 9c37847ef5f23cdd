"""What this machine computes with: hardware, libraries, what fails, and what to do about it.

Facts are collected first, by functions that ask; what they mean is said by functions of them alone.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jaxtl
from jaxtl.machine import cache, cuda
from jaxtl.machine.cuda import Fault
from jaxtl.machine.host import cpu_count, cpu_name
from jaxtl.machine.memory import available_memory, physical_memory
from jaxtl.methods import METHODS

_GIB = 2**30
_SECONDS = 120
_ENVIRONMENT = (
    "JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_COMPILATION_CACHE_DIR", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "XLA_FLAGS",
    "XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_ALLOCATOR",
    "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
)  # fmt: skip

# Each prints its facts as one line of JSON, after a small piece of the work it is there for.
_PROBES = {
    "CPU libraries": """
import json, numpy, scipy, sklearn, openTSNE, threadpoolctl
numpy.ones((64, 64)) @ numpy.ones((64, 64))
blas = [f"{each['internal_api']} {each['version']}, threads: {each['num_threads']}"
        for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"]
print(json.dumps({"NumPy": numpy.__version__, "SciPy": scipy.__version__, "scikit-learn": sklearn.__version__,
                  "openTSNE": openTSNE.__version__, "BLAS": "; ".join(sorted(set(blas)))}))
""",
    # The product is cuBLAS's, the convolution cuDNN's: the two that fail most often where JAX does start.
    "JAX": """
import json, jax, jaxlib
x = jax.numpy.ones((1, 1, 64, 64))
y = jax.lax.conv(x @ x, jax.numpy.ones((1, 1, 3, 3)), (1, 1), "SAME").block_until_ready()
assert float(y[0, 0, 9, 9]) == 576, "a convolution of ones is wrong"
devices = [each.platform if each.device_kind == each.platform else f"{each.platform}: {each.device_kind}"
           for each in jax.devices()]
print(json.dumps({"version": jax.__version__, "jaxlib": jaxlib.__version__, "devices": "; ".join(devices)}))
""",
    "CuPy": """
import json, cupy
x = cupy.ones((64, 64), cupy.float32)
assert float((x @ x).sum()) == 64**3, "a product of ones is wrong"
print(json.dumps({"version": cupy.__version__, "CUDA runtime": cupy.cuda.runtime.runtimeGetVersion()}))
""",
    "cuML": """
import json, cupy, cuml
from cuml.decomposition import PCA
x = cupy.sin(cupy.arange(512, dtype=cupy.float32)).reshape(64, 8)
coords = cupy.asarray(PCA(n_components=2).fit_transform(x))
assert coords.shape == (64, 2) and bool(cupy.isfinite(coords).all()), "a PCA is wrong"
print(json.dumps({"version": cuml.__version__}))
""",
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


@dataclass(frozen=True)
class Choice:
    """What computes a stage when nothing is asked for, and why."""

    stage: str
    by: str
    why: str


@dataclass(frozen=True)
class Report:
    """All that `jaxtl doctor` found.

    Attributes:
        machine: fact by name: versions, processor, memory, disk; memory and disk in GiB.
        driver: CUDA version that the NVIDIA driver offers, "" without one.
        gpus: name, memory in GiB and compute capability, in CUDA's order.
        cards: what nvidia-smi says of each card and of the processes on them, a line each.
        libraries: version by distribution, of CUDA's libraries and what is built on them.
        probes: the CPU's libraries and JAX; CuPy and cuML where they are installed and there is a GPU.
        environment: variables that are set and matter.
        choices: what "auto" takes.
        notes: what is not there, which is no fault.
        warnings: what may fail, though nothing did.
        problems: what is there and does not work.
    """

    machine: dict[str, Any]
    driver: str
    gpus: list[dict[str, Any]]
    cards: list[str]
    libraries: dict[str, str]
    probes: list[Probe]
    environment: dict[str, str]
    choices: list[Choice]
    notes: list[str]
    warnings: list[Fault]
    problems: list[Fault]

    @property
    def healthy(self) -> bool:
        """Whether all that is installed works; a machine without a GPU is healthy."""
        return not self.problems


def examine() -> Report:
    """Look at the machine: seconds without a GPU, up to eight minutes where every library hangs."""
    installed = _distributions()
    gpu, found = cuda.gpu_fault(), cuda.driver()
    probes = [_probe("CPU libraries"), _probe("JAX")]
    if gpu is None:
        prefixes = {"CuPy": "cupy", "cuML": "cuml-"}
        probes += [
            _probe(name)
            for name, prefix in prefixes.items()
            if any(each.startswith(prefix) for each in installed)
        ]
    choices, faults = _choices(next(each for each in probes if each.name == "JAX"))
    faults = [gpu, cuda.jax_gpu_fault(), cuda.cuml_fault(), *faults]
    return Report(
        machine=_machine(),
        driver=".".join(map(str, found.cuda)) if found else "",
        gpus=[_gpu_facts(each) for each in found.gpus] if found else [],
        cards=_cards(),
        libraries={name: installed[name] for name in sorted(installed) if _CUDA_LIBRARY.match(name)},
        probes=probes,
        environment={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        choices=choices,
        notes=notes(faults, installed),
        warnings=clashes(installed, os.environ.get("LD_LIBRARY_PATH", "")),
        problems=problems(faults, probes, os.environ.get("JAX_PLATFORMS", "")),
    )


def as_json(report: Report) -> str:
    """The report as one JSON object, with `healthy`."""
    faults = {name: [each._asdict() for each in getattr(report, name)] for name in ("warnings", "problems")}
    return json.dumps({"healthy": report.healthy, **asdict(report), **faults}, indent=2)


def lines(report: Report) -> list[str]:
    """The report in words, one fact a line, problems last."""
    text = [f"{name}: {value}" for name, value in report.machine.items()]
    text.append(
        f"NVIDIA driver: for CUDA {report.driver}" if report.driver else "GPU: none that CUDA can use"
    )
    for number, gpu in enumerate(report.gpus):
        text.append(
            f"GPU {number}: {gpu['name']}, {gpu['memory']} GiB, compute capability {gpu['capability']}"
        )
    text += report.cards
    text += [f"{name}: {version}" for name, version in report.libraries.items()]
    text += [f"environment: {name}={value}" for name, value in report.environment.items()]
    text += [_probe_line(each) for each in report.probes]
    text += [f"auto, {each.stage}: {each.by} ({each.why})" for each in report.choices]
    text += [f"note: {each}" for each in report.notes]
    for kind in ("warning", "problem"):
        for fault in getattr(report, f"{kind}s"):
            text += [f"{kind}: {fault.what}", f"  remedy: {fault.remedy}"]
    text.append(
        "all that is installed works" if report.healthy else f"problems: {len(report.problems)}, see above"
    )
    return text


def notes(faults: list[Fault | None], installed: dict[str, str]) -> list[str]:
    """What is not there, a line each."""
    said = [f"{each.what}; {each.remedy}" for each in dict.fromkeys(faults) if each and not each.broken]
    idle = [name for name in installed if re.match(r"jax-cuda1\d-plugin$|cuml-cu1\d$", name)]
    gpu = faults[0]
    if gpu and not gpu.broken and idle:
        said.append(f"{', '.join(sorted(idle))}: installed, but {gpu.what}")
    return said


def problems(faults: list[Fault | None], probes: list[Probe], jax_platforms: str = "") -> list[Fault]:
    """What is there and does not work; `faults`: of the GPU, of JAX on it, of cuML, then of the choices."""
    found = [each for each in dict.fromkeys(faults) if each and each.broken]
    again = f'make a fresh virtual environment and in it: pip install "jaxtl{_extra_of(faults[0])}"'
    for probe in probes:
        if probe.error and probe.name == "JAX" and jax_platforms not in ("", "cpu"):
            what = f"JAX does not work with JAX_PLATFORMS={jax_platforms}: {probe.error}"
            found.append(Fault(what, "unset JAX_PLATFORMS", True))
        elif probe.error:
            full = re.search(r"out.?of.?memory|RESOURCE_EXHAUSTED|bad_alloc", probe.error, re.IGNORECASE)
            remedy = "free memory of the GPU: end other processes on it" if full else again
            found.append(Fault(f"{probe.name}: {probe.error}", remedy, True))
        elif probe.name == "JAX" and faults[1] is None and not _on_gpu(probe):
            why = f": {probe.said}" if probe.said else ""
            found.append(
                Fault(f"JAX finds no GPU, though its plugin and the driver are there{why}", again, True)
            )
    return found


def _extra_of(gpu: Fault | None) -> str:
    return "" if gpu else f"[{cuda.extra()}]"


def _on_gpu(jax: Probe) -> bool:
    return not jax.facts.get("devices", "cpu").startswith("cpu")


# Distributions whose versions matter on a GPU.
_CUDA_LIBRARY = re.compile(r"(nvidia-|cuda-|cupy|jax(lib|-|$)|cuml|.*-cu1\d$)")
# Files of CUDA's libraries and the wheels that bring them: nvidia-NAME (CUDA 13) or nvidia-NAME-cu12.
_FILES = {
    "libcublas": "cublas", "libcublaslt": "cublas", "libcudnn": "cudnn", "libcusolver": "cusolver",
    "libcusparse": "cusparse", "libcufft": "cufft", "libcurand": "curand", "libnvjitlink": "nvjitlink",
    "libcudart": "cuda-runtime", "libnvrtc": "cuda-nvrtc", "libcupti": "cuda-cupti", "libnccl": "nccl",
}  # fmt: skip
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
    found, fresh = (
        [],
        'make a fresh virtual environment with only one: pip install "jaxtl[cuda13]" or [cuda12]',
    )
    for pattern in _OVERWRITING:
        names = sorted(name for name in installed if re.fullmatch(pattern, name))
        if len(names) > 1:
            found.append(
                Fault(f"{' and '.join(names)} are both installed and get in each other's way", fresh, False)
            )
    for library, names in _nvidia_wheels(installed).items():
        if len(names) > 1:
            both = ", ".join(f"{name} {installed[name]}" for name in names)
            found.append(
                Fault(f"{library} is installed twice: {both}", f"if something fails: {fresh}", False)
            )
    return found


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
    wheels, first, found = _nvidia_wheels(installed), {}, []
    for folder in dict.fromkeys(filter(None, library_path.split(":"))):
        held = _libraries_in(Path(folder))
        remedy = f"take {folder} out of LD_LIBRARY_PATH"
        if shadowed := sorted({wheels[each][0] for each in held if each in wheels}):
            what = f"LD_LIBRARY_PATH: libraries in {folder} can come before those of {', '.join(shadowed)}"
            found.append(Fault(what, remedy, False))
        for each in sorted(held & first.keys()):
            what = f"LD_LIBRARY_PATH: {each} is in {first[each]} and in {folder}"
            found.append(Fault(what, f"{remedy}, or {first[each]}", False))
        first |= dict.fromkeys(held - first.keys(), folder)
        # The driver's own library is where the loader finds it anyway; these two only stand in for it.
        if {"stubs", "compat"} & set(Path(folder).parts) and any(Path(folder).glob("libcuda.so*")):
            what = f"LD_LIBRARY_PATH: libcuda.so in {folder} takes the place of the driver's own"
            found.append(Fault(what, remedy, False))
    return found


def _libraries_in(folder: Path) -> set[str]:
    try:
        files = [path.name.lower() for path in folder.iterdir()]
    except OSError:
        return set()
    return {_FILES[stem] for name in files if ".so" in name and (stem := name.partition(".")[0]) in _FILES}


def _choices(jax: Probe) -> tuple[list[Choice], list[Fault]]:
    """What "auto" takes for every stage, and the faults that it met on the way."""
    fault = cuda.jax_gpu_fault()
    why = "the GPU that JAX finds" if _on_gpu(jax) else fault.what if fault else "JAX finds no GPU"
    device = jax.facts.get("devices", "nothing: JAX does not work")
    choices = [Choice("features and fine-tuning", f"JAX on {device}", why)]
    try:
        from jaxtl.reduction.choice import choose

        chosen = {method.label: choose(method.name) for method in METHODS.values()}
    except Exception as error:
        # Whatever keeps jaxtl's own libraries from loading, the doctor has to say it and go on.
        what = f"jaxtl cannot load its reducers: {type(error).__name__}: {_last_line(str(error))}"
        return choices, [Fault(what, "make a fresh virtual environment and install jaxtl in it", True)]
    choices += [Choice(stage, each.name, each.why) for stage, each in chosen.items()]
    choices.append(Choice("neighbours", "jaxtl", "its own exact search, on the CPU"))
    return choices, [each.fault for each in chosen.values() if each.fault]


def _probe(name: str) -> Probe:
    """Let a library work in a process of its own: a hang, a crash or memory taken does not reach this one."""
    began = time.monotonic()
    # By default JAX takes three quarters of the GPU's memory as it starts, and ends a traceback with a remark
    # on the traceback, where the error itself should be.
    quiet = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_TRACEBACK_FILTERING": "off"}
    done = functools.partial(Probe, name)
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-c", _PROBES[name]],
            capture_output=True, text=True, errors="replace", timeout=_SECONDS, env={**os.environ, **quiet},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return done(float(_SECONDS), {}, f"no answer within {_SECONDS} s")
    seconds, said = round(time.monotonic() - began, 1), _last_line(ended.stderr)
    if ended.returncode:
        return done(seconds, {}, _ending(ended.returncode, said))
    try:
        return done(seconds, json.loads(_last_line(ended.stdout)), said=said)
    except ValueError:
        return done(seconds, {}, "it ended without an answer")


def _ending(code: int, said: str) -> str:
    if code > 0:
        return said or f"exit code {code}"
    name = next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
    return f"ended by {name}{f'; last words: {said}' if said else ''}"


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _probe_line(probe: Probe) -> str:
    name = f"{probe.name} {probe.facts['version']}" if "version" in probe.facts else probe.name
    if probe.error:
        return f"{name}: does not work: {probe.error} (after {probe.seconds} s)"
    facts = [f"{key} {value}" for key, value in probe.facts.items() if key != "version"]
    return "; ".join([f"{name}: works (in {probe.seconds} s)", *facts])


def _machine() -> dict[str, Any]:
    return {
        "jaxtl": jaxtl.__version__,
        "Python": platform.python_version(),
        "system": platform.platform(),
        "processor": cpu_name(),
        "cores": cpu_count(),
        "memory, GiB": round(physical_memory() / _GIB, 1),
        "memory available, GiB": round(available_memory() / _GIB, 1),
        "disk free in this folder, GiB": round(shutil.disk_usage(".").free / _GIB, 1),
        "compiled programs are kept in": _cache(),
    }


def _cache() -> str:
    folder = cache.given_folder() or cache.default_folder()
    if folder is None:
        return "no folder, unless --compilation-cache names one"
    return f"{folder} ({cache.size(folder) / 2**20:.0f} MiB now)"


def _gpu_facts(gpu: cuda.Gpu) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "memory": round(gpu.memory / _GIB, 1),
        "capability": ".".join(map(str, gpu.capability)),
    }


def _cards() -> list[str]:
    """What only NVIDIA's management library knows: driver version, free memory, who else is there."""
    cards = _smi("--query-gpu=index,name,driver_version,memory.free,memory.total")
    others = _smi("--query-compute-apps=pid,process_name,used_memory")
    return card_lines(cards, others)


def card_lines(cards: str, others: str) -> list[str]:
    """Lines for people from nvidia-smi's two tables without units; memory there is in MiB."""
    text = []
    for row in _rows(cards, 5):
        index, name, version, free, total = row
        text.append(f"card {index}: {name}, driver {version}, {_gib(free)} of {_gib(total)} GiB free")
    text += [f"on the cards: process {pid}, {name}, {_gib(used)} GiB" for pid, name, used in _rows(others, 3)]
    return text


def _rows(table: str, columns: int) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.split(",")] for line in table.splitlines()]
    return [row for row in rows if len(row) == columns]


def _gib(mebibytes: str) -> str:
    # "[N/A]" on cards that are divided (MIG).
    return f"{int(mebibytes) / 1024:.1f}" if mebibytes.isdecimal() else "?"


def _smi(query: str) -> str:
    command = shutil.which("nvidia-smi")
    if not command:
        return ""
    try:
        ended = subprocess.run(
            [command, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout if ended.returncode == 0 else ""


def _distributions() -> dict[str, str]:
    """Version by name, lower case with dashes; of a name that is there twice, the one that Python finds."""
    found: dict[str, str] = {}
    for each in metadata.distributions():
        # A folder left over from a broken uninstall has no name.
        if name := each.metadata["Name"]:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), each.version)
    return found
