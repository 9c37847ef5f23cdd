"""How JAX is set up. Each case is a process of its own: JAX reads most settings once."""

import os
import subprocess
import sys

import pytest

from jaxtl.errors import JaxtlError
from jaxtl.machine import devices as runtime
from jaxtl.machine.devices import PRECISIONS, check_precision, configure

PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"
MEMORY = (PREALLOCATE, "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """An environment without settings for JAX, put back afterwards."""
    for name in (*MEMORY, "XLA_FLAGS"):
        monkeypatch.setenv(name, "")  # so that what a test sets is removed again
        monkeypatch.delenv(name)
    return monkeypatch


def run(code, **environment):
    """The lines that a process prints."""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_memory_is_not_taken_in_advance(bare):
    configure()
    assert os.environ[PREALLOCATE] == "false"


@pytest.mark.parametrize("name", MEMORY)
def test_a_user_s_own_memory_setting_stays(bare, name):
    bare.setenv(name, "0.5")
    configure()
    assert {key: os.environ.get(key) for key in MEMORY} == {**dict.fromkeys(MEMORY), name: "0.5"}


def test_the_python_api_takes_no_memory_in_advance_either():
    code = f"""
import os, sys
import jaxtl
assert "jax" not in sys.modules
import jax
model = jaxtl.load_model
print(os.environ["{PREALLOCATE}"], jax._src.xla_bridge.backends_are_initialized())
"""
    assert run(code) == ["false False"]


def test_determinism_joins_a_user_s_flags(bare):
    bare.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    configure(deterministic=True)
    configure(deterministic=True)
    expected = "--xla_cpu_enable_fast_math=false --xla_gpu_deterministic_ops=true"
    assert os.environ["XLA_FLAGS"] == expected


@pytest.mark.parametrize("flag", ["--xla_gpu_deterministic_ops", "--xla_gpu_deterministic_ops=true"])
def test_determinism_that_is_there_is_not_set_twice(bare, flag):
    bare.setenv("XLA_FLAGS", flag)
    configure(deterministic=True)
    assert os.environ["XLA_FLAGS"] == flag


def test_xla_takes_the_flags_even_after_jax_was_imported():
    """XLA ends the process at a flag that it does not know; another flag shows that it reads them then."""
    code = """
import os, jax
from jaxtl.machine.devices import configure
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=3"
configure(deterministic=True)
print(len(jax.devices()), float(jax.numpy.ones(4).sum()))
"""
    assert run(code) == ["3 4.0"]


def test_determinism_is_refused_where_it_comes_too_late(bare):
    bare.setattr(runtime, "_has_devices", lambda: True)
    configure(deterministic=True)  # a CPU is deterministic anyway
    os.environ["XLA_FLAGS"] = ""
    bare.setattr(runtime, "_on_gpu", lambda: True)
    with pytest.raises(JaxtlError, match=r"before the first computation, or start Python with XLA_FLAGS="):
        configure(deterministic=True)
    assert not os.environ["XLA_FLAGS"]


def test_devices_are_seen_once_they_are_made():
    code = """
from jaxtl.machine.devices import _has_devices
print(_has_devices())
import jax
print(_has_devices())
jax.devices()
print(_has_devices())
"""
    assert run(code) == ["False", "False", "True"]


CACHED = """
import sys
from jaxtl.machine.devices import configure
import jax
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
jax.jit(lambda x: x - 1)(2.0)  # compiled before the folder is known
configure(compilation_cache=sys.argv[1])
jax.jit(lambda x: x * 3 + 1)(2.0)
print(events.count("/jax/compilation_cache/cache_hits"), events.count("/jax/compilation_cache/cache_misses"))
"""


def test_compilations_are_kept_for_later_processes(tmp_path):
    folder = tmp_path / "new" / "cache"
    code = CACHED.replace("sys.argv[1]", repr(str(folder)))
    first, second = (run(code)[-1].split() for _ in range(2))
    assert any(folder.iterdir())
    assert first[0] == "0"
    assert int(first[1]) >= 1
    assert int(second[0]) >= 1
    assert second[1] == "0"


@pytest.mark.parametrize("name", ["file", "file/inside"])
def test_a_cache_folder_that_is_a_file_is_refused(tmp_path, bare, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(JaxtlError, match=r"^compilation cache .*file.*: Not a directory; give a folder"):
        configure(deterministic=True, compilation_cache=tmp_path / name)
    assert "XLA_FLAGS" not in os.environ  # nothing was done


def test_precisions_have_names():
    for name in PRECISIONS:
        check_precision(name)
    with pytest.raises(JaxtlError, match="must be one of highest, tf32, bf16, got 'float32'"):
        check_precision("float32")
