"""What chance gives with a set's classes, and the thresholds of claims that follow from it.

An accuracy of one half is poor for two classes and excellent for a hundred. What is asked of a set is
therefore asked of its odds: how much more often something is right than a guess would be.
"""

from __future__ import annotations

import numpy as np

# With ten equal classes a guess has odds of 1 to 9, and nine times that is an accuracy of one half:
# neighbours name the class of every second image. Two equal classes need 0.9, a hundred 0.083.
TIMES_THE_ODDS = 9
# Of classes and clusters so many are pairs, beyond chance.
_NEARLY_ALL = 0.8


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


def one_cluster_each_by_chance(labels: np.ndarray) -> float:
    """The share of classes and clusters that pair by chance, 0 to 1, where as many clusters are as large.

    Of a class with the share s of all images, clusters of that size that have nothing to do with it hold s of
    it, which is s / (2 - s) of both together: more than half, and so a pair, where s is above two thirds.
    """
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(np.mean(shares / (2 - shares) > 0.5))


def one_cluster_each(labels: np.ndarray) -> float:
    """The share of classes and clusters in pairs above which each class is a cluster but for few, 0 to 1."""
    by_chance = one_cluster_each_by_chance(labels)
    return by_chance + _NEARLY_ALL * (1 - by_chance)
