"""A million points' measurements, of three hundred: their rows, and that whole maps get their own figures."""

import json
import sys

import numpy as np
import pytest

from benchmarks import million
from benchmarks.__main__ import main
from jaxtl.records import store
from jaxtl.records.arrays import Neighbors

N = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Features of three classes, F.npy."""
    path, labels = tmp_path_factory.mktemp("million"), np.arange(N, dtype=np.int32) % 3
    values = np.random.default_rng(1).normal(size=(N, 20)) + 3 * np.eye(3, 20)[labels]
    store.write(path / "F.npy", [values.astype(np.float32)], labels, np.arange(N, dtype=np.int32), {}, 20)
    return path


@pytest.fixture
def measured(folder, monkeypatch, capsys):
    """A function of a command's words, files being in the folder: the last row, or what is wrong."""

    def run(*words):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["benchmarks.million", *words])
        try:
            main(million.cli)
        except SystemExit:
            return capsys.readouterr().err
        return json.loads((folder / "R.json").read_text())["rows"][-1]

    return run


def test_a_command_is_measured_and_its_neighbours_are_the_true_ones(measured):
    row = measured("command", "R.json", "neighbors", "F.npy", "--n-neighbors", "90", "--out", "N.npz")
    assert row["command"] == "jaxtl neighbors F.npy --n-neighbors 90 --out N.npz"
    assert min(row["wall"], row["cpu"]) > 0
    assert measured("recall", "R.json", "F.npy", "N.npz")["recall"] == 1


def test_half_of_the_true_neighbours_is_a_recall_of_a_half(measured, folder):
    measured("command", "R.json", "neighbors", "F.npy", "--n-neighbors", "20", "--out", "twenty.npz")
    twenty = Neighbors.load(folder / "twenty.npz")
    Neighbors(twenty.indices[:, 5:15], twenty.distances[:, 5:15]).save(folder / "half.npz")
    row = measured("recall", "R.json", "F.npy", "half.npz")
    # The eleventh is as near as the tenth where they are tied but for rounding.
    expected = (twenty.distances[:, 5:15] <= twenty.distances[:, 9:10] * (1 + 1e-6)).mean()
    assert 0.5 <= expected < 0.501
    assert (row["recall"], row["asked"], row["k"]) == (pytest.approx(expected), N, 10)


def test_a_whole_map_has_its_own_error_and_one_by_landmarks_a_larger_one(measured):
    measured("command", "R.json", "neighbors", "F.npy", "--n-neighbors", "90", "--out", "N.npz")
    measured("command", "R.json", "reduce", "F.npy", "--method", "lle", "--out", "whole.npz")
    some = ("--set", "landmarks=60", "--out", "some.npz")
    measured("command", "R.json", "reduce", "F.npy", "--method", "lle", *some)
    whole = measured("maps", "R.json", "F.npy", "N.npz", "whole.npz")
    assert whole["rebuilding_error"] == pytest.approx(whole["diagnostics"]["reconstruction_error"], rel=1e-6)
    assert whole["quality"]["10-NN accuracy, leave one out"][0] > 0.5
    by_landmarks = measured("maps", "R.json", "F.npy", "N.npz", "some.npz")
    assert by_landmarks["params"]["landmarks"] == 60
    assert by_landmarks["rebuilding_error"] > whole["rebuilding_error"]


@pytest.mark.slow
def test_a_whole_t_sne_has_its_own_divergence(measured):
    measured("command", "R.json", "neighbors", "F.npy", "--n-neighbors", "90", "--out", "N.npz")
    measured("command", "R.json", "reduce", "F.npy", "--method", "tsne", "--out", "tsne.npz")
    row = measured("maps", "R.json", "F.npy", "N.npz", "tsne.npz")
    assert row["kl"] == {"1.0": pytest.approx(row["diagnostics"]["kl_divergence"], abs=4e-4)}


def test_what_is_missing_is_told_in_one_line(measured):
    assert measured("recall", "R.json", "none.npy", "N.npz") == "benchmarks: none.npy: no such file\n"
