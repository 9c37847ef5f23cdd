"""The benchmarks: what they count, what they write, and how they fail; no timing is asserted."""

import ast
import copy
import graphlib
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import __main__ as command_line
from benchmarks import flops, machine, measures, memory, processes, suite, tables
from benchmarks.cases import CASES, OURS, PEERS, PROCESS_PEERS, Peer
from benchmarks.manifest import SUITES, load_manifest, shipped
from benchmarks.workers import Deadline, Worker, run_process
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import FIVE_FOLDS
from jaxtl.machine import cuda
from jaxtl.models.mobilenet_v2 import Carry, MobileNetV2Config
from jaxtl.models.weights import load_model
from jaxtl.network.trunk import trainable_boundary
from jaxtl.records.tables import HISTORY_COLUMNS, Score, save_history, save_scores

ROOT = Path(command_line.__file__).parent.parent

# What is counted.


@pytest.mark.parametrize(("width", "millions"), [(1.0, 300), (1.4, 585)])
def test_multiply_adds_are_the_published_ones(width, millions):
    """Sandler et al. 2018, table 4: at 224x224 with 1000 classes."""
    config = MobileNetV2Config(width, classes=1000)
    assert flops.forward_flops(config, 224) / 2e6 == pytest.approx(millions, rel=0.006)


@pytest.mark.parametrize("size", [48, 50, 224])
def test_multiply_adds_are_those_of_the_networks_own_shapes(size):
    model = load_model()
    layers = model.config.layers[: model.config.pooled]
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)

    def every(x):
        carries = [Carry(x)]
        for position in range(len(layers)):
            carries.append(model.run(carries[-1], position, position + 1))
        return [carry.x for carry in carries[1:]]

    shapes = [out.shape for out in jax.eval_shape(every, image)]
    expected = sum(
        shape[1] * shape[2] * int(np.prod(next(iter(layer.parameters.values()))))
        for layer, shape in zip(layers, shapes, strict=True)
        if layer.kind in ("conv", "depthwise")
    )
    assert flops.forward_flops(model.config, size, 0, model.config.pooled) == 2 * expected


def test_training_counts_three_passes_of_the_layers_that_learn():
    config = MobileNetV2Config(classes=10)
    # At 48x48 the last maps are 2x2: depthwise, projection, last convolution, head.
    tail = 4 * 9 * 960 + 4 * 960 * 320 + 4 * 320 * 1280 + 1280 * 10
    assert flops.training_flops(config, 48, trainable_boundary(config, "10")) == 2 * 3 * tail


# Manifests.


@pytest.mark.parametrize("name", SUITES)
def test_shipped_manifests_are_right(name):
    found = load_manifest(shipped(name))
    assert found.name == name
    assert found.device == ("gpu" if name == "gpu" else "cpu")
    assert all(entry.peers for entry in found.entries)


def test_the_largest_suite_has_every_case():
    assert {entry.name for entry in load_manifest(shipped("full")).entries} == set(CASES)


def test_every_case_finds_its_peers():
    for case in CASES.values():
        assert set(case.peers) <= {*PEERS, *PROCESS_PEERS}
        assert OURS in case.peers


def written(folder, text):
    path = folder / "mine.toml"
    path.write_text(text)
    return path


TSNE = '[[case]]\nname = "tsne"\nsizes = [200]\n'
WRONG = {
    "not TOML": ("rounds =", "not TOML: "),
    "an unknown key": (f"round = 3\n{TSNE}", "unknown key 'round'; the keys are limit_minutes, call_seconds"),
    "an unknown key of a case": (
        f"{TSNE}size = 3\n",
        "case 1 (tsne): unknown key 'size'; the keys are name, sizes",
    ),
    "an unknown case": ('[[case]]\nname = "tnse"\nsizes = [200]\n', "name: must be one of forward, trunk"),
    "a case without a name": (f"{TSNE}[[case]]\nsizes = [200]\n", "case 2: name: is missing"),
    "size 0": ('[[case]]\nname = "tsne"\nsizes = [0]\n', "sizes: must be a list of whole numbers"),
    "a size that is true": ('[[case]]\nname = "tsne"\nsizes = [true]\n', "got [True]"),
    "no sizes": ('[[case]]\nname = "tsne"\n', "sizes: are missing; say how many of points"),
    "sizes of what has none": ('[[case]]\nname = "import"\nsizes = [1]\n', "sizes: this case has none"),
    "a size twice": (f"{TSNE}{TSNE}", "case tsne: size 200 stands twice"),
    "an unknown peer": (f'{TSNE}peers = ["sklearn"]\n', "peers: must be some of jaxtl, Keras (TensorFlow)"),
    "a peer without the case": (f'{TSNE}peers = ["PyTorch"]\n', "'PyTorch' does not have this case on"),
    "a peer that needs a GPU": (f'{TSNE}peers = ["cuML"]\n', "'cuML' does not have this case on the CPU"),
    "an unknown argument": (f"{TSNE}with = {{ k = 3 }}\n", "with: unknown argument 'k'; this case's are n"),
    "an argument out of range": (f"{TSNE}with = {{ n = 0 }}\n", "n: must be a whole number of at least 1"),
    "no rounds": (f"rounds = 0\n{TSNE}", "rounds: must be a whole number of at least 1, got 0"),
    "no time": (f"limit_minutes = 0\n{TSNE}", "limit_minutes: must be a number above 0, got 0"),
    "another device": (f'device = "tpu"\n{TSNE}', "device: must be one of cpu, gpu"),
    "no case": ("rounds = 1\n", "no [[case]] table; name at least one"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_manifest_is_told_in_one_line(fault, monkeypatch, capsys, tmp_path):
    text, expected = WRONG[fault]
    path = written(tmp_path, text)
    assert run_main(monkeypatch, "run", path, "--out", tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert message.startswith(f"benchmarks: {path}: ")
    assert expected in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
    try:
        command_line.main()
    except SystemExit as end:
        return end.code
    return 0


def test_what_is_not_there_is_told(monkeypatch, capsys, tmp_path):
    for arguments, expected in (
        (("run", tmp_path / "none.toml"), "no such manifest; the suites are smoke, cpu, gpu, full"),
        (("smoke", "--only", "pca,colour"), "--only: got colour; the cases of smoke are forward, trunk"),
        (("table", tmp_path / "none.json"), "none.json: no such file"),
        (("compare", written(tmp_path, "{}"), "b"), "not a result of this benchmark"),
    ):
        assert run_main(monkeypatch, *arguments) == 2
        message = capsys.readouterr().err
        assert expected in message
        assert message.count("\n") == 1


def test_cases_are_chosen_by_their_names_and_families():
    chosen = load_manifest(shipped("gpu")).only(("tail", "processes"))
    assert [entry.name for entry in chosen.entries] == ["run", "tail", "run-seeds", "whole"]


def test_without_a_gpu_fault_and_remedy_are_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cuda, "gpu_fault", lambda: cuda.Fault("the card is warm", "cool it", True))
    assert run_main(monkeypatch, "gpu", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == "benchmarks: no GPU to measure: the card is warm; cool it\n"
    assert not (tmp_path / "out").exists()


# A suite at work, with peers that only say that they were called.

PEER = """
import os, pathlib, time
NAME = os.environ["FAKE"]

def _log():
    with open(os.environ["FAKE_LOG"], "a") as log:
        log.write(NAME + "\\n")

def versions(): return {"fake": "1.0"}
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
        monkeypatch.setitem(PEERS, name, Peer("fake_peer", name, environment))
    # What is over at once would be called many times in a turn.
    monkeypatch.setattr(suite, "_TURN_SECONDS", 0.0)
    # Processes that have no peer's environment.
    monkeypatch.setattr(suite.Suite, "measure_machine", lambda self: None)
    monkeypatch.setattr(suite.Suite, "prepare", lambda self: None)
    return log


MACHINE = {
    "jaxtl": "0.1.0",
    "cpu": "Abacus",
    "cores": 2,
    "memory_gib": 4.0,
    "python": "3.11.0",
    "devices": ["cpu: beads"],
}


def measure(tmp_path, text, record=None, seconds=60.0, save=None):
    """Run a manifest; the record as its file would hold it."""
    found = load_manifest(written(tmp_path, text))
    deadline = Deadline(seconds)
    record = record or suite.begin(found, deadline, MACHINE)
    suite.run(found, record, deadline, save or (lambda record: None))
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
    assert record["peers"][OURS] == {"versions": {"fake": "1.0"}, "settings": {"device": OURS}}


def test_what_fails_dies_or_is_missing_costs_its_own_row(fakes, tmp_path, monkeypatch):
    cases = ["neighbors", "silhouette", "lle", "pca"]
    monkeypatch.setitem(PEERS, "openTSNE", Peer("no_such_module", "openTSNE"))
    text = 'rounds = 1\nprocesses = "suite"\n' + "".join(case(name) for name in cases)
    text += '[[case]]\nname = "tsne"\nsizes = [300]\npeers = ["openTSNE"]\n'
    record = measure(tmp_path, text)
    found = {(row["case"], row["peer"]): (row["state"], row["reason"]) for row in record["rows"]}
    assert found["neighbors", OURS] == ("done", "")
    state, reason = found["neighbors", "scikit-learn"]
    assert state == "failed"
    assert reason == "fake_peer.neighbors: its process ended with exit code 3 (segmentation fault of sorts)"
    assert found["silhouette", "scikit-learn"] == ("failed", "ValueError: no such luck")
    # Of a module without that function.
    assert found["lle", OURS][0] == "failed"
    assert found["pca", "scikit-learn"] == ("done", "")
    assert found["tsne", "openTSNE"] == ("absent", "not installed: no_such_module; pip install openTSNE")
    text = tables.render(record)
    assert "| `silhouette` | 300 | scikit-learn | failed | ValueError: no such luck |" in text


def test_a_case_that_a_peer_lacks_is_absent(fakes, tmp_path, monkeypatch):
    monkeypatch.setitem(PEERS, "openTSNE", Peer("benchmarks.peers.work", "openTSNE"))
    record = measure(tmp_path, '[[case]]\nname = "tsne"\nsizes = [300]\npeers = ["openTSNE"]\n')
    assert record["rows"][0]["state"] == "absent"
    assert "has no attribute" in record["rows"][0]["reason"]


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
    found = suite.describe_machine("cpu")
    assert found["devices"][0].startswith("cpu")
    assert {*MACHINE, "versions"} <= set(found)


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
    record["peers"]["scikit-learn"]["versions"] = {"fake": "0.9"}
    record["rows"] = [row for row in record["rows"] if row["peer"] == OURS]
    found = {row["peer"]: row for row in measure(tmp_path, case("pca"), record=record)["rows"]}
    assert found[OURS]["state"] == "done"
    assert found["scikit-learn"]["state"] == "failed"
    assert "was measured with" in found["scikit-learn"]["reason"]


def test_what_was_not_installed_is_tried_again(fakes, tmp_path):
    record = measure(tmp_path, case("pca"))
    row = record["rows"][1]
    row.update(state="absent", reason="not installed: sklearn; pip install scikit-learn", seconds=[])
    again = measure(tmp_path, case("pca"), record=record)
    assert [row["state"] for row in again["rows"]] == ["done", "done"]


# What samples come to.


def row(peer=OURS, seconds=(2.0, 3.0, 4.0), quality=None, **extra):
    found = {
        "case": "tsne",
        "size": 1000,
        "peer": peer,
        "arguments": {"n": 1000},
        "count": 1000,
        "state": "done",
        "reason": "",
        "first_seconds": 5.0,
        "compile_seconds": None,
        "seconds": list(seconds),
        "calls": [1] * len(seconds),
        "quality": quality or {},
        "work": None,
        "memory": {"peak_bytes": 3 * 2**30, "resting_bytes": 2**30},
    }
    return found | extra


def record_of(*rows):
    return {
        "benchmark": "suite",
        "format": suite.FORMAT,
        "suite": "mine",
        "date": "2030-01-02T03:04:05+00:00",
        "git": {"revision": "0123456789abcdef", "modified": True, "changes": "ab"},
        "device": "cpu",
        "manifest": {"seed": 0},
        "threads": {"OMP_NUM_THREADS": "2"},
        "minutes": 12.5,
        "machine": MACHINE,
        "devices": ["cpu: beads"],
        "load_average_before": 0.1,
        "load_average_after": 1.9,
        "ceilings": [{"flops": 90e9, "bytes": 10e9}, {"flops": 100e9, "bytes": 8e9}],
        "peers": {OURS: {"versions": {"jax": "1.2.3"}, "settings": {"threads": 2}}},
        "rows": list(rows),
    }


SLOWER = row(
    "openTSNE", (4.0, 9.0, 8.0), {"trustworthiness": [0.9], "kl_divergence": [0.5]}, first_seconds=None
)
BEST = {"trustworthiness": [0.95], "kl_divergence": [1.0]}


def test_tables_hold_medians_ranges_ratios_limits_and_quality():
    ours = row(quality=BEST, compile_seconds=0.5, work={"flops": 75e9, "bytes": 1e9})
    text = tables.render(
        record_of(ours, SLOWER, row("scikit-learn", (), state="absent", reason="not | here"))
    )
    for line in (
        # 75 GFLOP in 3 s are 25 of 100.
        "| `tsne` | 1,000 | **jaxtl** | 3.00 (2.00..4.00) s | 333 points |  | 5.00 s (500 ms) "
        "| 3.00 GiB, 2.00 above rest | 25.0% (arithmetic) | trustworthiness 0.95, kl_divergence 1 |",
        # Round by round 2, 3 and 2.
        "| `tsne` | 1,000 | openTSNE | 8.00 (4.00..9.00) s | 125 points | 2.00 (2.00..3.00) |  "
        "| 3.00 GiB, 2.00 above rest |  | trustworthiness 0.9 (**worse**), kl_divergence 0.5 (**better**) |",
        "| `tsne` | 1,000 | scikit-learn | absent | not \\| here |",
        "The machine at its best in this run: float32 product 100 GFLOP/s, copy 10.0 GB/s.",
    ):
        assert line in text.splitlines()
    assert "jaxtl 0.1.0 (0123456789ab with changes), Abacus, 2 cores, 4.0 GiB; cpu: beads; Python" in text
    assert "Threads: OMP_NUM_THREADS=2." in text


def test_a_reduced_precision_has_a_limit_of_its_own():
    limit = {"flops": 10.0, "flops tf32": 40.0, "bytes": 2.0}
    fast = row(seconds=[2.0], work={"flops": 20, "bytes": 1})
    assert measures.share_of_limit(fast, limit) == (pytest.approx(1), "arithmetic")
    assert measures.share_of_limit(fast, limit, "tf32") == (pytest.approx(0.25), "arithmetic")


def test_shipped_results_can_still_be_read(monkeypatch, capsys):
    for name in ("cpu", "whole"):
        assert run_main(monkeypatch, "table", ROOT / "benchmarks" / "results" / f"{name}.json") == 0
        assert f"# Benchmark `{name}`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run/timings.json", '{"finetune": 54.1, "peak_memory_gib": 2.4}', "s: finetune 54.1"),
        (
            "scores.json",
            '{"after": {}, "seconds": {"fit": 371.0, "maps after": 42.0}}',
            "s: fit 371.0, maps after 42.0",
        ),
    ],
)
def test_steps_of_whole_processes_are_told(name, text, said, tmp_path, monkeypatch):
    code = (
        f"import pathlib; p = pathlib.Path({name!r}); p.parent.mkdir(exist_ok=True); p.write_text({text!r})"
    )
    monkeypatch.setattr(processes, "_JAXTL", (sys.executable, "-c", code))
    monkeypatch.setattr(processes, "_judge", lambda folder: {"test_accuracy": 0.9})
    done = processes.Processes(tmp_path, {}).call("run", OURS, Deadline(60), {"samples": 9})
    parts = {"parts": done["parts"], "first_parts": done["parts"]}
    lines = tables.render(record_of(row(case="run", size=60_000, **parts))).splitlines()
    assert [line.partition(", s: ")[0][-10:] for line in lines if line.endswith(said)] == [
        "first call",
        "last round",
    ]


def test_a_run_that_is_cut_tells_how_far_it_came(tmp_path, monkeypatch):
    code = "import pathlib, time; p = pathlib.Path('run'); p.mkdir(); "
    code += "(p / 'timings.json').write_text('{\"trunk_test\": 3.5}'); time.sleep(600)"
    monkeypatch.setattr(processes, "_JAXTL", (sys.executable, "-c", code))
    with pytest.raises(JaxtlError, match=r"not done within .*; seconds so far: trunk test 3\.5$"):
        processes.Processes(tmp_path, {}).call("run", OURS, Deadline(2), {"samples": 9})


def test_accuracies_of_a_run_and_of_the_plain_script_are_the_same_numbers(tmp_path):
    spaces = ("features", "pca", "tsne", "lle")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    (ours / "run").mkdir(parents=True)
    theirs.mkdir()
    stages = {
        stage: {space: 0.5 + number / 10 for number, space in enumerate(spaces)}
        for stage in ("before", "after")
    }
    rows = [
        Score(stage, space, FIVE_FOLDS, value)
        for stage, found in stages.items()
        for space, value in found.items()
    ]
    save_scores(ours / "run" / "scores.csv", rows)
    save_history(ours / "run" / "history.csv", [dict.fromkeys(HISTORY_COLUMNS, 1) | {"test_accuracy": 0.9}])
    (theirs / "scores.json").write_text(json.dumps({"test_accuracy": [0.8, 0.9], **stages}))
    assert processes._judge(ours) == processes._judge(theirs)


def test_the_nearer_limit_counts():
    limit = {"flops": 10.0, "bytes": 2.0}
    share = measures.share_of_limit(row(seconds=[4.0], work={"flops": 10, "bytes": 4}), limit)
    assert share == (pytest.approx(0.5), "memory")
    assert measures.share_of_limit(row(), limit) is None
    assert measures.share_of_limit(row(work={"flops": 1, "bytes": 1}), {}) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({"kl_divergence": [1.0]}, {"kl_divergence": [1.02]}, "better"),
        ({"kl_divergence": [1.0]}, {"kl_divergence": [1.009]}, None),
        ({"test_accuracy": [0.90, 0.96]}, {"test_accuracy": [0.90]}, None),
        ({"knn_accuracy after, pca": [0.5]}, {"knn_accuracy after, pca": [0.6]}, "worse"),
        ({"mean": [0.5]}, {"mean": [0.6]}, None),
    ],
)
def test_quality_differs_beyond_tolerance_and_spread_only(ours, theirs, expected):
    found = measures.judged(row(quality=ours), row(quality=theirs))
    assert found == ({} if expected is None else {next(iter(ours)): expected})


@pytest.mark.parametrize(
    ("samples", "expected"),
    [([123.4], "123 s"), ([12.34], "12.3 s"), ([0.5, 0.25], "375 (250..500) ms"), ([2.5e-5], "25.0 µs")],
)
def test_durations_have_three_digits(samples, expected):
    assert measures.duration(samples) == expected


# Comparing.


def noisy(middle, seed, rounds=7, noise=0.03):
    return list(middle * np.exp(noise * np.random.default_rng(seed).standard_normal(rounds)))


@pytest.fixture
def compared(monkeypatch, capsys, tmp_path):
    """A function of two lists of rows and options: what `compare` prints, or its error."""

    def run(before, after, *options):
        paths = [tmp_path / "before.json", tmp_path / "after.json"]
        for path, rows in zip(paths, (before, after), strict=True):
            path.write_text(json.dumps(record_of(*rows)))
        code = run_main(monkeypatch, "compare", *paths, *options)
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return run


@pytest.mark.parametrize(
    ("factor", "noise", "said"),
    [
        (1.3, 0.03, r"tsne, 1,000, jaxtl *\| 2\.\d+ sec *\| 2\.\d+ sec: 1\.\d\dx slower"),
        (1 / 1.3, 0.03, r"x faster"),
        (1.03, 0.003, r"not significant"),  # certain, and less than the threshold
        (1.0, 0.03, r"not significant"),
    ],
)
def test_pyperf_tells_what_got_slower_from_noise(factor, noise, said, compared):
    before, after = noisy(2.0, 1, noise=noise), noisy(2.0 * factor, 2, noise=noise)
    out = compared([row(seconds=before)], [row(seconds=after)])
    assert "The machine itself, after / before: matrix product 1.00, bandwidth 1.00." in out
    assert re.search(said, out)


def test_a_slower_machine_cancels_against_a_peer(compared):
    before = [row(seconds=noisy(2.0, 1)), row("openTSNE", noisy(4.0, 2))]
    after = [row(seconds=noisy(3.0, 3)), row("openTSNE", noisy(6.0, 4))]
    assert compared(before, after).count("slower") > 2
    assert "not significant (1): tsne, 1,000, jaxtl" in compared(before, after, "--against", "openTSNE")
    refused = compared(before, after, "--against", "cuML")
    assert "no shared row of 'cuML'; there are jaxtl, openTSNE" in refused


def test_worse_quality_is_told(compared):
    worse = row(quality={"trustworthiness": [0.8], "kl_divergence": [1.0]})
    out = compared([row(quality=BEST)], [worse])
    assert "| tsne, 1,000, jaxtl | trustworthiness | 0.95 | 0.8 | worse |" in out
    assert "kl_divergence" not in out


def test_single_rounds_and_other_arguments_are_not_compared(compared):
    assert "jaxtl" not in compared([row(seconds=[1.0])], [row(seconds=[9.0])])
    assert "no row in common" in compared([row()], [row(arguments={"n": 5})])


# Processes.


def test_no_imports_go_round():
    paths = {path: ast.parse(path.read_text()) for path in (ROOT / "benchmarks").rglob("*.py")}
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): tree for path, tree in paths.items()}
    graph = {
        name: {f"{node.module}.{each.name}" for node in own for each in node.names}
        | {node.module for node in own}
        for name, tree in names.items()
        for own in [[node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]]
    }
    order = list(
        graphlib.TopologicalSorter({name: graph[name] & set(graph) for name in graph}).static_order()
    )
    assert order.index("benchmarks.machine") < order.index("benchmarks.suite")


def test_the_measuring_process_stays_small():
    """The kernel counts a parent's size into the peak of its children."""
    code = (
        "import sys, benchmarks.__main__; print(*{'jax', 'keras', 'tensorflow', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_worker_answers_and_reports_failures():
    with Worker("benchmarks.machine", Deadline(120)) as worker:
        assert worker.call("sgemm_numpy", size=16, products=2) > 0
        with pytest.raises(RuntimeError, match="ValueError: negative dimensions"):
            worker.call("sgemm_numpy", size=-1, products=1)
        assert worker.call("sgemm_numpy", size=16, products=1) > 0


def test_a_worker_leaves_joblib_all_cores():
    """In a child of multiprocessing it would take one thread, and scikit-learn with it."""
    with Worker("joblib", Deadline(120)) as worker:
        assert worker.call("effective_n_jobs", n_jobs=2) == 2


def test_a_worker_ends_at_the_deadline():
    with (
        Worker("benchmarks.machine", Deadline(0)) as worker,
        pytest.raises(JaxtlError, match="raise --limit"),
    ):
        worker.call("load_average")


def test_a_process_that_fails_tells_why(tmp_path):
    with pytest.raises(RuntimeError, match=r"exit code 1\n.*(?s:.*)no such luck"):
        run_process([sys.executable, "-c", "raise OSError('no such luck')"], tmp_path, Deadline(120))


def test_memory_is_that_of_the_work(tmp_path):
    """A peak before it does not count, where the kernel lets its mark be reset."""
    # Larger than what the allocator keeps and hands out again, whatever ran in this process before.
    before = np.ones(2**26)
    del before
    with memory.watched() as found:
        work = np.ones(2**24)
        del work
    assert found["peak_bytes"] > 0
    if "resting_bytes" in found:
        above = found["peak_bytes"] - found["resting_bytes"]
        assert 2**26 <= above < 2**28  # 128 MiB, of an earlier 512


def test_the_machine_has_ceilings():
    found = machine.ceilings([64], 1, 1)
    assert set(found) == {"flops", "bytes"}
    assert min(found.values()) > 0


# The whole.


def run_smoke(out, *options):
    """The smoke suite as a user starts it; its record."""
    command = [sys.executable, "-m", "benchmarks", "smoke", "--limit", "20", "--out", str(out), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(out / f"smoke.{suffix}") for suffix in ("json", "md")]
    return json.loads((out / "smoke.json").read_text())


def check_rows(record):
    assert [row for row in record["rows"] if row["state"] != "done"] == []
    for row in record["rows"]:
        assert min(row["seconds"]) > 0
        assert row["memory"]["peak_bytes"] > 2**20
    qualities = {(row["case"], row["peer"]): row["quality"] for row in record["rows"]}
    ours, theirs = (qualities["lle", peer]["trustworthiness"] for peer in (OURS, "scikit-learn"))
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert {"jax", "numpy"} <= set(record["peers"][OURS]["versions"])
    assert len(record["ceilings"]) == 2


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Three cases of it."""
    out = tmp_path_factory.mktemp("smoke")
    check_rows(run_smoke(out, "--only", "lle,silhouette-map,help"))
    return out


@pytest.mark.slow
def test_the_smoke_suite_has_every_case(tmp_path):
    record = run_smoke(tmp_path)
    check_rows(record)
    assert {row["case"] for row in record["rows"]} == {
        e.name for e in load_manifest(shipped("smoke")).entries
    }


def test_results_become_tables_and_comparisons(smoke, monkeypatch, capsys):
    result = smoke / "smoke.json"
    assert run_main(monkeypatch, "table", result) == 0
    assert capsys.readouterr().out == (smoke / "smoke.md").read_text()
    assert run_main(monkeypatch, "compare", result, result) == 0
    assert "slower" not in capsys.readouterr().out


def test_a_finished_run_is_not_measured_again(smoke, monkeypatch, capsys):
    before = json.loads((smoke / "smoke.json").read_text())
    options = ("--out", smoke, "--resume", "--only", "lle,help")
    if run_main(monkeypatch, "smoke", *options) == 2:
        assert "another git" in capsys.readouterr().err
        pytest.skip("the code has changed meanwhile")
    assert json.loads((smoke / "smoke.json").read_text())["rows"] == before["rows"]
