"""The page under a finger: taps, a lasso, and a panel that leaves most of the screen to the maps."""

import itertools

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from tests.browser.test_page import PLACES, comes_true, frame

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def phone(opened, few):
    page, faults = opened(few, is_mobile=True, has_touch=True, reduced_motion="reduce")
    page.set_viewport_size({"width": 390, "height": 844})
    yield page
    assert not faults


def draw_by_finger(page, corners):
    """Touches that follow the corners, as a browser gives them; how far the page scrolled meanwhile."""
    session = page.context.new_cdp_session(page)

    def touch(kind, *at):
        points = [{"x": x, "y": y} for x, y in at]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    # What a finger may do where is told to the browser with the next picture: a busy one draws it late.
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    top = page.evaluate("scrollY")
    touch("touchStart", corners[0])
    for start, end in itertools.pairwise(corners):
        for part in np.linspace(0.1, 1, 10):
            touch("touchMove", tuple(np.add(start, part * np.subtract(end, start)).tolist()))
    scrolled = page.evaluate("scrollY") - top
    touch("touchEnd")
    return scrolled


def tap(page, locator, done):
    """A tap, and what comes of it: soon after another touch a browser takes it for part of a double tap."""

    def is_done():
        page.wait_for_timeout(500)
        locator.tap()
        return comes_true(page, done)

    assert any(is_done() for _ in range(3))


def take(page, tool):
    button = page.locator(f"[data-drag={tool}]")
    tap(page, button, lambda: button.get_attribute("aria-pressed") == "true")


def corners_in(box):
    parts = [(0.25, 0.2), (0.8, 0.3), (0.7, 0.75), (0.2, 0.7), (0.25, 0.25)]
    return [(x * box["width"], y * box["width"]) for x, y in parts]


@pytest.mark.parametrize("k", [0, 4])
def test_a_finger_draws_a_lasso(phone, k):
    phone.evaluate("jaxtlReport.clear()")
    take(phone, "lasso")
    _, box = frame(phone, k)
    corners = corners_in(box)
    scrolled = draw_by_finger(phone, [(box["x"] + x, box["y"] + y) for x, y in corners])
    phone.wait_for_function("jaxtlReport.state.selection.length > 0")
    assert scrolled == 0
    selected = phone.evaluate("jaxtlReport.state.selection")
    places, polygon = np.array(phone.evaluate(PLACES, k)), Polygon(corners)
    chosen = np.isin(np.arange(len(places)), selected)
    # Near the line a pixel more or less decides.
    both = [polygon.contains_points(places, radius=radius) for radius in (-4, 4)]
    assert chosen[both[0] & both[1]].all()
    assert not chosen[~both[0] & ~both[1]].any()
    take(phone, "panZoom")


def test_a_finger_scrolls_the_page_where_it_draws_no_lasso(phone):
    phone.evaluate("jaxtlReport.clear()")
    _, box = frame(phone, 2)
    x, y = box["x"] + 100, box["y"] + 200
    top = phone.evaluate("scrollY")
    draw_by_finger(phone, [(x, y), (x, y - 150)])
    assert comes_true(phone, lambda: phone.evaluate("scrollY") > top + 50)
    assert phone.evaluate("jaxtlReport.state.selection") == []


def test_the_panel_takes_a_third_of_a_phone_and_folds_away(phone):
    frame(phone, 1)
    phone.evaluate("jaxtlReport.clear(); jaxtlReport.select([1, 2, 3, 4, 5])")
    panel, close = phone.locator("#panel"), phone.locator("[data-act=fold]")
    assert 100 < panel.bounding_box()["height"] <= 844 / 3
    tap(phone, close, lambda: panel.bounding_box()["height"] < 844 / 12)
    assert len(phone.evaluate("jaxtlReport.state.selection")) == 5
    tap(phone, close, lambda: panel.bounding_box()["height"] > 100)
    tap(phone, close, lambda: panel.bounding_box()["height"] < 844 / 12)
    phone.evaluate("jaxtlReport.pin(7)")
    assert phone.locator("#point .seen").is_visible()
    phone.evaluate("jaxtlReport.clear()")
    assert panel.is_hidden()


def test_phones_have_no_empty_panel_and_are_told_to_tap(opened, few):
    page, faults = opened(few, is_mobile=True, has_touch=True)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.locator("#panel").is_hidden()
    assert "Tap" in page.locator("#maps .howto summary").inner_text()
    _, box = frame(page, 0)
    left, top = page.evaluate(
        "(({ x, y }) => jaxtlReport.place(jaxtlReport.maps[0], x[9], y[9]))(jaxtlReport.maps[0])"
    )
    page.touchscreen.tap(box["x"] + left, box["y"] + top)
    page.wait_for_function("jaxtlReport.state.pinned >= 0")
    assert page.locator("#panel").is_visible()
    page.locator("[data-act=close]").tap()
    assert page.locator("#panel").is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not faults
