"""What the neighbours of a point say about its class. Neighbours are found once, by whoever needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.metrics.checks import (
    check_count,
    check_draws,
    check_labels,
    check_neighbors,
    check_values,
    known_labels,
)
from jaxtl.metrics.estimates import (
    HALVES,
    SPARE,
    Estimate,
    class_estimates,
    half_estimate,
    half_samples,
    independent,
    mean_estimate,
    share_estimate,
)
from jaxtl.records.arrays import Neighbors

_Vote = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Classified:
    """What a classifier makes of points whose class is known; higher is better.

    Attributes:
        accuracy: share of points put into their own class, 0 to 1.
        per_class: the same among the points of each of `classes`.
        classes: int [C], the labels that occur, ascending.
        predicted: int [n].
        correct: bool [n].
        halves: int32 [2, r, C], where points classify each other: how many points of each class are right
            among r random halves of the points, and how many there are.
    """

    accuracy: Estimate
    per_class: tuple[Estimate, ...]
    classes: np.ndarray
    predicted: np.ndarray
    correct: np.ndarray
    halves: np.ndarray | None = None


@dataclass(frozen=True)
class NeighborhoodHit:
    """How much of a point's neighbourhood is of its own class; higher is better.

    Attributes:
        mean: of `scores`, 0 to 1.
        per_class: the mean among the points of each of `classes`.
        classes: int [C], ascending.
        scores: float64 [n], share of each point's k neighbours that have its label.
    """

    mean: Estimate
    per_class: tuple[Estimate, ...]
    classes: np.ndarray
    scores: np.ndarray


def leave_one_out_knn(
    neighbors: Neighbors,
    labels: np.ndarray,
    n_neighbors: int | None = None,
    *,
    halves: int = HALVES,
    seed: int = 0,
) -> Classified:
    """Each point classified by the majority among its k nearest others.

    Of classes with equally many votes the one with the nearest neighbour wins (scikit-learn takes the least
    label instead, so that its figure depends on how classes are numbered).

    Args:
        neighbors: from `jaxtl.neighbors.exact_neighbors(values, k)`, or three times k, which serve the
            interval better; more than those change nothing.
        labels: int [n].
        n_neighbors: the first so many of the neighbours; all of them by default.
        halves: of the points, in which those that are left of all neighbours vote anew, k at most.
        seed: of the halves.

    Raises:
        JaxtlError: fewer than two classes, fewer neighbours than asked for, or labels of another number.
    """
    where = "leave-one-out k-NN"
    check_draws(where, seed, halves=halves)
    indices, (classes, members) = _checked(where, neighbors, labels, n_neighbors)
    predicted = vote(members[indices], len(classes))
    scored = classified(predicted, members, classes, 1, seed)
    return with_halves(scored, neighbors.indices, members, indices.shape[1], vote, halves, seed)


def train_to_test_knn(
    train_values: np.ndarray,
    train_labels: np.ndarray,
    test_values: np.ndarray,
    test_labels: np.ndarray,
    n_neighbors: int = 10,
    *,
    engine: str = "auto",
    resamples: int = 1000,
    seed: int = 0,
) -> Classified:
    """Test points classified by the majority among their k nearest training points; ties as above.

    Args:
        train_values, test_values: [n, d] and [m, d], finite.
        train_labels, test_labels: int [n] and [m]; a test class without training points is never right.
        engine: of the search, as in `jaxtl.neighbors.exact_neighbors`.

    Raises:
        JaxtlError: k beyond n, other shapes, or values that are not finite.
    """
    from jaxtl.neighbors import nearest_rows

    where = "k-NN from training to test points"
    train_values, test_values, classes, train, test = check_split(
        where, train_values, train_labels, test_values, test_labels
    )
    check_draws(where, seed, resamples)
    check_count(where, "n_neighbors", n_neighbors, 1)
    if n_neighbors > len(train):
        raise JaxtlError(f"{where}: n_neighbors must be 1 to {len(train)}, got {n_neighbors}")
    indices = nearest_rows(train_values, test_values, n_neighbors, engine=engine).indices
    return classified(vote(train[indices], len(classes)), test, classes, resamples, seed)


def neighborhood_hit(
    neighbors: Neighbors,
    labels: np.ndarray,
    n_neighbors: int | None = None,
    *,
    halves: int = HALVES,
    seed: int = 0,
) -> NeighborhoodHit:
    """Mean share of neighbours that have a point's own label (Paulovich et al. 2008, IEEE TVCG 14(3):564).

    Arguments and errors as of `leave_one_out_knn`. By chance it is the sum of squares of the classes'
    shares.
    """
    where = "neighbourhood hit"
    check_draws(where, seed, halves=halves)
    indices, (classes, members) = _checked(where, neighbors, labels, n_neighbors)
    k, n_classes = indices.shape[1], len(classes)
    scores = (members[indices] == members[:, None]).mean(axis=1)
    means = np.empty((halves, n_classes + 1))
    for half, (rows, ballots) in enumerate(_halved(neighbors.indices, members, k, n_classes, halves, seed)):
        voters = np.maximum((ballots < n_classes).sum(axis=1), 1)
        own = (ballots == members[rows, None]).sum(axis=1) / voters
        means[half] = _by_class(own, members[rows], n_classes)
    shares = np.bincount(members, scores, n_classes) / np.bincount(members, minlength=n_classes)
    per_class = tuple(half_estimate(*pair, 0, 1) for pair in zip(shares, means.T, strict=False))
    return NeighborhoodHit(half_estimate(scores.mean(), means[:, -1], 0, 1), per_class, classes, scores)


def neighbor_confusion(
    neighbors: Neighbors,
    labels: np.ndarray,
    n_classes: int,
    n_neighbors: int | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Share of class j among the neighbours of the points of class i.

    Args:
        labels: int [n] in range(n_classes), of at least one class; others as of `leave_one_out_knn`.

    Returns:
        Estimate of float64 [C, C]; rows add up to 1, those of classes without points are 0.
    """
    where = "neighbour confusion"
    check_draws(where, seed, resamples)
    check_count(where, "n_classes", n_classes, 1)
    indices, _ = _checked(where, neighbors, labels, n_neighbors, least=1)
    labels = known_labels(where, labels, len(indices))
    if labels.dtype.kind == "U":
        raise JaxtlError(f"{where}: labels must be whole numbers 0 to {n_classes - 1}, got texts")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise JaxtlError(
            f"{where}: labels must be 0 to {n_classes - 1}, found {labels.min()} and {labels.max()}"
        )
    shares = votes(labels[indices], n_classes) / indices.shape[1]
    table = np.zeros((3, n_classes, n_classes))
    for c in np.unique(labels):
        table[:, c] = mean_estimate(shares[labels == c], resamples, seed)
    return Estimate(*table)


def classified(
    predicted: np.ndarray, members: np.ndarray, classes: np.ndarray, resamples: int, seed: int
) -> Classified:
    """Scores of predictions; both given as places in `classes`, which may hold some that never occur."""
    correct = predicted == members
    seen, dense = np.unique(members, return_inverse=True)
    per_class = class_estimates(correct, dense, len(seen), resamples, seed)
    accuracy = share_estimate(correct, resamples, seed)
    return Classified(accuracy, per_class, classes[seen], classes[predicted], correct)


def with_halves(
    scored: Classified,
    nearest: np.ndarray,
    members: np.ndarray,
    k: int,
    decide: _Vote,
    halves: int,
    seed: int,
    fold_of: np.ndarray | None = None,
) -> Classified:
    """`scored` with the intervals that halves of the points give, which classify each other.

    Args:
        nearest: int [n, k or more], nearest first.
        members: int [n], places in all classes, each of which occurs.
        decide: from the classes of voters int [m, k] and their number, which itself stands for nobody, to int
            [m].
        fold_of: int [n], where points of one fold do not vote on each other.
    """
    n_classes = len(scored.classes)
    counts = np.zeros((2, halves, n_classes), np.int32)
    for half, (rows, ballots) in enumerate(_halved(nearest, members, k, n_classes, halves, seed, fold_of)):
        correct = decide(ballots, n_classes) == members[rows]
        counts[0, half] = np.bincount(members[rows], correct, n_classes)
        counts[1, half] = np.bincount(members[rows], minlength=n_classes)
    with np.errstate(invalid="ignore"):
        shares = counts[0] / counts[1]
    per_class = tuple(
        independent(half_estimate(estimate.value, own, 0, 1), n)
        for estimate, own, n in zip(scored.per_class, shares.T, np.bincount(members), strict=True)
    )
    means = counts[0].sum(axis=1) / np.maximum(counts[1].sum(axis=1), 1)
    accuracy = independent(half_estimate(scored.accuracy.value, means, 0, 1), len(members))
    return replace(scored, accuracy=accuracy, per_class=per_class, halves=counts)


def _halved(
    nearest: np.ndarray,
    members: np.ndarray,
    k: int,
    n_classes: int,
    halves: int,
    seed: int,
    fold_of: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows [h] of each half of the points and the classes of their voters in it [h, k], nearest first.

    Where fewer than k of the neighbours that are known are in the half, the class of the others is C.
    """
    n, nearest = len(members), nearest[:, : SPARE * k]
    classes = members[nearest]
    for rows in half_samples(n, halves, seed):
        inside = np.zeros(n, bool)
        inside[rows] = True
        known = nearest[rows]
        asked = inside[known]
        if fold_of is not None:
            asked &= fold_of[known] != fold_of[rows, None]
        place = asked.cumsum(axis=1, dtype=np.int32)
        asked &= place <= k
        ballots = np.full((len(rows), k), n_classes)
        # Row by row, and in each row the nearest first, on both sides.
        ballots[np.arange(k) < place[:, -1:]] = classes[rows][asked]
        yield rows, ballots


def _by_class(scores: np.ndarray, members: np.ndarray, n_classes: int) -> np.ndarray:
    """The mean of each class, NaN of one that is not there, and that of all: float64 [C + 1]."""
    sums, counts = np.bincount(members, scores, n_classes), np.bincount(members, minlength=n_classes)
    with np.errstate(invalid="ignore"):
        return np.append(sums / counts, scores.mean() if len(scores) else np.nan)


def check_split(
    where: str,
    train_values: np.ndarray,
    train_labels: np.ndarray,
    test_values: np.ndarray,
    test_labels: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Both values, all classes [C], and the places of both labels among them."""
    train_values, test_values = check_values(where, train_values), check_values(where, test_values, 1)
    if train_values.shape[1] != test_values.shape[1]:
        raise JaxtlError(
            f"{where}: training points have {train_values.shape[1]} dimensions and test points "
            f"{test_values.shape[1]}; give values of the same space"
        )
    check_labels(where, train_labels, len(train_values))
    check_labels(where, test_labels, len(test_values), least=1)
    both = [
        known_labels(where, labels, len(values))
        for labels, values in ((train_labels, train_values), (test_labels, test_values))
    ]
    if len({labels.dtype.kind == "U" for labels in both}) > 1:
        raise JaxtlError(f"{where}: labels are numbers here and texts there; give the same kind")
    classes, members = np.unique(np.concatenate(both), return_inverse=True)
    return train_values, test_values, classes, *np.split(members, [len(train_values)])


def _checked(
    where: str, neighbors: Neighbors, labels: np.ndarray, n_neighbors: int | None, least: int = 2
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    n, k = check_neighbors(where, neighbors).indices.shape
    wanted = k if n_neighbors is None else n_neighbors
    check_count(where, "n_neighbors", wanted, 1)
    if wanted > k:
        raise JaxtlError(f"{where}: n_neighbors must be 1 to the {k} that were found, got {n_neighbors}")
    return neighbors.indices[:, :wanted], check_labels(where, labels, n, least)


def votes(ballots: np.ndarray, n_classes: int) -> np.ndarray:
    """How many of each row's neighbours, given as their classes [n, k], each class has: [n, C].

    A class of C stands for nobody.
    """
    places = ballots + (n_classes + 1) * np.arange(len(ballots))[:, None]
    counts = np.bincount(places.ravel(), minlength=len(ballots) * (n_classes + 1))
    return counts.reshape(-1, n_classes + 1)[:, :n_classes]


def vote(ballots: np.ndarray, n_classes: int) -> np.ndarray:
    """The class int [n] that most ballots [n, k], the nearest first, are for; C where there are none."""
    counts = np.pad(votes(ballots, n_classes), ((0, 0), (0, 1)))
    # argmax takes the first, that is the nearest, of those whose class has most votes.
    first = np.take_along_axis(counts, ballots, axis=1).argmax(axis=1)
    return ballots[np.arange(len(ballots)), first]
