"""What a result may not hang on unsaid: settings that jaxtl takes away, and those that it records."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jaxtl.errors import JaxtlError, shown

# Bytes of addresses with which everything but JAX works: 300 MiB are too few, 500 were seen to do.
_LEAST = 2**29
# Threads that XLA starts on a CPU, beside some for each core; so many more than any of it may be, and it is
# not worth while to try.
_THREADS, _PER_CORE, _MANY_THREADS = 8, 4, 4096
# JAX's variables say how numbers come about, but for those that begin like this: which device, where programs
# are kept, how much memory is taken, what is logged.
_JAX = "JAX_"
_HARMLESS = (
    "JAX_PLATFORM",
    "JAX_CUDA_VISIBLE_DEVICES",
    "JAX_ROCM_VISIBLE_DEVICES",
    "JAX_COMPILATION_CACHE",
    "JAX_ENABLE_COMPILATION_CACHE",
    "JAX_PERSISTENT_CACHE",
    "JAX_RAISE_PERSISTENT_CACHE_ERRORS",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK",
    "JAX_TRACEBACK",
    "JAX_LOG",
    "JAX_DEBUG_LOG",
    "JAX_EXPLAIN",
    "JAX_DUMP",
    "JAX_PJRT",
    "JAX_COORDINATOR",
    "JAX_LOCAL_DEVICE_IDS",
)
# Others that libraries would follow: figures are made without a backend of matplotlib's choice, and without a
# date, whose variable matplotlib reads as a number all the same.
_OTHERS = ("MPLBACKEND", "MATPLOTLIBRC", "NPY_PROMOTION_STATE", "SOURCE_DATE_EPOCH")
# The same settings where JAX is imported already, with what results are computed with.
_JAX_VALUES = {
    "jax_enable_x64": False,
    "jax_default_matmul_precision": None,
    "jax_disable_jit": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_default_device": None,
    "jax_transfer_guard": None,
    "jax_disable_most_optimizations": False,
}
# What may be set with reason, and numbers hang on: recorded with a run. Several threads add up otherwise than
# one does: PCA of 2000 x 1280 features shows that in the 16th digit, t-SNE, which begins with it, in all.
RECORDED = (
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "OMP_DYNAMIC",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_DEFAULT_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NPROC",  # XLA's threads
    "XLA_FLAGS",
    "NVIDIA_TF32_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
    "GLIBC_TUNABLES",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "OPENBLAS_BLOCK_FACTOR",
    "SKLEARN_WORKING_MEMORY",
    "MKL_CBWR",
    "ONEDNN_MAX_CPU_ISA",
)


# Not a variable, and recorded with these: what depends on the room that a disk has, or a GPU's memory.
FROZEN_OUTPUTS = "frozen outputs"
KEPT, ANEW = "kept", "computed anew"
# What is meant where a record has none.
_USUAL = {FROZEN_OUTPUTS: KEPT}


def shed() -> None:
    """Take away what would change numbers or end the work, as a process of the command line starts."""
    for name in os.environ.keys() - plain(os.environ).keys():
        del os.environ[name]
    if any(map(_is_error, sys.warnoptions)):
        sys.warnoptions.clear()
        _warn_as_ever()
    # Of who has no shared memory, which is for processes that nobody here starts.
    warnings.filterwarnings("ignore", message=".*joblib will operate in serial mode")
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a letter shows its number.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def plain(variables: Mapping[str, str]) -> dict[str, str]:
    """An environment without what would change numbers or end the work."""
    return {name: value for name, value in variables.items() if not _decides(name, value)}


def _decides(name: str, value: str) -> bool:
    if name == "PYTHONWARNINGS":
        return any(map(_is_error, value.split(",")))
    return name in _OTHERS or (name.startswith(_JAX) and not name.startswith(_HARMLESS))


def _is_error(option: str) -> bool:
    """Whether an option, as of Python's -W, makes a warning an error: that is no reason to end."""
    action = option.partition(":")[0].strip()
    return bool(action) and "error".startswith(action)


def _warn_as_ever() -> None:
    """Python's filters where no option sets others."""
    warnings.resetwarnings()
    for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", quiet)


def recorded() -> dict[str, str]:
    """Those of `RECORDED` that are set."""
    return {name: shown(os.environ[name]) for name in RECORDED if os.environ.get(name)}


@contextmanager
def usual_jax() -> Iterator[None]:
    """Inside, JAX computes with the settings that it has by itself, whatever this process has set.

    They are the whole process's: who computes beside it in another thread computes with them, too.
    """
    import jax

    # Not what this thread alone has set, by a context: others do the work.
    before = dict(jax.config.values)
    changed = {name: value for name, value in _JAX_VALUES.items() if before.get(name, value) != value}
    for name, value in changed.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name in changed:
            jax.config.update(name, before[name])


def moved(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How a machine and its versions differ from those recorded: "cores 2 and 4, jax 0.8.0 and 0.9.1".

    Args:
        then, now: as `jaxtl.machine.devices.environment` gives them; older records lack some of it.
    """
    old, new = _flat(then), _flat(now)
    names = {**old, **new} if "settings" in then else old
    pairs = {name: tuple(of.get(name, _USUAL.get(name, "none")) for of in (old, new)) for name in names}
    return ", ".join(f"{name} {one} and {other}" for name, (one, other) in pairs.items() if one != other)


def _flat(about: Mapping[str, Any]) -> dict[str, str]:
    named = {name: about[name] for name in ("jaxtl", "python", "cpu", "cores") if name in about}
    devices = {}
    if "devices" in about:
        # Before it was recorded, one was used.
        devices = {"devices": "; ".join(about["devices"]), "devices used": about.get("devices_used", 1)}
    parts = {**named, **devices, **about.get("versions", {}), **about.get("settings", {})}
    return {name: str(value) for name, value in parts.items()}


def check_limits() -> None:
    """Raises JaxtlError where the process may not have the addresses that libraries take as they are loaded.

    With less, OpenBLAS asks again and again, and never ends.
    """
    import resource

    for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY and most < _LEAST:
            raise JaxtlError(
                f"memory is limited to {most / 2**20:,.0f} MiB for this process, and libraries take "
                f"{_LEAST / 2**20:,.0f}; raise the limit (ulimit -v, ulimit -d)"
            )


def check_threads(cores: int) -> None:
    """Raises JaxtlError where the process may not start the threads that XLA starts for so many cores.

    Without one of them it ends the process.
    """
    import resource

    limit, wanted = resource.getrlimit(resource.RLIMIT_NPROC)[0], _THREADS + _PER_CORE * cores
    if limit == resource.RLIM_INFINITY or limit >= _MANY_THREADS:
        return
    done, started = threading.Event(), []
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        raise JaxtlError(
            f"processes and threads are limited to {limit:,}, and JAX starts about {wanted}; raise the limit "
            "(ulimit -u)"
        ) from None
    finally:
        done.set()
        # JAX needs their places.
        for thread in started:
            thread.join()
