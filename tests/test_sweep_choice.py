"""What a sweep says of its combinations: intervals of differences, the best, the cheapest; its figure."""

import csv
import io

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.machine.relay import Relay, Teller
from jaxtl.metrics import Estimate
from jaxtl.plots.style import save
from jaxtl.progress import Silent
from jaxtl.runs.formats import Predictions
from jaxtl.sweeps import choice, tables
from jaxtl.sweeps.plots import sweep_figure
from jaxtl.sweeps.rows import DONE, REFUSED, SweepRow
from jaxtl.sweeps.settings import Asked, Grid


def right(*hits):
    """Predictions of two classes: one list a seed of whether each image is named rightly."""
    hits = np.array(hits, bool)
    labels = np.arange(hits.shape[1]) % 2
    return Predictions(labels.astype(np.int32), np.where(hits, labels, 1 - labels).astype(np.int32))


def discordant(fixed, broken, n=1000):
    """Two networks of one seed: images that the first alone is right about, and the second alone."""
    one, other = np.ones(n, bool), np.ones(n, bool)
    other[:fixed], one[fixed : fixed + broken] = False, False
    return right(one), right(other)


# Mid-p-values of McNemar's test: 0.063, 0.031; 0.057, 0.035; 1.
@pytest.mark.parametrize(
    ("fixed", "broken", "told_apart"),
    [(4, 0, False), (5, 0, True), (10, 3, False), (11, 3, True), (0, 0, False)],
)
def test_one_seed_is_judged_as_by_mcnemars_test(fixed, broken, told_apart):
    gap = choice.difference(*discordant(fixed, broken))
    assert gap.value == pytest.approx((fixed - broken) / 1000)
    assert (gap.low > 0) == told_apart
    back = choice.difference(*reversed(discordant(fixed, broken)))
    assert (back.low, back.high) == pytest.approx((-gap.high, -gap.low))


def test_intervals_of_differences_cover_the_truth():
    """Of draws of seeds and images, as many intervals hold the truth as they say."""
    rng, held, truth = np.random.default_rng(0), 0, 0.03
    for _ in range(150):
        hard = rng.beta(8, 2, 400)
        seeds = rng.normal(0, 0.01, (2, 3, 1))
        chances = np.clip(hard + seeds + np.array([truth, 0])[:, None, None], 0, 1)
        hits = rng.random((2, 3, 400)) < chances
        gap = choice.difference(right(*hits[0]), right(*hits[1]))
        held += gap.low <= (np.clip(hard + truth, 0, 1) - hard).mean() <= gap.high
    assert held / 150 > 0.93


def test_images_that_are_hard_for_both_do_not_blur_a_difference():
    hard = np.arange(1000) < 300
    better, worse = hard.copy(), hard.copy()
    worse[:12] = False
    gap = choice.difference(right(~better), right(~better & (np.arange(1000) < 988)))
    assert gap.low > 0
    assert gap.high - gap.low < 0.02


def test_other_images_are_not_compared():
    one, _ = discordant(1, 0)
    assert choice.difference(one, Predictions(1 - one.labels, one.named)) is None


def row(name, accuracy, behind=None, size=48, **more):
    interval = Estimate(accuracy, accuracy - 0.004, accuracy + 0.004)
    known = {"parameters": 1000, "seconds": 60.0, "training_seconds": 40.0, "peak_memory_gib": 1.5} | more
    return SweepRow(name, name, size, None, DONE, "", 3, test_accuracy=interval, behind=behind, **known)


FAR, NEAR = Estimate(0.05, 0.03, 0.07), Estimate(0.005, -0.002, 0.012)
ROWS = [
    row("none", 0.92, FAR, multiply_adds=10),
    row("10", 0.965, NEAR, seconds=41.0, parameters=700, multiply_adds=25),
    row("30", 0.967, NEAR, seconds=40.0, parameters=900, multiply_adds=30),
    row("all", 0.97, seconds=200.0, parameters=2000, multiply_adds=100),
    SweepRow("x", "x", 96, None, REFUSED, "no room"),
]


def test_the_best_and_the_cheapest_as_good_are_named():
    assert choice.best(ROWS).name == "all"
    assert [one.name for one in choice.not_distinguishable(ROWS)] == ["all", "10", "30"]
    assert choice.cheapest(ROWS).name == "10"
    said = " ".join(choice.words(ROWS, 10_000))
    assert "Best: all layers, 48 px, test accuracy 0.970 [0.966, 0.974] (10,000 test images, 3 seeds)" in said
    assert "Cheapest that cannot be told from it: last 10, 48 px" in said
    assert "25 % of the arithmetic, 700 trained parameters instead of 2,000." in said
    assert choice.words([ROWS[-1]], 0) == []


def test_tables_hold_every_combination_and_come_back():
    record = tables.as_record(ROWS, 100)
    assert (record["best"], record["cheapest"]) == ("all", "10")
    assert tables.read_rows(record) == ROWS
    rows = list(csv.DictReader(io.StringIO(tables.as_text(ROWS))))
    assert [one["status"] for one in rows] == [*["done"] * 4, "refused"]
    assert (rows[1]["test_accuracy"], rows[1]["behind_low"], rows[4]["seconds"]) == ("0.965", "-0.002", "")
    assert tables.faults(ROWS) == ["x: refused: no room"]


@pytest.mark.parametrize("count", [2, 30])
def test_the_figure_has_every_combination_with_its_interval(count, tmp_path):
    rows = [
        row(f"{number}", 0.9 + number / 1000, size=48 + 16 * (number % 2), parameters=1000 + number)
        for number in range(count)
    ]
    figure = sweep_figure([*rows, ROWS[-1]])
    lines = figure.axes[0].lines
    points = [line for line in lines if line.get_marker() in ("o", "s") and line.get_linestyle() == "-"]
    assert sum(len(line.get_xdata()) for line in points) == count
    ends = [line.get_ydata()[1] for line in lines if line.get_marker() == "None"]
    assert sorted(ends) == pytest.approx([one.test_accuracy.high for one in rows])
    save(figure, tmp_path / "sweep.svg")
    told = "cheapest that cannot be told from it" in (tmp_path / "sweep.svg").read_text()
    assert told


def test_there_is_no_figure_of_nothing():
    with pytest.raises(JaxtlError, match="no combination is done"):
        sweep_figure([ROWS[-1]])


def test_a_grid_is_all_combinations_with_a_folder_each():
    weights = (None, "imagenet", "/a/r18.safetensors", "/b/r18.safetensors")
    grid = Grid(("none", "layer4.1.conv1", 10), (48, 96, 48), weights)
    names = [one.name for one in grid.combinations]
    assert len(names) == len(set(names)) == 3 * 2 * 3
    assert names[:2] == ["48px-none", "48px-layer4.1.conv1"]
    assert {one.group for one in grid.combinations} == {
        *("48px", "96px", "r18-48px", "r18-96px"),
        *("r18-2-48px", "r18-2-96px"),
    }
    assert all("/" not in name for name in names)


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"trainable": ()}, "at least one"),
        ({"trainable": (" ",)}, "is empty"),
        ({"image_size": (48, 16)}, "image_size"),
        ({"image_size": (48.5,)}, "image_size"),
        ({"weights": ([],)}, "weights"),
        ({"trainable": tuple(map(str, range(600))), "image_size": (48, 96)}, "1,200 combinations"),
    ],
)
def test_grids_that_make_no_sense(grid, said):
    with pytest.raises(JaxtlError, match=said):
        Grid(**grid)


def test_a_number_of_layers_is_one_value_however_it_is_written():
    assert Grid(("010", 10, "10", "none")).trainable == ("10", "none")


def test_what_was_asked_comes_back_from_its_record():
    import json

    from jaxtl.settings import RunConfig

    asked = Asked(RunConfig(epochs=2), Grid(("none", "10")), 3)
    assert Asked.of_record(json.loads(json.dumps(asked.as_record()))) == asked
    assert asked.seed_numbers == [1, 2, 3]


class Listener(Silent):
    def __init__(self):
        self.heard = []

    def notify(self, text):
        self.heard.append(text)

    def attempt(self, title):
        self.heard.append(f"begun {title}")
        return super().attempt(title)


def test_work_elsewhere_is_heard_here():
    listener = Listener()
    with Relay(listener) as relay:
        teller = Teller(relay.hear)
        teller.notify("a note")
        with teller.step("one") as progress:
            progress(0.5)
        # Ended in the middle of a step.
        teller.step("two").__enter__()
    assert listener.heard == ["a note", "begun one", "begun two"]
