"""All numbers of a run: each is the metric's own, and each class, point and map has its own."""

import csv
import json

import numpy as np
import pytest

from jaxtl import depth, metrics
from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.extraction import extract_layers
from jaxtl.files import read_npz
from jaxtl.models.weights import load_arrays, load_model
from jaxtl.neighbors import exact_neighbors
from jaxtl.records import CLASS_COLUMNS, Embedding, Features, load_history, load_scores
from jaxtl.scoring import LEAVE_ONE_OUT, PER_CLASS
from jaxtl.settings import METHODS, Images

STAGES = ("before", "after")


@pytest.fixture(scope="module")
def scores(finished):
    return {(each.stage, each.space, each.metric): each for each in load_scores(finished / "scores.csv")}


def space(finished, stage, name):
    features = Features.load(finished / "features" / f"{stage}.npz")
    if name == "features":
        return features.values, features.labels
    return Embedding.load(finished / "embeddings" / f"{stage}_{name}.npz").coords, features.labels


@pytest.mark.parametrize("name", ["features", *METHODS])
@pytest.mark.parametrize("stage", STAGES)
def test_separability_is_that_of_each_space(finished, scores, stage, name):
    values, labels = space(finished, stage, name)
    near = exact_neighbors(values, 10)
    voted = metrics.leave_one_out_knn(near, labels, seed=1)
    expected = {
        LEAVE_ONE_OUT: voted.accuracy,
        "neighbourhood hit": metrics.neighborhood_hit(near, labels, seed=1).mean,
        "silhouette": metrics.silhouette(values, labels, seed=1).mean,
        "Davies-Bouldin": metrics.davies_bouldin(values, labels),
    }
    for metric, estimate in expected.items():
        found = scores[stage, name, metric]
        assert (found.value, found.low, found.high) == pytest.approx(tuple(estimate), abs=2e-6)
        assert found.low <= found.value <= found.high
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
        found = scores[stage, method, f"{kind} probe accuracy, 5 folds"]
        expected = probe(*space(finished, stage, method), seed=1).accuracy
        assert (found.value, found.low, found.high) == pytest.approx(tuple(expected), abs=2e-6)


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
    assert len(rows) == 2 * (1 + len(METHODS)) * len(PER_CLASS) * 10
    values, labels = space(finished, "after", "tsne")
    ones = metrics.leave_one_out_knn(exact_neighbors(values, 10), labels).correct[labels == 1].mean()
    found = [
        r
        for r in rows
        if (r["stage"], r["space"], r["metric"], r["class"]) == ("after", "tsne", LEAVE_ONE_OUT, "1")
    ]
    assert [float(row["value"]) for row in found] == pytest.approx([ones], abs=1e-6)


def test_claims_are_on_file_with_what_decided_them(finished):
    claims = json.loads((finished / "claims.json").read_text())["claims"]
    assert len(claims) == 12
    for claim in claims:
        above, low, high = claim["direction"] == "above", claim["low"], claim["high"]
        sure = low > claim["threshold"] if above else high < claim["threshold"]
        assert (claim["verdict"] == "holds") == sure


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
    found = {(row.stage, row.layer, row.metric): row for row in rows}
    assert [row.layer for row in rows if row.stage == "both"] == list(before)
    for stage, values in (("before", before), ("after", after)):
        expected = metrics.leave_one_out_knn(exact_neighbors(values["out_relu"], 10), labels).accuracy
        assert found[stage, "out_relu", depth.KNN][3:] == pytest.approx(tuple(expected))
    assert found["both", "Conv1_relu", depth.CKA].value == pytest.approx(1)
    assert found["both", "out_relu", depth.CKA].value < 0.9
    for metric in (depth.KNN, depth.PROBE, depth.RANK):
        assert found["after", "Conv1_relu", metric][3:] == found["before", "Conv1_relu", metric][3:]
    depth.save(tmp_path / "layers.csv", rows)
    again = depth.load(tmp_path / "layers.csv")
    assert [row[:3] for row in again] == [row[:3] for row in rows]
    np.testing.assert_allclose([row[3:] for row in again], [row[3:] for row in rows], atol=1e-6)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "stage,layer,metric,value,low,high\nx,y,z,high,0,1\n"])
def test_a_damaged_profile_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "layers.csv"
    with pytest.raises(JaxtlError, match="no such file"):
        depth.load(path)
    path.write_text(text)
    if text:
        with pytest.raises(JaxtlError, match="not a table with columns stage, layer"):
            depth.load(path)
