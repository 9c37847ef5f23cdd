"""The machine that is measured: revision, threads, and what it reaches at its best."""

from __future__ import annotations

import hashlib
import os
import timeit
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jaxtl.machine.host import cpu_count
from jaxtl.machine.process import run_command
from jaxtl.machine.surroundings import RECORDED

ROOT = Path(__file__).resolve().parent.parent
# What decides how many threads the libraries take, and what they keep.
_OF_TENSORFLOW = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_ENABLE_ONEDNN_OPTS")
_THREAD_VARIABLES = (*RECORDED, *_OF_TENSORFLOW, "JAX_COMPILATION_CACHE_DIR")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_average() -> float:
    """Processes that wanted a core over the last minute: well above 0 before a run spoils its numbers."""
    return round(os.getloadavg()[0], 2)


def thread_settings() -> dict[str, str]:
    """The environment variables that are set; without them, each library takes all cores."""
    return {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}


def revision(folder: Path = ROOT) -> dict[str, Any]:
    """This checkout's commit, whether files but results differ from it, and a mark of how, if known."""
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "diff", "HEAD", "--", ".", ":!benchmarks/results") if commit else None
    mark = hashlib.sha256(changes.encode()).hexdigest()[:12] if changes else None
    return {"revision": commit, "modified": None if changes is None else bool(changes), "changes": mark}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        ended = run_command(["git", "-C", str(folder), *arguments], seconds=60)
    except FileNotFoundError:
        return None
    return ended.output.strip() if ended.code == 0 else None


def sgemm_numpy(size: int, products: int) -> float:
    """FLOP/s of NumPy's float32 product of two [size, size] matrices, the mean of some products."""
    import numpy as np

    a, b = _square(size), _square(size)
    out = np.empty_like(a)
    return 2 * size**3 / _mean_seconds(lambda: np.matmul(a, b, out=out), products)


def sgemm_jax(size: int, products: int, precision: str = "highest") -> float:
    """`sgemm_numpy` through JAX, at a precision of `jaxtl.machine.devices`; "bf16" has bfloat16 matrices."""
    import jax
    import jax.numpy as jnp

    kind = jnp.bfloat16 if precision == "bf16" else jnp.float32
    a, b = jnp.asarray(_square(size), kind), jnp.asarray(_square(size), kind)
    exactness = jax.lax.Precision.HIGHEST if precision == "highest" else jax.lax.Precision.DEFAULT
    multiply = jax.jit(lambda a, b: jnp.matmul(a, b, precision=exactness))
    return 2 * size**3 / _mean_seconds(lambda: multiply(a, b).block_until_ready(), products)


def copy_jax(mebibytes: int, copies: int) -> float:
    """Bytes that JAX's device reads and writes a second while it adds 1 to an array of that size."""
    import jax
    import jax.numpy as jnp

    array = jnp.zeros(mebibytes * 2**18, jnp.float32)
    # Not a plain copy, which a compiler may leave out.
    step = jax.jit(lambda a: a + 1)
    return 2 * array.nbytes / _mean_seconds(lambda: step(array).block_until_ready(), copies)


def stream_numpy(mebibytes: int, copies: int) -> float:
    """Bytes read and written a second by NumPy's copy of an array of that size, a thread for each core."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    source = np.ones(mebibytes * 2**18, np.float32)
    target = np.zeros_like(source)
    threads = cpu_count()
    pairs = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        copy = lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs))  # noqa: E731
        return 2 * source.nbytes / _mean_seconds(copy, copies)


def ceilings(sizes: list[int], mebibytes: int, products: int = 3) -> dict[str, float]:
    """What the device of this process reaches at its best, FLOP/s and bytes/s.

    `flops` is float32's matrix product, the faster of JAX's and, on a CPU, NumPy's; a GPU has `flops tf32`
    and `flops bf16` too. `bytes` is the bandwidth of a copy, read and written, of `mebibytes`, which must be
    more than caches hold.
    """
    import jax

    on_gpu = jax.default_backend() == "gpu"
    rates = [sgemm_jax(size, products) for size in sizes]
    bandwidths = [copy_jax(mebibytes, products)]
    if not on_gpu:
        rates += [sgemm_numpy(size, products) for size in sizes]
        bandwidths.append(stream_numpy(mebibytes, products))
    most = {"flops": max(rates), "bytes": max(bandwidths)}
    for precision in ("tf32", "bf16") if on_gpu else ():
        most[f"flops {precision}"] = max(sgemm_jax(size, products, precision) for size in sizes)
    return most


def _square(size: int):
    import numpy as np

    return np.random.default_rng(0).standard_normal((size, size), np.float32)


def _mean_seconds(work: Callable[[], Any], times: int) -> float:
    work()  # compiles, and touches the pages
    return timeit.timeit(work, number=times) / times
