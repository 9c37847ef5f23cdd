"""How much a case asks for, whoever does it: {"flops", "bytes"}, two operations a multiply-add.

Bytes are those that must move at least: what goes in, read once, and what comes out. What an implementation
does beyond is its own; nobody reaches 100 % of a machine by these counts.
"""

from __future__ import annotations

_FLOAT = 4


def distances(n: int, d: int, out: int = 0) -> dict[str, int]:
    """Euclidean distances by products of all pairs of n rows of d values, each pair once; `out` bytes."""
    return {"flops": n * (n - 1) * d, "bytes": _FLOAT * n * d + out}


def principal(n: int, d: int) -> dict[str, int]:
    """Half of a covariance matrix [d, d] and two scores of each row; its eigenvectors are left out."""
    return {"flops": n * d * (d + 1) + 4 * n * d, "bytes": _FLOAT * (n * d + 2 * n)}


def passes(n: int, d: int) -> dict[str, int]:
    """One multiply-add for each value of [n, d]: sums, means, squares."""
    return {"flops": 2 * n * d, "bytes": _FLOAT * n * d}
