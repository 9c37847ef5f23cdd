"""Inference engines and further libraries among the peers: the same features and maps, or no time at all."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import suite
from benchmarks.cases import CASES, PEERS
from benchmarks.manifest import load_manifest, shipped
from benchmarks.peers import network
from benchmarks.workers import ENVIRONMENT, Deadline, Worker
from tests.benchmarking import MACHINE, written

N = 64
ENGINES = {
    "ONNX Runtime": "onnxruntime",
    "OpenVINO": "openvino",
    "OpenVINO, asynchronous": "openvino",
    "LiteRT": "ai_edge_litert",
}
MAPS = {"manifolds-rs": "manifolds_rs", "scikit-learn-intelex": "sklearnex"}
PASSES = {"forward": {"batch_size": 24, "n": N}, "trunk": {"n": N}, "extract": {"n": N}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Features that are jaxtl's, for peers to be held against."""
    from benchmarks.peers import jaxtl_peer

    path = tmp_path_factory.mktemp("engines")
    jaxtl_peer.write_data(str(path), N)
    return path


def skip_without(library):
    # Not imported here: some bring a thread library each, which do not go together in one process.
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def worker(name):
    return Worker(PEERS[name].module, Deadline(300), ENVIRONMENT | PEERS[name].environment)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("case", PASSES)
def test_every_engine_has_the_same_network(folder, name, case):
    skip_without(ENGINES[name])
    with worker(name) as peer:
        peer.call("open_data", folder=str(folder))
        told = peer.call(case, **PASSES[case])["quality"]
    assert told["largest_difference"] > 0
    assert told.get("batch", network.BATCHES[0]) in network.BATCHES


def test_the_last_batch_is_filled_up_with_the_last_row():
    rows = np.arange(5)
    assert [list(batch) for batch in network.batches(rows, 2)] == [[0, 1], [2, 3], [4, 4]]
    assert [list(batch) for batch in network.batches(rows, 8)] == [[0, 1, 2, 3, 4, 4, 4, 4]]
    assert [list(batch) for batch in network.batches(rows, 2, fill=False)] == [[0, 1], [2, 3], [4]]


def test_the_best_batch_is_that_of_most_images_a_second(monkeypatch):
    clock = iter([0.0, 5.0, 5.0, 7.0, 7.0, 11.0])
    monkeypatch.setattr(network.time, "perf_counter", lambda: next(clock))
    asked = []
    assert network.best_batch(lambda images, size: asked.append((len(images), size)), 4000) == 256
    # One call that compiles, and one that is timed.
    assert asked[:2] == [(32, 32), (1024, 32)]
    clock = iter([0.0, 5.0])
    assert network.best_batch(lambda images, size: None, 64) == 32


def test_what_a_processor_lacks_is_absent_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(suite.Suite, "measure_machine", lambda self: None)
    monkeypatch.setattr(suite.Suite, "prepare", lambda self: None)
    (tmp_path / "no_amx.py").write_text("raise ImportError('this processor has no AMX')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PEERS, "OpenVINO, bfloat16", PEERS["OpenVINO"].__class__("no_amx", on=("cpu",)))
    text = '[[case]]\nname = "forward"\nsizes = [1]\npeers = ["OpenVINO, bfloat16"]\n'
    manifest = load_manifest(written(tmp_path, text))
    record = suite.begin(manifest, Deadline(60), MACHINE)
    suite.run(manifest, record, Deadline(60), lambda record: json.dumps(record))
    (row,) = record["rows"]
    assert (row["state"], row["reason"]) == ("absent", "this processor has no AMX")


def test_the_cpu_suite_holds_jaxtl_against_what_engineers_pick():
    manifest = load_manifest(shipped("cpu"))
    entries = {entry.name: entry for entry in manifest.entries}
    engines = {name for name in PEERS if name.startswith(("ONNX", "OpenVINO", "LiteRT"))}
    sizes = [size for entry in manifest.entries if entry.name == "forward" for size in entry.sizes]
    assert sizes == [1, 32, 256, 1024]
    for name in ("forward", "extract"):
        assert {*engines, "PyTorch, compiled"} <= set(entries[name].peers)
    assert engines & set(entries["trunk"].peers)
    assert {"manifolds-rs", "scikit-learn-intelex", "openTSNE"} <= set(entries["tsne"].peers)
    assert {"scikit-learn-intelex"} <= set(CASES["pca"].peers) & set(CASES["neighbors"].peers)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAPS)
def test_maps_of_other_libraries_are_about_as_good(tmp_path, name):
    from benchmarks.peers import jaxtl_peer

    skip_without(MAPS[name])
    jaxtl_peer.write_data(str(tmp_path), 300)
    told = {}
    for peer in (name, "openTSNE"):
        with worker(peer) as process:
            process.call("open_data", folder=str(tmp_path))
            told[peer] = process.call("tsne", n=300)["quality"]
    for score, tolerance in (("kl_divergence", 0.1), ("trustworthiness", 0.02), ("knn_accuracy", 0.1)):
        assert told[name][score] == pytest.approx(told["openTSNE"][score], abs=tolerance), score
