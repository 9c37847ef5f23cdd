"""Maps after that are turned onto those before, and t-SNE's that starts from there."""

import hashlib
import json
import shutil

import numpy as np
import pytest

import jaxtl
from jaxtl import metrics
from jaxtl.errors import JaxtlError
from jaxtl.evaluation import catalogue
from jaxtl.experiment import comparison
from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Embedding, Features
from jaxtl.reduction.turning import turned_onto
from jaxtl.runs.folder import RunFolder
from jaxtl.settings import STAGES
from tests.run_files import older

N = 120


@pytest.fixture(scope="module")
def stages():
    """Features before, and after with the classes further apart and other directions in which they spread."""
    rng = np.random.default_rng(3)
    labels = np.arange(N) % 4
    spread, centres = np.arange(12, 0, -1), rng.normal(size=(4, 12))
    before = (rng.normal(size=(N, 12)) + centres[labels]) * spread
    after = (before + centres[labels]) * np.roll(spread, 6)
    return Features(before, labels), Features(after, labels)


def settings(method):
    return {"tsne": {"perplexity": 10.0}}.get(method, {})


def turn(degrees, mirror):
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.diag([1, -1 if mirror else 1]) @ matrix


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("degrees", [-170.0, 35.0])
def test_a_turned_map_lies_on_the_other_again(degrees, mirror):
    onto = np.random.default_rng(0).normal(size=(50, 2)) * (3, 1)
    away = (onto + np.array([5, -2])) @ np.linalg.inv(turn(degrees, mirror))
    back, told = turned_onto(away, onto)
    np.testing.assert_allclose(back - back.mean(0), onto - onto.mean(0), atol=1e-12)
    # It is turned where it is, and not moved.
    np.testing.assert_allclose(back.mean(0), away.mean(0), atol=1e-12)
    assert told["agreement"] == pytest.approx(1)
    assert told["turned_degrees"] == pytest.approx(degrees)
    assert told["mirrored"] is mirror


def scores(embedding, features):
    neighbors = exact_neighbors(embedding.coords, 10)
    true = metrics.faithfulness(features.values, embedding.coords, 10)
    return {
        "10-NN": metrics.leave_one_out_knn(neighbors, features.labels).accuracy.value,
        "silhouette": metrics.silhouette(embedding.coords, features.labels).mean.value,
        "trustworthiness": true.trustworthiness.value,
        "continuity": true.continuity.value,
        "Shepard": true.shepard.value,
    }


@pytest.mark.parametrize("method", ["pca", "lle"])
def test_turning_changes_no_score(stages, method):
    before, after = stages
    onto = jaxtl.reduce(before, method)
    free, aligned = jaxtl.reduce(after, method), jaxtl.reduce(after, method, onto=onto)
    assert np.abs(aligned.coords - free.coords).max() > 0.1 * np.ptp(free.coords)
    assert scores(aligned, after) == pytest.approx(scores(free, after), abs=1e-5)
    assert free.diagnostics.items() <= aligned.diagnostics.items()
    assert distance(aligned, onto) < distance(free, onto)


def distance(one, other):
    """Mean distance of points in two maps, each scaled to unit spread about its mean."""
    placed = [e.coords - e.coords.mean(0) for e in (one, other)]
    placed = [xy / np.sqrt((xy**2).sum(1).mean()) for xy in placed]
    return np.linalg.norm(placed[0] - placed[1], axis=1).mean()


def test_tsne_starts_from_the_map_before_unless_it_is_told_otherwise(stages):
    before, after = stages
    onto = jaxtl.reduce(before, "tsne", "opentsne", **settings("tsne"))
    aligned, again, turned = (
        jaxtl.reduce(after, "tsne", "opentsne", onto=onto, **settings("tsne"), **more)
        for more in ({}, {}, {"initialization": "pca"})
    )
    assert aligned.params["initialization"] == "given"
    assert turned.params["initialization"] == "pca"
    np.testing.assert_array_equal(aligned.coords, again.coords)
    free = jaxtl.reduce(after, "tsne", "opentsne", **settings("tsne"))
    assert free.diagnostics["kl_divergence"] == turned.diagnostics["kl_divergence"]
    assert scores(turned, after) == pytest.approx(scores(free, after), abs=1e-5)
    assert distance(aligned, onto) < distance(free, onto)


def test_rows_that_coincide_in_the_start_part(stages):
    _, after = stages
    onto = np.repeat(np.random.default_rng(0).normal(size=(N // 2, 2)), 2, axis=0)
    aligned = jaxtl.reduce(after, "tsne", "opentsne", onto=onto, **settings("tsne"))
    assert len(np.unique(aligned.coords, axis=0)) == N


def test_landmarks_begin_with_their_own_places_and_all_rows_are_turned(stages):
    before, after = stages
    onto = jaxtl.reduce(before, "pca")
    free = jaxtl.reduce(after, "pca", landmarks=60)
    aligned = jaxtl.reduce(after, "pca", landmarks=60, onto=onto.coords)
    assert scores(aligned, after) == pytest.approx(scores(free, after), abs=1e-5)
    assert distance(aligned, onto) < distance(free, onto)


@pytest.mark.parametrize(
    ("onto", "message"),
    [
        (np.zeros((N, 2)), "all 120 rows of onto lie in one place"),
        (np.zeros((N - 1, 2)), r"onto must be coordinates \[120, 2\] of the same rows, got \[119, 2\]"),
        (np.full((N, 2), np.nan), "onto holds NaN"),
    ],
)
def test_what_nothing_can_be_turned_onto_is_refused(stages, onto, message):
    with pytest.raises(JaxtlError, match=message):
        jaxtl.reduce(stages[1], "pca", onto=onto)


def test_a_run_tells_what_the_free_map_is_worth(finished):
    run = RunFolder(finished)
    rows = {(s.stage, s.space, s.metric): s.value for s in run.scores.read()}
    made, free = run.embeddings["after", "tsne"].read(), run.free_embeddings["tsne"].read()
    assert (made.params["initialization"], free.params["initialization"]) == ("given", "pca")
    assert made.params["aligned"]
    labels = free.labels
    voted = metrics.leave_one_out_knn(exact_neighbors(free.coords, 10), labels).accuracy.value
    assert rows["after", "tsne", catalogue.FREE_LEAVE_ONE_OUT] == pytest.approx(voted)
    assert 0.5 < rows["after", "tsne", catalogue.FREE_TRUSTWORTHINESS] <= 1
    assert ("before", "tsne", catalogue.FREE_LEAVE_ONE_OUT) not in rows
    assert ("after", "pca", catalogue.FREE_LEAVE_ONE_OUT) not in rows


@pytest.fixture(scope="module")
def compared(stages, tmp_path_factory):
    """Folders of a comparison with and without alignment."""
    given = comparison.read(*stages)
    folders = {}
    for align in (True, False):
        folders[align] = folder = tmp_path_factory.mktemp("compared") / "run"
        config, _ = comparison.settings(given, [], methods=("pca", "tsne"), perplexity=10.0, align=align)
        comparison.start(given, config, folder).measure()
    return folders


@pytest.mark.slow
def test_alignment_changes_the_maps_after_and_nothing_else(compared):
    aligned, plain = RunFolder(compared[True]), RunFolder(compared[False])
    for one, other in (
        *((aligned.neighbors[stage], plain.neighbors[stage]) for stage in STAGES),
        *((aligned.embeddings["before", m], plain.embeddings["before", m]) for m in ("pca", "tsne")),
    ):
        assert one.path.read_bytes() == other.path.read_bytes()
    assert not plain.free_embeddings["tsne"].is_there
    made = plain.embeddings["after", "tsne"].read()
    assert "aligned" not in made.params
    # The free map of the one is the map of the other, turned.
    free = aligned.free_embeddings["tsne"].read()
    np.testing.assert_allclose(turned_onto(made.coords, free.coords)[0], free.coords, atol=1e-3)


@pytest.mark.slow
def test_a_stopped_run_ends_at_the_same_bytes(compared, tmp_path):
    names = [f"embeddings/{name}.npz" for name in ("before_tsne", "after_tsne", "after_tsne_free")]
    for k, lost in enumerate((names[1:], names)):
        folder = tmp_path / str(k)
        shutil.copytree(compared[True], folder)
        for name in (*lost, "scores.csv"):
            (folder / name).unlink()
        comparison.resume(folder).measure()
        for name in (*names, "scores.csv"):
            assert (folder / name).read_bytes() == (compared[True] / name).read_bytes()


@pytest.mark.slow
def test_settings_of_before_there_was_alignment_are_of_maps_that_are_not_aligned(compared, tmp_path):
    folder = older(shutil.copytree(compared[False], tmp_path / "old"))
    run = RunFolder(folder)
    record = json.loads(run.started.path.read_text())
    del record["align"], record["digest"]
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    run.started.path.write_text(json.dumps({**record, "digest": digest}))
    (folder / "embeddings/after_pca.npz").unlink()
    comparison.resume(folder, {"align": False}).measure()
    path = "embeddings/after_pca.npz"
    assert (folder / path).read_bytes() == (compared[False] / path).read_bytes()
    with pytest.raises(JaxtlError, match="was made with align False, not True"):
        comparison.resume(folder, {"align": True})


def test_records_round_trip(stages, tmp_path):
    made = jaxtl.reduce(stages[1], "pca", onto=jaxtl.reduce(stages[0], "pca"))
    made.save(tmp_path / "e.npz")
    assert Embedding.load(tmp_path / "e.npz").diagnostics == made.diagnostics
