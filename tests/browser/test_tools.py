"""How the maps are looked at: one method, linked zoom, paths, thumbnails, search, two runs side by side."""

import dataclasses

import numpy as np
import pytest

from tests.browser.synthetic import maps_of
from tests.browser.test_page import comes_true, frame

pytestmark = pytest.mark.browser

ZOOMED = "jaxtlReport.maps.map((map) => map.plot.get('cameraDistance'))"
DRAWN = """k => {
  const canvas = jaxtlReport.maps[k].over;
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let drawn = 0;
  for (let at = 3; at < data.length; at += 4) drawn += data[at] > 0;
  return drawn;
}"""


def test_one_method_has_larger_maps(sheet):
    _, all_maps = frame(sheet, 1)
    sheet.locator("[data-only=tsne]").click()
    assert sheet.locator("#grid .frame:visible").count() == 2
    _, alone = frame(sheet, 1)
    assert alone["width"] > 1.2 * all_maps["width"]
    sheet.locator("[data-only='']").click()
    assert sheet.locator("#grid .frame:visible").count() == 6


def test_every_map_says_how_many_images_its_neighbours_name(sheet, few):
    captions = sheet.locator("#grid figcaption").all_inner_texts()
    assert all("10 nearest on this map 0.500" in caption for caption in captions)


def test_before_and_after_of_a_method_zoom_together(sheet):
    zoom = "jaxtlReport.maps[1].plot.zoomToLocation([0.1, 0.1], 0.4)"
    try:
        sheet.evaluate(zoom)
        assert comes_true(
            sheet, lambda: np.allclose(sheet.evaluate(ZOOMED), [1, 0.4, 1, 1, 0.4, 1], atol=0.01)
        )
        sheet.locator("#fit").click()
        assert comes_true(sheet, lambda: np.allclose(sheet.evaluate(ZOOMED), 1, atol=0.01))
        sheet.locator("[data-switch=linked]").click()
        sheet.evaluate(zoom)
        assert comes_true(sheet, lambda: np.allclose(sheet.evaluate(ZOOMED), [1, 0.4, 1, 1, 1, 1], atol=0.01))
    finally:
        sheet.locator("[data-switch=linked][aria-pressed=false]").click()
        sheet.locator("#fit").click()
        sheet.wait_for_timeout(200)


def test_images_appear_where_one_zooms_in(sheet):
    assert sheet.evaluate("jaxtlReport.maps[4].thumbs") == 0
    sheet.evaluate("jaxtlReport.maps[4].plot.zoomToLocation(jaxtlReport.maps[4].spots[3], 0.25)")
    assert comes_true(sheet, lambda: sheet.evaluate("jaxtlReport.maps[4].thumbs") > 3)
    sheet.locator("#fit").click()
    assert comes_true(sheet, lambda: sheet.evaluate("jaxtlReport.maps[4].thumbs") == 0)


def test_zoom_to_a_selection_finds_it_in_every_map(sheet, few):
    rows = np.flatnonzero(few.labels == 2)[:5].tolist()
    sheet.evaluate("rows => jaxtlReport.select(rows)", rows)
    sheet.locator("[data-act=zoom]").click()
    sheet.wait_for_timeout(700)
    inside = sheet.evaluate(
        """rows => jaxtlReport.maps.every((map) => rows.every((row) => {
          const [x, y] = jaxtlReport.place(map, map.x[row], map.y[row]);
          return x >= 0 && y >= 0 && x <= map.frame.clientWidth && y <= map.frame.clientWidth;
        }))""",
        rows,
    )
    assert inside
    assert min(sheet.evaluate(ZOOMED)) < 1
    sheet.locator("#fit").click()
    sheet.wait_for_timeout(400)


def test_paths_lead_from_before_to_after(sheet):
    sheet.evaluate("jaxtlReport.select([1, 2, 3, 4, 5])")
    sheet.wait_for_timeout(200)
    before, after = sheet.evaluate(DRAWN, 1), sheet.evaluate(DRAWN, 4)
    sheet.locator("[data-switch=paths]").click()
    assert comes_true(sheet, lambda: sheet.evaluate(DRAWN, 4) < after)
    assert sheet.evaluate(DRAWN, 1) == before
    sheet.locator("[data-switch=paths]").click()


def test_lines_around_the_densest_halves_from_5000_points(page, sheet):
    assert sheet.locator("[data-switch=contours]").count() == 0
    frame(page, 4)
    with_lines = page.evaluate(DRAWN, 4)
    page.locator("[data-switch=contours]").click()
    assert comes_true(page, lambda: page.evaluate(DRAWN, 4) < with_lines)
    page.locator("[data-switch=contours]").click()


def test_names_stand_where_their_class_is_densest(page, run):
    """On a map of round clouds: at the middle of the class, whatever lies far away."""
    for k in (3, 4):
        spots, x, y = page.evaluate(
            f"(({{ spots, x, y }}) => [spots, [...x], [...y]])(jaxtlReport.maps[{k}])"
        )
        for label, spot in enumerate(spots):
            own = run.labels == label
            middle = np.median(np.array(x)[own]), np.median(np.array(y)[own])
            assert np.hypot(*np.subtract(spot, middle)) < 0.1


def test_search_finds_classes_and_names(sheet, opened, few):
    sheet.locator("#index").fill("image 7")
    sheet.locator("#search button").click()
    assert "not among" in sheet.locator("#found").inner_text()
    ids = np.array([f"photos/{'cat' if row % 3 else 'dog'}-{row}.png" for row in range(300)])
    names = tuple(f"digit {k}" for k in range(10))
    page, faults = opened(dataclasses.replace(few, ids=ids, class_names=names))
    page.locator("#index").fill("Digit 4")
    page.locator("#search button").click()
    assert page.evaluate("jaxtlReport.state.selection") == np.flatnonzero(few.labels == 4).tolist()
    assert "of class digit 4" in page.locator("#found").inner_text()
    page.locator("#index").fill("dog-")
    page.locator("#search button").click()
    assert page.evaluate("jaxtlReport.state.selection") == list(range(0, 300, 3))
    page.locator("#index").fill("dog-9.png")
    page.locator("#search button").click()
    assert page.evaluate("jaxtlReport.state.pinned") == 9
    assert not faults


def test_a_number_that_is_a_class_too_is_asked_about(sheet, few):
    for offered, seen in (("class", [-1, (few.labels == 5).sum()]), ("image", [5, 0])):
        sheet.evaluate("jaxtlReport.clear()")
        sheet.locator("#index").fill("5")
        sheet.locator("#search button").first.click()
        assert sheet.evaluate("[jaxtlReport.state.pinned, jaxtlReport.state.selection.length]") == [-1, 0]
        choices = sheet.locator("#found button").all_inner_texts()
        assert choices == [f"Class 5: {(few.labels == 5).sum()} images", "Image no. 5"]
        sheet.locator(f"#found [data-offered={offered}]").click()
        assert sheet.evaluate("[jaxtlReport.state.pinned, jaxtlReport.state.selection.length]") == seen


def test_a_tip_at_the_pointer_tells_which_image_it_is(sheet, few):
    place, box = frame(sheet, 4)
    x, y = sheet.evaluate("(({ x, y }) => [x[11], y[11]])(jaxtlReport.maps[4])")
    left, top = sheet.evaluate("([x, y]) => jaxtlReport.place(jaxtlReport.maps[4], x, y)", [x, y])
    sheet.mouse.move(box["x"] + left, box["y"] + top)
    sheet.wait_for_function("jaxtlReport.state.hover >= 0")
    tip = place.locator(".tip")
    row = sheet.evaluate("jaxtlReport.state.hover")
    assert tip.inner_text().split("\n")[:2] == [f"Image {few.index[row]}", few.class_names[few.labels[row]]]
    assert sheet.locator(".tip:visible").count() == 1
    sheet.mouse.move(2, 2)
    sheet.wait_for_function("jaxtlReport.state.hover < 0")
    assert tip.is_hidden()


def test_a_selection_says_how_right_and_how_faithful_it_is(sheet, few):
    rows = np.flatnonzero(few.labels == 5)
    sheet.evaluate("rows => jaxtlReport.select(rows)", rows.tolist())
    told = [row.locator("th, td").all_inner_texts() for row in sheet.locator(".statistics tbody tr").all()]
    lines = {name: selected for name, selected, _ in told}
    right = (few.measures["knn_after"] == few.labels)[rows].mean()
    assert lines["right by 10-NN after"] == f"{100 * right:.0f}\u00a0%"
    assert lines["neighbours kept"] == f"{100 * few.measures['kept'][rows].mean():.0f}\u00a0%"


def test_another_run_takes_the_place_of_the_first(opened, few):
    run, short = few, slice(0, 200)
    maps = {
        key: dataclasses.replace(e, coords=e.coords[short], labels=e.labels[short], index=e.index[short] + 7)
        for key, e in run.embeddings.items()
        if key[1] != "lle"
    }
    other = dataclasses.replace(
        run,
        name="the other",
        embeddings=maps,
        labels=run.labels[short],
        index=run.index[short] + 7,
        images=run.images[short],
        measures={},
    )
    page, faults = opened(run, other)
    page.evaluate("jaxtlReport.pin(3); jaxtlReport.select([1, 2])")
    page.locator("#run").select_option("1")
    page.wait_for_function("document.documentElement.dataset.ready === 'true' && jaxtlReport.run.n === 200")
    assert page.evaluate("[jaxtlReport.state.pinned, jaxtlReport.state.selection.length]") == [-1, 0]
    assert len(page.locator("#grid .frame").all()) == 4
    assert page.locator("h1:visible").count() == 1
    page.evaluate("jaxtlReport.find('207')")
    assert "not among the 200" in page.locator("#found").inner_text()
    page.evaluate("jaxtlReport.find('206')")
    assert page.evaluate("jaxtlReport.state.pinned") == 199
    assert not faults


def test_maps_of_two_runs_stand_side_by_side(opened, few):
    draw = np.random.default_rng(5)
    other = dataclasses.replace(few, name="the other", embeddings=maps_of(few.labels, few.index, draw))
    foreign = dataclasses.replace(few, name="of other images", labels=(few.labels + 1) % 10)
    page, faults = opened(few, other, foreign)
    assert page.locator("#beside option").all_inner_texts() == ["no other run", "the other"]
    page.locator("#beside").select_option("1")
    page.wait_for_function("jaxtlReport.maps.length === 4")
    captions = page.locator("#grid figcaption").all_inner_texts()
    assert [caption.split("\n")[0] for caption in captions] == [
        f"t-SNE {stage} · {name}" for name in ("made-up", "the other") for stage in ("before", "after")
    ]
    page.wait_for_function("jaxtlReport.maps.every((map) => map.plot)")
    page.evaluate("jaxtlReport.select([3, 4])")
    assert (
        page.evaluate("jaxtlReport.maps.map((map) => [...map.plot.get('selectedPoints')].length)") == [2] * 4
    )
    page.locator("[data-only=pca]").click()
    page.wait_for_function(
        "jaxtlReport.maps.length === 4 && jaxtlReport.maps.every((map) => map.method === 'pca')"
    )
    page.wait_for_function("location.hash.includes('beside=1')")
    page.locator("#beside").select_option("-1")
    page.wait_for_function("jaxtlReport.maps.length === 6")
    assert not faults
