"""Embeddings of any coordinates, classes and names are drawn and saved, or refused in one line."""

import random

import numpy as np
import pytest

import jaxtl
from jaxtl.plots.maps import comparison_figure, embedding_figure
from jaxtl.plots.style import save
from tests.faults.mutations import TEXTS
from tests.faults.outcomes import Tally
from tests.faults.spaces import KINDS, made

SUFFIXES = ("png", "svg", "pdf")
CLASSES = ("few", "one", "own", "rare", "names", "far", "none")
EXPONENTS = (0, 0, -30, -20, 5, 18, 28, 37)
METHODS = ("pca", "tsne", "lle", "isomap", "", "$x_{$", "a\nb")


def draw(number, folder):
    """The picture of one embedding, the same for the same number."""
    rng = random.Random(number)
    how = rng.choice(CLASSES)
    space = made(
        number,
        rng.choice((1, 2, 3, 10, 40, 300)),
        rng.choice((2, 2, 2, 2, 1, 3)),
        rng.choice(KINDS),
        rng.choice(EXPONENTS),
        rng.choice((np.float32, np.float64)),
        "few" if how == "none" else how,
    )
    labels = None if how == "none" else np.unique(space.labels, return_inverse=True)[1]
    names = [str(rng.choice(TEXTS)) for _ in range(1 if labels is None else labels.max() + 1)]
    with np.errstate(over="ignore"):
        coords = space.values.astype(np.float32)
    embedding = jaxtl.Embedding(
        coords,
        labels,
        method=rng.choice(METHODS),
        params={"perplexity": 5.0, "landmarks": rng.choice((None, 3))},
        diagnostics=rng.choice(
            ({}, {"explained_variance_ratio": [0.5, 0.1]}, {"explained_variance_ratio": [1e-30, 0]})
        ),
        meta=rng.choice(({}, {"class_names": names}, {"class_names": names, "stage": "before"})),
    )
    width = rng.choice((None, None, "one", "two", 40, 300))
    title = rng.choice((None, str(rng.choice(TEXTS))))
    if number % 3:
        figure = embedding_figure(embedding, rng.choice((None, 0.0, 1.0)), title, width)
    else:
        figure = comparison_figure([embedding], [embedding], width=width)
    save(figure, folder / f"{number}.{SUFFIXES[number % len(SUFFIXES)]}")


def fuzz(numbers, folder):
    tally = Tally()
    with np.errstate(all="raise", under="ignore"):
        for number in numbers:
            tally.attempt(lambda number=number: draw(number, folder), f"picture {number}")
    return tally


def test_pictures_of_odd_embeddings(tmp_path):
    tally = fuzz(range(5), tmp_path)
    assert not tally.counts["failed"], str(tally)


@pytest.mark.slow
def test_hundreds_of_pictures(tmp_path):
    tally = fuzz(range(400), tmp_path)
    print(f"\nPictures: {tally}")
    assert not tally.counts["failed"], str(tally)
