"""What the process of the maps does for the GPU benchmark: checks against CPU peers, and times."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.gpu.results import Result, at_least, at_most, clocked, timing
from benchmarks.machine import device_peak
from jaxtl import reduction
from jaxtl.errors import JaxtlError
from jaxtl.lle import alignment, device, estimator
from jaxtl.machine.devices import leave_device_memory
from jaxtl.metrics import knn_accuracy
from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Embedding, Features
from jaxtl.reduction.process import Reducer

# Neighbours alone do not ask for it, and cuML is in this process too.
leave_device_memory()

_TRUSTED_UP_TO = 2000  # trustworthiness sorts all distances


def pca_agrees(path: str, n: int, backend: str = "cuml") -> Result:
    """A backend against scikit-learn, up to signs."""
    ours, theirs = (_map(path, n, "pca", each).coords for each in (backend, "sklearn"))
    signs = np.sign((ours * theirs).sum(axis=0))
    error = np.abs(ours * signs - theirs).max() / np.abs(theirs).max()
    return {"checks": [at_most(f"PCA of {n:,}, {backend} and scikit-learn, of the largest", error, 1e-3)]}


def tsne_agrees(path: str, n: int, backend: str = "cuml") -> Result:
    """A backend's map beside openTSNE's: no worse by more than 0.01."""
    maps = {each: _map(path, n, "tsne", each) for each in (backend, "opentsne")}
    numbers, checks = {}, []
    for quality, measure in _qualities(path, n).items():
        found = {each: measure(embedding.coords) for each, embedding in maps.items()}
        numbers |= {f"{quality} of {n:,}, {each}": value for each, value in found.items()}
        lost = found["opentsne"] - found[backend]
        checks.append(at_most(f"t-SNE of {n:,}, {quality} below openTSNE's by", lost, 0.01))
    for each, embedding in maps.items():
        numbers |= {f"{name} of {n:,}, {each}": value for name, value in embedding.diagnostics.items()}
    return {"checks": checks, "numbers": numbers}


def _qualities(path: str, n: int) -> dict[str, Callable[[np.ndarray], float]]:
    from sklearn.manifold import trustworthiness

    features = _features(path, n)
    found = {"10-NN accuracy": lambda coords: knn_accuracy(coords, features.labels)[0]}
    if n <= _TRUSTED_UP_TO:
        found["trustworthiness"] = lambda coords: trustworthiness(features.values, coords, n_neighbors=10)
    return found


def lle_agrees(path: str, n: int, peers: tuple[str, ...]) -> Result:
    """The device's engine against the CPU's, "cpu", and scikit-learn's map, "sklearn"."""
    ours = _map(path, n, "lle", "jaxtl", engine="jax")
    error = ours.diagnostics["reconstruction_error"]
    checks = [at_most(f"LLE of {n:,}, eigenvectors' residual", ours.diagnostics["eigen_residual"], 1e-6)]
    numbers = {f"reconstruction error of {n:,}, jax": error}
    for peer in peers:
        given = {"engine": "cpu"} if peer == "cpu" else {"tol": 0.0}
        theirs = _map(path, n, "lle", "jaxtl" if peer == "cpu" else peer, **given)
        expected = theirs.diagnostics["reconstruction_error"]
        where = f"LLE of {n:,}, jax and {peer}"
        checks += [
            at_most(f"{where}, reconstruction error, relative", abs(error / expected - 1), 1e-6),
            at_least(f"{where}, least cosine of the planes", _cosines(ours, theirs).min(), 0.9999),
        ]
        numbers[f"reconstruction error of {n:,}, {peer}"] = expected
    return {"checks": checks, "numbers": numbers}


def _cosines(ours: Embedding, theirs: Embedding) -> np.ndarray:
    """Of the principal angles between the planes that the axes span among all points."""
    bases = [np.linalg.qr(each.coords.astype(np.float64))[0] for each in (ours, theirs)]
    return np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)


def neighbors_agree(path: str, n: int, k: int) -> Result:
    """The device's neighbours against the CPU's."""
    values = _features(path, n).values
    ours, theirs = (exact_neighbors(values, k, engine=engine) for engine in ("jax", "cpu"))
    apart = np.abs(ours.distances - theirs.distances) / theirs.distances.max()
    where = f"{k} neighbours of {n:,}, jax and cpu"
    return {
        "checks": [
            # Neighbours at equal distances, to the last bit or so, may change places.
            at_least(f"{where}, share of equal indices", (ours.indices == theirs.indices).mean(), 0.9999),
            at_most(f"{where}, distances, of the largest", apart.max(), 1e-6),
        ]
    }


_COMPUTE = (
    "import jax; assert float(jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((512, 512)))) == 512.0**3"
)
_PCA = (
    "import cupy, cuml; from cuml.decomposition import PCA; "
    "x = cupy.sin(cupy.arange(51200, dtype=cupy.float32)).reshape(6400, 8); "
    "assert bool(cupy.isfinite(PCA(n_components=2, output_type='cupy').fit_transform(x)).all())"
)


def imports_in_both_orders() -> Result:
    """JAX and cuML in one process, each first, each computing again after the other came."""
    set_up = "import jaxtl.machine.devices; jaxtl.machine.devices.leave_device_memory()"
    orders = {"JAX, then cuML": (_COMPUTE, _PCA, _COMPUTE), "cuML, then JAX": (_PCA, _COMPUTE, _PCA)}
    checks, numbers = [], {}
    for name, parts in orders.items():
        code = "\n".join([set_up, *parts])
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180)
        checks.append(at_most(f"{name}: exit code, by size", abs(done.returncode), 0))
        if done.returncode:
            numbers[f"{name}: last words"] = (done.stderr.strip().splitlines() or [""])[-1][:300]
    return {"checks": checks, "numbers": numbers}


def reducer_survives(path: str, n: int, backend: str) -> Result:
    """The process of the maps, killed between two calls: the next says so, the one after it works."""
    with tempfile.TemporaryDirectory() as folder, Reducer(180) as reducer:
        source, out = Path(folder, "features.npz"), Path(folder, "map.npz")
        _features(path, n).save(source)
        ask = partial(reducer.reduce, source, out, "pca", backend, {})
        before = ask().coords
        os.kill(reducer.pid, signal.SIGKILL)
        try:
            ask()
        except JaxtlError as error:
            said = str(error)
        else:
            said = ""
        after = ask().coords
    return {
        "checks": [
            at_least("a killed process is reported in one line", "SIGKILL" in said and "\n" not in said, 1),
            at_most("the map afterwards differs by", np.abs(after - before).max(), 1e-3),
        ],
        "numbers": {"what it said": said},
    }


def reduced(path: str, n: int, method: str, backend: str, repeats: int) -> Result:
    """`jaxtl.reduce`, from host memory to host memory, with its parts; on a GPU where there is one."""
    given = {"engine": "jax"} if backend == "jaxtl" else {}
    _features(path, n)  # read before the clock runs
    maps: list[Embedding] = []
    with clocked(_parts(method, backend)) as parts:
        work = lambda: maps.append(_map(path, n, method, backend, **given))  # noqa: E731
        taken = timing(f"{method}, {backend}", work, repeats, n)
    runs = 1 + len(taken["seconds"])
    taken["parts"] = {part: seconds / runs for part, seconds in parts.items()}
    numbers = device_peak() if backend == "jaxtl" else {}
    if method != "tsne":
        return {"times": [taken], "numbers": numbers}
    row = _row(path, f"{backend}: default", maps[-1], taken["seconds"][-1], taken["parts"].get("descent"))
    said = f"first {taken['first_seconds']:.2f} s, then {taken['seconds'][-1]:.2f} s"
    said += f", KL {row['divergence']:.4f}, 10-NN {row['10-NN accuracy']:.4f}"
    return {"times": [taken], "numbers": numbers, "rows": [row], "headline": said}


def neighbors(path: str, n: int, k: int, repeats: int) -> Result:
    """`exact_neighbors` by JAX, from host memory to host memory."""
    values = _features(path, n).values
    work = partial(exact_neighbors, values, k, engine="jax")
    return {"times": [timing(f"{k} neighbours, jax", work, repeats, n)], "numbers": device_peak()}


def tsne_variant(path: str, n: int, variant: str, backend: str, given: dict[str, Any]) -> Result:
    """One t-SNE: seconds, those of the descent alone, divergence and 10-NN accuracy.

    `given` are parameters; among them `rate`, of the first phase, is in points, and `fixed` are arguments
    of cuML that jaxtl does not offer.
    """
    given = dict(given)
    fixed, rate = given.pop("fixed", {}), given.pop("rate", None)
    if rate is not None:
        given["learning_rate"] = rate * n
    _features(path, n)  # read before the clock runs
    with patch.dict(reduction.cuml._FIXED, fixed), clocked(_parts("tsne", backend)) as parts:
        began = time.perf_counter()
        found = _map(path, n, "tsne", backend, **given)
        seconds = time.perf_counter() - began
    row = _row(path, f"{backend}: {variant}", found, seconds, parts.get("descent"))
    said = f"{seconds:.2f} s, KL {row['divergence']:.4f}, 10-NN {row['10-NN accuracy']:.4f}"
    return {"rows": [row], "headline": said}


def _row(path: str, variant: str, found: Embedding, seconds: float, descent: float | None) -> Result:
    """Of the table of t-SNE's variants; `span` is the map's longer side."""
    labels = _features(path, len(found.coords)).labels
    return {
        "variant": variant, "points": len(found.coords), "seconds": seconds, "descent seconds": descent,
        "divergence": found.diagnostics["kl_divergence"],
        "10-NN accuracy": knn_accuracy(found.coords, labels)[0],
        "span": float(np.ptp(found.coords, axis=0).max()),
    }  # fmt: skip


def _parts(method: str, backend: str) -> dict[str, tuple[Any, str]]:
    if (method, backend) == ("lle", "jaxtl"):
        found = {
            "neighbours": (estimator, "exact_neighbors"),
            "components": (alignment, "components"),
            "weights": (device, "barycenter_weights"),
            "factorisation": (device, "dense_solver"),
            "eigen steps": (estimator, "smallest"),
        }
        # What the device does in another way has no such part.
        return {part: each for part, each in found.items() if hasattr(*each)}
    if (method, backend) == ("tsne", "cuml"):
        names = {"neighbours": "_neighbors", "descent": "_fit", "divergence on the CPU": "_divergence"}
        return {part: (reduction.cuml, name) for part, name in names.items()}
    return {}


def _map(path: str, n: int, method: str, backend: str, **params: Any) -> Embedding:
    return reduction.reduce(_features(path, n), method, backend, **params)


@cache
def _features(path: str, n: int) -> Features:
    whole = Features.load(path)
    return Features(np.ascontiguousarray(whole.values[:n]), whole.labels[:n], whole.index[:n], whole.meta)
