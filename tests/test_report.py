"""The report page as text: what it holds, that it needs nothing else, that it is safe; without a browser."""

import base64
import dataclasses
import hashlib
import io
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxtl.report
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import SILHOUETTE
from jaxtl.plots.style import class_colours
from jaxtl.records.arrays import Embedding
from jaxtl.report import build_page
from jaxtl.report.payload import fitted
from tests.browser.synthetic import synthetic_run
from tests.reading_pages import Page, headings

NASTY = "</script><img src=x onerror=alert(1)>&amp;\u2028{{data}}"


@pytest.fixture(scope="module")
def run():
    return synthetic_run(300)


@pytest.fixture(scope="module")
def page(run):
    return Page(build_page([run]))


def unpacked(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def pixels(sheet):
    return np.asarray(Image.open(picture_of({"href": sheet})))


def picture_of(attributes):
    return io.BytesIO(base64.b64decode(attributes["href"].partition(",")[2]))


def test_elements_nest_and_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes, _ in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(page.all("h1")) == 1


def test_nothing_is_fetched(run):
    text = build_page([run])
    page = Page(text)
    for tag, attributes, _ in page.found:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            if value := attributes.get(name):
                citation = tag == "a" and value.startswith("https://doi.org/")
                assert citation or value.startswith(("data:", "#")), f"{tag} {name}={value}"
    assert "@import" not in text
    assert not re.search(r"url\(\s*['\"]?(http|//)", text)
    policy = next(
        a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy


def test_what_changed_comes_first(page):
    first = next(text for a, text in page.all("div") if a.get("class") == "first")
    assert "0.500 before [0.450, 0.550]→0.500 after [0.450, 0.550]" in first
    assert (
        "Of all test images, the tuned network itself classifies 0.900 correctly" in first
    )  # after the last epoch
    assert "Of 1 claim about these maps, 1 holds, 0 do not and 0 are undecided." in first
    assert "This is one run with one seed" in first
    assert "t-SNE before" in first
    assert "t-SNE after" in first
    order = headings(page)
    assert order[:3] == ["What changed", "The maps", "Claims, and whether the numbers support them"]
    text = " ".join(page.text)
    assert "300 test images of MNIST, 48 × 48 pixels each" in text
    assert "the network's last 10 layers and a softmax head learned from 2,000 training images" in text
    assert "below 0.6" in text


def test_headings_have_no_gap_between_their_levels(page):
    levels = [int(tag[1]) for tag, _, _ in page.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_contents_lead_to_every_section(page):
    ids = [a["id"] for a, _ in page.all("section")]
    contents = next(k for k, (tag, _, _) in enumerate(page.found) if tag == "nav")
    links = [a["href"] for tag, a, _ in page.found[contents:] if tag == "a"]
    assert links[: len(ids)] == [f"#{name}" for name in ids]
    listed = next(text for _, text in page.all("nav"))
    assert listed == "".join(headings(page))


def test_without_a_script_the_maps_are_pictures_and_no_control_is_dead(page):
    grid = next(text for a, text in page.all("div") if a.get("id") == "grid")
    names = [f"{name} {stage}" for stage in ("before", "after") for name in ("PCA", "t-SNE", "LLE")]
    assert [name for name in names if name in grid] == names
    controls = [a for tag in ("button", "input", "select") for a in page.outside(tag, "needs-script")]
    assert all("popovertarget" in a for a in controls)
    assert len(controls) < len(page.all("button"))


def test_pictures_show_the_points_in_the_colours_of_the_classes(run, page):
    pictures = [a for tag, a, _ in page.found if tag == "image"]
    assert len(pictures) == 2 + 6
    drawn = np.asarray(Image.open(picture_of(pictures[1])).convert("RGBA"))
    shown = drawn[drawn[..., 3] > 250][:, :3].astype(int)
    colours = (class_colours(10) * 255).round().astype(int)
    distances = np.abs(shown[:, None] - colours).sum(axis=2).min(axis=0)
    assert (distances < 60).all()  # of each class some dots
    assert (drawn[..., 3] == 0).mean() > 0.5  # the page's paper shows, be it light or dark


def test_names_of_numbers_open_their_explanation(page):
    opened = {a["popovertarget"] for a, _ in page.all("button") if "popovertarget" in a}
    told = {a["id"]: text for a, text in page.all("div") if "popover" in a}
    assert opened == set(told)
    silhouette = told["about-silhouette"]
    assert SILHOUETTE.sentence in silhouette
    assert "-1 to 1; higher is better" in silhouette
    assert "gaps" in silhouette  # why to look at it


def test_charts_give_their_values(run):
    page = Page(build_page([run]))
    values = [text for tag, a, text in page.found if tag == "g" and a.get("class") == "value"]
    assert "after, block_5_add: 0.500" in ["".join(text) for text in values]


def test_every_section_is_there_when_the_run_holds_its_data(page):
    assert headings(page)[3:] == [
        "How far to trust the maps",
        "How far apart the classes lie",
        "Class by class",
        "Through the layers",
        "What the features promised, and what training gave",
        "Training",
        "Where the time went",
        "Every number",
        "How to repeat it",
        "Sources",
    ]


def test_what_a_run_does_not_hold_is_left_out(run):
    optional = (
        "environment",
        "timings",
        "scores",
        "history",
        "features",
        "claims",
        "class_scores",
        "layers",
        "measures",
    )
    empty = {name: type(getattr(run, name))() for name in optional}
    page = Page(
        build_page([dataclasses.replace(run, **empty, images=None, images_fault="the folder is gone")])
    )
    assert headings(page) == ["The maps", "How far to trust the maps", "How to repeat it", "Sources"]
    text = " ".join(page.text)
    assert "no scores of how faithful" in text
    assert "Images are not shown: the folder is gone." in text
    assert page.data["runs"][0]["images"] is None
    assert page.data["runs"][0]["measures"] == {}
    sections = [text for a, text in page.all("section") if a.get("id") != "maps"]
    assert not re.search(r"\b(nan|None)\b", " ".join(sections))


def test_arrays_come_back_as_they_were(run, page):
    held = page.data["runs"][0]
    assert [(m["stage"], m["method"]) for m in held["maps"]] == [
        (stage, method) for stage in ("before", "after") for method in ("pca", "tsne", "lle")
    ]
    for a_map in held["maps"]:
        coords = unpacked(a_map["coords"], "<f4").reshape(-1, 2)
        true = run.embeddings[a_map["stage"], a_map["method"]].coords
        # Shifted and scaled alike on both axes: shapes stay.
        scale = np.ptp(true, axis=0) / np.ptp(coords, axis=0)
        assert scale[0] == pytest.approx(scale[1], rel=1e-4)
        assert np.allclose((true - true.mean(0)) / scale, coords - coords.mean(0), atol=1e-3)
    assert np.array_equal(unpacked(held["labels"], "<u4"), run.labels)
    assert np.array_equal(unpacked(held["index"], "<u4"), run.index)
    kind, text = held["measures"]["neighbors_after"]
    neighbors = unpacked(text, f"<{kind}").reshape(-1, 10)
    assert np.array_equal(neighbors, run.measures["neighbors_after"])


def test_views_are_fitted_without_outliers():
    coords = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    coords[7] = (1e6, -1e6)
    placed, outside = fitted(coords)
    inner = np.delete(placed, 7, axis=0)
    assert 0.5 < np.abs(inner).max() < 2.5
    assert outside == (np.abs(placed) > 1).any(axis=1).sum() > 0
    assert np.abs(placed[7]).min() > 1000  # still there, for who asks for all points


def test_a_map_of_one_place_is_no_division_by_zero():
    placed, outside = fitted(np.full((20, 2), 3.0, np.float32))
    assert np.array_equal(placed, np.zeros((20, 2)))
    assert outside == 0


def test_thumbnails_are_the_images(run, page):
    images = page.data["runs"][0]["images"]
    sheet = pixels(page.data["sheets"][images["sheets"][0]])
    columns, width, height = images["columns"], images["width"], images["height"]
    assert (width, height) == (28, 28)
    for row in (0, 39, 40, 299):
        top, left = row // columns * height, row % columns * width
        assert np.array_equal(sheet[top : top + height, left : left + width], run.images[row, ..., 0])


def test_many_images_take_several_sheets(run):
    images = np.repeat(run.images, 6, axis=0)
    labels, index = np.repeat(run.labels, 6), np.arange(1800, dtype=np.int32)
    maps = {
        key: Embedding(np.repeat(e.coords, 6, axis=0), labels, index, e.method, "sklearn", {})
        for key, e in run.embeddings.items()
    }
    many = dataclasses.replace(run, images=images, labels=labels, index=index, embeddings=maps, measures={})
    data = Page(build_page([many])).data
    keys = data["runs"][0]["images"]["sheets"]
    assert len(keys) == 2
    assert np.array_equal(pixels(data["sheets"][keys[1]])[:28, :28], images[1600, ..., 0])


def test_large_colour_images_become_small_ones(run):
    images = np.random.default_rng(0).integers(0, 256, (300, 1, 1, 3), dtype=np.uint8)
    images = np.tile(images, (1, 90, 150, 1))
    data = Page(build_page([dataclasses.replace(run, images=images)])).data
    held = data["runs"][0]["images"]
    assert (held["width"], held["height"]) == (64, 38)
    sheet = pixels(data["sheets"][held["sheets"][0]])
    middle = sheet[19 :: held["height"], 32 :: held["width"]].reshape(-1, 3)[:300].astype(int)
    assert np.abs(middle - images[:, 0, 0]).mean() < 12  # JPEG halves the resolution of colours


def test_runs_of_the_same_images_share_their_sheets(run):
    data = Page(build_page([run, dataclasses.replace(run, name="another")])).data
    assert len(data["runs"]) == 2
    assert len(data["sheets"]) == 1


def test_names_from_users_are_text_only(run):
    names = (NASTY, *run.class_names[1:])
    nasty = dataclasses.replace(
        run,
        name=NASTY,
        class_names=names,
        config={**run.config, "dataset": f"folder:{NASTY}", "weights": NASTY},
        environment={NASTY: NASTY},
        claims=[{**run.claims[0], "text": NASTY, "words": NASTY, "verdict": NASTY, "statistic": NASTY}],
        class_scores=[{**row, "class": NASTY, "metric": NASTY} for row in run.class_scores],
        layers=[{**row, "layer": NASTY, "metric": NASTY} for row in run.layers],
        scores=[dataclasses.replace(score, metric=NASTY) for score in run.scores],
        images_fault=NASTY,
    )
    text = build_page([nasty, run])
    page = Page(text)
    assert "<img" not in text
    assert not page.all("img")
    assert page.data["runs"][0]["classes"] == list(names)
    assert page.data["runs"][0]["name"] == NASTY
    assert text.count("</script>") == len(page.all("script"))


def test_ten_thousand_digits_are_small_enough_to_send():
    assert len(build_page([synthetic_run(10_000)])) < 5e6


def test_no_runs_no_page():
    with pytest.raises(JaxtlError, match="at least one run"):
        build_page([])


def test_vendored_files_are_the_published_ones():
    folder = Path(jaxtl.report.__file__).parent / "page" / "vendor"
    rows = re.findall(r"^\| (\S+\.js) \|.*\| ([0-9a-f]{64}) \|$", (folder / "VENDORED.md").read_text(), re.M)
    assert {name for name, _ in rows} == {path.name for path in folder.glob("*.js")}
    for name, digest in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert sum(path.stat().st_size for path in folder.glob("*.js")) < 300_000


def test_the_script_asks_for_nothing_that_the_page_does_not_hold():
    """What can be seen of it without a browser; `tests/browser` looks at all of it."""
    page = Page(build_page([synthetic_run(60)]))
    script = next(text for a, text in page.all("script") if a.get("id") != "data" and "packed" in text)
    made = set(re.findall(r"\bpacked\.(\w+) = ", script))
    asked = set(re.findall(r"\b(?:run|packed)\.(\w+)", script))
    assert asked - made <= set(page.data["runs"][0])
    assert {"maps", "labels", "measures"} <= asked
