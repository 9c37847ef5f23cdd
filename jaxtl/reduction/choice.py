"""Which library computes a method on this machine."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from typing import NamedTuple

from jaxtl.errors import JaxtlError, install
from jaxtl.machine import cuda
from jaxtl.methods import EXTRAS, LIBRARIES, METHODS, Method, library_label

# Processors that the libraries of extras have builds for.
_BUILT_FOR = ("x86_64", "AMD64")


class Choice(NamedTuple):
    """The backend of a method, why it is that one, whether it computes on a GPU, and what is broken.

    `fault` is set where a backend that is installed was passed over because it cannot work: users are told.
    """

    name: str
    why: str
    on_gpu: bool
    fault: cuda.Fault | None = None


def choose(method: str, backend: str = "auto", points: int | None = None) -> Choice:
    """The backend that computes a method on this machine; nothing is imported to find out.

    Args:
        method: one of `jaxtl.methods.METHODS`.
        backend: a library that has the method, or "auto".
        points: of the embedding, where they are known: libraries that "auto" takes differ with them.

    Raises:
        JaxtlError: unknown method or backend; a library that is asked for and cannot work, with the remedy.
    """
    if method not in METHODS:
        raise JaxtlError(f"unknown method {method!r}; the methods are {', '.join(METHODS)}")
    if backend == "auto":
        return _automatic(METHODS[method], points)
    libraries = METHODS[method].libraries
    if backend not in libraries:
        raise JaxtlError(
            f"{method} has no backend {backend!r}; its backends are auto, {', '.join(libraries)}"
        )
    if backend == "cuml" and (fault := cuda.cuml_fault()):
        without_gpu = cuda.gpu_fault() is not None and not fault.broken
        remedy = "take --backend auto" if without_gpu else fault.remedy
        raise JaxtlError(f"{method}: backend cuml cannot work: {fault.what}; {remedy}")
    if not is_installed(backend):
        others = f"take --backend {' or '.join(on_cpu(method))}"
        remedy = f"{install(backend)}, or {others}" if platform.machine() in _BUILT_FOR else others
        raise JaxtlError(f"{method}: backend {backend} is not installed; {remedy}")
    return Choice(backend, "asked for", _computes_on_gpu(METHODS[method], backend))


def on_cpu(method: str, points: int | None = None) -> list[str]:
    """The libraries that can compute a method on this machine's CPU, those that "auto" prefers first."""
    up_to = METHODS[method].faster_up_to
    there = [name for name in METHODS[method].libraries if name != "cuml" and is_installed(name)]
    return sorted(there, key=lambda name: points is not None and points > up_to.get(name, points))


def is_installed(library: str) -> bool:
    """Whether a library is there that only an extra brings; nothing is imported. All others are."""
    if library not in EXTRAS:
        return True
    spec = find_spec(EXTRAS[library])
    # A folder that happens to have the name, in the working directory say, has no file of its own.
    return spec is not None and spec.origin is not None


def preferred(method: str, libraries: str) -> str:
    """The first of some libraries, with commas between, that has a method, else "auto".

    Raises JaxtlError for a name that is no library.
    """
    wanted = parse_libraries(libraries)
    return next((name for name in wanted if name in METHODS[method].libraries), "auto")


def parse_libraries(text: str) -> list[str]:
    """Names of libraries, or "auto", with commas between: each once, in their order.

    Raises JaxtlError for a name that is no library, and where there is none.
    """
    wanted = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not wanted:
        raise JaxtlError(f"backend: got none; the backends are auto, {', '.join(LIBRARIES)}")
    for name in wanted:
        if name not in LIBRARIES and name != "auto":
            raise JaxtlError(f"unknown backend {name!r}; the backends are auto, {', '.join(LIBRARIES)}")
    return wanted


def _automatic(method: Method, points: int | None) -> Choice:
    if "cuml" not in method.libraries:
        first = method.libraries[0]
        if first not in method.on_gpu:
            return Choice(first, "on the CPU", False)
        fault = cuda.jax_gpu_fault()
        why = f"on the CPU: {fault.what}" if fault else "on JAX's GPU"
        return Choice(first, why, fault is None, fault if fault and fault.broken else None)
    fault = cuda.cuml_fault()
    if fault is None:
        return Choice("cuml", "cuML is installed and a GPU is there", True)
    first, *others = on_cpu(method.name, points)
    why = fault.what
    if first in EXTRAS:
        up_to = method.faster_up_to.get(first)
        most = f" up to {up_to:,} points" if up_to is not None and points is None else ""
        why = f"installed, and faster than {library_label(others[0])} on a CPU{most}"
    return Choice(first, why, False, fault if fault.broken else None)


def _computes_on_gpu(method: Method, library: str) -> bool:
    return library in method.on_gpu and (library == "cuml" or cuda.jax_gpu_fault() is None)
