"""The smallest eigenvalues of a positive semidefinite matrix, and how true they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Operator = Callable[[np.ndarray], np.ndarray]

# Vectors followed beyond those that are wanted.
_GUARDS = 1
# Units of rounding, times the norm of M, in the residual of a vector that could not be better.
_ROUNDING = 4


class Spectrum(NamedTuple):
    """Eigenvalues ascending [count], vectors orthonormal [n, count], and the proof.

    `residual` is the largest norm of M v - lambda v, relative to the largest of the eigenvalues; it is
    taken from M itself, not from what was factorised. `converged` tells whether it is as small as asked, or
    nothing but the rounding of M's own products.
    """

    values: np.ndarray
    vectors: np.ndarray
    residual: float
    iterations: int
    converged: bool


def smallest(
    multiply: Operator, solve: Operator, norm: float, n: int, count: int, tol: float, max_iter: int, seed: int
) -> Spectrum:
    """The `count` smallest eigenpairs of M by a block Davidson iteration.

    The space grows by `solve` of the residuals of its best vectors, and in it the eigenpairs are those of M
    projected (Rayleigh-Ritz). With the exact inverse that is a block Krylov space of the inverse; an error
    of `solve` slows it down and does not falsify it (Davidson 1975, J. Comput. Phys. 17:87; Saad 2011,
    sec. 8.3). The vector of ones, which every M here takes to zero, is in the space from the start.

    Args:
        multiply: M times [n, p].
        solve: (nearly) the inverse of M times [n, p].
        norm: of M, which sets the rounding error of `multiply`.
        count: at least 2.
        tol: the residual that is asked for; one that is all rounding is enough too.
        max_iter: steps at most, at least 1.

    Returns:
        What it has when the residual is small enough or the steps are used up: look at `residual`.
    """
    rng = np.random.default_rng(seed)
    width = count + _GUARDS
    ones = np.full((n, 1), n**-0.5)
    start = rng.standard_normal((n, width))
    basis = np.hstack([ones, _orthonormal(solve(start - start.mean(axis=0)), ones)])
    if basis.shape[1] < count:
        # Of copies M has a null space so large that `solve` lays all vectors on a few of it.
        basis = np.hstack([basis, _orthonormal(start, basis)])
    image = multiply(basis)
    floor = _ROUNDING * np.finfo(np.float64).eps * norm
    iteration = 0
    while True:
        iteration += 1
        projected = basis.T @ image
        values, small = np.linalg.eigh((projected + projected.T) / 2)
        values, small = values[:width].clip(0), small[:, :width]
        vectors = basis @ small
        residuals = image @ small - vectors * values
        sizes = np.linalg.norm(residuals, axis=0)
        scale, worst = max(values[count - 1], floor), sizes[:count].max()
        converged = bool(worst <= max(tol * scale, floor))
        if converged or iteration == max_iter:
            break
        grown = _orthonormal(solve(residuals[:, sizes > floor]), basis)
        if not grown.shape[1]:
            break
        basis, image = np.hstack([basis, grown]), np.hstack([image, multiply(grown)])
    return Spectrum(values[:count], vectors[:, :count], float(worst / scale), iteration, converged)


def _orthonormal(vectors: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what `vectors` add to the orthonormal `basis`."""
    # First of all, since `solve` may have blown up what is in the basis already, the ones above all.
    vectors = vectors - basis @ (basis.T @ vectors)
    sizes = np.linalg.norm(vectors, axis=0)
    known = np.isfinite(sizes) & (sizes > 0)
    if not known.all():
        vectors, sizes = vectors[:, known], sizes[known]
    vectors = vectors / sizes
    for _ in range(2):  # the second time mends the rounding of the first (Giraud et al. 2005)
        vectors = vectors - basis @ (basis.T @ vectors)
        vectors, triangle = np.linalg.qr(vectors)
        kept = np.abs(np.diag(triangle)) > 1e-10
        vectors = vectors[:, kept]
    return vectors


def signs(vectors: np.ndarray) -> np.ndarray:
    """1 or -1 for each column of vectors [n, c], by which its entry of largest magnitude gets positive.

    An eigenvector's sign is arbitrary; pictures should not flip between solvers and versions. The rule is
    scikit-learn's for components.
    """
    largest = vectors[np.abs(vectors).argmax(axis=0), range(vectors.shape[1])]
    return np.where(largest < 0, -1.0, 1.0)
