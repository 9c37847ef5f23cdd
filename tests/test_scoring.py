"""All numbers of a run: each is the metric's own, and each class, point and map has its own."""

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from jaxtl import metrics
from jaxtl.cli.tables import layer_table
from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.evaluation import catalogue, depth, scoring
from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, PER_CLASS
from jaxtl.evaluation.change import maps_kept
from jaxtl.evaluation.measures import StageMeasures
from jaxtl.machine import cores
from jaxtl.methods import METHODS
from jaxtl.metrics.separability import KNN_CANDIDATES
from jaxtl.models.weights import load_arrays, load_model
from jaxtl.neighbors import exact_neighbors
from jaxtl.network.extraction import extract_layers
from jaxtl.plots.curves import layers_figure
from jaxtl.records.arrays import Embedding, Features, Neighbors
from jaxtl.records.files import read_npz, write_npz
from jaxtl.records.tables import CLASS_COLUMNS, load_history, load_layers, load_scores, save_layers
from jaxtl.settings import Images

STAGES = ("before", "after")


@pytest.fixture(scope="module")
def scores(finished):
    return {(score.stage, score.space, score.metric): score for score in load_scores(finished / "scores.csv")}


def space(finished, stage, name):
    features = Features.load(finished / "features" / f"{stage}.npz")
    if name == "features":
        return features.values, features.labels
    return Embedding.load(finished / "embeddings" / f"{stage}_{name}.npz").coords, features.labels


@pytest.mark.parametrize("name", ["features", *METHODS])
@pytest.mark.parametrize("stage", STAGES)
def test_separability_is_that_of_each_space(finished, scores, stage, name):
    values, labels = space(finished, stage, name)
    near, known = exact_neighbors(values, 10), exact_neighbors(values, 30)
    voted = metrics.leave_one_out_knn(known, labels, 10, seed=1)
    expected = {
        LEAVE_ONE_OUT: voted.accuracy,
        "neighbourhood hit": metrics.neighborhood_hit(known, labels, 10, seed=1).mean,
        "silhouette": metrics.silhouette(values, labels, seed=1).mean,
        "Davies-Bouldin": metrics.davies_bouldin(values, labels),
    }
    for metric, estimate in expected.items():
        score = scores[stage, name, metric]
        assert (score.value, score.low, score.high) == pytest.approx(tuple(estimate), abs=2e-6)
        assert score.low <= score.value <= score.high
    arrays, _ = read_npz(finished / "measures.npz", ())
    confusion = metrics.neighbor_confusion(near, labels, 10).value
    np.testing.assert_allclose(arrays[f"confusion_{stage}_{name}"], confusion, atol=1e-6)
    if name == "features":
        np.testing.assert_array_equal(arrays[f"knn_{stage}"], voted.predicted)
        np.testing.assert_array_equal(arrays[f"neighbors_{stage}"], near.indices)


@pytest.mark.parametrize("method", METHODS)
def test_faithfulness_is_of_a_map_to_its_own_features(finished, scores, method):
    for stage in STAGES:
        coords, _ = space(finished, stage, method)
        true = metrics.faithfulness(space(finished, stage, "features")[0], coords, seed=1)
        assert scores[stage, method, "trustworthiness"].value == pytest.approx(
            true.trustworthiness.value, abs=1e-6
        )
        arrays, _ = read_npz(finished / "measures.npz", ())
        np.testing.assert_allclose(arrays[f"qnx_{stage}_{method}"], true.co_ranking.q.value, atol=1e-6)


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_probes_in_maps_are_of_folds_of_the_test_images(finished, scores, kind):
    probe = getattr(metrics, f"{kind}_probe_cross_validated")
    for stage, method in (("before", "pca"), ("after", "tsne")):
        score = scores[stage, method, f"{kind} probe accuracy, 5 folds"]
        expected = probe(*space(finished, stage, method), seed=1).accuracy
        assert (score.value, score.low, score.high) == pytest.approx(tuple(expected), abs=2e-6)


def test_features_are_described_and_compared(scores):
    for stage in STAGES:
        for metric in (
            "ridge probe accuracy",
            "logistic probe accuracy",
            "effective rank",
            "intrinsic dimension",
        ):
            assert scores[stage, "features", metric].value > 0
    assert scores["before", "features", "LogME"].low < scores["before", "features", "LogME"].high
    assert 0 < scores["both", "features", "linear CKA"].value < 1
    assert 0 < scores["both", "features", "Procrustes disparity"].value < 1


def test_the_head_is_the_tuned_networks(finished):
    arrays, _ = read_npz(finished / "measures.npz", ())
    values, labels = space(finished, "after", "features")
    weights = load_arrays(finished / "model.safetensors")[1]
    logits = values @ weights["predictions/kernel"] + weights["predictions/bias"]
    np.testing.assert_array_equal(arrays["head_after"], logits.argmax(axis=1))
    assert (arrays["head_probability"] >= 0.1).all()
    assert (arrays["head_probability"] <= 1).all()
    # 250 of the 500 images that the history reports on.
    reported = load_history(finished / "history.csv")[-1]["test_accuracy"]
    assert (arrays["head_after"] == labels).mean() == pytest.approx(reported, abs=0.1)


def test_every_class_has_its_rows(finished):
    with (finished / "classes.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == CLASS_COLUMNS
    assert (
        len([row for row in rows if row["stage"] in STAGES]) == 2 * (1 + len(METHODS)) * len(PER_CLASS) * 10
    )
    values, labels = space(finished, "after", "tsne")
    ones = metrics.leave_one_out_knn(exact_neighbors(values, 10), labels).correct[labels == 1].mean()
    those = [
        r
        for r in rows
        if (r["stage"], r["space"], r["metric"], r["class"]) == ("after", "tsne", LEAVE_ONE_OUT, "1")
    ]
    assert [float(row["value"]) for row in those] == pytest.approx([ones], abs=1e-6)


def test_claims_are_on_file_with_what_decided_them(finished):
    claims = json.loads((finished / "claims.json").read_text())["claims"]
    assert len(claims) == 10  # numbers of IDX files may stand for anything: nothing is said of digits
    for claim in claims:
        above, low, high = claim["direction"] == "above", claim["low"], claim["high"]
        sure = low > claim["threshold"] if above else high < claim["threshold"]
        assert (claim["verdict"] == "holds") == sure


def blobs(n, scale, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 3).astype(np.int32)
    values = rng.normal(size=(n, 12)) + scale * np.eye(3, 12)[labels]
    return Features(values.astype(np.float32), labels, np.arange(n, dtype=np.int32), {})


def plane(features, method, seed):
    turn = np.random.default_rng(seed).normal(size=(12, 2)).astype(np.float32)
    return Embedding(features.values @ turn, features.labels, features.index, method, "none", {})


@pytest.fixture(scope="module")
def given():
    """What `measure` takes, of 120 points in three classes that fine-tuning drew apart."""
    features = {"before": blobs(120, 1, 0)}
    after = features["before"].values + 2 * np.eye(3, 12, dtype=np.float32)[features["before"].labels]
    features["after"] = replace(features["before"], values=after)
    embeddings = {
        stage: {method: plane(own, method, k) for k, method in enumerate(METHODS)}
        for stage, own in features.items()
    }
    neighbors = {stage: exact_neighbors(own.values, 30) for stage, own in features.items()}
    training = {stage: blobs(150, scale, 1) for stage, scale in (("before", 1), ("after", 3))}
    rng = np.random.default_rng(2)
    return features, embeddings, neighbors, training, (rng.normal(size=(12, 3)), np.zeros(3))


def of_stage(given, stage, **how):
    """The numbers of a stage's features, and those of its embeddings."""
    features, embeddings, neighbors, training = (part[stage] for part in given[:4])
    return [
        scoring.measure_features(stage, features, neighbors, training, **how),
        scoring.measure_embeddings(stage, features, embeddings, neighbors, **how),
    ]


def with_workers(monkeypatch, count):
    monkeypatch.setattr(cores, "cpu_count", lambda: count)
    pool = ThreadPoolExecutor(max(1, count - 1))
    monkeypatch.setattr(cores, "shared_pool", lambda: pool)
    return pool


def assert_same(measures, expected):
    for name in ("scores", "class_scores"):
        assert getattr(measures, name) == getattr(expected, name)
    assert list(measures.arrays) == list(expected.arrays)
    for name, array in expected.arrays.items():
        assert measures.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(measures.arrays[name], array)


@pytest.fixture(scope="module")
def measures(given):
    return scoring.measure(*given)


@pytest.mark.parametrize("workers", [1, 4])
def test_numbers_do_not_depend_on_which_task_ends_first(monkeypatch, given, measures, workers):
    with with_workers(monkeypatch, workers):
        again = scoring.measure(*given)
    assert_same(again, measures)
    assert again.verdicts == measures.verdicts


def test_numbers_of_stages_apart_and_kept_are_those_of_all_at_once(given, measures, tmp_path):
    def kept(alone):
        alone.save(tmp_path / "kept.npz")
        again = StageMeasures.load(tmp_path / "kept.npz")
        assert_same(again, alone)
        assert {space: hits.tolist() for space, hits in again.correct.items()} == {
            space: hits.tolist() for space, hits in alone.correct.items()
        }
        return again

    stages = {stage: list(map(kept, of_stage(given, stage))) for stage in ("before", "after")}
    both = kept(scoring.measure_change(given[0], given[4], given[2]))
    maps = {(stage, method): one for stage, own in given[1].items() for method, one in own.items()}
    both.take(maps_kept(maps, given[0]["before"]))
    combined = scoring.combine(stages, both, given[0]["after"])
    assert_same(combined, measures)
    assert combined.verdicts == measures.verdicts


def test_numbers_stand_by_stage_and_space(measures):
    order = [(score.stage, score.space) for score in measures.scores]
    blocks = [row for k, row in enumerate(order) if not k or order[k - 1] != row]
    # What is said of fine-tuning before it is the last that is said of the stage before.
    spaces = ["features", *METHODS]
    assert blocks == [
        *(("before", space) for space in (*spaces, "features")),
        *(("after", space) for space in spaces),
        *(("both", space) for space in spaces),
    ]


def test_a_number_that_images_do_not_allow_costs_no_other(given, tmp_path):
    told = []
    whole, _ = of_stage(given, "before")
    features, _, neighbors, training = (record["before"] for record in given[:4])
    copies = Neighbors(neighbors.indices, 0 * neighbors.distances)
    measures = scoring.measure_features("before", features, copies, training, notify=told.append)
    assert len(told) == 1
    assert told[0].startswith("intrinsic dimension, features before: left out (")
    assert measures.scores == [score for score in whole.scores if score.metric != "intrinsic dimension"]
    measures.save(tmp_path / "before.npz")
    assert StageMeasures.load(tmp_path / "before.npz").left_out == told


def test_a_fault_in_a_metric_is_not_passed_over(monkeypatch, given):
    def broken(*args, **how):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(metrics, "silhouette", broken)
    with pytest.raises(ZeroDivisionError, match="broken"):
        of_stage(given, "after")


def test_progress_goes_from_nothing_to_one(given):
    features, _, neighbors, training = (record["after"] for record in given[:4])
    seen = []
    scoring.measure_features("after", features, neighbors, training, progress=seen.append)
    assert seen == sorted(set(seen))
    assert 0 < seen[0] < 0.1
    assert seen[-1] == 1


def interrupt_at(count):
    seen = []

    def progress(fraction):
        seen.append(fraction)
        if len(seen) == count:
            raise KeyboardInterrupt

    return progress, seen


@pytest.mark.parametrize("whole", [True, False])
def test_an_interrupted_scoring_ends(given, whole):
    progress, seen = interrupt_at(3)
    with pytest.raises(KeyboardInterrupt):
        scoring.measure(*given, progress=progress) if whole else of_stage(given, "before", progress=progress)
    # What had begun in the other threads is told of, and nothing is begun any more.
    assert len(seen) < 3 + cores.cpu_count()


@pytest.mark.parametrize(
    ("arrays", "meta", "message"),
    [
        ({}, {}, "has no array scores, class_scores"),
        ({"scores": np.zeros((1, 3)), "class_scores": np.zeros((0, 3))}, {}, "not the numbers of a stage"),
        (
            {"scores": np.zeros((2, 3)), "class_scores": np.zeros((0, 3))},
            {"scores": [["before", "pca", "silhouette"]], "class_scores": [], "left_out": []},
            "not the numbers of a stage",
        ),
    ],
)
def test_kept_numbers_that_are_others_are_refused(tmp_path, arrays, meta, message):
    path = tmp_path / "before.npz"
    with pytest.raises(JaxtlError, match="no such file"):
        StageMeasures.load(path)
    write_npz(path, arrays, meta)
    with pytest.raises(JaxtlError, match=message) as caught:
        StageMeasures.load(path)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def outputs():
    model, digits = load_model(), load("mnist", "test").take(120)
    names = ("Conv1_relu", "block_6_project_BN", "out_relu")
    return extract_layers(model, digits, names, Images(32)), digits.labels


def test_a_profile_holds_each_layers_own_numbers(outputs, tmp_path):
    before, labels = outputs
    rng = np.random.default_rng(0)
    after = before | {"out_relu": before["out_relu"] + rng.normal(size=before["out_relu"].shape).astype("f4")}
    rows = depth.profile(before, after, labels)
    row_of = {(row.stage, row.layer, row.metric): row for row in rows}
    assert [row.layer for row in rows if row.stage == "both"] == list(before)
    for stage, values in (("before", before), ("after", after)):
        neighbors = exact_neighbors(values["out_relu"], KNN_CANDIDATES)
        expected = metrics.leave_one_out_knn(neighbors, labels, 10).accuracy
        assert row_of[stage, "out_relu", LEAVE_ONE_OUT][3:] == pytest.approx(tuple(expected))
    assert row_of["both", "Conv1_relu", catalogue.LINEAR_CKA].value == pytest.approx(1)
    assert row_of["both", "out_relu", catalogue.LINEAR_CKA].value < 0.9
    for metric in (LEAVE_ONE_OUT, catalogue.RIDGE_PROBE_FOLDS, catalogue.EFFECTIVE_RANK):
        assert row_of["after", "Conv1_relu", metric][3:] == row_of["before", "Conv1_relu", metric][3:]
    save_layers(tmp_path / "layers.csv", rows)
    again = load_layers(tmp_path / "layers.csv")
    assert [row[:3] for row in again] == [row[:3] for row in rows]
    np.testing.assert_allclose([row[3:] for row in again], [row[3:] for row in rows], atol=1e-6)


@pytest.mark.parametrize("small", [np.repeat(np.arange(30), 3), np.r_[np.zeros(89, int), 1]])
def test_a_profile_of_classes_too_small_for_folds_lacks_the_probe_and_says_so(layers, small, tmp_path):
    before, after, _ = layers
    told = []
    known = depth.profile_before(before, small, notify=told.append)
    rows = depth.profile(before, after, small, known=known)
    assert {row.metric for row in rows} == {LEAVE_ONE_OUT, catalogue.EFFECTIVE_RANK, catalogue.LINEAR_CKA}
    (line,) = told
    assert line.startswith(catalogue.RIDGE_PROBE_FOLDS)
    layers_figure(rows, list(before)).savefig(tmp_path / "layers.png")
    assert layer_table(rows).row_count == 2


@pytest.fixture(scope="module")
def layers():
    """Two layers of 90 points in three classes, the second of which fine-tuning changed."""
    features = blobs(90, 2, 3)
    before = {"first": features.values[:, :5], "second": features.values}
    return before, before | {"second": np.tanh(features.values)}, features.labels


@pytest.mark.parametrize("workers", [1, 4])
def test_a_profile_does_not_depend_on_which_task_ends_first(monkeypatch, layers, workers):
    expected = depth.profile(*layers)
    with with_workers(monkeypatch, workers):
        assert depth.profile(*layers) == expected


def test_layers_that_did_not_change_need_not_be_given_again(layers):
    before, after, labels = layers
    rows = depth.profile(before, {"second": after["second"]}, labels)
    assert rows == depth.profile(before, after, labels)
    assert next(row for row in rows if row[:3] == ("both", "first", catalogue.LINEAR_CKA))[3:] == (1, 1, 1)


def test_a_profile_goes_on_from_what_is_known(monkeypatch, layers, tmp_path):
    before, after, labels = layers
    expected = depth.profile(before, after, labels, seed=1)
    known = depth.profile_before(before, labels, seed=1)
    assert known == [row for row in expected if row.stage == "before"]
    save_layers(tmp_path / "whole.csv", expected)
    save_layers(tmp_path / "before.csv", known)
    seen, probe = [], metrics.ridge_probe_cross_validated
    monkeypatch.setattr(
        metrics, "ridge_probe_cross_validated", lambda v, *a, **k: seen.append(v) or probe(v, *a, **k)
    )
    rows = depth.profile(before, after, labels, known=load_layers(tmp_path / "before.csv"), seed=1)
    assert [id(values) for values in seen] == [id(after["second"])]
    save_layers(tmp_path / "again.csv", rows)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_an_interrupted_profile_ends(layers):
    progress, seen = interrupt_at(2)
    with pytest.raises(KeyboardInterrupt):
        depth.profile(*layers, progress=progress)
    assert len(seen) < 2 + cores.cpu_count()
