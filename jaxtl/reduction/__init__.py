"""Features to an embedding in few dimensions: the table of backends that compute the methods.

A backend is a plain function `backend(values, progress, *, seed=0, ...)`, with `known_neighbors` after
`progress` if it can use them, and `start` if it can begin with coordinates. It takes float32 [n, d] and gives
coordinates [n, n_components], every parameter as used, and diagnostics. Its keyword arguments are the
method's parameters: their names and defaults stand in its signature and nowhere else.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxtl.errors import JaxtlError
from jaxtl.machine.bars import with_bar
from jaxtl.methods import EXTRAS, METHODS, Parameter, Seeded
from jaxtl.progress import Progress
from jaxtl.records.arrays import Embedding, Features, Neighbors
from jaxtl.reduction import footprint
from jaxtl.reduction.choice import Choice, choose, on_cpu
from jaxtl.reduction.cuml import check_most_neighbors, cuml_pca, cuml_tsne
from jaxtl.reduction.intelex import intelex_tsne
from jaxtl.reduction.landmarks import check_landmarks, choose_landmarks, place_others, placer
from jaxtl.reduction.lle import check_neighbors, own_lle, sklearn_lle
from jaxtl.reduction.parameters import check_number
from jaxtl.reduction.pca import sklearn_pca, streamed_pca
from jaxtl.reduction.tsne import GIVEN, check_perplexity, opentsne
from jaxtl.reduction.turning import coords_of, turned_onto

# The libraries are those of each method's row in `jaxtl.methods`.
BACKENDS: dict[str, dict[str, Callable[..., tuple[np.ndarray, dict[str, Any], dict[str, Any]]]]] = {
    "pca": {"cuml": cuml_pca, "sklearn": sklearn_pca, "jaxtl": streamed_pca},
    "tsne": {"cuml": cuml_tsne, "intelex": intelex_tsne, "opentsne": opentsne},
    "lle": {"jaxtl": own_lle, "sklearn": sklearn_lle},
}
# Whether so many rows suffice for the settings of a run that a method takes.
_CHECKS = {"tsne": check_perplexity, "lle": check_neighbors}
# Libraries with maps in 2 dimensions alone, instead of which "auto" takes others.
_FLAT = {"intelex"}
# Values looked at together before a method is given them.
_PIECE = 2**24


# Long by its docstring, over a third of it, since users call it.
@with_bar("Embedding")
def reduce(
    features: Features | ArrayLike,
    method: str,
    backend: str = "auto",
    *,
    known_neighbors: Neighbors | None = None,
    landmarks: int | None = None,
    onto: Embedding | ArrayLike | None = None,
    progress: Progress | bool | None = None,
    **params: Parameter,
) -> Embedding:
    """Embed features in the plane, or in another number of dimensions.

    The same features, parameters and seed give the same bytes on the same machine.

    Args:
        features: values float32 [n, d], finite, n >= 3 and d >= 2, or an array or lists of such numbers
            alone, without labels; they may be memory-mapped
            (`jaxtl.records.store.load`); the libraries that are `streamed` in the method's row
            (`jaxtl.methods`) read them piece by piece, as all do with landmarks.
        method: "pca", "tsne" or "lle"; all are in `jaxtl.methods.METHODS`.
        backend: a library that computes the method, or "auto"; see `choose`. On a CPU "auto" is one that has
            all of `params`, and where features would not fit into memory as it takes them, one that is
            `streamed` in the method's row.
        known_neighbors: neighbours of these features, at least as many as the method uses, exact or
            approximate (`jaxtl.neighbors.approximate`): backends on the CPU that need any look for none.
        landmarks: rows, drawn by the seed, that the method embeds; the others are placed among them
            (PCA: projected; t-SNE: by openTSNE's `transform`; LLE: by their weights), each for itself. Where
            there are no more rows, and by default, the method embeds all.
        progress: True shows a bar; or what is called with the fraction of the work done, from 0 to 1.
        params: the method's own parameters; see `defaults` and the backend's docstring. All have
            `n_components`, by default 2, which figures and the page need: PCA and LLE take any that features
            and neighbours allow, t-SNE by openTSNE 2 or 3.

    Returns:
        coords float32 [n, n_components], finite, with every parameter as used and the library's diagnostics;
        with `onto` also how it was turned (`jaxtl.reduction.turning.turned_onto`).

    Raises:
        JaxtlError: unknown method, backend or parameter; features or parameters that the method cannot
            work with; a solver that fails; more memory than a CPU has free, with the rows that fit.
    """
    features = features if isinstance(features, Features) else Features(features)
    points = len(features.values)
    if isinstance(landmarks, int | np.integer):  # what is no number is refused with the other parameters
        points = min(landmarks, points)
    choice = choose(method, backend, points)
    if choice.fault:
        warnings.warn(f"{method} by {choice.name}: {choice.fault.what}; {choice.fault.remedy}", stacklevel=2)
    name = _able(method, backend, choice, params)
    needs = _needs(method, params, landmarks, known_neighbors)
    if backend == "auto" and not choice.on_gpu:
        name = footprint.fitting(method, name, features.values.shape, needs)
    function = BACKENDS[method][name]
    _check_parameters(method, name, params, landmarks)
    if not choice.on_gpu:
        footprint.check(method, name, features.values.shape, needs)
    _check_values(method, features.values)
    progress = progress or None
    tell = progress or (lambda fraction: None)
    tell(0.0)
    target = None
    if onto is not None:
        target = coords_of(onto, method, len(features.values), params.get("n_components", 2))
    known = {"start": target} if target is not None and "initialization" not in params else {}
    if landmarks is not None and landmarks < len(features.values):
        coords, used, diagnostics = _among_landmarks(
            function, features.values, method, landmarks, progress, known, params
        )
    else:
        known |= {"known_neighbors": known_neighbors} if known_neighbors else {}
        known = {what: value for what, value in known.items() if _takes(function, what)}
        coords, used, diagnostics = function(features.values, progress, **known, **params)
    if not np.isfinite(coords).all():
        raise JaxtlError(f"{method} ({name}): the map is not finite; change its parameters{_brief(params)}")
    if target is not None:
        coords, turned = turned_onto(coords, target)
        used, diagnostics = used | {"aligned": True}, diagnostics | turned
    tell(1.0)
    coords = np.ascontiguousarray(coords, np.float32)
    return Embedding(
        coords,
        features.labels,
        features.index,
        method,
        name,
        used,
        diagnostics,
        features.meta,
        features.ids,
    )


def _needs(
    method: str, params: dict[str, Any], landmarks: int | None, known: Neighbors | None
) -> dict[str, Any]:
    """What memory depends on, as `footprint` takes it."""
    some = {} if landmarks is None else {"landmarks": landmarks}
    # Of whole embeddings alone, since those of landmarks look for their own.
    given = {"neighbors": GIVEN} if known is not None and method == "tsne" and landmarks is None else {}
    return {**given, **params, **some}


def _among_landmarks(
    function: Callable[..., Any],
    values: np.ndarray,
    method: str,
    landmarks: int,
    progress: Progress | None,
    known: dict[str, np.ndarray],
    params: dict[str, Any],
) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    halves = [_half(progress, number) if progress else None for number in (0, 1)]
    chosen = choose_landmarks(len(values), landmarks, params.get("seed", 0))
    some = np.ascontiguousarray(values[chosen])
    if (some == some[0]).all():
        raise JaxtlError(f"{method}: all {landmarks} landmarks are equal; take more landmarks")
    known = {what: rows[chosen] for what, rows in known.items() if _takes(function, what)}
    coords, used, diagnostics = function(some, halves[0], **known, **params)
    coords = np.asarray(coords, np.float64)
    place, placing = placer(method, some, coords, used)
    coords = place_others(values, chosen, coords, place, halves[1])
    used = used | {"landmarks": int(landmarks), "placing": placing}
    # What a library says of its embedding is true of the landmarks alone.
    return coords, used, {"of_landmarks": diagnostics, "placed": len(values) - int(landmarks)}


def _half(progress: Progress, number: int) -> Progress:
    return lambda fraction: progress((number + fraction) / 2)


def defaults(method: str, backend: str = "auto") -> dict[str, Any]:
    """The parameters of a method and what they are unless given. Raises JaxtlError as `choose` does.

    With "auto" on a CPU those of all libraries there, each as the first that has it has it.
    """
    return {
        key: value
        for name in reversed(_candidates(method, backend, choose(method, backend)))
        for key, value in _parameters(BACKENDS[method][name]).items()
    }


def _candidates(method: str, backend: str, choice: Choice) -> list[str]:
    """Libraries that may be taken, the one that was chosen first."""
    others = on_cpu(method) if backend == "auto" and choice.name in EXTRAS else []
    return list(dict.fromkeys((choice.name, *others)))


def _able(method: str, backend: str, choice: Choice, params: dict[str, Any]) -> str:
    """The first library that may be taken and can do this; the one chosen where none can."""
    for name in _candidates(method, backend, choice):
        known = _parameters(BACKENDS[method][name])
        flat = name not in _FLAT or params.get("n_components", 2) == 2
        if flat and params.keys() <= known.keys():
            return name
    return choice.name


def check_settings(method: str, n: int, settings: Seeded, backend: str = "auto") -> None:
    """Raises JaxtlError where n rows are too few for what a run's settings ask of a method.

    Args:
        backend: the library, where it is known: cuML takes fewer neighbours than others.
    """
    own = {name: getattr(settings, name) for name in METHODS[method].settings}
    if method in _CHECKS:
        _CHECKS[method](n, **own)
    if backend == "cuml" and "perplexity" in own:
        check_most_neighbors(own["perplexity"])


def _parameters(function: Callable[..., Any]) -> dict[str, Any]:
    arguments = inspect.signature(function).parameters.values()
    return {
        argument.name: argument.default for argument in arguments if argument.kind is argument.KEYWORD_ONLY
    }


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


def starts_from_coords(method: str, backend: str) -> bool:
    """Whether a backend can begin with coordinates, so that with `onto` it makes another embedding."""
    return _takes(BACKENDS[method][backend], "start")


def _takes(function: Callable[..., Any], what: str) -> bool:
    return what in inspect.signature(function).parameters


def _check_values(method: str, values: np.ndarray) -> None:
    n, d = values.shape
    if n < 3 or d < 2:
        raise JaxtlError(
            f"{method}: features are [{n}, {d}]; a map needs at least 3 rows and 2 columns, give more images"
        )
    # Piece by piece: they may be memory-mapped, and more than memory holds.
    step = max(1, _PIECE // d)
    pieces = [slice(start, start + step) for start in range(0, n, step)]
    bad_rows = np.concatenate([some.start + _rows_not_finite(values[some]) for some in pieces])
    if len(bad_rows):
        count = int((~np.isfinite(values[bad_rows])).sum())
        raise JaxtlError(
            f"{method}: features hold {count} NaN or infinite values in {len(bad_rows)} of {n} rows, the "
            f"first in row {bad_rows[0]}; drop these rows or extract the features again"
        )
    if all((values[some] == values[0]).all() for some in pieces):
        raise JaxtlError(f"{method}: all {n} rows of the features are equal; there is nothing to map")


def _rows_not_finite(values: np.ndarray) -> np.ndarray:
    return np.flatnonzero(~np.isfinite(values).all(axis=1))


def _brief(given: dict[str, Any]) -> str:
    told = ", ".join(f"{key} {value}" for key, value in given.items() if isinstance(value, (int, float, str)))
    return f" ({told})" if told else ""
