"""A page that has just come: its maps are pictures until they come near or are needed, and answer at once."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.browser.test_page import PLACES, SELECTED, comes_true, draw_lasso, frame, lonely

pytestmark = pytest.mark.browser

# A page that is never idle, and counts the programs of shaders that it links.
BUSY = """globalThis.requestIdleCallback = () => 0;
history.scrollRestoration = "manual";
globalThis.linked = 0;
const { linkProgram } = WebGLRenderingContext.prototype;
WebGLRenderingContext.prototype.linkProgram = function (program) {
  linked++;
  return linkProgram.call(this, program);
};
"""
# One that never learns what is near either: only what a reader does has maps drawn.
HELD = BUSY + "globalThis.IntersectionObserver = class { observe() {} unobserve() {} disconnect() {} };"
DRAWN = "jaxtlReport.maps.map((map) => Boolean(map.plot))"
BOXES = """[...document.querySelectorAll("#grid .frame")].map((frame) => {
  const { left, top, width, height } = frame.getBoundingClientRect();
  return [left + scrollX, top + scrollY, width, height];
})"""
FILTERED = "jaxtlReport.maps.map((map) => map.plot.get('filteredPoints').length)"
COLOURS = "jaxtlReport.maps.map((map) => map.plot.get('pointColor').length)"
# How many pixels are drawn over the dots of one map: names, and rings around the image and its neighbours.
MARKED = """(() => {
  const { over } = jaxtlReport.maps[1];
  const { data } = over.getContext("2d").getImageData(0, 0, over.width, over.height);
  return data.filter((value, at) => at % 4 === 3 && value).length;
})()"""
DISTANCES = "jaxtlReport.maps.map((map) => map.plot.get('cameraDistance'))"


@pytest.fixture(scope="module")
def opened_held(opened, few):
    return opened(few, drawn=False, script=HELD, reduced_motion="reduce")


@pytest.fixture
def held(opened_held):
    """The page at its top, just opened."""
    page, faults = opened_held
    address = page.url.partition("#")[0]
    page.mouse.move(2, 2)
    # By way of another page: this one may still be about to put its selection into its address.
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_function("document.documentElement.dataset.ready === 'true'")
    assert page.evaluate(DRAWN) == [False] * 6
    yield page
    assert not faults


def press(page, selector):
    """A click that does not bring what is clicked into view."""
    page.locator(selector).dispatch_event("click")


def test_a_page_is_ready_before_any_shader(held):
    assert held.evaluate("linked") == 0
    assert held.locator("#grid .frame .picture").count() == 6


def test_maps_are_drawn_when_they_come_near(opened, few):
    page, faults = opened(few, drawn=False, script=BUSY, reduced_motion="reduce")
    page.wait_for_timeout(200)
    assert page.evaluate(DRAWN) == [False] * 6
    frame(page, 1)
    page.wait_for_function(f"{DRAWN}.slice(0, 3).every(Boolean)")
    assert not faults


def test_maps_are_drawn_without_being_asked_for(opened, few):
    page, faults = opened(few, drawn=False)
    page.wait_for_function(f"{DRAWN}.every(Boolean)")
    assert page.evaluate("scrollY") == 0
    assert not faults


def test_maps_are_drawn_where_their_pictures_stood(held):
    before = held.evaluate(BOXES)
    pictures = [ink(held, k) for k in (0, 4)]
    held.evaluate("jaxtlReport.live()")
    assert held.evaluate(BOXES) == before
    assert held.locator("#grid .frame .picture").count() == 0
    for picture, k in zip(pictures, (0, 4), strict=True):
        assert np.corrcoef(picture, ink(held, k))[0, 1] > 0.9


def ink(page, k):
    """How much is drawn in each of 24 by 24 parts of a map."""
    shown = page.locator("#grid .frame").nth(k).screenshot()
    grey = np.asarray(Image.open(io.BytesIO(shown)).convert("L").resize((24, 24), Image.Resampling.BOX))
    return 255.0 - grey.ravel()


def test_what_is_only_looked_at_takes_two_programs(held):
    held.evaluate("jaxtlReport.live()")
    held.wait_for_timeout(200)
    assert held.evaluate("linked") == 2
    _, box = frame(held, 3)
    side = box["width"]
    draw_lasso(held, box, [(0.3 * side, 0.2 * side), (0.8 * side, 0.3 * side), (0.5 * side, 0.8 * side)])
    assert comes_true(held, lambda: held.evaluate("linked") > 2)


@pytest.mark.parametrize("control", ["group", "class", "colour", "whole", "zoom"])
def test_controls_answer_before_the_maps_are_drawn(held, few, control):
    top = held.evaluate("scrollY")
    if control == "group":
        press(held, "[data-group=fixed]")
        rows = np.flatnonzero(few.measures["outcome_probe"] == 1).tolist()
        assert held.evaluate("jaxtlReport.state.selection") == rows
        seen, expected = SELECTED, [rows] * 6
    elif control == "class":
        press(held, "#legend [data-class='0']")
        seen, expected = FILTERED, [int((few.labels != 0).sum())] * 6
    elif control == "colour":
        held.locator("#colour").evaluate("e => { e.value = 'kept'; e.dispatchEvent(new Event('change')); }")
        seen, expected = COLOURS, [6] * 6
    elif control == "whole":
        press(held, "#whole")
        seen, expected = f"{DISTANCES}.map((distance, k) => k % 3 < 2 || distance > 1.3)", [True] * 6
    else:
        held.locator("#grid .frame").nth(1).dispatch_event("keydown", {"key": "+"})
        held.wait_for_function("jaxtlReport.maps[1].plot")
        assert held.evaluate(DRAWN) == [k == 1 for k in range(6)]
        held.evaluate("jaxtlReport.live()")
        # The other map of the method is drawn as far in.
        seen, expected = f"{DISTANCES}.map((distance) => distance < 0.9)", [k in (1, 4) for k in range(6)]
    held.wait_for_function(f"{DRAWN}.every(Boolean)")
    assert comes_true(held, lambda: held.evaluate(seen) == expected)
    assert held.evaluate("scrollY") == top


def test_one_method_is_drawn_when_it_alone_is_shown(held):
    press(held, "[data-only=tsne]")
    held.evaluate("jaxtlReport.live()")
    assert held.evaluate(DRAWN) == [k % 3 == 1 for k in range(6)]
    press(held, "[data-only='']")
    held.evaluate("jaxtlReport.live()")
    assert held.evaluate(DRAWN) == [True] * 6


def test_a_picture_answers_the_pointer_while_its_map_is_being_drawn(opened, few):
    page, faults = opened(few, drawn=False, script=BUSY, reduced_motion="reduce")
    page.evaluate("createScatterplot.default = () => ({ subscribe() {}, draw: () => new Promise(() => {}) })")
    _, box = frame(page, 1)
    page.wait_for_function(f"{MARKED} > 0")
    without = page.evaluate(MARKED)
    places = np.array(page.evaluate(PLACES, 1))
    row = lonely(places, box["width"])
    page.mouse.move(*np.add((box["x"] + 1, box["y"] + 1), places[row]))
    page.wait_for_function(f"jaxtlReport.state.hover === {row}")
    assert page.locator("#grid .tip:visible").count() == 1
    page.mouse.down()
    page.mouse.up()
    assert page.evaluate("jaxtlReport.state.pinned") == row
    assert comes_true(page, lambda: page.evaluate(MARKED) > without)
    assert page.evaluate(DRAWN) == [False] * 6
    assert not faults
