"""The benchmarks: what they count, their manifests, processes and command line; no timing is asserted."""

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import __main__ as command_line
from benchmarks import machine, processes
from benchmarks.cases import CASES, OURS, PEERS, PROCESS_PEERS
from benchmarks.manifest import SUITES, load_manifest, shipped
from benchmarks.peers import timing, work
from benchmarks.processes import Processes, judge
from benchmarks.workers import Deadline, Worker, run_process
from jaxtl.errors import JaxtlError
from jaxtl.machine import cuda
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.network import Carry
from jaxtl.models.weights import load_model
from jaxtl.network.trunk import trainable_boundary
from tests.benchmarking import run_main, written

ROOT = Path(command_line.__file__).parent.parent

# What is counted.


@pytest.mark.parametrize(("width", "millions"), [(1.0, 300), (1.4, 585)])
def test_multiply_adds_are_the_published_ones(width, millions):
    """Sandler et al. 2018, table 4: at 224x224 with 1000 classes."""
    config = MobileNetV2Config(width, classes=1000)
    assert work.forward_flops(config, 224) / 2e6 == pytest.approx(millions, rel=0.006)


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
    assert work.forward_flops(model.config, size, 0, model.config.pooled) == 2 * expected


def test_training_counts_three_passes_of_the_layers_that_learn():
    config = MobileNetV2Config(classes=10)
    # At 48x48 the last maps are 2x2: depthwise, projection, last convolution, head.
    tail = 4 * 9 * 960 + 4 * 960 * 320 + 4 * 320 * 1280 + 1280 * 10
    assert work.training_flops(config, 48, trainable_boundary(config, "10")) == 2 * 3 * tail


CHECKS = """<testsuites><testsuite>
<testcase name="test_neighbors" time="1.5"><properties><property name="largest difference" value="2e-07"/>
<property name="device" value="NVIDIA"/></properties></testcase>
<testcase name="test_lle" time="0.5"><failure message="no"/></testcase>
<testcase name="test_pca" time="0"><skipped message="no cuML"/></testcase>
</testsuite></testsuites>"""


def test_checks_that_fail_are_told_beside_those_that_pass(tmp_path):
    (tmp_path / "checks.xml").write_text(CHECKS)
    told = judge(tmp_path)
    assert (told["passed"], told["failed"], told["skipped"]) == (1, 1, 1)
    assert told["failed: test_lle"] == 1
    assert told["test_neighbors: largest difference"] == 2e-7
    assert not any("device" in name for name in told)


def test_checks_end_in_time_to_tell_what_they_found(tmp_path):
    (tmp_path / "test_two.py").write_text(
        "import time\ndef test_soon(): pass\ndef test_never(): time.sleep(100)\n"
    )
    seconds = 3 + processes._SECONDS_TO_WRITE
    *command, folder = Processes(tmp_path, {})._command("checks", OURS, Deadline(seconds), {})
    assert Path(folder) == ROOT / "tests" / "gpu"
    # Without plugins, which a machine that is lent may lack.
    command += ["-p", "no:timeout", "-p", "no:xdist", "-m", "not gpu", "test_two.py"]
    ended = subprocess.run(command, cwd=tmp_path, timeout=60)
    assert ended.returncode == processes._INTERRUPTED
    assert judge(tmp_path)["passed"] == 1


def test_checks_that_cannot_begin_are_no_result(monkeypatch, tmp_path):
    started = Processes(tmp_path, {})
    monkeypatch.setattr(started, "_command", lambda *args: [sys.executable, "-m", "no"])
    with pytest.raises(RuntimeError, match="No module named no"):
        started.call("checks", OURS, Deadline(60), {})


# Manifests.


@pytest.mark.parametrize("name", SUITES)
def test_shipped_manifests_are_right(name):
    manifest = load_manifest(shipped(name))
    assert manifest.name == name
    assert manifest.device == ("gpu" if name == "gpu" else "cpu")
    assert all(entry.peers for entry in manifest.entries)


def test_the_largest_suite_has_every_case():
    """But for those that are a GPU's alone."""
    assert {entry.name for entry in load_manifest(shipped("full")).entries} == set(CASES) - {"checks"}


def test_a_gpu_is_measured_in_three_parts_of_four_minutes():
    whole = load_manifest(shipped("gpu"))
    parts = [whole.in_part(number) for number in (1, 2, 3)]
    assert [part.name for part in parts] == ["gpu-1", "gpu-2", "gpu-3"]
    assert [part.limit_minutes for part in parts] == [4, 4, 4]
    assert sum((part.entries for part in parts), ()) == whole.entries
    assert parts[0].entries[0].name == "run"
    with pytest.raises(JaxtlError, match="--part: got 4; the parts of gpu are 1, 2, 3"):
        whole.in_part(4)


def test_every_case_finds_its_peers():
    for case in CASES.values():
        assert set(case.peers) <= {*PEERS, *PROCESS_PEERS}
        assert OURS in case.peers


TSNE = '[[case]]\nname = "tsne"\nsizes = [200]\n'
WRONG = {
    "not TOML": ("rounds =", "not TOML: "),
    "an unknown key": (f"round = 3\n{TSNE}", "unknown key 'round'; the keys are limit_minutes, part_minutes"),
    "an unknown key of a case": (
        f"{TSNE}size = 3\n",
        "case 1 (tsne): unknown key 'size'; the keys are name, sizes",
    ),
    "an unknown case": (
        '[[case]]\nname = "tnse"\nsizes = [200]\n',
        "name: must be one of forward, extract",
    ),
    "a case without a name": (f"{TSNE}[[case]]\nsizes = [200]\n", "case 2: name: is missing"),
    "size 0": ('[[case]]\nname = "tsne"\nsizes = [0]\n', "sizes: must be a list of whole numbers"),
    "a size that is true": ('[[case]]\nname = "tsne"\nsizes = [true]\n', "got [True]"),
    "no sizes": ('[[case]]\nname = "tsne"\n', "sizes: are missing; say how many of points"),
    "sizes of what has none": ('[[case]]\nname = "import"\nsizes = [1]\n', "sizes: this case has none"),
    "a size twice": (f"{TSNE}{TSNE}", "case tsne: size 200 stands twice"),
    "an unknown peer": (f'{TSNE}peers = ["sklearn"]\n', "peers: must be some of jaxtl, "),
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


def test_what_is_not_there_is_told(monkeypatch, capsys, tmp_path):
    for arguments, expected in (
        (("run", tmp_path / "none.toml"), "no such manifest; the suites are smoke, cpu, gpu, full"),
        (
            ("smoke", "--only", "pca,colour"),
            "--only: got colour; the cases of smoke are forward, extract",
        ),
        (("table", tmp_path / "none.json"), "none.json: no such file"),
        (("compare", written(tmp_path, "{}"), "b"), "not a result of this benchmark"),
    ):
        assert run_main(monkeypatch, *arguments) == 2
        message = capsys.readouterr().err
        assert expected in message
        assert message.count("\n") == 1


def test_cases_are_chosen_by_their_names_and_families():
    chosen = load_manifest(shipped("gpu")).only(("tail", "processes"))
    assert [entry.name for entry in chosen.entries] == ["run", "tail", "tail", "run-seeds", "checks"]


def test_without_a_gpu_fault_and_remedy_are_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cuda, "gpu_fault", lambda: cuda.Fault("the card is warm", "cool it", True))
    assert run_main(monkeypatch, "gpu", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == "benchmarks: no GPU to measure: the card is warm; cool it\n"
    assert not (tmp_path / "out").exists()


# Processes.


def test_no_imports_go_round():
    paths = {path: ast.parse(path.read_text()) for path in (ROOT / "benchmarks").rglob("*.py")}
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): tree for path, tree in paths.items()}
    graph = {
        name: {f"{node.module}.{alias.name}" for node in own for alias in node.names}
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
    with timing.watched() as found:
        held = np.ones(2**24)
        del held
    assert found["peak_bytes"] > 0
    if "resting_bytes" in found:
        above = found["peak_bytes"] - found["resting_bytes"]
        assert 2**26 <= above < 2**28  # 128 MiB, of an earlier 512


def test_the_machine_has_ceilings():
    ceilings = machine.ceilings([64], 1, 1)
    assert set(ceilings) == {"flops", "bytes"}
    assert min(ceilings.values()) > 0


# The whole.


def run_smoke(out, *options):
    """The smoke suite as a user starts it; its record."""
    command = [sys.executable, "-m", "benchmarks", "smoke", "--limit", "20", "--out", str(out), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(out / f"smoke.{suffix}") for suffix in ("json", "md")]
    return json.loads((out / "smoke.json").read_text())


OPTIONAL = set(PEERS) - {OURS, "scikit-learn", "openTSNE"}


def check_rows(record):
    # A peer that nobody installed is told so, and costs no other row.
    absent = [row for row in record["rows"] if row["reason"].startswith("not installed: ")]
    assert [row for row in record["rows"] if row["state"] != "done"] == absent
    assert {row["peer"] for row in absent} <= OPTIONAL
    for row in record["rows"]:
        if row in absent:
            continue
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


@pytest.mark.slow
def test_results_become_tables_and_comparisons(smoke, monkeypatch, capsys):
    result = smoke / "smoke.json"
    assert run_main(monkeypatch, "table", result) == 0
    assert capsys.readouterr().out == (smoke / "smoke.md").read_text()
    assert run_main(monkeypatch, "compare", result, result) == 0
    assert "slower" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_finished_run_is_not_measured_again(smoke, monkeypatch, capsys):
    before = json.loads((smoke / "smoke.json").read_text())
    options = ("--out", smoke, "--resume", "--only", "lle,help")
    if run_main(monkeypatch, "smoke", *options) == 2:
        assert "another git" in capsys.readouterr().err
        pytest.skip("the code has changed meanwhile")
    assert json.loads((smoke / "smoke.json").read_text())["rows"] == before["rows"]
