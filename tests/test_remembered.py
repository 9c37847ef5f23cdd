"""Folds are remembered while a model has the same arrays, and made anew as soon as one changes."""

import gc
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl.machine.remembered import Remembered
from jaxtl.models import folding
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.weights import build
from jaxtl.network.layers import run_layers
from jaxtl.settings import Images
from tests.exporting import network

CONFIG = MobileNetV2Config(0.05, classes=3)
STEM = 4  # layers, up to the first activation


@pytest.fixture
def model():
    return build(CONFIG, network(CONFIG).arrays)


def biases(model):
    return [np.asarray(step["bias"]) for step in folding.fold(model, 0, STEM)[1] if "bias" in step]


def test_the_same_arrays_are_folded_once(model):
    plan, arrays = folding.fold(model, 0, STEM)
    again, same = folding.fold(model, 0, STEM)
    assert again is plan
    assert same is arrays
    assert folding.fold(model, 0, STEM + 3)[0] != plan
    # Other arrays of the same values are not the same ones.
    other = folding.fold(build(CONFIG, network(CONFIG).arrays), 0, STEM)
    assert other[1] is not arrays
    assert other[0] == plan


@pytest.mark.parametrize("engine", ["jax", "onnxruntime"])
def test_a_changed_weight_is_noticed(model, engine):
    pixels, prepare = np.full((1, 33, 33, 3), 128, np.uint8), Images(image_size=33).settled("unit")
    form = {"form": "xla"} if engine == "jax" else {"engine": engine}
    before = run_layers(model, 0, STEM, pixels, prepare, **form).x
    model.bn_Conv1.beta[...] = model.bn_Conv1.beta[...] + 1
    after = run_layers(model, 0, STEM, pixels, prepare, **form).x
    assert np.abs(after - before).max() > 0.5
    model.bn_Conv1.beta[...] = model.bn_Conv1.beta[...] - 1
    np.testing.assert_allclose(run_layers(model, 0, STEM, pixels, prepare, **form).x, before, atol=1e-6)


def test_numpys_arrays_may_change_in_their_place(model):
    beta = np.array(model.bn_Conv1.beta[...])
    model.bn_Conv1.beta.set_value(beta)
    (before,) = biases(model)
    beta += 1
    np.testing.assert_allclose(biases(model)[0], before + 1, rtol=1e-6)


def test_a_model_does_not_change_with_the_arrays_that_it_was_built_of():
    arrays = {name: np.array(values) for name, values in network(CONFIG).arrays.items()}
    built = build(CONFIG, arrays)
    for values in arrays.values():
        values[...] = 7
    held = np.asarray(built.bn_Conv1.beta[...])
    np.testing.assert_array_equal(held, network(CONFIG).arrays["bn_Conv1/beta"])


def test_the_last_values_stay_and_arrays_do_not():
    remembered, made = Remembered(2), []
    arrays = [jnp.full(2, value) for value in range(3)]

    def ask(array, key=None):
        return remembered.of(key, [array], lambda: made.append(int(array[0])))

    for value in (0, 1, 0, 2, 0):
        ask(arrays[value])
    assert made == [0, 1, 2, 0]
    ask(arrays[0], "another key")
    assert made == [0, 1, 2, 0, 0]
    jax.jit(lambda array: remembered.of(None, [array], lambda: made.append(-1)) or array)(arrays[1])
    assert made[-1] == -1
    gone = weakref.ref(arrays[0])
    del arrays[0]
    gc.collect()
    assert gone() is None


def test_threads_may_ask_together():
    remembered, arrays = Remembered(2), [jnp.full(2, value) for value in range(4)]
    wrong = []

    def ask(number):
        for turn in range(200):
            value = (number + turn) % 4
            if remembered.of(None, [arrays[value]], lambda value=value: value) != value:
                wrong.append(value)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
