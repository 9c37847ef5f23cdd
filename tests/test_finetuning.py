"""Training means what Keras means by it. Keras itself is the reference, on its JAX backend."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.models.network import Carry
from jaxtl.models.weights import arrays_of
from jaxtl.network.adam import keras_adam
from jaxtl.network.finetuning import finetune, train_tail
from jaxtl.network.head import evaluate, with_head
from jaxtl.network.layers import enter
from jaxtl.network.training import Checkpoint, Trainer
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.settings import FinetuneConfig, Images
from tests.tuning import BATCH, STEPS

os.environ.setdefault("KERAS_BACKEND", "jax")


class Lazily:
    """A library; where it is not installed, a test that asks for it is skipped."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, name):
        return getattr(pytest.importorskip(self._name), name)


keras = Lazily("keras")

# What the frozen layers hand on: 10 is the experiment's boundary, 14 lies within a residual block.
HANDED_ON = {10: ["block_16_expand"], 14: ["block_15_depthwise_relu", "block_14_add"]}


def keras_model(model, trainable):
    """Keras's MobileNetV2 with a head, our arrays, and the last `trainable` layers trainable.

    The softmax is in the loss, as Keras's TensorFlow backend moves it there; its JAX backend would clip
    probabilities below 1e-7 and drop their gradients.
    """
    with pytest.MonkeyPatch.context() as patch:
        # Every weight is assigned below, and compiling Keras's random draws takes longer than all else.
        patch.setattr(
            keras.initializers.VarianceScaling, "__call__", lambda _, shape, dtype: np.zeros(shape, dtype)
        )
        base = keras.applications.MobileNetV2((48, 48, 3), include_top=False, weights=None, pooling="avg")
    head = keras.layers.Dense(model.config.classes, name="predictions")
    whole = keras.Model(base.input, head(base.output))
    put(whole, arrays_of(model))
    for layer in base.layers[: len(base.layers) - 1 - trainable]:  # the pooling does not count
        layer.trainable = False
    return whole


def names_of(layer):
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    keys = ["depthwise_kernel" if depthwise else w.path.split("/")[-1] for w in layer.weights]
    return [f"{layer.name}/{key}" for key in keys]


def arrays_of_keras(whole):
    return {
        name: np.asarray(w)
        for layer in whole.layers
        for name, w in zip(names_of(layer), layer.weights, strict=True)
    }


def pixels(images, dataset):
    return np.asarray(jax.jit(lambda batch: enter(images, batch).x)(dataset.images))


@pytest.fixture(scope="module")
def tails(pretrained, train):
    """A function of `trainable` and the steps to take: Keras's and our trainable layers, and their input.

    Their input is what Keras's frozen layers hand to them.

    Starting from two trunks, activations that lie within rounding of a kink of ReLU6 fall to different
    sides, which says nothing of the training step.
    """
    return functools.cache(functools.partial(build_tails, pretrained, train))


def build_tails(pretrained, train, trainable, steps=1):
    model = with_head(pretrained, 10, seed=0)
    whole = keras_model(model, trainable)
    inputs = [whole.get_layer(name).output for name in HANDED_ON[trainable]]
    images = pixels(Images(), train.take(steps * BATCH))
    handed = keras.Model(whole.input, inputs).predict(images, verbose=0)
    handed = handed if isinstance(handed, list) else [handed]
    boundary = trainable_boundary(pretrained.config, str(trainable))
    trainer = Trainer(Trunk(pretrained, boundary, Images()), model, FinetuneConfig())
    reference = keras.Model(alone_or_list(inputs), whole.output)
    reference.compile(keras.optimizers.Adam(1e-3), keras.losses.CategoricalCrossentropy(from_logits=True))
    return reference, trainer, handed


def alone_or_list(items):
    """What Keras wants to be given for one input or several."""
    return items[0] if len(items) == 1 else list(items)


def put(model, arrays):
    for layer in model.layers:
        layer.set_weights([arrays[name] for name in names_of(layer)])


def keras_loss_gradients_statistics(whole, start, x, labels):
    """Loss, gradients by name and moved statistics by name of one batch in training mode."""
    put(whole, start)
    trainable = [v.value for v in whole.trainable_variables]
    rest = [v.value for v in whole.non_trainable_variables]
    crossentropy = keras.losses.CategoricalCrossentropy(from_logits=True)

    def loss(trainable):
        outputs, moved = whole.stateless_call(trainable, rest, alone_or_list(x), training=True)
        return crossentropy(np.eye(10, dtype="f")[labels], outputs), moved

    (value, moved), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(trainable)
    names = {id(w): n for layer in whole.layers for n, w in zip(names_of(layer), layer.weights, strict=True)}
    return (
        float(value),
        {names[id(v)]: np.asarray(g) for v, g in zip(whole.trainable_variables, gradients, strict=True)},
        {names[id(v)]: np.asarray(m) for v, m in zip(whole.non_trainable_variables, moved, strict=True)},
    )


def by_name(state):
    return {"/".join(path): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}


@pytest.mark.parametrize("trainable", [10, pytest.param(14, marks=pytest.mark.slow)])
def test_a_training_step_has_keras_s_loss_gradients_and_statistics(tails, train, trainable):
    reference, trainer, handed = tails(trainable)
    features, labels = [array[:BATCH] for array in handed], train.labels[:BATCH]
    gradients, (statistics, sums) = trainer.gradients(trainer.initial(), Carry(*features), labels)
    start = arrays_of(trainer.model(trainer.initial()))
    loss, wanted, moved = keras_loss_gradients_statistics(reference, start, features, labels)

    assert float(sums[0]) / BATCH == pytest.approx(loss, rel=1e-6)
    ours = by_name(gradients)
    assert set(ours) == set(wanted)
    largest = max(np.abs(g).max() for g in wanted.values())
    for name, gradient in wanted.items():
        # A shift before a normalised convolution changes nothing: the gradient of such a beta is zero but
        # for rounding, and is held to the scale of the others.
        scale = max(np.abs(gradient).max(), 1e-2 * largest)
        assert np.abs(ours[name] - gradient).max() <= 1e-5 * scale, name
    assert set(by_name(statistics)) <= set(moved)
    for name, array in by_name(statistics).items():
        assert np.abs(array - moved[name]).max() <= 1e-5 * np.abs(moved[name]).max(), name


def test_adam_is_keras_s_for_gradients_of_every_size():
    rng = np.random.default_rng(0)
    start = rng.normal(size=400).astype("f")
    scales = 10.0 ** rng.uniform(-10, 2, size=400)
    variable = keras.Variable(start)
    reference = keras.optimizers.Adam(1e-3)
    reference.build([variable])
    ours, optimizer = jnp.asarray(start), keras_adam(1e-3)
    state = optimizer.init(ours)
    for _ in range(50):
        gradient = (scales * rng.normal(size=400)).astype("f")
        reference.apply([gradient], [variable])
        step, state = optimizer.update(gradient, state)
        ours = ours + step
    moved = np.abs(np.asarray(variable) - start)
    assert moved.min() < 1e-5 < 1e-2 < moved.max()  # epsilon decides for the smallest gradients
    np.testing.assert_allclose(ours, variable, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_one_step_gives_keras_s_parameters(tails, train):
    reference, trainer, features = tails(10)
    batch = np.arange(BATCH)
    gradients, _ = trainer.gradients(
        trainer.initial(), Carry(*(array[:BATCH] for array in features)), train.labels[:BATCH]
    )
    gradients = by_name(gradients)
    start = arrays_of(trainer.model(trainer.initial()))
    theirs, _ = keras_steps(reference, start, features, train.labels, [batch])
    state, _ = trainer.steps(trainer.initial(), Carry(*features), train.labels, batch[None])
    ours = arrays_of(trainer.model(state))
    largest = max(np.abs(g).max() for g in gradients.values())
    compared = 0
    for name, array in theirs.items():
        # Adam's first step is nearly the sign of the gradient, even where that is nothing but rounding.
        sure = np.abs(gradients[name]) > 1e-4 * largest if name in gradients else np.full(array.shape, True)
        compared += sure.sum()
        assert np.abs(ours[name] - array)[sure].max(initial=0) <= 1e-5 * np.abs(array).max(), name
    assert compared > 0.6 * sum(array.size for array in theirs.values())


@pytest.mark.slow
def test_fifty_steps_stay_as_close_to_keras_as_keras_to_itself(tails, train):
    """Keras given features that differ by 1e-6, as one step's gradients do: training blows rounding up."""
    reference, trainer, features = tails(10, STEPS)
    started = arrays_of(trainer.model(trainer.initial()))
    batches = np.arange(len(train)).reshape(-1, BATCH)
    assert len(batches) == STEPS
    wanted, theirs = keras_steps(reference, started, features, train.labels, batches)
    noise = np.random.default_rng(0).normal(scale=1e-6, size=features[0].shape).astype("f")
    nudged, nudged_losses = keras_steps(
        reference, started, [features[0] * (1 + noise)], train.labels, batches
    )
    state, ours = trainer.initial(), []
    for rows in batches:
        state, sums = trainer.steps(state, Carry(*features), train.labels, rows[None])
        ours.append(float(sums[0]) / BATCH)
    arrays = arrays_of(trainer.model(state))
    for name, array in wanted.items():
        own_drift = np.linalg.norm(nudged[name] - array)
        assert np.linalg.norm(arrays[name] - array) <= own_drift + 1e-5 * np.linalg.norm(array), name
    own_drift = np.abs(np.subtract(nudged_losses, theirs)).max()
    assert np.abs(np.subtract(ours, theirs)).max() <= own_drift


def keras_steps(model, start, features, labels, batches):
    """Arrays by name after Adam on these batches of rows from these arrays, and the losses."""
    put(model, start)
    # Its moments and its count of steps: it is compiled once, and begins anew.
    for variable in model.optimizer.variables:
        if variable is not model.optimizer.learning_rate:
            variable.assign(np.zeros(variable.shape))
    onehot = np.eye(10, dtype="f")[labels]
    losses = [
        float(model.train_on_batch(alone_or_list([a[rows] for a in features]), onehot[rows]))
        for rows in batches
    ]
    return arrays_of_keras(model), losses


@pytest.fixture(scope="module")
def tuned(pretrained, train, test):
    return finetune(pretrained, train, test, FinetuneConfig(epochs=2))


def test_only_what_is_trainable_moves(pretrained, tuned):
    model, _ = tuned
    before, after = arrays_of(pretrained), arrays_of(model)
    boundary = trainable_boundary(pretrained.config, "10")
    learning = {layer.name for layer in pretrained.config.backbone_layers[boundary:]}
    for name, array in before.items():
        assert np.array_equal(array, after[name]) != (name.split("/")[0] in learning), name


@pytest.mark.slow
def test_it_learns_and_says_how_far(tuned, test):
    model, history = tuned
    assert [row["epoch"] for row in history] == [1, 2]
    assert history[1]["loss"] < history[0]["loss"]
    assert history[1]["accuracy"] > 0.85
    trunk = Trunk(model, 0, Images())
    loss, accuracy = evaluate(trunk, model, test.images, test.labels)
    assert accuracy == pytest.approx(history[-1]["test_accuracy"], abs=1e-9)
    assert loss == pytest.approx(history[-1]["test_loss"], rel=1e-4)


# One within a residual block hands on two arrays. What each boundary cuts is held to the uncut network in
# test_model_parity.py; every other one here compiles two more trainings, one of them of all layers.
@pytest.mark.parametrize(
    "trainable",
    [
        "block_15_depthwise",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("none", "10", "block_13_depthwise", "all")),
    ],
)
@pytest.mark.slow
def test_every_boundary_trains_alike_with_and_without_a_kept_trunk(pretrained, train, test, trainable):
    # Learning slowly, so that rounding is not blown up by Adam's first steps.
    few, config = train.take(64), FinetuneConfig(trainable=trainable, epochs=1, learning_rate=1e-6)
    trunk = Trunk(pretrained, trainable_boundary(pretrained.config, trainable), Images(32))
    histories = []
    for keep in (True, False):
        sources = [trunk.source(data.images, keep) for data in (few, test)]
        _, history = train_tail(trunk, few, sources[0], test, sources[1], config)
        histories.append(history[0])
    assert histories[0] == pytest.approx(histories[1], rel=1e-3)


@pytest.mark.parametrize("trainable", ["none", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_digits_made_when_asked_for_train_without_a_kept_trunk(pretrained, test, trainable, monkeypatch):
    # As where all layers learn, and where the outputs of many digits do not fit.
    monkeypatch.setattr(Trunk, "keeps", lambda self, *counts: False)
    config = FinetuneConfig(trainable=trainable, epochs=1, learning_rate=1e-4)
    _, history = finetune(pretrained, load("infinite:200", "train"), test.take(20), config, Images(32))
    assert np.isfinite(history[0]["loss"])


@pytest.mark.slow
def test_an_accelerator_keeps_the_trunk_s_outputs_and_trains_alike(pretrained, train, test, monkeypatch):
    few, config = train.take(70), FinetuneConfig(trainable="none", epochs=2)
    trunk = Trunk(pretrained, trainable_boundary(pretrained.config, "none"), Images(32), form="matmul")
    histories = []
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        sources = [trunk.source(data.images, True) for data in (few, test)]
        assert all(isinstance(source.x, jax.Array) == (backend == "gpu") for source in sources)
        _, history = train_tail(trunk, few, sources[0], test, sources[1], config)
        histories.append(history)
    for rows in zip(*histories, strict=True):
        assert rows[0] == pytest.approx(rows[1], rel=1e-3)


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_bits(pretrained, train, test, tuned):
    trunk = Trunk(pretrained, trainable_boundary(pretrained.config, "10"), Images())
    sources = [trunk.source(data.images, keep=True) for data in (train, test)]
    kept = []
    config = FinetuneConfig(epochs=2)
    train_tail(trunk, train, sources[0], test, sources[1], config, on_epoch=kept.append)
    assert len(kept) == 1
    model, history = train_tail(trunk, train, sources[0], test, sources[1], config, start=kept[0])
    assert history == tuned[1]
    for name, array in arrays_of(tuned[0]).items():
        np.testing.assert_array_equal(array, arrays_of(model)[name], err_msg=name)


def test_a_checkpoint_of_another_boundary_is_refused(pretrained, train, test, tmp_path):
    Checkpoint([np.zeros(3, "f")], []).save(tmp_path / "c.npz")
    trunk = Trunk(pretrained, trainable_boundary(pretrained.config, "10"), Images())
    trainer = Trainer(trunk, with_head(pretrained, 10, 0), FinetuneConfig())
    with pytest.raises(JaxtlError, match="another network or freezing boundary"):
        trainer.restore(Checkpoint.load(tmp_path / "c.npz"))


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 + 5])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_a_fresh_head_is_what_flax_draws(pretrained, classes, seed):
    drawn = nnx.initializers.glorot_uniform()(jax.random.key(seed % 2**32), (1280, classes))
    head = arrays_of(with_head(pretrained, classes, seed))
    np.testing.assert_array_equal(head["predictions/kernel"], drawn)
    assert not head["predictions/bias"].any()
