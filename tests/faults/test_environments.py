"""No variable of the environment and no configuration file changes a result."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from jaxtl.experiment import opening
from jaxtl.machine import surroundings
from jaxtl.machine.host import describe
from jaxtl.network import trunk
from tests.command_lines import SMALL
from tests.run_files import Notes

RC = """font.family: serif
savefig.dpi: 37
figure.facecolor: red
backend: svg
axes.formatter.use_locale: True
"""
# Each line alone in the long form, all together in the short one.
SETTINGS = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_DISABLE_JIT": "1",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_RANDOM_SEED_OFFSET": "5",
    "JAX_DEBUG_NANS": "1",
    "JAX_NUM_CPU_DEVICES": "3",
    "NPY_PROMOTION_STATE": "legacy",
    "PYTHONHASHSEED": "7",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "ascii",
    "LC_ALL": "C",
    "LANG": "de_DE.ISO-8859-1",
    "TZ": "Asia/Tokyo",
    "MPLBACKEND": "nonsense",
    "MPLCONFIGDIR": "{folder}",
    "NO_COLOR": "1",
    "COLUMNS": "40",
}


def started(words, folder, settings):
    """A command under such variables."""
    (folder / "matplotlibrc").write_text(RC)
    variables = {name: value.format(folder=folder) for name, value in settings.items()}
    command = [sys.executable, "-m", "jaxtl", *map(str, words)]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)


def test_all_of_them_change_no_picture(jaxtl, finished, tmp_path):
    embedding = finished / "embeddings" / "after_pca.npz"
    assert jaxtl("plot", embedding, "--out", tmp_path / "plain.svg")[0] == 0
    ended = started(["plot", embedding, "--out", tmp_path / "other.svg"], tmp_path, SETTINGS)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "other.svg").read_bytes() == (tmp_path / "plain.svg").read_bytes()


def test_what_would_change_numbers_is_taken_away_and_what_may_is_recorded():
    flags = {"XLA_FLAGS": "--xla_cpu_enable_fast_math=false", "OPENBLAS_NUM_THREADS": "3"}
    ours = {**flags, "JAX_PLATFORMS": "cpu", "JAX_LOG_COMPILES": "0"}
    code = """
import os, sys, warnings
from jaxtl.machine import surroundings
surroundings.shed()
print(sorted(name for name in os.environ if name.startswith(("JAX_", "MPL", "NPY_", "XLA_", "PYTHONW"))))
print(sorted(surroundings.recorded().items()))
print(any(action == "error" for action, *_ in warnings.filters), "✓")
"""
    theirs = ("JAX_", "MPL", "XLA_", *surroundings.RECORDED)
    some = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    variables = {**some, **SETTINGS, "MPLCONFIGDIR": "x", **ours}
    ended = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert ended.stdout.splitlines() == [
        "['JAX_LOG_COMPILES', 'JAX_PLATFORMS', 'MPLCONFIGDIR', 'XLA_FLAGS']",
        "[('OPENBLAS_NUM_THREADS', '3'), ('XLA_FLAGS', '--xla_cpu_enable_fast_math=false')]",
        "False \\u2713",
    ], ended.stderr


def test_all_that_is_recorded_is_in_the_docs():
    told = (Path(__file__).parents[2] / "docs" / "run-folder.md").read_text()
    assert [name for name in surroundings.RECORDED if f"`{name}`" not in told] == []


def test_frozen_outputs_for_which_the_disk_has_no_room_are_recorded_and_compared(
    few_config, few_run, without_figures, tmp_path, monkeypatch
):
    def run(begin, folder, has_room):
        with monkeypatch.context() as patched, without_figures():
            patched.setattr(trunk, "disk_takes", lambda nbytes, folder=None: has_room)
            begin(folder, observer=(notes := Notes())).run()
        return [line for line in notes.said if "Not as it was begun" in line]

    folder = tmp_path / "run"
    assert run(partial(opening.start, few_config), folder, False) == []
    settings = json.loads((folder / "environment.json").read_text())["settings"]
    assert settings["frozen outputs"] == "computed anew"
    assert "frozen outputs" not in json.loads((few_run / "environment.json").read_text())["settings"]
    # Without images they do not matter.
    (folder / "report.html").unlink()
    assert run(opening.resume, folder, True) == []
    (folder / "features" / "after.npz").unlink()
    told = "frozen outputs computed anew and kept; numbers may differ from those of a run made in one go"
    assert run(opening.resume, folder, True) == [f"Not as it was begun: {told}"]


def test_a_run_computes_with_the_usual_settings_of_jax_and_puts_others_back():
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with surroundings.usual_jax():
            assert not jax.config.values["jax_disable_most_optimizations"]
            assert jnp.arange(3.0).dtype == jnp.float32
        assert jnp.arange(3.0).dtype == jnp.float64
    finally:
        jax.config.update("jax_enable_x64", False)
        jax.config.update("jax_disable_most_optimizations", False)


THEN = {"cpu": "A", "cores": 2, "devices": ["cpu: cpu"], "versions": {"numpy": "2.0"}, "settings": {}}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({}, ""),
        ({"memory_gib": 3.0, "platform": "another kernel"}, ""),
        ({"cpu": "B", "cores": 4}, "cpu A and B, cores 2 and 4"),
        ({"versions": {"numpy": "2.1", "cuml-cu13": "26"}}, "numpy 2.0 and 2.1, cuml-cu13 none and 26"),
        ({"settings": {"XLA_FLAGS": "--f"}}, "XLA_FLAGS none and --f"),
    ],
)
def test_another_machine_is_told_in_one_line(now, told):
    assert surroundings.moved(THEN, THEN | now) == told


def test_what_older_records_lack_is_no_difference():
    older = {name: value for name, value in THEN.items() if name not in ("settings", "devices")}
    assert surroundings.moved(older, THEN | {"settings": {"XLA_FLAGS": "--f"}}) == ""


def test_a_run_that_goes_on_elsewhere_says_so_in_one_line(few, few_run, tmp_path, monkeypatch):
    folder, observer = shutil.copytree(few_run, tmp_path / "run"), Notes()
    (folder / "report.html").unlink()
    here = describe()
    monkeypatch.setattr("jaxtl.machine.devices.describe", lambda: {**here, "cores": 99})
    opening.resume(folder, observer=observer).run()
    told = [line for line in observer.said if "99" in line]
    cores = f"cores {here['cores']} and 99"
    assert told == [f"Not as it was begun: {cores}; numbers may differ from those of a run made in one go"]
    assert told[0] in (folder / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_each_of_them_alone_changes_no_byte_of_a_run(few_digits, tmp_path, contents):
    words = [
        "run",
        "--dataset",
        few_digits,
        *SMALL,
        "--trainable",
        2,
        "--epochs",
        1,
        "--methods",
        "pca,tsne,lle",
    ]
    words += ["--perplexity", 10, "--no-layers", "--out"]
    assert started([*words, tmp_path / "plain"], tmp_path, {}).returncode == 0
    plain, changed = contents(tmp_path / "plain"), {}
    for name, value in {**SETTINGS, "all": ""}.items():
        settings = SETTINGS if name == "all" else {name: value}
        ended = started([*words, tmp_path / name], tmp_path, settings)
        made = contents(tmp_path / name) if ended.returncode == 0 else {}
        if differing := [file for file in plain if made.get(file) != plain[file]]:
            changed[name] = differing or ended.stderr
    print(f"\n{len(SETTINGS) + 1} environments tried, {len(changed)} changed something")
    assert not changed
