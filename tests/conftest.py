"""What every test shares: a quiet, CPU-bound environment, real digits, and one finished run."""

import os
import signal
import struct
import subprocess
import sys

# Before JAX, Keras, matplotlib or a BLAS is imported anywhere.
os.environ["KERAS_BACKEND"] = "jax"
os.environ["MPLBACKEND"] = "Agg"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# Threads that spin while they wait make small problems tens of times slower on busy cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from jaxtl.settings import RunConfig


def pytest_configure(config):
    # In the background of a script, and under nohup, it is ignored, and so would be by processes that tests
    # start: those that are sent it to see them end would live for ever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.markexpr != "gpu":
        os.environ["JAX_PLATFORMS"] = "cpu"


def write_idx(folder, train, test):
    """The first images of MNIST's two splits as the four IDX files of a small set."""
    from jaxtl.data import load

    folder.mkdir()
    for split, prefix, count in (("train", "train", train), ("test", "t10k", test)):
        data = load("mnist", split).take(count)
        header = struct.pack(">IIII", 0x803, *data.images.shape[:3])
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + data.images.tobytes())
        header = struct.pack(">II", 0x801, count)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + data.labels.astype("u1").tobytes())
    return f"idx:{folder}"


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Name of a set with 1950 training and 500 test images: at batch 32 an epoch's last batch has 30."""
    return write_idx(tmp_path_factory.mktemp("data") / "digits", 1950, 500)


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """Name of a set with 70 training and 60 test images."""
    return write_idx(tmp_path_factory.mktemp("data") / "few", 70, 60)


@pytest.fixture(scope="session")
def config(digits):
    """The settings of the run that `finished` holds: the default ones, but with short stages.

    The last two layers hold weights and moving statistics, and compile in a moment.
    """
    return RunConfig(dataset=digits, samples=250, trainable="2", epochs=3, perplexity=10.0, layers=False)


@pytest.fixture(scope="session")
def finished(config, tmp_path_factory):
    """The folder of an uninterrupted run; tests copy it before they change anything."""
    from jaxtl.experiment import experiment

    folder = tmp_path_factory.mktemp("runs") / "finished"
    experiment.start(config, folder).run()
    return folder


@pytest.fixture(scope="session")
def contents():
    """A function of a run folder: what each file holds, by name, without the two that tell of times."""
    timed = {"timings.json", "report.html"}

    def read(folder):
        files = (path for path in folder.rglob("*") if path.is_file() and path.name not in timed)
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return read


@pytest.fixture
def launch():
    """A function that starts `jaxtl ARGS` as a process; `first` is Python to run in it beforehand."""
    processes = []

    def start(*args, first="pass"):
        code = f"{first}\nfrom jaxtl.cli.main import main\nmain()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def jaxtl(monkeypatch, capsys):
    """A function that runs `jaxtl ARGS` in this process: exit code, standard output, standard error."""
    from jaxtl.cli.main import main

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["jaxtl", *map(str, args)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return run
