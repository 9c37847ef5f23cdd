"""Backends of locally linear embedding."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.lle.spectrum import signs
from jaxtl.progress import Progress
from jaxtl.records.arrays import Neighbors
from jaxtl.reduction.parameters import (
    check_choice,
    check_components,
    check_jobs,
    check_number,
    versions,
)

if TYPE_CHECKING:
    from jaxtl.lle.estimator import LocallyLinearEmbedding


# Over 60 lines by what a user can set: each parameter stands in the signature and in the docstring.
def own_lle(
    values: np.ndarray,
    progress: Progress | None,
    known_neighbors: Neighbors | None = None,
    *,
    n_neighbors: int = 12,
    variant: str = "standard",
    reg: float = 1e-3,
    engine: str = "auto",
    solver: str = "auto",
    tol: float = 1e-8,
    max_iter: int = 100,
    n_jobs: int = -1,
    n_components: int = 2,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """Standard or modified LLE by `jaxtl.LocallyLinearEmbedding`, on a CPU or JAX's GPU.

    Args:
        values: [n, d].
        progress: unused.
        known_neighbors: n_neighbors or more of each, where they are known, exact or approximate.
        n_components: from 1 to d, and below n_neighbors.
        n_neighbors: k, from 3 to n - 1; the default is Roweis and Saul's own for faces.
        variant: the estimator's `method`, "standard" or "modified".
        reg, engine, solver, tol, max_iter, n_jobs: as there.
        seed: of the eigensolver's starting vectors; it does not show in the embedding.

    Diagnostics: `reconstruction_error`, the sum of the eigenvalues that are used; `eigenvalues`;
    `eigen_residual`; `n_iter`; `connected_components` of the neighbour graph, and a `warning` where the
    embedding shows its pieces and nothing else.
    """
    from jaxtl.lle.estimator import LocallyLinearEmbedding

    check_choice("lle", "variant", variant, ("standard", "modified"))
    check_choice("lle", "engine", engine, ("auto", "cpu", "jax"))
    check_choice("lle", "solver", solver, ("auto", "eigh", "sparse", "multifrontal", "dense"))
    check_number("lle", "tol", tol, low=0, open_low=True)
    _check_numbers(len(values), n_neighbors, reg, tol, max_iter, n_jobs)
    _check_components(n_components, n_neighbors, values.shape[1])
    chosen = {
        "n_components": int(n_components),
        "n_neighbors": int(n_neighbors),
        "reg": float(reg),
        "tol": float(tol),
        "max_iter": int(max_iter),
        "n_jobs": int(n_jobs),
    }
    model = LocallyLinearEmbedding(
        **chosen, method=variant, engine=engine, solver=solver, random_state=int(seed)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        coords = model.fit_among(values, known_neighbors).embedding_
    params = {
        **chosen,
        "variant": variant,
        "engine": model.engine_,
        "solver": model.solver_,
        **_told_of(known_neighbors, n_neighbors),
        "dtype": "float64",
        "seed": int(seed),
        "versions": versions("scikit-learn", "scipy", "numpy", *(["jax"] if model.engine_ == "jax" else [])),
    }
    warned = {"warning": " ".join(str(warning.message) for warning in caught)} if caught else {}
    return coords, params, {**_told_by(model), **warned}


def _told_of(known: Neighbors | None, n_neighbors: int) -> dict[str, float]:
    """How many of the true neighbours those have that were taken, where they are approximate."""
    taken = known is not None and known.indices.shape[1] >= n_neighbors
    return {"recall": known.recall} if taken and known.recall is not None else {}


def _told_by(model: LocallyLinearEmbedding) -> dict[str, Any]:
    return {
        "reconstruction_error": model.reconstruction_error_,
        "eigenvalues": model.eigenvalues_.tolist(),
        "eigen_residual": model.eigen_residual_,
        "n_iter": model.n_iter_,
        "connected_components": int(model.n_connected_components_),
    }


def sklearn_lle(
    values: np.ndarray,
    progress: Progress | None,
    *,
    n_neighbors: int = 12,
    reg: float = 1e-3,
    eigen_solver: str = "auto",
    tol: float = 1e-6,
    max_iter: int = 100,
    n_jobs: int = -1,
    n_components: int = 2,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """Standard LLE (Roweis & Saul 2000, Science 290:2323) by scikit-learn.

    Each axis's sign makes its coordinate of largest magnitude positive.

    Args:
        values: [n, d].
        progress: unused, the work is one call.
        n_components: from 1 to d, and below n_neighbors.
        n_neighbors: k, from 3 to n - 1; the default is Roweis and Saul's own for faces.
        reg: the local Gram matrix gains reg times its trace on its diagonal, > 0.
        eigen_solver: "arpack", "dense", or "auto", which is dense up to 200 rows as in scikit-learn.
        tol: ARPACK's tolerance, >= 0; 0 is machine precision.
        max_iter: ARPACK's limit of iterations.
        n_jobs: threads of the neighbour search; -1 takes all cores. It does not change the result.
        seed: ARPACK's starting vector.

    Diagnostics: `reconstruction_error`, the sum of the eigenvalues of (I - W)'(I - W) that are used.
    """
    from sklearn.manifold import LocallyLinearEmbedding

    n = len(values)
    check_choice("lle", "eigen_solver", eigen_solver, ("auto", "arpack", "dense"))
    _check_numbers(n, n_neighbors, reg, tol, max_iter, n_jobs)
    _check_components(n_components, n_neighbors, values.shape[1])
    _check_distinct(values, n_neighbors)
    params = {
        "n_components": int(n_components),
        "method": "standard",
        "n_neighbors": int(n_neighbors),
        "neighbors_algorithm": "brute",
        "reg": float(reg),
        "eigen_solver": _resolve(eigen_solver, n),
        "tol": float(tol),
        "max_iter": int(max_iter),
        "n_jobs": int(n_jobs),
    }
    model = LocallyLinearEmbedding(**params, random_state=seed)
    try:
        # scikit-learn computes in float64 whatever comes in: float32 input gives the same bytes.
        coords = model.fit_transform(values.astype(np.float64))
    except (ValueError, np.linalg.LinAlgError) as error:
        reason = str(error).splitlines()[0].split(" Note that")[0]
        raise JaxtlError(
            f"lle: {params['eigen_solver']} could not find the eigenvectors with n_neighbors {n_neighbors} "
            f"({reason}); try eigen_solver dense, more neighbours or a larger reg"
        ) from None
    params |= {"dtype": "float64", "seed": int(seed), "versions": versions("scikit-learn", "scipy", "numpy")}
    diagnostics = {"reconstruction_error": float(model.reconstruction_error_)}
    return coords * signs(coords), params, diagnostics


def check_neighbors(n: int, n_neighbors: int) -> None:
    """Raises JaxtlError where n rows are too few for n_neighbors, or n_neighbors for a plane."""
    # Fewer than three neighbours cannot span a plane around a point.
    check_number("lle", "n_neighbors", n_neighbors, low=3, whole=True)
    if n_neighbors >= n:
        raise JaxtlError(
            f"lle: n_neighbors {n_neighbors} needs more than {n_neighbors} rows, the features have {n}; "
            f"take n_neighbors of at most {n - 1} or more images"
        )


def _check_numbers(n: int, n_neighbors: int, reg: float, tol: float, max_iter: int, n_jobs: int) -> None:
    check_neighbors(n, n_neighbors)
    check_number("lle", "reg", reg, low=0, open_low=True)
    check_number("lle", "tol", tol, low=0)
    check_number("lle", "max_iter", max_iter, low=1, whole=True)
    check_jobs("lle", n_jobs)


def _check_components(n_components: int, n_neighbors: int, d: int) -> None:
    # So many neighbours and one more span a space of that many dimensions around a point.
    most = min(d, n_neighbors - 1)
    check_components("lle", n_components, most, f" for {d} features and n_neighbors {n_neighbors}")


def _check_distinct(values: np.ndarray, n_neighbors: int) -> None:
    # With fewer, every point may have only its own copies as neighbours, and ARPACK then returns vectors
    # that are no eigenvectors without a word.
    distinct = len({hash(row.tobytes()) for row in values})
    if distinct <= n_neighbors:
        raise JaxtlError(
            f"lle: the features have only {distinct} different rows in {len(values)}, n_neighbors "
            f"{n_neighbors} needs more than {n_neighbors}; take fewer neighbours or more varied images"
        )


def _resolve(eigen_solver: str, n: int) -> str:
    if eigen_solver != "auto":
        return eigen_solver
    return "arpack" if n > 200 else "dense"
