"""ResNet against torchvision's own: every layer, and a step of training.

Where torchvision is not installed its results come from `references/resnet.npz`.
"""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from jaxtl.exports.torchvision import state_dict
from jaxtl.models import folding
from jaxtl.models.network import Carry
from jaxtl.models.resnet import ResNetConfig
from jaxtl.models.weights import build
from jaxtl.network.training import Trainer
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.settings import FinetuneConfig, Images
from tests import resnet_reference as reference

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def recorded():
    """torchvision's results by their keys: sampled values, and last the largest one."""
    with np.load(reference.FILE) as file:
        return {key: file[key] for key in file.files}


def outputs(config, arrays, x):
    """The outputs of every layer by name."""
    graph, state = nnx.split(build(config, arrays))
    names = [layer.name for layer in config.layers[1:]]
    return jax.jit(lambda state, x: nnx.merge(graph, state).intermediates(x, names))(state, x)


def assert_recorded(array, expected, name):
    error = np.abs(reference.sampled(array) - expected[:-1]).max()
    assert error <= TOLERANCE * expected[-1], (name, error / expected[-1])
    assert np.abs(array).max() == pytest.approx(expected[-1], rel=TOLERANCE), name


# Otherwise the step of training below is the proof, which takes a ResNet-18 through all of its layers.
@pytest.mark.slow
@pytest.mark.parametrize(("depth", "size"), reference.CASES)
def test_every_layer_is_that_of_torchvision(depth, size, recorded):
    config, arrays = reference.drawn(depth)
    prefix = f"{depth} {size} "
    known = [key.removeprefix(prefix) for key in recorded if key.startswith(prefix)]
    assert known == [layer.name for layer in config.layers[1:]]
    for name, output in outputs(config, arrays, reference.images(size)).items():
        assert_recorded(output, recorded[prefix + name], name)


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 48, 51, 224])
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_layer_is_that_of_the_torchvision_installed(depth, size):
    pytest.importorskip("torchvision")
    config, arrays = reference.drawn(depth)
    x = reference.images(size)
    expected = reference.torchvision_outputs(config, arrays, x)
    ours = outputs(config, arrays, x)
    assert set(ours) == set(expected)
    for name, array in expected.items():
        assert ours[name].shape == array.shape
        assert np.abs(ours[name] - array).max() <= TOLERANCE * np.abs(array).max(), name


@pytest.mark.slow
def test_torchvision_takes_what_is_given_back_and_finds_its_own_shapes():
    torchvision = pytest.importorskip("torchvision")
    for depth in (18, 34, 50, 101, 152):
        config = ResNetConfig(depth=depth, classes=1000)
        known = getattr(torchvision.models, config.name)().state_dict()
        given = state_dict(config, {name: np.zeros(s) for name, s in config.parameters.items()})
        assert {k: v.shape for k, v in given.items()} == {k: tuple(v.shape) for k, v in known.items()}


@pytest.fixture(scope="module")
def step():
    """Mean loss, gradients and moved statistics of one batch, by name."""
    depth, size = reference.TRAINED
    config, arrays = reference.drawn(depth)
    model = build(config, arrays)
    boundary = trainable_boundary(config, reference.TRAINED_FROM)
    trainer = Trainer(Trunk(model, boundary, Images(size)), model, FinetuneConfig())
    x = reference.images(size, reference.BATCH)
    plan, weights = folding.fold(model, 0, boundary)
    frozen = jax.jit(functools.partial(folding.run, plan, form="matmul"))
    batch = frozen(weights, Carry(x))
    assert batch.skip is not None
    gradients, (statistics, sums) = trainer.gradients(trainer.initial(), batch, reference.labels())
    flat = [*nnx.to_flat_state(gradients), *nnx.to_flat_state(statistics)]
    by_name = {"/".join(path): np.asarray(value.get_value()) for path, value in flat}
    return {"loss": np.asarray(sums)[0] / reference.BATCH, **by_name}


def test_a_step_of_training_is_that_of_torch(step, recorded):
    """Loss, gradients of all that learns, and statistics, of which torch's variance is the unbiased one."""
    known = {key.removeprefix("step "): value for key, value in recorded.items() if key.startswith("step ")}
    assert set(step) == set(known)
    assert sum(name.endswith("moving_variance") for name in known) == 4
    for name, array in step.items():
        assert_recorded(array, known[name], name)
