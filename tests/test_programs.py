"""Programs are few, compiled once, ahead of their first call where asked, and with options that can fail."""

import importlib.util
import json
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl.data import load
from jaxtl.machine import programs
from jaxtl.machine.programs import Program
from jaxtl.models.weights import load_model
from jaxtl.network import finetuning
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.settings import FinetuneConfig, Images

COMPILED = "/jax/core/compile/backend_compile_duration"


class Compilations:
    """The threads that compiled a program, one name a program."""

    def __init__(self):
        self.threads = []
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event, seconds, **_):
        if event == COMPILED:
            self.threads.append(threading.current_thread().name)


@pytest.fixture
def compilations():
    return Compilations()


COUNTED = f"""
import sys
import jax
compiled = []
jax.monitoring.register_event_duration_secs_listener(lambda name, _, **more: compiled.append(name))
from jaxtl.cli.main import main
try:
    main()
finally:
    print(compiled.count("{COMPILED}"))
"""


@pytest.mark.slow
def test_a_run_of_two_seeds_compiles_few_programs(few_digits, tmp_path):
    """A process of its own: what other tests compiled would not be compiled again."""
    words = ["run", "--dataset", few_digits, "--samples", "40", "--trainable", "2", "--epochs", "1"]
    words += ["--image-size", "32", "--methods", "pca,lle", "--n-neighbors", "5", "--seeds", "2"]
    ended = subprocess.run(
        [sys.executable, "-c", COUNTED, *words, "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert 0 < int(ended.stdout.splitlines()[-1]) <= 25


def test_a_program_is_compiled_once_for_a_shape_and_a_static_value(compilations):
    program = Program(lambda power, x: x**power, static=1)
    for x in (np.arange(5.0, dtype="f"), jnp.arange(5, dtype="f"), np.ones(5, "f")):
        np.testing.assert_array_equal(program(2, x), np.asarray(x) ** 2)
    del compilations.threads[:]
    np.testing.assert_array_equal(program(2, np.full(5, 3, "f")), np.full(5, 9, "f"))
    assert not compilations.threads
    np.testing.assert_array_equal(program(3, np.full(5, 3, "f")), np.full(5, 27, "f"))
    np.testing.assert_array_equal(program(3, np.full(6, 3, "f")), np.full(6, 27, "f"))
    assert len(compilations.threads) == 2


def test_a_prepared_program_is_compiled_in_a_thread_and_not_again(compilations):
    program = Program(lambda x: {"twice": x["a"] * 2})
    program.prepare({"a": jax.ShapeDtypeStruct((7,), np.float32)})
    np.testing.assert_array_equal(program({"a": np.ones(7, "f")})["twice"], np.full(7, 2, "f"))
    for thread in threading.enumerate():
        if thread.name == "compile":
            thread.join()
    assert len(compilations.threads) == 1


def test_many_callers_of_a_new_shape_share_one_compilation(compilations):
    program, results = Program(lambda x: x + 1), []
    x = np.zeros(11, "f")
    threads = [threading.Thread(target=lambda: results.append(program(x))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert len(compilations.threads) == 1


def test_what_cannot_be_traced_is_told_to_the_caller_each_time():
    program = Program(lambda x: x + jnp.ones(3))
    for _ in range(2):
        with pytest.raises(TypeError, match="incompatible shapes"):
            program(np.zeros(4, "f"))


def test_a_program_can_be_part_of_another_function():
    program = Program(lambda power, x: x**power, static=1)
    assert float(jax.jit(jax.grad(lambda x: program(3, x)))(2.0)) == 12


def test_donated_memory_is_taken_over():
    program = Program(lambda x, y: x + y, donate=(0,))
    x, y = jnp.zeros(1000), jnp.ones(1000)
    program.prepare(x, y)
    total = program(x, y)
    assert x.is_deleted()
    assert not y.is_deleted()
    assert float(total.sum()) == 1000


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    return monkeypatch


def test_a_cpu_s_programs_have_no_options():
    assert programs.options() == {}


def test_a_gpu_s_loops_are_graphs_where_they_do_not_crash(gpu):
    gpu.setattr(jax.version, "__version_info__", (0, 9, 0))
    graphs = programs.options()["xla_gpu_enable_command_buffer"].split(",")
    assert {"FUSION", "CUBLAS", "WHILE"} <= set(graphs)
    gpu.setattr(jax.version, "__version_info__", (0, 8, 3))
    assert programs.options()["xla_gpu_enable_command_buffer"].split(",") == graphs[:-1]


def test_what_a_user_sets_for_xla_stays(gpu):
    gpu.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=4 --xla_gpu_enable_command_buffer=")
    assert programs.options() == {"xla_gpu_enable_triton_gemm": False}


@pytest.mark.parametrize(("form", "tuned"), [("matmul", False), ("xla", True), ("mixed", True)])
def test_convolutions_by_cudnn_are_tuned(monkeypatch, form, tuned):
    """Untuned they take many times as long."""
    asked, untuned = [], {"xla_gpu_autotune_level": 0}
    monkeypatch.setattr(programs, "compile_with", lambda low, options: asked.append(options) or low.compile())
    monkeypatch.setattr(programs, "options", lambda: untuned)
    Program(lambda form, x: x + 1, static=1)(form, np.float32(1))
    assert asked == [{} if tuned else untuned]


def test_options_can_be_chosen_for_a_comparison(gpu):
    usual = programs.options()
    with programs.chosen({"xla_gpu_autotune_level": 4}):
        assert programs.options() == {"xla_gpu_autotune_level": 4}
    assert programs.options() == usual


def test_options_that_xla_does_not_know_are_left_out_and_told(caplog):
    with programs.chosen({"xla_no_such_option": True}):
        assert float(Program(lambda x: x + 2)(np.float32(1))) == 3
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "compiled without options for GPUs"
    ]


@pytest.mark.parametrize("trainable", ["2", pytest.param("all", marks=pytest.mark.slow)])
def test_what_a_run_needs_can_be_compiled_ahead(compilations, trainable):
    """Every program that trunk, features, training, tests and averages call, and no other."""
    model, images = load_model(), Images(32)
    train, test = load("mnist", "train").take(40), load("mnist", "test").take(20)
    config = FinetuneConfig(trainable=trainable, epochs=1)
    trunk = Trunk(model, trainable_boundary(model.config, trainable), images)
    keep, shape = trunk.keeps(60), train.images.shape[1:]
    if keep:
        trunk.prepare(shape)
    trunk.prepare_then(model, model.config.pooled, shape, keep)
    trunk.prepare_averages(shape, keep)
    finetuning.prepare(trunk, 10, len(train), config, shape, keep)
    for thread in threading.enumerate():
        if thread.name == "compile":
            thread.join()
    del compilations.threads[:]
    source, blocks = trunk.source_and_blocks(test.images, keep, 10)
    trunk.then(model, model.config.pooled, source)
    tuned, _ = finetuning.train_tail(trunk, train, trunk.source(train.images, keep), test, source, config)
    assert len(trunk.averages(tuned, blocks)) == len(model.config.block_ends)
    assert not compilations.threads


@pytest.fixture(scope="module")
def on_h100():
    """What the host launches of each program of a run, compiled for a card that need not be there."""
    if importlib.util.find_spec("jax_cuda13_plugin") is None:
        pytest.skip("needs jax[cuda13]")
    script = Path(__file__).with_name("compile_for_gpu.py")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_every_program_of_a_run_compiles_for_an_h100(on_h100):
    assert {"trunk", "features", "averages", "training", "tests"} <= set(on_h100)
    # Fewer than five kernels XLA launches one by one.
    assert all(sum(launches["launched"].values()) < 5 for launches in on_h100.values())
    assert on_h100["trunk"]["launched"] == {"CommandBuffer": 1}


@pytest.mark.parametrize(("name", "most"), [("training", 64), ("five seeds", 70)])
def test_the_training_loop_is_one_graph_of_few_kernels_a_step(on_h100, name, most):
    assert on_h100[name]["launched"] == {"CommandBuffer": 1}
    assert 0 < on_h100[name]["in loop"] <= most
