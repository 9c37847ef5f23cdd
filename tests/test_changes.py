"""What became of each image between two spaces: by definition, by peers, and in the files of runs."""

import csv
import shutil

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import NearestNeighbors

import jaxtl
from jaxtl import metrics
from jaxtl.errors import JaxtlError
from jaxtl.evaluation import catalogue
from jaxtl.evaluation.catalogue import KEEPING, KEPT, KNN_OUTCOMES, MOVED, PROBE_OUTCOMES, RESEED_KEPT
from jaxtl.evaluation.seeds import over_pairs, scores_over_seeds
from jaxtl.experiment import opening
from jaxtl.metrics import Estimate, change
from jaxtl.metrics.change import OUTCOMES, difference, mcnemar, wilson
from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Embedding, Features
from jaxtl.records.files import read_npz
from jaxtl.records.tables import Score, load_images, load_scores, save_images
from jaxtl.runs.data import load_run
from jaxtl.runs.export import export
from tests.run_files import Notes, older, stamps

N = 90


def points(seed=0, n=N, d=6):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def nearest(values, k):
    """By scikit-learn: sets of rows."""
    found = NearestNeighbors(n_neighbors=k).fit(values).kneighbors(return_distance=False)
    return [set(row) for row in found.tolist()]


BEFORE = points(0)
AFTER = (BEFORE + 0.7 * points(1)).astype(np.float32)
TURNED = (3 * AFTER @ np.linalg.qr(points(2, 6))[0] + 5).astype(np.float32)


# The numbers, by their definitions.


@pytest.mark.parametrize("k", [5, 10, 20])
def test_neighbours_kept_are_those_that_both_spaces_have(k):
    kept = metrics.neighbors_kept(exact_neighbors(BEFORE, 30), exact_neighbors(AFTER, 25), k)
    pairs = zip(nearest(BEFORE, k), nearest(AFTER, k), strict=True)
    expected = [len(one & other) / k for one, other in pairs]
    np.testing.assert_allclose(kept.scores, expected)
    assert kept.mean.value == pytest.approx(np.mean(expected))
    assert kept.mean.low < kept.mean.value < kept.mean.high
    assert kept.chance == k / (N - 1)


def test_unrelated_spaces_keep_what_chance_gives_and_move_by_half():
    kept = metrics.neighbors_kept(exact_neighbors(BEFORE, 10), exact_neighbors(points(9), 10))
    moved = metrics.moved_from_neighbors(exact_neighbors(BEFORE, 10), points(9))
    assert kept.mean.low < kept.chance < kept.mean.high
    assert moved.mean.low < 0.5 < moved.mean.high


def test_movement_is_the_share_of_others_that_came_between():
    moved = metrics.moved_from_neighbors(exact_neighbors(BEFORE, 10), AFTER).scores
    far = np.linalg.norm(AFTER[:, None] - AFTER, axis=2)
    for row, near in enumerate(nearest(BEFORE, 10)):
        others = sorted({*range(N)} - near - {row})
        test = stats.mannwhitneyu(far[row, sorted(near)], far[row, others])
        assert moved[row] == pytest.approx(test.statistic / (10 * len(others)))


def test_what_is_turned_shifted_and_stretched_has_not_changed():
    near = exact_neighbors(AFTER, 10)
    assert metrics.neighbors_kept(near, exact_neighbors(TURNED, 10)).scores.min() == 1
    assert metrics.moved_from_neighbors(near, TURNED).scores.max() == 0
    from_before = exact_neighbors(BEFORE, 10)
    np.testing.assert_allclose(
        metrics.moved_from_neighbors(from_before, TURNED).scores,
        metrics.moved_from_neighbors(from_before, AFTER).scores,
        atol=1e-9,
    )


def test_copies_of_one_image_count_by_half_whatever_rounding_says():
    copies = np.repeat(points(3, 3, 40), 20, axis=0)
    near = exact_neighbors(copies, 10)
    own_class = 9 / (60 - 1 - 10)  # nine more copies, as near as the ten
    np.testing.assert_allclose(metrics.moved_from_neighbors(near, copies).scores, own_class / 2)


def test_a_sample_of_the_others_stands_for_all_of_them(monkeypatch):
    before = points(4, 600)
    after = (before + 0.8 * points(5, 600)).astype(np.float32)
    near = exact_neighbors(before, 10)
    whole = metrics.moved_from_neighbors(near, after).scores
    monkeypatch.setattr(change, "OTHERS", 300)
    some = metrics.moved_from_neighbors(near, after, seed=1).scores
    assert some.mean() == pytest.approx(whole.mean(), abs=0.01)
    assert np.abs(some - whole).max() < 0.12  # four standard errors of a share of 300


@pytest.mark.parametrize("k", [0, N - 1, 26])
def test_neighbours_that_are_too_many_are_refused(k):
    near = exact_neighbors(BEFORE, 25)
    for call in (
        lambda: metrics.neighbors_kept(near, near, k),
        lambda: metrics.moved_from_neighbors(near, AFTER, k),
    ):
        with pytest.raises(JaxtlError, match=r"n_neighbors must be .* got"):
            call()


def test_outcomes_are_told_apart_and_add_up():
    before, after = np.array([1, 1, 0, 0, 0, 1, 1], bool), np.array([1, 0, 1, 1, 0, 1, 1], bool)
    paired = metrics.paired_outcomes(before, after)
    told = " ".join(OUTCOMES[code] for code in paired.outcomes)
    assert told == "right broken fixed fixed wrong right right"
    shares = [paired.right, paired.fixed, paired.broken, paired.wrong]
    assert [share.value for share in shares] == [3 / 7, 2 / 7, 1 / 7, 1 / 7]
    assert paired.gained.value == pytest.approx(after.mean() - before.mean())
    with pytest.raises(JaxtlError, match="as many points before as after"):
        metrics.paired_outcomes(before, after[:3])


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (1, 0), (5, 1), (9, 9), (40, 21), (346, 26)])
def test_mcnemar_is_the_exact_binomial_test_and_nears_the_chi_squared_one(fixed, broken):
    changed = fixed + broken
    exact = min(1.0, 2 * stats.binom.cdf(min(fixed, broken), changed, 0.5))
    assert mcnemar(fixed, broken) == pytest.approx(exact)
    assert mcnemar(broken, fixed) == mcnemar(fixed, broken)
    if 50 < changed < 100:
        corrected = (abs(fixed - broken) - 1) ** 2 / changed
        assert mcnemar(fixed, broken) == pytest.approx(stats.chi2.sf(corrected, 1), abs=0.002)


@pytest.mark.parametrize(("count", "n"), [(0, 8), (3, 8), (8, 8), (346, 2000)])
def test_shares_have_wilson_s_interval(count, n):
    peer = stats.binomtest(count, n).proportion_ci(method="wilson")
    assert wilson(count, n) == pytest.approx((count / n, peer.low, peer.high))


def test_intervals_of_a_gain_cover_it_where_few_images_changed():
    rng, chances = np.random.default_rng(0), [0.88, 0.05, 0.02, 0.05]
    drawn = rng.multinomial(60, chances, size=2000)
    intervals = [difference(int(row[1]), int(row[2]), 60) for row in drawn]
    covered = np.mean([low <= 0.03 <= high for _, low, high in intervals])
    assert 0.94 <= covered <= 0.995
    assert difference(0, 0, 60).high > 0.03
    assert all(-1 <= low <= value <= high <= 1 for value, low, high in (difference(n, 0, n) for n in (1, 9)))


def test_pairs_of_seeds_have_the_jackknife_s_interval():
    values = {(0, 1): 0.8, (0, 2): 0.7, (1, 2): 0.9, (0, 3): 0.75, (1, 3): 0.8, (2, 3): 0.85}
    over = over_pairs(4, lambda i, j: Estimate(values[i, j], values[i, j] - 0.01, values[i, j] + 0.03))
    without = [np.mean([v for pair, v in values.items() if seed not in pair]) for seed in range(4)]
    error = np.sqrt(3 / 4 * np.sum((np.array(without) - np.mean(without)) ** 2))
    half = stats.t.ppf(0.975, 3) * error
    middle = np.mean([*values.values()])
    assert over == pytest.approx((middle, middle - np.hypot(half, 0.01), middle + np.hypot(half, 0.03)))
    assert over_pairs(2, lambda i, j: Estimate(0.5, 0.4, 0.7)) == pytest.approx((0.5, 0.4, 0.7))


def test_p_values_are_not_averaged_over_seeds():
    rows = [Score("both", "features", m, 0.5) for m in (KNN_OUTCOMES.p_value, MOVED)]
    assert [score.metric for score in scores_over_seeds([rows, rows])] == [MOVED]


# In a run's files.


@pytest.fixture(scope="module")
def scores(finished):
    return {(s.stage, s.space, s.metric): s for s in load_scores(finished / "scores.csv")}


@pytest.fixture(scope="module")
def arrays(finished):
    return read_npz(finished / "measures.npz", ())[0]


def features_of(finished):
    return [Features.load(finished / "features" / f"{stage}.npz") for stage in ("before", "after")]


def test_every_image_has_its_row(finished, arrays):
    rows, before = load_images(finished / "images.csv"), Features.load(finished / "features" / "before.npz")
    assert [row["index"] for row in rows] == before.index.tolist()
    assert [row["class"] for row in rows] == [before.class_names[label] for label in before.labels]
    kept = [
        len(a & b) / 10 for a, b in zip(*(nearest(f.values, 10) for f in features_of(finished)), strict=True)
    ]
    assert [row["kept"] for row in rows] == pytest.approx(kept, abs=1e-6)
    for name, taught in (("knn", "knn_training"), ("probe", "probe")):
        for row, label, *named in zip(
            rows, before.labels, *(arrays[f"{taught}_{stage}"] for stage in ("before", "after")), strict=True
        ):
            right = tuple(map(bool, named == label))
            outcomes = {(1, 1): "right", (0, 1): "fixed", (1, 0): "broken", (0, 0): "wrong"}
            assert row[f"outcome_{name}"] == outcomes[right]
            assert [row[f"{name}_before"], row[f"{name}_after"]] == [before.class_names[c] for c in named]
    assert [row["head"] for row in rows] == [before.class_names[c] for c in arrays["head_after"]]
    assert load_run(finished).image_rows == rows


def test_maps_keep_what_their_coordinates_keep(finished, scores):
    rows = load_images(finished / "images.csv")
    for method in ("pca", "tsne", "lle"):
        maps = [
            Embedding.load(finished / "embeddings" / f"{s}_{method}.npz").coords for s in ("before", "after")
        ]
        before, after = (nearest(coords.astype(float), 10) for coords in maps)
        kept = [len(a & b) / 10 for a, b in zip(before, after, strict=True)]
        assert [row[f"kept_{method}"] for row in rows] == pytest.approx(kept, abs=1e-6)
        assert scores["both", method, KEPT].value == pytest.approx(np.mean(kept), abs=1e-6)
        features = nearest(features_of(finished)[0].values, 10)
        trust = [len(a & b) / 10 for a, b in zip(before, features, strict=True)]
        assert [row[f"trust_before_{method}"] for row in rows] == pytest.approx(trust, abs=1e-6)
        told = scores["before", method, catalogue.FEATURES_KEPT]
        assert told.value == pytest.approx(np.mean(trust), abs=1e-6)


def test_scores_count_what_the_rows_say(finished, scores):
    rows = load_images(finished / "images.csv")
    for name, of in (("knn", KNN_OUTCOMES), ("probe", PROBE_OUTCOMES)):
        counts = {told: sum(row[f"outcome_{name}"] == told for row in rows) for told in OUTCOMES}
        for told in OUTCOMES:
            score = scores["both", "features", getattr(of, told)]
            assert (score.value, score.low, score.high) == pytest.approx(wilson(counts[told], 250), abs=1e-6)
        p_value = scores["both", "features", of.p_value]
        assert p_value.value == pytest.approx(mcnemar(counts["fixed"], counts["broken"]), abs=1e-6)
        assert p_value.low is None
    for k, pair in KEEPING.items():
        assert scores["both", "features", pair.chance].value == pytest.approx(k / 249, abs=1e-6)
        assert scores["both", "features", pair.kept].value > k / 249
    assert scores["both", "features", MOVED].value == pytest.approx(
        np.mean([r["moved"] for r in rows]), abs=1e-6
    )


def test_every_class_has_its_own_change(finished):
    rows = load_images(finished / "images.csv")
    with (finished / "classes.csv").open(encoding="utf-8", newline="") as stream:
        of_class = {
            (r["space"], r["metric"], r["class"]): r for r in csv.DictReader(stream) if r["stage"] == "both"
        }
    ones = [row for row in rows if row["class"] == "1"]
    fixed, broken = (sum(row["outcome_probe"] == told for row in ones) for told in ("fixed", "broken"))
    gained = of_class["features", PROBE_OUTCOMES.gained, "1"]
    expected = difference(fixed, broken, len(ones))
    assert [float(gained[name]) for name in ("value", "low", "high")] == pytest.approx(expected, abs=1e-6)
    kept = of_class["features", KEPT, "1"]
    assert float(kept["value"]) == pytest.approx(np.mean([row["kept"] for row in ones]), abs=1e-6)
    assert float(kept["low"]) <= float(kept["value"]) <= float(kept["high"])
    assert {key[0] for key in of_class} == {"features", "pca", "tsne", "lle"}


def test_another_seed_s_map_is_made_measured_and_left(finished, scores):
    """1 is the seed of `finished`: another one is 0."""
    before = Features.load(finished / "features" / "before.npz")
    again = jaxtl.reduce(before, "tsne", perplexity=10.0, seed=0).coords
    first = Embedding.load(finished / "embeddings" / "before_tsne.npz").coords
    pairs = zip(nearest(first.astype(float), 10), nearest(again.astype(float), 10), strict=True)
    score = scores["before", "tsne", RESEED_KEPT]
    assert score.value == pytest.approx(np.mean([len(a & b) / 10 for a, b in pairs]), abs=1e-6)
    assert not (finished / "reseeded_tsne.npz").exists()


def test_exports_have_a_column_for_each(finished, arrays, tmp_path):
    export(finished, "csv", tmp_path / "run.csv")
    with (tmp_path / "run.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["outcome_probe"] for row in rows] == [OUTCOMES[code] for code in arrays["outcome_probe"]]
    for name in ("kept", "moved", "kept_tsne", "trust_after_lle", "probe_before", "knn_training_after"):
        assert [np.float32(row[name]) for row in rows] == arrays[name].tolist()
    export(finished, "csv", tmp_path / "after.csv", "after")
    header = (tmp_path / "after.csv").read_text().partition("\n")[0]
    assert "trust_after_tsne" in header
    assert not {"kept", "outcome_knn", "trust_before_tsne"} & set(header.split(","))


# Runs of before there was such a table, and damaged ones.


@pytest.fixture
def few_copy(few_run, tmp_path, without_figures):
    with without_figures():
        yield shutil.copytree(few_run, tmp_path / "run")


def test_an_older_run_is_read_and_scored_again(few_copy):
    (older(few_copy) / "images.csv").unlink()
    assert load_run(few_copy).image_rows == []
    kept = {
        name: stamp for name, stamp in stamps(few_copy).items() if name.startswith(("feat", "emb", "model"))
    }
    opening.resume(few_copy).redo("scores")
    assert len(load_run(few_copy).image_rows) == 60
    assert kept.items() <= stamps(few_copy).items()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("\n", "", "is cut off"),
        (",right", ",right,x", "cells of"),
        ("\n0,", "\n7,", "is of other images"),
        ("\n0,", "\nx,", "index is 'x', not a whole number"),
        ("kept", "held", "columns are missing: kept"),
    ],
)
def test_a_damaged_table_is_refused_by_name(few_copy, old, new, told):
    text = (few_copy / "images.csv").read_text()
    text = text.removesuffix(old) if not new else text.replace(old, new, 1)
    (older(few_copy) / "images.csv").write_text(text)
    with pytest.raises(JaxtlError, match=told) as refusal:
        load_run(few_copy)
    assert "images.csv" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_names_of_any_kind_come_back(few_run, tmp_path):
    rows = load_images(few_run / "images.csv")[:4]
    for row, name in zip(rows, ("a, b", 'say "ä"', "two\nlines", "old\rmac"), strict=True):
        row |= {"id": name, "class": name}
    save_images(tmp_path / "images.csv", rows)
    assert load_images(tmp_path / "images.csv") == rows


# Features that somebody else computed.

LABELS = (BEFORE[:, 0] > 0).astype(np.int32)


@pytest.fixture
def compared(without_figures):
    """A function of a number of images: their comparison, and what was told of it."""
    with without_figures():
        yield compare


def compare(n=40, **given):
    told = Notes()
    found = jaxtl.compare(BEFORE[:n], AFTER[:n], methods=["pca"], observer=told, **given)
    return found, told.said


def test_without_labels_it_is_told_what_is_kept_and_moved(compared):
    found, _ = compared()
    assert found.score("both", "features", KEPT).value > 0.3
    assert found.score("both", "pca", KEPT)
    assert found.score("both", "features", MOVED).value < 0.5
    assert not any(found.score("both", "features", metric) for metric in (*KNN_OUTCOMES, *PROBE_OUTCOMES))


def test_without_training_features_each_image_is_left_out_once(compared):
    found, _ = compared(labels=LABELS[:40])
    own = [
        metrics.leave_one_out_knn(exact_neighbors(values[:40], 10), LABELS[:40]).correct
        for values in (BEFORE, AFTER)
    ]
    assert found.score("both", "features", KNN_OUTCOMES.fixed).value == np.mean(~own[0] & own[1])
    assert found.score("both", "features", PROBE_OUTCOMES.fixed) is None


def test_few_images_leave_out_what_they_do_not_allow(compared):
    found, said = compared(n=14)
    assert found.score("both", "features", KEEPING[5].kept)
    assert found.score("both", "features", KEPT)
    assert found.score("both", "features", KEEPING[20].kept) is None
    assert any("20 and 50 nearest, as there are 14 images" in line for line in said)
