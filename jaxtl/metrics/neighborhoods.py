"""How much of a space's neighbourhoods and distances its embedding keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.cores import share
from jaxtl.machine.engines import engine_for
from jaxtl.metrics.checks import check_count, check_draws, check_pair, check_values
from jaxtl.metrics.estimates import (
    HALVES,
    Estimate,
    half_estimate,
    jackknife_estimate,
    mean_estimate,
    normal_estimate,
)
from jaxtl.metrics.rank_influences import Scores, kept_in_halves, rank_influences
from jaxtl.metrics.ranks import Anchored, anchored, pair_distances, rank

# Rank pairs counted at a time.
BLOCK = 2_000_000


@dataclass(frozen=True)
class CoRanking:
    """How much neighbourhoods of every size agree (Lee & Verleysen 2009; Lee et al. 2015).

    Attributes:
        sizes: int [s], k, about log-spaced from 1 to n - 2.
        q: Q_NX(k), mean share of the k nearest that are the same in both spaces, 0 to 1; float64 [s]. The
            intervals of this curve and the next are about other anchors among these points.
        r: R_NX(k), the same less chance: 1 perfect, 0 as good as random; float64 [s].
        auc: mean of R_NX over all k from 1 to n - 2 with weights 1 / k.
    """

    sizes: np.ndarray
    q: Estimate
    r: Estimate
    auc: Estimate


@dataclass(frozen=True)
class Faithfulness:
    """What an embedding keeps; for all of them 1 is best.

    Attributes:
        trustworthiness: 0 to 1; falls where points come near that are far away in the space.
        continuity: 0 to 1; falls where points come apart that are near in the space.
        kept: 0 to 1; mean share of the k nearest in the space that are among the k nearest in the embedding.
        shepard: Spearman correlation of the distances in both, -1 to 1.
        co_ranking: agreement of neighbourhoods of every size.
        n_neighbors: k of the first two.
        anchors: int [m], the rows from which ranks were taken.
        trustworthiness_scores, continuity_scores: float64 [m], the anchors' own, whose means they are.
    """

    trustworthiness: Estimate
    continuity: Estimate
    kept: Estimate
    shepard: Estimate
    co_ranking: CoRanking
    n_neighbors: int
    anchors: np.ndarray
    trustworthiness_scores: np.ndarray
    continuity_scores: np.ndarray


def faithfulness(
    features: np.ndarray | Anchored,
    coords: np.ndarray,
    n_neighbors: int = 10,
    *,
    anchors: int = 2000,
    pairs: int = 100_000,
    engine: str = "auto",
    resamples: int = 1000,
    seed: int = 0,
) -> Faithfulness:
    """Compare an embedding with the space it is of.

    Ranks are exact, among all points, but taken from a random sample of anchors: the means over them are
    unbiased estimates of the means over all points. Intervals are the infinitesimal jackknife's: a point has
    its own score, if it is an anchor, and is among what others are ranked against. With all points as anchors
    trustworthiness is `sklearn.manifold.trustworthiness`.

    Args:
        features: [n, d], finite; or, for several embeddings of one space, `anchored(features)`, which then
            decides anchors and pairs.
        coords: [n, 2], finite; an embedding, or any other space of the same points.
        n_neighbors: k of trustworthiness and continuity, less than n / 2.
        anchors, pairs, engine, seed: of `anchored`; the engine counts too, the seed is that of intervals too.

    Raises:
        JaxtlError: k out of range, other numbers of rows, or values that are not finite.
    """
    where = "faithfulness"
    check_draws(where, seed, resamples)
    check_count(where, "n_neighbors", n_neighbors, 1)
    if not isinstance(features, Anchored):
        features, coords = check_pair(where, features, coords, 4)
        _check_size(where, n_neighbors, len(coords))
        features = anchored(features, anchors=anchors, pairs=pairs, engine=engine, seed=seed)
    coords = _against(where, features, coords)
    n = len(coords)
    _check_size(where, n_neighbors, n)
    inside = rank(coords, features.anchors, engine)
    counts = _count(features.ranks, inside, n_neighbors, engine)
    scale = 2 / (n_neighbors * (2 * n - 3 * n_neighbors - 1))
    gains, by_chance = _gains(n)
    scores = Scores(
        1 - scale * counts.trust_lost,
        1 - scale * counts.continuity_lost,
        counts.areas - by_chance,
    )
    bear = rank_influences(features.ranks, inside, features.anchors, scores, n_neighbors, gains, seed)
    trust, continuity = (
        jackknife_estimate(own.mean(), influences, 0, 1)
        for own, influences in zip(scores[:2], bear[:2], strict=True)
    )
    kept = counts.within[:, np.searchsorted(_sizes(n, n_neighbors), n_neighbors)].mean() / n_neighbors
    shares = kept_in_halves(features.ranks, inside, features.anchors, n_neighbors, HALVES, seed)
    area = jackknife_estimate(scores.area.mean(), bear.area, -1, 1)
    return Faithfulness(
        trust,
        continuity,
        half_estimate(kept, shares, 0, 1),
        _spearman(features, coords),
        _co_ranking(counts, n, n_neighbors, area, resamples, seed),
        n_neighbors,
        features.anchors,
        scores.trustworthiness,
        scores.continuity,
    )


def trustworthiness(
    features: np.ndarray | Anchored, coords: np.ndarray, n_neighbors: int = 10, **settings
) -> Estimate:
    """Whether an embedding's neighbours are neighbours in the space (Venna & Kaski 2001); 0 to 1, 1 is best.

    Arguments and errors as of `faithfulness`, which gives this and more at the same price.
    """
    return faithfulness(features, coords, n_neighbors, **settings).trustworthiness


def continuity(
    features: np.ndarray | Anchored, coords: np.ndarray, n_neighbors: int = 10, **settings
) -> Estimate:
    """Whether the space's neighbours are the embedding's (Venna & Kaski 2001, 2006); 0 to 1, 1 is best.

    Trustworthiness with the spaces exchanged. Arguments and errors as of `faithfulness`.
    """
    return faithfulness(features, coords, n_neighbors, **settings).continuity


def co_ranking(features: np.ndarray | Anchored, coords: np.ndarray, **settings) -> CoRanking:
    """Agreement of neighbourhoods of every size. Arguments and errors as of `faithfulness`."""
    return faithfulness(features, coords, 1, **settings).co_ranking


def shepard_correlation(
    features: np.ndarray | Anchored, coords: np.ndarray, *, pairs: int = 100_000, seed: int = 0
) -> Estimate:
    """Spearman correlation of the distances of random pairs in both spaces (Shepard 1962); -1 to 1, best 1.

    The interval is the infinitesimal jackknife's, made robust for pairs that share a point (Fafchamps &
    Gubert 2007, J. Dev. Econ. 83:326). `features` as of `faithfulness`; others as of `anchored`.
    """
    where = "Shepard correlation"
    if not isinstance(features, Anchored):
        features, coords = check_pair(where, features, coords, 4)
        features = anchored(features, anchors=1, pairs=pairs, seed=seed)
    return _spearman(features, _against(where, features, coords))


def _against(where: str, features: Anchored, coords: np.ndarray) -> np.ndarray:
    coords, n = check_values(where, coords, 4), features.ranks.shape[1]
    if len(coords) != n:
        raise JaxtlError(
            f"{where}: ranks of {n} rows against {len(coords)}; give the same points, in one order"
        )
    return coords


def _check_size(where: str, k: int, n: int) -> None:
    # Beyond, the worst case by which the penalties are divided is another.
    if not 1 <= k < n / 2:
        raise JaxtlError(
            f"{where}: n_neighbors must be at least 1 and less than half of the {n} rows, got {k}"
        )


class _Counts(NamedTuple):
    """What is counted in ranks in a space and in its embedding, of each anchor.

    Attributes:
        trust_lost: how far beyond k the space's ranks of the embedding's k nearest are, in all; int64 [m].
        continuity_lost: the same with the spaces exchanged.
        within: others in both neighbourhoods of each of `_sizes`; int64 [m, s].
        areas: sum of the gains of all larger ranks, float64 [m].
    """

    trust_lost: np.ndarray
    continuity_lost: np.ndarray
    within: np.ndarray
    areas: np.ndarray


def _count(outside: np.ndarray, inside: np.ndarray, k: int, engine: str) -> _Counts:
    """Of ranks in the space [m, n] and in the embedding [m, n]."""
    m, n = outside.shape
    sizes, gains = _sizes(n, k), _gains(n)[0]
    if engine_for(engine, m * n, 4 * outside.nbytes) == "jax":
        from jaxtl.metrics import device

        return _Counts(*device.agreement(outside, inside, k, sizes, gains))
    totals = _Counts(*np.empty((2, m), np.int64), np.empty((m, len(sizes)), np.int64), np.empty(m))
    # Bin of the least size that takes a pair in; the anchor itself, rank 0, is in none.
    bins = np.searchsorted(sizes, np.arange(n))
    bins[0] = len(sizes)

    def fill(rows: slice) -> None:
        there, here = outside[rows], inside[rows]
        totals.trust_lost[rows] = _beyond(there, here, k)
        totals.continuity_lost[rows] = _beyond(here, there, k)
        # A pair is in both neighbourhoods of k from its larger rank on.
        worse = np.maximum(there, here)
        totals.areas[rows] = gains[worse].sum(axis=1)
        places = bins[worse] + (len(sizes) + 1) * np.arange(len(worse))[:, None]
        counts = np.bincount(places.ravel(), minlength=len(worse) * (len(sizes) + 1))
        totals.within[rows] = counts.reshape(len(worse), -1)[:, :-1].cumsum(axis=1)

    share(fill, list(_blocks(outside)))
    return totals


def _beyond(there: np.ndarray, here: np.ndarray, k: int) -> np.ndarray:
    # Each anchor's k nearest, and itself, of rank 0 in both.
    ranks = there[here <= k].reshape(-1, k + 1).astype(np.int64)
    return np.maximum(ranks - k, 0).sum(axis=1)


def _sizes(n: int, k: int) -> np.ndarray:
    """About log-spaced, k among them."""
    return np.unique([*np.geomspace(1, n - 2, 100).round().astype(int), k])


def _co_ranking(counts: _Counts, n: int, k: int, area: Estimate, resamples: int, seed: int) -> CoRanking:
    sizes = _sizes(n, k)
    q = mean_estimate(counts.within / sizes, resamples, seed)
    r = Estimate(*(((n - 1) * part - sizes) / (n - 1 - sizes) for part in q))
    return CoRanking(sizes, q, r, area)


def _gains(n: int) -> tuple[np.ndarray, float]:
    """What a pair of larger rank 0 to n - 1 adds to the area under R_NX, and what chance takes off.

    R_NX(k) = ((n - 1) c(k) / k - k) / (n - 1 - k) for c(k) pairs of larger rank up to k.
    """
    k = np.arange(1, n - 1)
    total = np.sum(1 / k)
    gain = (n - 1) / (k**2.0 * (n - 1 - k)) / total
    gains = np.zeros(n)
    gains[1 : n - 1] = gain[::-1].cumsum()[::-1]
    return gains, float(np.sum(1 / (n - 1 - k)) / total)


def _spearman(features: Anchored, coords: np.ndarray) -> Estimate:
    from scipy.stats import rankdata

    count = len(features.pairs)
    # Mid-ranks as shares: distribution functions at each pair.
    x, y = ((rankdata(d) - 0.5) / count for d in (features.distances, pair_distances(coords, features.pairs)))
    if min(x.std(), y.std()) == 0:
        raise JaxtlError("Shepard correlation: all distances are equal; give more points, not copies of one")
    value = np.corrcoef(x, y)[0, 1]
    # Derivative of the correlation with respect to a pair's weight: its own part, and how it moves the ranks
    # of all others.
    own = (x - 0.5) * (y - 0.5)
    influence = (own + _mean_above(x, y - 0.5) + _mean_above(y, x - 0.5)) / (x.std() * y.std())
    influence -= influence.mean()
    per_point = sum(np.bincount(side, influence, len(coords)) for side in features.pairs.T)
    apart = np.sum(influence**2)
    # With few points the estimate may fall below that of pairs that share none, which is the least there is.
    error = np.sqrt(max(np.sum(per_point**2) - apart, apart)) / count
    return normal_estimate(value, error, least=-1.0, most=1.0)


def _mean_above(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over all pairs of their weight where their x is larger, ties by half: float64 [p]."""
    order = np.argsort(x, kind="stable")
    ahead = np.concatenate([[0.0], np.cumsum(weights[order])])
    first, last = np.searchsorted(x[order], x), np.searchsorted(x[order], x, side="right")
    return (ahead[-1] - (ahead[first] + ahead[last]) / 2) / len(x)


def _blocks(ranks: np.ndarray) -> Iterator[slice]:
    step = max(1, BLOCK // ranks.shape[1])
    for start in range(0, len(ranks), step):
        yield slice(start, start + step)
