"""How long, and how much memory: power laws through measured points.

Seconds and bytes of a method are close to c n^p over a range of sizes, a line in logarithms (least squares
with t-intervals; Draper & Smith 1998, ch. 3). Which range is for the caller to say: what is constant at small
n (imports, compilation, loops) flattens a curve there and makes forecasts from it too low.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.metrics.estimates import Estimate

_FEWEST = 3
# Sizes closer together tell nothing of growth, and exponents beyond what a float can raise to.
_LEAST_RANGE = 1.5
_UPPER_TAIL = 0.975


@dataclass(frozen=True)
class PowerLaw:
    """y = coefficient * n^exponent, fitted in logarithms.

    Attributes:
        coefficient: > 0.
        exponent: with its 95 % interval, `low` to `high`.
        smallest, largest: the range of n that it was fitted to.
        count: sizes fitted, repeated ones counted.
        spread: standard error of log y about the line.
        centre: mean of log n.
        width: sum of squares of log n about its mean.
    """

    coefficient: float
    exponent: float
    low: float
    high: float
    smallest: float
    largest: float
    count: int
    spread: float
    centre: float
    width: float

    def at(self, n: float) -> Estimate:
        """What to expect at n > 0, and the interval that one new measurement falls into in 95 %.

        It widens with the distance from the sizes fitted. Raises JaxtlError unless n is a positive number.
        """
        if not 0 < n < math.inf:
            raise JaxtlError(f"forecast: n must be a positive number, got {n}")
        value = self.coefficient * n**self.exponent
        apart = (math.log(n) - self.centre) ** 2 / self.width
        half = _t(self.count - 2) * self.spread * math.sqrt(1 + 1 / self.count + apart)
        # Three points that hardly lie on a line allow anything; an infinite bound says so.
        factor = math.exp(half) if half < 700 else math.inf
        return Estimate(value, value / factor, value * factor)

    def cost(self, n: float) -> Estimate:
        """`at` for seconds or bytes of a job of n rows, kept sensible outside the sizes fitted.

        Beyond them it never grows less than in proportion to n: what is constant at small n makes a curve too
        flat there, and what reads n rows is not flat for long. Below, it is never more than at the smallest.
        """
        fitted = self.at(n)
        if n < self.smallest:
            return Estimate(*map(min, fitted, self.at(self.smallest)))
        if n <= self.largest or self.exponent >= 1:
            return fitted
        steady = [taken * n / self.largest for taken in self.at(self.largest)]
        return Estimate(*map(max, fitted, steady))

    def largest_within(self, y: float) -> float:
        """The n at which y is reached; infinite where the curve does not rise."""
        return (y / self.coefficient) ** (1 / self.exponent) if self.exponent > 0 else math.inf


def fit(n: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """The power law through measurements y (seconds, bytes; > 0) at sizes n (> 0).

    All given points are used: leave out sizes that are too small to be on the line.

    Raises:
        JaxtlError: fewer than three different sizes, sizes within a factor of 1.5, or values that have no
            logarithm.
    """
    sizes, values = np.asarray(n, np.float64), np.asarray(y, np.float64)
    if sizes.shape != values.shape or sizes.ndim != 1:
        raise JaxtlError(
            f"forecast: needs one value a size, got {list(sizes.shape)} and {list(values.shape)}"
        )
    if len(np.unique(sizes)) < _FEWEST:
        raise JaxtlError(
            f"forecast: needs at least {_FEWEST} different sizes, got {len(np.unique(sizes))}; measure more"
        )
    if not (np.isfinite(sizes) & np.isfinite(values) & (sizes > 0) & (values > 0)).all():
        raise JaxtlError("forecast: sizes and values must be finite and above 0; leave out the others")
    if sizes.max() < _LEAST_RANGE * sizes.min():
        raise JaxtlError(
            f"forecast: sizes {sizes.min():g} to {sizes.max():g} are too close together; measure one at "
            f"least {_LEAST_RANGE:g} times the smallest"
        )
    x, z = np.log(sizes), np.log(values)
    centre, width = x.mean(), ((x - x.mean()) ** 2).sum()
    exponent = ((x - centre) @ z) / width
    rest = z - z.mean() - exponent * (x - centre)
    spread = math.sqrt(rest @ rest / (len(x) - 2))
    half = _t(len(x) - 2) * spread / math.sqrt(width)
    return PowerLaw(
        coefficient=math.exp(z.mean() - exponent * centre),
        exponent=float(exponent),
        low=float(exponent - half),
        high=float(exponent + half),
        smallest=float(sizes.min()),
        largest=float(sizes.max()),
        count=len(x),
        spread=spread,
        centre=float(centre),
        width=float(width),
    )


def _t(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, _UPPER_TAIL))
