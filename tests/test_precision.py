"""Float32 is float32 everywhere, and the reduced precisions lose what their formats lose, no more."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.metrics import knn_accuracy
from jaxtl.models import folding, ops
from jaxtl.models.network import Carry
from jaxtl.models.weights import load_model
from jaxtl.network import finetuning
from jaxtl.network.extraction import extract
from jaxtl.network.finetuning import finetune, train_tail
from jaxtl.network.head import with_head
from jaxtl.network.layers import enter, run_layers
from jaxtl.network.training import Trainer
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.settings import FinetuneConfig, Images

FORMS = ("matmul", "xla", "mixed")
REDUCED = ("tf32", "bf16")
# Half the distance from 1 to the next number: what rounding changes at most, as a share.
ROUNDING = {"tf32": 2.0**-11, "bf16": 2.0**-8}
SMALL = Images(32)


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def digits():
    return load("mnist", "test").take(256)


@pytest.fixture(scope="module")
def train():
    return load("mnist", "train").take(160)


# Every product of float32 numbers says that it wants them whole: on GPUs the default is TF32.


def products(jaxpr):
    """Equations of matrix products and convolutions, those of inner functions too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(inner):
                yield from products(getattr(inner, "jaxpr", inner))


def is_jaxpr(value):
    return isinstance(value, (jax.extend.core.Jaxpr, jax.extend.core.ClosedJaxpr))


def assert_all_highest(function, *arguments, at_least):
    asked = list(products(jax.make_jaxpr(function)(*arguments).jaxpr))
    assert len(asked) >= at_least
    for equation in asked:
        precision = equation.params["precision"]
        precision = precision if isinstance(precision, tuple) else (precision,)
        assert set(precision) == {jax.lax.Precision.HIGHEST}, equation


@pytest.mark.parametrize("form", FORMS)
def test_every_product_of_the_forward_pass_is_whole(model, digits, form):
    whole = with_head(model, 10, seed=0)
    plan, arrays = folding.fold(whole, 0, len(whole.config.layers))

    def forward(arrays, images):
        return folding.run(plan, arrays, enter(SMALL, images), form)

    # Of 52 convolutions 17 are depthwise, and no products where they are sums; the resize is two products.
    assert_all_highest(forward, arrays, digits.images[:2], at_least=38 if form == "matmul" else 55)
    graph, state = nnx.split(whole)

    def plain(state, x):
        return nnx.merge(graph, state).run(Carry(x), 0, len(whole.config.layers), form=form).x

    assert_all_highest(plain, state, np.zeros((1, 32, 32, 3), "f"), at_least=36 if form == "matmul" else 53)


@pytest.mark.parametrize(
    ("form", "trainable"),
    [*((form, "10") for form in FORMS), pytest.param("xla", "all", marks=pytest.mark.slow)],
)
def test_every_product_of_the_training_step_is_whole(model, train, form, trainable):
    trunk = Trunk(model, trainable_boundary(model.config, trainable), SMALL, form=form)
    trainer = Trainer(trunk, with_head(model, 10, seed=0), FinetuneConfig())
    order = np.arange(8).reshape(2, 4)
    # The images themselves, so that the frozen layers are in the step too. A layer that learns has three
    # products, but for the first that does: it has no use for a gradient to what it is given.
    at_least = 160 if trainable == "all" else 38 + 2 * 3 - 1 if form == "matmul" else 55 + 2 * 4 - 1
    assert_all_highest(trainer.steps, trainer.initial(), train.images, train.labels, order, at_least=at_least)


def test_every_product_of_preprocessing_is_whole(digits):
    assert_all_highest(lambda x: enter(Images(48), x).x, digits.images[:2], at_least=2)


# Single convolutions against float32, within what rounding their operands can do.

CONVOLUTIONS = {
    "1x1": (ops.convolve, (1, 1, 24, 40), 1, ops.NO_PADDING),
    "3x3 stride 2": (ops.convolve, (3, 3, 24, 40), 2, ((0, 1), (0, 1))),
    "depthwise": (ops.convolve_depthwise, (3, 3, 24, 1), 1, ((1, 1), (1, 1))),
    "depthwise stride 2": (ops.convolve_depthwise, (3, 3, 24, 1), 2, ((0, 1), (0, 1))),
}
# A map of 4 pixels is convolved pixel by pixel. "mixed" takes each convolution from one of the others.
CASES = [*((name, 6) for name in CONVOLUTIONS), ("depthwise", 2)]


def operands(name, size):
    rng = np.random.default_rng(size)
    shape = CONVOLUTIONS[name][1]
    return rng.normal(size=(3, size, size, 24)).astype("f"), rng.normal(size=shape).astype("f")


def outcome(name, form, precision, x, kernel, upstream=jnp.cos):
    """A convolution of x, and the gradients to x and to the kernel from `upstream` of 0, 1, 2, ..."""
    convolve, _, stride, padding = CONVOLUTIONS[name]

    @jax.jit
    def both(x, kernel):
        y, back = jax.vjp(lambda x, k: convolve(x, k, stride, padding, form, precision), x, kernel)
        gradient = upstream(jnp.arange(y.size, dtype="f")).reshape(y.shape)
        return (y, *back(gradient.astype(y.dtype)))

    return [np.asarray(a.astype(jnp.float32)) for a in both(x, kernel)]


@lru_cache
def exact(name, size, form):
    return outcome(name, form, "highest", *operands(name, size))


@lru_cache
def size_of_terms(name, size):
    """The same sums as `exact` of the absolute values of their terms."""
    x, kernel = operands(name, size)
    return outcome(name, "xla", "highest", np.abs(x), np.abs(kernel), jnp.ones_like)


@pytest.mark.parametrize(("name", "size"), CASES)
@pytest.mark.parametrize("form", ["matmul", pytest.param("mixed", marks=pytest.mark.slow)])
def test_forms_agree_in_value_and_gradients(name, size, form):
    for ours, theirs in zip(exact(name, size, form), exact(name, size, "xla"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * np.abs(theirs).max())


@pytest.mark.parametrize(("name", "size"), CASES)
@pytest.mark.parametrize("form", ["matmul", "xla"])
@pytest.mark.slow
def test_a_bfloat16_convolution_loses_what_its_operands_lose(name, size, form):
    result = outcome(name, form, "bf16", *operands(name, size))
    assert_error_is_of_rounding(result, exact(name, size, form), size_of_terms(name, size), "bf16")
    # Had gradients of weights been bfloat16 on their way, they would be equal; a few are by chance.
    to_kernel = result[2]
    assert (to_kernel.astype(jnp.bfloat16).astype("f") != to_kernel).mean() > 0.9


@pytest.mark.parametrize("name", ["1x1", "3x3 stride 2"])
@pytest.mark.parametrize("form", ["matmul", "xla"])
def test_a_tf32_convolution_loses_what_its_operands_lose(name, form):
    result = outcome(name, form, "tf32", *operands(name, 6))
    assert_error_is_of_rounding(result, exact(name, 6, form), size_of_terms(name, 6), "tf32")


@pytest.mark.parametrize("form", ["matmul", "xla"])
def test_a_depthwise_convolution_is_float32_among_tf32(form):
    result = outcome("depthwise", form, "tf32", *operands("depthwise", 6))
    for ours, theirs in zip(result, exact("depthwise", 6, form), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def assert_error_is_of_rounding(values, expected, terms, precision):
    """Of two operands a product, and at most of the result and of the gradient given, for each term."""
    for ours, theirs, size in zip(values, expected, terms, strict=True):
        error = np.abs(ours - theirs)
        assert error.max() > 0
        assert (error <= 3.1 * ROUNDING[precision] * size).all()


# The network.


@pytest.fixture(scope="module")
def features(model, digits):
    return {name: extract(model, digits, precision=name) for name in ("highest", *REDUCED)}


def mean_error(values, expected):
    return np.abs(values - expected).mean() / np.abs(expected).mean()


@pytest.mark.parametrize("form", ["matmul", "xla"])
def test_features_of_the_first_layers_lose_little(model, digits, form):
    """Before the network has blown rounding up, the loss is that of the format, times a few layers."""
    stop = model.config.position("expanded_conv_depthwise_relu") + 1

    def run(precision):
        images = digits.images[:32]
        return run_layers(model, 0, stop, images, SMALL, precision=precision, form=form).x

    whole = run("highest")
    for precision in REDUCED:
        values = run(precision)
        assert values.dtype == np.float32
        # Two convolutions in a row, each of two rounded operands, rounded and stored.
        assert 0 < np.abs(values - whole).max() < 2 * 4 * ROUNDING[precision] * whole.max()


@pytest.mark.slow
def test_features_of_digits_keep_what_tells_classes_apart(features, digits):
    """On digits the network multiplies rounding: float32's own by 100 and more (see test_model_parity)."""
    exact = features["highest"].values
    errors = {name: mean_error(features[name].values, exact) for name in REDUCED}
    assert 0 < errors["tf32"] < 100 * ROUNDING["tf32"]
    assert errors["tf32"] < errors["bf16"] < 100 * ROUNDING["bf16"]
    accuracy, _ = knn_accuracy(exact, digits.labels)
    for name in REDUCED:
        # The standard error of an accuracy on 256 images is 0.03.
        assert abs(knn_accuracy(features[name].values, digits.labels)[0] - accuracy) < 0.06


@pytest.mark.slow
def test_features_record_their_precision(features):
    for name, record in features.items():
        assert record.meta["precision"] == name
        assert record.values.dtype == np.float32


@pytest.mark.slow
def test_a_reduced_training_step_is_the_float32_one_nearly(model, train):
    boundary = trainable_boundary(model.config, "10")
    head = with_head(model, 10, seed=0)
    source = Trunk(model, boundary, SMALL).source(train.images, True)
    gradient_of = {}
    for name in ("highest", *REDUCED):
        trainer = Trainer(Trunk(model, boundary, SMALL, name), head, FinetuneConfig())
        gradients, (_, sums) = trainer.gradients(trainer.initial(), source, train.labels)
        order = np.zeros((2, 32), np.int32)
        state, _ = jax.eval_shape(trainer.steps, trainer.initial(), source, train.labels, order)
        kept = jax.tree.leaves((state.weights, state.statistics, state.optimizer.mu, state.optimizer.nu))
        assert {a.dtype for a in [*kept, *jax.tree.leaves(gradients)]} == {np.dtype("f")}
        gradient_of[name] = np.concatenate([np.ravel(a) for a in jax.tree.leaves(gradients)]), float(sums[0])
    whole, loss = gradient_of["highest"]
    for name in REDUCED:
        gradients, other = gradient_of[name]
        # By measurement 32 roundings' worth in TF32, 19 in bfloat16: activations near ReLU6's kinks change
        # sides, and batch normalisation divides by what may be small.
        error = np.linalg.norm(gradients - whole) / np.linalg.norm(whole)
        assert 0 < error < 64 * ROUNDING[name]
        assert other != loss
        assert other == pytest.approx(loss, rel=4 * ROUNDING[name])


@pytest.mark.slow
def test_fine_tuning_is_given_its_precision_and_learns(model, train, digits, monkeypatch):
    trunks = []

    def noting(trunk, *arguments, **settings):
        trunks.append(trunk)
        return train_tail(trunk, *arguments, **settings)

    monkeypatch.setattr(finetuning, "train_tail", noting)
    config = FinetuneConfig(epochs=3, trainable="none")
    _, history = finetune(model, train, digits.take(20), config, SMALL, precision="bf16")
    assert trunks[0].precision == "bf16"
    assert history[2]["loss"] < history[1]["loss"] < history[0]["loss"]


def test_unknown_names_are_refused_in_one_line(model, digits, train):
    few = digits.take(2)
    words = "precision: must be one of highest, tf32, bf16, got 'fp16'"
    for refuse in (
        lambda: extract(model, few, SMALL, precision="fp16"),
        lambda: finetune(model, train, few, images=SMALL, precision="fp16"),
        lambda: Trunk(model, 10, SMALL, "fp16"),
        lambda: run_layers(model, 0, 3, few.images, SMALL, precision="fp16"),
    ):
        with pytest.raises(JaxtlError) as caught:
            refuse()
        assert str(caught.value) == words
    with pytest.raises(JaxtlError, match="form: must be one of matmul, xla, mixed, got 'cudnn'"):
        run_layers(model, 0, 3, few.images, SMALL, form="cudnn")
