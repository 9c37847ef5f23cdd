"""How well a space keeps the classes apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from jaxtl.errors import JaxtlError
from jaxtl.machine.warned import ignoring
from jaxtl.metrics.checks import (
    check_count,
    check_draws,
    check_labels,
    check_neighbors,
    check_values,
    known_labels,
)
from jaxtl.metrics.estimates import HALVES
from jaxtl.metrics.voting import Classified, classified, votes, with_halves
from jaxtl.neighbors import nearest_rows
from jaxtl.neighbors.middle import steady
from jaxtl.records.arrays import Neighbors

# Of so many neighbours ten are nearly always outside a point's own fold of five.
KNN_CANDIDATES = 30


def knn_accuracy(
    values: ArrayLike, labels: ArrayLike | None, n_neighbors: int = 10, folds: int = 5
) -> tuple[float, np.ndarray]:
    """Accuracy of a k-nearest-neighbour classifier under stratified cross-validation.

    The folds are stratified and taken in the order of the rows, without shuffling: the very figures of
    scikit-learn's `cross_val_score(KNeighborsClassifier(k), values, labels, cv=folds)`. Nothing is
    random, so there is no seed. Majority vote, Euclidean distance, exact neighbours. Members of a class
    with fewer than `folds` members count too; a class of one can never be recognised.

    Args:
        values: [n, d], finite: features or an embedding, an array or lists.
        labels: whole numbers or names of classes [n].
        n_neighbors: k, at least 1.
        folds: at least 2.

    Returns:
        The mean over the folds and each fold's accuracy, float64 [folds]; 0 to 1.

    Raises:
        JaxtlError: fewer than two classes, or none known (None), too few rows for k or the folds, or values
            that are not finite.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    values, labels = check_knn(values, labels, n_neighbors, folds)
    # A rare class is no fault here: the docstring says what becomes of it.
    with ignoring("The least populated class", UserWarning):
        classifier = KNeighborsClassifier(n_neighbors, n_jobs=-1)
        scores = cross_val_score(classifier, steady(values), labels, cv=StratifiedKFold(folds))
    return float(scores.mean()), scores


def knn_cross_validated(
    values: np.ndarray,
    labels: np.ndarray,
    neighbors: Neighbors,
    n_neighbors: int = 10,
    folds: int = 5,
    *,
    halves: int = HALVES,
    seed: int = 0,
) -> Classified:
    """`knn_accuracy` from neighbours that are known, point by point and with an interval.

    The same figure but where neighbours at one distance differ in class. A point that has fewer than k of its
    neighbours outside its own fold is given those that it lacks by a search.

    Args:
        values, labels, n_neighbors, folds: as of `knn_accuracy`.
        neighbors: exact neighbours of `values`, more than k of each; `KNN_CANDIDATES` leave few to
            search for.
        halves, seed: as of `leave_one_out_knn`.

    Raises:
        JaxtlError: as `knn_accuracy`.
    """
    where = "k-NN accuracy"
    check_draws(where, seed, halves=halves)
    values, labels = check_knn(values, labels, n_neighbors, folds)
    if len(check_neighbors(where, neighbors).indices) != len(values):
        raise JaxtlError(
            f"{where}: neighbours of {len(neighbors.indices)} rows against {len(values)}; give the same rows"
        )
    classes, members = check_labels(where, labels, len(values))
    fold_of = _folds(members, folds)
    outside = fold_of[neighbors.indices] != fold_of[:, None]
    outside &= outside.cumsum(axis=1) <= n_neighbors
    enough = outside.sum(axis=1) == n_neighbors
    voters = np.empty((len(values), n_neighbors), np.int32)
    voters[enough] = neighbors.indices[enough][outside[enough]].reshape(-1, n_neighbors)
    for fold in np.unique(fold_of[~enough]):
        rows, others = np.flatnonzero(~enough & (fold_of == fold)), np.flatnonzero(fold_of != fold)
        # They are few, and of another number each time: on a device each would be a program of its own.
        nearest = nearest_rows(values[others], values[rows], n_neighbors, engine="cpu").indices
        voters[rows] = others[nearest]
    scored = classified(_least_label(members[voters], len(classes)), members, classes, 1, seed)
    mean = np.mean([scored.correct[fold_of == fold].mean() for fold in range(folds)])
    scored = replace(scored, accuracy=scored.accuracy._replace(value=float(mean)))
    nearest = neighbors.indices
    return with_halves(scored, nearest, members, n_neighbors, _least_label, halves, seed, fold_of)


def _least_label(ballots: np.ndarray, n_classes: int) -> np.ndarray:
    # As scikit-learn does, of classes with equally many votes the least.
    return votes(ballots, n_classes).argmax(axis=1)


def _folds(members: np.ndarray, folds: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedKFold

    fold_of = np.empty(len(members), int)
    # A rare class is no fault: see `knn_accuracy`.
    with ignoring("The least populated class", UserWarning):
        for fold, (_, held) in enumerate(StratifiedKFold(folds).split(members, members)):
            fold_of[held] = fold
    return fold_of


def check_knn(
    values: ArrayLike, labels: ArrayLike | None, n_neighbors: int = 10, folds: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Values [n, d] and labels [n] as arrays. Raises JaxtlError where `knn_accuracy` would."""
    where = f"{n_neighbors}-NN accuracy in {folds} folds"
    check_count("k-NN accuracy", "n_neighbors", n_neighbors, 1)
    check_count("k-NN accuracy", "folds", folds, 2)
    values = check_values(where, values, 1)
    n = len(values)
    labels = known_labels(where, labels, n)
    members = np.unique(check_labels(where, labels, n)[1], return_counts=True)[1]
    if members.max() < folds:
        raise JaxtlError(
            f"{where}: the largest class has {members.max()} members; give more images or take fewer folds"
        )
    smallest_training_part = n - -(-n // folds)
    if smallest_training_part < n_neighbors:
        raise JaxtlError(
            f"{where}: {n} rows leave {smallest_training_part} to train on, fewer than {n_neighbors} "
            "neighbours; give more images or take fewer neighbours"
        )
    return values, labels
