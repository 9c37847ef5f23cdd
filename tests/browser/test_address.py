"""The page's address: what a reader sees can be gone back to, kept and sent."""

import numpy as np
import pytest

from tests.browser.test_page import comes_true

pytestmark = pytest.mark.browser

STATE = """() => {
  const { state } = jaxtlReport;
  return [state.pinned, state.selection, [...state.hidden], state.colour, state.method];
}"""


def holds(page, text):
    page.wait_for_function("text => location.hash.includes(text)", arg=text)


def test_back_and_forward_go_through_what_was_seen(sheet):
    sheet.locator("#change-tools [data-classifier=knn]").click()
    sheet.evaluate("jaxtlReport.pin(17)")
    holds(sheet, "image=17")
    sheet.locator("[data-group=fixed]").click()
    holds(sheet, "select=:fixed.knn")
    fixed = sheet.evaluate("jaxtlReport.state.selection")
    sheet.locator("#colour").select_option("kept")
    holds(sheet, "colour=kept")
    sheet.go_back()
    sheet.wait_for_function("jaxtlReport.state.colour === 'class'")
    assert sheet.evaluate(STATE) == [17, fixed, [], "class", ""]
    sheet.go_back()
    sheet.wait_for_function("jaxtlReport.state.selection.length === 0")
    assert sheet.evaluate("jaxtlReport.state.pinned") == 17
    sheet.go_forward()
    sheet.wait_for_function("jaxtlReport.state.selection.length > 0")
    assert sheet.evaluate("jaxtlReport.state.selection") == fixed


def test_arrow_keys_are_one_step_back(sheet):
    sheet.evaluate("jaxtlReport.pin(3)")
    holds(sheet, "image=3")
    sheet.locator("#grid .frame").first.focus()
    for row in (4, 5, 6):
        sheet.keyboard.press("ArrowRight")
        holds(sheet, f"image={row}")
    sheet.go_back()
    sheet.wait_for_function("jaxtlReport.state.pinned === 3")


@pytest.mark.parametrize("count", [1, 7, 150, 299])
def test_a_link_brings_another_reader_to_the_same_state(sheet, count):
    rows = sorted(np.random.default_rng(count).choice(300, count, replace=False).tolist())
    sheet.evaluate("rows => jaxtlReport.select(rows)", rows)
    sheet.evaluate("jaxtlReport.pin(9)")
    sheet.evaluate("jaxtlReport.colourBy('outcome_knn')")
    sheet.evaluate("jaxtlReport.chooseMethod('pca')")
    seen, link = sheet.evaluate(STATE), sheet.evaluate("jaxtlReport.linkOf()")
    if count != 150:
        sheet.evaluate("async link => { history.pushState(null, '', link.split('#')[0]); }", link)
    other = sheet.context.new_page()
    other.goto(link)
    other.wait_for_function("globalThis.jaxtlReport?.state.colour === 'outcome_knn'")
    assert comes_true(other, lambda: other.evaluate(STATE) == seen)
    other.close()
    assert seen[1] == rows


def test_hidden_classes_are_in_the_address(sheet):
    sheet.locator("#legend [data-class='3']").click()
    holds(sheet, "hide=3")
    sheet.go_back()
    sheet.wait_for_function("jaxtlReport.state.hidden.size === 0")


def test_addresses_of_sections_leave_the_state_alone(sheet):
    sheet.evaluate("jaxtlReport.pin(8)")
    holds(sheet, "image=8")
    sheet.evaluate("location.hash = 'maps'")
    sheet.wait_for_timeout(300)
    assert sheet.evaluate("jaxtlReport.state.pinned") == 8


@pytest.mark.parametrize(
    "nonsense", ["image=99999", "select=zz.!!", "select=~%%%", "hide=77&colour=mauve", "run=9&beside=4"]
)
def test_a_spoilt_address_spoils_nothing(sheet, nonsense):
    other = sheet.context.new_page()
    errors = []
    other.on("pageerror", lambda error: errors.append(str(error)))
    other.goto(f"{sheet.url.split('#')[0]}#{nonsense}")
    other.wait_for_function("document.documentElement.dataset.ready === 'true'")
    other.wait_for_timeout(200)
    assert other.evaluate("jaxtlReport.state.run.n") == 300
    assert other.locator("#grid .frame").count() == 6
    other.evaluate("jaxtlReport.pin(4)")
    holds(other, "image=4")
    other.close()
    assert not errors


def test_a_selection_is_saved_as_a_table(sheet, few):
    rows = [4, 8, 200]
    sheet.evaluate("rows => jaxtlReport.select(rows)", rows)
    with sheet.expect_download() as download:
        sheet.locator("[data-act=save]").click()
    lines = download.value.path().read_text(encoding="utf-8").splitlines()
    assert lines[0] == "index,label,class"
    assert [int(line.split(",")[0]) for line in lines[1:]] == few.index[rows].tolist()


def test_the_link_is_copied_or_shown(sheet):
    sheet.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sheet.evaluate("jaxtlReport.select([1, 5])")
    sheet.locator("[data-act=link]").click()
    sheet.wait_for_function(
        "document.querySelector('[data-act=link]').textContent === 'Copied'"
        " || document.querySelector('#selection .link')"
    )
    shown = sheet.locator("#selection .link")
    link = shown.input_value() if shown.count() else sheet.evaluate("navigator.clipboard.readText()")
    assert link == sheet.evaluate("jaxtlReport.linkOf()")
    assert "select=2.4" in link
