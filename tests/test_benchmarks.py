"""The benchmarks: what they count, what they write, and how they fail; no timing is asserted."""

import copy
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import __main__ as command_line
from benchmarks import experiment, flops, tables
from benchmarks.workers import Deadline, Worker, run_process
from jaxtl.errors import JaxtlError
from jaxtl.models.mobilenet_v2 import Carry, MobileNetV2Config
from jaxtl.models.weights import load_model
from jaxtl.trunk import trainable_boundary

ROOT = Path(command_line.__file__).parent.parent


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


def test_matrix_products_follow_from_each_other():
    """The benchmark feeds each product to the next, so rows may only shrink and columns must fit."""
    products = flops.matrix_products(MobileNetV2Config(), 48)
    assert len(products) == 35
    assert products[0] == (24 * 24, 27, 32)
    assert products[-1] == (2 * 2, 320, 1280)
    for (rows, _, channels), (next_rows, terms, _) in pairwise(products):
        assert next_rows <= rows
        assert terms == channels


RUN = {
    "seed": 0, "batch_size": 32, "seconds": 10.0, "trunk_seconds": 3.0, "trunk_compile_seconds": 1.0,
    "training_seconds": [4.0, 2.0], "training_compile_seconds": [2.0, 0.0],
    "testing_seconds": [0.5, 0.5], "testing_compile_seconds": [0.25, 0.0], "test_accuracy": [0.8, 0.9],
}  # fmt: skip
KERAS_RUN = {
    "seed": 0, "batch_size": 32, "seconds": 60.0, "training_seconds": [30.0, 20.0],
    "testing_seconds": [5.0, 5.0], "test_accuracy": [0.81, 0.91],
}  # fmt: skip
KNN = {
    stage: dict.fromkeys(("features", "pca", "tsne", "lle"), value)
    for stage, value in (("before", 0.5), ("after", 0.75))
}
RECORD = {
    "benchmark": "experiment",
    "date": "2030-01-02T03:04:05+00:00",
    "git": {"revision": "0123456789abcdef", "modified": True},
    "machine": {"jaxtl": "0.1.0", "cpu": "Abacus", "cores": 2, "memory_gib": 4.0, "python": "3.11.0"},
    "versions": {"jax": "1.2.3", "keras": "4.5.6"},
    "threads": {"OMP_NUM_THREADS": "2"},
    "load_average_before": 0.1,
    "load_average_after": 1.9,
    "minutes": 12.5,
    "sizes": {
        "quick": False, "train_images": 1000, "test_images": 500, "epochs": 2,
        "whole_samples": 200, "whole_train_images": 1000,
    },
    "flops_per_image": {"forward": 33_000_000, "trunk": 30_000_000, "training": 18_000_000},
    "forward": {
        "images": 640,
        "batch_size": {"jaxtl": 64, "keras_32": 32, "keras_256": 256},
        "warm_up": {
            "jaxtl": {"seconds": 3.0, "compile_seconds": 2.0},
            "keras_32": {"seconds": 1.5},
            "keras_256": {"seconds": 1.25},
        },
        "keras_prepare_seconds": 0.5,
        "seconds": {
            "jaxtl": [0.1, 0.2, 0.4], "keras_32": [0.3, 0.8, 0.8], "keras_256": [0.2, 0.5, 0.4],
            "network": [0.15] * 3, "products": [0.1] * 3,
        },
        "sgemm": {"jax": {"size": 2048, "gflops": [200.0, 211.2, 212.0]},
                  "numpy": {"size": 1024, "gflops": [199.0] * 3}},
        "largest_difference": 3e-5,
    },
    "finetune": {"keras_prepare_seconds": 2.0, "jaxtl": [RUN, {**RUN, "seconds": 14.0, "seed": 1}],
                 "keras": [KERAS_RUN], "sgemm": {"size": 2048, "gflops": [180.0]}},
    "whole": {
        "jaxtl": [{"seed": 0, "seconds": 20.0, "cpu_seconds": 30.0, "peak_bytes": 2**30,
                   "knn_accuracy": KNN, "test_accuracy": [0.8, 0.95], "parts": {}}],
        "keras": [{"seed": 0, "seconds": 90.0, "cpu_seconds": 150.0, "peak_bytes": 3 * 2**30,
                   "knn_accuracy": KNN, "test_accuracy": [0.8, 0.96], "parts": {}}],
    },
}  # fmt: skip

LINES = {
    "where it ran": "jaxtl 0.1.0 (0123456789ab with changes), Abacus, 2 cores, 4.0 GiB; Python 3.11.0, "
    "jax 1.2.3, keras 4.5.6. Threads: OMP_NUM_THREADS=2.",
    # 640 images in 0.2 s are 3200 a second; 33 MFLOP each make 105.6 GFLOP/s, half of 211.2.
    "forward, jaxtl": "| jaxtl | 64 | 3,200 (1,600..6,400) | 0.20 (0.10..0.40) | 105.6 | 50% | 1.00 / 1.00 "
    "| 3.00 (2.00 compiling) |",
    # Medians 0.8 / 0.2; paired 3, 4 and 2.
    "forward, Keras": "| Keras | 32 | 800 (800..2,133) | 0.80 (0.30..0.80) | 26.4 | 12% "
    "| 4.00 / 3.00 | 1.50 |",
    # Ten batches in 0.2, 0.15 and 0.1 s.
    "products": "| matrix products | 10.00 | 50% |",
    "other layers": "| depthwise convolutions, elementwise work, dispatch | 5.00 | 25% |",
    "host": "| host: batches in and out, folding, record | 5.00 | 25% |",
    "sgemm": "JAX 211 (200..212) at 2048x2048; NumPy 199 (199..199) at 1024x1024",
    "fine-tuning": "**Keras takes 5.00 times as long.**",
    "an epoch": "| 1 | 4.5 (4.5..4.5) | 35.0 | 0.8000, 0.8000 | 0.8100 |",
    "all epochs": "| **all** | 12.0 (10.0..14.0) | 60.0 |",
    "compiling": "| compiling | 3.2 (3.2..3.2) |",
    # 1000 images x 18 MFLOP in 2 s; 1500 x 30 MFLOP in 2 s.
    "training rate": "train at 9.0 GFLOP/s (median of the epochs), 5% of JAX's sgemm peak of 180; "
    "the frozen ones run at 22.5, 12%.",
    "wall time": "| wall time, s | 20.0 | 90.0 | 4.50 |",
    "memory": "| peak memory, GiB | 1.00 | 3.00 | 3.00 |",
    "quality": "| test accuracy | 0.9500 | 0.9600 |  |",
    "maps": "| 10-NN accuracy after, t-SNE | 0.7500 | 0.7500 |  |",
}


@pytest.fixture(scope="module")
def rendered():
    return tables.render(json.loads(json.dumps(RECORD)))


@pytest.mark.parametrize("line", LINES)
def test_tables_hold_medians_ranges_and_ratios(line, rendered):
    assert LINES[line] in rendered


def test_tables_show_the_cases_that_ran_and_tell_a_quick_run():
    record = copy.deepcopy(RECORD)
    del record["forward"], record["finetune"]
    record["sizes"]["quick"] = True
    record["git"] = {"revision": None, "modified": None}
    found = tables.render(record)
    assert "## The whole" in found
    assert "## Forward" not in found
    assert "quick run" in found
    assert "(unknown)" in found


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "experiment", *arguments])
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    return caught.value.code


def test_missing_peers_are_named_with_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(experiment, "find_spec", lambda name: None)
    assert run_main(monkeypatch, "--quick", "--out", str(tmp_path)) == 2
    message = capsys.readouterr().err
    assert message == (
        'benchmarks: not installed: keras, tensorflow; install the peers: pip install -e ".[bench]"\n'
    )
    assert not list(tmp_path.iterdir())


def test_unknown_cases_are_refused(monkeypatch, capsys):
    assert run_main(monkeypatch, "--only", "forward,backward") == 2
    assert "got backward; the cases are forward, finetune, whole" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert run_main(monkeypatch, "--out", str(tmp_path / "file" / "out")) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_the_measuring_process_stays_small():
    """The kernel counts a parent's size into the peak of its children."""
    code = "import sys, benchmarks.__main__; print(*{'jax', 'keras', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_worker_answers_and_reports_failures():
    with Worker("benchmarks.machine", Deadline(120)) as worker:
        assert worker.call("sgemm_numpy", size=16, products=2) > 0
        with pytest.raises(RuntimeError, match=r"benchmarks.machine.sgemm_numpy failed:\nTraceback"):
            worker.call("sgemm_numpy", size=-1, products=1)
        assert worker.call("sgemm_numpy", size=16, products=1) > 0


def test_a_worker_that_dies_is_noticed():
    with Worker("os", Deadline(120)) as worker, pytest.raises(RuntimeError, match="died with code 3"):
        worker.call("_exit", status=3)


def test_a_worker_ends_at_the_deadline():
    with (
        Worker("benchmarks.machine", Deadline(0)) as worker,
        pytest.raises(JaxtlError, match="raise --limit"),
    ):
        worker.call("load_average")


def test_a_process_is_measured(tmp_path):
    code = "x = b'x' * 2**27; sum(range(10**6)); print(len(x))"
    done = run_process([sys.executable, "-c", code], tmp_path, Deadline(120))
    assert (tmp_path / "output.txt").read_text() == f"{2**27}\n"
    assert done.peak_bytes > 2**27
    assert done.seconds > 0
    assert done.cpu_seconds > 0


def test_a_process_that_fails_tells_why(tmp_path):
    with pytest.raises(RuntimeError, match=r"exit code 1\n.*(?s:.*)no such luck"):
        run_process([sys.executable, "-c", "raise OSError('no such luck')"], tmp_path, Deadline(120))


def test_a_process_ends_at_the_deadline(tmp_path):
    with pytest.raises(JaxtlError, match="raise --limit"):
        run_process([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path, Deadline(0.5))


def test_the_worker_of_jaxtl_times_each_part():
    with Worker("benchmarks.peer_jaxtl", Deadline(300)) as worker:
        size = worker.call("batch_size", n=256)
        assert 1 < size <= 256
        for command, arguments in (
            ("forward", {"n": 256}),
            ("network", {"size": size, "batches": 2}),
            ("products", {"size": size, "batches": 2}),
        ):
            assert worker.call(command, **arguments)["seconds"] > 0
        result = worker.call("finetune", train=96, test=64, epochs=2, seed=0)
    parts = [result["trunk_seconds"], *result["training_seconds"], *result["testing_seconds"]]
    assert len(parts) == 5
    assert min(parts) > 0
    assert sum(parts) <= result["seconds"]
    assert len(result["test_accuracy"]) == 2
    assert 0 < result["training_compile_seconds"][0] < result["training_seconds"][0]
    assert result["training_compile_seconds"][1] < result["training_compile_seconds"][0]


@pytest.mark.slow
def test_a_quick_run_measures_every_case(tmp_path):
    """As a user starts it; the same weights and images must give both peers the same features."""
    command = [sys.executable, "-m", "benchmarks", "experiment", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / f"experiment.{suffix}") for suffix in ("json", "md")]
    record = json.loads((tmp_path / "experiment.json").read_text())
    assert (tmp_path / "experiment.md").read_text() == tables.render(record)
    forward, finetune, whole = (record[name] for name in ("forward", "finetune", "whole"))
    assert forward["largest_difference"] < 1e-3
    assert {len(samples) for samples in forward["seconds"].values()} == {experiment.QUICK.repeats}
    assert all(seconds > 0 for samples in forward["seconds"].values() for seconds in samples)
    for peer in ("jaxtl", "keras"):
        assert len(finetune[peer][0]["test_accuracy"]) == 1
        assert set(whole[peer][0]["knn_accuracy"]["after"]) == {"features", "pca", "tsne", "lle"}
        assert whole[peer][0]["peak_bytes"] > 2**28
    before = [whole[peer][0]["knn_accuracy"]["before"] for peer in ("jaxtl", "keras")]
    for space in ("features", "pca", "lle"):
        assert before[0][space] == pytest.approx(before[1][space], abs=0.02)
