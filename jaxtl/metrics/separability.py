"""How well a space keeps the classes apart."""

from __future__ import annotations

import warnings

import numpy as np

from jaxtl.errors import JaxtlError


def knn_accuracy(
    values: np.ndarray, labels: np.ndarray, n_neighbors: int = 10, folds: int = 5
) -> tuple[float, np.ndarray]:
    """Accuracy of a k-nearest-neighbour classifier under stratified cross-validation.

    The folds are stratified and taken in the order of the rows, without shuffling: the very figures of
    scikit-learn's `cross_val_score(KNeighborsClassifier(k), values, labels, cv=folds)`. Nothing is
    random, so there is no seed. Majority vote, Euclidean distance, exact neighbours. Members of a class
    with fewer than `folds` members count too; a class of one can never be recognised.

    Args:
        values: [n, d], finite: features or a map.
        labels: int [n].
        n_neighbors: k, at least 1.
        folds: at least 2.

    Returns:
        The mean over the folds and each fold's accuracy, float64 [folds]; 0 to 1.

    Raises:
        JaxtlError: fewer than two classes, too few rows for k or the folds, or values that are not finite.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    values, labels = np.asarray(values), np.asarray(labels)
    check_knn(values, labels, n_neighbors, folds)
    with warnings.catch_warnings():
        # A rare class is no fault here: the docstring says what becomes of it.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        classifier = KNeighborsClassifier(n_neighbors, n_jobs=-1)
        scores = cross_val_score(classifier, values, labels, cv=StratifiedKFold(folds))
    return float(scores.mean()), scores


def check_knn(values: np.ndarray, labels: np.ndarray, n_neighbors: int = 10, folds: int = 5) -> None:
    """Raises JaxtlError where `knn_accuracy` would."""
    where = f"{n_neighbors}-NN accuracy in {folds} folds"
    n = len(values)
    if values.ndim != 2 or labels.shape != (n,):
        raise JaxtlError(
            f"{where}: values must be [n, d] and labels [n], got {list(values.shape)} and "
            f"{list(labels.shape)}"
        )
    if n_neighbors < 1 or folds < 2:
        raise JaxtlError(f"{where}: needs at least 1 neighbour and 2 folds")
    members = np.unique(labels, return_counts=True)[1]
    if len(members) < 2:
        raise JaxtlError(
            f"{where}: the {n} labels hold {len(members)} class; it needs at least two: give more images"
        )
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
    if not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
        raise JaxtlError(
            f"{where}: NaN or infinite values in {len(rows)} of {n} rows, the first in row {rows[0]}; "
            "drop these rows or compute the values again"
        )
