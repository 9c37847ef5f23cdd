"""A suite at work, with peers that only say that they were called."""

import copy
import json

import numpy as np
import pytest

from benchmarks import suite, tables
from benchmarks.cases import OURS, PEERS, Peer
from benchmarks.manifest import load_manifest
from benchmarks.workers import Deadline
from tests.benchmarking import MACHINE, record_of, run_main, written

PEER = """
import os, pathlib, time
NAME = os.environ["FAKE"]

def _log():
    with open(os.environ["FAKE_LOG"], "a") as log:
        log.write(NAME + "\\n")

def settings(): return {"device": NAME}
def open_data(folder): pass
def write_data(folder, n): pathlib.Path(folder, "features.npy").write_bytes(b"")

def pca(n):
    _log()
    return {"seconds": 1.0 + len(NAME), "compile_seconds": 0.5, "quality": {"trustworthiness": 0.9},
            "work": {"flops": 1e9, "bytes": 1e6}, "memory": {"peak_bytes": 2**30, "resting_bytes": 2**29}}

def neighbors(n, k):
    if NAME == "scikit-learn":
        os.write(2, b"segmentation fault of sorts\\n")
        os._exit(3)
    return pca(n)

def metric(name, n, space="features"):
    if NAME == "scikit-learn" and name == "silhouette":
        raise ValueError("no such luck")
    if NAME == "scikit-learn" and name == "davies_bouldin":
        time.sleep(600)
    return pca(n)
"""


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """jaxtl and scikit-learn replaced; returns the file that tells who was called, in order."""
    (tmp_path / "fake_peer.py").write_text(PEER)
    monkeypatch.syspath_prepend(tmp_path)
    log = tmp_path / "log"
    for name in (OURS, "scikit-learn"):
        environment = {"FAKE": name, "FAKE_LOG": str(log)}
        monkeypatch.setitem(PEERS, name, Peer("fake_peer", ["numpy"], environment, install=name))
    # What is over at once would be called many times in a turn.
    monkeypatch.setattr(suite, "TURN_SECONDS", 0.0)
    # Processes that have no peer's environment.
    monkeypatch.setattr(suite.Suite, "measure_machine", lambda self: None)
    monkeypatch.setattr(suite.Suite, "prepare", lambda self: None)
    return log


def measure(tmp_path, text, record=None, seconds=60.0, save=None):
    """Run a manifest; the record as its file would hold it."""
    manifest = load_manifest(written(tmp_path, text))
    deadline = Deadline(seconds)
    record = record or suite.begin(manifest, deadline, MACHINE)
    suite.run(manifest, record, deadline, save or (lambda record: None))
    return json.loads(json.dumps(record))


def case(name, **extra):
    lines = [f"{key} = {json.dumps(value)}" for key, value in extra.items()]
    given = [f'[[case]]\nname = "{name}"\nsizes = [300]', 'peers = ["jaxtl", "scikit-learn"]', *lines]
    return "\n".join(given) + "\n"


def test_peers_take_turns_after_a_first_call_that_stands_apart(fakes, tmp_path):
    record = measure(tmp_path, case("pca", rounds=3))
    assert fakes.read_text().split() == [OURS, "scikit-learn"] * 4
    ours, theirs = record["rows"]
    assert ours["state"] == theirs["state"] == "done"
    assert ours["seconds"] == [6.0] * 3
    assert (ours["first_seconds"], ours["compile_seconds"]) == (6.0, 0.5)
    assert theirs["quality"] == {"trustworthiness": [0.9] * 3}
    assert theirs["count"] == 300
    assert record["peers"][OURS] == {"versions": {"numpy": np.__version__}, "settings": {"device": OURS}}


def test_what_fails_dies_or_is_missing_costs_its_own_row(fakes, tmp_path, monkeypatch):
    cases = ["neighbors", "silhouette", "lle", "pca"]
    monkeypatch.setitem(PEERS, "openTSNE", Peer("no_such_module", install="openTSNE"))
    text = 'rounds = 1\nprocesses = "suite"\n' + "".join(case(name) for name in cases)
    text += '[[case]]\nname = "tsne"\nsizes = [300]\npeers = ["openTSNE"]\n'
    record = measure(tmp_path, text)
    states = {(row["case"], row["peer"]): (row["state"], row["reason"]) for row in record["rows"]}
    assert states["neighbors", OURS] == ("done", "")
    state, reason = states["neighbors", "scikit-learn"]
    assert state == "failed"
    assert reason == "fake_peer.neighbors: its process ended with exit code 3 (segmentation fault of sorts)"
    assert states["silhouette", "scikit-learn"] == ("failed", "ValueError: no such luck")
    # Of a module without that function.
    assert states["lle", OURS][0] == "failed"
    assert states["pca", "scikit-learn"] == ("done", "")
    assert states["tsne", "openTSNE"] == ("absent", "not installed: no_such_module; pip install openTSNE")
    text = tables.render(record)
    assert "| `silhouette` | 300 | scikit-learn | failed | ValueError: no such luck |" in text


def test_a_case_that_a_peer_lacks_is_absent(fakes, tmp_path, monkeypatch):
    monkeypatch.setitem(PEERS, "openTSNE", Peer("benchmarks.peers.work"))
    record = measure(tmp_path, '[[case]]\nname = "tsne"\nsizes = [300]\npeers = ["openTSNE"]\n')
    assert record["rows"][0]["state"] == "absent"
    assert "has no attribute" in record["rows"][0]["reason"]


@pytest.mark.slow
def test_a_call_that_hangs_ends(fakes, tmp_path):
    record = measure(tmp_path, "rounds = 1\ncall_seconds = 5\n" + case("davies_bouldin") + case("pca"))
    states = [(row["case"], row["peer"], row["state"]) for row in record["rows"]]
    assert states == [
        ("davies_bouldin", OURS, "done"),
        ("davies_bouldin", "scikit-learn", "failed"),
        ("pca", OURS, "done"),
        ("pca", "scikit-learn", "done"),
    ]


def test_what_has_not_begun_in_time_is_recorded(fakes, tmp_path):
    record = measure(tmp_path, case("pca"), seconds=0)
    assert [(row["state"], row["reason"]) for row in record["rows"]] == [("not run", "out of time")] * 2
    assert not fakes.exists()


def test_a_stopped_run_keeps_its_rounds_and_goes_on(fakes, tmp_path):
    saved = []

    def stop(record):
        saved.append(copy.deepcopy(record))
        if len(saved) == 4:  # the first case takes three: two rounds, and its end
            raise KeyboardInterrupt

    text = (
        "rounds = 2\n"
        + case("pca")
        + case("silhouette-map", peers=["jaxtl"]).replace('peers = ["jaxtl", "scikit-learn"]\n', "")
    )
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path, text, save=stop)
    states = [(row["case"], row["state"], len(row["seconds"])) for row in saved[-1]["rows"]]
    assert states == [("pca", "done", 2), ("pca", "done", 2), ("silhouette-map", "stopped", 1)]
    fakes.unlink()
    record = measure(tmp_path, text, record=saved[-1])
    assert fakes.read_text().split() == [OURS] * 3
    assert [row["state"] for row in record["rows"]] == ["done"] * 3


def test_a_result_of_other_code_is_not_gone_on_with(monkeypatch, capsys, tmp_path):
    path = written(tmp_path, '[[case]]\nname = "help"\n')
    old = suite.begin(load_manifest(path), Deadline(1), MACHINE)
    (tmp_path / "mine.json").write_text(json.dumps(old | {"git": {"revision": "another"}}))
    assert run_main(monkeypatch, "run", path, "--out", tmp_path, "--resume") == 2
    assert "was measured with another git" in capsys.readouterr().err


def test_the_machine_is_described_as_a_run_describes_it():
    machine = suite.describe_machine("cpu")
    assert machine["devices"][0].startswith("cpu")
    assert {*MACHINE, "versions"} <= set(machine)


def test_a_result_is_not_written_over(monkeypatch, capsys, tmp_path):
    path = written(tmp_path, '[[case]]\nname = "help"\n')
    result = tmp_path / "mine.json"
    result.write_text(json.dumps(record_of()))
    was = result.read_bytes()
    assert run_main(monkeypatch, "run", path, "--out", tmp_path) == 2
    assert "holds a result already; go on with --resume" in capsys.readouterr().err
    assert result.read_bytes() == was


def test_other_versions_of_a_peer_are_not_mixed(fakes, tmp_path):
    record = measure(tmp_path, case("pca"))
    record["peers"]["scikit-learn"]["versions"] = {"numpy": "0.9"}
    record["rows"] = [row for row in record["rows"] if row["peer"] == OURS]
    rows = {row["peer"]: row for row in measure(tmp_path, case("pca"), record=record)["rows"]}
    assert rows[OURS]["state"] == "done"
    assert rows["scikit-learn"]["state"] == "failed"
    assert "was measured with" in rows["scikit-learn"]["reason"]


def test_what_was_not_installed_is_tried_again(fakes, tmp_path):
    record = measure(tmp_path, case("pca"))
    row = record["rows"][1]
    row.update(state="absent", reason="not installed: sklearn; pip install scikit-learn", seconds=[])
    again = measure(tmp_path, case("pca"), record=record)
    assert [row["state"] for row in again["rows"]] == ["done", "done"]
