"""Python as a user works in it: what is taken, what is printed, pictures, bars, layers, dimensions."""

import re
import shutil
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import jaxtl
from jaxtl import Dataset, Embedding, Features, Images, JaxtlError, metrics
from jaxtl.records.arrays import Neighbors
from jaxtl.runs.data import load_run
from tests.run_files import older

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(60, 6))
LABELS = np.arange(60) % 3
NAMES = np.array(["robin", "tit", "wren"])[LABELS]


def test_the_reference_has_every_public_name():
    page = (Path(__file__).parent.parent / "docs" / "reference.rst").read_text(encoding="utf-8")
    assert [name for name in jaxtl.__all__[1:] if not re.search(rf"jaxtl\.{name}\b", page)] == []


# What is taken.


@pytest.mark.parametrize("make", [np.asarray, np.ndarray.tolist, np.float64, np.float16], ids=str)
def test_features_take_real_numbers_of_any_kind(make):
    features = Features(make(POINTS), LABELS)
    assert (features.values.dtype, features.values.shape) == (np.float32, (60, 6))
    np.testing.assert_allclose(features.values, POINTS, rtol=1e-3, atol=1e-3)
    assert features.index.tolist() == list(range(60))


def test_features_take_arrays_of_jax():
    import jax.numpy as jnp

    features = Features(jnp.asarray(POINTS, jnp.bfloat16), jnp.asarray(LABELS))
    assert features.values.dtype == np.float32
    np.testing.assert_allclose(features.values, POINTS, rtol=1e-2)


def test_float32_features_are_not_copied():
    values = POINTS.astype(np.float32)
    assert Features(values).values is values


@pytest.mark.parametrize("labels", [LABELS, LABELS.tolist(), LABELS.astype(np.uint8)], ids=type)
def test_labels_are_whole_numbers_of_any_kind(labels):
    features = Features(POINTS, labels)
    assert features.labels.dtype == np.int32
    assert features.labels.tolist() == LABELS.tolist()
    assert features.class_names == ("0", "1", "2")


@pytest.mark.parametrize("labels", [NAMES, NAMES.tolist(), NAMES.astype(object)], ids=type)
def test_names_of_classes_are_labels_too(labels, tmp_path):
    Features(POINTS, labels, ids=[f"{k}.jpg" for k in range(60)]).save(tmp_path / "f.npz")
    features = Features.load(tmp_path / "f.npz")
    assert features.labels.tolist() == LABELS.tolist()
    assert features.class_names == ("robin", "tit", "wren")
    assert features.ids[1] == "1.jpg"


def test_named_labels_follow_the_class_names_that_are_given():
    features = Features(POINTS, NAMES, meta={"class_names": ["wren", "tit", "robin", "owl"]})
    assert features.labels[:3].tolist() == [2, 1, 0]
    assert features.class_names == ("wren", "tit", "robin", "owl")


def test_a_data_set_takes_labels_of_64_bits():
    images = np.zeros((2, 4, 4, 1), np.uint8)
    assert Dataset(images, np.array([0, 1]), ("a", "b"), "test", "x").labels.dtype == np.int32


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"values": [[1.0], [2.0, 3.0]]}, "values cannot be read as an array"),
        ({"values": [["a", "b"]]}, "values must be float32"),
        ({"values": "features.npz"}, "values must be an array, got str"),
        ({"values": 3.0}, r"values must be float32 \[n, d\]"),
        ({"values": POINTS, "labels": LABELS / 2}, "labels must be int32"),
        ({"values": POINTS, "labels": LABELS - 1}, "labels must not be negative"),
        ({"values": POINTS, "labels": LABELS + 2**40}, "labels must be int32"),
        ({"values": POINTS, "labels": NAMES[1:]}, r"labels must be int32 \[60\]"),
        (
            {"values": POINTS, "labels": NAMES, "meta": {"class_names": ["wren"]}},
            "class_names lack robin, tit",
        ),
        ({"values": POINTS, "ids": ["a"]}, r"ids must be texts \[60\]"),
    ],
)
def test_what_features_cannot_be_is_told_in_a_line(fields, words):
    with pytest.raises(JaxtlError, match=words) as refused:
        Features(**fields)
    assert "\n" not in str(refused.value)


def test_metrics_take_lists_and_names():
    accuracy, _ = jaxtl.knn_accuracy(POINTS.tolist(), NAMES.tolist())
    assert accuracy == jaxtl.knn_accuracy(POINTS, LABELS)[0]
    assert metrics.silhouette(POINTS.tolist(), NAMES.tolist()).mean == metrics.silhouette(POINTS, LABELS).mean


def test_metrics_refuse_what_is_no_array():
    with pytest.raises(JaxtlError, match="values must be an array, got Features"):
        jaxtl.knn_accuracy(Features(POINTS), LABELS)
    with pytest.raises(JaxtlError, match="values cannot be read as an array"):
        metrics.effective_rank([[1.0], [2.0, 3.0]])


# What is printed.


@pytest.fixture(scope="module")
def run(few_run):
    return load_run(few_run)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (Features(POINTS, NAMES), "60 x 6"),
        (Embedding(POINTS[:, :2], NAMES), "classes 3 (robin, tit, wren)"),
        (Neighbors(np.zeros((60, 5), np.int32), np.zeros((60, 5), np.float32)), "points 60"),
        (Dataset(np.zeros((60, 8, 9, 3), np.uint8), LABELS, ("a", "b", "c"), "test", "x"), "8 x 9 x 3"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_records_are_shown_in_a_line_without_arrays(record, told):
    assert told in repr(record)
    assert str(record) == repr(record)
    assert len(repr(record)) < 200
    assert "array" not in repr(record)


def test_a_run_is_shown_with_its_accuracies(run):
    assert "10 (" in repr(run)
    assert len(repr(run)) < 400
    page = run._repr_html_()
    accuracy = run.score("after", "features", metrics_label())
    assert f"{accuracy.value:.3f} [" in page
    assert "array(" not in page


def metrics_label():
    from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT

    return LEAVE_ONE_OUT


def test_a_network_is_shown_by_its_sizes(small_model):
    model, _ = small_model
    assert repr(model).startswith("<MobileNetV2: width 0.35, ")
    assert "classes 10" in str(model)


def test_names_are_no_markup():
    page = Features(POINTS, NAMES, meta={"class_names": ["<b>", "robin", "tit", "wren"]})._repr_html_()
    assert "<b>," not in page
    assert "&lt;b&gt;" in page


# Pictures.


def test_a_plot_is_a_picture_that_notebooks_show():
    before = matplotlib.rcParams.copy()
    figure = Embedding(POINTS[:, :2], NAMES, method="UMAP").plot(title="Birds")
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert figure.get_suptitle() == "Birds"
    assert matplotlib.rcParams == before


def test_several_embeddings_stand_side_by_side():
    one = Embedding(POINTS[:, :2], LABELS)
    assert len(jaxtl.plot(one, one).axes) == 2


def test_a_run_is_plotted_before_over_after(run):
    assert len(run.plot().axes) == 2 * len(run.methods)


def test_pyplot_stays_out(few_run, launch):
    code = f"""
import jaxtl, sys
from jaxtl.runs.data import load_run
load_run({str(few_run)!r}).plot()._repr_png_()
sys.exit("matplotlib.pyplot" in sys.modules)
"""
    assert launch("--version", first=code).wait(60) == 0


@pytest.mark.parametrize("embeddings", [(), (POINTS,), (Embedding(POINTS[:, :3]),)])
def test_what_cannot_be_plotted_is_told(embeddings):
    with pytest.raises(JaxtlError, match=r"at least one|got ndarray|in 2 dimensions, this one has 3"):
        jaxtl.plot(*embeddings)


# Bars.


def test_progress_is_shown_where_it_is_asked_for(capsys):
    jaxtl.reduce(POINTS, "pca")
    jaxtl.reduce(POINTS, "pca", progress=False)
    assert capsys.readouterr() == ("", "")
    jaxtl.reduce(POINTS, "pca", progress=True)
    assert "✓ Embedding" in capsys.readouterr().err


def test_progress_may_be_a_function():
    fractions = []
    jaxtl.reduce(POINTS, "pca", progress=fractions.append)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_a_run_is_silent_unless_asked(few_run, few_config, tmp_path, capsys):
    folder = Path(shutil.copytree(few_run, tmp_path / "run"))
    (folder / "claims.json").unlink()
    jaxtl.run(few_config, out=folder)
    assert capsys.readouterr() == ("", "")
    (folder / "claims.json").unlink()
    jaxtl.run(few_config, out=folder, progress=True)
    assert "✓ Claims" in capsys.readouterr().err


def test_a_notebook_without_widgets_gets_lines_and_no_warning(monkeypatch):
    from rich.console import Console

    from jaxtl.machine import terminal

    monkeypatch.setattr(terminal, "find_spec", lambda name: None)
    console = Console(force_jupyter=True)
    shown = []
    monkeypatch.setattr(console, "print", lambda *text, **how: shown.append(text[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with terminal.Terminal(console).step("Work") as tell:
            tell(0.5)
    assert "Work" in shown[0]


# Layers.


@pytest.mark.parametrize(
    "layer", ["block_1_expand_relu", pytest.param("block_13_depthwise_BN", marks=pytest.mark.slow)]
)
def test_features_of_a_layer_are_its_output_averaged(small_model, few_digits, layer):
    model, _ = small_model
    data = jaxtl.load(few_digits, "test").take(5)
    features = jaxtl.extract(model, data, Images(32), layer=layer)
    assert features.meta["layer"] == layer
    assert_averages(features.values, model, data, layer)


def test_images_alone_have_features_without_labels(small_model, few_digits):
    model, _ = small_model
    data = jaxtl.load(few_digits, "test").take(5)
    alone = jaxtl.extract(model, data.images[..., 0].astype(int).tolist(), Images(32))
    assert alone.labels is None
    np.testing.assert_array_equal(alone.values, jaxtl.extract(model, data, Images(32)).values)
    for images in (data.images[0], data.images[:0], data.images / 255, "photos"):
        with pytest.raises(JaxtlError, match="images"):
            jaxtl.extract(model, images)


def assert_averages(values, model, data, layer):
    import jax

    from jaxtl.data.preprocess import preprocess

    outputs = jax.jit(lambda x: model.intermediates(x, [layer]))(preprocess(data.images, 32, "unit"))
    expected = np.asarray(outputs[layer]).mean((1, 2))
    np.testing.assert_allclose(values, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_the_layer_may_be_on_the_projection_of_a_residual_block(few_digits):
    from jaxtl.models.weights import build
    from tests.random_weights import random_arrays

    config = jaxtl.ResNetConfig(depth=18, width=0.125)
    model, data = build(config, random_arrays(config)), jaxtl.load(few_digits, "test").take(5)
    for layer in ("layer2.0.downsample.1", "layer2.0.bn2"):
        assert_averages(jaxtl.extract(model, data, Images(32), layer=layer).values, model, data, layer)


@pytest.mark.parametrize(
    ("layer", "words"), [("block_99", "has no layer 'block_99'"), ("predictions", "no pixels to average")]
)
def test_what_is_no_layer_of_features_is_refused(small_model, few_digits, layer, words):
    with pytest.raises(JaxtlError, match=words):
        jaxtl.extract(small_model[0], jaxtl.load(few_digits, "test"), Images(32), layer=layer)


# Dimensions.


@pytest.mark.parametrize("backend", ["sklearn", "jaxtl"])
@pytest.mark.parametrize("n_components", [1, 3, 6])
def test_pca_has_as_many_components_as_are_asked_for(backend, n_components):
    from sklearn.decomposition import PCA

    embedding = jaxtl.reduce(POINTS, "pca", backend, n_components=n_components)
    expected = PCA(n_components, svd_solver="full").fit(POINTS.astype(np.float32).astype(np.float64))
    assert embedding.coords.shape == (60, n_components)
    assert embedding.params["n_components"] == n_components
    ratio = embedding.diagnostics["explained_variance_ratio"]
    np.testing.assert_allclose(ratio, expected.explained_variance_ratio_)
    np.testing.assert_array_equal(
        embedding.coords[:, :1], jaxtl.reduce(POINTS, "pca", backend, n_components=1).coords
    )


@pytest.mark.parametrize("backend", ["jaxtl", "sklearn"])
def test_lle_has_as_many_components_as_are_asked_for(backend):
    from sklearn.manifold import LocallyLinearEmbedding

    embedding = jaxtl.reduce(POINTS, "lle", backend, n_components=3)
    model = LocallyLinearEmbedding(n_neighbors=12, n_components=3, eigen_solver="dense").fit(POINTS)
    assert embedding.coords.shape == (60, 3)
    assert embedding.diagnostics["reconstruction_error"] == pytest.approx(
        model.reconstruction_error_, rel=1e-3
    )


@pytest.mark.parametrize("initialization", ["pca", "random", "spectral"])
def test_tsne_has_three_dimensions_too(initialization):
    settings = {"initialization": initialization, "perplexity": 5, "n_iter": 20}
    embedding = jaxtl.reduce(POINTS, "tsne", n_components=3, **settings)
    assert embedding.coords.shape == (60, 3)
    assert np.linalg.matrix_rank(embedding.coords - embedding.coords.mean(axis=0)) == 3


@pytest.mark.parametrize("method", ["pca", "tsne", "lle"])
def test_others_are_placed_among_landmarks_in_three_dimensions(method, tmp_path):
    settings = {"tsne": {"perplexity": 5, "n_iter": 20}, "lle": {"n_neighbors": 8}}.get(method, {})
    jaxtl.reduce(POINTS, method, n_components=3, landmarks=40, **settings).save(tmp_path / "e.npz")
    assert Embedding.load(tmp_path / "e.npz").coords.shape == (60, 3)


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("pca", {"n_components": 7}, r"at most 6 for features \[60, 6\], got 7"),
        ("pca", {"n_components": 0}, "an integer at least 1, got 0"),
        ("pca", {"n_components": True}, "an integer at least 1, got True"),
        ("pca", {"n_components": 6, "svd_solver": "arpack"}, "at most 5"),
        ("tsne", {"n_components": 4, "perplexity": 5}, "must be 2 or 3, got 4"),
        ("tsne", {"n_components": 3, "perplexity": 5, "negative_gradient_method": "fft"}, "take bh"),
        ("lle", {"n_components": 4, "n_neighbors": 4}, "at most 3 for 6 features and n_neighbors 4"),
    ],
)
def test_dimensions_that_a_method_has_not_are_refused(method, settings, words):
    with pytest.raises(JaxtlError, match=words):
        jaxtl.reduce(POINTS, method, **settings)


def test_cuml_s_tsne_has_two():
    from jaxtl.reduction.cuml import cuml_tsne

    with pytest.raises(JaxtlError, match="n_components must be 2, got 3; take --backend opentsne"):
        cuml_tsne(POINTS.astype(np.float32), None, n_components=3)


def test_the_command_reduces_to_three_and_draws_two(files, jaxtl, tmp_path):
    out = tmp_path / "e.npz"
    how = ["--method", "pca", "--set", "n_components=3", "--out", out]
    assert jaxtl("reduce", files / "good.npz", *how)[0] == 0
    code, _, said = jaxtl("plot", out, "--out", tmp_path / "e.png")
    assert (code, "in 2 dimensions, this one has 3" in said) == (2, True)


def test_a_run_s_embedding_in_three_dimensions_is_told_by_its_file(few_run, tmp_path):
    folder = older(Path(shutil.copytree(few_run, tmp_path / "run")))
    path = folder / "embeddings" / "before_pca.npz"
    given = Embedding.load(path)
    Embedding(np.zeros((len(given.coords), 3)), given.labels, given.index, meta=given.meta).save(path)
    with pytest.raises(JaxtlError, match=r"before_pca\.npz.*in 2 dimensions"):
        load_run(folder)
