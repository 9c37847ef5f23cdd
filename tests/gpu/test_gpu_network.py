"""The network on a GPU: its features and its training are the CPU's, and the same twice."""

import jax
import numpy as np
import pytest

from jaxtl.data import load
from jaxtl.machine.devices import environment
from jaxtl.metrics import knn_accuracy
from jaxtl.models.weights import load_model
from jaxtl.network.layers import run_layers
from jaxtl.settings import Images
from tests.gpu import networks
from tests.gpu.agreement import compare_features, compare_losses

CHECKED = 256
# As in test_precision.py: half the distance from 1 to the next number.
ROUNDING = {"tf32": 2.0**-11, "bf16": 2.0**-8}


def test_jax_computes_on_the_gpu(measured):
    measured({name: str(value) for name, value in environment().items()})
    assert jax.default_backend() == "gpu"


def test_features_are_those_of_a_cpu(measured, tmp_path):
    theirs = networks.compute_apart("features", CHECKED, tmp_path, on_cpu=True)
    measured(compare_features(networks.features(CHECKED), theirs))


def test_a_first_epoch_is_that_of_a_cpu(measured, tmp_path):
    ours, theirs = (
        networks.first_epoch(1600),
        networks.compute_apart("first_epoch", 1600, tmp_path, on_cpu=True),
    )
    measured({"test accuracy": ours["test_accuracy"], "of the CPU": theirs["test_accuracy"]})
    measured(compare_losses(ours, theirs))


def of_form(form):
    model, images = load_model(), load("mnist", "test").take(CHECKED).images
    return run_layers(model, 0, model.config.pooled, images, Images(), form=form).x


@pytest.mark.parametrize("form", ["matmul", "mixed"])
def test_forms_of_the_convolutions_agree(form, measured):
    measured(compare_features(of_form(form), of_form("xla")))


@pytest.mark.parametrize("deterministic", [True, False])
def test_two_processes_give_the_same_bytes(deterministic, measured, tmp_path):
    """That is promised with `--deterministic`; without it, it is only told."""
    first, second = (
        networks.compute_apart("features", CHECKED, tmp_path, on_cpu=False, deterministic=deterministic)
        for _ in range(2)
    )
    measured({"same bytes": first.tobytes() == second.tobytes()})
    if deterministic:
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("precision", ROUNDING)
def test_reduced_precisions_keep_what_tells_classes_apart(precision, measured):
    """The network multiplies rounding by 100 and more; an accuracy on 256 has a standard error of 0.03."""
    labels = load("mnist", "test").take(CHECKED).labels
    exact, values = networks.features(CHECKED), networks.features(CHECKED, precision)
    error = np.abs(values - exact).mean() / np.abs(exact).mean()
    accuracies = [knn_accuracy(array, labels)[0] for array in (exact, values)]
    measured({"mean error": error, "10-NN accuracy": accuracies[1], "in float32": accuracies[0]})
    assert 0 < error < 100 * ROUNDING[precision]
    assert abs(accuracies[1] - accuracies[0]) < 0.06
