"""What every test shares: a quiet, CPU-bound environment, real digits, and one finished run."""

import contextlib
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

# Before JAX, Keras, matplotlib or a BLAS is imported anywhere.
os.environ["KERAS_BACKEND"] = "jax"
os.environ["MPLBACKEND"] = "Agg"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# Threads that spin while they wait make small problems tens of times slower on busy cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

from jaxtl.settings import RunConfig
from tests.random_weights import random_arrays, random_images
from tests.studies import LIMITS, SMALL
from tests.tuning import BATCH, STEPS

# More processes than this wait for memory and for each other's fixtures.
MOST_WORKERS = 8
# Most of the suite's time is compilation, much of it of the same programs in several processes.
COMPILED = "JAX_COMPILATION_CACHE_DIR"
KEEP_ALL = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
# Seconds; what is not slow has the limit of pyproject.toml.
SLOW_LIMIT = 1800


def pytest_configure(config):
    if config.option.markexpr != "gpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    # Who is started in a script's background, or under nohup, is deaf to SIGINT, and so are its children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # The other test processes inherit it.
    if COMPILED not in os.environ:
        os.environ.update(KEEP_ALL)
        os.environ[COMPILED] = folder = tempfile.mkdtemp(prefix="jaxtl-compiled-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


# The checks of a GPU need no plugin.
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    from jaxtl.machine.host import cpu_count

    # One GPU is not shared.
    return 0 if config.option.markexpr == "gpu" else min(cpu_count(), MOST_WORKERS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_LIMIT))


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """A function of a name and a function that makes a file or folder of that path: the path.

    One test process makes it for all: two that need it at the same time do not both make it, one waits.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "shared"
    shared.mkdir(exist_ok=True)

    def path(name, make):
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / f"{name}.made").exists():
                # What one left that was ended while it made it.
                shutil.rmtree(shared / name, ignore_errors=True)
                make(shared / name)
                (shared / f"{name}.made").touch()
        return shared / name

    return path


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


@pytest.fixture(scope="session")
def digits(once):
    """Name of a set with 1950 training and 500 test images: at batch 32 an epoch's last batch has 30."""
    return f"idx:{once('digits', lambda folder: write_idx(folder, 1950, 500))}"


@pytest.fixture(scope="session")
def few_digits(once):
    """Name of a set with 70 training and 60 test images."""
    return f"idx:{once('few', lambda folder: write_idx(folder, 70, 60))}"


@pytest.fixture(scope="session")
def mnist_features(once):
    """Features [2000, 1280] of MNIST's first test images."""
    import jaxtl
    from jaxtl.records.arrays import Features

    def make(path):
        jaxtl.extract(jaxtl.load_model(), jaxtl.load("mnist", "test").take(2000)).save(path)

    return Features.load(once("mnist-2000.npz", make)).values


@pytest.fixture(scope="session")
def config(digits):
    """The settings of the run that `finished` holds: the default ones, but with short stages.

    The last two layers hold weights and moving statistics, and compile in a moment.
    """
    settings = {"samples": 250, "trainable": "2", "epochs": 3, "perplexity": 10.0, "layers": False}
    return RunConfig(dataset=digits, engine="jax", **settings)


@pytest.fixture(scope="session")
def finished(config, once):
    """The folder of an uninterrupted run; tests copy it before they change anything."""
    from jaxtl.experiment import opening

    return once("finished", lambda folder: opening.start(config, folder).run())


class BlankFigures:
    """Stands for a run's `Drawer` in tests of other things: drawing takes as long as all the rest."""

    def __init__(self, run):
        self.run = run

    def get_ready(self, figures):
        pass

    def draw(self, name, progress):
        from jaxtl.records.files import replacing

        for file in self.run.figures[name]:
            with replacing(file.path) as path:
                path.write_text("blank")

    def close(self):
        pass


@pytest.fixture
def copy(finished, tmp_path):
    """The folder of `finished`, copied: for a test to change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="session")
def without_figures():
    """A context in which runs leave their figures blank, and make embeddings in this process."""
    from jaxtl.experiment import embeddings, experiment

    @contextlib.contextmanager
    def context():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(experiment, "Drawer", BlankFigures)
            patch.setattr(embeddings, "cpu_count", lambda: 1)
            yield

    return context


@pytest.fixture(scope="session")
def few_config(few_digits):
    """Settings of a run that takes seconds, and keeps a checkpoint on its way."""
    return RunConfig(
        dataset=few_digits,
        samples=None,
        image_size=32,
        trainable="2",
        epochs=2,
        methods=("pca",),
        layers=False,
        engine="jax",
    )


@pytest.fixture
def few(few_config, without_figures):
    """`few_config`, in a test whose runs leave their figures blank."""
    with without_figures():
        yield few_config


@pytest.fixture(scope="session")
def few_run(few_config, once, without_figures):
    """The folder of an uninterrupted run of `few_config`, with blank figures."""
    from jaxtl.experiment import opening

    def make(folder):
        with without_figures():
            opening.start(few_config, folder).run()

    return once("few_run", make)


@pytest.fixture(scope="session")
def contents():
    """A function of a run folder: what each file holds, by name, without those that tell of times."""
    timed = {"timings.json", "report.html", "log.txt", "manifest.json"}

    def read(folder):
        files = (path for path in folder.rglob("*") if path.is_file() and path.name not in timed)
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return read


@pytest.fixture
def launch():
    """A function that starts `jaxtl ARGS` as a process; `first` is Python to run in it beforehand."""
    processes = []

    def start(*args, first="pass"):
        code = f"{first}\nfrom jaxtl.__main__ import main\nmain()"
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
        # As a process of its own has it from its start: names of files may be no text.
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def files(once):
    """A folder of good and bad files to give to commands."""
    return once("files", write_files)


def write_files(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    labels = np.arange(40, dtype=np.int32) % 4
    values = (rng.normal(size=(40, 6)) + 3 * np.eye(4, 6)[labels]).astype(np.float32)
    good = {"values": values, "labels": labels, "index": np.arange(40, dtype=np.int32)}
    np.savez(folder / "good.npz", **good)
    np.savez(folder / "one_row.npz", **{name: array[:1] for name, array in good.items()})
    np.savez(folder / "no_labels.npz", values=values)
    np.savez(folder / "flat.npz", **{**good, "values": np.ones_like(values)})
    np.savez(folder / "pickled.npz", **{**good, "values": np.array([{}] * 40, object)})
    spoilt = values.copy()
    spoilt[7, 3] = np.nan
    np.savez(folder / "nan.npz", **{**good, "values": spoilt})
    np.save(folder / "alone.npy", values)
    (folder / "alone.npy").rename(folder / "alone.npz")
    (folder / "truncated.npz").write_bytes((folder / "good.npz").read_bytes()[:700])
    (folder / "text.npz").write_text("values,labels\n1,2\n")
    (folder / "text.safetensors").write_text("no weights")
    (folder / "file").write_text("")
    (folder / "empty").mkdir()


@pytest.fixture(scope="session")
def study_arguments(few_digits):
    """A command that makes part of `finished_study`."""
    return ["scale", "--dataset", few_digits, *SMALL, "--sizes", "40,80", "--methods", "pca,lle"]


@pytest.fixture(scope="session")
def finished_study(few_digits, once):
    """A study of 40, 80 and 120 images; tests copy it before they change anything."""
    from jaxtl.scaling import study

    settings = {"dataset": few_digits, "image_size": 32, "n_neighbors": 5}
    grid = study.Grid("40,80,120", "pca,lle,pca@50", "auto")
    return once("study", lambda folder: study.prepare(folder, settings, grid, LIMITS).run())


@pytest.fixture
def copied_study(finished_study, tmp_path):
    return Path(shutil.copytree(finished_study, tmp_path / "study"))


@pytest.fixture(scope="session")
def small_model():
    """A model of width 0.35 with top, and what it hands from each layer to the next."""
    import jax
    from flax import nnx

    from jaxtl.models.mobilenet_v2 import MobileNetV2Config
    from jaxtl.models.network import Carry
    from jaxtl.models.weights import build

    config = MobileNetV2Config(0.35, classes=10)
    model = build(config, random_arrays(config))
    graph, state = nnx.split(model)

    def every(state, x):
        carries = [Carry(x)]
        for position in range(len(config.layers)):
            carries.append(nnx.merge(graph, state).run(carries[-1], position, position + 1))
        return carries

    carries = jax.jit(every)(state, random_images(50))
    return model, carries


@pytest.fixture(scope="session")
def train():
    """The training digits of tests of fine-tuning."""
    from jaxtl.data import load

    return load("mnist", "train").take(STEPS * BATCH)


@pytest.fixture(scope="session")
def test():
    """The test digits of tests of fine-tuning."""
    from jaxtl.data import load

    return load("mnist", "test").take(200)


@pytest.fixture(scope="session")
def pretrained():
    """The bundled network."""
    from jaxtl.models.weights import load_model

    return load_model()
