"""Embeddings turned onto others of the same rows, so that who compares the two sees change and no turns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxtl.errors import JaxtlError
from jaxtl.records.arrays import Embedding


def coords_of(onto: Embedding | ArrayLike, method: str, n: int, n_components: int) -> np.ndarray:
    """Where rows are to lie, as far as they can: float64 [n, n_components].

    Raises JaxtlError for another shape, values that are not finite, or rows that all lie in one place.
    """
    given = onto.coords if isinstance(onto, Embedding) else onto
    coords = np.array(given, np.float64)
    if coords.shape != (n, n_components):
        raise JaxtlError(
            f"{method}: onto must be coordinates [{n}, {n_components}] of the same rows, got "
            f"{list(coords.shape)}"
        )
    if not np.isfinite(coords).all():
        raise JaxtlError(f"{method}: onto holds NaN or infinite values")
    if (coords == coords[0]).all():
        raise JaxtlError(f"{method}: all {n} rows of onto lie in one place; there is nothing to turn onto")
    return coords


def turned_onto(coords: np.ndarray, onto: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Coordinates rotated and mirrored about their mean so that they lie nearest to others, rows by rows.

    Orthogonal Procrustes (Schonemann 1966, Psychometrika 31:1). Nothing is scaled or moved: distances and
    neighbours stay, and with them every score, but for rounding.

    Args:
        coords, onto: [n, k], finite.

    Returns:
        float64 [n, k], and what was done: `agreement`, the correlation of the two as they lie now, 0 to 1
        (Peres-Neto & Jackson 2001, Oecologia 129:169); in the plane also `turned_degrees`, anticlockwise,
        -180 to 180, and `mirrored`, whether the second axis was mirrored first.
    """
    mean = coords.mean(axis=0, dtype=np.float64)
    centred, target = coords - mean, onto - onto.mean(axis=0, dtype=np.float64)
    rotation, strengths = rotation_onto(centred, target)
    size = float(np.sqrt((centred**2).sum() * (target**2).sum()))
    told: dict[str, Any] = {"agreement": float(strengths.sum()) / size if size else 0.0}
    if len(rotation) == 2:
        told["turned_degrees"] = float(np.degrees(np.arctan2(rotation[0, 1], rotation[0, 0])))
        told["mirrored"] = bool(np.linalg.det(rotation) < 0)
    return mean + np.einsum("ni,ij->nj", centred, rotation), told


def rotation_onto(centred: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation, mirrored or not, that lays rows on others, float64 [k, k], and how strongly, [k].

    Args:
        centred, target: [n, k], each about its own mean.
    """
    # No BLAS: how it adds up depends on how many threads it has.
    product = np.einsum("ni,nj->ij", centred, target, dtype=np.float64)
    left, strengths, right = np.linalg.svd(product)
    return left @ right, strengths
