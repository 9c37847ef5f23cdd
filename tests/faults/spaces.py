"""Spaces at the edges of what anybody gives: magnitudes, copies, outliers, few rows, many dimensions."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

ROWS = (1, 2, 3, 4, 5, 6, 10, 11, 12, 21, 24, 40)
COLUMNS = (1, 2, 3, 4, 7, 16, 40)


class Space(NamedTuple):
    """Values [n, d], classes [n], and the name of what is odd about the values."""

    values: np.ndarray
    labels: np.ndarray
    kind: str

    def __repr__(self):
        n, d = self.values.shape
        return f"{self.kind} {self.values.dtype} [{n}, {d}], {len(set(self.labels.tolist()))} classes"


def ordinary(rng, n, d):
    return rng.normal(size=(n, d))


def copies(rng, n, d):
    return rng.normal(size=(max(1, n // 4), d))[rng.integers(max(1, n // 4), size=n)]


def two_rows(rng, n, d):
    return rng.normal(size=(2, d))[np.arange(n) % 2]


def one_row(rng, n, d):
    return np.repeat(rng.normal(size=(1, d)), n, axis=0)


def zeros(rng, n, d):
    return np.zeros((n, d))


def outlier(rng, n, d):
    values = rng.normal(size=(n, d))
    values[rng.integers(n)] *= 1e10
    return values


def near_outlier(rng, n, d):
    values = rng.normal(size=(n, d))
    values[rng.integers(n)] *= 1e4
    return values


def far_groups(rng, n, d):
    return rng.normal(size=(n, d)) + 1e9 * (np.arange(n) % 2)[:, None]


def three_scales(rng, n, d):
    return rng.normal(size=(n, d)) * 10.0 ** rng.choice([-8, 0, 8], size=(n, 1))


def offset(rng, n, d):
    return rng.normal(size=(n, d)) + 1e6


def lattice(rng, n, d):
    return rng.integers(3, size=(n, d)).astype(float)


def one_column(rng, n, d):
    values = np.zeros((n, d))
    values[:, rng.integers(d)] = rng.normal(size=n)
    return values


def uneven_columns(rng, n, d):
    return rng.normal(size=(n, d)) * 10.0 ** rng.integers(-12, 13, size=d)


def active(rng, n, d):
    return rng.normal(size=(n, d)).clip(0)


def line(rng, n, d):
    return rng.normal(size=(n, 1)) * rng.normal(size=(1, d))


def infinite(rng, n, d):
    """Not all of them can be measured: whoever computes with these refuses them."""
    values = rng.normal(size=(n, d))
    values[rng.integers(n), 0] = rng.choice([np.inf, -np.inf, np.nan])
    return values


# All of them finite; `infinite` has tests of its own.
KINDS = (
    ordinary,
    copies,
    two_rows,
    one_row,
    zeros,
    outlier,
    near_outlier,
    far_groups,
    three_scales,
    offset,
    lattice,
    one_column,
    uneven_columns,
    active,
    line,
)


def classes(rng, n, how):
    """Labels [n]: a few classes, one, one for each row, a rare one, or names."""
    few = rng.integers(min(n, 3), size=n)
    return {
        "few": few,
        "one": np.zeros(n, int),
        "own": np.arange(n),
        "rare": np.minimum(np.arange(n), 1),
        "names": np.array(["a", "bb", "c"])[few],
        "far": few * 10**12 - 5,
    }[how]


def made(seed, n, d, kind, exponent, dtype, how):
    """A space; its magnitude is about 10 ** exponent, or the largest that records hold, which are float32."""
    rng = np.random.default_rng(seed)
    values = kind(rng, n, d) * 10.0**exponent
    largest, most = np.abs(values[np.isfinite(values)]).max(initial=0), float(np.finfo(np.float32).max) / 2
    if largest > most:
        values *= most / largest
    return Space(values.astype(dtype), classes(rng, n, how), f"{kind.__name__} e{exponent}")


@st.composite
def spaces(
    draw, rows=ROWS, columns=COLUMNS, kinds=KINDS, labels=("few", "few", "one", "own", "rare", "names", "far")
):
    return made(
        draw(st.integers(0, 2**16)),
        draw(st.sampled_from(rows)),
        draw(st.sampled_from(columns)),
        draw(st.sampled_from(kinds)),
        draw(st.sampled_from((0, 0, 0, -30, -20, -5, 5, 18, 28))),
        draw(st.sampled_from((np.float32, np.float64))),
        draw(st.sampled_from(labels)),
    )
