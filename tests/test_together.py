"""Several processes at one piece of work, over loopback: two of two devices each, and one is killed."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import jaxtl
from jaxtl.models.weights import load_arrays
from jaxtl.network.checkpoint import path_beside
from jaxtl.records import shards
from jaxtl.records.tables import load_history

pytestmark = pytest.mark.slow
COUNT = 2
# Seconds in which the others are to have ended.
MINUTE = 60
TWO = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture
def together():
    """A function that starts `jaxtl ARGS` as so many processes as there are; all are ended with the test."""
    started = []

    def start(*words, last=()):
        """`last`: words of the last process alone."""
        port = free_port()
        for number in range(COUNT):
            place = ["--coordinator", f"127.0.0.1:{port}", "--processes", COUNT, "--process-id", number]
            own = last if number == COUNT - 1 else ()
            command = [sys.executable, "-m", "jaxtl", *map(str, [*words, *place, *own])]
            how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            started.append(subprocess.Popen(command, env={**os.environ, **TWO}, **how))
        return started[-COUNT:]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finished(processes):
    """What each printed; all ended well."""
    ended = [process.communicate(timeout=600) for process in processes]
    for process, (_, said) in zip(processes, ended, strict=True):
        assert process.returncode == 0, said
    return [output for output, _ in ended]


def extraction(dataset, out):
    return ["extract", "--dataset", dataset, "--split", "train", "--image-size", "32", "--out", out]


def test_two_processes_extract_what_one_does(together, digits, tmp_path):
    out = tmp_path / "F.shards"
    printed = finished(together(*extraction(digits, out)))
    assert [bool(text) for text in printed] == [True, False]  # one of them speaks of the result
    features = shards.load(out)
    assert len(list(out.glob("*.f32"))) == COUNT
    images, alone = jaxtl.Images(32), jaxtl.load(digits, "train")
    expected = jaxtl.extract(jaxtl.load_model(), alone, images)
    np.testing.assert_array_equal(features.values, expected.values)
    np.testing.assert_array_equal(features.labels, alone.labels)
    assert features.meta == expected.meta


def kill_one(processes, killed, begun):
    """Once a file is there, end one of them; the other then ends by itself, and says why."""
    while not begun.exists():
        time.sleep(0.1)
        assert all(process.poll() is None for process in processes)
    processes[killed].send_signal(signal.SIGKILL)
    began, other = time.monotonic(), processes[1 - killed]
    _, said = other.communicate(timeout=600)
    assert time.monotonic() - began < MINUTE
    assert other.returncode == 2
    last = said.splitlines()[-1]
    assert last.startswith(f"jaxtl: process {1 - killed} of 2 ends, as another one has ended")
    assert "start all of them again with the same commands, and they go on where they were" in last


@pytest.mark.parametrize("killed", range(COUNT))
def test_a_dead_process_ends_the_others_and_the_work_goes_on(together, digits, tmp_path, killed):
    out = tmp_path / "F.shards"
    words = extraction(digits, out)
    # Small batches: they are at it for a while.
    words += ["--batch-size", 2]
    kill_one(together(*words), killed, out / "plan.json")
    assert not (out / "rows.npz").exists()
    finished(together(*words))
    assert shards.load(out).values.shape == (1950, 1280)


def test_two_processes_find_the_neighbours_that_one_finds(together, files, tmp_path):
    """Each of them has two devices: the rows go round among four."""
    paths = [tmp_path / "two.npz", tmp_path / "one.npz"]
    words = ["neighbors", files / "good.npz", "--n-neighbors", 9, "--out"]
    printed = finished(together(*words, paths[0]))
    assert printed == [f"{paths[0]}: 9 neighbours of 40 images\n", ""]
    subprocess.run([sys.executable, "-m", "jaxtl", *map(str, words), paths[1]], check=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_one_that_does_not_come_is_told(together, digits, tmp_path):
    """What is wrong in one process is told by that one in its own words."""
    processes = together("extract", "--dataset", tmp_path / "nowhere", "--out", tmp_path / "F.shards")
    for process in processes:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 2
        assert len(said.splitlines()) == 1


def training(dataset, out, epochs):
    """Its last batch of an epoch has 30 images, which four devices cannot divide."""
    words = ["finetune", "--dataset", dataset, "--image-size", "32", "--trainable", "2", "--epochs", epochs]
    return [*words, "--engine", "jax", "--history", out.with_suffix(".csv"), "--out", out]


def trained(out):
    """Weights by name, and the history, of a training that has ended."""
    rows = np.array([list(row.values()) for row in load_history(out.with_suffix(".csv"))])
    return {**load_arrays(out)[1], "history": rows}


def test_two_processes_train_what_one_does(together, digits, tmp_path):
    two, one = tmp_path / "two.safetensors", tmp_path / "one.safetensors"
    more = ["--batch-norm", "recalibrated"]
    printed = finished(together(*training(digits, two, 2), *more))
    assert [len(text.splitlines()) for text in printed] == [2, 0]
    subprocess.run([sys.executable, "-m", "jaxtl", *map(str, [*training(digits, one, 2), *more])], check=True)
    expected, given = trained(one), trained(two)
    assert expected.keys() == given.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(given[name], values, 1e-5, 1e-5 * np.abs(values).max(), err_msg=name)


def test_two_processes_train_all_layers(together, few_digits, tmp_path):
    """There are no frozen outputs then: each reads its share of every batch's images."""
    outs = [tmp_path / f"{name}.safetensors" for name in ("two", "one")]
    # So slowly that rounding is not blown up by Adam's first steps. Where a gradient is 0 but for rounding,
    # its steps go either way, and it came through 50 normalisations of small batches: the losses are held
    # to 1e-5, arrays as wholes to what that rounding was seen to do (2e-4). Statistics of these few images
    # alone, at one pixel each, would carry it into the test loss (1.7e-5).
    more = ["--trainable", "all", "--learning-rate", "1e-6"]
    finished(together(*training(few_digits, outs[0], 1), *more))
    subprocess.run([sys.executable, "-m", "jaxtl", *map(str, [*training(few_digits, outs[1], 1), *more])])
    losses = [np.loadtxt(out.with_suffix(".csv"), delimiter=",", skiprows=1) for out in outs]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    given, expected = map(trained, outs)
    for name, values in expected.items():
        assert np.linalg.norm(given[name] - values) <= 5e-4 * np.linalg.norm(values), name


@pytest.mark.parametrize("killed", range(COUNT))
def test_a_training_of_which_one_dies_goes_on(together, digits, tmp_path, killed):
    """To the bytes of one that was never stopped."""
    stopped, whole = tmp_path / "stopped.safetensors", tmp_path / "whole.safetensors"
    checkpoint = path_beside(stopped)
    kill_one(together(*training(digits, stopped, 8)), killed, checkpoint)
    assert checkpoint.exists()
    assert not stopped.exists()
    words = training(digits, stopped, 8)
    for process in together(*words, "--batch-size", 16):
        _, said = process.communicate(timeout=600)
        assert (process.returncode, len(said.splitlines())) == (2, 1)
        assert "was begun with batch_size 32, not 16; delete it, or give another --out" in said
    finished(together(*words))
    finished(together(*training(digits, whole, 8)))
    assert stopped.read_bytes() == whole.read_bytes()
    assert stopped.with_suffix(".csv").read_bytes() == whole.with_suffix(".csv").read_bytes()
    assert not checkpoint.exists()


def test_unlike_settings_are_told_by_all(together, few_digits, tmp_path):
    """They would wait for each other for ever."""
    words = training(few_digits, tmp_path / "m.safetensors", 1)
    for process in together(*words, last=["--batch-size", 16]):
        _, said = process.communicate(timeout=600)
        line = "jaxtl: batch_size: process 1 has 16, process 0 32; start all with the same options and files"
        assert (process.returncode, said.splitlines()[-1]) == (2, line)
    words = ["--devices", 1]
    for process in together(*training(few_digits, tmp_path / "m.safetensors", 1), last=words):
        _, said = process.communicate(timeout=600)
        assert said.splitlines()[-1].startswith("jaxtl: devices: process 1 has 1, process 0 2; start all")


def test_one_that_refuses_ends_the_others(together, few_digits, tmp_path):
    words = training(few_digits, tmp_path / "m.safetensors", 1)
    first, last = together(*words, last=["--dataset", tmp_path / "nowhere"])
    _, said = last.communicate(timeout=600)
    assert (last.returncode, len(said.splitlines())) == (2, 1)
    assert "nowhere" in said
    began = time.monotonic()
    _, said = first.communicate(timeout=600)
    assert time.monotonic() - began < MINUTE
    assert first.returncode == 2
    assert said.splitlines()[-1].startswith("jaxtl: process 0 of 2 ends, as another one has ended")
