"""Features to a two-dimensional map: one table of methods and of the backends that compute them.

A backend is a plain function `backend(values, progress, *, seed=0, ...)`. It takes float32 [n, d] and
gives coordinates [n, 2], every parameter as used, and diagnostics. Its keyword arguments are the
method's parameters: their names and defaults stand in its signature and nowhere else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.records import Embedding, Features
from jaxtl.reduction.lle import sklearn_lle
from jaxtl.reduction.parameters import check_number
from jaxtl.reduction.pca import sklearn_pca
from jaxtl.reduction.tsne import opentsne

# The first backend of a method is the one that "auto" takes.
BACKENDS: dict[str, dict[str, Callable[..., tuple[np.ndarray, dict[str, Any], dict[str, Any]]]]] = {
    "pca": {"sklearn": sklearn_pca},
    "tsne": {"opentsne": opentsne},
    "lle": {"sklearn": sklearn_lle},
}


def reduce(
    features: Features,
    method: str,
    backend: str = "auto",
    *,
    progress: Callable[[float], None] | None = None,
    **params: Any,
) -> Embedding:
    """Map features to the plane.

    The same features, parameters and seed give the same bytes on the same machine.

    Args:
        features: values float32 [n, d], finite, n >= 3 and d >= 2.
        method: "pca", "tsne" or "lle".
        backend: a library that computes the method, or "auto".
        progress: called with the fraction of the work done, from 0 to 1.
        params: the method's own parameters; see `defaults` and the backend's docstring.

    Returns:
        coords float32 [n, 2], finite, with every parameter as used and the library's diagnostics.

    Raises:
        JaxtlError: unknown method, backend or parameter; features or parameters that the method cannot
            work with; a solver that fails.
    """
    name, function = _find(method, backend)
    known = _parameters(function)
    unknown = [key for key in params if key not in known]
    if unknown:
        raise JaxtlError(
            f"{method} ({name}) has no parameter {', '.join(unknown)}; its parameters are {', '.join(known)}"
        )
    check_number(method, "seed", params.get("seed", 0), low=0, high=2**32 - 1, whole=True)
    _check_values(method, features.values)
    report = progress or (lambda fraction: None)
    report(0.0)
    coords, used, diagnostics = function(features.values, progress, **params)
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


def defaults(method: str, backend: str = "auto") -> dict[str, Any]:
    """The parameters of a method and what they are unless given. Raises JaxtlError as `reduce` does."""
    return _parameters(_find(method, backend)[1])


def _find(method: str, backend: str) -> tuple[str, Callable[..., Any]]:
    if method not in BACKENDS:
        raise JaxtlError(f"unknown method {method!r}; the methods are {', '.join(BACKENDS)}")
    known = BACKENDS[method]
    name = next(iter(known)) if backend == "auto" else backend
    if name not in known:
        raise JaxtlError(f"{method} has no backend {backend!r}; its backends are auto, {', '.join(known)}")
    return name, known[name]


def _parameters(function: Callable[..., Any]) -> dict[str, Any]:
    arguments = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in arguments if each.kind is each.KEYWORD_ONLY}


def _check_values(method: str, values: np.ndarray) -> None:
    n, d = values.shape
    if n < 3 or d < 2:
        raise JaxtlError(
            f"{method}: features are [{n}, {d}]; a map needs at least 3 rows and 2 columns, give more images"
        )
    bad_rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad_rows):
        count = int(values.size - np.isfinite(values).sum())
        raise JaxtlError(
            f"{method}: features hold {count} NaN or infinite values in {len(bad_rows)} of {n} rows, the "
            f"first in row {bad_rows[0]}; drop these rows or extract the features again"
        )
    if (values == values[0]).all():
        raise JaxtlError(f"{method}: all {n} rows of the features are equal; there is nothing to map")


def _brief(used: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in used.items() if isinstance(value, (int, float, str)))
