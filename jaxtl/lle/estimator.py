"""Locally linear embedding as a scikit-learn estimator."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxtl.errors import JaxtlError
from jaxtl.lle import SPARSE_UP_TO, alignment, factors
from jaxtl.lle.alignment import Alignment
from jaxtl.lle.spectrum import Spectrum, signs, smallest
from jaxtl.machine.cores import one_blas_thread
from jaxtl.machine.engines import default_engine
from jaxtl.machine.host import cpu_count
from jaxtl.neighbors import exact_neighbors, nearest_rows
from jaxtl.records.arrays import Neighbors
from jaxtl.records.points import as_points

# Up to here all eigenvectors of a dense M are had in milliseconds, exactly.
_EIGH_UP_TO = 300
_SEED_RANGE = 2**31

_Method = TypeVar("_Method", bound=Callable[..., Any])


class RefusedParameter(JaxtlError, InvalidParameterError):
    """A parameter of the constructor that cannot work, for who catches scikit-learn's error too."""


class RefusedKind(JaxtlError, TypeError):
    """Data of a kind that cannot be numbers, for who catches scikit-learn's error too."""


class NotFitted(JaxtlError, NotFittedError):
    """A method that needs `fit` first, for who catches scikit-learn's error too."""


def _checked(method: _Method) -> _Method:
    """scikit-learn's check of the constructor's arguments before a method, which it leaves without types."""
    checked = _fit_context(prefer_skip_nested_validation=True)(method)

    @functools.wraps(method)
    def call(self: LocallyLinearEmbedding, *arguments: Any, **named: Any) -> Any:
        try:
            return checked(self, *arguments, **named)
        except InvalidParameterError as error:
            raise RefusedParameter(f"lle: {_line(error)}") from None

    return cast("_Method", call)


# Letters of a library's error: scikit-learn's show whole arrays.
_SAID = 300


def _line(error: Exception) -> str:
    """What an error of a library says, in one line, and not all values that it was given."""
    return " ".join(str(error).split())[:_SAID] or type(error).__name__


class LocallyLinearEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Locally linear embedding (Roweis & Saul 2000, Science 290:2323), standard and modified.

    The embedding and its error are those of `sklearn.manifold.LocallyLinearEmbedding`, with the sign of
    each axis chosen so that its coordinate of largest magnitude is positive. Different from there: a point is
    left out of its own neighbours by its index, so that copies of points are neighbours like others; a graph
    that falls apart is reported; and the eigenvectors come with their residual, without which nothing is
    returned. Its "hessian" and "ltsa" are not here: they leave each point out of its own tangent space, so
    that M is singular wherever some point is nobody's neighbour, as is usual in many dimensions.

    Args:
        n_neighbors: k, at least 1 and below n; for "modified" at least n_components.
        n_components: dimension of the embedding, below n and at most d.
        reg: the local Gram matrix gains reg times its trace on its diagonal, above 0; for "modified" it is
            1e-3, as in scikit-learn, and this one serves `transform`.
        method: "standard", or "modified" (Zhang & Wang 2006, NIPS 19) with several weight vectors a point.
        engine: "cpu"; "jax", neighbours, weights and factorisation on JAX's default device; "auto", which
            takes "jax" where that device is a GPU and the factors fit into its memory.
        solver: how the eigenvectors are found on a CPU: "eigh" (all of a dense M), "sparse" (LU factors by
            SuperLU, on one core), "multifrontal" (LU factors by dense fronts, on all cores), "dense"
            (Cholesky factors, 8 n^2 bytes: for "modified" a quarter faster at 10,000 points, in twice the
            memory), or "auto": "eigh" for 300 points and fewer, "sparse" up to 10,000, else "multifrontal".
            "jax" always takes tiles of dense Cholesky factors, 4 n^2 bytes.
        tol: largest residual of an eigenvector, relative to the largest eigenvalue that is used.
        max_iter: steps of the eigensolver, at least 1; 6 to 9 are usual.
        random_state: of the eigensolver's starting vectors; it does not show in the result.
        n_jobs: threads on a CPU; None and -1 take all cores. The result does not depend on it.

    Attributes:
        embedding_: float64 [n, n_components].
        reconstruction_error_: sum of the eigenvalues that belong to the axes.
        eigenvalues_: of M, ascending, float64 [n_components]; the one of the constant is left out.
        eigen_residual_: largest norm of M v - lambda v, relative to the largest of `eigenvalues_`.
        n_iter_: steps that the eigensolver took; 0 for "eigh".
        n_connected_components_: of the graph of neighbours; with more than one the axes tell components
            apart and show nothing else, of which a warning speaks.
        solver_, engine_: what was taken.
        n_features_in_: d.

    Raises:
        JaxtlError (a ValueError): parameters or data that cannot work, or eigenvectors that do not converge.
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012, scikit-learn's own form
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "reg": [Interval(Real, 0, None, closed="neither")],
        "method": [StrOptions({"standard", "modified"})],
        "engine": [StrOptions({"auto", "cpu", "jax"})],
        "solver": [StrOptions({"auto", "eigh", "sparse", "multifrontal", "dense"})],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
    }

    def __init__(
        self,
        *,
        n_neighbors: int = 5,
        n_components: int = 2,
        reg: float = 1e-3,
        method: str = "standard",
        engine: str = "auto",
        solver: str = "auto",
        tol: float = 1e-8,
        max_iter: int = 100,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.reg = reg
        self.method = method
        self.engine = engine
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: object = None) -> LocallyLinearEmbedding:
        """Embed the rows of X, real [n, d], finite."""
        self.fit_transform(X)
        return self

    @_checked
    def fit_transform(self, X: ArrayLike, y: object = None) -> NDArray[np.float64]:
        """Embed the rows of X, real [n, d], finite; returns `embedding_`."""
        return self.fit_among(X, None).embedding_

    @_checked
    def fit_among(self, X: ArrayLike, neighbors: Neighbors | None) -> LocallyLinearEmbedding:
        """`fit` with exact neighbours that are known already, n_neighbors or more of each."""
        X = self._validated(X, ensure_min_samples=2)
        self._check(*X.shape)
        self.engine_ = self._choose_engine(len(X))
        try:
            spectrum = self._on_device(X, neighbors) if self.engine_ == "jax" else self._on_cpu(X, neighbors)
        except (np.linalg.LinAlgError, RuntimeError) as error:
            # SuperLU says no more than that in its text.
            if isinstance(error, RuntimeError) and "singular" not in str(error):
                raise
            raise JaxtlError(
                f"lle: the equations of the neighbours have no solution ({_line(error)}); take more "
                "n_neighbors or a larger reg"
            ) from None
        if not spectrum.converged:
            raise JaxtlError(
                f"lle: the eigenvectors did not converge in {spectrum.iterations} steps (residual "
                f"{spectrum.residual:.1e} of the largest eigenvalue, asked for {self.tol:.1e}); take more "
                "n_neighbors, a larger reg or a larger tol"
            )
        self.eigenvalues_ = spectrum.values[1:]
        self.eigen_residual_, self.n_iter_ = spectrum.residual, spectrum.iterations
        self.reconstruction_error_ = float(self.eigenvalues_.sum())
        vectors = spectrum.vectors[:, 1:]
        self.embedding_ = vectors * signs(vectors)
        self._fit_values, self._n_features_out = X, self.n_components
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Place new rows [m, d] by the weights that rebuild them from their neighbours among the fitted.

        Returns float64 [m, n_components]. A fitted row comes out at its own place, but for `reg`.
        """
        try:
            check_is_fitted(self)
        except NotFittedError as error:
            raise NotFitted(f"lle: {_line(error)}") from None
        X = self._validated(X, reset=False)
        return place_by_weights(
            self._fit_values, self.embedding_, X, self.n_neighbors, self.reg, self._workers
        )

    def _validated(self, X: ArrayLike, **asked: Any) -> np.ndarray:
        """Rows float64 or float32 [n, d], by scikit-learn's own checks and then ours."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # of sums, by which it looks for NaN
                X = validate_data(self, X, dtype=[np.float64, np.float32], **asked)
        except TypeError as error:
            raise RefusedKind(f"lle: {_line(error)}") from None
        except (RuntimeError, ValueError) as error:  # the former of tensors on a GPU
            raise JaxtlError(f"lle: {_line(error)}") from None
        return as_points("lle", X, name="X")

    @property
    def _workers(self) -> int:
        return cpu_count() if self.n_jobs in (None, -1) else max(1, int(self.n_jobs))

    def _check(self, n: int, d: int) -> None:
        k, c = self.n_neighbors, self.n_components
        if k >= n:
            raise JaxtlError(
                f"lle: n_neighbors {k} needs more than {k} points, got n_samples = {n}; take at most {n - 1}"
            )
        if c > d or c >= n:
            raise JaxtlError(
                f"lle: n_components {c} must be at most the {d} features of the points and below their {n}"
            )
        if self.method == "modified" and k < c:
            raise JaxtlError(f"lle: modified needs n_neighbors of at least n_components {c}, got {k}")

    def _choose_engine(self, n: int) -> str:
        if self.engine != "auto":
            return self.engine
        if self.solver != "auto" or n <= _EIGH_UP_TO or default_engine() == "cpu":
            return "cpu"
        from jaxtl.lle import device

        return "jax" if device.fits(n) else "cpu"

    def _on_cpu(self, X: np.ndarray, known: Neighbors | None) -> Spectrum:
        neighbors = self._nearest(X, known, "cpu" if self.engine == "cpu" else "auto")
        problem = self._problem(X, neighbors, alignment.barycenter_weights)
        ways = self._solvers(len(X))
        for self.solver_ in ways:
            if self.solver_ == "eigh":
                return _all_eigenpairs(problem.matrix, self.n_components + 1)
            try:
                spectrum = self._solve(problem, factors.SOLVERS[self.solver_](problem, self._workers))
            except np.linalg.LinAlgError:
                if self.solver_ == ways[-1]:
                    raise
                continue
            if spectrum.converged:
                break
        return spectrum

    def _on_device(self, X: np.ndarray, known: Neighbors | None) -> Spectrum:
        from jaxtl.lle import device

        device.check_fits(len(X))
        neighbors = self._nearest(X, known, "jax")
        problem = self._problem(X, neighbors, device.barycenter_weights)
        self.solver_ = "dense"
        # Each point ties itself and its neighbours to one another.
        most = len(X) * (self.n_neighbors + 1) * (self.n_neighbors + 2) // 2
        return self._solve(problem, device.dense_solver(problem.matrix, most))

    def _nearest(self, X: np.ndarray, known: Neighbors | None, engine: str) -> np.ndarray:
        if known is None or known.indices.shape[1] < self.n_neighbors:
            known = exact_neighbors(X, self.n_neighbors, engine=engine, n_jobs=self._workers)
        return np.ascontiguousarray(known.indices[:, : self.n_neighbors])

    def _solvers(self, n: int) -> list[str]:
        """What is tried until the eigenvectors converge."""
        if self.solver != "auto":
            return [self.solver]
        if n <= _EIGH_UP_TO or self.n_components >= n // 10:
            return ["eigh"]
        # Each looks for pivots where the one before does not: in other fronts, and off the diagonal.
        ways = ["sparse"] if n <= SPARSE_UP_TO else ["multifrontal", "sparse"]
        return [*ways, "dense"] if factors.fits_densely(n) else ways

    def _problem(self, X: np.ndarray, neighbors: np.ndarray, weigh: Callable[..., np.ndarray]) -> Alignment:
        self._examine(neighbors)
        if self.method == "standard":
            return alignment.standard(neighbors, weigh(X, X, neighbors, self.reg, self._workers))
        return alignment.modified(X, neighbors, self.n_components, self._workers)

    def _examine(self, neighbors: np.ndarray) -> None:
        self.n_connected_components_, closed = alignment.components(neighbors)
        # Standard LLE's M has a null vector for every group with no neighbours outside, modified LLE's, which
        # ties neighbours both ways, for every component.
        groups = closed if self.method == "standard" else self.n_connected_components_
        if groups > 1:
            warnings.warn(
                f"lle: the graph of neighbours has {self.n_connected_components_} connected components, and "
                f"{groups} groups of points that have all their neighbours among themselves: the axes tell "
                f"these groups apart and show nothing of their shape; take more n_neighbors than "
                f"{self.n_neighbors}, or embed the components one by one",
                stacklevel=5,
            )

    def _solve(self, problem: Alignment, solve: factors.Operator) -> Spectrum:
        seed = int(check_random_state(self.random_state).randint(_SEED_RANGE))
        # A threaded BLAS only slows down products as narrow as these.
        with one_blas_thread():
            return smallest(
                problem.multiply,
                solve,
                problem.norm,
                problem.size,
                self.n_components + 1,
                self.tol,
                self.max_iter,
                seed,
            )


def place_by_weights(
    values: np.ndarray,
    coords: np.ndarray,
    rows: np.ndarray,
    n_neighbors: int,
    reg: float,
    workers: int | None = None,
) -> np.ndarray:
    """Rows [m, d] placed among embedded ones by the weights that rebuild them from their neighbours there.

    Args:
        values, coords: of the embedded points, [n, d] and [n, c].
        workers: threads; None takes all cores.

    Returns float64 [m, c].
    """
    workers = workers or cpu_count()
    neighbors = nearest_rows(values, rows, n_neighbors, workers).indices
    weights = alignment.barycenter_weights(values, rows, neighbors, reg, workers)
    return np.einsum("mk,mkc->mc", weights, coords[neighbors])


def _all_eigenpairs(matrix: sparse.csr_array, count: int) -> Spectrum:
    dense = matrix.toarray()
    values, vectors = linalg.eigh(dense)
    residual = np.linalg.norm(dense @ vectors[:, :count] - vectors[:, :count] * values[:count], axis=0).max()
    scale = max(values[count - 1], np.finfo(np.float64).eps * values[-1])
    return Spectrum(values[:count].clip(0), vectors[:, :count], float(residual / scale), 0, True)
