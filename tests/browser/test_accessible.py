"""What axe-core finds on the page: nothing."""

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def axe():
    api = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs axe: pip install .[browser]"
    )
    return api.Axe()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("used", [False, True])
def test_axe_finds_nothing(sheet, axe, scheme, used):
    sheet.emulate_media(color_scheme=scheme)
    try:
        if used:
            sheet.evaluate("jaxtlReport.colourBy('outcome_knn')")
            sheet.locator("[data-group=fixed]").click()
            sheet.evaluate("jaxtlReport.pin(12)")
            sheet.wait_for_timeout(200)
        violations = axe.run(sheet).response["violations"]
    finally:
        sheet.emulate_media(color_scheme="light")
    told = [(v["id"], [node["html"][:120] for node in v["nodes"]][:3]) for v in violations]
    assert not told
