"""What this machine computes with: hardware, libraries, what fails, and what to do about it.

Facts are collected first, by functions that ask; what they mean is said by functions of them alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from jaxtl.doctor.cards import on_cards
from jaxtl.doctor.clashes import clashes
from jaxtl.doctor.probes import Probe, last_line, probe_line, try_library
from jaxtl.errors import install
from jaxtl.machine import cache, cuda
from jaxtl.machine.cuda import Fault
from jaxtl.machine.devices import DEVICES
from jaxtl.machine.host import describe
from jaxtl.machine.memory import available_memory
from jaxtl.machine.surroundings import RECORDED
from jaxtl.methods import METHODS
from jaxtl.settings import PREFERRED_ENGINES

_GIB = 2**30
_ENVIRONMENT = (
    "JAX_PLATFORMS",
    "JAX_PLATFORM_NAME",
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    DEVICES,
    *RECORDED,
)
# What computes features on a CPU beside JAX: its name for --engine, and the distributions that it needs.
_ENGINES = {
    "LiteRT": ("litert", {"ai-edge-litert", "flatbuffers"}),
    "OpenVINO": ("openvino", {"openvino", "onnx"}),
    "ONNX Runtime": ("onnxruntime", {"onnxruntime", "onnx"}),
}
# What computes maps on a CPU beside the libraries that jaxtl needs: what to take instead.
_OF_MAPS = {"scikit-learn-intelex": "--backend opentsne"}


@dataclass(frozen=True)
class Choice:
    """What computes a piece of the work (JSON's key: `stage`) when nothing is asked for, and why."""

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
        probes: the CPU's libraries and JAX; CuPy and cuML where they are installed and there is a GPU;
            LiteRT, OpenVINO, ONNX Runtime and scikit-learn-intelex where they are installed.
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
    installed = distributions()
    gpu, driver = cuda.gpu_fault(), cuda.driver()
    probes = [try_library("CPU libraries"), jax := try_library("JAX")]
    if gpu is None:
        prefixes = {"CuPy": "cupy", "cuML": "cuml-"}
        probes += [
            try_library(name)
            for name, prefix in prefixes.items()
            if any(distribution.startswith(prefix) for distribution in installed)
        ]
    engines = [try_library(name) for name, (_, needs) in _ENGINES.items() if needs <= set(installed)]
    probes += engines + [try_library(name) for name in _OF_MAPS if name in installed]
    choices, met = _choices(jax, _engine_taken(engines))
    faults = [gpu, cuda.jax_gpu_fault(), cuda.cuml_fault(), *met]
    return Report(
        machine=_machine(),
        driver=".".join(map(str, driver.cuda)) if driver else "",
        gpus=[_gpu_facts(gpu) for gpu in driver.gpus] if driver else [],
        cards=on_cards(),
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
    faults = {name: [fault._asdict() for fault in getattr(report, name)] for name in ("warnings", "problems")}
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
    text += map(probe_line, report.probes)
    text += [f"auto, {choice.stage}: {choice.by} ({choice.why})" for choice in report.choices]
    text += [f"note: {note}" for note in report.notes]
    for kind in ("warning", "problem"):
        for fault in getattr(report, f"{kind}s"):
            text += [f"{kind}: {fault.what}", f"  remedy: {fault.remedy}"]
    text.append(
        "all that is installed works" if report.healthy else f"problems: {len(report.problems)}, see above"
    )
    return text


def notes(faults: list[Fault | None], installed: dict[str, str]) -> list[str]:
    """What is not there, a line each."""
    said = [f"{fault.what}; {fault.remedy}" for fault in dict.fromkeys(faults) if fault and not fault.broken]
    idle = [name for name in installed if re.match(r"jax-cuda1\d-plugin$|cuml-cu1\d$", name)]
    gpu = faults[0]
    if gpu and not gpu.broken and idle:
        said.append(f"{', '.join(sorted(idle))}: installed, but {gpu.what}")
    return said


def problems(faults: list[Fault | None], probes: list[Probe], jax_platforms: str = "") -> list[Fault]:
    """What is there and does not work; `faults`: of the GPU, of JAX on it, of cuML, then of the choices."""
    broken = [fault for fault in dict.fromkeys(faults) if fault and fault.broken]
    again = f"make a fresh virtual environment and in it {install(_extra_of(faults[0]))}"
    for probe in probes:
        if probe.error and probe.name == "JAX" and jax_platforms not in ("", "cpu"):
            what = f"JAX does not work with JAX_PLATFORMS={jax_platforms}: {probe.error}"
            broken.append(Fault(what, "unset JAX_PLATFORMS", True))
        elif probe.error:
            full = re.search(r"out.?of.?memory|RESOURCE_EXHAUSTED|bad_alloc", probe.error, re.IGNORECASE)
            remedy = "free memory of the GPU: end other processes on it" if full else again
            remedy += ", or take --engine jax" * (probe.name in _ENGINES)
            remedy += f", or take {_OF_MAPS[probe.name]}" if probe.name in _OF_MAPS else ""
            broken.append(Fault(f"{probe.name}: {probe.error}", remedy, True))
        elif probe.name == "JAX" and faults[1] is None and not _on_gpu(probe):
            why = f": {probe.said}" if probe.said else ""
            broken.append(
                Fault(f"JAX finds no GPU, though its plugin and the driver are there{why}", again, True)
            )
    return broken


def _extra_of(gpu: Fault | None) -> str:
    return "" if gpu else cuda.extra()


def _on_gpu(jax: Probe) -> bool:
    return not jax.facts.get("devices", "cpu").startswith("cpu")


# Distributions whose versions matter on a GPU.
_CUDA_LIBRARY = re.compile(r"(nvidia-|cuda-|cupy|jax(lib|-|$)|cuml|.*-cu1\d$)")


def _engine_taken(engines: list[Probe]) -> str:
    """The engine that "auto" takes on a CPU, of those that are installed; "" where it is JAX, or ill."""
    by_name = {_ENGINES[probe.name][0]: probe for probe in engines}
    probe = next((by_name[name] for name in PREFERRED_ENGINES if name in by_name), None)
    return probe.name if probe and not probe.error else ""


def _choices(jax: Probe, engine: str = "") -> tuple[list[Choice], list[Fault]]:
    """What "auto" takes for every piece of the work, and the faults that it met on the way.

    `engine`: that computes features on a CPU, where it is another one than JAX.
    """
    fault = cuda.jax_gpu_fault()
    why = "the GPU that JAX finds" if _on_gpu(jax) else fault.what if fault else "JAX finds no GPU"
    device = jax.facts.get("devices", "nothing: JAX does not work")
    choices = [Choice("features and fine-tuning", f"JAX on {device}", why)]
    if engine and not _on_gpu(jax):
        faster = "installed, and faster than JAX on a CPU"
        choices = [
            Choice("features and frozen layers", engine, faster),
            Choice("fine-tuning", f"JAX on {device}", why),
        ]
    try:
        from jaxtl.reduction.choice import choose

        chosen = {method.label: choose(method.name) for method in METHODS.values()}
    except Exception as error:
        # Whatever keeps jaxtl's own libraries from loading, the doctor has to say it and go on.
        what = f"jaxtl cannot load its reducers: {type(error).__name__}: {last_line(str(error))}"
        return choices, [Fault(what, "make a fresh virtual environment and install jaxtl in it", True)]
    choices += [Choice(name, choice.name, choice.why) for name, choice in chosen.items()]
    where = "JAX's GPU" if _on_gpu(jax) else "the CPU"
    choices.append(Choice("neighbours", "jaxtl", f"its own exact search, on {where}"))
    return choices, [choice.fault for choice in chosen.values() if choice.fault]


def _machine() -> dict[str, Any]:
    about = describe()
    return {
        "jaxtl": about["jaxtl"],
        "Python": about["python"],
        "system": about["platform"],
        "processor": about["cpu"],
        "cores": about["cores"],
        "memory, GiB": about["memory_gib"],
        "memory available, GiB": round(available_memory() / _GIB, 1),
        "disk free in this folder, GiB": round(shutil.disk_usage(".").free / _GIB, 1),
        "compiled programs are kept in": cache_line(),
    }


def cache_line() -> str:
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


def distributions() -> dict[str, str]:
    """Version by name, lower case with dashes; of a name that is there twice, the one that Python finds."""
    versions: dict[str, str] = {}
    for distribution in metadata.distributions():
        # A folder left over from a broken uninstall has no name.
        if name := distribution.metadata["Name"]:
            versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return versions
