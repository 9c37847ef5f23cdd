"""Backends of principal component analysis."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxtl.lle.spectrum import signs
from jaxtl.neighbors.middle import about_middle
from jaxtl.progress import Progress
from jaxtl.reduction.parameters import check_choice, check_components, versions

# Doubles of rows held at a time: 32 MiB.
PIECE = 2**22
# How often features are read.
_PASSES = 2
_Tell = Callable[[int], Callable[[int], None]]
SOLVERS = ("auto", "covariance_eigh", "full", "randomized", "arpack")
# Those whose result depends on a seed.
_DRAWN = ("randomized", "arpack")


def sklearn_pca(
    values: np.ndarray,
    progress: Progress | None,
    *,
    svd_solver: str = "auto",
    n_components: int = 2,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """Scores on the first principal components, by scikit-learn (Pearson 1901).

    Each component's sign makes its largest loading positive, which is scikit-learn's rule.

    Args:
        values: [n, d].
        progress: unused, the work is one call.
        n_components: from 1 to the smaller of n and d; "arpack" takes one less.
        svd_solver: as in scikit-learn, but "auto" always takes an exact one (see `exact_solver`).
        seed: used by "randomized" and "arpack" alone.

    Diagnostics: `explained_variance_ratio` of the components, each 0 to 1.
    """
    check_choice("pca", "svd_solver", svd_solver, SOLVERS)
    solver = exact_solver(values.shape) if svd_solver == "auto" else svd_solver
    check_number_of_components(n_components, values.shape, less=solver == "arpack")
    # float64, since the covariance squares the condition: for 10,000 x 1280 features it is off a direct
    # SVD by 3e-13 in 0.43 s, in float32 by 5e-5 in 0.33 s.
    coords, shares = principal_scores(_near_zero(values), int(n_components), solver, seed)
    params = {
        "n_components": int(n_components),
        "svd_solver": solver,
        "dtype": "float64",
        "seed": int(seed),
        "versions": versions("scikit-learn", "numpy"),
    }
    return coords, params, {"explained_variance_ratio": shares.tolist()}


class _Latest:
    """What an exact solver found last in this process: of what, scores, shares of the variance."""

    known: tuple[Any, np.ndarray, np.ndarray] | None = None


def principal_scores(
    values: np.ndarray, n_components: int, solver: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's scores [n, n_components] of rows in float64, and the components' shares of the variance.

    Asked for the same again, as for a start of t-SNE after the map by PCA, an exact solver's are there still.
    """
    from sklearn.decomposition import PCA

    if solver in _DRAWN:
        model = PCA(n_components, svd_solver=solver, random_state=seed)
        return model.fit_transform(values), model.explained_variance_ratio_
    digest = hashlib.sha256(np.ascontiguousarray(values).data).digest()
    of, known = (digest, values.shape, n_components, solver), _Latest.known
    if known is None or known[0] != of:
        model = PCA(n_components, svd_solver=solver)
        # At once: another thread may be here, too.
        _Latest.known = known = of, model.fit_transform(values), model.explained_variance_ratio_
    return known[1].copy(order="K"), known[2]


def _near_zero(values: np.ndarray) -> np.ndarray:
    """Rows in float64; about their middle where they lie far from 0.

    "covariance_eigh" takes products of the means from products of the rows, which leaves little there.
    """
    # What is not returned is let go of before the work.
    centred = about_middle(values)
    return centred.rows if centred.is_far else values.astype(np.float64)


def streamed_pca(
    values: np.ndarray,
    progress: Progress | None,
    *,
    n_components: int = 2,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """Scores on the first principal components, of features that need not fit into memory.

    They are read a piece at a time, so that they may be memory-mapped, and twice. With more rows than
    columns: rows, for the covariance (float64, 8 d^2 bytes) and for their scores. With more columns than
    rows: columns, for the products of the rows about their mean (8 n^2 bytes), whose eigenvectors are the
    scores, and for the signs. Exact where scikit-learn's IncrementalPCA, one pass that keeps few components,
    is not. Signs by the same rule as `sklearn_pca`.

    Args:
        values: [n, d].
        progress: called with the fraction of the features read.
        n_components: from 1 to the smaller of n and d.
        seed: unused; nothing is drawn.

    Diagnostics: `explained_variance_ratio` of the components, each 0 to 1.
    """
    n, d = values.shape
    check_number_of_components(n_components, values.shape)
    components = _by_products if n < d else _by_covariance
    coords, shares = components(values, int(n_components), _passes(progress, max(n, d)))
    params = {
        "n_components": int(n_components),
        "passes": _PASSES,
        "dtype": "float64",
        "seed": int(seed),
        "versions": versions("scikit-learn", "scipy", "numpy"),
    }
    return coords, params, {"explained_variance_ratio": shares.tolist()}


def _by_covariance(values: np.ndarray, count: int, tell: _Tell) -> tuple[np.ndarray, np.ndarray]:
    """Scores [n, count] and shares of the variance, by the covariance of the columns."""
    from scipy.linalg import eigh

    d = values.shape[1]
    mean, covariance = _moments(values, tell(0))
    total = np.trace(covariance)
    variances, components = eigh(covariance, subset_by_index=[d - count, d - 1])
    components = components[:, ::-1]
    components = (components * signs(components)).T
    coords = np.concatenate([(piece - mean) @ components.T for piece in _pieces(values, tell(1))])
    return coords, variances[::-1] / total


def _moments(values: np.ndarray, tell: Callable[[int], None]) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] of the rows, and products of their columns about it [d, d], read once.

    Each piece has products about its own mean, which large means cost no digits, and how far the means of
    pieces lie apart is added (Chan, Golub & LeVeque 1983, Am. Stat. 37:242).
    """
    d = values.shape[1]
    mean, products, before = np.zeros(d), np.zeros((d, d)), 0
    for piece in _pieces(values, tell):
        count, own = len(piece), piece.mean(axis=0)
        piece -= own
        products += piece.T @ piece
        apart = own - mean
        products += np.outer(apart, apart * (before * count / (before + count)))
        mean += apart * (count / (before + count))
        before += count
    return mean, products


def _by_products(values: np.ndarray, count: int, tell: _Tell) -> tuple[np.ndarray, np.ndarray]:
    """The same by the products of the rows: of 200,000 columns a covariance would take 298 GiB."""
    from scipy.linalg import eigh

    n = len(values)
    products = np.zeros((n, n))
    for piece in _pieces(values.T, tell(0)):
        piece -= piece.mean(axis=1, keepdims=True)
        products += piece.T @ piece
    total = np.trace(products)
    variances, vectors = eigh(products, subset_by_index=[n - count, n - 1])
    variances, vectors = variances[::-1].clip(0), vectors[:, ::-1]
    # Loadings but for their lengths, of which only the largest of each component is looked at.
    largest = np.zeros(count)
    for piece in _pieces(values.T, tell(1)):
        piece -= piece.mean(axis=1, keepdims=True)
        loadings = piece @ vectors
        own = loadings[np.abs(loadings).argmax(axis=0), range(count)]
        largest = np.where(np.abs(own) > np.abs(largest), own, largest)
    return vectors * np.where(largest < 0, -1.0, 1.0) * np.sqrt(variances), variances / total


def check_number_of_components(n_components: Any, shape: tuple[int, int], less: bool = False) -> None:
    """Raises JaxtlError for more components than features [n, d] have; a solver may need one `less`."""
    why = f" for features {list(shape)}" + (" by arpack" if less else "")
    check_components("pca", n_components, min(shape) - less, why)


def _pieces(values: np.ndarray, tell: Callable[[int], None]) -> Iterator[np.ndarray]:
    """Copies of some rows after another, in float64; `tell` is told how many were handed out."""
    step = max(1, PIECE // values.shape[1])
    for start in range(0, len(values), step):
        piece = values[start : start + step].astype(np.float64)
        yield piece
        tell(start + len(piece))


def _passes(progress: Progress | None, n: int) -> _Tell:
    def of(number: int) -> Callable[[int], None]:
        return lambda rows: progress and progress((number + rows / n) / _PASSES)

    return of


def exact_solver(shape: tuple[int, int]) -> str:
    """scikit-learn's exact PCA solver for features [n, d].

    Its own "auto" takes a randomised one at these sizes, which is no faster (0.55 s) and off by 1e-6.
    """
    n, d = shape
    return "covariance_eigh" if d <= n else "full"
