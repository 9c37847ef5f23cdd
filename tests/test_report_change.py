"""What the page tells of the change: images fixed and broken, neighbours kept, classes, several runs."""

import dataclasses
import re

import numpy as np
import pytest

from jaxtl.evaluation.catalogue import (
    CLUSTERS,
    LEAVE_ONE_OUT,
    LOGISTIC_PROBE,
    PROBE_OUTCOMES,
    RESEED_KEPT,
    TRAIN_TO_TEST,
)
from jaxtl.records.tables import Score
from jaxtl.report import build_page
from tests.browser.synthetic import synthetic_run
from tests.reading_pages import Page, headings

RIGHT, FIXED, BROKEN, WRONG = range(4)
PROBE = [
    Score("before", "features", LOGISTIC_PROBE, 0.894, 0.881, 0.907),
    Score("after", "features", LOGISTIC_PROBE, 0.97, 0.962, 0.977),
]


@pytest.fixture(scope="module")
def run():
    """300 digits: all 3s are fixed, the first five 8s broken, the first two 5s stay wrong."""
    made = synthetic_run(300)
    codes = np.zeros(300, np.uint8)
    codes[made.labels == 3] = FIXED
    codes[np.flatnonzero(made.labels == 8)[:5]] = BROKEN
    codes[np.flatnonzero(made.labels == 5)[:2]] = WRONG
    kept = np.full(300, 0.3, np.float32)
    kept[:4], kept[4] = 0, 1
    measures = {**made.measures, "outcome_probe": codes, "kept": kept}
    return dataclasses.replace(made, measures=measures, scores=[*made.scores, *PROBE])


@pytest.fixture(scope="module")
def text(run):
    return build_page([run])


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def page_with(run, **changes):
    return Page(build_page([dataclasses.replace(run, **changes)]))


def part(page, name):
    return next(text for a, text in page.all("section") if a["id"] == name)


def first(page):
    return next(text for a, text in page.all("div") if a.get("class") == "first")


def rows(text):
    """The rows of all tables of a piece of HTML, as the texts of their cells."""
    cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", text))
    return [[re.sub("<[^>]*>", "", cell) for cell in row] for row in cells]


def test_the_first_screen_answers_the_question(run, page):
    held = first(page)
    fixed = (run.labels == 3).sum()
    assert "0.894 before [0.881, 0.907]→0.970 after [0.962, 0.977]" in held
    assert "share of 300 test images that a linear classifier, trained on the features" in held
    assert f"{fixed} images were wrong before and are right after; 5 went the other way, and 2 were" in held
    assert "By that classifier's accuracy, class ‘3’ gained most: 0.000 before, 1.000 after." in held
    assert (
        "Of the 10 images nearest to an image before, 3.0 (30 %) are on average still among its 10 nearest"
        in held
    )


def test_images_are_counted_in_four_groups(run, text):
    fixed = int((run.labels == 3).sum())
    counts = [str(fixed), "5", "2", str(300 - fixed - 7)]
    own = next(row for row in rows(text) if row[0] == "a linear classifier")
    assert own[1:5] == counts
    assert own[5:] == [f"{(300 - fixed - 2) / 300:.3f}", f"{(300 - 7) / 300:.3f}"]


def test_neighbours_kept_stand_beside_chance(page):
    held = part(page, "change")
    assert "3.0 (30 %) are on average still among its 10 nearest after" in held
    assert "chance alone would keep 0.33 of 10 (3.3 %)" in held
    assert "4 images kept none of them, 1 kept all 10" in held


def test_classes_come_by_what_they_gained(run, text):
    table = rows(text.split("By class")[1].split("</table>")[0])[1:]
    assert table[0][0] == "3"
    assert table[-1][0] == "8"
    eights = int((run.labels == 8).sum())
    assert table[-1] == [
        "8",
        str(eights),
        "1.000",
        f"{1 - 5 / eights:.3f}",
        f"−{5 / eights:.3f}",
        "0",
        "5",
        "0",
        f"{10 * run.measures['kept'][run.labels == 8].mean():.1f}",
    ]


def test_the_script_finds_a_place_for_its_tools_in_each_run(run):
    page = Page(build_page([run, dataclasses.replace(run, name="another")]))
    places = {
        a["id"]: a["data-run"] for a, _ in page.all("div") if a.get("id", "").startswith("change-tools")
    }
    assert places == {"change-tools": "0", "change-tools-2": "1"}
    ids = [a["id"] for _, a, _ in page.found if "id" in a]
    assert len(ids) == len(set(ids))


def test_a_run_of_before_there_were_outcomes_has_no_such_part():
    page = Page(build_page([synthetic_run(60, measures={})]))
    assert "fixed" not in part(page, "change")
    assert not [a for a, _ in page.all("div") if a.get("id", "").startswith("change-tools")]


def test_without_labels_the_page_begins_with_how_alike_the_features_are(run):
    bare = dataclasses.replace(
        run,
        labels=None,
        scores=[score for score in run.scores if score.stage == "both"],
        measures={"kept": run.measures["kept"]},
        class_scores=[],
        embeddings={key: dataclasses.replace(e, labels=None) for key, e in run.embeddings.items()},
    )
    page = Page(build_page([bare]))
    assert "linear CKA of the features before and after" in first(page)
    assert "3.0 (30 %) are on average still among its 10 nearest" in first(page)
    assert not page.all("ul") or "Colours of the classes" not in [
        a.get("aria-label") for a, _ in page.all("ul")
    ]


def test_whose_a_claim_is_and_why_its_threshold_stand_beside_it(run):
    claim = {**run.claims[0], "source": "Said by A. Nobody.", "threshold_from": "Half of all is chance."}
    held = part(Page(build_page([dataclasses.replace(run, claims=[claim])])), "claims")
    assert "Said by A. Nobody." in held
    assert "Half of all is chance." in held
    assert "The value: 10-NN accuracy, PCA, before." in held


def test_one_source_of_all_claims_is_named_once(run):
    one = {**run.claims[0], "source": "Said by A. Nobody.", "claimed": run.claims[0]["text"]}
    other = {**one, "id": "other", "claimed": "It was said otherwise"}
    held = part(Page(build_page([dataclasses.replace(run, claims=[one, other])])), "claims")
    assert held.count("Said by A. Nobody.") == 1
    assert held.count("First worded:") == 1
    assert "First worded: “It was said otherwise”." in held


def test_a_lead_that_intervals_do_not_settle_is_called_so(run):
    def gained(name, low, high):
        metric = PROBE_OUTCOMES.gained
        row = {"stage": "both", "space": "features", "metric": metric, "class": name}
        return row | {"value": (low + high) / 2, "low": low, "high": high}

    apart = [gained("3", 0.9, 1.0), gained("5", 0.1, 0.2)]
    assert "not settled: the" not in first(page_with(run, class_scores=apart))
    near = [*apart, gained("7", 0.5, 0.95), gained("9", 0.5, 0.92)]
    assert "not settled: the intervals of 2 other classes overlap" in first(page_with(run, class_scores=near))


def test_what_votes_is_named(run):
    codes = run.measures["outcome_probe"]
    voted = page_with(run, measures={"outcome_knn": codes})
    assert "a vote of the 10 nearest other images (leave one out)" in part(voted, "change")
    trained = page_with(
        run, measures={"outcome_knn": codes}, scores=[Score("before", "features", TRAIN_TO_TEST, 0.8)]
    )
    assert "a vote of the 10 nearest training images" in part(trained, "change")


def test_without_a_script_the_page_says_where_the_groups_are(run):
    told = "is in images.csv"
    assert told in part(page_with(run, image_rows=[{"id": "0"}]), "change")
    assert told not in part(page_with(run, image_rows=[]), "change")


def test_what_another_seed_does_to_the_map_is_told_where_it_is_known(run):
    again = Score("before", "tsne", RESEED_KEPT, 0.635, 0.62, 0.65)
    told = "Another seed's t-SNE map of the same features (before) keeps 64 % of an image's 10 nearest."
    assert told in first(page_with(run, scores=[*run.scores, again]))
    assert "Another seed" not in first(page_with(run))


def test_small_p_values_and_counts_are_no_decimals(run):
    scores = [
        Score("both", "features", PROBE_OUTCOMES.p_value, 0.0),
        Score("after", "tsne", CLUSTERS, 10.0, 10.0, 10.0),
    ]
    text = build_page([dataclasses.replace(run, scores=[*run.scores, *scores])])
    assert ["McNemar&#x27;s p, logistic probe", "&lt; 0.001"] in [row[:2] for row in rows(text)]
    assert ["clusters found", "after", "t-SNE", "10"] in [row[:4] for row in rows(text)]


def test_several_runs_begin_with_how_they_differ(run):
    def scored(value, half):
        return [Score("after", "features", LEAVE_ONE_OUT, value, value - half, value + half)]

    codes = run.measures["outcome_probe"].copy()
    codes[codes == BROKEN] = RIGHT
    runs = [
        dataclasses.replace(run, name="first", scores=scored(0.9, 0.01)),
        dataclasses.replace(
            run, name="better", scores=scored(0.95, 0.01), config={**run.config, "epochs": 9}
        ),
        dataclasses.replace(
            run, name="close", scores=scored(0.89, 0.01), measures={**run.measures, "outcome_probe": codes}
        ),
    ]
    text = build_page(runs)
    page = Page(text)
    assert headings(page)[0] == "How the runs differ"
    own = {row[0]: row[1:] for row in rows(text.split("</section>")[0])}
    assert own["10-NN accuracy, leave one out ↑, Features after"] == [
        "0.900 [0.890, 0.910]",
        "0.950 [0.940, 0.960]+0.050 better",
        "0.890 [0.880, 0.900]−0.010 unclear",
    ]
    assert own["images broken"] == ["5", "5", "0"]
    assert own["epochs"] == ["2", "9", "2"]


def test_two_runs_of_which_only_one_knows_outcomes(run):
    text = build_page([run, synthetic_run(300, measures={})])
    assert ["images broken", "5", "–"] in rows(text)
