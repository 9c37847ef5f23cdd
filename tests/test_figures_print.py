"""Figures as they are printed: widths, letters, many classes, many points, any names."""

from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.colors import to_hex

import jaxtl
from jaxtl.errors import JaxtlError
from jaxtl.plots import curves, density, fonts, key, maps, style
from jaxtl.plots.palette import class_colours
from jaxtl.records.arrays import Embedding
from tests.test_plots import all_axes, embedding, names_on, trio

HISTORY = [{"epoch": 1, "loss": 0.5, "accuracy": 0.8}, {"epoch": 2, "loss": 0.25, "accuracy": 0.9}]


@pytest.mark.parametrize(("width", "millimetres"), [("one", 89), ("two", 183), ("120", 120), (55.5, 55.5)])
def test_figures_have_the_width_that_is_asked_for(width, millimetres):
    for figure in (
        maps.embedding_figure(embedding(), width=width),
        maps.stage_figure(trio(), "before", width=width),
        curves.history_figure(HISTORY, width),
        jaxtl.plot(embedding(), width=width),
        embedding().plot(width=width),
    ):
        assert figure.get_figwidth() * 25.4 == pytest.approx(millimetres)


@pytest.mark.parametrize("width", ["three", "30", 2000, "nan", "-5"])
def test_other_widths_are_refused(width):
    with pytest.raises(JaxtlError, match=r"width: must be one \(89 mm\) or two \(183 mm\), or 40 to 1000 mm"):
        maps.embedding_figure(embedding(), width=width)


@pytest.mark.parametrize("dpi", [0, 10_000])
def test_other_resolutions_are_refused(tmp_path, dpi):
    with pytest.raises(JaxtlError, match="dpi: must be a number from 30 to 2400"):
        style.save(curves.history_figure(HISTORY), tmp_path / "a.png", dpi)
    assert list(tmp_path.iterdir()) == []


def sizes(figure):
    return [axes.get_window_extent().width for axes in all_axes(figure)]


def test_one_column_has_stages_beside_each_other_and_maps_that_can_be_read():
    wide, narrow = (maps.comparison_figure(trio(), trio(), width=width) for width in ("two", "one"))
    for figure, first_row in ((wide, "abc"), (narrow, "ab")):
        panels = all_axes(figure)
        letters = {axes.get_title(loc="left"): axes.get_window_extent() for axes in panels}
        assert sorted(letters) == list("abcdef")
        # Letters run along rows, from the left.
        row = [letters[letter] for letter in first_row]
        assert all(box.y1 > letters["f"].y1 for box in row)
        assert [box.x0 for box in row] == sorted(box.x0 for box in row)
    assert min(sizes(narrow)) > 0.4 * narrow.bbox.width
    # In print nothing is smaller than 5 points.
    texts = [text for axes in all_axes(narrow) for text in (axes.title, axes.xaxis.label, *axes.texts)]
    assert min(text.get_fontsize() for text in texts) >= 5


def test_a_map_alone_has_no_letter():
    for figure in (maps.embedding_figure(embedding()), maps.stage_figure([embedding()], "before")):
        assert figure.axes[0].get_title(loc="left") == ""


def test_axes_of_a_turned_pca_are_not_named_after_single_components():
    record = embedding("pca")
    turned = Embedding(
        record.coords, record.labels, None, "pca", "x", {"aligned": True}, record.diagnostics, record.meta
    )
    (axes,) = maps.embedding_figure(turned).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("plane of PC 1 and 2 (33 % of variance)", "")


def texts_of(path):
    return ["".join(node.itertext()) for node in ElementTree.parse(path).iterfind(".//{*}text")]


def test_texts_of_svg_files_are_texts(tmp_path):
    names = ("cat", "dog", "owl & co")
    style.save(maps.stage_figure([embedding(names=names)] * 2, "before"), tmp_path / "a.svg")
    texts = texts_of(tmp_path / "a.svg")
    assert {"a", "b", "Before fine-tuning", "t-SNE 1", "t-SNE (perplexity 30), n = 300"} <= {*texts}
    assert all(texts.count(name) == 3 for name in names)  # in two maps and in the key
    styles = [node.get("style") for node in ElementTree.parse(tmp_path / "a.svg").iterfind(".//{*}text")]
    assert all("'DejaVu Sans', sans-serif" in css for css in styles)


def test_classes_of_one_colour_have_other_marks_in_files_and_in_the_key(tmp_path):
    names = tuple(f"kind {k}" for k in range(24))
    figure = maps.embedding_figure(embedding(n=480, names=names))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        f"{k}  {name}" for k, name in enumerate(names)
    ]
    assert [handle.get_marker() for handle in legend.legend_handles] == ["o"] * 10 + ["s"] * 10 + ["^"] * 4
    style.save(figure, tmp_path / "a.svg")
    drawn = {}
    for path in ElementTree.parse(tmp_path / "a.svg").iterfind(".//{*}g[@id='points_1']/{*}path"):
        css, marks = dict(entry.split(": ") for entry in path.get("style").split("; ")), path.get("d")
        colour = css["stroke"] if css["fill"] == "none" else css["fill"]
        points, _ = drawn.get(colour, (0, None))
        drawn[colour] = points + marks.count("M"), marks.count("L") / marks.count("M")
    for k, colour in enumerate(map(to_hex, class_colours(24))):
        points, corners = drawn[colour]
        assert points == 20
        assert corners == {0: 1, 1: 3, 2: 2}[k // 10]  # strokes of no length; squares; triangles


def test_lines_enclose_the_densest_half_of_each_class():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(4000, 2)), rng.uniform(-8, 8, size=(1000, 2))])
    (x, y), shares, level = density.densest(points, [(-9, 9), (-9, 9)])
    cells = [
        np.searchsorted((middles[1:] + middles[:-1]) / 2, points[:, k]) for k, middles in enumerate((x, y))
    ]
    inside = shares[cells[1], cells[0]] >= level
    assert inside.mean() == pytest.approx(density.SHARE, abs=0.05)
    assert np.linalg.norm(points[inside], axis=1).max() < 2.5


def test_lines_are_drawn_where_points_hide_each_other_and_the_key_says_what_they_are():
    figures = {
        (n, classes): maps.embedding_figure(embedding(n=n, names=tuple(map(str, range(classes)))))
        for n, classes in ((4000, 3), (6000, 3), (6000, 60))
    }
    lines = {size: len(figure.axes[0].collections) - 1 for size, figure in figures.items()}
    assert lines == {(4000, 3): 0, (6000, 3): 3, (6000, 60): 0}
    told = {size: figure.legends[0].get_title().get_text() for size, figure in figures.items()}
    assert told == {
        size: "Lines enclose the densest 50 % of each class" if lines[size] else "" for size in lines
    }


@pytest.fixture
def machine(monkeypatch):
    """A function that leaves a machine with the fonts of matplotlib, and with others, by their letters."""

    def only(**letters):
        shipped = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
        added = [
            font_manager.FontEntry(fname=f"/{name}.ttf", name=name, style="normal", weight=400)
            for name in letters
        ]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", [*shipped, *added])
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_, **__: [])
        known = {f"/{name}.ttf": frozenset(map(ord, text)) for name, text in letters.items()}
        monkeypatch.setattr(fonts, "letters_of", lambda path: known.get(path) or has(path))
        forget()

    def forget():
        for cached in (fonts.others, fonts.font_files):
            cached.cache_clear()

    has = fonts.letters_of
    yield only
    monkeypatch.undo()
    forget()


def test_letters_come_from_the_font_that_has_most_of_them(machine):
    machine(Some="猫", Most="猫犬", Mono="猫犬鳥 Mono", Sans="猫犬鳥")
    assert fonts.others(frozenset("猫犬")) == ["Sans"]
    machine(First="猫", Second="犬鳥")
    assert fonts.others(frozenset("猫犬鳥")) == ["Second", "First"]
    assert fonts.can_write("猫 and 犬")
    assert not fonts.can_write("고양이")
    assert fonts.lacking("Größe, ναι, да") == frozenset()


# Of matplotlib's own fonts STIX alone has these.
PHONETIC = "ᶁᶄ"


def test_names_that_another_font_can_write_are_written(machine, tmp_path):
    machine()
    figure = maps.embedding_figure(embedding(names=(PHONETIC, "dog")))
    assert names_on(figure.axes[0]) == [PHONETIC, "dog"]
    for suffix in ("png", "svg", "pdf"):
        style.save(figure, tmp_path / f"a.{suffix}")
    assert texts_of(tmp_path / "a.svg").count(PHONETIC) == 2


def test_names_that_no_font_can_write_are_numbers_and_the_key_says_so(machine):
    machine()
    figure = maps.embedding_figure(embedding(names=(PHONETIC, "고양이", "dog")))
    assert names_on(figure.axes[0]) == ["0", "1", "2"]
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == [f"0  {PHONETIC}", "1  (no font here has these letters)", "2  dog"]


def test_wide_letters_take_the_room_of_two():
    assert not key.numbered(("abcdefghij",))
    assert key.numbered(("abcdefghijk",))
    assert key.numbered(("ああああああ",))
