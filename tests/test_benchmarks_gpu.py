"""The GPU benchmark on a CPU: what it writes, how steps fail, what its workers do; no time is asserted."""

import ast
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import jax
import numpy as np
import pytest
from test_reduction_cuml import stand_in

from benchmarks import __main__ as command_line
from benchmarks.gpu import maps as gpu_maps
from benchmarks.gpu import network as gpu_network
from benchmarks.gpu import programs as gpu_programs
from benchmarks.gpu import results as gpu_results
from benchmarks.gpu import run as gpu
from benchmarks.gpu import times as gpu_times
from benchmarks.gpu.cases import FULL, QUICK, Step
from benchmarks.gpu.run import PARTS
from jaxtl import reduction
from jaxtl.machine import cuda
from jaxtl.models.mobilenet_v2 import Carry
from jaxtl.models.weights import load_model
from jaxtl.network.layers import run_layers
from jaxtl.records.arrays import Features

ROOT = Path(command_line.__file__).parent.parent
PASSED = gpu_results.at_most("difference", 0.5, 1)
MISSED = gpu_results.at_least("share", 0.25, 0.99)
TIME = {"what": "work", "count": 600, "first_seconds": 9.0, "seconds": [2.0, 3.0, 4.0], "parts": {"a": 1.0}}


def run_steps(monkeypatch, out, steps, limit=60.0):
    """Run one case of these steps; the record, what failed, and the rendered tables."""
    cases = {"case": lambda bench: steps(bench) if callable(steps) else iter(steps)}
    monkeypatch.setattr(gpu, "CASES", cases)
    paths, failed = gpu.run(out, QUICK, None, ("case",), limit, on_gpu=False)
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


def test_a_hanging_step_ends_at_its_own_limit(monkeypatch, tmp_path):
    def steps(bench):
        yield Step("hang", lambda: bench.call("machine.load_average"), seconds=0.0)
        yield Step("next", lambda: {"numbers": {"load": bench.call("machine.load_average")}})

    record, failed, _ = run_steps(monkeypatch, tmp_path, steps)
    assert [step["state"] for step in record["steps"]] == ["failed", "done"]
    assert failed == ["case, hang: not done within 0 s"]


def test_every_step_says_its_main_figure_when_it_ends(monkeypatch, capsys, tmp_path):
    steps = [
        Step("checked", lambda: {"checks": [PASSED]}),
        Step("missed", lambda: {"checks": [PASSED, MISSED]}),
        Step("timed", lambda: {"times": [TIME]}),
        Step("told", lambda: {"times": [TIME], "headline": "3 images a second"}),
        Step("bad", raise_error),
        Step("card", dict, "gpu"),
    ]
    run_steps(monkeypatch, tmp_path, steps)
    said = [line.partition("] case: ")[2] for line in capsys.readouterr().err.splitlines()]
    assert said == [
        "checked: 1 checks passed",
        "missed: NOT PASSED share: 0.25",
        "timed: first 9.000 s, then 3.000 s",
        "told: 3 images a second",
        "bad: FAILED: ValueError: | no such luck",
        "card: SKIPPED: needs the GPU; leave out --cpu",
    ]


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
    assert run_main(monkeypatch, "--quick", "--part", 1, "--out", tmp_path / "out") == 2
    expected = "benchmarks: no GPU to measure: the card is warm; cool it; or --cpu, to try the steps out\n"
    assert capsys.readouterr().err == expected
    assert not (tmp_path / "out").exists()


def test_unknown_cases_are_refused(monkeypatch, capsys, tmp_path):
    assert run_main(monkeypatch, "--cpu", "--only", "device,colour", "--out", tmp_path) == 2
    assert "got colour; the cases are device, whole, programs" in capsys.readouterr().err


def test_a_run_that_is_cut_tells_how_far_it_came(monkeypatch, tmp_path):
    def cut(command, folder, deadline, environment):
        (folder / "run").mkdir()
        (folder / "run" / "timings.json").write_text('{"trunk_test": 3.5}')
        raise deadline.missed("jaxtl run")

    monkeypatch.setattr(gpu_times, "run_process", cut)
    record, failed, text = run_steps(monkeypatch, tmp_path, gpu_times.whole)
    assert [step["state"] for step in record["steps"]] == ["failed", "failed"]
    assert record["steps"][0]["timings"] == {"trunk_test": 3.5}
    assert failed[0].startswith("case, cold: jaxtl run: not done within")
    assert "| cold | trunk_test | 3.5 |" in text.splitlines()


def test_a_part_or_cases_must_be_named(monkeypatch, capsys, tmp_path):
    assert run_main(monkeypatch, "--cpu", "--out", tmp_path) == 2
    assert "give --part 1, 2 or 3, or --only CASE,..." in capsys.readouterr().err
    assert run_main(monkeypatch, "--cpu", "--part", 3, "--only", "whole", "--out", tmp_path) == 2
    assert "got whole; the cases are device, network" in capsys.readouterr().err


def all_steps(folder, call=MagicMock()):
    """Every step of every part, as on a card, with its case; `call` in the place of the workers."""
    for cases in PARTS.values():
        bench = gpu.Bench(FULL, True, 1.0, folder, thorough=True)
        bench.call = bench.call_apart = call
        for case in cases:
            for step in case(bench):
                yield case.__name__, step


def test_every_case_has_steps_with_names_of_their_own(tmp_path):
    for cases in PARTS.values():
        bench = gpu.Bench(FULL, True, 1.0, tmp_path, thorough=True)
        steps = [(case, step.name) for case in cases for step in case(bench)]
        assert len(steps) == len(set(steps)) > 15


def test_no_step_may_take_a_whole_part(tmp_path):
    """But the one that has to be asked for."""
    long = [step.name for _, step in all_steps(tmp_path) if step.seconds > gpu.LIMIT_SECONDS / 2]
    assert long == ["openTSNE, 70,000"]


def parameters(function):
    """Names that a function of the benchmarks takes, and those that it needs; without importing it."""
    module, _, name = function.rpartition(".")
    path = ROOT / "benchmarks" / f"{module.replace('.', '/')}.py"
    (found,) = (
        each
        for each in ast.parse(path.read_text()).body
        if isinstance(each, ast.FunctionDef) and each.name == name
    )
    names = [each.arg for each in found.args.args]
    return set(names), set(names[: len(names) - len(found.args.defaults)])


def test_steps_call_functions_that_take_their_arguments(tmp_path):
    """Those that need a GPU too: here they are not called, only looked up."""
    called, wrong = set(), []

    def bind(function, *, on_cpu=False, **arguments):
        called.add(function)
        taken, needed = parameters(function)
        if not needed <= set(arguments) <= taken:
            wrong.append((function, arguments))
        return MagicMock()

    for case, step in all_steps(tmp_path, bind):
        if case not in ("whole", "seeds"):
            # What they make of a stand-in's answer does not matter.
            with suppress(TypeError, ValueError):
                step.work()
    assert not wrong
    assert {"gpu.network.describe", "gpu.maps.tsne_variant", "gpu.maps.imports_in_both_orders",
            "gpu.programs.training", "peers.torch_graphs.forward",
            "gpu.precision.effects"} <= called  # fmt: skip


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


def test_a_variant_of_tsne_is_one_row(blobs, monkeypatch):
    """Rates are in points, and arguments of cuML that jaxtl does not offer reach it and no later map."""
    calls = stand_in(monkeypatch)
    monkeypatch.setattr(cuda, "cuml_fault", lambda: None)
    given = {"rate": 0.5, "n_iter": 20, "fixed": {"method": "exact"}}
    (row,) = gpu_maps.tsne_variant(blobs, 150, "half", "cuml", given)["rows"]
    assert (row["variant"], row["points"]) == ("cuml: half", 150)
    assert row["divergence"] > 0
    assert 0 <= row["10-NN accuracy"] <= 1
    models = [arguments for name, what, _, arguments in calls if (name, what) == ("TSNE", "__init__")]
    assert [(each["method"], each["learning_rate"]) for each in models] == [("exact", 75)]
    assert reduction.cuml._FIXED["method"] == "fft"
    (row,) = gpu_maps.tsne_variant(blobs, 150, "default", "opentsne", {"n_iter": 20})["rows"]
    assert row["descent seconds"] is None


def test_frozen_layers_are_the_runs_own_under_any_options():
    found = gpu_programs.trunk("matmul", "untuned, graphs", n=40, batch=32)
    boundary = gpu_programs._boundary()
    images = gpu_network.digits(40).images
    own = run_layers(load_model(), 0, boundary, images, gpu_network.IMAGES, 32, form="matmul")
    last = np.concatenate([own.x[32:], np.repeat(own.x[-1:], 24, 0)])  # batches are filled up
    (mean,) = (value for name, value in found["numbers"].items() if "mean output" in name)
    assert mean == pytest.approx(last.mean(), rel=1e-5)


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
@pytest.mark.parametrize("part", PARTS)
def test_a_quick_run_does_every_step(part, tmp_path):
    command = [sys.executable, "-m", "benchmarks", "gpu", "--part", str(part), "--quick", "--cpu"]
    command += ["--limit", "1800", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / f"part-{part}.json").read_text())
    assert {step["case"] for step in record["steps"]} == {case.__name__ for case in PARTS[part]}
    assert {step["state"] for step in record["steps"]} <= {"done", "skipped"}
    for step in record["steps"]:
        assert step["state"] == "done" or step["reason"]
