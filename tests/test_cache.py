"""Compiled programs are kept for later processes: where, for whom, and how many."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

from jaxtl.doctor import report as doctor
from jaxtl.errors import JaxtlError
from jaxtl.machine import cache, cuda
from jaxtl.machine.devices import configure

FOLDER = "JAX_COMPILATION_CACHE_DIR"
SETTINGS = (FOLDER, "JAX_ENABLE_COMPILATION_CACHE", *cache._KEEP_ALL)


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A user without settings, and a JAX that is not imported yet; put back afterwards."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "")  # so that what a test sets is removed again
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    return monkeypatch


@pytest.fixture
def gpu(bare):
    bare.setattr(cuda, "jax_gpu_fault", lambda: None)


def settings():
    return {name: os.environ[name] for name in SETTINGS if name in os.environ}


def test_nothing_is_kept_without_a_gpu(tmp_path):
    configure(compilation_cache="auto")
    assert not settings()
    assert not (tmp_path / "home").exists()


def test_on_a_gpu_they_are_kept_in_the_user_s_own_folder(gpu, tmp_path):
    configure(compilation_cache="auto")
    folder = cache.default_folder()
    root = tmp_path / "home" / "jaxtl" / "xla"
    assert folder.parent == root
    assert metadata.version("jaxlib") in folder.name
    assert settings()[FOLDER] == str(folder)
    assert folder.is_dir()
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_cache_home_that_is_no_absolute_path_is_as_none(gpu, bare, tmp_path):
    bare.setenv("HOME", str(tmp_path))
    bare.setenv("XDG_CACHE_HOME", "elsewhere")
    assert cache.default_folder().parent == tmp_path / ".cache" / "jaxtl" / "xla"


def test_a_user_s_own_folder_stays(gpu, bare, tmp_path):
    bare.setenv(FOLDER, "mine")
    configure(compilation_cache="auto")
    assert settings() == {FOLDER: "mine"}
    assert not (tmp_path / "home").exists()


def test_a_given_folder_comes_before_the_environment_s(bare, tmp_path):
    bare.setenv(FOLDER, "mine")
    configure(compilation_cache=tmp_path / "given")
    assert settings()[FOLDER] == str(tmp_path / "given")


def test_a_default_folder_that_cannot_be_made_is_told_and_no_error(gpu, tmp_path):
    (tmp_path / "home").write_text("a file")
    notes = []
    configure(compilation_cache="auto", notify=notes.append)
    assert not settings()
    assert [note.partition(":")[0] for note in notes] == ["compiled programs are not kept"]
    with pytest.raises(JaxtlError, match="give a folder that can be written to"):
        configure(compilation_cache=tmp_path / "home" / "given", notify=notes.append)


def test_what_was_used_longest_ago_makes_room(gpu, bare):
    bare.setattr(cache, "_MOST_AT_START", 250)
    folder = cache.default_folder().parent / "older-versions"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"{number}").write_bytes(bytes(100))
        os.utime(folder / f"{number}", (number, number))
    configure(compilation_cache="auto")
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]
    assert cache.size(folder) == 200


def test_the_doctor_says_where_and_how_much(gpu, tmp_path):
    configure(compilation_cache="auto")
    (cache.default_folder() / "program").write_bytes(bytes(3 * 2**20))
    assert doctor.cache_line() == f"{cache.default_folder()} (3 MiB now)"


def test_the_doctor_says_that_nothing_is_kept_without_a_gpu():
    assert doctor.cache_line() == "no folder, unless --compilation-cache names one"


USED = """
import sys
from jaxtl.machine import cuda
from jaxtl.machine.devices import configure
if "late" in sys.argv:
    import jax
cuda.jax_gpu_fault = lambda: None
configure(compilation_cache=sys.argv[1])
assert "late" in sys.argv or "jax" not in sys.modules
import jax
jax.jit(lambda x: x * 3 + 1)(2.0)
"""


@pytest.mark.parametrize(
    ("when", "where", "kept"),
    [
        ("early", "auto", True),
        ("late", "none", False),
        pytest.param("early", "none", False, marks=pytest.mark.slow),
        pytest.param("late", "auto", True, marks=pytest.mark.slow),
    ],
)
def test_the_setting_takes_effect_before_and_after_jax_is_imported(bare, tmp_path, when, where, kept):
    if not kept:
        bare.setenv(FOLDER, str(tmp_path / "mine"))
    subprocess.run([sys.executable, "-c", USED, where, when], check=True)
    assert any(path.is_file() for path in tmp_path.rglob("*")) == kept
