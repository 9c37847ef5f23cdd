"""Anchors: a random sample of points whose neighbourhoods stand for those of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxtl.machine.cores import share
from jaxtl.machine.engines import engine_for
from jaxtl.metrics import distances
from jaxtl.metrics.checks import check_count, check_draws, check_values
from jaxtl.neighbors.middle import needs_differences

# Coordinates of pairs held at a time, in float64: they stay in the cache.
_BLOCK = 250_000


@dataclass(frozen=True)
class Anchored:
    """One space seen from its anchors: found once, compared with any number of embeddings.

    Attributes:
        anchors: int [m], rows of the anchors, ascending.
        ranks: uint16 or uint32 [m, n], place of each point among an anchor's others, nearest 1; its own 0.
        pairs: int [p, 2], different random pairs of rows, every row in equally many.
        distances: float64 [p], of the pairs, Euclidean.
    """

    anchors: np.ndarray
    ranks: np.ndarray
    pairs: np.ndarray
    distances: np.ndarray


def anchored(
    values: np.ndarray, *, anchors: int = 2000, pairs: int = 100_000, engine: str = "auto", seed: int = 0
) -> Anchored:
    """Exact ranks of all points as seen from random anchors, and distances of random pairs.

    Of points at one distance the one of lower index comes first, as `np.argsort` of a whole distance matrix
    does for few points. Memory: 2 bytes times anchors times n (4 beyond 65,536 points).

    Args:
        values: [n, d], finite.
        anchors: how many; all points where there are fewer.
        pairs: about how many; they come in whole rounds in which each point has two.
        engine: what ranks: "cpu"; "jax" for JAX's default device; "auto", "jax" where that is a GPU.
        seed: of the choice, which depends on nothing else but n: spaces of the same points can be compared.

    Raises:
        JaxtlError: fewer than 4 rows, no anchors or pairs, or values that are not finite.
    """
    where = "ranks"
    values = check_values(where, values, 4)
    check_draws(where, seed)
    check_count(where, "anchors", anchors, 1)
    check_count(where, "pairs", pairs, 1)
    rng, n = np.random.default_rng(seed), len(values)
    chosen = np.sort(rng.choice(n, min(anchors, n), replace=False))
    some = _pairs(n, pairs, rng)
    return Anchored(chosen, rank(values, chosen, engine), some, pair_distances(values, some))


def rank(values: np.ndarray, anchors: np.ndarray, engine: str) -> np.ndarray:
    n, m = len(values), len(anchors)
    # Rows in float64, once as they come and once about their mean, and the ranks.
    needed = 16 * values.size + distances.rank_type(n)().nbytes * n * m
    # A device has products about the mean alone.
    if engine_for(engine, n * m, needed) == "cpu" or needs_differences(values):
        return distances.anchor_ranks(values, anchors)
    from jaxtl.metrics import device

    return device.anchor_ranks(values, anchors)


def pair_distances(values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """float64 [p]."""
    result = np.empty(len(pairs))
    step = max(1, _BLOCK // values.shape[1])

    def fill(start: int) -> None:
        some = slice(start, start + step)
        apart = values[pairs[some, 0]].astype(np.float64)
        apart -= values[pairs[some, 1]]
        result[some] = np.sqrt(np.einsum("pd,pd->p", apart, apart))

    share(fill, range(0, len(pairs), step))
    return result


def _pairs(n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    # Points on a ring in random order, each with those 1, 2, ... places on: no pair comes twice.
    order = rng.permutation(n)
    rounds = min(-(-count // n), (n - 1) // 2)
    return np.concatenate([np.stack([order, np.roll(order, -step)], axis=1) for step in range(1, rounds + 1)])
