"""Factorisations of M on a CPU: how a spectrum is had for it, and which plan fits a size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import splu

from jaxtl.lle import fronts
from jaxtl.lle.alignment import Alignment
from jaxtl.machine.memory import physical_memory

# Added to what is factorised, which is singular: far below the eigenvalues that are wanted (1e-6 and more
# at n = 10,000), far above rounding. It changes the way to the eigenvectors, not the eigenvectors.
SHIFT = 1e-9
# I - W is factorised in place of M, whose eigenvalues are the squares of its singular values.
ROOT_SHIFT = 1e-7
# In single precision: above its rounding, below the singular values that are wanted (2e-3 at n = 10,000).
_SINGLE_SHIFT = 1e-5
# Steps that take the rounding out of the null vector.
_MENDED = 2
# A dense factorisation holds one float64 matrix; this part of the memory may go to it.
_MEMORY_PART = 0.25

Operator = Callable[[np.ndarray], np.ndarray]


def fits_densely(n: int) -> bool:
    """Whether an n x n float64 matrix takes at most a quarter of the machine's memory."""
    return 8 * n**2 <= _MEMORY_PART * physical_memory()


def sparse_solver(problem: Alignment, workers: int | None = None) -> Operator:
    """Solves with M by sparse LU factors, of its square root where it has one.

    A = I - W has k + 1 entries a row where M has some k^2 / 2, and a third as many in its factors: at
    n = 10,000 and k = 12 real features take 3.3 s, SuperLU on M as scikit-learn calls it 20 s, a dense
    Cholesky of M 3.4 s. Pivots stay on the diagonal, so that the factors stay symmetric in pattern, and
    sparse; who uses the result looks at residuals, so a bad pivot costs steps and no truth.
    """
    if problem.root is None:
        return _symmetric_lu(problem.whole + SHIFT * sparse.eye_array(problem.whole.shape[0])).solve
    return _root_solver(problem.root)


def _root_solver(root: sparse.csr_array) -> Operator:
    n = root.shape[0]
    factors = _symmetric_lu(root + ROOT_SHIFT * sparse.eye_array(n))
    # A takes ones to zero, so A' has a null vector too: what would be blown up along it is taken out.
    null = factors.solve(np.ones(n), "T")
    return _both_ways(factors, null / np.linalg.norm(null))


def multifrontal_solver(problem: Alignment, workers: int | None = None) -> Operator:
    """`sparse_solver` by dense fronts, of a square root in single precision.

    The residuals that it solves for are in double precision, so that its own rounding costs a step or two.
    M itself, whose eigenvalues are squares, would leave no digit in single precision.
    """
    n = problem.size
    if problem.root is None:
        return fronts.Factors(problem.whole + SHIFT * sparse.eye_array(n), np.float64, workers).solve
    factors = fronts.Factors(problem.root + _SINGLE_SHIFT * sparse.eye_array(n), np.float32, workers)
    null = factors.solve(np.full(n, n**-0.5), "T")
    for _ in range(_MENDED):
        null /= np.linalg.norm(null)
        null -= factors.solve(problem.root.T @ null, "T")
    return _both_ways(factors, null / np.linalg.norm(null))


def _both_ways(factors: Any, null: np.ndarray) -> Operator:
    """Solves with A'A, without what A'^-1 has along A's left null vector."""

    def solve(b: np.ndarray) -> np.ndarray:
        half = factors.solve(b / np.linalg.norm(b, axis=0), "T")
        half -= null[:, None] * (null @ half)
        return factors.solve(half)

    return solve


def dense_solver(problem: Alignment, workers: int | None = None) -> Operator:
    """Solves with M [n, n] by a dense Cholesky factorisation, in one array of 8 n^2 bytes."""
    dense = problem.matrix.toarray(order="F")
    dense[np.diag_indices_from(dense)] += SHIFT
    factors = linalg.cho_factor(dense, lower=True, overwrite_a=True, check_finite=False)
    return partial(linalg.cho_solve, factors, check_finite=False)


SOLVERS = {"sparse": sparse_solver, "multifrontal": multifrontal_solver, "dense": dense_solver}


def _symmetric_lu(matrix: Any) -> Any:
    return splu(
        matrix.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=1e-3,
        options={"SymmetricMode": True},
    )
