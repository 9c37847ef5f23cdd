"""Several seeds: the same experiment each, and numbers over all of them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from jaxtl import metrics
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import FIVE_FOLDS, LEAVE_ONE_OUT, SEEDS_CKA, SEEDS_KEPT
from jaxtl.evaluation.claims import verdict_of
from jaxtl.evaluation.seeds import claims_over_seeds, over_seeds, scores_over_seeds, summary
from jaxtl.experiment import embeddings, opening, scores
from jaxtl.experiment import seeds as several
from jaxtl.metrics import Estimate
from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Features
from jaxtl.records.tables import Score, load_scores
from jaxtl.runs import check
from jaxtl.runs.folder import holds_seeds
from jaxtl.settings import RunConfig


@pytest.fixture(scope="module", autouse=True)
def blank(without_figures):
    with without_figures():
        yield


@pytest.fixture(scope="module")
def few(few_digits):
    return RunConfig(
        dataset=few_digits, samples=55, trainable="2", epochs=1, methods=("pca",), layers=False, seed=3
    )


@pytest.fixture(scope="module")
def done(few, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds") / "runs"
    several.start(few, 3, folder).run()
    return folder


def by_key(path):
    return {(score.stage, score.space, score.metric): score for score in load_scores(path)}


def test_every_seed_is_a_run_like_any_other(few, done, contents, tmp_path):
    assert sorted(path.name for path in done.iterdir()) == [
        "claims.json",
        "manifest.json",
        "report.html",
        "scores.csv",
        "seed-3",
        "seed-4",
        "seed-5",
        "seeds.json",
        "summary.md",
    ]
    opening.start(replace(few, seed=5), tmp_path / "alone").run()
    assert contents(done / "seed-5") == contents(tmp_path / "alone")
    states = {standing.name: standing.state for standing in check.look(done)}
    assert {"summary.md", "seed-3/scores.csv", "seed-5/model.safetensors"} <= states.keys()
    assert set(states.values()) == {"ok"}


def test_numbers_are_means_with_intervals_over_seeds_and_images(done):
    key = ("after", "features", "silhouette")
    runs = [by_key(done / f"seed-{n}" / "scores.csv") for n in (3, 4, 5)]
    over = by_key(done / "scores.csv")
    values = [run[key].value for run in runs]
    assert np.std(values) > 0
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    below = np.hypot(np.mean(values) - low, np.mean([run[key].value - run[key].low for run in runs]))
    above = np.hypot(high - np.mean(values), np.mean([run[key].high - run[key].value for run in runs]))
    middle = np.mean(values)
    interval = over[key].value, over[key].low, over[key].high
    assert interval == pytest.approx((middle, middle - below, middle + above), abs=2e-6)
    # What fine-tuning has not touched is the same for every seed, and as unsure as its images.
    before = "before", "features", FIVE_FOLDS
    assert over[before].value == runs[0][before].value
    assert over[before].low < over[before].value < over[before].high


def test_what_two_seeds_have_in_common_stands_beside_the_means(done):
    over, pairs = by_key(done / "scores.csv"), [(3, 4), (3, 5), (4, 5)]
    after = {n: Features.load(done / f"seed-{n}" / "features" / "after.npz").values for n in (3, 4, 5)}
    alike = [metrics.linear_cka(after[one], after[other]).debiased.value for one, other in pairs]
    ceiling = over["after", "features", SEEDS_CKA]
    assert ceiling.value == pytest.approx(np.mean(alike), abs=1e-6)
    assert ceiling.low <= ceiling.value <= ceiling.high
    near = {n: exact_neighbors(values, 10) for n, values in after.items()}
    kept = [metrics.neighbors_kept(near[one], near[other]).mean.value for one, other in pairs]
    assert over["after", "features", SEEDS_KEPT].value == pytest.approx(np.mean(kept), abs=1e-6)
    # PCA of the same features is the same whatever the seed.
    assert over["before", "pca", SEEDS_KEPT].value == 1


def test_a_number_over_seeds_has_one_interval(done):
    claims = {claim["id"]: claim for claim in json.loads((done / "claims.json").read_text())["claims"]}
    claim, score = claims["pca-before-poor"], by_key(done / "scores.csv")["before", "pca", LEAVE_ONE_OUT]
    assert (claim["value"], claim["low"], claim["high"]) == (score.value, score.low, score.high)


def test_claims_are_decided_on_the_mean_over_seeds(done):
    decided = json.loads((done / "claims.json").read_text())["claims"]
    assert {claim["id"] for claim in decided} >= {"pca-before-poor", "pca-improves"}
    for claim in decided:
        assert claim["value"] == pytest.approx(np.mean(claim["values"]))
        mean = Estimate(claim["value"], claim["low"], claim["high"])
        assert claim["verdict"] == verdict_of(mean, claim["threshold"], claim["direction"])
    assert "Over 3 seeds" in (done / "report.html").read_text()


@pytest.mark.slow
def test_stopped_seeds_end_as_if_they_had_not_been(few, done, contents, tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    work = several.start(few, 3, folder)
    score = scores.score

    def stop(run, *arguments):
        if run.path.name == "seed-4":
            raise KeyboardInterrupt
        score(run, *arguments)

    monkeypatch.setattr(scores, "score", stop)
    with pytest.raises(KeyboardInterrupt):
        work.run()
    monkeypatch.undo()
    assert holds_seeds(folder)
    several.resume(folder).run()
    for name in ("seed-3", "seed-4", "seed-5"):
        assert contents(folder / name) == contents(done / name)
    assert (folder / "scores.csv").read_bytes() == (done / "scores.csv").read_bytes()


def test_memory_is_checked_once_and_for_all_seeds(few, done, tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    work = several.start(few, 3, folder)
    monkeypatch.setattr(embeddings, "available_memory", lambda: 1000)
    # What the first run holds is not to stop the second.
    assert [run.config.seed for run in work.experiments()] == [3, 4, 5]
    # Going on is a start again, whichever seed's maps are missing.
    shutil.copytree(done, tmp_path / "done")
    several.resume(tmp_path / "done")
    (tmp_path / "done" / "seed-5" / "embeddings" / "after_pca.npz").unlink()
    for unfinished in (folder, tmp_path / "done"):
        with pytest.raises(JaxtlError, match=r"what would fit: .*more memory \(end other programs\)"):
            several.resume(unfinished)


def test_a_later_seed_that_is_refused_says_how_to_go_on(few, tmp_path):
    folder = tmp_path / "runs"
    work = several.start(few, 2, folder)
    (folder / "seed-4").mkdir()
    (folder / "seed-4" / "thesis.txt").touch()
    with pytest.raises(JaxtlError) as caught:
        list(work.experiments())
    assert str(caught.value).endswith(f"; then go on with: jaxtl run --resume {folder}")


def test_another_setting_is_refused(done):
    with pytest.raises(JaxtlError, match="was made with epochs 1, not 2"):
        several.resume(done, {"epochs": 2})


@pytest.mark.slow
def test_a_stranger_among_the_runs_is_refused(few, done, tmp_path):
    shutil.copytree(done, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "seed-4")
    opening.start(replace(few, seed=4, epochs=2), tmp_path / "runs" / "seed-4").run()
    with pytest.raises(JaxtlError, match="seed-4: was made with other settings"):
        several.resume(tmp_path / "runs").run()


@pytest.mark.parametrize("count", [0, 1, 1001])
def test_numbers_of_seeds_that_make_no_sense(few, count, tmp_path):
    with pytest.raises(JaxtlError, match="--seeds"):
        several.start(few, count, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_damaged_record_is_one_line(tmp_path):
    (tmp_path / "seeds.json").write_text('{"seeds": "many"}')
    with pytest.raises(JaxtlError, match="holds no list of seeds"):
        several.resume(tmp_path)


def test_only_what_all_runs_have_is_summed_up():
    runs = [
        [Score("after", "pca", "a", 0.4), Score("after", "pca", "b", 1.0)],
        [Score("after", "pca", "a", 0.6)],
    ]
    assert [(s.metric, s.value) for s in scores_over_seeds(runs)] == [("a", pytest.approx(0.5))]
    with pytest.raises(JaxtlError, match="at least 2 runs"):
        over_seeds([0.5])


def test_a_claim_that_some_seeds_bear_out_is_undecided():
    claim = {"id": "x", "text": "X", "statistic": "s", "threshold": 0.5, "direction": "above"}
    runs = [[claim | {"value": v, "verdict": w}] for v, w in ((0.4, "undecided"), (0.7, "holds"))]
    (row,) = claims_over_seeds(runs)
    assert (row["verdict"], row["held_in"]) == ("undecided", 1)
    assert "holds in 1 of 2 runs" in row["words"]


def test_what_no_seed_changes_is_as_unsure_as_its_images():
    claim = {"id": "x", "text": "X", "statistic": "s", "threshold": 0.5, "direction": "below"}
    run = [claim | {"value": 0.49, "low": 0.47, "high": 0.52, "verdict": "undecided"}]
    (row,) = claims_over_seeds([run, run, run])
    assert (row["low"], row["high"]) == pytest.approx((0.47, 0.52))
    assert (row["verdict"], row["held_in"]) == ("undecided", 0)
    # Both sources of error, where both are there, add up as independent ones do.
    runs = [[run[0] | {"value": v, "low": v - 0.03, "high": v + 0.04}] for v in (0.1, 0.2, 0.3)]
    (row,) = claims_over_seeds(runs)
    seeds = over_seeds([0.1, 0.2, 0.3])
    assert row["low"] == round(0.2 - np.hypot(seeds.value - seeds.low, 0.03), 6)
    assert row["high"] == round(0.2 + np.hypot(seeds.high - seeds.value, 0.04), 6)


def test_the_summary_has_ranges_over_seeds_and_verdicts_by_seed(done):
    lines = (done / "summary.md").read_text().splitlines()
    after = [
        by_key(done / f"seed-{n}" / "scores.csv")["after", "pca", LEAVE_ONE_OUT].value for n in (3, 4, 5)
    ]
    (row,) = [line for line in lines if line.startswith("| PCA, ")]
    assert row.endswith(f"| {np.mean(after):.3f} [{min(after):.3f}, {max(after):.3f}] |")
    assert any(line.startswith("| network, test accuracy |  | 0.") for line in lines)
    decided = json.loads((done / "claims.json").read_text())["claims"]
    for claim in decided:
        (row,) = [line for line in lines if line.startswith(f"| {claim['text']} |")]
        assert row.endswith(f"| {claim['verdict']} | holds in {claim['held_in']} of 3 |")
        assert claim["verdicts"].count("holds") == claim["held_in"]
        assert claim["source"]


def test_claims_of_earlier_versions_are_summed_up():
    claim = {"id": "x", "text": "X", "statistic": "s", "threshold": 0.5, "direction": "above"}
    run = [claim | {"value": 0.6, "low": 0.55, "high": 0.65, "verdict": "holds"}]
    (row,) = claims_over_seeds([run, run])
    assert row["verdicts"] == ["holds", "holds"]
    assert summary([[], []], [row]).endswith(
        "| X | 0.600 [0.600, 0.600] | above 0.5 | holds | holds in 2 of 2 |\n"
    )
    named = [claim | {"text": r"'a|b' and '\'", "value": 0.6, "low": 0.55, "high": 0.65, "verdict": "holds"}]
    assert r"| 'a\|b' and '\\' | 0.600 " in summary([[], []], claims_over_seeds([named, named]))
