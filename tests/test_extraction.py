"""Features do not depend on how they are batched, and are those of the plain network."""

import jax
import numpy as np
import pytest

from jaxtl.data import load
from jaxtl.data.preprocess import preprocess
from jaxtl.errors import JaxtlError
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.weights import imagenet_path, load_arrays, load_model
from jaxtl.network import batches, layers
from jaxtl.network.blocks import run_blocks
from jaxtl.network.extraction import extract, extract_layers
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.records.dataset import Dataset
from jaxtl.settings import Images

SMALL = Images(32)


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def gray():
    return load("mnist", "test").take(200)


@pytest.fixture(scope="module")
def colour(gray):
    """The digits, each in three shades."""
    shades = np.random.default_rng(0).uniform(0.2, 1, (len(gray), 1, 1, 3))
    images = (gray.images * shades).astype(np.uint8)
    return Dataset(images, gray.labels, gray.class_names, "train", "shaded")


@pytest.fixture(scope="module")
def features(model, gray):
    return extract(model, gray, SMALL)


def assert_close(values, expected, tolerance=1e-5):
    np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("n", [1, 64, 70])
def test_features_of_some_images_are_those_among_more(model, gray, features, n):
    assert np.array_equal(extract(model, gray.take(n), SMALL).values, features.values[:n])


@pytest.mark.parametrize(
    "batch_size", [7, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 200, 1000))]
)
def test_the_batch_size_changes_no_more_than_rounding(model, gray, features, batch_size):
    n = 20 if batch_size == 1 else 200
    values = extract(model, gray.take(n), SMALL, batch_size=batch_size).values
    assert_close(values, features.values[:n])


@pytest.fixture(scope="module")
def plain(model):
    """The network as it stands, nothing folded."""
    return jax.jit(lambda x: model(x))


@pytest.mark.parametrize(
    ("images", "name"),
    [
        (SMALL, "gray"),
        pytest.param(SMALL, "colour", marks=pytest.mark.slow),
        (Images(33, "keras"), "colour"),
    ],
    ids=str,
)
def test_features_are_those_of_the_plain_network(model, plain, images, name, request):
    dataset = request.getfixturevalue(name).take(8)
    expected = plain(preprocess(dataset.images, images.image_size, images.preprocessing))
    values = extract(model, dataset, images, batch_size=8).values
    assert (values.shape, values.dtype) == ((8, 1280), np.float32)
    # Each is off the float64 result by about 1e-5: that is what float32 allows through these 52 convolutions.
    assert_close(values, np.asarray(expected), 3e-5)


def test_preprocessing_and_colour_matter(plain, gray, colour, features):
    for images, way in ((gray.images, "keras"), (colour.images, "unit")):
        other = np.asarray(plain(preprocess(images[:8], 32, way)))
        assert np.abs(other - features.values[:8]).max() > 0.1


def test_features_record_where_they_come_from(features, gray):
    assert np.array_equal(features.labels, gray.labels)
    assert np.array_equal(features.index, np.arange(200))
    assert features.meta == {
        "model": "mobilenet_v2 width 1",
        "layer": "global_average_pooling2d",
        "weights_digest": load_arrays(imagenet_path())[2]["tensor_digest"],
        "dataset": "mnist",
        "split": "test",
        "class_names": [str(k) for k in range(10)],
        "image_size": 32,
        "preprocessing": "unit",
        "precision": "highest",
    }


def test_progress_rises_to_one(model, gray):
    fractions = []
    extract(model, gray, SMALL, batch_size=64, progress=fractions.append)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert 0 < fractions[0] < fractions[1] < 1


@pytest.mark.parametrize("kept", [True, False])
def test_a_trunk_and_what_follows_are_the_network(model, gray, features, kept):
    trunk = Trunk(model, trainable_boundary(model.config, "10"), SMALL)
    source = trunk.source(gray.images, kept)
    assert (source is gray.images) == (not kept)
    if kept:
        assert source.x.nbytes == len(gray) * trunk.bytes_per_image() == 200 * 960 * 4
    assert_close(trunk.then(model, model.config.pooled, source), features.values)


def test_a_trunk_knows_its_size(model, gray):
    trunk = Trunk(model, trainable_boundary(model.config, "10"), Images(48))
    assert trunk.bytes_per_image() == 2 * 2 * 960 * 4
    assert trunk.keeps(70_000)
    assert not trunk.keeps(10**12)
    assert not Trunk(model, 0, Images(48)).keeps(1)


# Keras counts 154 layers, from the input to out_relu.
@pytest.mark.parametrize("classes", [None, 10])
@pytest.mark.parametrize(
    ("trainable", "first"),
    [
        ("10", "block_16_expand_BN"),
        ("1", "out_relu"),
        ("2", "Conv_1_bn"),
        ("154", "input"),
        ("all", "input"),
        ("0", "global_average_pooling2d"),
        ("none", "global_average_pooling2d"),
        ("Conv1", "Conv1"),
        ("block_16_project", "block_16_project"),
    ],
)
def test_the_first_trainable_layer(trainable, first, classes):
    config = MobileNetV2Config(classes=classes)
    boundary = trainable_boundary(config, trainable)
    names = [layer.name for layer in config.layers]
    # After the pooling, which learns nothing, there is the head alone.
    head = first == "global_average_pooling2d"
    assert boundary == names.index(first) + head


@pytest.mark.parametrize(
    ("trainable", "words"),
    [
        ("155", "has 154 layers without its head, got 155"),
        ("-3", "got -3"),
        ("block_17_expand", "no layer 'block_17_expand'"),
        ("1.5", "no layer '1.5'"),
        ("", "no layer ''"),
        ("--5", "no layer '--5'"),
        ("²", "no layer '²'"),
        ("ALL", "no layer 'ALL'"),
    ],
)
def test_what_is_no_boundary(trainable, words):
    with pytest.raises(JaxtlError, match=words):
        trainable_boundary(MobileNetV2Config(), trainable)


OUT_OF_MEMORY = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123 bytes."


def short_of_memory(monkeypatch, limit, after=0, message=OUT_OF_MEMORY):
    """Let the compiled step fail for batches above `limit` once it did `after` of them."""
    step, sizes = layers._run_batch, []

    def fail_or_step(*arguments):
        size = batches.rows(arguments[-1])
        if len(sizes) >= after and size > limit:
            raise jax.errors.JaxRuntimeError(message)
        sizes.append(size)
        return step(*arguments)

    monkeypatch.setattr(layers, "_run_batch", fail_or_step)
    return sizes


def test_fewer_images_at_a_time_than_are_usual_are_recorded(model, gray):
    sizes = {size: extract(model, gray, SMALL, batch_size=size).meta.get("batch_size") for size in (7, 500)}
    assert sizes == {7: 7, 500: None}
    assert "batch_size" not in extract(model, gray, SMALL).meta


def test_batches_that_do_not_fit_are_halved_until_they_do(model, gray, monkeypatch):
    expected = extract(model, gray, SMALL, batch_size=16).values
    sizes, notices, fractions = short_of_memory(monkeypatch, 20), [], []
    values = extract(
        model, gray, SMALL, batch_size=64, notify=notices.append, progress=fractions.append
    ).values
    assert np.array_equal(values, expected)
    assert set(sizes) == {16}
    assert notices == [
        "out of memory with batches of 64: goes on with 32, which round otherwise",
        "out of memory with batches of 32: goes on with 16, which round otherwise",
    ]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


@pytest.mark.parametrize("on_device", [False, True])
def test_what_is_done_before_memory_runs_out_is_kept(model, gray, features, monkeypatch, on_device):
    sizes, notices = short_of_memory(monkeypatch, 16, after=2), []
    carry = layers.run_layers(
        model, 0, model.config.pooled, gray.images, SMALL, 32, notify=notices.append, on_device=on_device
    )
    assert isinstance(carry.x, jax.Array if on_device else np.ndarray)
    # Rows 0 to 63 in two batches of 32, the other 136 in nine of 16.
    assert sizes == [32] * 2 + [16] * 9
    assert notices == ["out of memory with batches of 32: goes on with 16, which round otherwise"]
    assert_close(np.asarray(carry.x), features.values)


def test_one_image_that_does_not_fit_ends_it(model, gray, monkeypatch):
    short_of_memory(monkeypatch, 0)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        extract(model, gray, SMALL, batch_size=3)


def test_other_failures_are_not_tried_again(model, gray, monkeypatch):
    short_of_memory(monkeypatch, 0, message="INTERNAL: no such kernel")
    notices = []
    with pytest.raises(jax.errors.JaxRuntimeError, match="no such kernel"):
        extract(model, gray, SMALL, batch_size=64, notify=notices.append)
    assert not notices


@pytest.mark.parametrize("n", [64, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 150))])
def test_a_result_left_on_the_device_is_the_same(model, gray, n):
    # Within a residual block, so that there are two arrays.
    stop = model.config.position("block_15_project")
    host, device = (
        layers.run_layers(model, 0, stop, gray.images[:n], SMALL, on_device=on_device)
        for on_device in (False, True)
    )
    for ours, expected in zip(device, host, strict=True):
        assert isinstance(ours, jax.Array)
        assert ours.shape[0] == n
        np.testing.assert_array_equal(ours, expected)


def test_what_follows_takes_outputs_on_the_device(model, gray):
    trunk = Trunk(model, trainable_boundary(model.config, "10"), SMALL)
    on_host = trunk.source(gray.images, True)
    on_device = jax.device_put(on_host)
    end = model.config.pooled
    np.testing.assert_array_equal(trunk.then(model, end, on_device), trunk.then(model, end, on_host))


def test_layers_of_one_pass_are_the_averages_of_their_outputs(model, gray, features):
    names = ("out_relu", "Conv1_relu", "block_2_add", "block_13_project_BN")
    averages = extract_layers(model, gray, names, SMALL)
    assert list(averages) == sorted(names, key=model.config.position)
    inputs = preprocess(gray.images[:20], 32, "unit")
    plain = jax.jit(lambda x: model.intermediates(x, names))(inputs)
    for name, outputs in plain.items():
        assert_close(averages[name][:20], np.asarray(outputs).mean((1, 2)), 1e-4)
    assert_close(averages["out_relu"], features.values)
    with pytest.raises(JaxtlError, match="no layer 'block_99'"):
        extract_layers(model, gray, ["block_99"], SMALL)


# Before the first block's end, at and within blocks, within a residual block, after the pooling; none kept.
@pytest.mark.parametrize(
    "trainable",
    [
        "block_16_expand",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("Conv1_relu", "10", "14", "none", "all")),
    ],
)
def test_a_trunk_s_pass_gives_the_averages_of_all_blocks_too(model, gray, trainable):
    trunk = Trunk(model, trainable_boundary(model.config, trainable), SMALL)
    keep = trainable != "all"
    source, blocks = trunk.source_and_blocks(gray.images, keep, 70)
    averages = trunk.averages(model, blocks)
    expected = extract_layers(model, gray.take(70), model.config.block_ends, SMALL)
    assert list(averages) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(averages[name], values, err_msg=name)
    if keep:
        alone = layers.run_layers(model, 0, trunk.boundary, gray.images, SMALL)
        assert all(map(np.array_equal, jax.tree.leaves(source), jax.tree.leaves(alone)))


@pytest.mark.parametrize("n", [64, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 150))])
def test_outputs_on_a_device_leave_their_averages_on_the_host(model, gray, n):
    how = (model, model.config.position("block_15_project"), gray.images[:n], SMALL, 100)
    (carry, blocks), (expected, wanted) = (
        run_blocks(*how, on_device=on_device) for on_device in (True, False)
    )
    assert all(map(np.array_equal, jax.tree.leaves(carry), jax.tree.leaves(expected)))
    assert isinstance(carry.x, jax.Array)
    for ours, theirs in zip(jax.tree.leaves(blocks), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert all(len(values) == min(n, 100) for values in blocks.averages.values())


def test_blocks_end_where_the_next_begins():
    ends = MobileNetV2Config().block_ends
    assert len(ends) == 19
    assert ends[:4] == ("Conv1_relu", "expanded_conv_project_BN", "block_1_project_BN", "block_2_add")
    assert ends[-2:] == ("block_16_project_BN", "out_relu")
