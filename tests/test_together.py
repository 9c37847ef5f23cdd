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
from jaxtl.records import shards

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

    def start(*words):
        port = free_port()
        for number in range(COUNT):
            place = ["--coordinator", f"127.0.0.1:{port}", "--processes", COUNT, "--process-id", number]
            command = [sys.executable, "-m", "jaxtl", *map(str, [*words, *place])]
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


@pytest.mark.parametrize("killed", range(COUNT))
def test_a_dead_process_ends_the_others_and_the_work_goes_on(together, digits, tmp_path, killed):
    out = tmp_path / "F.shards"
    words = extraction(digits, out)
    # Small batches: they are at it for a while.
    processes = together(*words, "--batch-size", 2)
    while not (out / "plan.json").exists():
        time.sleep(0.1)
        assert all(process.poll() is None for process in processes)
    processes[killed].send_signal(signal.SIGKILL)
    began, other = time.monotonic(), processes[1 - killed]
    _, said = other.communicate(timeout=600)
    assert time.monotonic() - began < MINUTE
    assert other.returncode == 2
    last = said.splitlines()[-1]
    assert last.startswith(f"jaxtl: process {1 - killed} of 2 ends, as another one has ended")
    assert last.endswith("start all of them again with the same commands, and they go on where they were")
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
