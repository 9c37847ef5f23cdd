import itertools
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from jaxtl.errors import JaxtlError
from jaxtl.plots import curves, maps, palette, style
from jaxtl.records.arrays import Embedding

DIGITS = tuple(str(k) for k in range(10))
PARAMS = {"tsne": {"perplexity": 30.0}, "lle": {"n_neighbors": 12}}
RATIOS = {"explained_variance_ratio": [0.2345, 0.1]}


def embedding(method="tsne", n=300, names=DIGITS, seed=0, spike=False):
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % len(names)).astype(np.int32)
    coords = rng.normal(size=(n, 2)).astype(np.float32) + labels[:, None]
    if spike:
        coords[7] = (500, -3000)
    diagnostics = RATIOS if method == "pca" else {}
    index = np.arange(n, dtype=np.int32)
    meta = {"class_names": list(names)}
    return Embedding(
        coords.astype(np.float32), labels, index, method, "x", PARAMS.get(method, {}), diagnostics, meta
    )


def trio(**settings):
    return [embedding(method, seed=seed, **settings) for seed, method in enumerate(("pca", "tsne", "lle"))]


def colour_by_class(axes, record):
    """The RGB of each class as drawn, found by matching the drawn points to the record's."""
    (points,) = axes.collections
    drawn = {
        tuple(xy): tuple(rgba[:3])
        for xy, rgba in zip(points.get_offsets(), points.get_facecolors(), strict=True)
    }
    colours = {}
    for xy, label in zip(record.coords.astype(float), record.labels, strict=True):
        colours.setdefault(int(label), set()).add(drawn[tuple(xy)])
    assert all(len(colour) == 1 for colour in colours.values())
    return {label: colour.pop() for label, colour in colours.items()}


def all_axes(figure):
    return [axes for part in (figure.subfigs or [figure]) for axes in part.axes]


def names_on(axes):
    return [text.get_text() for text in axes.texts]


def test_a_class_has_one_colour_in_every_map_and_figure():
    before, after = trio(), trio(n=500)
    figure = maps.comparison_figure(before, after)
    seen = [colour_by_class(*pair) for pair in zip(all_axes(figure), [*before, *after], strict=True)]
    alone = embedding(seed=9)
    seen.append(colour_by_class(maps.embedding_figure(alone).axes[0], alone))
    (legend,) = figure.legends
    keys = zip(legend.texts, legend.legend_handles, strict=True)
    seen.append({int(text.get_text()): to_rgb(handle.get_color()) for text, handle in keys})
    assert all(colours == seen[0] for colours in seen)
    assert len(set(seen[0].values())) == 10


def test_a_map_that_lacks_the_last_class_keeps_the_colours():
    full = embedding(n=200)
    few = Embedding(full.coords[:5], full.labels[:5], full.index[:5], "tsne", "x", {}, {}, full.meta)
    colours = colour_by_class(maps.embedding_figure(full).axes[0], full)
    assert colour_by_class(maps.embedding_figure(few).axes[0], few).items() <= colours.items()


def test_every_point_is_drawn_inside_the_axes_on_one_scale():
    records = trio(spike=True)
    figure = maps.stage_figure(records, "before")
    for axes, record in zip(figure.axes, records, strict=True):
        (points,) = axes.collections
        drawn = np.asarray(points.get_offsets())
        assert sorted(map(tuple, drawn)) == sorted(map(tuple, record.coords.astype(float)))
        limits = np.array([axes.get_xlim(), axes.get_ylim()])
        assert (drawn > limits[:, 0]).all()
        assert (drawn < limits[:, 1]).all()
        assert np.ptp(limits, axis=1)[0] == pytest.approx(np.ptp(limits, axis=1)[1])
        assert axes.get_aspect() == 1
        # The largest extent fills nearly all of the map.
        assert np.ptp(drawn, axis=0).max() > 0.9 * np.ptp(limits, axis=1)[0]


def test_drawing_order_mixes_the_classes_the_same_way_each_time():
    record = embedding(n=1000)
    record = Embedding(record.coords, np.sort(record.labels), record.index, "tsne", "x", {}, {}, record.meta)
    orders = [maps.embedding_figure(record).axes[0].collections[0].get_facecolors() for _ in range(2)]
    np.testing.assert_array_equal(*orders)
    last = {tuple(rgba) for rgba in orders[0][-100:]}
    assert len(last) == 10


def test_titles_and_labels_say_method_size_accuracy_and_variance():
    pca, tsne, lle = maps.stage_figure(trio(n=2000), "before", {"pca": 0.333, "tsne": 0.72549}).axes
    assert pca.get_title() == "PCA, n = 2,000\n10-NN accuracy, leave one out: 0.333"
    assert tsne.get_title() == "t-SNE (perplexity 30), n = 2,000\n10-NN accuracy, leave one out: 0.725"
    assert lle.get_title() == "LLE (k = 12), n = 2,000"
    assert (pca.get_xlabel(), pca.get_ylabel()) == ("PC 1 (23 % of variance)", "PC 2 (10 % of variance)")
    assert (tsne.get_xlabel(), lle.get_ylabel()) == ("t-SNE 1", "LLE 2")
    assert all(len(axes.get_xticks()) == len(axes.get_yticks()) == 0 for axes in (pca, tsne, lle))


def test_stages_head_their_rows_with_their_own_accuracies():
    figure = maps.comparison_figure(trio(), trio(), {"before": {"lle": 0.49}, "after": {"lle": 0.83}})
    assert [part.get_suptitle() for part in figure.subfigs] == ["Before fine-tuning", "After fine-tuning"]
    assert [part.axes[2].get_title()[-5:] for part in figure.subfigs] == ["0.490", "0.830"]
    assert [part.axes[0].get_title() for part in figure.subfigs] == ["PCA, n = 300"] * 2


def test_names_stand_at_class_medians_and_in_the_legend():
    record = embedding(names=("cat", "dog", "owl"))
    figure = maps.embedding_figure(record)
    assert names_on(figure.axes[0]) == ["cat", "dog", "owl"]
    for k, text in enumerate(figure.axes[0].texts):
        np.testing.assert_allclose(text.xy, np.median(record.coords[record.labels == k], axis=0))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["cat", "dog", "owl"]
    point_area = figure.axes[0].collections[0].get_sizes()[0]
    assert all(handle.get_markersize() ** 2 > point_area for handle in legend.legend_handles)


@pytest.mark.parametrize(("classes", "length"), [(10, 1), (10, 9), (30, 20), (60, 8)])
def test_names_do_not_overlap_even_where_medians_coincide(classes, length):
    record = embedding(n=1200, names=tuple(f"{k:_>{length}}"[-length:] for k in range(classes)))
    coords = np.random.default_rng(0).normal(size=(1200, 2)).astype(np.float32)
    record = Embedding(coords, record.labels, record.index, "tsne", "x", {}, {}, record.meta)
    figure = maps.stage_figure([record] * 3, "before")
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        # 60 % of each box: its halo and line spacing may touch a neighbour's.
        boxes = [box.expanded(0.6, 0.6) for box in boxes]
        clashes = [(i, j) for i in range(classes) for j in range(i) if boxes[i].overlaps(boxes[j])]
        assert clashes == []


def test_long_names_are_numbered_on_the_map_and_spelt_in_the_legend():
    names = ("_private", "cost $x$ and $y$", "a" * 60)
    figure = maps.embedding_figure(embedding(names=names))
    figure.draw_without_rendering()
    assert names_on(figure.axes[0]) == ["0", "1", "2"]
    shown = [text.get_text() for text in figure.legends[0].texts]
    assert shown == ["0  _private", "1  cost $x$ and $y$", "2  " + "a" * 27 + "…"]


@pytest.mark.parametrize(
    "classes", [1, 10, 11, 41, *(pytest.param(n, marks=pytest.mark.slow) for n in (100, 201))]
)
def test_any_number_of_classes_draws_within_the_figure(classes, tmp_path):
    names = tuple(f"class number {k}" for k in range(classes))
    figure = maps.stage_figure(trio(n=2 * classes + 3, names=names), "after")
    style.save(figure, tmp_path / "many.png")
    assert len(figure.legends) == (classes <= 200)
    width = figure.bbox.width
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y1 <= min(axes.get_window_extent().y0 for axes in figure.axes)
    # The maps keep their size whatever the legend takes.
    assert min(axes.get_window_extent().width for axes in figure.axes) > 0.27 * width
    for legend in figure.legends:
        assert [text.get_text().split("  ")[-1] for text in legend.get_texts()] == list(names)
    if classes > 200:
        assert f"{classes} classes" in figure.get_supxlabel()


def test_points_shrink_with_n_and_are_rasterised_when_many():
    sizes, rasterised = [], []
    for n in (100, 2000, 10_000, 70_000):
        points = maps.embedding_figure(embedding(n=n)).axes[0].collections[0]
        sizes.append(points.get_sizes()[0])
        rasterised.append(points.get_rasterized())
    assert sizes == sorted(sizes, reverse=True)
    assert rasterised == [False, False, True, True]


FIGURES = {
    "map": lambda n: maps.embedding_figure(embedding(n=n), 0.9, "title"),
    "stage": lambda n: maps.stage_figure(trio(n=n), "before"),
    "comparison": lambda n: maps.comparison_figure(trio(n=n), trio(n=n)),
    "history": lambda n: curves.history_figure([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]),
}
ONCE = {("map", ".png"), ("stage", ".svg"), ("history", ".pdf")}
MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


# Each figure and each form once; all pairs before a release.
@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        pytest.param(*pair, marks=() if pair in ONCE else pytest.mark.slow)
        for pair in itertools.product(FIGURES, MAGIC)
    ],
)
def test_files_reproduce_to_the_byte(tmp_path, kind, suffix):
    figure = FIGURES[kind](400)
    for path in ("a", "b"):
        style.save(figure, tmp_path / f"{path}{suffix}")
    # Made anew, under a state that someone else has set.
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "other", "axes.grid": True}):
        style.save(FIGURES[kind](400), tmp_path / f"c{suffix}")
    files = [(tmp_path / f"{name}{suffix}").read_bytes() for name in "abc"]
    assert files[0].startswith(MAGIC[suffix])
    assert files[0] == files[1] == files[2]
    assert matplotlib.__version__.encode() not in files[0]


def test_svg_files_draw_every_point_at_its_place_in_its_colour(tmp_path):
    record = embedding(n=500)
    figure = maps.embedding_figure(record)
    style.save(figure, tmp_path / "map.svg")
    drawn = {}
    for path in ElementTree.parse(tmp_path / "map.svg").iterfind(".//{*}g[@id='points_1']/{*}path"):
        css = dict(entry.split(": ") for entry in path.get("style").split("; "))
        assert (css["stroke-linecap"], float(css["stroke-width"])) == (
            "round",
            pytest.approx(3.25, abs=0.01),
        )
        for x, y in re.findall(r"M (\S+) (\S+)", path.get("d")):
            drawn[float(x), float(y)] = css["stroke"]
    assert len(drawn) == 500
    (axes,) = figure.axes
    figure.set_dpi(72)
    places = axes.transData.transform(record.coords) * (1, -1) + (0, figure.bbox.height)
    for place, label in zip(places, record.labels, strict=True):
        nearest = min(drawn, key=lambda xy: np.hypot(*(xy - place)))
        assert np.hypot(*(nearest - place)) < 0.02
        assert drawn[nearest] == palette.TEN_COLOURS[label]


def test_vector_files_of_many_points_stay_small(tmp_path):
    for suffix in (".svg", ".pdf"):
        style.save(maps.embedding_figure(embedding(n=70_000)), tmp_path / f"map{suffix}")
        assert (tmp_path / f"map{suffix}").stat().st_size < 2e6


@pytest.mark.parametrize(("given", "dpi"), [({}, 300), ({"dpi": 72}, 72)])
def test_png_has_so_many_dots_per_inch(tmp_path, given, dpi):
    figure = maps.stage_figure(trio(), "before")
    style.save(figure, tmp_path / "x" / "before.png", **given)
    data = (tmp_path / "x" / "before.png").read_bytes()
    assert int.from_bytes(data[16:20], "big") == round(dpi * figure.get_figwidth())


def test_global_state_stays_as_it_was(tmp_path):
    state = dict(matplotlib.rcParams)
    style.save(maps.stage_figure(trio(), "before"), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == state


@pytest.mark.parametrize("name", ["figure.bmp", "figure"])
def test_save_refuses_other_suffixes_and_leaves_nothing(tmp_path, name):
    with pytest.raises(JaxtlError, match=r"use \.png, \.svg, \.pdf") as caught:
        style.save(curves.history_figure([{"epoch": 1, "loss": 1.0}]), tmp_path / name)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_history_draws_what_there_is():
    rows = [
        {"epoch": 1, "loss": 0.5, "accuracy": 0.8, "test_loss": 0.6, "test_accuracy": None},
        {"epoch": 2, "loss": 0.3, "accuracy": 0.9, "test_accuracy": 0.85},
    ]
    loss, accuracy = curves.history_figure(rows).axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("cross-entropy loss", "accuracy")
    assert [line.get_label() for line in accuracy.lines] == ["training", "test"]
    np.testing.assert_array_equal(loss.lines[0].get_xydata(), [[1, 0.5], [2, 0.3]])
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), [0.6, np.nan])
    np.testing.assert_array_equal(accuracy.lines[1].get_ydata(), [np.nan, 0.85])
    loss, accuracy = curves.history_figure([{"epoch": 1, "loss": 0.5}]).axes
    assert (len(loss.lines), len(accuracy.lines)) == (1, 0)
    assert accuracy.get_legend() is None


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: curves.history_figure([]), "at least one row"),
        (lambda: curves.history_figure([{"loss": 1.0}]), "each with its epoch"),
        (lambda: maps.stage_figure([], "before"), "at least one embedding"),
        (lambda: maps.comparison_figure([], []), "at least one embedding"),
        (lambda: maps.comparison_figure(trio(), trio()[:2]), "before are pca, tsne, lle, after pca, tsne;"),
    ],
)
def test_refuses_what_cannot_be_drawn(draw, message):
    with pytest.raises(JaxtlError, match=message):
        draw()
