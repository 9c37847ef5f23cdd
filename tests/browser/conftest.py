"""What the browser tests share: a Chromium, where there is one, and a page of 10,000 digits in it."""

import os
import shutil

import pytest

from jaxtl.report import build_page
from tests.browser.synthetic import synthetic_run

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# Software rendering: WebGL works the same on machines without a graphics card.
FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

CLEARED = """async () => {
  await jaxtlReport.toggle([]);
  jaxtlReport.clear();
  await jaxtlReport.colourBy("class");
  await jaxtlReport.chooseMethod("");
  scrollTo(0, 0);
}"""


@pytest.fixture(scope="session")
def chromium():
    """A started Chromium: JAXTL_CHROMIUM, one on the path, or Playwright's own."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install .[browser]")
    with api.sync_playwright() as playwright:
        program = os.environ.get("JAXTL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
        program = program or playwright.chromium.executable_path
        if not os.path.exists(program):
            pytest.skip("no Chromium found; install one, or set JAXTL_CHROMIUM to its path")
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def run():
    return synthetic_run(10_000)


@pytest.fixture(scope="session")
def few():
    return synthetic_run(300)


@pytest.fixture(scope="session")
def opened(chromium, tmp_path_factory):
    """A function that opens runs as a page: the page, and the faults that the browser tells of.

    All maps are drawn, unless the page is to be found as a reader does; a script may run before its own.
    """
    pages = []

    def open_runs(*runs, drawn=True, script=None, **settings):
        path = tmp_path_factory.mktemp("report") / "report.html"
        path.write_text(build_page(list(runs)), encoding="utf-8")
        context = chromium.new_context(viewport={"width": 1440, "height": 1000}, **settings)
        page = context.new_page()
        pages.append(context)
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: message.type == "error" and faults.append(message.text))
        page.on("request", lambda request: outside(request.url) and faults.append(request.url[:100]))
        if script:
            page.add_init_script(script)
        page.goto(path.as_uri())
        page.wait_for_function("document.documentElement.dataset.ready === 'true'")
        if drawn:
            page.evaluate("jaxtlReport.live()")
        return page, faults

    yield open_runs
    for context in pages:
        context.close()


def outside(url):
    return not url.startswith(("file:", "data:", "blob:"))


@pytest.fixture(scope="session")
def shared(opened, run):
    return opened(run, reduced_motion="reduce")


@pytest.fixture
def page(shared):
    """The page of 10,000 digits with nothing hidden, selected or pinned; faults fail the test."""
    yield from cleared(*shared)


@pytest.fixture(scope="session")
def small(opened, few):
    return opened(few, reduced_motion="reduce")


@pytest.fixture
def sheet(small):
    """The same of 300 digits, for what does not depend on how many there are."""
    yield from cleared(*small)


def cleared(page, faults):
    faults.clear()
    page.mouse.move(2, 2)
    page.evaluate(CLEARED)
    page.wait_for_timeout(200)  # the address is written a moment later
    yield page
    assert not faults
