"""Networks of every family by the same code: cuts, freezing, files, conversion, a whole run of a ResNet."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.models import folding, ops
from jaxtl.models.families import FAMILIES
from jaxtl.models.layers import Layer
from jaxtl.models.mobilenet_v2 import MobileNetV2, MobileNetV2Config
from jaxtl.models.network import Carry
from jaxtl.models.resnet import ResNet, ResNetConfig
from jaxtl.models.weights import arrays_of, build, load_arrays, load_model, save_weights
from jaxtl.network.trunk import trainable_boundary
from jaxtl.report.provenance import NETWORKS
from jaxtl.settings import MODELS, RunConfig
from tests.resnet_reference import drawn, images

NARROW = 1 / 8


def relative_error(value, reference):
    return float(np.abs(value - reference).max() / np.abs(reference).max())


def test_every_model_has_a_family():
    members = {config.name: (name, family) for name, family in FAMILIES.items() for config in family.members}
    assert set(members) == set(MODELS)
    assert all(family.config.family == name for name, family in members.values())


def test_every_model_has_its_paper():
    """Which the page cites where a run went through it."""
    assert set(NETWORKS) == set(MODELS)


@pytest.mark.parametrize(
    "config", [config for family in FAMILIES.values() for config in family.members], ids=lambda c: c.name
)
def test_every_model_has_what_a_network_needs(config):
    assert type(config) is FAMILIES[config.family].config
    names = [layer.name for layer in config.layers]
    assert len(set(names)) == len(names)
    assert config.saved <= set(names)
    positions = [config.position(end) for end in config.block_ends]
    assert positions == sorted(positions)
    assert positions[-1] == config.pooled - 2
    with pytest.raises(JaxtlError, match=f"{MODELS[config.name]} has no layer 'x'; its layers are "):
        config.position("x")


# He et al. 2016, table 1: 1.8, 3.6, 3.8 and 7.6 thousand million with the stride in the 1x1 convolution;
# torchvision states what its own networks have.
@pytest.mark.parametrize(("depth", "billions"), [(18, 1.814), (34, 3.664), (50, 4.089), (101, 7.801)])
def test_multiply_adds_are_the_published_ones(depth, billions):
    config = ResNetConfig(depth=depth, classes=1000)
    assert sum(config.multiply_adds(224)) / 1e9 == pytest.approx(billions, rel=1e-3)


def test_a_padding_can_be_the_same_for_every_size():
    """As Keras's MobileNet has it, whose maps of 7 become 3 and not 4."""
    config = MobileNetV2Config()
    pad = Layer("pad", "pad", 8, 8, kernel_size=3, stride=2, padding=(0, 1))
    assert [config.pads_with(pad, size) for size in (7, 8)] == [(0, 1), (0, 1)]
    convolution = Layer("convolution", "depthwise", 8, 8, kernel_size=3, stride=2, pads=False)
    assert [config.size_after(convolution, config.size_after(pad, size)) for size in (7, 8)] == [3, 4]


@pytest.fixture(scope="module", params=[pytest.param(18, marks=pytest.mark.slow), 50])
def narrow(request):
    """A narrow ResNet, and what each of the first layers hands on for images of an odd size."""
    model = build(*drawn(request.param, width=NARROW))
    length = model.config.position("layer2.1.conv1")
    return model, jax.jit(lambda x: _carries(model, x, length))(images(37))


def _carries(model, x, length):
    carries = [Carry(x)]
    for position in range(length):
        carries.append(model.run(carries[-1], position, position + 1))
    return carries


# Within a block, between a convolution and its normalisation, and before, in and behind a projection.
CUTS = (
    "conv1",
    "maxpool",
    "layer1.0.bn1",
    "layer2.0.conv2",
    "layer2.0.downsample.0",
    "layer2.0.downsample.1",
    "layer2.0.add",
)


def test_a_network_can_be_cut_at_any_layer_and_folded(narrow):
    model, carries = narrow
    cuts = sorted({0, *map(model.config.position, CUTS), len(carries) - 1})
    stretches = [folding.fold(model, start, stop) for start, stop in itertools.pairwise(cuts)]

    def run(arrays, starts):
        steps = zip(stretches, arrays, starts, strict=True)
        return [folding.run(plan, weights, start, "matmul") for (plan, _), weights, start in steps]

    ends = jax.jit(run)([arrays for _, arrays in stretches], [carries[cut] for cut in cuts[:-1]])
    for stop, end in zip(cuts[1:], ends, strict=True):
        assert relative_error(end.x, carries[stop].x) <= 1e-5, stop
        assert (end.skip is None) == (carries[stop].skip is None)
        if end.skip is not None:
            assert relative_error(end.skip, carries[stop].skip) <= 1e-5, stop


def test_folding_leaves_no_normalisation_and_no_activation(narrow):
    model, _ = narrow
    plan, _ = folding.fold(model, 0, len(model.config.layers))
    assert {step.layer.kind for step in plan.steps} == {"input", "conv", "maxpool", "add", "pool", "dense"}
    projections = [step for step in plan.steps if step.layer.on_skip]
    assert len(projections) == (3 if model.config.depth == 18 else 4)
    assert not any(step.activation for step in projections)


@pytest.mark.parametrize("form", ["matmul", "xla", "mixed"])
def test_every_form_of_convolutions_computes_the_same(form, narrow):
    """Also where "matmul" gathers patches, on small maps, and where it does not."""
    model, carries = narrow
    start, stop = model.config.position("layer1.1.conv1"), len(carries) - 1
    plan, arrays = folding.fold(model, start, stop)
    run = jax.jit(functools.partial(folding.run, plan, form=form))
    assert relative_error(run(arrays, carries[start]).x, carries[stop].x) <= 1e-5


@pytest.mark.parametrize(
    ("trainable", "first"),
    [
        ("7", "layer4.1.conv1"),
        ("layer4.1.conv1", "layer4.1.conv1"),
        ("layer4.1", "layer4.1.conv1"),
        ("layer4", "layer4.0.conv1"),
        ("none", "fc"),
        ("all", "input"),
    ],
)
def test_layers_are_frozen_by_number_by_name_and_by_part(trainable, first):
    config = ResNetConfig(depth=18, classes=10)
    assert config.layers[trainable_boundary(config, trainable)].name == first


def test_parts_of_mobilenet_are_known_too():
    config = MobileNetV2Config()
    assert config.layers[trainable_boundary(config, "block_16")].name == "block_16_expand"


def test_more_layers_than_there_are_are_refused():
    with pytest.raises(JaxtlError, match="ResNet-18 has 67 layers without its head, got 70"):
        trainable_boundary(ResNetConfig(), "70")
    with pytest.raises(JaxtlError, match=r"ResNet-18 has no layer 'layer5'; .*maxpool.*avgpool|bn1"):
        trainable_boundary(ResNetConfig(), "layer5")


def test_the_gradient_of_max_pooling_goes_to_the_first_of_equals():
    """As in torch: a flat patch of an image is all equals."""
    gradient = jax.grad(lambda x: ops.max_pool(x, 3, 2, ((1, 1), (1, 1))).sum())(jnp.ones((1, 4, 4, 1)))
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert gradient[0, :, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"depth": 20}, "depth must be one of 18, 34, 50, 101, 152, got 20"),
        ({"width": 0}, "ResNet-18: width must be"),
        ({"stem_kernel": 4}, "stem_kernel must be"),
        ({"bn_variance": "torch"}, "bn_variance must be"),
    ],
)
def test_configs_are_checked(options, complaint):
    with pytest.raises(JaxtlError, match=complaint):
        ResNetConfig(**options)


def test_a_stem_for_small_images_keeps_their_size():
    config = ResNetConfig(stem_kernel=3, stem_stride=1, stem_pool=False, width=NARROW)
    assert config.block_ends[0] == "relu"
    model = build(config, {name: np.ones(shape) for name, shape in config.parameters.items()})
    out = jax.eval_shape(lambda x: model.run(Carry(x), 0, config.position("layer1.1.add")), images(32))
    assert out.x.shape == (2, 32, 32, 8)


# Files.


@pytest.fixture
def saved(tmp_path):
    """A file of a narrow ResNet-18's weights."""
    path = tmp_path / "resnet.safetensors"
    save_weights(path, *drawn(18, classes=None, width=NARROW), {"licence": "none"})
    return path


def test_a_file_chooses_the_family(saved):
    model = load_model(saved)
    assert type(model) is ResNet
    assert model.config == ResNetConfig(depth=18, width=NARROW)
    assert type(load_model(saved, "resnet18")) is ResNet
    assert load_arrays(saved)[2]["format"] == "jaxtl-resnet-1"
    # What jaxtl wrote before it knew families.
    assert type(load_model(model="mobilenet_v2")) is MobileNetV2


def test_another_family_than_asked_for_is_refused(saved):
    with pytest.raises(JaxtlError, match="holds ResNet-18, not ResNet-50; leave out --model resnet50"):
        load_model(saved, "resnet50")
    with pytest.raises(JaxtlError, match="model: must be one of mobilenet_v2, resnet18"):
        load_model(saved, "vgg")
    with pytest.raises(JaxtlError, match="model: must be one of"):
        RunConfig(model="vgg")


def test_a_network_without_weights_says_where_to_get_them(jaxtl, tmp_path):
    for command in (("run",), ("extract", "--out", tmp_path / "f.npz")):
        code, _, err = jaxtl(*command, "--model", "resnet18")
        assert code == 2
        assert "python -m weights_convert torch resnet18.pth resnet18.safetensors" in err
        assert "--weights resnet18.safetensors" in err


# A whole run.


@pytest.fixture(scope="module")
def resnet_run(once, few_digits, without_figures):
    """The folder of a run of a narrow ResNet-18, and the weights it started from beside it."""
    from jaxtl.experiment import opening

    def make(folder):
        folder.mkdir()
        weights = folder / "start.safetensors"
        save_weights(weights, *drawn(18, classes=None, width=NARROW), {})
        config = RunConfig(
            dataset=few_digits,
            samples=None,
            image_size=32,
            model="resnet18",
            weights=str(weights),
            trainable="layer4.1",
            epochs=2,
            methods=("pca",),
        )
        with without_figures():
            opening.start(config, folder / "run").run()

    return once("resnet_run", make)


@pytest.mark.slow
def test_a_run_of_a_resnet_has_everything(resnet_run):
    run = resnet_run / "run"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "went through a ResNet-18 with weights from" in page
    assert "Deep residual learning" in page
    # Where the claims come from is true of every run.
    assert "MobileNetV2" not in page.replace("founding experiment, on MobileNetV2 and MNIST", "")
    rows = (run / "layers.csv").read_text(encoding="utf-8")
    ends = ResNetConfig(depth=18).block_ends
    assert all(f",{end}," in rows for end in ends), rows
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["model"] == "resnet18"


@pytest.mark.slow
def test_what_a_run_tuned_is_a_resnet_whose_frozen_layers_stayed(resnet_run, few_digits):
    from jaxtl.data import load
    from jaxtl.network.extraction import extract
    from jaxtl.records.arrays import Features
    from jaxtl.settings import Images

    start, tuned = (load_model(resnet_run / name) for name in ("start.safetensors", "run/model.safetensors"))
    assert type(tuned) is ResNet
    assert tuned.config.classes == 10
    before, after = arrays_of(start), arrays_of(tuned)
    learned = {name.split("/")[0] for name, a in before.items() if not np.array_equal(a, after[name])}
    assert learned == {f"layer4.1.{name}" for name in ("conv1", "bn1", "conv2", "bn2")}
    kept = Features.load(resnet_run / "run/features/after.npz")
    assert kept.meta["model"] == "resnet18 width 0.125"
    assert kept.meta["layer"] == "avgpool"
    own = extract(tuned, load(few_digits, "test"), Images(32))
    assert relative_error(own.values, kept.values) <= 1e-5


@pytest.mark.slow
def test_a_runs_network_is_exported_by_the_command(resnet_run, tmp_path, jaxtl):
    run = resnet_run / "run"
    for form, name in (("keras", "n.keras"), ("onnx", "n.onnx")):
        if form == "onnx":
            pytest.importorskip("onnx")
        code, out, _ = jaxtl("export", run, "--to", form, "--out", tmp_path / name)
        assert code == 0
        assert str(tmp_path / name) in out
    code, _, error = jaxtl("export", run, "--to", "onnx", "--stage", "both", "--out", tmp_path / "n.onnx")
    assert (code, "before or after for a network" in error) == (2, True)
    code, _, error = jaxtl("export", run, "--to", "keras", "--out", tmp_path / "n.onnx")
    assert (code, "must end in .keras" in error) == (2, True)
    code, _, error = jaxtl("export", run, "--to", "keras", "--image-size", 32, "--out", tmp_path / "n.keras")
    assert (code, "a run has an image size of its own" in error) == (2, True)
