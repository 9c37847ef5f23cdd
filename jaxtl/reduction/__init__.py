"""Features to a two-dimensional map: one table of methods and of the backends that compute them.

A backend is a plain function `backend(values, progress, *, seed=0, ...)`, with `known_neighbors` after
`progress` if it can use them. It takes float32 [n, d] and gives coordinates [n, 2], every parameter as used,
and diagnostics. Its keyword arguments are the method's parameters: their names and defaults stand in its
signature and nowhere else.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine import cuda
from jaxtl.progress import Progress
from jaxtl.records.arrays import Embedding, Features, Neighbors
from jaxtl.reduction.cuml import cuml_pca, cuml_tsne
from jaxtl.reduction.landmarks import check_landmarks, choose_landmarks, place_others, placer
from jaxtl.reduction.lle import own_lle, sklearn_lle
from jaxtl.reduction.parameters import check_number
from jaxtl.reduction.pca import sklearn_pca, streamed_pca
from jaxtl.reduction.tsne import opentsne

# "auto" takes cuML where it can work, else the first backend of a method.
BACKENDS: dict[str, dict[str, Callable[..., tuple[np.ndarray, dict[str, Any], dict[str, Any]]]]] = {
    "pca": {"sklearn": sklearn_pca, "jaxtl": streamed_pca, "cuml": cuml_pca},
    "tsne": {"opentsne": opentsne, "cuml": cuml_tsne},
    "lle": {"jaxtl": own_lle, "sklearn": sklearn_lle},
}
# Those that read the features piece by piece, so that these may be mapped from a file larger than memory.
STREAMED = {("pca", "jaxtl")}
# Values looked at together before a method is given them.
_PIECE = 2**24
# As their makers write them.
LIBRARIES = {"sklearn": "scikit-learn", "opentsne": "openTSNE", "cuml": "cuML", "jaxtl": "jaxtl"}


class Choice(NamedTuple):
    """The backend of a method, why it is that one, whether it computes on a GPU, and what is broken.

    `fault` is set where a backend that is installed was passed over because it cannot work: users are told.
    """

    name: str
    why: str
    on_gpu: bool
    fault: cuda.Fault | None = None


def choose(method: str, backend: str = "auto") -> Choice:
    """The backend that computes a method on this machine; nothing is imported to find out.

    Args:
        method: "pca", "tsne" or "lle".
        backend: a library that has the method, or "auto".

    Raises:
        JaxtlError: unknown method or backend; a library that is asked for and cannot work, with the remedy.
    """
    if method not in BACKENDS:
        raise JaxtlError(f"unknown method {method!r}; the methods are {', '.join(BACKENDS)}")
    if backend == "auto":
        return _automatic(method)
    if backend not in BACKENDS[method]:
        raise JaxtlError(
            f"{method} has no backend {backend!r}; its backends are auto, {', '.join(BACKENDS[method])}"
        )
    if backend == "cuml" and (fault := cuda.cuml_fault()):
        without_gpu = cuda.gpu_fault() is not None and not fault.broken
        remedy = "take --backend auto" if without_gpu else fault.remedy
        raise JaxtlError(f"{method}: backend cuml cannot work: {fault.what}; {remedy}")
    return Choice(backend, "asked for", _computes_on_gpu(method, backend))


def preferred(method: str, libraries: str) -> str:
    """The first of some libraries, with commas between, that has a method, else "auto".

    Raises JaxtlError for a name that is no library.
    """
    wanted = [name.strip() for name in libraries.split(",") if name.strip()]
    for name in wanted:
        if name not in LIBRARIES and name != "auto":
            raise JaxtlError(f"unknown backend {name!r}; the backends are auto, {', '.join(LIBRARIES)}")
    return next((name for name in wanted if name in BACKENDS[method]), "auto")


def _automatic(method: str) -> Choice:
    first = next(iter(BACKENDS[method]))
    if "cuml" not in BACKENDS[method]:
        fault = cuda.jax_gpu_fault()
        why = f"on the CPU: {fault.what}" if fault else "on JAX's GPU"
        return Choice(first, why, fault is None, fault if fault and fault.broken else None)
    fault = cuda.cuml_fault()
    if fault is None:
        return Choice("cuml", "cuML is installed and a GPU is there", True)
    return Choice(first, fault.what, False, fault if fault.broken else None)


def _computes_on_gpu(method: str, name: str) -> bool:
    return name == "cuml" or ((method, name) == ("lle", "jaxtl") and cuda.jax_gpu_fault() is None)


def reduce(
    features: Features,
    method: str,
    backend: str = "auto",
    *,
    known_neighbors: Neighbors | None = None,
    landmarks: int | None = None,
    progress: Progress | None = None,
    **params: Any,
) -> Embedding:
    """Map features to the plane.

    The same features, parameters and seed give the same bytes on the same machine.

    Args:
        features: values float32 [n, d], finite, n >= 3 and d >= 2; they may be mapped from a file
            (`jaxtl.records.store.load`); the backends in `STREAMED` read them piece by piece, as all do with
            landmarks.
        method: "pca", "tsne" or "lle".
        backend: a library that computes the method, or "auto"; see `choose`.
        known_neighbors: exact neighbours of these features, at least as many as the method uses: backends on
            the CPU that need any then look for none.
        landmarks: rows, drawn by the seed, that are mapped by the method; the others are placed among them
            (PCA: projected; t-SNE: by openTSNE's `transform`; LLE: by their weights), each for itself. Where
            there are no more rows, and by default, all are mapped.
        progress: called with the fraction of the work done, from 0 to 1.
        params: the method's own parameters; see `defaults` and the backend's docstring.

    Returns:
        coords float32 [n, 2], finite, with every parameter as used and the library's diagnostics.

    Raises:
        JaxtlError: unknown method, backend or parameter; features or parameters that the method cannot
            work with; a solver that fails.
    """
    choice = choose(method, backend)
    if choice.fault:
        warnings.warn(f"{method} by {choice.name}: {choice.fault.what}; {choice.fault.remedy}", stacklevel=2)
    name, function = choice.name, BACKENDS[method][choice.name]
    _check_parameters(method, name, params, landmarks)
    _check_values(method, features.values)
    report = progress or (lambda fraction: None)
    report(0.0)
    if landmarks is not None and landmarks < len(features.values):
        coords, used, diagnostics = _among_landmarks(
            function, features.values, method, landmarks, progress, params
        )
    else:
        known = {"known_neighbors": known_neighbors} if known_neighbors and _takes_neighbors(function) else {}
        coords, used, diagnostics = function(features.values, progress, **known, **params)
    if not np.isfinite(coords).all():
        raise JaxtlError(f"{method} ({name}): the map is not finite; change its parameters ({_brief(used)})")
    report(1.0)
    return Embedding(
        np.ascontiguousarray(coords, np.float32),
        features.labels,
        features.index,
        method,
        name,
        used,
        diagnostics,
        features.meta,
    )


def _among_landmarks(
    function: Callable[..., Any],
    values: np.ndarray,
    method: str,
    landmarks: int,
    progress: Progress | None,
    params: dict[str, Any],
) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    halves = [_half(progress, number) if progress else None for number in (0, 1)]
    chosen = choose_landmarks(len(values), landmarks, params.get("seed", 0))
    some = np.ascontiguousarray(values[chosen])
    if (some == some[0]).all():
        raise JaxtlError(f"{method}: all {landmarks} landmarks are equal; take more landmarks")
    coords, used, diagnostics = function(some, halves[0], **params)
    coords = np.asarray(coords, np.float64)
    place, placing = placer(method, some, coords, used)
    coords = place_others(values, chosen, coords, place, halves[1])
    used = used | {"landmarks": int(landmarks), "placing": placing}
    # What a library says of its map is true of the landmarks alone.
    return coords, used, {"of_landmarks": diagnostics, "placed": len(values) - int(landmarks)}


def _half(progress: Progress, number: int) -> Progress:
    return lambda fraction: progress((number + fraction) / 2)


def defaults(method: str, backend: str = "auto") -> dict[str, Any]:
    """The parameters of a method and what they are unless given. Raises JaxtlError as `choose` does."""
    return _parameters(BACKENDS[method][choose(method, backend).name])


def _parameters(function: Callable[..., Any]) -> dict[str, Any]:
    arguments = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in arguments if each.kind is each.KEYWORD_ONLY}


def _check_parameters(method: str, name: str, params: dict[str, Any], landmarks: Any) -> None:
    known = _parameters(BACKENDS[method][name])
    unknown = [key for key in params if key not in known]
    if unknown:
        raise JaxtlError(
            f"{method} ({name}) has no parameter {', '.join(unknown)}; its parameters are "
            f"{', '.join(known)}, landmarks"
        )
    check_number(method, "seed", params.get("seed", 0), low=0, high=2**32 - 1, whole=True)
    if landmarks is not None:
        check_landmarks(method, landmarks)


def _takes_neighbors(function: Callable[..., Any]) -> bool:
    return "known_neighbors" in inspect.signature(function).parameters


def _check_values(method: str, values: np.ndarray) -> None:
    n, d = values.shape
    if n < 3 or d < 2:
        raise JaxtlError(
            f"{method}: features are [{n}, {d}]; a map needs at least 3 rows and 2 columns, give more images"
        )
    # Piece by piece: they may be mapped, and more than memory holds.
    step = max(1, _PIECE // d)
    pieces = [slice(start, start + step) for start in range(0, n, step)]
    bad_rows = np.concatenate([
        some.start + np.flatnonzero(~np.isfinite(values[some]).all(axis=1)) for some in pieces
    ])  # fmt: skip
    if len(bad_rows):
        count = int((~np.isfinite(values[bad_rows])).sum())
        raise JaxtlError(
            f"{method}: features hold {count} NaN or infinite values in {len(bad_rows)} of {n} rows, the "
            f"first in row {bad_rows[0]}; drop these rows or extract the features again"
        )
    if all((values[some] == values[0]).all() for some in pieces):
        raise JaxtlError(f"{method}: all {n} rows of the features are equal; there is nothing to map")


def _brief(used: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in used.items() if isinstance(value, (int, float, str)))
