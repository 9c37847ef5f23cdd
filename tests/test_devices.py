"""Several devices give what one gives, of batches that cannot be divided among them, too."""

import os
import subprocess
import sys

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.machine import surroundings
from jaxtl.machine.devices import DEVICES, configure, devices_used, environment
from jaxtl.machine.mesh import mesh, rounded_up, whole
from tests.several_devices import COUNTS

EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


def on_eight(*words):
    """A process that has eight devices; what it printed."""
    variables = {**os.environ, **EIGHT}
    return subprocess.run([sys.executable, *map(str, words)], env=variables, capture_output=True, text=True)


def made(once, name, *more):
    def make(path):
        ended = on_eight("-m", "tests.several_devices", path, *more)
        assert ended.returncode == 0, ended.stderr

    with np.load(once(name, make)) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def kept(once):
    return made(once, "several_devices.npz")


def of(kept, count, beginning):
    names = [name for name in kept if name.startswith(f"{count}/{beginning}")]
    return {name.partition("/")[2]: kept[name] for name in names}


def check_same(kept, count, beginning, at_least):
    one, several = of(kept, 1, beginning), of(kept, count, beginning)
    assert len(one) >= at_least
    assert one.keys() == several.keys()
    for name, values in one.items():
        np.testing.assert_allclose(several[name], values, 1e-5, 1e-5 * np.abs(values).max(), err_msg=name)


def test_features_are_the_same(kept):
    """Of batches that eight cannot divide, and from outputs that stay on the devices."""
    check_same(kept, 8, "features", 2)


def test_training_sees_the_same_batches_and_their_statistics(kept):
    """A device's share of a batch has statistics of its own, which would give other weights at once."""
    check_same(kept, 8, "trained", 10)


def test_shares_of_many_processes_are_the_same_batches(kept):
    """Eight devices have four rows each of 31, of which one is left out."""
    check_shares(kept, 8)


def check_shares(kept, count):
    shares = {name.partition(", ")[2]: values for name, values in of(kept, count, "by shares").items()}
    assert len(shares) >= 10
    one = {f"1/{name}": values for name, values in of(kept, 1, "").items() if name in shares}
    check_same({**one, **{f"{count}/{name}": values for name, values in shares.items()}}, count, "", 10)


@pytest.mark.parametrize("beginning", ["neighbours", "their", "product", "transposed"])
def test_neighbours_and_numbers_are_the_same(kept, beginning):
    check_same(kept, 8, beginning, 1)


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 8])
def test_several_seeds_and_all_numbers_are_the_same(once, count):
    more = made(once, "many_devices.npz", "all")
    numbers = ("distances", "ranks", "agreement", "transposed")
    least = {"features": 4, "trained": 40, "neighbours": 2, **dict.fromkeys(numbers, 1)}
    for beginning, at_least in least.items():
        check_same(more, count, beginning, at_least)
    check_shares(more, count)


def test_what_was_used_is_recorded_and_told(kept):
    assert [int(kept[f"{count}/used"]) for count in COUNTS] == list(COUNTS)
    # The doctor's words.
    assert [str(kept[f"{count}/devices used"]) for count in COUNTS] == ["1 of 8", "8 of 8"]
    # As many images for each, and to each its share of the host's memory.
    assert kept["8/batch"] == 8 * kept["1/batch"]
    assert kept["8/memory"] == kept["1/memory"] // 8


def test_one_device_is_spoken_of_in_no_program():
    """Here there is one: nothing says where an array lies, so that programs are those of ever."""
    assert environment()["devices_used"] == devices_used() == 1
    assert mesh() is None
    assert [rounded_up(count) for count in (1, 30, 31)] == [1, 30, 31]
    assert not whole(np.zeros(3)).committed


def test_more_devices_than_there_are_is_refused(monkeypatch):
    monkeypatch.setenv(DEVICES, "2")
    with pytest.raises(
        JaxtlError, match=r"^devices: 2 are asked for, and JAX has 1 here \(cpu\); give --devices 1"
    ):
        devices_used()
    monkeypatch.setenv(DEVICES, "many")
    with pytest.raises(JaxtlError, match=r"^JAXTL_DEVICES: 'many' is not a whole number from 1"):
        devices_used()
    with pytest.raises(JaxtlError, match=r"^devices: must be a whole number from 1"):
        configure(devices=0)


def test_another_number_of_devices_is_told():
    now = {**environment(), "devices_used": 8}
    before = {name: value for name, value in environment().items() if name != "devices_used"}
    assert surroundings.moved(before, environment()) == ""
    assert surroundings.moved(before, now) == "devices used 1 and 8"


@pytest.mark.slow
def test_a_run_on_eight_devices_is_that_of_one(few_digits, tmp_path):
    """From images to scores; --devices is obeyed by all of it."""
    words = ["-m", "jaxtl", "run", "--dataset", few_digits, "--samples", "all", "--image-size", "32"]
    words += ["--trainable", "2", "--epochs", "2", "--methods", "pca", "--no-layers"]
    one, eight = tmp_path / "one", tmp_path / "eight"
    for folder, more in ((one, ["--devices", "1"]), (eight, [])):
        ended = on_eight(*words, *more, "--out", folder)
        assert ended.returncode == 0, ended.stderr
    from jaxtl.runs.folder import RunFolder

    first, second = RunFolder(one), RunFolder(eight)
    assert [run.environment.read()["devices_used"] for run in (first, second)] == [1, 8]
    np.testing.assert_array_equal(*(run.features["before"].read().values for run in (first, second)))
    after = [run.features["after"].read().values for run in (first, second)]
    np.testing.assert_allclose(*after, rtol=1e-4, atol=1e-5 * np.abs(after[0]).max())
    np.testing.assert_array_equal(*(run.neighbors["before"].read().indices for run in (first, second)))
