"""The report page in a browser: what a reader does with the maps, at 10,000 points."""

import dataclasses
import io

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from PIL import Image

pytestmark = pytest.mark.browser

PLACES = """(k) => {
  const map = jaxtlReport.maps[k];
  return Array.from(jaxtlReport.run.labels, (_, row) => jaxtlReport.place(map, map.x[row], map.y[row]));
}"""
SELECTED = "jaxtlReport.maps.map((map) => [...map.plot.get('selectedPoints')].sort((a, b) => a - b))"


def frame(page, k):
    """The element and the box of a map, brought into view."""
    place = page.locator("#grid .frame").nth(k)
    place.evaluate("element => element.scrollIntoView({ block: 'center', behavior: 'instant' })")
    page.wait_for_timeout(50)
    return place, place.bounding_box()


def picture(locator, **options):
    return np.asarray(Image.open(io.BytesIO(locator.screenshot(**options))).convert("RGB")).astype(int)


def pixels_of(page, k):
    """What a map's own canvas shows, without names and rings."""
    return page.evaluate(
        """async (k) => {
          await new Promise((done) => setTimeout(done, 150));
          const canvas = jaxtlReport.maps[k].canvas;
          const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          let drawn = 0;
          for (let at = 3; at < data.length; at += 4) drawn += data[at] > 0;
          return drawn / (canvas.width * canvas.height);
        }""",
        k,
    )


def comes_true(page, condition):
    """Whether something that a page may still be drawing becomes so: a busy machine takes its time."""
    tries = (condition() or page.wait_for_timeout(100) for _ in range(40))
    return any(tries)


def lonely(places, side, k=0):
    """A row whose dot has no other within a few pixels."""
    inside = np.flatnonzero((np.abs(places - side / 2) < side / 2 - 25).all(axis=1))
    distance = [np.partition(np.hypot(*(places - places[row]).T), 1)[1] for row in inside[:400]]
    return int(inside[:400][np.argsort(distance)[-1 - k]])


@pytest.mark.parametrize("k", range(6))
def test_every_map_shows_its_points(page, k):
    frame(page, k)
    assert pixels_of(page, k) > 0.02


def test_pointing_shows_the_image_in_all_maps(page, run):
    _, box = frame(page, 1)
    places = np.array(page.evaluate(PLACES, 1))
    row = lonely(places, box["width"])
    page.mouse.move(2, 2)
    page.wait_for_function("jaxtlReport.state.hover < 0")
    without = page.evaluate("jaxtlReport.maps.map((map) => map.over.toDataURL().length)")
    page.mouse.move(box["x"] + places[row][0] + 1, box["y"] + places[row][1])
    page.wait_for_function("jaxtlReport.state.hover >= 0")
    assert page.evaluate("jaxtlReport.state.hover") == row
    facts = page.locator("#point").inner_text()
    name = run.class_names[run.labels[row]]
    assert f"Image {run.index[row]}" in facts
    assert page.locator("#point dd").first.inner_text() == name
    assert run.class_names[run.measures["knn_before"][row]] in page.locator("#point dd").nth(1).inner_text()
    assert len(page.locator("#point [data-stage=before] button").all()) == 10
    neighbors = page.locator("#point [data-stage=after] .thumb").evaluate_all(
        "thumbs => thumbs.map((thumb) => Number(thumb.dataset.row))"
    )
    assert neighbors == run.measures["neighbors_after"][row].tolist()
    # Rings are drawn with a frame to come, which a busy machine is slow to reach.
    page.wait_for_function(
        "without => jaxtlReport.maps.every((map, k) => map.over.toDataURL().length > without[k])", arg=without
    )


@pytest.mark.parametrize("row", [0, 1599, 1600, 9999])
def test_thumbnails_are_the_right_images(page, run, row):
    page.evaluate("row => jaxtlReport.pin(row)", row)
    # On whole pixels, where nothing is smoothed.
    page.evaluate(
        """() => {
          const alone = document.querySelector("#point .seen .thumb").cloneNode();
          alone.id = "alone";
          Object.assign(alone.style, { position: "fixed", left: "10px", top: "100px", zIndex: 9 });
          document.getElementById("alone")?.remove();
          document.body.append(alone);
        }"""
    )
    page.wait_for_timeout(150)  # sheets are decoded as they are needed
    shown = picture(page.locator("#alone"))
    page.evaluate("document.getElementById('alone').remove()")
    shown = np.asarray(Image.fromarray(shown[..., 0].astype(np.uint8)).resize((28, 28), Image.Resampling.BOX))
    assert np.corrcoef(shown.ravel(), run.images[row].ravel())[0, 1] > 0.95


def draw_lasso(page, box, corners):
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + corners[0][0], box["y"] + corners[0][1])
    page.mouse.down()
    for x, y in [*corners[1:], corners[0]]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=6)
        page.wait_for_timeout(25)  # the library takes a point every 15 ms
    page.mouse.up()
    page.keyboard.up("Shift")
    page.wait_for_function("jaxtlReport.state.selection.length > 0")


def test_a_lasso_selects_the_same_images_in_all_maps(page, run):
    _, box = frame(page, 3)
    side = box["width"]
    corners = [
        (0.3 * side, 0.2 * side),
        (0.8 * side, 0.3 * side),
        (0.7 * side, 0.8 * side),
        (0.25 * side, 0.7 * side),
    ]
    draw_lasso(page, box, corners)
    selected = page.evaluate(SELECTED)
    assert all(rows == selected[0] for rows in selected)
    assert selected[0] == page.evaluate("jaxtlReport.state.selection")
    chosen = np.zeros(len(run), bool)
    chosen[selected[0]] = True
    places, polygon = np.array(page.evaluate(PLACES, 3)), Polygon(corners)
    # Near the line the lasso's own corners, taken every few pixels, decide.
    assert chosen[
        polygon.contains_points(places, radius=-6) & polygon.contains_points(places, radius=6)
    ].all()
    outside = ~polygon.contains_points(places, radius=-6) & ~polygon.contains_points(places, radius=6)
    assert outside.sum() > 100
    assert not chosen[outside].any()
    counts = np.bincount(run.labels[selected[0]], minlength=10)
    assert page.locator("#selection h3").inner_text() == f"{len(selected[0]):,} images selected"
    shares = page.locator("#selection .shares span").all_inner_texts()
    assert sorted(int(text.replace(",", "")) for text in shares) == sorted(counts[counts > 0].tolist())
    assert len(page.locator("#selection .thumbs button").all()) == min(60, len(selected[0]))


def test_escape_clears(page):
    page.evaluate("jaxtlReport.select([1, 2, 3]); jaxtlReport.pin(5)")
    assert page.locator("#selection .thumbs button").count() == 3
    assert "null" not in page.locator("#selection").inner_text()
    page.keyboard.press("Escape")
    assert page.evaluate("[jaxtlReport.state.selection.length, jaxtlReport.state.pinned]") == [0, -1]
    assert page.evaluate(SELECTED) == [[]] * 6
    assert page.locator("#selection").inner_text() == ""


def test_the_legend_hides_and_shows_a_class(page, run):
    frame(page, 4)
    full = pixels_of(page, 4)
    button = page.locator("#legend button").nth(0)
    assert "980" in button.inner_text()
    button.click()
    assert page.locator("#legend button").nth(0).get_attribute("aria-pressed") == "false"
    left = page.evaluate("jaxtlReport.maps.map((map) => map.plot.get('filteredPoints').length)")
    assert left == [int((run.labels != 0).sum())] * 6
    assert comes_true(page, lambda: pixels_of(page, 4) < full)
    page.evaluate("jaxtlReport.select(Array.from({ length: 200 }, (_, row) => row))")
    kept = page.evaluate("jaxtlReport.state.selection")
    assert not (run.labels[kept] == 0).any()
    page.locator("#legend button", has_text="All").click()
    assert page.evaluate("jaxtlReport.state.hidden.size") == 0
    assert pixels_of(page, 4) > 0.9 * full or page.evaluate("jaxtlReport.state.selection.length")


def test_search_finds_an_image_by_its_number(page, run):
    page.locator("#index").fill("4321")
    page.keyboard.press("Enter")
    assert page.evaluate("jaxtlReport.state.pinned") == 4321
    assert "Image 4321" in page.locator("#point").inner_text()
    page.locator("#index").fill("10000")
    page.keyboard.press("Enter")
    assert "not among the 10,000 images" in page.locator("#found").inner_text()
    assert page.evaluate("jaxtlReport.state.pinned") == 4321


def test_search_shows_a_hidden_class_again(page, run):
    page.evaluate("label => jaxtlReport.toggle([label])", int(run.labels[50]))
    page.evaluate("jaxtlReport.find('50')")
    assert page.evaluate("[jaxtlReport.state.pinned, jaxtlReport.state.hidden.size]") == [50, 0]


def test_arrow_keys_step_through_images_and_selections(page):
    page.locator("#grid .frame").nth(0).focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("jaxtlReport.state.pinned") == 1
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("jaxtlReport.state.pinned") == 9999
    page.evaluate("jaxtlReport.select([30, 10, 20])")
    for row in (10, 20, 30, 10):
        page.keyboard.press("ArrowDown")
        assert page.evaluate("jaxtlReport.state.pinned") == row
    page.wait_for_timeout(200)
    assert page.locator("#told").inner_text().startswith("Image 10, class ")


def test_every_control_can_be_reached_by_tab(page):
    reached = []
    page.evaluate("document.activeElement.blur()")
    for _ in range(160):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    for name in ("theme", "print", "index", "fit", "whole"):
        assert name in reached
    assert reached.count("frame") >= 6


def test_the_morph_moves_before_into_after(page, run):
    page.locator("#morph").scroll_into_view_if_needed()
    page.wait_for_function("jaxtlReport.morph?.from")
    of_stage = "Array.from(jaxtlReport.maps.find((m) => m.method === 'tsne' && m.stage === stage).x)"
    start, end = (np.array(page.evaluate(f"stage => {of_stage}", stage)) for stage in ("before", "after"))
    slider = page.locator("#blend")
    for place in (50, 100):
        slider.evaluate(
            "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('change')); }", place
        )
        page.wait_for_function(f"jaxtlReport.morph.t === {place / 100}")
        x = np.array(page.evaluate("Array.from(jaxtlReport.morph.x)"))
        assert np.allclose(x, start + place / 100 * (end - start), atol=1e-5)
    page.wait_for_timeout(300)
    drawn = np.array(page.evaluate("jaxtlReport.morph.plot.get('points').map((point) => point[0])"))
    assert np.allclose(drawn, end, atol=1e-5)
    page.locator("#play").click()  # with reduced motion, there at once
    page.wait_for_function("jaxtlReport.morph.t === 0")


def test_a_morph_in_motion(page, record_property):
    """The button plays it, and how long its frames take is told, not judged."""
    page.emulate_media(reduced_motion="no-preference")
    page.locator("#morph").scroll_into_view_if_needed()
    page.wait_for_function("jaxtlReport.morph?.from")
    page.evaluate(
        """() => { globalThis.frames = []; let last = performance.now();
          const tick = (now) => { frames.push(now - last); last = now; requestAnimationFrame(tick); };
          requestAnimationFrame(tick); }"""
    )
    page.locator("#play").click()
    page.wait_for_function("jaxtlReport.morph.t === 1")
    times = page.evaluate("frames")
    ready = page.evaluate("Math.round(jaxtlReport.readyAfter)")
    median, slow = np.percentile(times, (50, 95))
    print(f"{len(times)} frames: median {median:.1f} ms, 95 % {slow:.1f} ms; ready after {ready} ms")
    record_property("frame_ms_median", round(float(median), 1))
    record_property("ready_after_ms", ready)
    assert page.locator("#blend").input_value() == "100"
    page.emulate_media(reduced_motion="reduce")


def test_outliers_are_counted_and_can_be_shown(page):
    frame(page, 2)
    assert "outside the view" in page.locator("#grid figcaption").nth(2).inner_text()
    page.locator("#whole").click()
    page.wait_for_timeout(600)
    _, box = frame(page, 2)
    places = np.array(page.evaluate(PLACES, 2))
    assert ((places >= 0) & (places <= box["width"])).all()
    page.locator("#fit").click()
    page.wait_for_timeout(600)
    places = np.array(page.evaluate(PLACES, 2))
    assert not ((places >= 0) & (places <= box["width"])).all()


def test_the_wheel_scrolls_the_page_and_zooms_with_ctrl(page):
    _, box = frame(page, 4)
    distance = "jaxtlReport.maps[4].plot.get('cameraDistance')"
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    top, before = page.evaluate("scrollY"), page.evaluate(distance)
    page.mouse.wheel(0, 200)
    page.wait_for_function(f"scrollY > {top}")
    assert page.evaluate(distance) == pytest.approx(before)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.wait_for_function(f"{distance} < {0.95 * before}")
    page.locator("#fit").click()
    page.wait_for_function(f"Math.abs({distance} - {before}) < 1e-3")


def test_dark_follows_the_system_and_the_switch(page):
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(paper)
    assert light == "rgb(255, 255, 255)"
    assert dark != light
    page.locator("#theme").click()
    assert page.evaluate(paper) == light
    page.emulate_media(color_scheme="light")
    page.locator("#theme").click()
    assert page.evaluate(paper) == dark
    page.locator("#theme").click()
    assert page.evaluate(paper) == light


def test_paper_gets_still_pictures(page):
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    try:
        assert page.locator("#grid .live").first.is_hidden()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        for k in range(6):
            still = page.locator("#grid .still").nth(k)
            assert still.is_visible()
            assert len(np.unique(picture(still).reshape(-1, 3), axis=0)) > 50
        assert page.locator("#panel").is_hidden()
        assert page.locator("main details").first.get_attribute("open") is not None
    finally:
        page.emulate_media(media="screen", color_scheme="light")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("main details").first.get_attribute("open") is None


def test_confusions_of_another_space(page):
    heats = page.locator(".heats")
    assert heats.nth(0).is_visible()
    page.locator("button[data-space=tsne]").click()
    assert heats.nth(0).is_hidden()
    assert heats.nth(1).is_visible()
    page.locator("button[data-space=features]").click()


def test_nasty_names_stay_text(opened, few):
    run = few
    names = ("<img src=x onerror=document.title='bad'>", *run.class_names[1:])
    page, faults = opened(dataclasses.replace(run, class_names=names, name="</script><b>"))
    page.evaluate("row => jaxtlReport.pin(row)", int(np.flatnonzero(run.labels == 0)[0]))
    assert names[0] in page.locator("#point").inner_text()
    assert page.title() != "bad"
    assert not faults


def test_narrow_screens_stack_the_maps(page):
    page.set_viewport_size({"width": 390, "height": 844})
    try:
        page.wait_for_timeout(300)
        boxes = [page.locator("#grid .frame").nth(k).bounding_box() for k in range(6)]
        assert len({round(box["x"]) for box in boxes}) == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        # Before and after of one method follow one another.
        order = sorted(range(6), key=lambda k: boxes[k]["y"])
        assert order == [0, 3, 1, 4, 2, 5]
    finally:
        page.set_viewport_size({"width": 1440, "height": 1000})
        page.wait_for_timeout(300)


def test_without_webgl_the_maps_are_still_pictures(opened, few):
    page, _ = opened(few)
    page.add_init_script(
        """const get = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
          return kind.startsWith("webgl") ? null : get.call(this, kind, ...rest);
        };"""
    )
    page.reload()
    page.wait_for_function("document.documentElement.dataset.ready === 'true'")
    page.evaluate("jaxtlReport.live()")
    assert "no WebGL" in page.locator("#fault").inner_text()
    assert len(np.unique(picture(page.locator("#grid .still").first).reshape(-1, 3), axis=0)) > 50
    page.evaluate("jaxtlReport.find('12')")
    assert "Image 12" in page.locator("#point").inner_text()
    _, box = frame(page, 4)
    places = np.array(page.evaluate(PLACES, 4))
    row = lonely(places, box["width"])
    page.mouse.move(*np.add((box["x"] + 1, box["y"] + 1), places[row]))
    page.wait_for_function(f"jaxtlReport.state.hover === {row}")
    page.mouse.down()
    page.mouse.up()
    assert page.evaluate("jaxtlReport.state.pinned") == row
    page.mouse.move(2, 2)
    page.wait_for_function("jaxtlReport.state.hover < 0")
    part = 0.2 * box["width"], 0.8 * box["width"]
    corners = [(part[x], part[y]) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))]
    draw_lasso(page, box, corners)
    inside = Polygon(corners).contains_points(places, radius=-6)
    assert set(np.flatnonzero(inside)) <= set(page.evaluate("jaxtlReport.state.selection"))
    assert page.locator("#fit").is_hidden()
