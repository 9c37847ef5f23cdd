"""The scaling study as a user meets it: what it leaves, how it goes on, what limits do, what it refuses."""

import csv
import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from jaxtl.data import load
from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, RECONSTRUCTION_ERROR, TRUSTWORTHINESS
from jaxtl.records import store
from jaxtl.records.arrays import Embedding
from jaxtl.reduction import reduce
from jaxtl.reduction.choice import on_cpu
from jaxtl.scaling import plan, plots, quality, trials
from jaxtl.scaling.curves import curves
from jaxtl.scaling.settings import Settings
from jaxtl.scaling.source import Source
from jaxtl.scaling.trials import DONE, NOT_TRIED, OVER_TIME
from tests.studies import children, made, stamps, table


def test_every_number_stands_in_one_long_table(finished_study):
    rows = table(finished_study)
    seen = {(row["method"], row["backend"], int(row["n"])) for row in rows if row["metric"] == "seconds"}
    whole = {(m, b, n) for m, b in (("pca", "sklearn"), ("lle", "jaxtl")) for n in (40, 80, 120)}
    assert seen == whole | {("pca@50", "sklearn", 80), ("pca@50", "sklearn", 120)}
    for row in rows:
        assert row["status"] == DONE
        if row["metric"] in (LEAVE_ONE_OUT, TRUSTWORTHINESS):
            assert 0 <= float(row["low"]) <= float(row["value"]) <= float(row["high"]) <= 1
        assert float(row["value"]) >= 0
    of_features = [row for row in rows if row["method"] == "features"]
    assert [int(row["n"]) for row in of_features] == [40, 80, 120]
    assert {row["n"] for row in rows if row["metric"] == RECONSTRUCTION_ERROR} == {"40", "80", "120"}


def test_power_laws_pictures_and_maps_are_there(finished_study):
    with (finished_study / "fits.csv").open() as stream:
        fits = list(csv.DictReader(stream))
    assert {(row["method"], row["metric"]) for row in fits} >= {("pca", "seconds"), ("lle", "seconds")}
    for row in fits:
        assert float(row["low"]) <= float(row["exponent"]) <= float(row["high"])
        assert (row["smallest"], row["largest"], row["sizes"]) == ("40", "120", "3")
    for name in ("seconds", "memory", "quality", "maps"):
        for suffix in ("png", "svg"):
            assert (finished_study / "figures" / f"{name}.{suffix}").stat().st_size > 1000
    embedding = Embedding.load(finished_study / "maps" / "lle_jaxtl_80.npz")
    assert (len(embedding.coords), embedding.params["n_neighbors"]) == (80, 5)


def test_maps_are_those_that_reduce_makes(finished_study):
    features = store.load(finished_study / "features.npy", 80)
    for method, name, params in (
        ("lle", "lle_jaxtl_80", {"n_neighbors": 5}),
        ("pca", "pca_sklearn_80", {}),
        ("pca", "pca@50_sklearn_80", {"landmarks": 50}),
    ):
        embedding = Embedding.load(finished_study / "maps" / f"{name}.npz")
        again = reduce(features, method, embedding.backend, seed=1, **params)
        # In another process, and on all cores.
        np.testing.assert_allclose(embedding.coords, again.coords, atol=1e-4)
        np.testing.assert_array_equal(embedding.labels, features.labels)


def test_sizes_are_nested_samples_of_all_images(finished_study, few_digits):
    images = {split: load(few_digits, split) for split in ("train", "test")}
    labels = np.concatenate([images["train"].labels, images["test"].labels])
    features = store.load(finished_study / "features.npy")
    assert len(set(features.index)) == 120
    np.testing.assert_array_equal(labels[features.index], features.labels)
    np.testing.assert_array_equal(
        Embedding.load(finished_study / "maps/pca_sklearn_40.npz").index, features.index[:40]
    )


def test_a_trial_tells_time_memory_and_machine(finished_study):
    trial = trials.load(finished_study / "points" / "pca_sklearn_120.json")
    assert 0 < min(trial.seconds) <= trial.typical_seconds <= max(trial.seconds)
    assert len(trial.seconds) == 3
    assert trial.start_seconds > 0
    assert trial.machine["cores"] >= 1
    # Python and NumPy alone are 30 MB; the features of 120 images 0.6 MB in float32.
    assert 2**24 < trial.baseline < trial.peak < trial.resident_peak < 2**31
    assert trial.limits == {"seconds": 300, "memory": 2**36}


def test_the_same_command_again_does_nothing_again(copied_study, jaxtl, study_arguments):
    before = stamps(copied_study)
    code, out, err = jaxtl(*study_arguments, "--out", copied_study)
    assert code == 0, err
    assert stamps(copied_study) == before
    assert "PCA, scikit-learn, 40" not in err
    assert "What maps cost" in out


@pytest.mark.slow
def test_more_sizes_and_methods_are_added(copied_study, jaxtl):
    before, features = stamps(copied_study), np.load(copied_study / "features.npy")
    more = ["--sizes", 130, "--methods", "pca", "--backends", "jaxtl"]
    code, _, err = jaxtl("scale", "--out", copied_study, *more)
    assert code == 0, err
    assert set(stamps(copied_study)) - set(before) == {"pca_jaxtl_130.json", "features_130.json"}
    assert stamps(copied_study).items() >= before.items()
    grown = np.load(copied_study / "features.npy")
    assert len(grown) == 130
    np.testing.assert_array_equal(grown[:120], features)
    asked = json.loads((copied_study / "config.json").read_text())["asked"]
    assert asked == {"sizes": "130", "methods": "pca", "backends": "jaxtl"}
    assert {row["n"] for row in table(copied_study) if row["backend"] == "sklearn"} == {"40", "80", "120"}


@pytest.mark.slow
def test_killed_it_goes_on_where_it_was(launch, jaxtl, study_arguments, finished_study, tmp_path):
    folder = tmp_path / "study"
    process = launch(*study_arguments, "--out", folder)
    first = folder / "points" / "lle_jaxtl_40.json"
    _wait(first.is_file)
    under_way = children(process.pid)
    process.kill()
    process.wait()
    # The process of the trial under way ends with it.
    _wait(lambda: all(map(_gone, under_way)))
    kept = first.read_bytes()
    code, _, err = jaxtl("scale", "--out", folder)
    assert code == 0, err
    assert json.loads(first.read_bytes())["seconds"] == json.loads(kept)["seconds"]
    whole = (finished_study / "points").iterdir()
    done = {path.name for path in whole if "@" not in path.name and "120" not in path.name}
    assert {path.name for path in (folder / "points").iterdir()} == done
    assert not list(folder.rglob(".*"))
    np.testing.assert_array_equal(
        np.load(folder / "features.npy"), np.load(finished_study / "features.npy")[:80]
    )


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(launch, study_arguments, tmp_path):
    folder = tmp_path / "a study"
    process = launch(*study_arguments, "--time-limit", 77, "--out", folder)
    _wait((folder / "points" / "pca_sklearn_40.json").is_file)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == (
        f"jaxtl: interrupted, what is done is kept; go on with: jaxtl scale --out '{folder}' --time-limit 77"
    )
    assert "Traceback" not in err
    assert {row["method"] for row in table(folder)} >= {"pca"}


def _gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _wait(there, seconds=120):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_beyond_the_data_set_digits_go_on_without_end():
    source = Source(Settings(seed=7))
    source.check(1_000_000)
    assert len(set(source.index(70_100))) == 70_100
    np.testing.assert_array_equal(source.labels(70_100)[:70_000], source.labels(70_000))
    images = source.images(69_990, 70_050)
    np.testing.assert_array_equal(images[:10], source.images(69_990, 70_000))
    np.testing.assert_array_equal(images[10:], source.images(70_000, 70_050))
    np.testing.assert_array_equal(images[40:], source.images(70_030, 70_050))
    assert source.labels(70_050).shape == (70_050,)


def test_series_are_one_for_each_method_and_library_that_has_it():
    methods = plan.parse_methods("pca, tsne@5000,lle")
    series = [(s.method.name, s.backend, s.streamed) for s in plan.series_of(methods, "sklearn,jaxtl", 22)]
    assert series == [
        ("pca", "sklearn", False),
        ("pca", "jaxtl", True),
        ("tsne@5000", on_cpu("tsne", 22)[0], True),
        ("lle", "sklearn", False),
        ("lle", "jaxtl", False),
    ]
    assert methods[1].params(Settings()) == {"seed": 1, "landmarks": 5000, "perplexity": 30.0}
    assert [methods[1].has(n) for n in (5000, 5001)] == [False, True]


def test_curves_are_fitted_where_constants_have_faded():
    known = [
        made("lle", n, 1 + 1e-6 * n**2, bytes_=2**20 + 8 * n**2) for n in (100, 1000, 10_000, 30_000, 70_000)
    ]
    curve = curves([*known, made("lle", 100_000, 0, OVER_TIME)])[0]
    assert (curve.seconds.smallest, curve.seconds.largest, curve.seconds.count) == (10_000, 70_000, 3)
    assert curve.seconds.exponent == pytest.approx(2, abs=0.01)
    assert curve.memory.exponent == pytest.approx(2, abs=0.01)
    assert curves(known[:2])[0].seconds is None


def test_accuracy_of_the_features_is_leave_one_out(finished_study):
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

    features = store.load(finished_study / "features.npy", 120)
    own = quality.look(finished_study / "features.npy", features.labels, seed=1).own[LEAVE_ONE_OUT]
    theirs = cross_val_score(KNeighborsClassifier(10), features.values, features.labels, cv=LeaveOneOut())
    # Ties between classes are settled differently: by distance here, by label there. Such rows may differ.
    near = NearestNeighbors(n_neighbors=10).fit(features.values).kneighbors(return_distance=False)
    votes = np.stack([np.bincount(features.labels[curve], minlength=10) for curve in near])
    tied = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1
    assert tied.mean() < 0.3
    sure = (votes.argmax(axis=1) == features.labels)[~tied].sum() / len(votes)
    assert sure - 1e-12 <= own[0] <= sure + tied.mean() + 1e-12
    assert abs(own[0] - theirs.mean()) <= tied.mean() + 1e-12
    assert own[1] < own[0] < own[2]


def test_pictures_show_exponents_limits_and_what_is_missing(finished_study):
    known = [made("tsne@500", n, 1e-3 * n) for n in (1000, 2000, 4000)]
    curves_of = curves([*known, made("tsne@500", 8000, 0, OVER_TIME), made("tsne@500", 16_000, 0, NOT_TRIED)])
    text = plots.seconds_figure(curves_of).legends[0].get_texts()[0].get_text()
    assert text == "t-SNE with 500 landmarks, jaxtl: n^1.00 [1.00, 1.00]"
    coords = np.random.default_rng(0).normal(size=(16_000, 2)).astype(np.float32)
    labels = np.arange(16_000, dtype=np.int32) % 10
    figure = plots.maps_figure(curves_of, lambda p: (coords[: p.n], labels[: p.n]), tuple("0123456789"))
    shown = [axes.texts[0].get_text() for axes in figure.axes if axes.texts]
    assert shown == [OVER_TIME, NOT_TRIED]
    assert [axes.get_title() for axes in figure.axes] == [
        f"n = {n:,}" for n in (1000, 2000, 4000, 8000, 16_000)
    ]
    plots.memory_figure(curves_of)
    plots.quality_figure(curves_of, {1000: {LEAVE_ONE_OUT: (0.8, 0.7, 0.9)}})


def test_maps_of_a_strip_lie_on_one_another():
    rng = np.random.default_rng(0)
    before = rng.normal(size=(50, 2))
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1, -1])
    more = np.concatenate([before, rng.normal(size=(10, 2))]) @ turn
    np.testing.assert_allclose(plots.turned_onto(more, before, free=True)[:50], before, atol=1e-9)
    mirrored = before * [-1, 1]
    np.testing.assert_allclose(plots.turned_onto(mirrored, before, free=False), before)
