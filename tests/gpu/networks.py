"""What the network gives on this process's device; a process of its own asks the same of a CPU.

python -m tests.gpu.networks features 256 out.npy
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from jaxtl.data import load
from jaxtl.machine import devices
from jaxtl.models.weights import load_model
from jaxtl.network.extraction import extract
from jaxtl.network.finetuning import finetune
from jaxtl.settings import FinetuneConfig

ROOT = Path(__file__).parent.parent.parent


def features(n, precision="highest"):
    """float32 [n, 1280] of the first test images."""
    return extract(load_model(), load("mnist", "test").take(n), precision=precision).values


def first_epoch(n, precision="highest"):
    """The history's row of an epoch on n training images, tested on 1,000."""
    images = load("mnist", "train").take(n), load("mnist", "test").take(1000)
    return finetune(load_model(), *images, FinetuneConfig(epochs=1), precision=precision)[1][0]


def compute_apart(what, n, folder, on_cpu, deterministic=False):
    """`features` or `first_epoch` by another process, whose JAX sees the CPU alone or this machine's GPU."""
    path = folder / "answer.npy"
    own = {"JAX_PLATFORMS": "cpu"} if on_cpu else {}
    command = [sys.executable, "-m", "tests.gpu.networks", what, str(n), str(path)]
    command += ["--deterministic"] * deterministic
    subprocess.run(command, cwd=ROOT, env=os.environ | own, check=True, timeout=300)
    return np.load(path) if what == "features" else json.loads(path.read_text())


def main(what, n, path, *flags):
    devices.configure(deterministic=bool(flags))
    answer = {"features": features, "first_epoch": first_epoch}[what](int(n))
    if isinstance(answer, np.ndarray):
        np.save(path, answer)
    else:
        Path(path).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
