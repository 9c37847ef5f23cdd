"""What chance gives with a set's classes, and the thresholds of claims that follow from it.

An accuracy of one half is poor for two classes and excellent for a hundred. What is asked of a set is
therefore asked of its odds: how much more often something is right than a guess would be.
"""

from __future__ import annotations

import numpy as np

# With ten equal classes a guess has odds of 1 to 9, and nine times that is an accuracy of one half:
# neighbours name the class of every second image. Two equal classes need 0.9, a hundred 0.083.
TIMES_THE_ODDS = 9
# Clusters found without labels are the classes but for few points.
_NEARLY_ALL = 0.8
_SHUFFLES = 10


def accuracy(labels: np.ndarray) -> float:
    """How often a guess is right that names each class as often as it occurs: the sum of squared shares.

    It is also how often a neighbour drawn at random is of an image's own class, and one divided by the
    number of classes where these are equally large.

    Args:
        labels: int [n].
    """
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(np.sum(shares**2))


def separates(labels: np.ndarray) -> float:
    """The accuracy above which a space does not separate the classes poorly, 0 to 1.

    There the odds of being right are `TIMES_THE_ODDS` times those of a guess. Always naming the largest class
    of two stays below it, however large that class is.
    """
    guessed = accuracy(labels)
    return TIMES_THE_ODDS * guessed / (1 + (TIMES_THE_ODDS - 1) * guessed)


def mutual_information(labels: np.ndarray) -> float:
    """Normalised mutual information of the classes and as many clusters that have nothing to do with them.

    It is not 0: many clusters of few points each share something with any classes (Vinh, Epps & Bailey
    2010, JMLR 11:2837). Here the clusters are the classes themselves, shuffled, so that sizes are theirs.
    """
    members = np.unique(labels, return_inverse=True)[1]
    rng = np.random.default_rng(0)
    return float(np.mean([_shared(members, rng.permutation(members)) for _ in range(_SHUFFLES)]))


def one_cluster_each(labels: np.ndarray) -> float:
    """The normalised mutual information above which clusters are the classes but for few points, 0 to 1."""
    by_chance = mutual_information(labels)
    return by_chance + _NEARLY_ALL * (1 - by_chance)


def _shared(one: np.ndarray, other: np.ndarray) -> float:
    """Normalised mutual information of two groupings with groups of the same sizes, at least two of them."""
    n, groups = len(one), int(one.max()) + 1
    pairs = np.unique(one * groups + other, return_counts=True)[1] / n
    own = np.bincount(one) / n
    entropy = -np.sum(own * np.log(own))
    return float((2 * entropy + np.sum(pairs * np.log(pairs))) / entropy)
