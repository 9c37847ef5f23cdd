"""What changed, in a browser: groups of images, neighbours kept, galleries, colours."""

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.browser

SELECTION = "jaxtlReport.state.selection"
IN_MAPS = "jaxtlReport.maps.map((map) => [...map.plot.get('selectedPoints')].sort((a, b) => a - b))"
OUTCOMES = {"right": 0, "fixed": 1, "broken": 2, "wrong": 3}


def colours_drawn(page):
    """The colours that each map may draw with, and how many codes of them it draws."""
    return page.evaluate("jaxtlReport.maps.map((map) => map.plot.get('pointColor').length)")


@pytest.mark.parametrize("kind", ["knn", "probe"])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_group_is_selected_in_all_maps(sheet, few, kind, outcome):
    sheet.locator(f"#change-tools [data-classifier={kind}]").click()
    button = sheet.locator(f"[data-group={outcome}]")
    rows = np.flatnonzero(few.measures[f"outcome_{kind}"] == OUTCOMES[outcome]).tolist()
    assert button.inner_text().startswith(str(len(rows)))
    button.click()
    assert sheet.evaluate(SELECTION) == rows
    assert sheet.evaluate(IN_MAPS) == [rows] * 6
    assert button.get_attribute("aria-pressed") == "true"
    assert f"{len(rows)} images selected" in sheet.locator(".to-maps").inner_text()
    button.click()
    assert sheet.evaluate(SELECTION) == []


def test_bars_of_neighbours_kept_select_their_images(sheet, few):
    kept = np.round(few.measures["kept"] * 10).astype(int)
    bars = sheet.locator("[data-kept]")
    assert bars.count() == 11
    for count in (5, 0):
        bar = sheet.locator(f"[data-kept='{count}']")
        rows = np.flatnonzero(kept == count).tolist()
        assert bar.get_attribute("aria-label") == f"{count} of 10 kept: {len(rows)} images"
        bar.click()
        assert sheet.evaluate(SELECTION) == rows
    sheet.locator("[data-kept='5']").click(modifiers=["Shift"])
    assert sheet.evaluate(SELECTION) == np.flatnonzero(kept <= 5).tolist()
    assert sheet.locator("[data-kept][aria-pressed=true]").count() == 6


def test_a_brush_over_bars_selects_all_of_them(sheet, few):
    kept = np.round(few.measures["kept"] * 10).astype(int)
    sheet.locator(".bars").scroll_into_view_if_needed()
    first, last = (sheet.locator(f"[data-kept='{count}']").bounding_box() for count in (4, 7))
    sheet.mouse.move(first["x"] + 5, first["y"] + 20)
    sheet.mouse.down()
    sheet.mouse.move(last["x"] + 5, last["y"] + 20, steps=4)
    sheet.mouse.up()
    assert sheet.evaluate(SELECTION) == np.flatnonzero((kept >= 4) & (kept <= 7)).tolist()


def test_galleries_show_what_broke_and_what_moved_most(sheet, few):
    sheet.locator("#change-tools [data-classifier=knn]").click()
    shown = "buttons => buttons.map((button) => Number(button.dataset.image))"
    moved = sheet.locator("[data-gallery=moved] button").evaluate_all(shown)
    assert moved == np.argsort(-few.measures["moved"])[:24].tolist()
    broken = sheet.locator("[data-gallery=broken] button")
    rows = broken.evaluate_all(shown)
    assert set(rows) <= set(np.flatnonzero(few.measures["outcome_knn"] == 2).tolist())
    sure = few.measures["head_probability"][rows]
    assert (np.diff(sure) < 0.01).all()  # the surest first
    assert "→" in broken.first.inner_text()
    broken.first.scroll_into_view_if_needed()
    top = sheet.evaluate("scrollY")
    broken.first.click()
    assert sheet.evaluate("jaxtlReport.state.pinned") == rows[0]
    card = sheet.locator("[data-gallery=broken] .card")
    told = card.inner_text()
    assert f"Image {few.index[rows[0]]}" in told
    assert few.class_names[few.measures["knn_after"][rows[0]]] + " ✗" in told
    assert abs(sheet.evaluate("scrollY") - top) < 400  # beside the pictures, not far below
    card.locator("[data-act=card-maps]").click()
    sheet.wait_for_function("Math.abs(document.querySelector('.explorer').getBoundingClientRect().top) < 100")
    sheet.evaluate("jaxtlReport.pin(-1)")
    assert card.count() == 0


def test_another_classifier_selects_its_own_group(sheet, few):
    sheet.locator("#change-tools [data-classifier=knn]").click()
    sheet.locator("[data-group=broken]").click()
    sheet.locator("#change-tools [data-classifier=probe]").click()
    rows = np.flatnonzero(few.measures["outcome_probe"] == OUTCOMES["broken"]).tolist()
    assert sheet.evaluate(SELECTION) == rows
    assert sheet.locator(".to-maps").inner_text().startswith(f"{len(rows)} images selected")


def test_panel_and_groups_count_by_the_same_vote(opened, few):
    """Of all that the vote of training images broke none is right after, whatever the other images vote."""
    codes = few.measures["outcome_knn"]
    wrong = (few.labels + 1) % 10
    votes = {
        "knn_training_before": np.where(np.isin(codes, (0, 2)), few.labels, wrong).astype(np.int32),
        "knn_training_after": np.where(np.isin(codes, (0, 1)), few.labels, wrong).astype(np.int32),
        "knn_before": few.labels.astype(np.int32),
        "knn_after": few.labels.astype(np.int32),
    }
    page, faults = opened(dataclasses.replace(few, measures={**few.measures, **votes}))
    page.locator("#change-tools [data-classifier=knn]").click()
    page.locator("[data-group=broken]").click()
    told = [row.locator("th, td").all_inner_texts() for row in page.locator(".statistics tbody tr").all()]
    lines = {name: selected for name, selected, _ in told}
    assert lines["right by 10-NN before"] == "100\u00a0%"
    assert lines["right by 10-NN after"] == "0\u00a0%"
    row = int(np.flatnonzero(codes == OUTCOMES["broken"])[0])
    page.evaluate("row => jaxtlReport.pin(row)", row)
    panel = page.locator("#point .seen").inner_text()
    assert f"{few.class_names[wrong[row]]} ✗" in panel
    assert not faults


def test_see_them_on_the_maps_goes_there(sheet):
    sheet.locator("[data-group=fixed]").click()
    top = sheet.evaluate("scrollY")
    sheet.locator("[data-act=maps]").click()
    sheet.wait_for_function(f"scrollY > {top}")


def test_the_panel_marks_the_neighbours_that_were_kept(sheet, few):
    before, after = (few.measures[f"neighbors_{stage}"] for stage in ("before", "after"))
    row = int(np.argmax(few.measures["kept"]))
    sheet.evaluate("row => jaxtlReport.pin(row)", row)
    both = set(before[row]) & set(after[row])
    assert f"{len(both)} of 10 kept" in sheet.locator("#point").inner_text()
    for stage in ("before", "after"):
        marked = sheet.locator(f"#point [data-stage={stage}] .kept").evaluate_all(
            "buttons => buttons.map((button) => Number(button.dataset.image))"
        )
        assert set(marked) == both
    sheet.locator("[data-act=close]").click()
    assert sheet.evaluate("jaxtlReport.state.pinned") == -1


@pytest.mark.parametrize("key", ["outcome_knn", "outcome_probe", "confidence", "kept", "kept_map", "trust"])
def test_colours_tell_of_each_image(sheet, key):
    of_classes = colours_drawn(sheet)
    sheet.locator("#colour").select_option(key)
    sheet.wait_for_function("document.getElementById('colour-key').children.length > 1")
    assert colours_drawn(sheet) != of_classes
    assert sheet.locator("#legend i").count() == 0  # the classes have no colours now
    sheet.locator("#colour").select_option("class")
    assert sheet.locator("#colour-key").is_hidden()
    assert sheet.locator("#legend i").count() == 10


def test_colours_of_trust_are_those_of_each_map(sheet, few):
    """Images with much trust on one map and little on another have another colour there."""
    trust = np.stack([few.measures[f"trust_{stage}_tsne"] for stage in ("before", "after")])
    row = int(np.argmax(trust[1] - trust[0]))
    sheet.locator("#colour").select_option("trust")
    codes = sheet.evaluate(
        """row => jaxtlReport.maps.filter((map) => map.method === "tsne")
             .map((map) => Math.round(map.plot.get("points")[row][2]))""",
        row,
    )
    assert codes == np.minimum(4, np.floor(trust[:, row] * 5)).astype(int).tolist()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("key", ["class", "outcome_knn", "kept"])
def test_marks_stand_out_of_the_paper(sheet, scheme, key):
    """WCAG 2.2, 1.4.11: three to one."""
    sheet.emulate_media(color_scheme=scheme)
    try:
        sheet.evaluate("key => jaxtlReport.colourBy(key)", key)
        sheet.wait_for_timeout(150)
        least = sheet.evaluate(
            """() => {
              const paper = getComputedStyle(document.documentElement).getPropertyValue("--paper").trim();
              const hex = (colour) => "#" + colour.slice(0, 3).map((value) =>
                Math.round(255 * value).toString(16).padStart(2, "0")).join("");
              const { contrast, maps } = jaxtlReport;
              return Math.min(...maps.flatMap((map) => map.plot.get("pointColor").map((c) =>
                contrast(typeof c === "string" ? c : hex(c), paper))));
            }"""
        )
    finally:
        sheet.emulate_media(color_scheme="light")
    assert least >= 3


def test_without_the_measures_the_controls_are_absent(opened, few):
    old = ("knn_before", "head_after", "head_probability", "neighbors_before", "neighbors_after")
    measures = {name: few.measures[name] for name in old}
    page, faults = opened(dataclasses.replace(few, measures=measures))
    assert page.locator("#change-tools").is_hidden()
    assert page.locator("#colour option").all_inner_texts() == ["class", "confidence of the head"]
    page.evaluate("jaxtlReport.pin(2)")
    assert "of 10 kept" in page.locator("#point").inner_text()
    bare, faults_of_bare = opened(dataclasses.replace(few, measures={}))
    assert bare.locator("#colour").count() == 0
    assert bare.locator("#change-tools").is_hidden()
    assert not faults
    assert not faults_of_bare
