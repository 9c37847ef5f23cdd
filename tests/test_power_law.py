"""Cost against n: a power law, its intervals, and what it refuses."""

import numpy as np
import pytest

from jaxtl.costs.power_law import fit
from jaxtl.costs.table import Cost
from jaxtl.errors import JaxtlError


def law(coefficient, exponent, sizes=(1000, 2000, 5000, 10_000)):
    return fit(sizes, [coefficient * n**exponent for n in sizes])


@pytest.mark.parametrize(("coefficient", "exponent"), [(3e-4, 1.0), (2e-9, 2.3), (5.0, 0.0)])
def test_a_power_law_is_found_again(coefficient, exponent):
    fitted = law(coefficient, exponent)
    assert fitted.exponent == pytest.approx(exponent, abs=1e-9)
    assert fitted.coefficient == pytest.approx(coefficient, rel=1e-8)
    assert (fitted.smallest, fitted.largest, fitted.count) == (1000, 10_000, 4)
    value, low, high = fitted.at(1e6)
    assert value == pytest.approx(coefficient * 1e6**exponent, rel=1e-7)
    assert low <= value <= high
    if exponent:
        assert fitted.largest_within(value) == pytest.approx(1e6, rel=1e-6)


def test_what_is_flat_at_small_sizes_is_not_flat_for_ever():
    flat = law(100, 0.5)
    assert flat.cost(5000) == flat.at(5000)
    assert flat.cost(100_000).value == pytest.approx(100 * 10_000**0.5 * 10, rel=1e-6)
    steep = law(1e-6, 2)
    assert steep.cost(100_000) == steep.at(100_000)
    falling = law(100, -0.5)
    assert falling.cost(10) == falling.at(1000)
    held = Cost("pca", "sklearn", flat, law(1e4, 0.5), 0)
    # 1 MB at 10,000 images and in proportion from there.
    assert held.bytes_at(1_000_000).value == pytest.approx(1e8, rel=1e-6)
    assert held.largest(100_100_000) == 1_000_000
    # Features on disk need not grow in memory.
    assert Cost("pca", "jaxtl", flat, law(1e4, 0.5), 0).bytes_at(1_000_000).value == pytest.approx(
        1e7, rel=1e-6
    )


def test_intervals_hold_what_they_promise():
    """95 % of intervals hold the exponent, and 95 % of forecasts the next measurement."""
    rng, sizes, runs = np.random.default_rng(0), np.array([1000, 2000, 5000, 10_000, 20_000]), 2000
    held = np.zeros(2)
    for _ in range(runs):
        noise = np.exp(0.1 * rng.normal(size=6))
        fitted = fit(sizes, 1e-5 * sizes**1.5 * noise[:5])
        low, high = fitted.at(70_000)[1:]
        held += (fitted.low <= 1.5 <= fitted.high, low <= 1e-5 * 70_000**1.5 * noise[5] <= high)
    # Three standard errors of a share of 2000.
    np.testing.assert_allclose(held / runs, 0.95, atol=3 * np.sqrt(0.95 * 0.05 / runs))


def test_it_is_scipys_regression():
    from scipy.stats import linregress, t

    sizes, values = [100, 300, 900, 4000], [0.2, 0.9, 2.1, 12.0]
    fitted, theirs = fit(sizes, values), linregress(np.log(sizes), np.log(values))
    assert fitted.exponent == pytest.approx(theirs.slope)
    assert fitted.high - fitted.exponent == pytest.approx(t.ppf(0.975, 2) * theirs.stderr)


@pytest.mark.parametrize(
    ("sizes", "values", "said"),
    [
        ([1, 2], [1, 2], "needs at least 3 different sizes, got 2"),
        ([1, 1, 1, 2], [1, 1, 1, 2], "needs at least 3 different sizes, got 2"),
        ([1, 2, 3], [1, 0, 2], "finite and above 0"),
        ([1, 2, 3], [1, 2], "one value a size"),
        ([9999, 10_000, 10_001], [1, 2, 9], "sizes 9999 to 10001 are too close together"),
    ],
)
def test_what_has_no_power_law_is_refused(sizes, values, said):
    with pytest.raises(JaxtlError, match=said):
        fit(sizes, values)
    with pytest.raises(JaxtlError, match="n must be a positive number"):
        law(1, 1).at(0)
