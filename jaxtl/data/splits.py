"""Which images are for training and which for testing: by the names of splits, or by a share of each
class."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.settings import Selection

# Of each class, where a set has no test images and no share is given.
TEST_SHARE = 0.2

_ROLES = {
    **dict.fromkeys(("train", "training", "trainset", "trainingset", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "testset", "tst"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "validationset", "valset", "dev"), "validation"),
}


@dataclass(frozen=True)
class Chosen:
    """The splits of a set that are taken.

    Attributes:
        train: name of the split with training images.
        test: name of the one with test images; None where `train` is divided.
        notes: what is worth telling.
    """

    train: str
    test: str | None
    notes: tuple[str, ...] = ()


def role_of(name: str) -> str | None:
    """What a split is for by its name: "train", "test" or "validation"; None where the name does not say."""
    return _ROLES.get(re.sub(r"[\W_]+|\d+$", "", name.lower()))


def choose(where: str, names: Sequence[str], selection: Selection) -> Chosen:
    """The splits to take of those that a set has.

    Args:
        where: the set, for messages.
        names: of its splits, in any order.
        selection: whose `train_split` and `test_split` come first.

    Raises:
        JaxtlError: no split has the name that is asked for, none is for training, two could be, or a share is
            asked of a set that has test images.
    """
    train = _named(where, names, selection.train_split, "train")
    if train is None and len(names) == 1:
        train = names[0]
    if train is None:
        raise JaxtlError(
            f"{where}: has no training images; its splits are {', '.join(names)}: name one with --train-split"
        )
    others = [name for name in names if name != train]
    test = _named(where, others if selection.test_split is None else names, selection.test_split, "test")
    validation = _named(where, others, None, "validation") if selection.test_split is None else None
    notes = []
    if test and validation:
        notes.append(
            f"test images are those of {test}, not of {validation} (--test-split {validation} takes those)"
        )
    test = test or validation
    if test == train:
        raise JaxtlError(
            f"{where}: {train} cannot be both training and test images; leave --test-split out to divide it"
        )
    if test and selection.test_share is not None:
        raise JaxtlError(f"{where}: has test images of its own ({test}); leave out --test-share")
    if test and role_of(test) == "validation":
        notes.append(f"{test} serves as test images")
    return Chosen(train, test, tuple(notes))


def _named(where: str, names: Sequence[str], wanted: str | None, role: str) -> str | None:
    if wanted is not None:
        if wanted not in names:
            raise JaxtlError(f"{where}: has no split {wanted}; it has {', '.join(names) or 'none'}")
        return wanted
    able = [name for name in names if role_of(name) == role]
    if len(able) > 1:
        raise JaxtlError(
            f"{where}: {' and '.join(able)} could all be the {role} images; name one with "
            f"--{'train' if role == 'train' else 'test'}-split"
        )
    return able[0] if able else None


def divided(labels: np.ndarray, keys: Sequence[str] | None, selection: Selection) -> np.ndarray:
    """Which images are test images where a set is divided: a share of each class.

    An image's place follows from the seed and from what it is called, or from its row where it has no name:
    it stays where it is when others of its class come or go, but for those at the border. A class with two
    images or more has at least one on either side; a class with one image has it for training.

    Args:
        labels: int [n], classes.
        keys: what each image is called, or None.
        selection: with `test_share` (None: 0.2) and `split_seed`.

    Returns:
        bool [n].
    """
    share = TEST_SHARE if selection.test_share is None else selection.test_share
    drawn = np.array([_drawn(selection.split_seed, key) for key in keys or map(str, range(len(labels)))])
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        chosen[rows[np.argsort(drawn[rows], kind="stable")[:count]]] = True
    return chosen


def _drawn(seed: int, key: str) -> int:
    """A number that is fixed by seed and key, the same on all machines and with all versions."""
    digest = hashlib.blake2b(f"{seed}\n{key}".encode(), digest_size=7)
    return int.from_bytes(digest.digest())


def rule_of(selection: Selection) -> dict[str, object]:
    """How a set was divided, for its record."""
    share = TEST_SHARE if selection.test_share is None else selection.test_share
    return {"rule": "a share of each class", "test_share": share, "split_seed": selection.split_seed}


def told(selection: Selection) -> str:
    """How a set was divided, in one line."""
    rule = rule_of(selection)
    share = f"{rule['test_share']:.0%} of each class"
    return f"no test images of its own: {share} are set aside (--test-share, --split-seed)"


def evenly(labels: np.ndarray) -> np.ndarray:
    """An order in which any first n images hold each class's share; within a class, their own order."""
    share = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        share[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.lexsort((labels, share))
