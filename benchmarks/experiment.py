"""The founding experiment, timed: forward pass, fine-tuning, and the whole as a user runs it.

Within a case the peers take turns, so that whatever else the machine does falls on all of them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import machine, tables
from benchmarks.workers import Deadline, Worker, run_process
from jaxtl.errors import JaxtlError
from jaxtl.files import check_writable, write_json, write_text
from jaxtl.records import load_history, load_scores

KERAS_BATCH_SIZES = (32, 256)
_SGEMM_SIZES = (1024, 2048)
_PLAIN_SCRIPT = Path(__file__).with_name("plain_keras.py")


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        forward_images: test images of the forward pass.
        repeats: rounds of the forward pass, after a warm-up.
        train_images, test_images, epochs: of the fine-tuning.
        whole_samples, whole_train_images: of the whole; it always tests on the full test set.
        runs: of jaxtl in `finetune` and `whole`. Keras, which takes minutes, runs once, after jaxtl's first.
    """

    forward_images: int = 4096
    repeats: int = 5
    train_images: int = 60_000
    test_images: int = 10_000
    epochs: int = 5
    whole_samples: int = 2000
    whole_train_images: int = 60_000
    runs: int = 2
    quick: bool = False

    def with_given(self, repeats: int | None, runs: int | None) -> Sizes:
        return replace(self, repeats=repeats or self.repeats, runs=runs or self.runs)


FULL = Sizes()
QUICK = Sizes(512, 2, 1920, 512, 1, 300, 1920, 1, quick=True)


class Bench:
    """The peers at work, what both need, and where progress goes."""

    def __init__(self, sizes: Sizes, deadline: Deadline, folder: Path, workers: ExitStack) -> None:
        self.sizes, self.deadline, self.folder, self._workers = sizes, deadline, folder, workers
        self.say("starting the peers")
        self.jaxtl = workers.enter_context(Worker("benchmarks.peer_jaxtl", deadline))
        self.keras = workers.enter_context(Worker("benchmarks.peer_keras", deadline))
        self.numpy = workers.enter_context(Worker("benchmarks.machine", deadline))
        self.assets = self.jaxtl.call("assets")
        self.weights = str(self.folder / "imagenet.weights.h5")
        safetensors = next(Path(self.assets).glob("*.safetensors"))
        self.keras.call("write_weights", safetensors=str(safetensors), path=self.weights)

    def dismiss_workers(self) -> None:
        """End them, with the gigabytes that they hold."""
        self._workers.close()

    def say(self, text: str) -> None:
        click.echo(f"[{self.deadline.elapsed:7.1f} s] {text}", err=True)


def run(out: Path, sizes: Sizes, cases: tuple[str, ...], limit: float) -> list[Path]:
    """Run the cases; returns the two files, which are written after every case.

    Raises:
        JaxtlError: an unknown case, a peer that is not installed, a folder that cannot be written, or
            `limit` seconds that are over.
    """
    unknown = [name for name in cases if name not in CASES]
    if unknown or not cases:
        raise JaxtlError(f"--only: got {', '.join(unknown) or 'nothing'}; the cases are {', '.join(CASES)}")
    check_peers()
    paths = [out / "experiment.json", out / "experiment.md"]
    for path in paths:
        check_writable(path)
    deadline = Deadline(limit)
    with tempfile.TemporaryDirectory(prefix="jaxtl-benchmark-") as folder, ExitStack() as workers:
        bench = Bench(sizes, deadline, Path(folder), workers)
        record = _header(bench)
        for name, case in CASES.items():
            if name not in cases:
                continue
            record[name] = case(bench)
            record["load_average_after"] = machine.load_average()
            record["minutes"] = round(deadline.elapsed / 60, 1)
            write_json(paths[0], record)
            write_text(paths[1], tables.render(record))
        bench.say("done")
    return paths


def check_peers() -> None:
    """Raises JaxtlError where Keras or TensorFlow is not installed; imports neither."""
    missing = [name for name in ("keras", "tensorflow") if find_spec(name) is None]
    if missing:
        raise JaxtlError(f'not installed: {", ".join(missing)}; install the peers: pip install -e ".[bench]"')


def _header(bench: Bench) -> dict[str, Any]:
    environment = bench.jaxtl.call("environment")
    versions = {**environment.pop("versions"), **bench.keras.call("versions")}
    return {
        "benchmark": "experiment",
        "date": machine.now(),
        "git": machine.revision(),
        "machine": environment,
        "versions": versions,
        "threads": machine.thread_settings(),
        "load_average_before": machine.load_average(),
        "sizes": asdict(bench.sizes),
        "flops_per_image": bench.jaxtl.call("counts"),
    }


def forward(bench: Bench) -> dict[str, Any]:
    """Every round times the machine's matrix product, jaxtl, Keras at each batch size, and jaxtl's parts."""
    n = bench.sizes.forward_images
    bench.say(f"forward: {n:,} images, warm-up")
    prepared = bench.keras.call("prepare", folder=bench.assets, split="test", n=n)
    warm_up = {"jaxtl": bench.jaxtl.call("forward", n=n)}
    size = bench.jaxtl.call("batch_size", n=n)
    batches = -(-n // size)
    turns = {"jaxtl": (bench.jaxtl, "forward", {"n": n})}
    for each in KERAS_BATCH_SIZES:
        arguments = {"weights": bench.weights, "batch_size": each}
        turns[f"keras_{each}"] = (bench.keras, "forward", arguments)
        warm_up[f"keras_{each}"] = bench.keras.call("forward", **arguments)
    for part in ("network", "products"):
        turns[part] = (bench.jaxtl, part, {"size": size, "batches": batches})
        bench.jaxtl.call(part, size=size, batches=1)
    sgemm = _sgemm(bench)
    samples: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(bench.sizes.repeats):
        bench.say(f"forward: round {number + 1} of {bench.sizes.repeats}")
        for library, worker in (("jax", bench.jaxtl), ("numpy", bench.numpy)):
            sgemm[library]["gflops"].append(_product_rate(worker, library, sgemm[library]["size"]))
        for name, (worker, command, arguments) in turns.items():
            samples[name].append(worker.call(command, **arguments)["seconds"])
    return {
        "images": n,
        "batch_size": {"jaxtl": size, **{f"keras_{each}": each for each in KERAS_BATCH_SIZES}},
        "warm_up": warm_up,
        "keras_prepare_seconds": prepared,
        "seconds": samples,
        "sgemm": sgemm,
        "largest_difference": _difference(bench, min(n, 512)),
    }


def _sgemm(bench: Bench) -> dict[str, dict[str, Any]]:
    """The fastest size of matrices for JAX and for NumPy."""
    found = {}
    for library, worker in (("jax", bench.jaxtl), ("numpy", bench.numpy)):
        rates = {size: _product_rate(worker, library, size) for size in _SGEMM_SIZES}
        found[library] = {"size": max(rates, key=rates.get), "gflops": []}
    return found


def _product_rate(worker: Worker, library: str, size: int) -> float:
    return worker.call(f"sgemm_{library}", size=size, products=3)


def _difference(bench: Bench, n: int) -> float:
    """Largest difference of the two peers' features, in parts of the largest feature."""
    ours = bench.jaxtl.call("features", n=n)
    theirs = bench.keras.call("features", weights=bench.weights, n=n, batch_size=KERAS_BATCH_SIZES[0])
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def finetune(bench: Bench) -> dict[str, Any]:
    """Runs of jaxtl, and one of Keras after the first of them."""
    sizes = bench.sizes
    bench.say(f"finetune: {sizes.train_images:,} images, {sizes.epochs} epochs")
    splits = {"train": sizes.train_images, "test": sizes.test_images}
    prepared = [
        bench.keras.call("prepare", folder=bench.assets, split=split, n=n) for split, n in splits.items()
    ]
    sgemm = _sgemm(bench)["jax"]
    record: dict[str, Any] = {
        "keras_prepare_seconds": sum(prepared),
        "jaxtl": [],
        "keras": [],
        "sgemm": sgemm,
    }
    for peer, seed in _turns(sizes.runs):
        sgemm["gflops"].append(_product_rate(bench.jaxtl, "jax", sgemm["size"]))
        if peer == "jaxtl":
            result = bench.jaxtl.call("finetune", train=sizes.train_images, test=sizes.test_images,
                                      epochs=sizes.epochs, seed=seed)  # fmt: skip
        else:
            result = bench.keras.call("finetune", weights=bench.weights, epochs=sizes.epochs, seed=seed)
        record[peer].append(result)
        bench.say(
            f"finetune: {peer} {result['seconds']:.1f} s, test accuracy {result['test_accuracy'][-1]:.4f}"
        )
    return record


def whole(bench: Bench) -> dict[str, Any]:
    """Processes: runs of `jaxtl run`, and one of the plain script after the first of them.

    It comes last, since it has the machine to itself.
    """
    bench.dismiss_workers()
    record: dict[str, Any] = {"jaxtl": [], "keras": []}
    commands = {"jaxtl": _jaxtl_command, "keras": _keras_command}
    results = {"jaxtl": _jaxtl_scores, "keras": _keras_scores}
    for peer, seed in _turns(bench.sizes.runs):
        folder = Path(tempfile.mkdtemp(prefix=f"{peer}-", dir=bench.folder))
        done = run_process(commands[peer](bench, seed), folder, bench.deadline)
        record[peer].append({"seed": seed, **done._asdict(), **results[peer](folder)})
        bench.say(f"whole: {peer} {done.seconds:.1f} s, {done.peak_bytes / 2**30:.2f} GiB")
    return record


def _turns(runs: int) -> list[tuple[str, int]]:
    """Peer and seed of each run: jaxtl, Keras, and jaxtl again as often as is left."""
    return [("jaxtl", 0), ("keras", 0), *(("jaxtl", seed) for seed in range(1, runs))]


def _jaxtl_command(bench: Bench, seed: int) -> list[str]:
    return [
        sys.executable, "-c", "from jaxtl.cli import main; main()", "run", "--out", "run",
        "--samples", str(bench.sizes.whole_samples), "--epochs", str(bench.sizes.epochs),
        "--train-samples", str(bench.sizes.whole_train_images), "--seed", str(seed),
    ]  # fmt: skip


def _keras_command(bench: Bench, seed: int) -> list[str]:
    return [
        sys.executable, str(_PLAIN_SCRIPT), bench.assets, bench.weights,
        "--samples", str(bench.sizes.whole_samples), "--epochs", str(bench.sizes.epochs),
        "--train-samples", str(bench.sizes.whole_train_images), "--seed", str(seed),
    ]  # fmt: skip


def _jaxtl_scores(folder: Path) -> dict[str, Any]:
    accuracies: dict[str, dict[str, float]] = {"before": {}, "after": {}}
    for score in load_scores(folder / "run" / "scores.csv"):
        if score.stage in accuracies and score.metric == "10-NN accuracy":
            accuracies[score.stage][score.space] = score.value
    history = load_history(folder / "run" / "history.csv")
    return {
        "knn_accuracy": accuracies,
        "test_accuracy": [row["test_accuracy"] for row in history],
        "parts": json.loads((folder / "run" / "timings.json").read_text()),
    }


def _keras_scores(folder: Path) -> dict[str, Any]:
    scores = json.loads((folder / "scores.json").read_text())
    return {
        "knn_accuracy": {stage: scores[stage] for stage in ("before", "after")},
        "test_accuracy": scores["test_accuracy"],
        "parts": scores["seconds"],
    }


CASES = {"forward": forward, "finetune": finetune, "whole": whole}
