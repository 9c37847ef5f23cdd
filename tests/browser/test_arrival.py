"""A page opened by a link, read by its contents, in windows of several sizes."""

import numpy as np
import pytest

from tests.browser.test_page import PLACES, comes_true

pytestmark = pytest.mark.browser

# Of each map the first and the last line that has a dot in it, as parts of its height.
EXTENTS = """() => jaxtlReport.maps.map(({ canvas }) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const inked = (y) => data.subarray(4 * y * width, 4 * (y + 1) * width).some((value) => value);
  const lines = Array.from({ length: height }, (_, y) => y).filter(inked);
  return [lines[0] / height, lines.at(-1) / height];
})"""


def drawn_whole(page):
    """Whether on every map the dots reach as far up and down as their places do."""
    extents = page.evaluate(EXTENTS)
    for k, extent in enumerate(extents):
        side = page.evaluate(f"jaxtlReport.maps[{k}].frame.clientWidth")
        places = np.array(page.evaluate(PLACES, k)) / side
        y = places[((places > 0) & (places < 1)).all(axis=1), 1]
        if not np.allclose(extent, [y.min(), y.max()], atol=0.04):
            return False
    return True


@pytest.fixture
def visited(opened, few):
    """A function that opens the page at an address, in a window of its own."""
    page, faults = opened(few, reduced_motion="reduce")

    def visit(fragment, width=1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{page.url.split('#')[0]}#{fragment}")
        page.reload()
        page.wait_for_function("document.documentElement.dataset.ready === 'true'")
        page.evaluate("jaxtlReport.live()")
        return page

    yield visit
    assert not faults
    page.context.close()


def contents(page, name="The maps"):
    page.get_by_role("link", name=name, exact=True).first.click()


def test_maps_are_drawn_whole_in_windows_of_any_width(visited):
    page = visited("select=:broken.probe", 1280)
    contents(page)
    assert comes_true(page, lambda: drawn_whole(page))
    for width in (1700, 1150, 500):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        assert comes_true(page, lambda: drawn_whole(page))


def test_dots_are_copied_to_maps_of_any_size_pixel_by_pixel(visited):
    """A map is the middle of a larger picture: half a pixel beside it, dots would be pale and smeared."""
    page = visited("")
    for width in (1440, 1431, 1150, 500):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(400)
        assert page.evaluate(
            """() => jaxtlReport.maps.every(({ canvas }) => {
              const drawn = jaxtlReport.state.renderer.canvas;
              return (drawn.width - canvas.width) % 2 === 0 && (drawn.height - canvas.height) % 2 === 0;
            })"""
        )


def test_a_link_with_a_selection_says_so_at_the_top(visited, few):
    page = visited("select=:broken.probe&image=7")
    line = page.locator(".arrival")
    many = int((few.measures["outcome_probe"] == 2).sum())
    assert line.inner_text().startswith(f"{many} images selected.")
    assert line.bounding_box()["y"] < 200
    line.locator("button").click()
    page.wait_for_function("Math.abs(document.querySelector('.explorer').getBoundingClientRect().top) < 100")
    assert line.count() == 0


def test_without_a_selection_nothing_is_said(visited):
    page = visited("colour=kept")
    assert page.locator(".arrival").count() == 0
    page = visited("select=2.4")
    assert page.locator(".arrival").count() == 1
    page.evaluate("jaxtlReport.clear()")
    assert page.locator(".arrival").count() == 0


def test_links_to_sections_leave_the_selection_in_the_address(visited):
    page = visited("select=2.4")
    contents(page)
    assert page.evaluate("location.hash") == "#select=2.4&at=maps"
    top = page.evaluate("scrollY")
    assert top > 300
    page = visited("select=2.4&at=maps")
    page.wait_for_function("document.activeElement.id === 'maps'")
    assert abs(page.evaluate("scrollY") - top) < 150  # the line at the top has some height
    assert page.evaluate("jaxtlReport.state.selection") == [1, 5]
    page.evaluate("jaxtlReport.pin(9)")
    page.wait_for_function("location.hash.includes('image=9')")
    page.go_back()
    page.wait_for_function("jaxtlReport.state.pinned === -1")
    assert page.evaluate("jaxtlReport.state.selection") == [1, 5]


def test_a_copied_link_of_a_file_says_that_the_file_must_go_along(visited):
    page = visited("select=2.4")
    page.locator("[data-act=link]").click()
    assert "The file must be sent along" in page.locator("#selection .sending").inner_text()
    page.locator("[data-act=link]").click()
    assert page.locator("#selection .sending").count() == 1
