"""The GPU benchmark on a CPU: what it writes, how steps fail, what its workers do; no time is asserted."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from unittest.mock import MagicMock

import jax
import numpy as np
import pytest
from test_reduction_cuml import stand_in

from benchmarks import __main__ as command_line
from benchmarks import gpu, gpu_maps, gpu_network, gpu_results
from benchmarks.gpu_cases import CASES, FULL, QUICK, Step
from jaxtl import cuda
from jaxtl.models.mobilenet_v2 import Carry
from jaxtl.models.weights import load_model
from jaxtl.records import Features

ROOT = Path(command_line.__file__).parent.parent
PASSED = gpu_results.at_most("difference", 0.5, 1)
MISSED = gpu_results.at_least("share", 0.25, 0.99)
TIME = {"what": "work", "count": 600, "first_seconds": 9.0, "seconds": [2.0, 3.0, 4.0], "parts": {"a": 1.0}}


def run_steps(monkeypatch, out, steps, limit=60.0):
    """Run one case of these steps; the record, what failed, and the rendered tables."""
    cases = {"case": lambda bench: steps(bench) if callable(steps) else iter(steps)}
    monkeypatch.setattr(gpu, "CASES", cases)
    paths, failed = gpu.run(out, QUICK, ("case",), limit, on_gpu=False)
    return json.loads(paths[0].read_text()), failed, paths[1].read_text()


def raise_error():
    raise RuntimeError("worker failed:\nTraceback\n  ...\nValueError: | no such luck\n")


def test_every_step_is_recorded_whatever_the_others_do(monkeypatch, tmp_path):
    steps = [
        Step("good", lambda: {"checks": [PASSED], "times": [TIME], "numbers": {"rates": [0.5, 2.0]}}),
        Step("bad", raise_error),
        Step("missed", lambda: {"checks": [MISSED]}),
        Step("card", lambda: {}, "gpu"),
    ]
    record, failed, text = run_steps(monkeypatch, tmp_path, steps)
    assert [step["state"] for step in record["steps"]] == ["done", "failed", "done", "skipped"]
    assert failed == [
        "case, bad: ValueError: | no such luck",
        "case, missed: share is 0.25, must be at least 0.99",
    ]
    assert record["device"] == "cpu"
    for line in (
        "| case | difference | 0.5 | at most 1 | yes |",
        "| case | share | 0.25 | at least 0.99 | **no** |",
        "| case | work | 600 | 9.000 | 3.000 (2.000..4.000) | 200 | a 1.000 |",
        "| case | rates | 0.5, 2 |",
        "| case | bad | failed | ValueError: \\| no such luck |",
        "| case | card | skipped | needs the GPU; leave out --cpu |",
    ):
        assert line in text.splitlines()
    assert gpu.render(record) == text


def test_values_that_json_does_not_hold_cost_their_step_only(monkeypatch, tmp_path):
    steps = [
        Step("scalar", lambda: {"numbers": {"same": np.bool_(True)}}),
        Step("odd", lambda: {"numbers": {"odd": {1, 2}}}),
    ]
    record, _, _ = run_steps(monkeypatch, tmp_path, steps)
    assert [step["state"] for step in record["steps"]] == ["done", "failed"]
    assert record["steps"][0]["numbers"] == {"same": True}


def test_files_are_written_after_every_step(monkeypatch, tmp_path):
    def look():
        written.append([step["step"] for step in json.loads((tmp_path / "gpu.json").read_text())["steps"]])
        return {}

    written = []
    run_steps(monkeypatch, tmp_path, [Step("first", dict), Step("second", look), Step("third", look)])
    assert written == [["first"], ["first", "second"]]


def test_what_has_not_begun_in_time_is_recorded(monkeypatch, tmp_path):
    record, failed, text = run_steps(monkeypatch, tmp_path, [Step("late", raise_error)], limit=0)
    assert record["steps"] == [{"case": "case", "step": "late", "state": "not run", "reason": "out of time"}]
    assert not failed
    assert "| case | late | not run | out of time |" in text


def test_a_hanging_step_ends_at_the_limit(monkeypatch, tmp_path):
    def steps(bench):
        monkeypatch.setattr(gpu, "_STEP_SECONDS", 0.0)
        yield Step("hang", lambda: bench.call("machine.load_average"))
        monkeypatch.undo()
        monkeypatch.setattr(gpu, "_STEP_SECONDS", 60.0)
        yield Step("next", lambda: {"numbers": {"load": bench.call("machine.load_average")}})

    record, failed, _ = run_steps(monkeypatch, tmp_path, steps)
    assert [step["state"] for step in record["steps"]] == ["failed", "done"]
    assert failed == ["case, hang: not done within 0 s"]


def test_a_failed_or_dead_process_is_replaced(monkeypatch, tmp_path):
    def steps(bench):
        def die():
            bench.call("machine.load_average")
            os.kill(bench._worker._process.pid, signal.SIGKILL)
            return bench.call("machine.load_average")

        yield Step("fails", lambda: bench.call("machine.sgemm_numpy", size=-1, products=1))
        yield Step("dies", die)
        yield Step("works", lambda: {"numbers": {"load": bench.call("machine.load_average")}})

    record, failed, _ = run_steps(monkeypatch, tmp_path, steps)
    assert [step["state"] for step in record["steps"]] == ["failed", "failed", "done"]
    assert "negative dimensions" in failed[0]


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "gpu", *map(str, arguments)])
    try:
        command_line.main()
    except SystemExit as end:
        return end.code
    return 0


def test_exit_codes_tell_failed_checks(monkeypatch, capsys, tmp_path):
    cases = {"device": lambda bench: iter([Step("missed", lambda: {"checks": [MISSED]})])}
    monkeypatch.setattr(gpu, "CASES", cases)
    assert run_main(monkeypatch, "--cpu", "--only", "device", "--out", tmp_path) == 1
    assert "benchmarks: failed: device, missed: share is 0.25" in capsys.readouterr().err
    cases["device"] = lambda bench: iter([Step("fine", lambda: {"checks": [PASSED]})])
    assert run_main(monkeypatch, "--cpu", "--only", "device", "--out", tmp_path) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / f"gpu.{suffix}") for suffix in ("json", "md")]


def test_without_a_gpu_fault_and_remedy_are_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cuda, "gpu_fault", lambda: cuda.Fault("the card is warm", "cool it", True))
    assert run_main(monkeypatch, "--quick", "--out", tmp_path / "out") == 2
    expected = "benchmarks: no GPU to measure: the card is warm; cool it; or --cpu, to try the steps out\n"
    assert capsys.readouterr().err == expected
    assert not (tmp_path / "out").exists()


def test_unknown_cases_are_refused(monkeypatch, capsys, tmp_path):
    assert run_main(monkeypatch, "--cpu", "--only", "device,colour", "--out", tmp_path) == 2
    assert "got colour; the cases are device, network, maps" in capsys.readouterr().err


def test_every_case_has_steps_with_names_of_their_own(tmp_path):
    bench = gpu.Bench(FULL, True, 1.0, tmp_path)
    steps = [(case, step.name) for case in CASES for step in CASES[case](bench)]
    assert len(steps) == len(set(steps)) > 30


def test_steps_call_functions_that_take_their_arguments(tmp_path):
    """Those that need a GPU too: here they are not called, only bound."""
    called, wrong = [], []

    def bind(function, *, on_cpu=False, **arguments):
        module, _, name = function.rpartition(".")
        called.append(name)
        try:
            signature(getattr(import_module(f"benchmarks.{module}"), name)).bind(**arguments)
        except (AttributeError, TypeError) as error:
            wrong.append(f"{function}: {error}")
        return MagicMock()

    bench = gpu.Bench(FULL, True, 1.0, tmp_path)
    bench.call = bench.call_apart = bind
    for case in CASES.keys() - {"cache"}:
        for step in CASES[case](bench):
            # What they make of a stand-in's answer does not matter.
            with suppress(TypeError, ValueError):
                step.work()
    assert not wrong
    assert {"describe", "tsne_agrees", "imports_in_both_orders", "roofline", "effects"} <= set(called)


# What the workers do, at sizes of seconds.


def test_checks_are_failed_by_what_is_no_number():
    assert not gpu_results.at_most("a", float("nan"), 1)["passed"]
    assert not gpu_results.at_least("a", float("nan"), 1)["passed"]
    ours = np.array([[0.0, 1.0, 2.0]], "f")
    assert [check["passed"] for check in gpu_results.differences("a", ours, ours)] == [True, True]
    assert [check["passed"] for check in gpu_results.differences("a", ours, ours + 2e-4)] == [True, False]


def test_a_time_is_of_the_first_call_and_of_the_others(monkeypatch):
    calls = []
    found = gpu_results.timing("work", lambda: calls.append(1), 3, count=7)
    assert len(calls) == 4
    assert len(found["seconds"]) == 3
    assert found["count"] == 7
    monkeypatch.setattr(gpu_results, "_LONG", -1.0)
    assert len(gpu_results.timing("long work", int, 3)["seconds"]) == 1
    assert gpu_results.timing("work", int, 0)["seconds"] == []


def test_clocked_functions_work_as_before(monkeypatch):
    with gpu_results.clocked({"root": (np, "sqrt"), "sum": (np, "sum")}) as parts:
        assert np.sqrt(4.0) == 2
    assert parts["root"] > 0
    assert parts["sum"] == 0


def test_least_bytes_are_those_of_the_networks_own_shapes():
    model = load_model()
    config = model.config
    image = jax.ShapeDtypeStruct((2, 48, 48, 3), np.float32)

    def every(x):
        carries = [Carry(x)]
        for position in range(config.pooled):
            carries.append(model.run(carries[-1], position, position + 1))
        return [carry.x for carry in carries]

    shapes = jax.eval_shape(every, image)
    expected, entered = 0, shapes[0]
    for layer, before, after in zip(config.layers, shapes[:-1], shapes[1:], strict=False):
        if layer.kind == "pad":
            continue  # what the next convolution reads is the map before it
        if layer.kind in ("conv", "depthwise"):
            expected += entered.size + after.size
            expected += sum(int(np.prod(shape)) for shape in layer.parameters.values())
        elif layer.kind in ("add", "pool"):
            expected += before.size
        entered = after
    assert gpu_network.least_bytes(config, 48, 2, 4) == 4 * expected


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """The file of 200 points around 4 centres, near enough for a connected graph of neighbours."""
    rng = np.random.default_rng(0)
    labels = np.arange(200, dtype=np.int32) % 4
    values = rng.normal(size=(4, 24))[labels] + rng.normal(size=(200, 24)) * 2
    path = tmp_path_factory.mktemp("maps") / "features.npz"
    Features(values.astype(np.float32), labels, np.arange(200, dtype=np.int32), {}).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("function", "arguments", "count"),
    [
        ("pca_agrees", {"backend": "sklearn"}, 1),
        ("tsne_agrees", {"backend": "opentsne"}, 2),
        ("lle_agrees", {"peers": ("cpu", "sklearn")}, 5),
        ("neighbors_agree", {"k": 12}, 2),
        ("reducer_survives", {"backend": "sklearn"}, 2),
    ],
)
def test_checks_of_the_maps_pass_on_a_cpu(function, arguments, count, blobs):
    checks = getattr(gpu_maps, function)(path=blobs, n=180, **arguments)["checks"]
    assert len(checks) == count
    assert all(check["passed"] for check in checks), checks


def test_checks_of_the_maps_notice_another_map(blobs, monkeypatch):
    whole = gpu_maps._map

    def bent(path, n, method, backend, **params):
        embedding = whole(path, n, method, backend, **params)
        coords = embedding.coords[::-1].copy() if params.get("engine") == "jax" else embedding.coords
        return replace(embedding, coords=coords)

    monkeypatch.setattr(gpu_maps, "_map", bent)
    checks = gpu_maps.lle_agrees(blobs, 180, ("cpu",))["checks"]
    assert [check["passed"] for check in checks] == [True, True, False]


def test_cumls_steps_through_a_stand_in(blobs, monkeypatch):
    """Its PCA is right and its t-SNE a cloud of noise, which the check has to notice."""
    stand_in(monkeypatch)
    monkeypatch.setattr(cuda, "cuml_fault", lambda: None)
    assert [check["passed"] for check in gpu_maps.pca_agrees(blobs, 150)["checks"]] == [True]
    found = gpu_maps.tsne_agrees(blobs, 150)
    assert [check["passed"] for check in found["checks"]] == [False, False]
    assert {"kl_divergence of 150, cuml", "kl_divergence of 150, opentsne"} <= set(found["numbers"])
    (time,) = gpu_maps.reduced(blobs, 150, "tsne", "cuml", 1)["times"]
    assert all(seconds > 0 for seconds in time["parts"].values())


def test_times_of_the_maps_come_in_parts(blobs):
    (time,) = gpu_maps.reduced(blobs, 180, "lle", "jaxtl", 1)["times"]
    assert all(seconds > 0 for seconds in time["parts"].values())
    assert sum(time["parts"].values()) <= (time["first_seconds"] + time["seconds"][0]) / 2


def test_a_case_of_the_suite_follows_the_checks(monkeypatch, tmp_path):
    """Both in one file; a row that fails is a failure, one that is absent is none."""
    monkeypatch.setattr(
        gpu, "CASES", {"device": lambda bench: iter([Step("fine", lambda: {"checks": [PASSED]})])}
    )

    def measured(manifest, record, deadline, save):
        assert [entry.name for entry in manifest.entries] == ["help"]
        row = {"case": "help", "peer": "jaxtl", "size": None, "seconds": [], "reason": "no luck"}
        record["rows"] = [{**row, "state": "failed"}, {**row, "peer": "Python", "state": "absent"}]
        save(record)

    monkeypatch.setattr(gpu.suite, "run", measured)
    paths, failed = gpu.run(tmp_path, QUICK, ("help", "device"), 60, on_gpu=False)
    assert failed == ["help, jaxtl: no luck"]
    text = paths[1].read_text()
    assert "| device | difference | 0.5 | at most 1 | yes |" in text
    assert "| `help` |  | jaxtl | failed | no luck |" in text


def test_the_command_runs_as_a_process(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "gpu", "--quick", "--cpu", "--only", "device"]
    done = subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert [step["state"] for step in record["steps"]] == ["done"]
    assert record["devices"][0].startswith("cpu")
    assert "jax" in record["versions"]
    assert record["rows"] == []


@pytest.mark.slow
def test_a_quick_run_does_every_case(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "gpu", "--quick", "--cpu", "--limit", "30"]
    done = subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert {step["case"] for step in record["steps"]} == set(CASES)
    assert {step["state"] for step in record["steps"]} <= {"done", "skipped"}
    assert {row["state"] for row in record["rows"]} == {"done"}
    assert "finetune" in {row["case"] for row in record["rows"]}
