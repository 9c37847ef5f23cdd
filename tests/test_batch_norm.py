"""Small sets: what batch normalisation's moving statistics do, and what can be done about it."""

import jax
import numpy as np
import pytest

from jaxtl.data import load
from jaxtl.evaluation.catalogue import LOGISTIC_PROBE
from jaxtl.evaluation.outcome import below_probe, lagging
from jaxtl.models.weights import arrays_of, load_model
from jaxtl.network.finetuning import train_tail
from jaxtl.network.head import with_head
from jaxtl.network.training import Trainer, recalibrate
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.records.tables import Score
from jaxtl.settings import FinetuneConfig, Images

SMALL = Images(32)


@pytest.fixture(scope="module")
def digits():
    return load("mnist", "train").take(600), load("mnist", "test").take(500)


@pytest.fixture(scope="module")
def tuned(digits):
    """Networks after a few steps on few images, by what became of the statistics."""
    trunk = Trunk(load_model(), trainable_boundary(load_model().config, "3"), SMALL)
    train, test = digits
    sources = [trunk.source(data.images, True) for data in digits]
    return {
        way: train_tail(trunk, train, sources[0], test, sources[1], FinetuneConfig("3", 3, batch_norm=way))
        for way in ("keras", "frozen", "recalibrated")
    }


def moving(arrays):
    return {name: values for name, values in arrays.items() if "/moving_" in name}


@pytest.mark.slow
def test_frozen_statistics_stay_and_the_weights_learn(tuned):
    before, after = arrays_of(load_model()), arrays_of(tuned["frozen"][0])
    for name, values in moving(before).items():
        np.testing.assert_array_equal(after[name], values)
    assert not np.array_equal(after["Conv_1_bn/gamma"], before["Conv_1_bn/gamma"])
    assert not np.array_equal(after["Conv_1/kernel"], before["Conv_1/kernel"])


@pytest.mark.slow
def test_recalibration_changes_the_statistics_that_learn_and_nothing_else(tuned):
    lagging, right = arrays_of(tuned["keras"][0]), arrays_of(tuned["recalibrated"][0])
    changed = {name for name in lagging if not np.array_equal(lagging[name], right[name])}
    assert changed == {f"Conv_1_bn/moving_{name}" for name in ("mean", "variance")}


@pytest.mark.slow
def test_recalibrated_statistics_are_those_of_all_training_images(digits, tuned):
    """One batch of all images has the statistics of the population."""
    train, (model, _) = digits[0], tuned["recalibrated"]
    boundary = trainable_boundary(model.config, "3")
    trunk = Trunk(load_model(), boundary, SMALL)
    carry = trunk.source(train.images, True)
    tail = jax.jit(lambda x: model.run(x, boundary, model.config.position("Conv_1") + 1))
    values = np.asarray(tail(carry).x, np.float64)
    arrays = arrays_of(model)
    for name, expected in (("mean", values.mean((0, 1, 2))), ("variance", values.var((0, 1, 2)))):
        np.testing.assert_allclose(arrays[f"Conv_1_bn/moving_{name}"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_both_help_where_images_are_few(tuned):
    accuracy = {way: history[-1]["test_accuracy"] for way, (_, history) in tuned.items()}
    assert accuracy["frozen"] > accuracy["keras"] + 0.15
    assert accuracy["recalibrated"] > accuracy["keras"] + 0.3


def test_without_layers_that_learn_there_is_nothing_to_recalibrate(digits):
    train, _ = digits
    model = with_head(load_model(), 10, seed=0)
    trunk = Trunk(load_model(), trainable_boundary(model.config, "none"), SMALL)
    trainer = Trainer(trunk, model, FinetuneConfig("none", batch_norm="recalibrated"))
    state = trainer.initial()
    assert recalibrate(trainer, state, trunk.source(train.images, True), train.labels) is state


def epochs(*pairs):
    named = enumerate(pairs, 1)
    return [{"epoch": k, "accuracy": trained, "test_accuracy": tested} for k, (trained, tested) in named]


PROBE = [Score("before", "features", LOGISTIC_PROBE, 0.72, 0.7, 0.74)]


@pytest.mark.parametrize(
    ("history", "way", "words"),
    [
        (epochs((0.9, 0.35)), "keras", "try --batch-norm recalibrated, or frozen"),
        (epochs((0.9, 0.35)), "frozen", "Try more --epochs"),
        (epochs((0.4, 0.38)), "keras", "Try more --epochs"),
    ],
)
def test_a_network_below_its_own_features_is_told_of_with_the_remedy(history, way, words):
    told = below_probe(PROBE, history, way)
    assert told.startswith(
        f"The tuned network classifies {history[-1]['test_accuracy']:.3f} of the test images"
    )
    assert "before fine-tuning 0.720." in told
    assert words in told


@pytest.mark.parametrize("history", [epochs((0.9, 0.68)), epochs((0.99, 0.95)), []])
def test_a_network_about_as_good_as_its_features_is_not(history):
    assert below_probe(PROBE, history, "keras") == ""
    assert below_probe([], history, "keras") == ""


def test_tests_that_lag_behind_training_are_explained():
    history = epochs((0.93, 0.84), (0.97, 0.95))
    told = lagging(history, "keras")
    assert told.startswith("At the end of the first epoch only, test accuracy is far below training accuracy")
    assert lagging(history, "frozen") == lagging(history[1:], "keras") == ""
    assert lagging(history[:1], "recalibrated") == ""
    assert "epochs 1, 2," in lagging(epochs((0.9, 0.3), (0.9, 0.4)), "keras")
